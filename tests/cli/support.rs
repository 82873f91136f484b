//! Runs the program with its own environment and home folder, against its own emulator.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const BALANCE: &str = "How much money do I have in my wallet?";

/// A temporary folder that is both the home and the current folder of a program with an otherwise
/// empty environment.
pub struct Workspace {
    pub folder: TempDir,
}

/// The output and exit status of a program.
#[derive(Debug)]
pub struct ProgramOutput {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Workspace {
    pub fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_payman"));
        let home = self.path();
        command
            .args(args)
            .current_dir(home)
            .env_clear()
            .env("HOME", home)
            .env("APPDATA", home)
            .stdin(Stdio::null());
        for name in ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> ProgramOutput {
        run_command(self.command(args))
    }
}

impl From<Output> for ProgramOutput {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub fn run_command(mut command: Command) -> ProgramOutput {
    command.output().unwrap().into()
}

pub fn run_with_input(command: Command, text: &[u8]) -> ProgramOutput {
    let mut child = spawn_with_pipes(command);
    child.stdin.take().unwrap().write_all(text).unwrap();
    wait_for_output(child)
}

/// Starts a program with pipes as stdin, stdout and stderr.
pub fn spawn_with_pipes(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub fn wait_for_output(child: Child) -> ProgramOutput {
    child.wait_with_output().unwrap().into()
}

/// A running `payman emulator`.
pub struct EmulatorProcess {
    child: Child,
    pub base_url: String,
    workspace: Workspace,
}

impl EmulatorProcess {
    pub fn start(args: &[&str]) -> Self {
        let workspace = Workspace::new();
        let mut child = workspace
            .command(["emulator"].iter().chain(args))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        let base_url = first.strip_prefix("listening on ").expect(&first).trim_end().to_owned();
        assert!(base_url.starts_with("http://127.0.0.1:"), "{first}");
        Self { child, base_url, workspace }
    }

    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.workspace.command(args);
        command
            .env("PAYMAN_BASE_URL", &self.base_url)
            .env("PAYMAN_CLIENT_ID", "an-app")
            .env("PAYMAN_CLIENT_SECRET", "hush-secret");
        command
    }

    pub fn run(&self, args: &[&str]) -> ProgramOutput {
        run_command(self.command(args))
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.http("GET", "/_emulator/state", "").1).unwrap()
    }

    pub fn faults(&self, json: &str) {
        let (head, body) = self.http("POST", "/_emulator/faults", json);
        assert!(head.contains("200"), "{head} {body}");
    }

    pub fn reset(&self) {
        assert!(self.http("POST", "/_emulator/reset", "").0.contains("200"));
    }

    pub fn http(&self, method: &str, path: &str, body: &str) -> (String, String) {
        http(&self.base_url, method, path, body)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn wait(mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Waits for the first task, and returns its id.
    pub fn task_id(&self) -> String {
        let found = poll_until(|| self.state()["tasks"][0]["id"].as_str().map(str::to_owned));
        found.expect("a task")
    }
}

impl Drop for EmulatorProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends an HTTP/1.0 request, whose response ends with the connection, and returns head and body.
pub fn http(base_url: &str, method: &str, path: &str, body: &str) -> (String, String) {
    let host = base_url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    let kind = if body.starts_with(['{', '[']) {
        "application/json"
    } else {
        "application/x-www-form-urlencoded"
    };
    let length = body.len();
    write!(
        connection,
        "{method} {path} HTTP/1.0\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.to_owned(), body.to_owned())
}

/// Polls the condition until it has a value, for up to 30 s.
pub fn poll_until<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn wait(child: &mut Child) -> ExitStatus {
    poll_until(|| child.try_wait().unwrap()).expect("the process ends")
}

#[cfg(unix)]
pub fn send_signal(name: &str, id: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap();
    assert!(sent.success());
}
