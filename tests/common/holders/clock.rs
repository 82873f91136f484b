//! The wall clock of a child process, set by libfaketime (Debian: `apt-get install faketime`).

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// The paths at which distributions install the library, in its variant for programs with threads.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// Returns true where libfaketime is installed.
pub fn is_installed() -> bool {
    library().is_some()
}

fn library() -> Option<&'static str> {
    PLACES.into_iter().find(|place| Path::new(place).exists())
}

/// A wall clock that the test sets, for any number of processes. The monotonic clock stays real.
#[derive(Clone)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    pub fn new(directory: &Path, name: &str, ahead: i64) -> Self {
        let clock = Self { file: directory.join(format!("{name}.clock")) };
        clock.set_ahead(ahead);
        clock
    }

    /// Sets the clock ahead of (or behind) the real time by so many seconds.
    pub fn set_ahead(&self, seconds: i64) {
        // Replaced as a whole, because processes read it at any moment.
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}")).unwrap();
        std::fs::rename(&fresh, &self.file).unwrap();
    }

    /// Makes a command's process use this clock.
    pub fn apply(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library().expect("libfaketime is installed"))
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}
