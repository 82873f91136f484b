//! Tests the output of the program on stdout and stderr.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{BALANCE, EmulatorProcess, Workspace, run_command, run_with_input, wait};

const ANSWER: &str = "You have $1,000,000.00 in your wallet \"Main wallet\".\n";

#[test]
fn the_emulator_option_starts_an_emulator_and_says_so() {
    for stream in [&[][..], &["--stream"]] {
        let result = Workspace::new().run(&[&["ask", "--emulator", BALANCE], stream].concat());
        assert_eq!((result.status, result.out.as_str()), (Some(0), ANSWER), "{result:?}");
        assert!(result.err.contains("emulator") && result.err.lines().count() == 1, "{result:?}");
    }
}

#[test]
fn a_stream_is_printed_as_it_arrives() {
    let server = EmulatorProcess::start(&["--chunk-chars", "8", "--chunk-delay", "700ms"]);
    let mut child =
        server.command(["ask", "--stream", BALANCE]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"You have");
    assert!(child.try_wait().unwrap().is_none(), "the answer is not complete");
    let mut rest = String::new();
    child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(format!("You have{rest}"), ANSWER);
    assert!(wait(&mut child).success());
}

#[test]
fn each_json_output_can_be_parsed() {
    let server = EmulatorProcess::start(&[]);
    for args in [
        &["ask", BALANCE, "--output", "json"][..],
        &["ask", BALANCE, "--output", "json", "--stream"],
    ] {
        let reply: Value = serde_json::from_str(&server.run(args).out).unwrap();
        assert_eq!(reply["status"], "COMPLETED");
        assert_eq!(reply["artifacts"][0]["content"].as_str().unwrap(), ANSWER.trim_end());
        assert!(
            reply["taskId"].is_string()
                && reply["sessionId"].is_string()
                && reply["requestId"].is_string()
        );
    }

    let raw: Value =
        serde_json::from_str(&server.run(&["ask", BALANCE, "--output", "raw"]).out).unwrap();
    assert_eq!(raw["jsonrpc"], "2.0");
    assert_eq!(raw["result"]["status"]["state"], "COMPLETED");
    assert_eq!(
        raw["result"]["artifacts"][0]["parts"][0]["text"].as_str().unwrap(),
        ANSWER.trim_end()
    );

    let responses = lines(&server.run(&["ask", BALANCE, "--output", "raw", "--stream"]).out);
    assert!(responses.len() > 2 && responses.iter().all(|response| response["jsonrpc"] == "2.0"));
    assert_eq!(responses.last().unwrap()["result"]["final"], true);

    let events = lines(&server.run(&["ask", BALANCE, "--output", "events"]).out);
    let text: String = events
        .iter()
        .filter_map(|event| event.pointer("/artifact/parts/0/text")?.as_str())
        .collect();
    assert_eq!(text, ANSWER.trim_end());
    assert!(
        events.iter().filter(|event| event.get("artifact").is_some()).count() > 1,
        "it came in pieces"
    );
    assert_eq!(events.last().unwrap()["final"], true);
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn the_text_can_come_from_standard_input() {
    let server = EmulatorProcess::start(&[]);
    let result = run_with_input(server.command(["ask", "-"]), format!("{BALANCE}\n").as_bytes());
    assert_eq!((result.status, result.out.as_str()), (Some(0), ANSWER));
    assert_eq!(server.state()["tasks"][0]["history"][0]["parts"][0]["text"], BALANCE);

    let blank = run_with_input(server.command(["ask", "-"]), b" \n");
    assert_eq!(blank.status, Some(2), "{blank:?}");
    let garbled = run_with_input(server.command(["ask", "-"]), b"\xff\xfe");
    assert_eq!(garbled.status, Some(2), "{garbled:?}");
    assert_eq!(server.state()["tasks"].as_array().unwrap().len(), 1, "nothing more was sent");
}

#[test]
fn options_and_variables_set_the_metadata_of_an_ask() {
    let server = EmulatorProcess::start(&[]);
    let result = server.run(&[
        "ask",
        BALANCE,
        "--metadata",
        "source=shell",
        "--metadata",
        "count=3",
        "--metadata",
        r#"{"a":{"b":[true]}}"#,
        "--message-metadata",
        "priority=high",
        "--part-metadata",
        "currency=USD",
    ]);
    assert_eq!(result.status, Some(0), "{result:?}");
    let state = server.state();
    let task = &state["tasks"][0];
    assert_eq!(
        state["requestMetadata"][task["id"].as_str().unwrap()][0],
        json!({"source": "shell", "count": 3, "a": {"b": [true]}})
    );
    assert_eq!(task["history"][0]["metadata"], json!({"priority": "high"}));
    assert_eq!(task["history"][0]["parts"][0]["metadata"], json!({"currency": "USD"}));

    let mut command = server.command(["ask", BALANCE]);
    command.env("PAYMAN_METADATA", "source=variable");
    assert_eq!(run_command(command).status, Some(0));
    let state = server.state();
    let id = state["tasks"][1]["id"].as_str().unwrap();
    assert_eq!(state["requestMetadata"][id][0], json!({"source": "variable"}));
}

#[test]
fn a_session_is_continued() {
    let server = EmulatorProcess::start(&[]);
    assert_eq!(
        server.run(&["ask", "--session", "groceries", "Create payee Tyllen"]).status,
        Some(0)
    );
    let earlier = "What did we talk about earlier?";
    assert!(server.run(&["ask", "--session", "groceries", earlier]).out.contains("Tyllen"));

    let with_variable = |args: &[&str]| {
        let mut command = server.command(args);
        command.env("PAYMAN_SESSION_ID", "groceries");
        run_command(command).out
    };
    assert!(with_variable(&["ask", earlier]).contains("Tyllen"));
    assert!(!with_variable(&["ask", "--new-session", earlier]).contains("Tyllen"));
}

#[test]
fn without_artifacts_the_status_is_printed_with_a_command_that_answers() {
    let server = EmulatorProcess::start(&[]);
    for flags in [&[][..], &["--stream"]] {
        server.reset();
        let asked =
            server.run(&[&["ask", "--session", "my own", "Pay Tyllen $50"], flags].concat());
        assert_eq!(asked.status, Some(4), "{asked:?}");
        assert!(asked.out.contains("no payee named Tyllen"), "{asked:?}");
        let command = asked
            .err
            .lines()
            .find_map(|line| line.trim().strip_prefix("payman "))
            .expect(&asked.err);
        let command = command.replace("'your answer'", "yes").replace("'my own'", "my%own");
        let args: Vec<_> = command.split(' ').map(|arg| arg.replace('%', " ")).collect();
        let answered = server.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(answered.status, Some(0), "{answered:?}");
        assert!(answered.out.contains("$50.00") && answered.out.contains("Tyllen"), "{answered:?}");
        let state = server.state();
        assert_eq!(
            (state["payments"][0]["payee"].as_str(), &state["payments"][1]),
            (Some("Tyllen"), &Value::Null)
        );
        assert_eq!(state["tasks"].as_array().unwrap().len(), 1, "both messages belong to one task");
    }
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    let server = EmulatorProcess::start(&["--agent-delay", "300ms"]);
    for args in [
        &["ask", BALANCE][..],
        &["ask", "--stream", BALANCE],
        &["ask", BALANCE, "--output", "events"],
    ] {
        let mut child =
            server.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((wait(&mut child).code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn other_dialects_are_parsed() {
    let dialects: [&[&str]; 3] = [
        &[
            "--line-end",
            "crlf",
            "--states",
            "lower",
            "--final-flag",
            "isFinal",
            "--token-names",
            "snake",
        ],
        &[
            "--line-end",
            "cr",
            "--states",
            "prefixed",
            "--final-flag",
            "absent",
            "--byte-order-mark",
            "--comments",
        ],
        &[
            "--envelope",
            "bare",
            "--status-text",
            "message",
            "--several-lines",
            "--last-chunk-flag",
            "absent",
        ],
    ];
    for dialect in dialects {
        let server = EmulatorProcess::start(dialect);
        for output in ["text", "json", "raw", "events"] {
            let result = server.run(&["ask", "--stream", BALANCE, "--output", output]);
            assert_eq!(result.status, Some(0), "{dialect:?} {output} {result:?}");
        }
        assert_eq!(server.run(&["ask", "--stream", BALANCE]).out, ANSWER, "{dialect:?}");
    }
}
