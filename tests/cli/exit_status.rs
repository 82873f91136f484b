//! Tests exit statuses and signals.

use std::io::Write;
use std::process::Stdio;

use crate::support::{
    BALANCE, EmulatorProcess, Workspace, run_command, run_with_input, spawn_with_pipes,
    wait_for_output,
};

#[test]
fn status_1_is_any_other_error() {
    let server = EmulatorProcess::start(&[]);
    let unknown = server.run(&["task", "get", "tsk-none"]);
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
    assert!(unknown.err.starts_with("payman: ") && unknown.out.is_empty(), "{unknown:?}");

    // Uses port 1, because other tests could bind a port that is free now.
    let mut command = server.command(["ask", BALANCE, "--timeout", "5s"]);
    command.env("PAYMAN_BASE_URL", "http://127.0.0.1:1");
    let refused = run_command(command);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.err.contains("refused") && refused.err.contains("Nothing was"), "{refused:?}");
}

#[test]
fn status_2_is_a_usage_error() {
    let server = EmulatorProcess::start(&[]);
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
        let result = server.run(args);
        assert_eq!((result.status, result.out.as_str()), (Some(2), ""), "{args:?} {result:?}");
        assert!(!result.err.is_empty(), "{args:?}");
    }
    assert!(server.state()["tasks"].as_array().unwrap().is_empty());
}

#[test]
fn status_3_is_a_failed_task() {
    let server = EmulatorProcess::start(&["--balance", "10.00"]);
    assert_eq!(server.run(&["ask", "Create payee Tyllen"]).status, Some(0));
    for flags in [
        &[][..],
        &["--stream"],
        &["--output", "json"],
        &["--output", "raw"],
        &["--output", "events"],
    ] {
        let result = server.run(&[&["ask", "Pay Tyllen $50"], flags].concat());
        assert_eq!(result.status, Some(3), "{flags:?} {result:?}");
        assert!(!result.out.is_empty() && result.err.contains("failed"), "{result:?}");
    }
    assert!(server.state()["payments"].as_array().unwrap().is_empty());
}

#[test]
fn status_5_is_an_authorization_error() {
    let server = EmulatorProcess::start(&["--credentials", "an-app:another-secret"]);
    let result = server.run(&["ask", BALANCE]);
    assert_eq!((result.status, result.out.as_str()), (Some(5), ""), "{result:?}");
    assert!(
        result.err.contains("PAYMAN_CLIENT_SECRET") && !result.err.contains("hush"),
        "{result:?}"
    );

    let server = EmulatorProcess::start(&[]);
    server.faults(r#"{"on": "send", "status": 401, "times": 5}"#);
    assert_eq!(server.run(&["ask", BALANCE]).status, Some(5));
}

#[test]
fn status_6_is_an_unknown_outcome_with_a_command_that_looks_it_up() {
    let server = EmulatorProcess::start(&[]);
    server.run(&["ask", "Create payee Tyllen"]);
    let faults = r#"[{"on": "send", "when": "after", "close": true},
        {"on": "get", "times": 500, "status": 500}]"#;
    server.faults(faults);
    let result = server.run(&["ask", "Pay Tyllen $50", "--timeout", "3s"]);
    assert_eq!((result.status, result.out.as_str()), (Some(6), ""), "{result:?}");
    let id = server.state()["tasks"][1]["id"].as_str().unwrap().to_owned();
    assert!(result.err.contains("MAY HAVE BEEN DONE"), "{result:?}");
    let command =
        result.err.lines().find_map(|line| line.trim().strip_prefix("payman ")).expect(&result.err);
    assert_eq!(command, format!("task get {id}"));

    // The payment was made once. A lookup that fails is an ordinary error.
    let state = server.state();
    assert_eq!(
        (state["payments"].as_array().unwrap().len(), state["sends"][&id].as_u64()),
        (1, Some(1))
    );
    let args: Vec<_> = command.split(' ').chain(["--timeout", "1s"]).collect();
    assert_eq!(server.run(&args).status, Some(1));
}

#[test]
fn a_lost_answer_is_looked_up_and_never_resent() {
    let server = EmulatorProcess::start(&[
        "--fault",
        r#"[{"on": "send", "skip": 1, "when": "after", "close": true}]"#,
    ]);
    server.run(&["ask", "Create payee Tyllen"]);
    let result = server.run(&["ask", "Pay Tyllen $50"]);
    assert_eq!(result.status, Some(0), "{result:?}");
    assert!(result.out.contains("$50.00"), "{result:?}");
    assert_eq!(server.state()["payments"].as_array().unwrap().len(), 1);

    server.faults(r#"{"on": "sendSubscribe", "cutAfter": 700}"#);
    let result = server.run(&["ask", "--stream", BALANCE]);
    assert_eq!(
        (result.status, result.out.as_str()),
        (Some(0), "You have $999,950.00 in your wallet \"Main wallet\".\n")
    );
}

#[test]
fn an_ask_past_its_deadline_has_an_unknown_outcome() {
    let server = EmulatorProcess::start(&["--agent-delay", "60s"]);
    for flags in [&[][..], &["--stream"], &["--output", "raw"]] {
        let result = server.run(&[&["ask", BALANCE, "--timeout", "500ms"], flags].concat());
        assert_eq!(result.status, Some(6), "{flags:?} {result:?}");
        assert!(result.err.contains("payman task get tsk-"), "{result:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_during_an_ask_prints_how_to_look_it_up() {
    let server = EmulatorProcess::start(&["--agent-delay", "60s"]);
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
            crate::support::send_signal(name, child.id());
            let result = wait_for_output(child);
            assert_eq!((result.status, result.out.as_str()), (Some(6), ""), "{name} {result:?}");
            let command = format!("payman task get {id} --base-url {}", server.base_url);
            assert!(result.err.contains(&command), "{name} {result:?}");

            let lookup = server.run(&["task", "get", &id]);
            assert_eq!(lookup.status, Some(6), "it still runs: {lookup:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_signal_during_a_piped_conversation_prints_how_to_look_it_up() {
    let server = EmulatorProcess::start(&["--agent-delay", "60s"]);
    for name in ["INT", "TERM", "HUP"] {
        server.reset();
        let mut child = spawn_with_pipes(server.command(["chat"]));
        // The pipe stays open, like that of a script that would send more lines.
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{BALANCE}").unwrap();
        let id = server.task_id();
        crate::support::send_signal(name, child.id());
        let result = wait_for_output(child);
        // Ctrl-C cancels the task; the other signals leave it running.
        let expected = if name == "INT" { 3 } else { 6 };
        assert_eq!(result.status, Some(expected), "{name} {result:?}");
        if name != "INT" {
            assert!(result.err.contains(&format!("payman task get {id}")), "{name} {result:?}");
        }
        drop(input);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_hang_up_stays_ignored() {
    let server = EmulatorProcess::start(&["--agent-delay", "1500ms"]);
    let program = env!("CARGO_BIN_EXE_payman");
    let ask = format!("trap '' HUP; exec {program} ask '{BALANCE}'");
    let mut command = server.command(Vec::<&str>::new());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &ask]).current_dir(server.workspace().path()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child =
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.task_id();
    crate::support::send_signal("HUP", child.id());
    let result = wait_for_output(child);
    assert!(result.status == Some(0) && result.out.contains("$1,000,000.00"), "{result:?}");
    command.stdin(Stdio::null());
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_unknown_outcome() {
    let server = EmulatorProcess::start(&[]);
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
        let result = wait_for_output(child);
        let id = server.state()["tasks"][asks]["id"].as_str().unwrap().to_owned();
        assert_eq!(result.status, Some(6), "{flags:?} {result:?}");
        assert!(result.err.contains(&format!("payman task get {id}")), "{flags:?} {result:?}");
        asks += 1;
    }

    // A conversation ends at that point, and sends no more asks.
    let mut command = server.command(["chat"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = "Pay Tyllen $50\nPay Tyllen $60\nPay Tyllen $70\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let result = wait_for_output(child);
    assert_eq!(result.status, Some(6), "{result:?}");
    let state = server.state();
    let id = state["tasks"][asks]["id"].as_str().unwrap();
    assert!(result.err.contains(&format!("payman task get {id}")), "{result:?}");
    assert!(result.err.contains("2 more lines were not sent"), "{result:?}");
    assert_eq!(state["tasks"].as_array().unwrap().len(), asks + 1);

    // If no ask was sent, output that cannot be written is an ordinary error.
    let child = server.command(["token"]).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(wait_for_output(child).status, Some(1));
}

#[test]
fn a_piped_conversation_ends_with_the_first_failure() {
    let workspace = Workspace::new();
    let mut command = workspace.command(["chat"]);
    command
        .env("PAYMAN_BASE_URL", "http://127.0.0.1:1")
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_CLIENT_SECRET", "hush");
    let lines = format!("{BALANCE}\nList all payees\n\nList all wallets\n");
    let result = run_with_input(command, lines.as_bytes());
    assert_eq!(result.status, Some(1), "{result:?}");
    assert!(result.err.contains("2 more lines were not sent"), "{result:?}");

    // Without a failure, the exit status is that of the last answer.
    let server = EmulatorProcess::start(&["--balance", "10.00"]);
    let lines = "Create payee Tyllen\nPay Tyllen $50\n";
    let result = run_with_input(server.command(["chat"]), lines.as_bytes());
    assert_eq!(result.status, Some(3), "{result:?}");
    let result = run_with_input(server.command(["chat"]), "Pay Nobody $5\n".as_bytes());
    assert_eq!(result.status, Some(4), "{result:?}");
    let result =
        run_with_input(server.command(["chat"]), b"Pay Anyone $5\n/skip\nList all payees\n");
    assert!(result.status == Some(0) && result.out.contains("Tyllen"), "{result:?}");
}

#[test]
fn no_ask_is_sent_after_the_output_pipe_is_closed() {
    let server = EmulatorProcess::start(&["--agent-delay", "300ms"]);
    let mut child = spawn_with_pipes(server.command(["chat"]));
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "Create payee Tyllen\nPay Tyllen $50").unwrap();
    drop(input);
    let result = wait_for_output(child);
    assert_eq!(result.status, Some(1), "{result:?}");
    assert_eq!(server.state()["tasks"].as_array().unwrap().len(), 1, "{result:?}");
}

#[test]
fn a_script_can_choose_the_task_id_in_advance() {
    let server = EmulatorProcess::start(&[]);
    for flags in [&[][..], &["--stream"], &["--output", "raw"]] {
        server.reset();
        let result = server.run(&[&["ask", BALANCE, "--task-id", "tsk-mine"], flags].concat());
        assert_eq!(result.status, Some(0), "{result:?}");
        assert_eq!(server.state()["tasks"][0]["id"], "tsk-mine");
        assert_eq!(server.run(&["task", "get", "tsk-mine"]).status, Some(0));
    }
    let result = server.run(&["ask", BALANCE, "--task-id", "tsk-a", "--task", "tsk-b"]);
    assert_eq!(result.status, Some(2), "{result:?}");
    let result = server.run(&["ask", BALANCE, "--task-id", ""]);
    assert_eq!(result.status, Some(2), "{result:?}");
}

#[test]
fn a_task_is_looked_up_and_canceled() {
    let server = EmulatorProcess::start(&["--agent-delay", "60s"]);
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
    assert_eq!(wait_for_output(asking).status, Some(3), "the one who asked hears of it");

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
    let workspace = Workspace::new();
    let result = workspace.run(&["ask", BALANCE]);
    assert_eq!((result.status, result.out.as_str()), (Some(2), ""), "{result:?}");
    assert!(
        result.err.contains("PAYMAN_CLIENT_ID, PAYMAN_CLIENT_SECRET")
            && result.err.contains("--emulator"),
        "{result:?}"
    );

    let mut command = workspace.command(["ask", BALANCE]);
    command.env("PAYMAN_CLIENT_ID", "an-app").env("PAYMAN_CLIENT_SECRET", "");
    let result = run_command(command);
    assert_eq!(result.status, Some(2));
    assert!(
        result.err.contains("PAYMAN_CLIENT_SECRET") && !result.err.contains("PAYMAN_CLIENT_ID"),
        "{result:?}"
    );
}

#[test]
fn a_port_in_use_is_reported() {
    let server = EmulatorProcess::start(&[]);
    let port = server.base_url.rsplit(':').next().unwrap();
    let result = Workspace::new().run(&["emulator", "--port", port]);
    assert_eq!((result.status, result.out.as_str()), (Some(1), ""), "{result:?}");
    assert!(result.err.contains(port) && result.err.contains("another --port"), "{result:?}");
}

#[cfg(unix)]
#[test]
fn the_emulator_ends_on_a_signal() {
    for name in ["INT", "TERM"] {
        let server = EmulatorProcess::start(&["--port", "0"]);
        crate::support::send_signal(name, server.id());
        assert!(server.wait().success());
    }
}
