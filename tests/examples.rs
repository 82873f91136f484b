//! Runs each small example as a program on the emulator, and checks its output.

#![cfg(test)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const EXAMPLES: [&str; 8] =
    ["quickstart", "streaming", "metadata", "sessions", "tokens", "errors", "tracing", "worker"];

/// Builds the examples once. `cargo test` has built them already, unless this test runs alone.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
            "build",
            "--quiet",
            "--offline",
            "--features",
            "full",
        ]);
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
        // Uses the folder of this test, even if cargo's settings have changed since.
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        for example in EXAMPLES {
            cargo.args(["--example", example]);
        }
        let built = cargo.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile.join("examples")
    })
}

fn program(example: &str) -> Command {
    let mut command =
        Command::new(directory().join(format!("{example}{}", std::env::consts::EXE_SUFFIX)));
    // Removes the settings of this machine, which do not apply to the emulator.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("PAYMAN_") || name == "RUST_LOG")
    {
        command.env_remove(name);
    }
    command
}

/// Runs an example to its successful end, and returns its standard output.
fn output_of(example: &str) -> String {
    let output = program(example).output().unwrap();
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{example} ended with {}: {out}\n{err}", output.status);
    assert!(err.contains("on the emulator"), "{err}");
    out
}

/// Checks that the output contains these texts in this order.
#[track_caller]
fn assert_contains_in_order(output: &str, texts: &[&str]) {
    let mut rest = output;
    for text in texts {
        let Some((_, after)) = rest.split_once(text) else {
            panic!("{text:?} is missing, or out of order, in:\n{output}");
        };
        rest = after;
    }
}

#[test]
fn quickstart() {
    let output = output_of("quickstart");
    assert_contains_in_order(
        &output,
        &[
            "You have $1,000,000.00",
            "\"status\": \"COMPLETED\"",
            "\"jsonrpc\":\"2.0\"",
            "no payee named Tyllen",
            "Paid $50.00 to Tyllen",
        ],
    );
}

#[test]
fn streaming() {
    let output = output_of("streaming");
    assert_contains_in_order(
        &output,
        &[
            "[working]",
            "  \"You have",
            "[completed]",
            "1. Main wallet",
            "(completed)",
            "\"final\":true",
        ],
    );
}

#[test]
fn metadata() {
    let output = output_of("metadata");
    assert_contains_in_order(
        &output,
        &[
            "$1,000,000.00",
            "You have no payees",
            "Main wallet",
            "agentId",
            "The server saw",
            "\"milk\"",
        ],
    );
    assert_contains_in_order(
        &output,
        &["The server saw", "\"source\": \"mobile-app\"", "\"userId\": \"user123\""],
    );
}

#[test]
fn sessions() {
    let output = output_of("sessions");
    let asked = "You said \"How much money do I have in my wallet?\"";
    assert_contains_in_order(
        &output,
        &[
            "the session is ses-",
            asked,
            asked,
            "Alice: ",
            "List all payees",
            "Bob: ",
            "List all wallets",
        ],
    );
}

#[test]
fn tokens() {
    let output = output_of("tokens");
    assert_contains_in_order(
        &output,
        &[
            "expired? true",
            "expired? false",
            "ClientCredentials, generation 1",
            "read_balance",
            "by auth code: You have",
            "refresh token in hand: true",
            "by refresh token: You have",
            "renewed: You have",
            "generation 2",
        ],
    );
    assert!(!output.contains("emu-"), "a token was output:\n{output}");
}

#[test]
fn errors() {
    let output = output_of("errors");
    assert_contains_in_order(
        &output,
        &[
            "the text is blank",
            "Nothing was done. (completed)",
            "(status Some(400))",
            "bad request",
            "Paid $50.00",
            "look later at Some(\"tsk-",
            "Paid $60.00",
            "connect again",
        ],
    );
}

/// Each span closes with its state and duration.
#[test]
fn tracing() {
    let output = output_of("tracing");
    let closes_of = |span: &str| -> Vec<&str> {
        let innermost = |line: &&str| {
            let Some((spans, _)) = line.split_once(": close ") else { return false };
            spans
                .rsplit_once('{')
                .is_some_and(|(names, _)| names.rsplit([' ', ':']).next() == Some(span))
        };
        output.lines().filter(innermost).collect()
    };
    for (span, fields) in [
        (
            "ask",
            &[
                "task_id=tsk-",
                "session_id=ses-",
                "request_id=req-",
                "state=\"completed\"",
                "duration_ms=",
            ][..],
        ),
        (
            "stream",
            &[
                "task_id=tsk-",
                "session_id=ses-",
                "request_id=req-",
                "state=\"completed\"",
                "duration_ms=",
            ],
        ),
        ("attempt", &["attempt=1", "status=200", "duration_ms="]),
        ("attempt", &["attempt=2", "status=200", "duration_ms="]),
        ("token", &["generation=", "outcome=\"", "duration_ms="]),
    ] {
        let found =
            closes_of(span).into_iter().any(|line| fields.iter().all(|field| line.contains(field)));
        assert!(found, "no span {span} with {fields:?} in:\n{output}");
    }
    for hidden in ["emu-", "wallet", "payee", "Tyllen", "emulator:emulator"] {
        assert!(!output.contains(hidden), "{hidden} is in:\n{output}");
    }
}

/// The worker pays posted orders, and exits with success after a signal.
#[cfg(unix)]
#[test]
fn worker() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::process::Stdio;

    let mut worker = program("worker")
        .env("PORT", "0")
        .env_remove("DATABASE_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.to_owned();
    let call = |request: &str, body: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let payout = r#"{"id":"1","payee":"Tyllen","amount":"5.00"}"#;
    for _ in 0..2 {
        assert_contains_in_order(&call("POST /payouts", payout), &["202 Accepted"]);
    }
    let mut shown = String::new();
    while !shown.contains("settled") {
        shown = call("GET /payouts/1", "");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_contains_in_order(&shown, &["Paid $5.00 to Tyllen"]);
    assert!(worker.try_wait().unwrap().is_none(), "it ended before the signal");
    assert!(
        Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap().success()
    );
    assert!(worker.wait().unwrap().success());
}
