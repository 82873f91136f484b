//! Finds whole events in one growing buffer, and searches each byte once.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

use super::EventError;
use super::library::Assembly;
use crate::wire::message::{is_ping, may_be_answer};

const BOM: &[u8] = b"\xEF\xBB\xBF";
/// The size of the free space in front of the buffer from which it is reused, in bytes.
const WORTH_RECLAIMING: usize = 64 * 1024;

/// The state of the parser between two chunks of bytes.
#[derive(Debug)]
pub(super) struct LineBuffer {
    /// The unread bytes. Starts at the start of a line, or inside a comment that is being skipped.
    buffer: BytesMut,
    /// The length of the part that was searched and has no line end.
    searched: usize,
    /// The number of bytes in front of the buffer that were yielded or dropped.
    passed: usize,
    limit: usize,
    /// The number of bytes of the open event's lines so far, without comments.
    size: usize,
    /// The data of the open event.
    data: OpenData,
    /// True if the open event has fields other than data so far.
    mixed: bool,
    /// True if the open event has the name of a ping.
    ping: bool,
    /// True if the library assembles every event, for tests.
    only_library: bool,
    /// True before the first byte, when a byte-order mark may follow.
    at_start: bool,
    /// True if the last line ended in CR: a following LF belongs to its end.
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

type ParsedEvent = Result<Bytes, EventError>;

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
            ping: false,
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

    /// Moves the unread bytes to the front if the events in front of them were dropped, so that the
    /// buffer does not take twice the memory that it needs.
    fn reclaim(&mut self) {
        let all = self.passed + self.buffer.capacity();
        // If such an event is still in use, the buffer stays as it is.
        let _ = self.buffer.try_reclaim(all - self.buffer.len());
        self.passed = 0;
    }

    /// Returns true where the buffer should be searched before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() > self.limit.saturating_add(BOM.len())
    }

    /// Returns true between two events, when there is no state to keep.
    pub(super) fn is_between_events(&self) -> bool {
        let knows_all = self.buffer.is_empty()
            && !self.in_comment
            && !self.after_cr
            && !self.at_start
            && !self.mixed;
        knows_all && matches!(self.data, OpenData::None) && !self.only_library
    }

    /// Creates a buffer in the state [between two events](Self::is_between_events).
    pub(super) fn between_events(limit: usize) -> Self {
        Self { at_start: false, ..Self::new(limit) }
    }

    /// Frees an empty buffer, which would otherwise keep its memory while the stream is silent.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.passed = 0;
        }
    }

    /// Returns the next event's data; `None` where more bytes are needed.
    pub(super) fn next_event(&mut self) -> Option<ParsedEvent> {
        while self.settle() {
            let rest = self.buffer.get(self.searched..)?;
            let Some(found) = memchr2(b'\n', b'\r', rest) else {
                return self.keep_open_line().err().map(Err);
            };
            let end = self.searched + found;
            self.searched = 0;
            match self.take_line(end) {
                Ok(None) => {}
                Ok(Some(data)) if is_keep_alive(&data) => {}
                Ok(Some(data)) => return Some(Ok(data)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// Skips bytes between two lines. Returns false where more bytes are needed.
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

    /// Keeps a line that has no end yet, unless it is a comment or too long.
    fn keep_open_line(&mut self) -> Result<(), EventError> {
        if self.in_comment || self.buffer.first() == Some(&b':') {
            self.in_comment = true;
            self.buffer.clear();
            self.searched = 0;
            return Ok(());
        }
        self.searched = self.buffer.len();
        self.check_size(self.buffer.len())
    }

    fn check_size(&self, line: usize) -> Result<(), EventError> {
        if line > self.limit.saturating_sub(self.size) {
            return Err(EventError::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Takes the line that ends at `end` out of the buffer. Returns the event that it completed.
    fn take_line(&mut self, end: usize) -> Result<Option<Bytes>, EventError> {
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

    /// Returns true for the usual event: one data line, and LF LF.
    fn is_plain_event(&self, end: usize) -> bool {
        self.buffer.starts_with(b"data:")
            && matches!(self.buffer.get(end..end + 2), Some(b"\n\n"))
            && matches!(self.data, OpenData::None)
            && !self.only_library
            && !self.ping
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

    /// Takes a field other than `data`. Only the name of a ping has an effect.
    fn take_other_field(&mut self, end: usize) {
        self.mixed = true;
        if let Some(name) = self.buffer.get(..end).and_then(|line| line.strip_prefix(b"event:")) {
            self.ping = std::str::from_utf8(name).is_ok_and(is_ping);
        }
        let is_text = || std::str::from_utf8(self.buffer.get(..end).unwrap_or_default()).is_ok();
        // A field that is not UTF-8 is ignored, since it does not affect the data.
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

    /// Adds a line to the assembly by the library, after the first line, which was kept until now
    /// in case it was the only one.
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

    /// Ends the open event at a blank line.
    fn dispatch(&mut self) -> Result<Option<Bytes>, EventError> {
        let is_ping = std::mem::take(&mut self.ping);
        let data = self.take_data()?;
        Ok(data.filter(|data| !is_ping || may_be_answer(data)))
    }

    fn take_data(&mut self) -> Result<Option<Bytes>, EventError> {
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

/// Returns the data of a chunk that is exactly one event with one data line, without a copy.
/// Returns any other chunk as the error.
pub(super) fn whole_event(mut chunk: Bytes, limit: usize) -> Result<Bytes, Bytes> {
    let end = chunk.len().saturating_sub(2);
    let is_plain = chunk.starts_with(b"data:") && chunk.ends_with(b"\n\n") && end <= limit;
    if !is_plain || memchr2(b'\n', b'\r', &chunk) != Some(end) {
        return Err(chunk);
    }
    chunk.truncate(end);
    Ok(value_of(chunk))
}

/// Returns the value of a data line.
fn value_of(mut line: Bytes) -> Bytes {
    line.advance(line.len() - value_in(&line).len());
    line
}

/// Returns the value of a data line.
fn value_in(line: &[u8]) -> &[u8] {
    let value = line.get(5..).unwrap_or_default();
    value.strip_prefix(b" ").unwrap_or(value)
}

/// Returns true for data without content: empty, only white space, or the empty object.
pub(super) fn is_keep_alive(data: &[u8]) -> bool {
    let mut rest = data.iter().filter(|byte| !byte.is_ascii_whitespace());
    match rest.next() {
        None => true,
        Some(b'{') => rest.next() == Some(&b'}') && rest.next().is_none(),
        Some(_) => false,
    }
}
