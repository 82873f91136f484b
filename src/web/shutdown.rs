//! The signal that ends open streams when a server shuts down.

use tokio::sync::watch;

/// Notifies open streams that the server shuts down. Clones share one state.
///
/// A graceful shutdown waits for open responses, so streams have to end by themselves:
///
/// 1. keep a `Shutdown` in the server's state, and end each stream with
///    [`ServerEvents::until`](super::ServerEvents::until)`(shutdown.begun())`;
/// 2. on SIGTERM or Ctrl-C call [`begin`](Self::begin), and let the framework shut down gracefully;
/// 3. once the server has ended, `client.close().await`, so that no token is lost.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use payman_sdk::web::Shutdown;
///
/// let shutdown = Shutdown::new();
/// let begun = tokio::spawn(shutdown.begun());
/// shutdown.begin();
/// assert!(shutdown.has_begun() && begun.await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// Creates a signal that has not been sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the signal. Further calls have no effect.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns true once the signal has been sent.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the signal.
    pub fn begun(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        // The future holds a sender of its own, so the channel stays open as long as it waits.
        let sender = self.0.clone();
        async move {
            let mut signal = sender.subscribe();
            // The channel is open, so this ends with the signal only.
            let _ = signal.wait_for(|begun| *begun).await;
        }
    }
}
