//! Options, variables and help.

use serde_json::json;

use crate::support::{BALANCE, Place, Server, finish};

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
fn the_command_line_wins_over_variables_and_blank_ones_are_none() {
    let server = Server::start(&[]);
    let mut command = server.command(["ask", BALANCE, "--base-url", &server.base_url]);
    command
        .env("PAYMAN_EMULATOR", "true")
        .env("PAYMAN_ENVIRONMENT", "test")
        .env("PAYMAN_TIMEOUT", "")
        .env("PAYMAN_STREAM", "");
    let ran = finish(command);
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(server.state()["tasks"].as_array().unwrap().len(), 1);

    let mut command = server.command(["ask", BALANCE, "--emulator"]);
    command.env("PAYMAN_OUTPUT", "json");
    let ran = finish(command);
    assert!(
        ran.status == Some(0) && ran.out.starts_with('{') && ran.err.contains("emulator"),
        "{ran:?}"
    );
    assert_eq!(server.state()["tasks"].as_array().unwrap().len(), 1, "the other one was asked");
}

#[test]
fn every_option_has_a_variable() {
    let place = Place::new();
    for command in COMMANDS {
        let help = place.run(&[command, &["--help"]].concat()).out;
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
    let place = Place::new();
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let mut help = place.command(command.iter().chain(&[flag]));
            help.env("PAYMAN_CLIENT_SECRET", "hush-1")
                .env("PAYMAN_ACCESS_TOKEN", "hush-2")
                .env("PAYMAN_REFRESH_TOKEN", "hush-3")
                .env("PAYMAN_EMULATOR_CREDENTIALS", "a:hush-4");
            let ran = finish(help);
            assert_eq!(ran.status, Some(0));
            assert!(!ran.out.contains("hush"), "{command:?}");
        }
    }
}

#[test]
fn the_log_shows_neither_secrets_nor_what_is_said() {
    let server = Server::start(&[]);
    let ran = server.run(&["ask", "Create payee Hildegard", "-vv"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.err.contains("payman_sdk"), "{ran:?}");
    let token = server.run(&["token", "--reveal"]).out;
    assert!(!token.trim().is_empty());
    for hidden in ["hush-secret", "Hildegard"] {
        assert!(!ran.err.contains(hidden), "{ran:?}");
    }
}

#[test]
fn completions_are_those_of_each_shell() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = place.run(&["completions", shell]);
        assert_eq!(ran.status, Some(0));
        assert!(ran.out.contains("payman") && ran.out.contains("new-session"), "{shell}");
    }
}

#[test]
fn the_emulators_settings_are_kept() {
    let server = Server::start(&["--approval-limit", "10", "--without", "get,cancel"]);
    server.run(&["ask", "Create payee Tyllen"]);
    let ran = server.run(&["ask", "Pay Tyllen $50"]);
    assert!(ran.status == Some(0) && ran.out.contains("approval"), "{ran:?}");
    let ran = server.run(&["task", "get", "tsk-any"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.err.contains("transactions"), "{ran:?}");

    let server = Server::start(&["--scopes", "read_balance"]);
    assert_eq!(server.run(&["ask", "Create payee Tyllen"]).status, Some(3));
    assert!(server.state()["payees"].as_array().unwrap().is_empty());

    let wrong: [&[&str]; 4] = [
        &["--fault", r#"{"on": "sned", "close": true}"#],
        &["--states", "mixed"],
        &["--credentials", "no-secret"],
        &["--balance", "much"],
    ];
    for args in wrong {
        assert_eq!(Place::new().run(&[&["emulator"], args].concat()).status, Some(2), "{args:?}");
    }
}

#[test]
fn a_command_that_is_misspelled_is_suggested_and_help_is_a_command() {
    let place = Place::new();
    for (wrong, right) in [("aks", "ask"), ("ak", "ask"), ("chta", "chat"), ("wohami", "whoami")] {
        let ran = place.run(&[wrong, BALANCE]);
        assert_eq!(ran.status, Some(2), "{ran:?}");
        assert!(ran.err.contains(&format!("'{right}'")), "{ran:?}");
    }
    let ran = place.run(&["frobnicate"]);
    assert!(ran.status == Some(2) && !ran.err.contains("similar"), "{ran:?}");
    let ran = place.run(&["help", "ask"]);
    assert!(ran.status == Some(0) && ran.out.contains("--part-metadata"), "{ran:?}");
}

#[test]
fn a_variable_that_cannot_be_used_is_named() {
    for (name, value) in [
        ("PAYMAN_TIMEOUT", "abc"),
        ("PAYMAN_ENVIRONMENT", "moon"),
        ("PAYMAN_OUTPUT", "yaml"),
        ("PAYMAN_EXPIRES_IN", "soon"),
        ("PAYMAN_METADATA", "novalue"),
        ("PAYMAN_EMULATOR", "perhaps"),
    ] {
        let place = Place::new();
        let mut command = place.command(["ask", BALANCE]);
        command.env(name, value);
        let ran = finish(command);
        assert!(ran.status == Some(2) && ran.err.contains(name), "{name} {ran:?}");

        // The variable is not to blame where the command line has the option.
        place.write(".env", &format!("{name}='{value}'\n"));
        let ran = place.run(&["ask", BALANCE]);
        assert!(ran.status == Some(2) && ran.err.contains(name), ".env {name} {ran:?}");
    }
    let place = Place::new();
    let mut command = place.command(["ask", BALANCE, "--timeout", "soon"]);
    command.env("PAYMAN_TIMEOUT", "5s");
    let ran = finish(command);
    assert!(ran.status == Some(2) && !ran.err.contains("PAYMAN_TIMEOUT"), "{ran:?}");
}

#[test]
fn help_shows_only_what_has_an_effect() {
    let place = Place::new();
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
            let help = place.run(&args).out;
            for option in useless {
                assert!(!help.contains(option), "{command} {flag}: {help}");
            }
            assert!(help.contains("--verbose"), "{help}");
        }
    }
    let lines = place.run(&["emulator", "--help"]).out.lines().count();
    assert!(lines < 200, "{lines}");
}

#[test]
fn help_warns_of_double_quotes_and_tells_where_test_money_comes_from() {
    let place = Place::new();
    for flag in ["-h", "--help"] {
        let help = place.run(&["ask", flag]).out;
        assert!(help.contains("SINGLE quotes") && help.contains("$250"), "{help}");
    }
    for flag in ["-h", "--help"] {
        let help = place.run(&[flag]).out;
        assert!(help.contains("pm-test-") && help.contains("double quotes"), "{help}");
        let help = place.run(&["batch", flag]).out;
        assert!(help.contains("SINGLE quotes") && help.contains("$250"), "{help}");
    }
}

#[test]
fn numbers_in_metadata_are_sent_as_written() {
    let server = Server::start(&[]);
    let ran = server.run(&[
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
    assert_eq!(ran.status, Some(0), "{ran:?}");
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
fn colors_are_off_where_they_are_not_wanted() {
    let server = Server::start(&[]);
    let ran = server.run(&["ask", BALANCE, "-v"]);
    assert!(ran.err.contains("payman_sdk") && !ran.err.contains('\u{1b}'), "{ran:?}");
}
