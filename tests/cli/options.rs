//! Tests options, environment variables and help.

use serde_json::json;

use crate::support::{BALANCE, EmulatorProcess, Workspace, run_command};

const COMMANDS: [&[&str]; 10] = [
    &[],
    &["ask"],
    &["chat"],
    &["task", "get"],
    &["task", "cancel"],
    &["token"],
    &["whoami"],
    &["connect"],
    &["emulator"],
    &["completions"],
];

#[test]
fn options_override_variables_and_blank_variables_are_unset() {
    let server = EmulatorProcess::start(&[]);
    let mut command = server.command(["ask", BALANCE, "--base-url", &server.base_url]);
    command
        .env("PAYMAN_EMULATOR", "true")
        .env("PAYMAN_ENVIRONMENT", "test")
        .env("PAYMAN_TIMEOUT", "")
        .env("PAYMAN_STREAM", "");
    let result = run_command(command);
    assert_eq!((result.status, result.err.as_str()), (Some(0), ""), "{result:?}");
    assert_eq!(server.state()["tasks"].as_array().unwrap().len(), 1);

    let mut command = server.command(["ask", BALANCE, "--emulator"]);
    command.env("PAYMAN_OUTPUT", "json");
    let result = run_command(command);
    assert!(
        result.status == Some(0) && result.out.starts_with('{') && result.err.contains("emulator"),
        "{result:?}"
    );
    assert_eq!(server.state()["tasks"].as_array().unwrap().len(), 1, "the other one was asked");
}

#[test]
fn every_option_has_a_variable() {
    let workspace = Workspace::new();
    for command in COMMANDS {
        let help = workspace.run(&[command, &["--help"]].concat()).out;
        let mut blocks: Vec<String> = Vec::new();
        for line in help.lines() {
            if line.starts_with("  ")
                && line.trim_start().starts_with('-')
                && !line.trim_start().starts_with("- ")
            {
                blocks.push(String::new());
            }
            if let Some(block) = blocks.last_mut() {
                // The help is wrapped to the terminal's width.
                for word in line.split_whitespace() {
                    block.push_str(word);
                    block.push(' ');
                }
            }
        }
        assert!(blocks.len() > 2, "{help}");
        for block in
            blocks.iter().filter(|block| !block.contains("--help") && !block.contains("--version"))
        {
            assert!(block.contains("[env: PAYMAN_"), "{command:?}: {block}");
        }
    }
}

#[test]
fn help_shows_no_secret() {
    let workspace = Workspace::new();
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let mut help = workspace.command(command.iter().chain(&[flag]));
            help.env("PAYMAN_CLIENT_SECRET", "hush-1")
                .env("PAYMAN_ACCESS_TOKEN", "hush-2")
                .env("PAYMAN_REFRESH_TOKEN", "hush-3")
                .env("PAYMAN_EMULATOR_CREDENTIALS", "a:hush-4");
            let result = run_command(help);
            assert_eq!(result.status, Some(0));
            assert!(!result.out.contains("hush"), "{command:?}");
        }
    }
}

#[test]
fn the_log_shows_neither_secrets_nor_messages() {
    let server = EmulatorProcess::start(&[]);
    let result = server.run(&["ask", "Create payee Hildegard", "-vv"]);
    assert_eq!(result.status, Some(0));
    assert!(result.err.contains("payman_sdk"), "{result:?}");
    let token = server.run(&["token", "--reveal"]).out;
    assert!(!token.trim().is_empty());
    for hidden in ["hush-secret", "Hildegard"] {
        assert!(!result.err.contains(hidden), "{result:?}");
    }
}

#[test]
fn completions_are_generated_for_each_shell() {
    let workspace = Workspace::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let result = workspace.run(&["completions", shell]);
        assert_eq!(result.status, Some(0));
        assert!(result.out.contains("payman") && result.out.contains("new-session"), "{shell}");
    }
}

#[test]
fn the_emulators_settings_take_effect() {
    let server = EmulatorProcess::start(&["--approval-limit", "10", "--without", "get,cancel"]);
    server.run(&["ask", "Create payee Tyllen"]);
    let result = server.run(&["ask", "Pay Tyllen $50"]);
    assert!(result.status == Some(0) && result.out.contains("approval"), "{result:?}");
    let result = server.run(&["task", "get", "tsk-any"]);
    assert_eq!(result.status, Some(1), "{result:?}");
    assert!(result.err.contains("transactions"), "{result:?}");

    let server = EmulatorProcess::start(&["--scopes", "read_balance"]);
    assert_eq!(server.run(&["ask", "Create payee Tyllen"]).status, Some(3));
    assert!(server.state()["payees"].as_array().unwrap().is_empty());

    let wrong: [&[&str]; 4] = [
        &["--fault", r#"{"on": "sned", "close": true}"#],
        &["--states", "mixed"],
        &["--credentials", "no-secret"],
        &["--balance", "much"],
    ];
    for args in wrong {
        assert_eq!(
            Workspace::new().run(&[&["emulator"], args].concat()).status,
            Some(2),
            "{args:?}"
        );
    }
}

#[test]
fn a_misspelled_command_gets_a_suggestion_and_help_is_a_command() {
    let workspace = Workspace::new();
    for (wrong, right) in [("aks", "ask"), ("ak", "ask"), ("chta", "chat"), ("wohami", "whoami")] {
        let result = workspace.run(&[wrong, BALANCE]);
        assert_eq!(result.status, Some(2), "{result:?}");
        assert!(result.err.contains(&format!("'{right}'")), "{result:?}");
    }
    let result = workspace.run(&["frobnicate"]);
    assert!(result.status == Some(2) && !result.err.contains("similar"), "{result:?}");
    let result = workspace.run(&["help", "ask"]);
    assert!(result.status == Some(0) && result.out.contains("--part-metadata"), "{result:?}");
}

#[test]
fn an_invalid_variable_is_named() {
    for (name, value) in [
        ("PAYMAN_TIMEOUT", "abc"),
        ("PAYMAN_ENVIRONMENT", "moon"),
        ("PAYMAN_OUTPUT", "yaml"),
        ("PAYMAN_EXPIRES_IN", "soon"),
        ("PAYMAN_METADATA", "novalue"),
        ("PAYMAN_EMULATOR", "perhaps"),
    ] {
        let workspace = Workspace::new();
        let mut command = workspace.command(["ask", BALANCE]);
        command.env(name, value);
        let result = run_command(command);
        assert!(result.status == Some(2) && result.err.contains(name), "{name} {result:?}");

        // The variable is not named if the command line has the option.
        workspace.write(".env", &format!("{name}='{value}'\n"));
        let result = workspace.run(&["ask", BALANCE]);
        assert!(result.status == Some(2) && result.err.contains(name), ".env {name} {result:?}");
    }
    let workspace = Workspace::new();
    let mut command = workspace.command(["ask", BALANCE, "--timeout", "soon"]);
    command.env("PAYMAN_TIMEOUT", "5s");
    let result = run_command(command);
    assert!(result.status == Some(2) && !result.err.contains("PAYMAN_TIMEOUT"), "{result:?}");
}

#[test]
fn help_shows_only_what_has_an_effect() {
    let workspace = Workspace::new();
    for (command, useless) in [
        ("emulator", &["--client-secret", "--refresh-token", "--timeout", "--as-app"][..]),
        ("completions", &["--client-secret", "--base-url", "--token-file"]),
        ("journal", &["--client-secret", "--base-url", "--timeout"]),
        ("journal list", &["--client-secret", "--base-url", "--timeout"]),
        ("journal show", &["--client-secret", "--emulator", "--token-file"]),
        ("journal release", &["--client-secret", "--environment", "--as-app"]),
        ("journal forget", &["--client-secret", "--access-token", "--expires-in"]),
    ] {
        for flag in ["--help", "-h"] {
            let args: Vec<_> = command.split(' ').chain([flag]).collect();
            let help = workspace.run(&args).out;
            for option in useless {
                assert!(!help.contains(option), "{command} {flag}: {help}");
            }
            assert!(help.contains("--verbose"), "{help}");
        }
    }
    let lines = workspace.run(&["emulator", "--help"]).out.lines().count();
    assert!(lines < 200, "{lines}");
}

#[test]
fn help_warns_of_double_quotes_and_explains_test_money() {
    let workspace = Workspace::new();
    for flag in ["-h", "--help"] {
        let help = workspace.run(&["ask", flag]).out;
        assert!(help.contains("SINGLE quotes") && help.contains("$250"), "{help}");
    }
    for flag in ["-h", "--help"] {
        let help = workspace.run(&[flag]).out;
        assert!(help.contains("pm-test-") && help.contains("double quotes"), "{help}");
        let help = workspace.run(&["batch", flag]).out;
        assert!(help.contains("SINGLE quotes") && help.contains("$250"), "{help}");
    }
}

#[test]
fn numbers_in_metadata_are_sent_as_written() {
    let server = EmulatorProcess::start(&[]);
    let result = server.run(&[
        "ask",
        BALANCE,
        "--metadata",
        "order=20240000000000000000123",
        "--metadata",
        "sha=77950e8",
        "--metadata",
        "v=1.10",
        "--metadata",
        r#"{"nested": [1.10, {"id": 12345678901234567890123}, 5]}"#,
    ]);
    assert_eq!(result.status, Some(0), "{result:?}");
    let state = server.state();
    let id = state["tasks"][0]["id"].as_str().unwrap();
    assert_eq!(
        state["requestMetadata"][id][0],
        json!({
            "order": "20240000000000000000123",
            "sha": "77950e8",
            "v": "1.10",
            "nested": ["1.10", {"id": "12345678901234567890123"}, 5],
        })
    );
}

#[test]
fn colors_can_be_turned_off() {
    let server = EmulatorProcess::start(&[]);
    let result = server.run(&["ask", BALANCE, "-v"]);
    assert!(result.err.contains("payman_sdk") && !result.err.contains('\u{1b}'), "{result:?}");
}
