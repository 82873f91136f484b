//! Restores the terminal where a signal ends the program while a line is edited.

use std::process::{Command, Stdio};

/// The mode of the terminal before the line editor changed it.
///
/// The editor restores the mode itself when it returns, but a thread that waits for a key cannot be
/// interrupted. `stty` reads and sets the mode, because the system calls need unsafe code.
pub(super) struct TerminalMode(Option<String>);

impl TerminalMode {
    pub(super) fn save() -> Self {
        if !cfg!(unix) {
            return Self(None);
        }
        let saved = stty().arg("-g").output().ok().filter(|output| output.status.success());
        let mode = saved.and_then(|output| String::from_utf8(output.stdout).ok());
        Self(mode.map(|mode| mode.trim().to_owned()))
    }

    pub(super) fn restore(&self) {
        if let Some(mode) = &self.0 {
            // There is nothing else to do where it fails.
            let _ = stty().arg(mode).status();
        }
    }
}

fn stty() -> Command {
    let mut command = Command::new("stty");
    command.stdin(Stdio::inherit()).stderr(Stdio::null());
    command
}
