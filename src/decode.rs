//! The readers of streams and replies, for benches, fuzzing and tests. No part of the public interface.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStream};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Outcome, Result, Source};
use crate::event::Event;
use crate::ids::TaskId;
use crate::transport::sse::{Data, SseError, SseParser};
use crate::wire::task::Task;
use crate::wire::update::{DecodeError, MessageContent, decode_message};

/// Bytes to typed events. After an error, nothing more comes.
pub fn events<S>(source: S, max_event_bytes: usize) -> impl Stream<Item = Result<Event>> + Unpin
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Into<Source> + Unpin,
{
    let frames = SseParser::new(source, max_event_bytes).map(|item| item.map_err(frame_error));
    let nobody = TaskId::from("");
    UntilError(Some(frames), move |data: Data| event_of(&data, &nobody))
}

/// Bytes to the data of each event, checked to be text.
pub fn frames<S>(source: S, max_event_bytes: usize) -> impl Stream<Item = Result<Bytes>> + Unpin
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Into<Source> + Unpin,
{
    let frames = SseParser::new(source, max_event_bytes).map(|item| item.map_err(frame_error));
    UntilError(Some(frames), text)
}

/// The same with every event put together by `eventsource-stream`.
pub fn frames_by_library<S>(
    source: S,
    max_event_bytes: usize,
) -> impl Stream<Item = Result<Bytes>> + Unpin
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Into<Source> + Unpin,
{
    let frames =
        SseParser::by_library(source, max_event_bytes).map(|item| item.map_err(frame_error));
    UntilError(Some(frames), text)
}

/// The data of one event, or the body of one reply, read into the structs that [`events`] reads into.
pub fn event(data: &[u8]) -> Result<Event> {
    event_of(data, &TaskId::from(""))
}

/// A reply's body to the task that it holds.
pub fn response(body: &[u8]) -> Result<Task> {
    match decode_message(body).map_err(unreadable)? {
        MessageContent::Result(payload) => {
            payload.into_task(&TaskId::from("")).ok_or_else(|| protocol("the reply holds no task"))
        }
        MessageContent::Error(rpc, _) => {
            Err(Error::new(ErrorKind::Rpc, Outcome::Unknown, "JSON-RPC error").with_rpc(rpc))
        }
        MessageContent::Unknown(_) | MessageContent::Nothing => {
            Err(protocol("the reply holds no task"))
        }
    }
}

/// All that an ask does to get a token to send: the header that carries it, and what to name if it is refused.
pub fn request_token(
    client: &Client,
    deadline: Instant,
) -> impl Future<Output = Result<impl Sized>> {
    client.platform().request_token(deadline)
}

fn event_of(data: &[u8], stream_of: &TaskId) -> Result<Event> {
    match decode_message(data).map_err(unreadable)? {
        MessageContent::Result(payload) => payload
            .into_update(stream_of)
            .map(Event::from)
            .ok_or_else(|| protocol("an event holds a task without a status")),
        MessageContent::Error(rpc, _) => {
            Err(Error::new(ErrorKind::Rpc, Outcome::Unknown, "JSON-RPC error").with_rpc(rpc))
        }
        MessageContent::Unknown(value) => Ok(Event::Unknown(value)),
        MessageContent::Nothing => Err(protocol("an event holds neither a result nor an error")),
    }
}

fn text(data: Data) -> Result<Bytes> {
    data.text().map_err(|_| unreadable(DecodeError::Utf8))?;
    Ok(data.into_bytes())
}

fn protocol(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, Outcome::Unknown, message)
}

fn unreadable(why: DecodeError) -> Error {
    protocol("the server's answer could not be read").with_source(why)
}

fn frame_error<E: Into<Source>>(error: SseError<E>) -> Error {
    match error {
        SseError::Source(source) => {
            Error::new(ErrorKind::Interrupted, Outcome::Unknown, "the stream broke")
                .with_source(source)
        }
        SseError::Utf8 => unreadable(DecodeError::Utf8),
        SseError::TooLarge { limit } => {
            let message = format!("an event is over the limit of {limit} bytes");
            Error::new(ErrorKind::TooLarge, Outcome::Unknown, message)
        }
    }
}

/// Reads each item, and ends at the first error.
struct UntilError<S, F>(Option<S>, F);

impl<S, F, T> Stream for UntilError<S, F>
where
    S: Stream<Item = Result<Data>> + Unpin,
    F: FnMut(Data) -> Result<T> + Unpin,
{
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(source) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let Some(item) = ready!(source.poll_next_unpin(cx)) else {
            self.0 = None;
            return Poll::Ready(None);
        };
        let item = item.and_then(&mut self.1);
        if item.is_err() {
            self.0 = None;
        }
        Poll::Ready(Some(item))
    }
}
