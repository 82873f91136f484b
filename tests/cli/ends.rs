//! Exit statuses and signals.

use std::io::Write;
use std::process::Stdio;

use crate::support::{BALANCE, Place, Server, end_of, finish, with_input};

#[test]
fn one_for_any_other_error() {
    let server = Server::start(&[]);
    let unknown = server.run(&["task", "get", "tsk-none"]);
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
    assert!(unknown.err.starts_with("payman: ") && unknown.out.is_empty(), "{unknown:?}");

    // Port 1: other tests could take a port that is free now.
    let mut command = server.command(["ask", BALANCE, "--timeout", "5s"]);
    command.env("PAYMAN_BASE_URL", "http://127.0.0.1:1");
    let refused = finish(command);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.err.contains("refused") && refused.err.contains("Nothing was"), "{refused:?}");
}

#[test]
fn two_for_usage() {
    let server = Server::start(&[]);
    let wrong: [&[&str]; 9] = [
        &["ask"],
        &["ask", BALANCE, "--no-such-option"],
        &["ask", BALANCE, "--output", "yaml"],
        &["ask", "  "],
        &["ask", BALANCE, "--timeout", "soon"],
        &["ask", BALANCE, "--metadata", "novalue"],
        &["ask", BALANCE, "--base-url", "http://example.com"],
        &["ask", BALANCE, "--emulator", "--base-url", "http://127.0.0.1:1"],
        &["connect", "--emulator"],
    ];
    for args in wrong {
        let ran = server.run(args);
        assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{args:?} {ran:?}");
        assert!(!ran.err.is_empty(), "{args:?}");
    }
    assert!(server.state()["tasks"].as_array().unwrap().is_empty());
}

#[test]
fn three_for_a_task_that_failed() {
    let server = Server::start(&["--balance", "10.00"]);
    assert_eq!(server.run(&["ask", "Create payee Tyllen"]).status, Some(0));
    for flags in [
        &[][..],
        &["--stream"],
        &["--output", "json"],
        &["--output", "raw"],
        &["--output", "events"],
    ] {
        let ran = server.run(&[&["ask", "Pay Tyllen $50"], flags].concat());
        assert_eq!(ran.status, Some(3), "{flags:?} {ran:?}");
        assert!(!ran.out.is_empty() && ran.err.contains("failed"), "{ran:?}");
    }
    assert!(server.state()["payments"].as_array().unwrap().is_empty());
}

#[test]
fn five_where_not_authorized() {
    let server = Server::start(&["--credentials", "an-app:another-secret"]);
    let ran = server.run(&["ask", BALANCE]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(5), ""), "{ran:?}");
    assert!(ran.err.contains("PAYMAN_CLIENT_SECRET") && !ran.err.contains("hush"), "{ran:?}");

    let server = Server::start(&[]);
    server.faults(r#"{"on": "send", "status": 401, "times": 5}"#);
    assert_eq!(server.run(&["ask", BALANCE]).status, Some(5));
}

#[test]
fn six_where_it_may_have_been_done_and_the_printed_command_looks() {
    let server = Server::start(&[]);
    server.run(&["ask", "Create payee Tyllen"]);
    let faults = r#"[{"on": "send", "when": "after", "close": true},
        {"on": "get", "times": 500, "status": 500}]"#;
    server.faults(faults);
    let ran = server.run(&["ask", "Pay Tyllen $50", "--timeout", "3s"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(6), ""), "{ran:?}");
    let id = server.state()["tasks"][1]["id"].as_str().unwrap().to_owned();
    assert!(ran.err.contains("MAY HAVE BEEN DONE"), "{ran:?}");
    let command =
        ran.err.lines().find_map(|line| line.trim().strip_prefix("payman ")).expect(&ran.err);
    assert_eq!(command, format!("task get {id}"));

    // It was paid once. While the platform fails, the lookup is an ordinary error.
    let state = server.state();
    assert_eq!(
        (state["payments"].as_array().unwrap().len(), state["sends"][&id].as_u64()),
        (1, Some(1))
    );
    let args: Vec<_> = command.split(' ').chain(["--timeout", "1s"]).collect();
    assert_eq!(server.run(&args).status, Some(1));
}

#[test]
fn an_answer_that_was_lost_is_found_and_never_asked_for_again() {
    let server = Server::start(&[
        "--fault",
        r#"[{"on": "send", "skip": 1, "when": "after", "close": true}]"#,
    ]);
    server.run(&["ask", "Create payee Tyllen"]);
    let ran = server.run(&["ask", "Pay Tyllen $50"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.contains("$50.00"), "{ran:?}");
    assert_eq!(server.state()["payments"].as_array().unwrap().len(), 1);

    server.faults(r#"{"on": "sendSubscribe", "cutAfter": 700}"#);
    let ran = server.run(&["ask", "--stream", BALANCE]);
    assert_eq!(
        (ran.status, ran.out.as_str()),
        (Some(0), "You have $999,950.00 in your wallet \"Main wallet\".\n")
    );
}

#[test]
fn the_deadline_ends_an_ask_whose_outcome_is_then_unknown() {
    let server = Server::start(&["--agent-delay", "60s"]);
    for flags in [&[][..], &["--stream"], &["--output", "raw"]] {
        let ran = server.run(&[&["ask", BALANCE, "--timeout", "500ms"], flags].concat());
        assert_eq!(ran.status, Some(6), "{flags:?} {ran:?}");
        assert!(ran.err.contains("payman task get tsk-"), "{ran:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_during_an_ask_prints_how_to_look_it_up() {
    let server = Server::start(&["--agent-delay", "60s"]);
    for name in ["INT", "TERM", "HUP"] {
        for flags in [&[][..], &["--stream"], &["--output", "raw"]] {
            server.reset();
            let child = server
                .command([&["ask", BALANCE, "--base-url", &server.base_url], flags].concat())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let id = server.task_id();
            crate::support::signal(name, child.id());
            let ran = end_of(child);
            assert_eq!((ran.status, ran.out.as_str()), (Some(6), ""), "{name} {ran:?}");
            let command = format!("payman task get {id} --base-url {}", server.base_url);
            assert!(ran.err.contains(&command), "{name} {ran:?}");

            let lookup = server.run(&["task", "get", &id]);
            assert_eq!(lookup.status, Some(6), "it still runs: {lookup:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_signal_during_a_piped_conversation_prints_how_to_look_it_up() {
    let server = Server::start(&["--agent-delay", "60s"]);
    for name in ["INT", "TERM", "HUP"] {
        server.reset();
        let mut child = server
            .command(["chat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The pipe stays open: a script that has more to say.
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{BALANCE}").unwrap();
        let id = server.task_id();
        crate::support::signal(name, child.id());
        let ran = end_of(child);
        // Ctrl-C cancels the task, the others leave it running.
        let expected = if name == "INT" { 3 } else { 6 };
        assert_eq!(ran.status, Some(expected), "{name} {ran:?}");
        if name != "INT" {
            assert!(ran.err.contains(&format!("payman task get {id}")), "{name} {ran:?}");
        }
        drop(input);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_hang_up_stays_ignored() {
    let server = Server::start(&["--agent-delay", "1500ms"]);
    let program = env!("CARGO_BIN_EXE_payman");
    let ask = format!("trap '' HUP; exec {program} ask '{BALANCE}'");
    let mut command = server.command(Vec::<&str>::new());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &ask]).current_dir(server.place().path()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child =
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.task_id();
    crate::support::signal("HUP", child.id());
    let ran = end_of(child);
    assert!(ran.status == Some(0) && ran.out.contains("$1,000,000.00"), "{ran:?}");
    command.stdin(Stdio::null());
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_may_have_been_done() {
    let server = Server::start(&[]);
    server.run(&["ask", "Create payee Tyllen"]);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut asks = 1;
    for flags in [
        &[][..],
        &["--stream"],
        &["--output", "json"],
        &["--output", "json", "--stream"],
        &["--output", "raw"],
        &["--output", "raw", "--stream"],
        &["--output", "events"],
    ] {
        let mut command = server.command([&["ask", "Pay Tyllen $50"], flags].concat());
        let child = command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        let ran = end_of(child);
        let id = server.state()["tasks"][asks]["id"].as_str().unwrap().to_owned();
        assert_eq!(ran.status, Some(6), "{flags:?} {ran:?}");
        assert!(ran.err.contains(&format!("payman task get {id}")), "{flags:?} {ran:?}");
        asks += 1;
    }

    // A conversation ends there, and nothing more is asked.
    let mut command = server.command(["chat"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = "Pay Tyllen $50\nPay Tyllen $60\nPay Tyllen $70\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let ran = end_of(child);
    assert_eq!(ran.status, Some(6), "{ran:?}");
    let state = server.state();
    let id = state["tasks"][asks]["id"].as_str().unwrap();
    assert!(ran.err.contains(&format!("payman task get {id}")), "{ran:?}");
    assert!(ran.err.contains("2 more lines were not sent"), "{ran:?}");
    assert_eq!(state["tasks"].as_array().unwrap().len(), asks + 1);

    // Other output that cannot be written is an ordinary error: nothing was asked.
    let child = server.command(["token"]).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(end_of(child).status, Some(1));
}

#[test]
fn a_piped_conversation_ends_with_the_first_failure() {
    let place = Place::new();
    let mut command = place.command(["chat"]);
    command
        .env("PAYMAN_BASE_URL", "http://127.0.0.1:1")
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_CLIENT_SECRET", "hush");
    let lines = format!("{BALANCE}\nList all payees\n\nList all wallets\n");
    let ran = with_input(command, lines.as_bytes());
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.err.contains("2 more lines were not sent"), "{ran:?}");

    // Where nothing failed, the exit status is that of the last answer.
    let server = Server::start(&["--balance", "10.00"]);
    let lines = "Create payee Tyllen\nPay Tyllen $50\n";
    let ran = with_input(server.command(["chat"]), lines.as_bytes());
    assert_eq!(ran.status, Some(3), "{ran:?}");
    let ran = with_input(server.command(["chat"]), "Pay Nobody $5\n".as_bytes());
    assert_eq!(ran.status, Some(4), "{ran:?}");
    let ran = with_input(server.command(["chat"]), b"Pay Anyone $5\n/skip\nList all payees\n");
    assert!(ran.status == Some(0) && ran.out.contains("Tyllen"), "{ran:?}");
}

#[test]
fn nothing_is_asked_once_nobody_reads_the_answers() {
    let server = Server::start(&["--agent-delay", "300ms"]);
    let mut child = server
        .command(["chat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "Create payee Tyllen\nPay Tyllen $50").unwrap();
    drop(input);
    let ran = end_of(child);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(server.state()["tasks"].as_array().unwrap().len(), 1, "{ran:?}");
}

#[test]
fn a_script_can_choose_the_task_id_in_advance() {
    let server = Server::start(&[]);
    for flags in [&[][..], &["--stream"], &["--output", "raw"]] {
        server.reset();
        let ran = server.run(&[&["ask", BALANCE, "--task-id", "tsk-mine"], flags].concat());
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert_eq!(server.state()["tasks"][0]["id"], "tsk-mine");
        assert_eq!(server.run(&["task", "get", "tsk-mine"]).status, Some(0));
    }
    let ran = server.run(&["ask", BALANCE, "--task-id", "tsk-a", "--task", "tsk-b"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    let ran = server.run(&["ask", BALANCE, "--task-id", ""]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
}

#[test]
fn a_task_is_looked_at_and_canceled() {
    let server = Server::start(&["--agent-delay", "60s"]);
    let asking = server
        .command(["ask", BALANCE])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = server.task_id();
    let canceled = server.run(&["task", "cancel", &id]);
    assert_eq!(canceled.status, Some(0), "{canceled:?}");
    assert_eq!(server.state()["tasks"][0]["status"]["state"], "CANCELED");
    assert_eq!(end_of(asking).status, Some(3), "the one who asked hears of it");

    let lookup = server.run(&["task", "get", &id, "--output", "json"]);
    assert_eq!(lookup.status, Some(3), "{lookup:?}");
    let reply: serde_json::Value = serde_json::from_str(&lookup.out).unwrap();
    assert_eq!(
        (reply["taskId"].as_str(), reply["status"].as_str()),
        (Some(id.as_str()), Some("CANCELED"))
    );
    assert_eq!(
        server.run(&["task", "cancel", &id]).status,
        Some(1),
        "there is nothing left to cancel"
    );
}

#[test]
fn missing_credentials_are_named() {
    let place = Place::new();
    let ran = place.run(&["ask", BALANCE]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    assert!(
        ran.err.contains("PAYMAN_CLIENT_ID, PAYMAN_CLIENT_SECRET")
            && ran.err.contains("--emulator"),
        "{ran:?}"
    );

    let mut command = place.command(["ask", BALANCE]);
    command.env("PAYMAN_CLIENT_ID", "an-app").env("PAYMAN_CLIENT_SECRET", "");
    let ran = finish(command);
    assert_eq!(ran.status, Some(2));
    assert!(
        ran.err.contains("PAYMAN_CLIENT_SECRET") && !ran.err.contains("PAYMAN_CLIENT_ID"),
        "{ran:?}"
    );
}

#[test]
fn a_port_that_is_taken_is_told_of() {
    let server = Server::start(&[]);
    let port = server.base_url.rsplit(':').next().unwrap();
    let ran = Place::new().run(&["emulator", "--port", port]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains(port) && ran.err.contains("another --port"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn the_emulator_ends_when_it_is_told_to() {
    for name in ["INT", "TERM"] {
        let server = Server::start(&["--port", "0"]);
        crate::support::signal(name, server.id());
        assert!(server.wait().success());
    }
}
