//! A host of the Model Context Protocol that is independent of any MCP library.

use std::collections::{HashMap, VecDeque};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use payman_sdk::{Emulator, EmulatorBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

pub const BALANCE: &str = "How much money do I have in my wallet?";
/// Creates the payee of [`PAY`], so that the payment needs no further question.
pub const PAYEE: &str = "create payee Tyllen";
pub const PAY: &str = "Pay Tyllen $50";

const TIMEOUT: Duration = Duration::from_secs(30);
const LEGACY: &str = "2025-06-18";
const MODERN: &str = "2026-07-28";

pub fn accept() -> Value {
    json!({"action": "accept", "content": {}})
}

pub fn answer(text: &str) -> Value {
    json!({"action": "accept", "content": {"answer": text}})
}

pub fn decline() -> Value {
    json!({"action": "decline"})
}

/// Starts an emulator that has a payee.
pub async fn emulator_with_payee(builder: EmulatorBuilder) -> Emulator {
    let emulator = builder.start().await.unwrap();
    emulator.client().ask(PAYEE).await.unwrap();
    emulator
}

/// The version of the protocol that a host uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Has a handshake. Questions to the user are requests.
    Legacy,
    /// Has no handshake. Questions to the user are results.
    Modern,
}

pub struct HostBuilder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    capabilities: Value,
    dialect: Dialect,
    dot_env: Option<String>,
}

pub fn host(args: &[&str]) -> HostBuilder {
    HostBuilder {
        args: args.iter().map(ToString::to_string).collect(),
        env: Vec::new(),
        capabilities: json!({"elicitation": {}}),
        dialect: Dialect::Legacy,
        dot_env: None,
    }
}

pub fn emulator_host(emulator: &Emulator, args: &[&str]) -> HostBuilder {
    host(args).base_url(emulator.base_url())
}

impl HostBuilder {
    pub fn base_url(mut self, url: &str) -> Self {
        for (name, value) in [
            ("PAYMAN_BASE_URL", url),
            ("PAYMAN_CLIENT_ID", "app"),
            ("PAYMAN_CLIENT_SECRET", "hush"),
        ] {
            self.env.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn without_elicitation(mut self) -> Self {
        self.capabilities = json!({});
        self
    }

    /// Writes a file `.env` in the folder that the server is started in.
    pub fn dot_env(mut self, text: &str) -> Self {
        self.dot_env = Some(text.to_owned());
        self
    }

    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    pub async fn start(self) -> Host {
        let home = TempDir::new().unwrap();
        if let Some(text) = &self.dot_env {
            std::fs::write(home.path().join(".env"), text).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_payman"));
        command
            .arg("mcp")
            .args(&self.args)
            .current_dir(home.path())
            .env_clear()
            .envs(self.env)
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", profile);
        }
        let mut child = command.spawn().unwrap();
        let mut host = Host {
            stdin: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            home,
            dialect: self.dialect,
            capabilities: self.capabilities,
            next_id: 100,
            answers: VecDeque::new(),
            results: HashMap::new(),
            questions: Vec::new(),
            progress: Vec::new(),
            canceled_questions: 0,
        };
        if self.dialect == Dialect::Legacy {
            let id = host
                .request(
                    "initialize",
                    json!({
                        "protocolVersion": LEGACY,
                        "capabilities": host.capabilities,
                        "clientInfo": {"name": "raw", "version": "0"},
                    }),
                )
                .await;
            let started = host.response(&id).await;
            assert_eq!(started["result"]["protocolVersion"], LEGACY, "{started}");
            host.notify("notifications/initialized", json!({})).await;
        }
        host
    }
}

pub struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    home: TempDir,
    dialect: Dialect,
    capabilities: Value,
    next_id: i64,
    /// The answers of the user to the next questions; later questions are accepted.
    pub answers: VecDeque<Value>,
    results: HashMap<String, Value>,
    /// The questions that the user was asked.
    pub questions: Vec<String>,
    pub progress: Vec<Value>,
    /// The number of questions that the server canceled.
    pub canceled_questions: usize,
}

impl Host {
    pub async fn send(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.stdin.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    }

    async fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
    }

    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = json!(self.next_id);
        self.request_as(&id, method, params).await;
        id
    }

    pub async fn request_as(&mut self, id: &Value, method: &str, mut params: Value) {
        if self.dialect == Dialect::Modern {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                self.capabilities.clone();
            params["_meta"]["io.modelcontextprotocol/clientInfo"] =
                json!({"name": "raw", "version": "0"});
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
    }

    /// Sends a tool call, without waiting for its result.
    pub async fn begin_call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    pub async fn cancel(&mut self, id: &Value) {
        self.notify("notifications/cancelled", json!({"requestId": id, "reason": "timeout"})).await;
    }

    /// Reads messages and answers questions until the response to this request arrives.
    pub async fn response(&mut self, id: &Value) -> Value {
        loop {
            if let Some(response) = self.results.remove(&id.to_string()) {
                return response;
            }
            self.read_message().await;
        }
    }

    /// Reads one message. Any other output on stdout is an error.
    pub async fn read_message(&mut self) {
        let line =
            timeout(TIMEOUT, self.lines.next_line()).await.expect("no message arrived").unwrap();
        let line = line.expect("the server ended");
        let message: Value = serde_json::from_str(&line).expect(&line);
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        match message["method"].as_str() {
            Some("elicitation/create") => {
                self.questions.push(message["params"]["message"].as_str().unwrap().to_owned());
                let answer = self.answers.pop_front().unwrap_or_else(accept);
                if answer.is_null() {
                    // `null` stands for a user who does not answer.
                    return;
                }
                self.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": answer})).await;
            }
            Some("notifications/cancelled") => self.canceled_questions += 1,
            Some("notifications/progress") => self.progress.push(message["params"].clone()),
            Some(other) => panic!("unexpected {other}"),
            None => {
                self.results.insert(message["id"].to_string(), message);
            }
        }
    }

    /// Waits until the user has been asked this many questions in total.
    pub async fn wait_for_questions(&mut self, count: usize) {
        while self.questions.len() < count {
            self.read_message().await;
        }
    }

    /// Calls a tool, answers its questions, and returns the final result.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let mut params = json!({"name": tool, "arguments": arguments});
        loop {
            let id = self.request("tools/call", params.clone()).await;
            let response = self.response(&id).await;
            let result = response["result"].clone();
            assert!(result.is_object(), "{response}");
            if result["resultType"] != "input_required" {
                return result;
            }
            let asked = result["inputRequests"].as_object().unwrap();
            let mut answers = json!({});
            for (name, question) in asked {
                self.questions.push(question["params"]["message"].as_str().unwrap().to_owned());
                answers[name] = self.answers.pop_front().unwrap_or_else(accept);
            }
            params["inputResponses"] = answers;
            params["requestState"] = result["requestState"].clone();
        }
    }

    pub async fn ask(&mut self, text: &str) -> Value {
        self.call("ask_payman", json!({"text": text})).await
    }

    /// Kills the server.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Closes the server's stdin, and waits for the server to end.
    pub async fn end(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        let ended = timeout(TIMEOUT, async {
            stderr.read_to_string(&mut errors).await.unwrap();
            self.child.wait().await.unwrap()
        });
        let status = ended.await.expect("the server does not end");
        drop(self.home);
        (status, errors)
    }
}

/// Returns the amounts of the payments that were made.
pub fn payments(emulator: &Emulator) -> Vec<String> {
    emulator.state().payments.iter().map(|payment| payment.amount.to_string()).collect()
}

pub fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

pub fn is_error(result: &Value) -> bool {
    result["isError"].as_bool().unwrap()
}

/// Polls the condition until it holds, for up to 30 s.
pub async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen");
}
