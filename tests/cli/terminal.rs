//! Tests the output of the program in a pseudo-terminal.

use std::process::{Command, Stdio};

use rexpect::process::{Signal, WaitStatus};
use rexpect::session::{Options, PtySession, spawn_with_options};
use serde_json::json;

use crate::scripted::ScriptedPlatform;
use crate::support::{BALANCE, EmulatorProcess, poll_until};
use crate::untrusted::{CONTROL_CHARACTERS, has_control_characters};

const TIMEOUT_MS: u64 = 20_000;

fn start_in_terminal(server: &EmulatorProcess, args: &[&str]) -> PtySession {
    spawn_in_terminal(server.command(args), "xterm-256color", true)
}

fn spawn_in_terminal(mut command: Command, term: &str, strips_escapes: bool) -> PtySession {
    command.env("TERM", term).stdin(Stdio::inherit());
    let options =
        Options::default().timeout_ms(Some(TIMEOUT_MS)).strip_ansi_escape_codes(strips_escapes);
    spawn_with_options(command, options).unwrap()
}

fn status(session: &PtySession) -> i32 {
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_spinner_shows_the_state_of_the_task_and_is_erased() {
    let server = EmulatorProcess::start(&["--agent-delay", "3500ms"]);
    let mut ask = start_in_terminal(&server, &["ask", BALANCE]);
    ask.exp_string("waiting (0s)").unwrap();
    ask.exp_string("working (2s)").unwrap();
    ask.exp_string("You have $1,000,000.00").unwrap();
    ask.exp_eof().unwrap();
    assert_eq!(status(&ask), 0);

    let mut ask = start_in_terminal(&server, &["ask", BALANCE, "--stream"]);
    ask.exp_string("working (1s)").unwrap();
    ask.exp_string("You have $1,000,000.00").unwrap();
    let rest = ask.exp_eof().unwrap();
    assert!(!rest.contains("working"), "{rest}");
    assert_eq!(status(&ask), 0);
}

#[test]
fn a_conversation_streams_asks_questions_and_keeps_its_session() {
    let server = EmulatorProcess::start(&["--chunk-chars", "8", "--chunk-delay", "50ms"]);
    let mut chat = start_in_terminal(&server, &["chat", "--session", "ses-mine"]);
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
    let last = poll_until(|| {
        Some(server.state()["tasks"][2].clone())
            .filter(|task| task["status"]["state"] == "COMPLETED")
    });
    let last = last.expect("the task is completed");
    assert_ne!(last["sessionId"], "ses-mine");
    assert!(!last["artifacts"].to_string().contains("Tyllen"), "{last}");
    chat.exp_string("> ").unwrap();

    // Goes two lines back in the history.
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
    let server = EmulatorProcess::start(&["--chunk-chars", "4", "--chunk-delay", "2s"]);
    let mut chat = start_in_terminal(&server, &["chat"]);
    chat.exp_string("> ").unwrap();
    chat.send_line(BALANCE).unwrap();
    chat.exp_string("You").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string("Canceled").unwrap();
    let state =
        |at: usize| server.state()["tasks"][at]["status"]["state"].as_str().map(str::to_owned);
    assert_eq!(state(0).as_deref(), Some("CANCELED"));

    // Ctrl-C at an empty prompt prints how to quit.
    chat.exp_string("> ").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string("/quit").unwrap();

    // Sends Ctrl-C before the first text of an answer.
    chat.exp_string("> ").unwrap();
    server.faults(r#"{"on": "sendSubscribe", "when": "after", "delayMs": 60000}"#);
    chat.send_line("Create payee Tyllen").unwrap();
    poll_until(|| state(1)).expect("the task begins");
    chat.send_control('c').unwrap();
    // The task is either canceled or done, and the program prints which.
    chat.exp_regex("Canceled|MAY HAVE BEEN DONE").unwrap();

    chat.exp_string("> ").unwrap();
    chat.send_control('d').unwrap();
    chat.exp_eof().unwrap();
    assert_eq!(status(&chat), 0);
}

#[test]
fn ctrl_c_during_an_ask_prints_how_to_look_it_up() {
    let server = EmulatorProcess::start(&["--agent-delay", "60s"]);
    let mut ask = start_in_terminal(&server, &["ask", BALANCE]);
    let id = server.task_id();
    ask.send_control('c').unwrap();
    ask.exp_string(&format!("payman task get {id}")).unwrap();
    ask.exp_eof().unwrap();
    assert_eq!(status(&ask), 6);
}

#[test]
fn a_terminal_shows_the_account_and_the_text_as_received() {
    let server = EmulatorProcess::start(&[]);
    let mut ask = start_in_terminal(&server, &["ask", "Pay Bob 50"]);
    ask.exp_string(&format!("(As the app an-app, on {} (this machine).)", server.base_url))
        .unwrap();
    ask.exp_string("Asking: Pay Bob 50").unwrap();
    ask.exp_string("no payee named Bob").unwrap();
    ask.exp_eof().unwrap();
    assert_eq!(status(&ask), 4);

    let mut quiet = start_in_terminal(&server, &["ask", BALANCE, "-q"]);
    let all = quiet.exp_eof().unwrap();
    assert!(!all.contains("As the app") && !all.contains("Asking"), "{all}");

    let mut token = start_in_terminal(&server, &["token"]);
    token.exp_string("As the app an-app").unwrap();
    token.exp_eof().unwrap();

    let mut chat = start_in_terminal(&server, &["chat", "--access-token", "t"]);
    chat.exp_string("As the owner of the token from --access-token, by the app an-app").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_control('d').unwrap();
    chat.exp_eof().unwrap();
}

#[test]
fn text_from_a_server_is_escaped_on_a_terminal() {
    let platform = ScriptedPlatform::start();
    platform.answer_task(json!({
        "status": {"state": "COMPLETED"},
        "artifacts": [{"parts": [{"type": "text", "text": CONTROL_CHARACTERS}]}],
    }));
    platform.answer_events(vec![
        json!({"status": {"state": CONTROL_CHARACTERS}}),
        json!({"artifact": {"parts": [{"type": "text", "text": CONTROL_CHARACTERS}], "index": 0}}),
        json!({"status": {"state": "COMPLETED"}, "final": true}),
    ]);
    for args in [
        &["ask", BALANCE][..],
        &["ask", BALANCE, "--stream"],
        &["ask", BALANCE, "--output", "json"],
        &["ask", BALANCE, "--output", "raw"],
        &["ask", BALANCE, "--output", "raw", "--stream"],
        &["ask", BALANCE, "--output", "events"],
        &["task", "get", "tsk-\u{9b}1"],
        &["ask", CONTROL_CHARACTERS, "--stream"],
    ] {
        // Without a spinner, every control character comes from the server.
        let mut result = spawn_in_terminal(platform.command(args), "dumb", false);
        let all = result.exp_eof().unwrap();
        assert!(!has_control_characters(&all), "{args:?}: {all:?}");
        assert!(all.contains("9b") && all.contains("202e"), "{args:?}: {all:?}");
        assert_eq!(status(&result), 0, "{args:?}: {all:?}");
    }
}

#[test]
fn colors_can_be_turned_off() {
    let server = EmulatorProcess::start(&[]);
    let run = |term: &str, no_color: bool| {
        let mut command = server.command(["ask", BALANCE, "-v", "--stream"]);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let mut result = spawn_in_terminal(command, term, false);
        result.exp_eof().unwrap()
    };
    // Escape sequences of colors end in `m`, unlike the cursor movements of the spinner.
    let has_color = |text: &str| {
        text.split('\u{1b}').skip(1).any(|code| {
            code.starts_with('[')
                && code.chars().skip(1).find(|c| !c.is_ascii_digit() && *c != ';') == Some('m')
        })
    };
    assert!(has_color(&run("xterm-256color", false)));
    assert!(!has_color(&run("xterm-256color", true)));
    let dumb = run("dumb", false);
    assert!(dumb.contains("payman_sdk") && !dumb.contains('\u{1b}'), "{dumb:?}");
}

#[test]
fn a_question_can_be_skipped() {
    let server = EmulatorProcess::start(&[]);
    let mut chat = start_in_terminal(&server, &["chat", "--session", "ses-mine"]);
    chat.exp_string("> ").unwrap();
    chat.send_line("Pay Tyllen $50").unwrap();
    chat.exp_string("answer> ").unwrap();
    chat.send_line("/skip").unwrap();
    chat.exp_string("stays unanswered").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_line(BALANCE).unwrap();
    chat.exp_string("$1,000,000.00").unwrap();
    let state = server.state();
    let tasks = state["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    assert!(tasks.iter().all(|task| task["sessionId"] == "ses-mine"), "{tasks:?}");
    assert!(state["payments"].as_array().unwrap().is_empty());
    chat.exp_string("> ").unwrap();
    chat.send_control('d').unwrap();
    chat.exp_eof().unwrap();
}

#[test]
fn lines_pasted_at_a_dumb_terminal_are_asked_one_at_a_time() {
    let server = EmulatorProcess::start(&["--agent-delay", "700ms"]);
    let mut chat = spawn_in_terminal(server.command(["chat"]), "dumb", true);
    chat.exp_string("> ").unwrap();
    chat.send("Pay Tyllen $50\nyes\nPay Tyllen $60\n").unwrap();
    chat.flush().unwrap();
    chat.exp_string("no payee named Tyllen").unwrap();
    chat.exp_string("NOT sent").unwrap();
    chat.exp_string("  yes").unwrap();
    chat.exp_string("  Pay Tyllen $60").unwrap();
    chat.exp_string("answer> ").unwrap();
    let state = server.state();
    assert_eq!(state["tasks"].as_array().unwrap().len(), 1);
    assert!(state["payments"].as_array().unwrap().is_empty(), "no question was answered unread");
    chat.send_line("yes").unwrap();
    chat.exp_string("$50.00").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_control('d').unwrap();
    chat.exp_eof().unwrap();
    assert_eq!(status(&chat), 0);
}

#[test]
fn a_signal_at_a_terminal_prints_how_to_look_it_up() {
    let server = EmulatorProcess::start(&["--agent-delay", "60s"]);
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        for command in ["ask", "chat"] {
            server.reset();
            let args = if command == "ask" { &["ask", BALANCE][..] } else { &["chat"] };
            let mut session = start_in_terminal(&server, args);
            if command == "chat" {
                session.exp_string("> ").unwrap();
                session.send_line(BALANCE).unwrap();
            }
            let id = server.task_id();
            session.process_mut().signal(signal).unwrap();
            session.exp_string(&format!("payman task get {id}")).unwrap();
            session.exp_eof().unwrap();
            assert_eq!(status(&session), 6, "{signal} {command}");
        }
    }
}

#[test]
fn a_signal_at_the_prompt_leaves_the_terminal_as_it_was() {
    let server = EmulatorProcess::start(&[]);
    let program = env!("CARGO_BIN_EXE_payman");
    let chat = format!("sh -c 'echo $$ > pid; exec {program} chat'");
    let script = format!("stty -g; {chat}; echo ended $?; stty -g");
    let mut shell = server.command(Vec::<&str>::new());
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(server.workspace().path()).env_clear();
    command.envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut session = spawn_in_terminal(command, "xterm-256color", true);
    let before = session.read_line().unwrap();
    session.exp_string("> ").unwrap();
    let pid = std::fs::read_to_string(server.workspace().path().join("pid")).unwrap();
    crate::support::send_signal("TERM", pid.trim().parse().unwrap());
    session.exp_string("SIGTERM ended the command").unwrap();
    session.exp_string("ended 1").unwrap();
    let after = session.exp_eof().unwrap();
    assert_eq!(after.trim(), before.trim());
    shell.stdin(Stdio::null());
}
