//! Proof that a request's body was not handed to a connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The handover of a body: either a connection takes it, or the sender withdraws it first.
///
/// The two may happen on different threads at the same time. With a plain flag, a connection could
/// take the body after the sender has read the flag.
#[derive(Debug, Default)]
pub(super) struct Handover(AtomicU8);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Handover {
    /// Withdraws the body. Returns true if no connection has taken it, and then none will.
    pub(super) fn withdraw(&self) -> bool {
        self.leave_waiting(WITHDRAWN)
    }

    fn take(&self) -> bool {
        self.leave_waiting(TAKEN)
    }

    fn leave_waiting(&self, next: u8) -> bool {
        self.0.compare_exchange(WAITING, next, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// A body of known bytes that records when a connection takes it, before any byte of it is written.
#[derive(Debug)]
pub(super) struct TrackedBody {
    bytes: Option<Bytes>,
    handover: Arc<Handover>,
}

impl TrackedBody {
    pub(super) fn new(bytes: Bytes, handover: Arc<Handover>) -> Self {
        Self { bytes: Some(bytes), handover }
    }
}

impl From<TrackedBody> for reqwest::Body {
    fn from(body: TrackedBody) -> Self {
        Self::wrap(body)
    }
}

/// The error of a body that the sender withdrew before a connection took it.
#[derive(Debug, thiserror::Error)]
#[error("the request was withdrawn before it was sent")]
pub(super) struct Withdrawn;

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        let taken = if self.handover.take() { Ok(Frame::data(bytes)) } else { Err(Withdrawn) };
        Poll::Ready(Some(taken))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(body: &mut TrackedBody) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_is_taken_or_withdrawn_and_never_both() {
        let handover = Arc::new(Handover::default());
        let mut body = TrackedBody::new(Bytes::from_static(b"x"), Arc::clone(&handover));
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(!handover.withdraw());
        assert!(body.is_end_stream());

        let handover = Arc::new(Handover::default());
        let mut body = TrackedBody::new(Bytes::from_static(b"x"), Arc::clone(&handover));
        assert!(handover.withdraw());
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(Withdrawn)))));
    }
}
