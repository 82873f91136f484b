//! Ctrl-C, and the polite way to end a program.

use tokio::sync::mpsc::UnboundedReceiver;

/// Ctrl-C or SIGTERM.
pub(crate) struct Stop {
    #[cfg(unix)]
    signals: Option<[tokio::signal::unix::Signal; 2]>,
}

impl Stop {
    /// From here on they no longer end the program by themselves.
    #[cfg(unix)]
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = signal(SignalKind::interrupt())
            .and_then(|one| Ok([one, signal(SignalKind::terminate())?]));
        Self { signals: both.ok() }
    }

    #[cfg(not(unix))]
    pub(crate) fn listen() -> Self {
        Self {}
    }

    /// Ends with the first of them.
    #[cfg(unix)]
    pub(crate) async fn told(&mut self) {
        match &mut self.signals {
            Some([interrupt, terminate]) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            None => std::future::pending().await,
        }
    }

    #[cfg(not(unix))]
    pub(crate) async fn told(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Each Ctrl-C, one by one, so that none falls between two waits.
pub(crate) struct Interrupts(UnboundedReceiver<()>);

impl Interrupts {
    /// From here on Ctrl-C no longer ends the program by itself.
    pub(crate) fn listen() -> Self {
        let (heard, interrupts) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() && heard.send(()).is_ok() {}
        });
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
