//! Finds whole events in bytes, each byte searched once, in one growing buffer.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

use super::Refusal;
use super::library::Assembly;

const BOM: &[u8] = b"\xEF\xBB\xBF";
/// Room before the buffer that is not left lying.
const WORTH_RECLAIMING: usize = 64 * 1024;

/// The state between two bytes of a stream of events.
#[derive(Debug)]
pub(super) struct LineBuffer {
    /// What came and is not read yet. Starts at the start of a line, or inside the comment that is being skipped.
    buffer: BytesMut,
    /// So much of the buffer holds no line end.
    searched: usize,
    /// So many bytes before the buffer were handed on or dropped.
    passed: usize,
    limit: usize,
    /// The bytes of the open event's lines so far, comments aside.
    size: usize,
    /// The data of the open event.
    data: OpenData,
    /// The open event has fields other than data, so far.
    mixed: bool,
    /// Every event goes through the library.
    only_library: bool,
    /// Nothing came yet: a byte-order mark may.
    at_start: bool,
    /// The last line ended in CR: an LF would belong to its end.
    after_cr: bool,
    in_comment: bool,
}

#[derive(Debug)]
enum OpenData {
    None,
    /// The line, without its end.
    One(Bytes),
    /// The values of several lines.
    Joined(BytesMut),
    Many(Box<Assembly>),
}

type Event = Result<Bytes, Refusal>;

impl LineBuffer {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            passed: 0,
            limit,
            size: 0,
            data: OpenData::None,
            mixed: false,
            only_library: false,
            at_start: true,
            after_cr: false,
            in_comment: false,
        }
    }

    pub(super) fn by_library(limit: usize) -> Self {
        Self { only_library: true, ..Self::new(limit) }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        if self.passed >= WORTH_RECLAIMING && self.passed >= self.buffer.len() {
            self.reclaim();
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// Moves what is left to the front, over what was handed on, if nobody holds that any more. Otherwise the
    /// buffer would go on behind it, and through twice the memory that it needs.
    fn reclaim(&mut self) {
        let all = self.passed + self.buffer.capacity();
        // Where somebody holds it, the buffer just goes on.
        let _ = self.buffer.try_reclaim(all - self.buffer.len());
        self.passed = 0;
    }

    /// True where the buffer should be searched before more is put in.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() > self.limit.saturating_add(BOM.len())
    }

    /// Between two events: all that was to be known of what came is known.
    pub(super) fn is_between_events(&self) -> bool {
        let knows_all = self.buffer.is_empty()
            && !self.in_comment
            && !self.after_cr
            && !self.at_start
            && !self.mixed;
        knows_all && matches!(self.data, OpenData::None) && !self.only_library
    }

    /// As it is [between two events](Self::is_between_events).
    pub(super) fn between_events(limit: usize) -> Self {
        Self { at_start: false, ..Self::new(limit) }
    }

    /// Nothing to do for now: however little room is left behind what was handed on, the buffer would keep the whole.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.passed = 0;
        }
    }

    /// The next event's data; `None` where more bytes are needed.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        while self.settle() {
            let rest = self.buffer.get(self.searched..)?;
            let Some(found) = memchr2(b'\n', b'\r', rest) else {
                return self.keep_open_line().err().map(Err);
            };
            let end = self.searched + found;
            self.searched = 0;
            match self.take_line(end) {
                Ok(None) => {}
                Ok(Some(data)) if is_void(&data) => {}
                Ok(Some(data)) => return Some(Ok(data)),
                Err(refusal) => return Some(Err(refusal)),
            }
        }
        None
    }

    /// Gets past what is between two lines. False where more bytes are needed for that.
    fn settle(&mut self) -> bool {
        if self.at_start {
            if self.buffer.len() < BOM.len() && BOM.starts_with(&self.buffer) {
                return false;
            }
            self.at_start = false;
            if self.buffer.starts_with(BOM) {
                self.buffer.advance(BOM.len());
            }
        }
        if self.after_cr {
            let Some(&next) = self.buffer.first() else {
                return false;
            };
            self.after_cr = false;
            if next == b'\n' {
                self.buffer.advance(1);
            }
        }
        !self.buffer.is_empty()
    }

    /// The last line has no end yet: it is kept, unless it is a comment or too long.
    fn keep_open_line(&mut self) -> Result<(), Refusal> {
        if self.in_comment || self.buffer.first() == Some(&b':') {
            self.in_comment = true;
            self.buffer.clear();
            self.searched = 0;
            return Ok(());
        }
        self.searched = self.buffer.len();
        self.check_size(self.buffer.len())
    }

    fn check_size(&self, line: usize) -> Result<(), Refusal> {
        if line > self.limit.saturating_sub(self.size) {
            return Err(Refusal::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Takes the line that ends at `end` out of the buffer. Some where it completed an event.
    fn take_line(&mut self, end: usize) -> Result<Option<Bytes>, Refusal> {
        let first = self.buffer.first().copied().unwrap_or_default();
        self.passed += end + 1;
        self.after_cr = self.buffer.get(end) == Some(&b'\r');
        if self.in_comment || first == b':' {
            self.in_comment = false;
            self.buffer.advance(end + 1);
            return Ok(None);
        }
        if end == 0 {
            self.buffer.advance(1);
            return self.dispatch();
        }
        self.check_size(end)?;
        if self.is_plain_event(end) {
            self.size = 0;
            self.mixed = false;
            let mut event = self.buffer.split_to(end + 2).freeze();
            event.truncate(end);
            return Ok(Some(value_of(event)));
        }
        self.size += end + 1;
        self.take_field(end);
        Ok(None)
    }

    /// The shape that nearly all events have: one data line, and LF LF.
    fn is_plain_event(&self, end: usize) -> bool {
        self.buffer.starts_with(b"data:")
            && matches!(self.buffer.get(end..end + 2), Some(b"\n\n"))
            && matches!(self.data, OpenData::None)
            && !self.only_library
    }

    fn take_field(&mut self, end: usize) {
        let is_data = self.buffer.starts_with(b"data")
            && matches!(self.buffer.get(4), Some(b':' | b'\n' | b'\r'));
        if !is_data {
            self.take_other_field(end);
            return;
        }
        match &mut self.data {
            OpenData::None if !self.only_library => {
                let mut line = self.buffer.split_to(end + 1).freeze();
                line.truncate(end);
                self.data = OpenData::One(line);
                return;
            }
            OpenData::One(first) if !self.mixed => {
                let mut joined = BytesMut::with_capacity(first.len() + end);
                joined.extend_from_slice(value_in(first));
                self.data = OpenData::Joined(joined);
                self.join_line(end);
            }
            OpenData::Joined(_) => self.join_line(end),
            OpenData::None | OpenData::One(_) | OpenData::Many(_) => self.add_line(end),
        }
        self.buffer.advance(end + 1);
    }

    /// An event's name, its id and the like decide nothing here; but several data lines after them are left to the
    /// library.
    fn take_other_field(&mut self, end: usize) {
        self.mixed = true;
        let is_text = || std::str::from_utf8(self.buffer.get(..end).unwrap_or_default()).is_ok();
        // One that is no text is ignored like any other: it must not spoil the data.
        if (self.only_library || matches!(self.data, OpenData::Many(_))) && is_text() {
            self.add_line(end);
        }
        self.buffer.advance(end + 1);
    }

    fn join_line(&mut self, end: usize) {
        if let (OpenData::Joined(joined), Some(line)) = (&mut self.data, self.buffer.get(..end)) {
            joined.extend_from_slice(b"\n");
            joined.extend_from_slice(value_in(line));
        }
    }

    /// Gives a line to the library, after the one that was kept in case it stays the only one.
    fn add_line(&mut self, end: usize) {
        if !matches!(self.data, OpenData::Many(_)) {
            let mut assembly = Box::new(Assembly::new());
            if let OpenData::One(first) = &self.data {
                assembly.add(first);
            }
            self.data = OpenData::Many(assembly);
        }
        if let (OpenData::Many(assembly), Some(line)) = (&mut self.data, self.buffer.get(..end)) {
            assembly.add(line);
        }
    }

    /// The blank line: the open event is whole.
    fn dispatch(&mut self) -> Result<Option<Bytes>, Refusal> {
        self.size = 0;
        self.mixed = false;
        match std::mem::replace(&mut self.data, OpenData::None) {
            OpenData::None => Ok(None),
            OpenData::One(line) => Ok(Some(value_of(line))),
            OpenData::Joined(joined) => Ok(Some(joined.freeze())),
            OpenData::Many(assembly) => assembly.finish(),
        }
    }
}

/// Cuts a chunk that is one event of the plain shape, where an event may begin, down to its data: nothing has to be kept
/// or copied. Gives any other chunk back.
pub(super) fn whole_event(mut chunk: Bytes, limit: usize) -> Result<Bytes, Bytes> {
    let end = chunk.len().saturating_sub(2);
    let is_plain = chunk.starts_with(b"data:") && chunk.ends_with(b"\n\n") && end <= limit;
    if !is_plain || memchr2(b'\n', b'\r', &chunk) != Some(end) {
        return Err(chunk);
    }
    chunk.truncate(end);
    Ok(value_of(chunk))
}

/// A data line, cut down to its value.
fn value_of(mut line: Bytes) -> Bytes {
    line.advance(line.len() - value_in(&line).len());
    line
}

/// The value of a data line.
fn value_in(line: &[u8]) -> &[u8] {
    let value = line.get(5..).unwrap_or_default();
    value.strip_prefix(b" ").unwrap_or(value)
}

/// True for data that says nothing: empty, only white space, or the empty object.
pub(super) fn is_void(data: &[u8]) -> bool {
    let mut rest = data.iter().filter(|byte| !byte.is_ascii_whitespace());
    match rest.next() {
        None => true,
        Some(b'{') => rest.next() == Some(&b'}') && rest.next().is_none(),
        Some(_) => false,
    }
}
