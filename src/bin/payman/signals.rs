//! The signals that end a program: SIGINT (Ctrl-C), SIGTERM and SIGHUP.

use std::fmt;

use tokio::sync::mpsc::UnboundedReceiver;

/// A signal that asks the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndSignal {
    Interrupt,
    #[cfg(unix)]
    Terminate,
    #[cfg(unix)]
    HangUp,
}

impl fmt::Display for EndSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "Ctrl-C",
            #[cfg(unix)]
            Self::Terminate => "SIGTERM",
            #[cfg(unix)]
            Self::HangUp => "SIGHUP",
        })
    }
}

/// Receives the signals. While it exists, none of them ends the program by itself.
pub(crate) struct EndSignals {
    /// True if the command handles Ctrl-C itself.
    ignores_interrupt: bool,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    /// The SIGHUP receiver; `None` also if the program was started with the signal ignored, as
    /// `nohup` does.
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl EndSignals {
    #[cfg(unix)]
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let hang_up = (!is_hang_up_ignored()).then(|| signal(SignalKind::hangup()));
        Self {
            ignores_interrupt: false,
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            hang_up: hang_up.and_then(Result::ok),
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn listen() -> Self {
        Self { ignores_interrupt: false }
    }

    pub(crate) fn without_interrupt(mut self) -> Self {
        self.ignores_interrupt = true;
        self
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> EndSignal {
        tokio::select! {
            () = receive(&mut self.interrupt), if !self.ignores_interrupt => EndSignal::Interrupt,
            () = receive(&mut self.terminate) => EndSignal::Terminate,
            () = receive(&mut self.hang_up) => EndSignal::HangUp,
        }
    }

    /// Waits for the next signal.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> EndSignal {
        if !self.ignores_interrupt && tokio::signal::ctrl_c().await.is_ok() {
            return EndSignal::Interrupt;
        }
        std::future::pending().await
    }
}

#[cfg(unix)]
async fn receive(signal: &mut Option<tokio::signal::unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// Returns true where SIGHUP was ignored before this program started.
///
/// A handler would undo that. Only Linux tells without unsafe code; elsewhere the answer is no.
#[cfg(unix)]
fn is_hang_up_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1, SIGHUP.
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Queues every Ctrl-C, so that none is lost between two waits.
pub(crate) struct Interrupts(UnboundedReceiver<()>);

impl Interrupts {
    /// Starts to receive Ctrl-C, which then no longer ends the program by itself.
    pub(crate) fn listen() -> Self {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() && sender.send(()).is_ok() {}
        });
        Self(receiver)
    }

    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Discards the signals that were received before.
    pub(crate) fn clear(&mut self) {
        while self.0.try_recv().is_ok() {}
    }
}
