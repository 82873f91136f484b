//! The short way through a frame: a status whose fields are plain text, which is what a stream begins with.
//!
//! The first event of a stream is read with cold caches. What it costs then is how much code it runs through, not how
//! often, and here that is a small part of what a reader of any JSON takes. Only what is surely understood is read: at
//! anything else, `None` says that the whole way must be gone. That both agree is a property that the tests hold. Later
//! events, most of them pieces of an artifact, would only pay for the attempt.

use super::super::Metadata;
use super::super::state::TaskState;
use super::super::task::{StatusMessage, TaskStatus};
use super::super::timestamp::Timestamp;
use super::super::update::StatusUpdate;
use super::task_id;
use crate::ids::TaskId;

/// Above it, the whole way is the faster one: it looks at several bytes at a time.
const SHORT: usize = 1024;

/// RFC 8259, section 2.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A status without its task's id is taken to be of the stream's own task, as on the whole way.
pub(crate) fn plain_status(data: &[u8], stream_of: &TaskId) -> Option<StatusUpdate> {
    if data.len() > SHORT {
        return None;
    }
    let fields = Fields::read(&mut Rest(std::str::from_utf8(data).ok()?))?;
    Some(StatusUpdate {
        task_id: task_id(fields.id, stream_of),
        status: TaskStatus {
            state: fields.state.map(TaskState::from).unwrap_or_default(),
            message: fields.message.map(|text| StatusMessage::Text(text.to_owned())),
            timestamp: fields.timestamp.map(Timestamp::from),
        },
        is_final: fields.is_final.unwrap_or(false),
        metadata: Metadata::new(),
    })
}

/// The object that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Frame,
    Result,
    Status,
}

#[derive(Default)]
struct Fields<'a> {
    request_id: Option<&'a str>,
    version: Option<&'a str>,
    id: Option<&'a str>,
    session_id: Option<&'a str>,
    state: Option<&'a str>,
    message: Option<&'a str>,
    timestamp: Option<&'a str>,
    is_final: Option<bool>,
    has_result: bool,
    has_status: bool,
}

impl<'a> Fields<'a> {
    fn read(rest: &mut Rest<'a>) -> Option<Self> {
        let mut fields = Self::default();
        let mut within = Within::Frame;
        rest.take(b'{').then_some(())?;
        loop {
            let name = rest.string()?;
            rest.take(b':').then_some(())?;
            if rest.take(b'{') {
                within = fields.enter(within, name)?;
                continue;
            }
            fields.put(within, name, rest)?;
            while rest.take(b'}') {
                within = match within {
                    Within::Status => Within::Result,
                    Within::Result => Within::Frame,
                    Within::Frame => return (fields.has_status && rest.is_at_end()).then_some(fields),
                };
            }
            rest.take(b',').then_some(())?;
        }
    }

    fn enter(&mut self, within: Within, name: &str) -> Option<Within> {
        let (inside, had) = match (within, name) {
            (Within::Frame, "result") => (Within::Result, &mut self.has_result),
            (Within::Result, "status") => (Within::Status, &mut self.has_status),
            _ => return None,
        };
        (!std::mem::replace(had, true)).then_some(inside)
    }

    fn put(&mut self, within: Within, name: &str, rest: &mut Rest<'a>) -> Option<()> {
        let place = match (within, name) {
            (Within::Frame, "jsonrpc") => &mut self.version,
            (Within::Frame, "id") => &mut self.request_id,
            (Within::Result, "id") => &mut self.id,
            (Within::Result, "sessionId") => &mut self.session_id,
            (Within::Status, "state") => &mut self.state,
            (Within::Status, "message") => &mut self.message,
            (Within::Status, "timestamp") => &mut self.timestamp,
            (Within::Result, "final") => return put_once(&mut self.is_final, rest.truth_value()?),
            _ => return None,
        };
        put_once(place, rest.string()?)
    }
}

/// What comes twice is for the whole way to judge.
fn put_once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// What is not read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Called all over: inlined, it would be most of the code.
    #[inline(never)]
    fn take(&mut self, mark: u8) -> bool {
        while let Some((&first, _)) = self.0.as_bytes().split_first() {
            let is_mark = first == mark;
            if !is_mark && !matches!(first, b' ' | b'\n' | b'\r' | b'\t') {
                return false;
            }
            self.0 = self.0.get(1..).unwrap_or_default();
            if is_mark {
                return true;
            }
        }
        false
    }

    /// A string without escapes.
    #[inline(never)]
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"').then_some(())?;
        let end = self.0.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    fn truth_value(&mut self) -> Option<bool> {
        let text = self.0.trim_start_matches(WHITE_SPACE);
        let (value, rest) = match text.strip_prefix("true") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("false")?),
        };
        self.0 = rest;
        Some(value)
    }

    fn is_at_end(&self) -> bool {
        self.0.trim_start_matches(WHITE_SPACE).is_empty()
    }
}
