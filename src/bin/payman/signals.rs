//! Ctrl-C, and the polite way to end a program.

use tokio::sync::mpsc::UnboundedReceiver;

/// Ends with the first Ctrl-C or SIGTERM. From the first call on they no longer end the program by themselves.
pub(crate) async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Each Ctrl-C, one by one, so that none falls between two waits.
pub(crate) struct Interrupts(UnboundedReceiver<()>);

impl Interrupts {
    /// From here on Ctrl-C no longer ends the program by itself.
    pub(crate) fn listen() -> Self {
        let (heard, interrupts) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move { while tokio::signal::ctrl_c().await.is_ok() && heard.send(()).is_ok() {} });
        Self(interrupts)
    }

    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Those of the past do not count.
    pub(crate) fn forget(&mut self) {
        while self.0.try_recv().is_ok() {}
    }
}
