//! Every small example runs to its end as a program, on the emulator, and says what it should.

#![cfg(test)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const EXAMPLES: [&str; 8] =
    ["quickstart", "streaming", "metadata", "sessions", "tokens", "errors", "tracing", "worker"];

/// Has cargo build the examples, once: they are there already unless this test is run alone.
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
        // Where the tests were built, not wherever cargo's settings say now.
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
    // Nothing of this machine's own settings: on the emulator there is nothing to set.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("PAYMAN_") || name == "RUST_LOG")
    {
        command.env_remove(name);
    }
    command
}

/// What it prints, where it ended well.
fn printed_by(example: &str) -> String {
    let output = program(example).output().unwrap();
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{example} ended with {}: {out}\n{err}", output.status);
    assert!(err.contains("on the emulator"), "{err}");
    out
}

#[track_caller]
fn says(printed: &str, words: &[&str]) {
    let mut rest = printed;
    for word in words {
        let Some((_, after)) = rest.split_once(word) else {
            panic!("{word:?} is missing, or comes too early, in:\n{printed}");
        };
        rest = after;
    }
}

#[test]
fn quickstart() {
    let printed = printed_by("quickstart");
    says(
        &printed,
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
    let printed = printed_by("streaming");
    says(
        &printed,
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
    let printed = printed_by("metadata");
    says(
        &printed,
        &[
            "$1,000,000.00",
            "You have no payees",
            "Main wallet",
            "agentId",
            "The server saw",
            "\"milk\"",
        ],
    );
    says(&printed, &["The server saw", "\"source\": \"mobile-app\"", "\"userId\": \"user123\""]);
}

#[test]
fn sessions() {
    let printed = printed_by("sessions");
    let asked = "You said \"How much money do I have in my wallet?\"";
    says(
        &printed,
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
    let printed = printed_by("tokens");
    says(
        &printed,
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
    assert!(!printed.contains("emu-"), "a token was printed:\n{printed}");
}

#[test]
fn errors() {
    let printed = printed_by("errors");
    says(
        &printed,
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

/// Each span ends with how it stands and how long it took.
#[test]
fn tracing() {
    let printed = printed_by("tracing");
    let ends_of = |span: &str| -> Vec<&str> {
        let innermost = |line: &&str| {
            let Some((spans, _)) = line.split_once(": close ") else { return false };
            spans
                .rsplit_once('{')
                .is_some_and(|(names, _)| names.rsplit([' ', ':']).next() == Some(span))
        };
        printed.lines().filter(innermost).collect()
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
            ends_of(span).into_iter().any(|line| fields.iter().all(|field| line.contains(field)));
        assert!(found, "no span {span} with {fields:?} in:\n{printed}");
    }
    for hidden in ["emu-", "wallet", "payee", "Tyllen", "emulator:emulator"] {
        assert!(!printed.contains(hidden), "{hidden} is in:\n{printed}");
    }
}

#[test]
fn worker() {
    let printed = printed_by("worker");
    assert_eq!(
        printed.lines().filter(|line| line.contains(r#""event":"done""#)).count(),
        10,
        "{printed}"
    );
    says(&printed, &["Paid $"]);
}

/// It waits for more jobs, is told to stop, and ends well although its input is still open.
#[cfg(unix)]
#[test]
fn worker_stops_on_sigterm() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;

    let directory = tempfile::tempdir().unwrap();
    let queue = directory.path().join("queue.jsonl");
    let mut worker = program("worker")
        .arg(&queue)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = worker.stdin.take().unwrap();
    writeln!(input, "Pay Tyllen $5").unwrap();
    let mut line = String::new();
    BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    says(&line, &[r#""event":"done""#, "Paid $5.00 to Tyllen"]);
    assert!(worker.try_wait().unwrap().is_none(), "it ended before it was told to");

    assert!(
        Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap().success()
    );
    assert!(worker.wait().unwrap().success());
    drop(input);
    says(&std::fs::read_to_string(queue).unwrap(), &["queued", "asking", "done"]);
}
