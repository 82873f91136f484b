//! What a person at a terminal sees, in a real pseudo-terminal.

use std::process::Stdio;

use rexpect::process::WaitStatus;
use rexpect::session::{Options, PtySession, spawn_with_options};

use crate::support::{BALANCE, Server, until};

const PATIENCE: u64 = 20_000;

fn sit_at(server: &Server, args: &[&str]) -> PtySession {
    let mut command = server.command(args);
    command.env("TERM", "xterm-256color").stdin(Stdio::inherit());
    let options = Options::default().timeout_ms(Some(PATIENCE)).strip_ansi_escape_codes(true);
    spawn_with_options(command, options).unwrap()
}

fn status(session: &PtySession) -> i32 {
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_spinner_shows_where_the_task_stands_and_goes_away() {
    let server = Server::start(&["--agent-delay", "3500ms"]);
    let mut ask = sit_at(&server, &["ask", BALANCE]);
    ask.exp_string("waiting (0s)").unwrap();
    ask.exp_string("working (2s)").unwrap();
    ask.exp_string("You have $1,000,000.00").unwrap();
    ask.exp_eof().unwrap();
    assert_eq!(status(&ask), 0);

    let mut ask = sit_at(&server, &["ask", BALANCE, "--stream"]);
    ask.exp_string("working (1s)").unwrap();
    ask.exp_string("You have $1,000,000.00").unwrap();
    let rest = ask.exp_eof().unwrap();
    assert!(!rest.contains("working"), "{rest}");
    assert_eq!(status(&ask), 0);
}

#[test]
fn a_conversation_streams_asks_back_and_keeps_its_session() {
    let server = Server::start(&["--chunk-chars", "8", "--chunk-delay", "50ms"]);
    let mut chat = sit_at(&server, &["chat", "--session", "ses-mine"]);
    chat.exp_string("Session ses-mine").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_line(BALANCE).unwrap();
    chat.exp_string("You have $1,000,000.00 in your wallet").unwrap();

    chat.exp_string("> ").unwrap();
    chat.send_line("/session").unwrap();
    chat.exp_string("ses-mine").unwrap();

    chat.exp_string("> ").unwrap();
    chat.send_line("Pay Tyllen $50").unwrap();
    chat.exp_string("no payee named Tyllen").unwrap();
    chat.exp_string("answer> ").unwrap();
    chat.send_line("yes").unwrap();
    chat.exp_string("$50.00").unwrap();
    let state = server.state();
    assert_eq!(state["payments"].as_array().unwrap().len(), 1);
    assert_eq!(state["tasks"].as_array().unwrap().len(), 2, "the answer went to the same task");

    chat.exp_string("> ").unwrap();
    chat.send_line("/task").unwrap();
    chat.exp_string("completed").unwrap();

    chat.exp_string("> ").unwrap();
    chat.send_line("/new").unwrap();
    chat.exp_string("Session ses-").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_line("What did we talk about earlier?").unwrap();
    let last = until(|| {
        Some(server.state()["tasks"][2].clone())
            .filter(|task| task["status"]["state"] == "COMPLETED")
    });
    let last = last.expect("it is answered");
    assert_ne!(last["sessionId"], "ses-mine");
    assert!(!last["artifacts"].to_string().contains("Tyllen"), "{last}");
    chat.exp_string("> ").unwrap();

    // History: the line before the last one, once more.
    chat.send("\x1b[A\x1b[A").unwrap();
    chat.send_line("").unwrap();
    chat.exp_string("Session ses-").unwrap();

    chat.exp_string("> ").unwrap();
    chat.send_line("/quit").unwrap();
    chat.exp_eof().unwrap();
    assert_eq!(status(&chat), 0);
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let server = Server::start(&["--chunk-chars", "4", "--chunk-delay", "2s"]);
    let mut chat = sit_at(&server, &["chat"]);
    chat.exp_string("> ").unwrap();
    chat.send_line(BALANCE).unwrap();
    chat.exp_string("You").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string("Canceled").unwrap();
    let state =
        |at: usize| server.state()["tasks"][at]["status"]["state"].as_str().map(str::to_owned);
    assert_eq!(state(0).as_deref(), Some("CANCELED"));

    // At an empty prompt it tells how to leave.
    chat.exp_string("> ").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string("/quit").unwrap();

    // Before the first word too.
    chat.exp_string("> ").unwrap();
    server.faults(r#"{"on": "sendSubscribe", "when": "after", "delayMs": 60000}"#);
    chat.send_line("Create payee Tyllen").unwrap();
    until(|| state(1)).expect("the task begins");
    chat.send_control('c').unwrap();
    // Either it is canceled, or it was done: never silence.
    chat.exp_regex("Canceled|MAY HAVE BEEN DONE").unwrap();

    chat.exp_string("> ").unwrap();
    chat.send_control('d').unwrap();
    chat.exp_eof().unwrap();
    assert_eq!(status(&chat), 0);
}

#[test]
fn ctrl_c_during_an_ask_tells_how_to_look() {
    let server = Server::start(&["--agent-delay", "60s"]);
    let mut ask = sit_at(&server, &["ask", BALANCE]);
    let id = server.task_id();
    ask.send_control('c').unwrap();
    ask.exp_string(&format!("payman task get {id}")).unwrap();
    ask.exp_eof().unwrap();
    assert_eq!(status(&ask), 6);
}
