//! Runs the program `payman` in a home folder of its own, against an emulator of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use payman_sdk::Emulator;
use tempfile::TempDir;

use crate::support::*;

pub struct Program {
    pub payman: Emulator,
    pub home: TempDir,
}

#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Program {
    pub async fn new() -> Self {
        Self { payman: emulator().await, home: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_payman"));
        command
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("APPDATA", self.home.path())
            .env("PAYMAN_BASE_URL", self.payman.base_url())
            .env("PAYMAN_CLIENT_ID", "an-app")
            .env("PAYMAN_CLIENT_SECRET", "hush-secret")
            .stdin(Stdio::null());
        for name in ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.into()
    }

    pub async fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().await.unwrap();
        Ran {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
