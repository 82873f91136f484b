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
#[cfg(unix)]
pub(crate) struct EndSignals {
    interrupt: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
    /// `None` also where the program was started with the signal ignored, as `nohup` does.
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl EndSignals {
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            hang_up: match is_hang_up_ignored() {
                true => None,
                false => signal(SignalKind::hangup()).ok(),
            },
        }
    }

    /// Leaves Ctrl-C to the command.
    pub(crate) fn without_interrupt(mut self) -> Self {
        self.interrupt = None;
        self
    }

    pub(crate) async fn next(&mut self) -> EndSignal {
        tokio::select! {
            () = receive(&mut self.interrupt) => EndSignal::Interrupt,
            () = receive(&mut self.terminate) => EndSignal::Terminate,
            () = receive(&mut self.hang_up) => EndSignal::HangUp,
        }
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
    // Bit 0 is signal 1, SIGHUP.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// Receives Ctrl-C.
#[cfg(not(unix))]
pub(crate) struct EndSignals {
    interrupt: bool,
}

#[cfg(not(unix))]
impl EndSignals {
    pub(crate) fn listen() -> Self {
        Self { interrupt: true }
    }

    pub(crate) fn without_interrupt(self) -> Self {
        Self { interrupt: false }
    }

    pub(crate) async fn next(&mut self) -> EndSignal {
        if self.interrupt && tokio::signal::ctrl_c().await.is_ok() {
            return EndSignal::Interrupt;
        }
        std::future::pending().await
    }
}

/// Queues every Ctrl-C, so that none is lost between two waits.
pub(crate) struct Interrupts(UnboundedReceiver<()>);

impl Interrupts {
    /// From here on Ctrl-C no longer ends the program by itself.
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

    /// Discards those that were received before.
    pub(crate) fn clear(&mut self) {
        while self.0.try_recv().is_ok() {}
    }
}
