//! The decoders of streams and replies, for benches, fuzzing and tests. Not part of the public API.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStream};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Result, Source};
use crate::event::Event;
use crate::ids::TaskId;
use crate::transport::sse::{SseError, SseEvent, SseParser};
use crate::wire::message::{DecodeError, MessageContent, decode_message};
use crate::wire::task::Task;

/// Decodes bytes into typed events. The stream ends after an error.
pub fn events<S>(source: S, max_event_bytes: usize) -> impl Stream<Item = Result<Event>> + Unpin
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Into<Source> + Unpin,
{
    let events = SseParser::new(source, max_event_bytes).map(|item| item.map_err(sse_error));
    let nobody = TaskId::from("");
    UntilError(Some(events), move |event: SseEvent| decode_event(&event, &nobody))
}

/// Parses bytes into the data of each event, validated as text.
pub fn event_data<S>(source: S, max_event_bytes: usize) -> impl Stream<Item = Result<Bytes>> + Unpin
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Into<Source> + Unpin,
{
    let events = SseParser::new(source, max_event_bytes).map(|item| item.map_err(sse_error));
    UntilError(Some(events), text)
}

/// Parses like [`event_data`], with every event assembled by `eventsource-stream`.
pub fn event_data_by_library<S>(
    source: S,
    max_event_bytes: usize,
) -> impl Stream<Item = Result<Bytes>> + Unpin
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Into<Source> + Unpin,
{
    let events = SseParser::by_library(source, max_event_bytes).map(|item| item.map_err(sse_error));
    UntilError(Some(events), text)
}

/// Decodes the data of one event, or the body of one reply, as [`events`] does.
pub fn event(data: &[u8]) -> Result<Event> {
    decode_event(data, &TaskId::from(""))?
        .ok_or_else(|| Error::protocol("the data is a ping, not an event"))
}

/// Decodes a reply's body into the task that it holds.
pub fn response(body: &[u8]) -> Result<Task> {
    match decode_message(body).map_err(unreadable)? {
        MessageContent::Result(payload) => payload
            .into_task(&TaskId::from(""))
            .ok_or_else(|| Error::protocol("the reply holds no task")),
        MessageContent::Error(rpc, _) => Err(Error::from_rpc(rpc)),
        MessageContent::Unknown(_) | MessageContent::KeepAlive | MessageContent::Nothing => {
            Err(Error::protocol("the reply holds no task"))
        }
    }
}

/// Obtains a token as an ask does.
pub fn request_token(
    client: &Client,
    deadline: Instant,
) -> impl Future<Output = Result<impl Sized>> {
    client.platform().request_token(deadline)
}

/// Decodes one event; `None` for a ping.
fn decode_event(data: &[u8], stream_of: &TaskId) -> Result<Option<Event>> {
    match decode_message(data).map_err(unreadable)? {
        MessageContent::Result(payload) => payload
            .into_update(stream_of)
            .map(|update| Some(Event::from(update)))
            .ok_or_else(|| Error::protocol("an event holds a task without a status")),
        MessageContent::Error(rpc, _) => Err(Error::from_rpc(rpc)),
        MessageContent::Unknown(value) => Ok(Some(Event::Unknown(value))),
        MessageContent::KeepAlive => Ok(None),
        MessageContent::Nothing => {
            Err(Error::protocol("an event holds neither a result nor an error"))
        }
    }
}

fn text(event: SseEvent) -> Result<Option<Bytes>> {
    event.text().map_err(|_| unreadable(DecodeError::Utf8))?;
    Ok(Some(event.into_bytes()))
}

fn unreadable(why: DecodeError) -> Error {
    Error::protocol("the server's answer could not be read").with_source(why)
}

fn sse_error<E: Into<Source>>(error: SseError<E>) -> Error {
    match error {
        SseError::Source(source) => Error::stream_cut("the stream broke").with_source(source),
        SseError::Utf8 => unreadable(DecodeError::Utf8),
        SseError::TooLarge { limit } => Error::too_large("an event", limit),
    }
}

/// Decodes each item, skips items that decode to `None`, and ends at the first error.
struct UntilError<S, F>(Option<S>, F);

impl<S, F, T> Stream for UntilError<S, F>
where
    S: Stream<Item = Result<SseEvent>> + Unpin,
    F: FnMut(SseEvent) -> Result<Option<T>> + Unpin,
{
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(source) = &mut self.0 else {
                return Poll::Ready(None);
            };
            let Some(item) = ready!(source.poll_next_unpin(cx)) else {
                self.0 = None;
                return Poll::Ready(None);
            };
            match item.and_then(&mut self.1) {
                Ok(None) => {}
                Ok(Some(decoded)) => return Poll::Ready(Some(Ok(decoded))),
                Err(error) => {
                    self.0 = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
