//! Events as the bytes of a response's body.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep};

use super::event::ServerEvent;

/// How long the body is silent before it says that it is alive: less than common proxies wait.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A response's body of these events: for any framework that takes a stream of bytes, and itself a response in axum and actix-web.
///
/// ```
/// use futures::StreamExt;
/// use payman_sdk::web::{ServerEvent, SseBody, sse};
/// use payman_sdk::AskStream;
///
/// /// Each event is looked at on its way to the page.
/// fn body(answer: AskStream) -> SseBody<impl futures::Stream<Item = ServerEvent> + Unpin> {
///     sse(payman_sdk::web::ServerEvents::from(answer).inspect(|event| println!("{}", event.name())))
/// }
/// ```
pub fn sse<S: Stream<Item = ServerEvent> + Unpin>(events: S) -> SseBody<S> {
    SseBody { events: Some(events), every: KEEP_ALIVE, alarm: None }
}

/// Server-sent events as bytes; made by [`sse`].
///
/// A comment goes out after 15 s of silence, so that proxies see life. Its media type is `text/event-stream`.
/// Dropping it drops the events.
#[must_use = "a stream does nothing unless it is read"]
pub struct SseBody<S> {
    /// `None` after the last event.
    events: Option<S>,
    every: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> SseBody<S> {
    /// How long the body is silent before a comment goes out, instead of 15 s.
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let every = self.every;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(every)));
        alarm.as_mut().poll(cx)
    }

    fn wind_alarm(&mut self) {
        if let Some(alarm) = &mut self.alarm {
            // A time too far away to be told is no alarm in practice.
            let now = Instant::now();
            alarm.as_mut().reset(now.checked_add(self.every).unwrap_or(now + KEEP_ALIVE));
        }
    }
}

impl<S: Stream<Item = ServerEvent> + Unpin> Stream for SseBody<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(events) = &mut self.events else {
            return Poll::Ready(None);
        };
        match events.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => {
                self.wind_alarm();
                Poll::Ready(Some(Ok(Bytes::from(event.to_string()))))
            }
            Poll::Ready(None) => {
                self.events = None;
                Poll::Ready(None)
            }
            Poll::Pending => match self.poll_alarm(cx) {
                Poll::Ready(()) => {
                    self.wind_alarm();
                    Poll::Ready(Some(Ok(Bytes::from_static(b":\n\n"))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl<S> fmt::Debug for SseBody<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseBody").field("keep_alive", &self.every).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_by_comments_only() {
        let late = stream::once(Box::pin(async {
            sleep(Duration::from_secs(35)).await;
            ServerEvent::new("late", &1)
        }));
        let started = Instant::now();
        let body = sse(late);
        let chunks: Vec<_> = body
            .map(|chunk| (chunk.unwrap_or_default(), started.elapsed().as_secs()))
            .collect()
            .await;
        let comment = Bytes::from_static(b":\n\n");
        let event = Bytes::from_static(b"event: late\ndata: 1\n\n");
        assert_eq!(chunks, [(comment.clone(), 15), (comment, 30), (event, 35)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_puts_the_comment_off_and_the_end_is_the_end() {
        let events = stream::unfold(0, |count| async move {
            (count < 3).then_some(())?;
            sleep(Duration::from_secs(10)).await;
            Some((ServerEvent::new("tick", &count), count + 1))
        });
        let mut body = sse(Box::pin(events));
        let mut chunks = Vec::new();
        while let Some(Ok(chunk)) = body.next().await {
            chunks.push(chunk);
        }
        assert!(
            chunks.len() == 3 && chunks.iter().all(|chunk| chunk.starts_with(b"event")),
            "{chunks:?}"
        );
        assert!(body.next().await.is_none());
    }
}
