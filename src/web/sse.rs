//! Server-sent events as the bytes of a response's body.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep};

use super::event::ServerEvent;

/// The interval of comments in a silent body: shorter than the idle timeouts of common proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The minimum interval of comments, so that they neither delay the events nor flood the visitor.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_millis(10);

/// Converts events to a response's body, for any framework that accepts a stream of bytes. In axum
/// and actix-web the body is itself a response.
///
/// ```
/// use futures::{Stream, StreamExt};
/// use payman_sdk::AskStream;
/// use payman_sdk::web::{ServerEvent, ServerEvents, SseBody, sse};
///
/// /// Inspects each event on its way to the page.
/// fn body(answer: AskStream) -> SseBody<impl Stream<Item = ServerEvent> + Unpin> {
///     sse(ServerEvents::from(answer).inspect(|event| println!("{}", event.name())))
/// }
/// ```
pub fn sse<S: Stream<Item = ServerEvent> + Unpin>(events: S) -> SseBody<S> {
    SseBody { events: Some(events), keep_alive: KEEP_ALIVE, timer: None }
}

/// Server-sent events as bytes, made by [`sse`].
///
/// After 15 s of silence it sends a comment, so that proxies keep the connection open. The media
/// type is `text/event-stream`. Dropping it drops the events.
#[must_use = "a stream does nothing unless it is read"]
pub struct SseBody<S> {
    /// `None` after the last event.
    events: Option<S>,
    keep_alive: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> SseBody<S> {
    /// Sets the time of silence after which the body sends a comment, instead of 15 s.
    ///
    /// [`Duration::MAX`] sends none; anything below 10 ms counts as 10 ms.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval.max(SHORTEST_KEEP_ALIVE);
        self
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let interval = self.keep_alive;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(interval)));
        timer.as_mut().poll(cx)
    }

    /// Restarts the timer after something was sent.
    fn reset_timer(&mut self) {
        let interval = self.keep_alive;
        if let Some(timer) = &mut self.timer {
            match Instant::now().checked_add(interval) {
                Some(next) => timer.as_mut().reset(next),
                // `sleep` accepts durations that overflow an `Instant`.
                None => timer.set(sleep(interval)),
            }
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
                self.reset_timer();
                Poll::Ready(Some(Ok(Bytes::from(event.to_string()))))
            }
            Poll::Ready(None) => {
                self.events = None;
                Poll::Ready(None)
            }
            Poll::Pending => match self.poll_timer(cx) {
                Poll::Ready(()) => {
                    self.reset_timer();
                    Poll::Ready(Some(Ok(Bytes::from(ServerEvent::comment().to_string()))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl<S> fmt::Debug for SseBody<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseBody").field("keep_alive", &self.keep_alive).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_sends_comments_only() {
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
    async fn extreme_intervals_are_clamped() {
        let two_events = || {
            Box::pin(stream::unfold(0, |count| async move {
                (count < 2).then_some(())?;
                sleep(Duration::from_secs(60)).await;
                Some((ServerEvent::new("tick", &count), count + 1))
            }))
        };
        let never: Vec<_> = sse(two_events()).keep_alive(Duration::MAX).collect().await;
        assert_eq!(never.len(), 2, "no comment, even after an event");
        let often: Vec<_> = sse(two_events()).keep_alive(Duration::ZERO).collect().await;
        assert!((1_000..100_000).contains(&often.len()), "{} chunks", often.len());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_delays_the_comment_and_nothing_follows_the_end() {
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
