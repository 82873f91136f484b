//! Options, variables, `.env` and help.

use crate::support::{BALANCE, Place, Server, finish};

const COMMANDS: [&[&str]; 9] = [
    &[],
    &["ask"],
    &["chat"],
    &["task", "get"],
    &["task", "cancel"],
    &["token"],
    &["connect"],
    &["emulator"],
    &["completions"],
];

#[test]
fn a_dot_env_file_is_read_and_the_environment_wins_over_it() {
    let server = Server::start(&["--credentials", "an-app:right"]);
    let place = Place::new();
    let base_url = &server.base_url;
    place.write(
        ".env",
        &format!(
            "PAYMAN_BASE_URL={base_url}\nPAYMAN_CLIENT_ID=an-app\nPAYMAN_CLIENT_SECRET='right'\n"
        ),
    );
    let ran = place.run(&["ask", BALANCE]);
    assert_eq!(ran.status, Some(0), "{ran:?}");

    let mut command = place.command(["ask", BALANCE]);
    command.env("PAYMAN_CLIENT_SECRET", "wrong");
    assert_eq!(finish(command).status, Some(5));

    // Only the current folder's counts.
    let below = place.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut command = place.command(["ask", BALANCE]);
    command.current_dir(below);
    assert_eq!(finish(command).status, Some(2));
}

#[test]
fn a_dot_env_file_that_is_wrong_is_not_quoted() {
    let place = Place::new();
    place.write(".env", "PAYMAN_CLIENT_ID=an-app\nPAYMAN_CLIENT_SECRET='hush-secret\n");
    let ran = place.run(&["ask", BALANCE]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("PAYMAN_CLIENT_ID") && !ran.err.contains("hush"), "{ran:?}");
}

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
        assert!(blocks.len() > 10, "{help}");
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
    let looked = server.run(&["task", "get", "tsk-any"]);
    assert_eq!(looked.status, Some(1), "{looked:?}");
    assert!(looked.err.contains("transactions"), "{looked:?}");

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
