//! Tests which settings the program takes from a file `.env` in the current folder.

use std::net::TcpListener;

use crate::support::{BALANCE, EmulatorProcess, Workspace, run_command};

#[test]
fn the_file_sets_variables_that_the_environment_does_not_set() {
    let server = EmulatorProcess::start(&["--credentials", "an-app:right"]);
    let workspace = Workspace::new();
    let url = &server.base_url;
    workspace.write(
        ".env",
        &format!(
            "PAYMAN_BASE_URL={url}\nexport PAYMAN_CLIENT_ID = an-app # a comment\n\
             PAYMAN_CLIENT_SECRET='right'\n"
        ),
    );
    let result = workspace.run(&["ask", BALANCE]);
    assert_eq!(result.status, Some(0), "{result:?}");

    // A blank variable counts as unset.
    let mut command = workspace.command(["ask", BALANCE]);
    command.env("PAYMAN_CLIENT_SECRET", " ");
    assert_eq!(run_command(command).status, Some(0));

    // The environment takes precedence.
    let mut command = workspace.command(["ask", BALANCE]);
    command.env("PAYMAN_BASE_URL", url).env("PAYMAN_CLIENT_SECRET", "wrong");
    assert_eq!(run_command(command).status, Some(5));

    // A file in a parent folder is ignored.
    let below = workspace.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut command = workspace.command(["ask", BALANCE]);
    command.current_dir(below);
    assert_eq!(run_command(command).status, Some(2));
}

#[test]
fn an_invalid_line_is_not_quoted() {
    let workspace = Workspace::new();
    workspace.write(".env", "PAYMAN_CLIENT_ID=an-app\nPAYMAN_CLIENT_SECRET='hush-secret\n");
    let result = workspace.run(&["ask", BALANCE]);
    assert_eq!(result.status, Some(2), "{result:?}");
    assert!(result.err.contains("PAYMAN_CLIENT_ID") && !result.err.contains("hush"), "{result:?}");
    assert_eq!(workspace.run(&["--help"]).status, Some(0), "help needs no file");
}

#[test]
fn a_destination_is_used_only_with_credentials_of_the_same_file() {
    let server = EmulatorProcess::start(&[]);
    let url = &server.base_url;
    let destination = format!("PAYMAN_BASE_URL={url}\n");
    let with_id = format!("{destination}PAYMAN_CLIENT_ID=an-app\n");
    let with_secret = format!("{with_id}PAYMAN_CLIENT_SECRET=theirs\n");
    let with_token = format!("{with_id}PAYMAN_ACCESS_TOKEN=theirs\n");
    let expanded = format!("{with_id}PAYMAN_CLIENT_SECRET=${{PAYMAN_CLIENT_SECRET}}\n");
    let refused: [(&str, &[(&str, &str)]); 6] = [
        (&destination, &[("PAYMAN_CLIENT_ID", "an-app"), ("PAYMAN_CLIENT_SECRET", "hush")]),
        (&with_secret, &[("PAYMAN_CLIENT_SECRET", "hush")]),
        (&with_secret, &[("PAYMAN_ACCESS_TOKEN", "hush")]),
        (&with_token, &[("PAYMAN_CLIENT_SECRET", "hush")]),
        (&with_token, &[("PAYMAN_REFRESH_TOKEN", "hush")]),
        (&expanded, &[("PAYMAN_CLIENT_SECRET", "hush")]),
    ];
    for (file, variables) in refused {
        let workspace = Workspace::new();
        workspace.write(".env", file);
        for command in ["ask", "token", "whoami"] {
            let mut args = vec![command];
            args.extend((command == "ask").then_some(BALANCE));
            let mut command = workspace.command(args);
            command.envs(variables.iter().copied());
            let result = run_command(command);
            assert_eq!((result.status, result.out.as_str()), (Some(2), ""), "{file} {result:?}");
            assert!(result.err.contains(".env") && !result.err.contains("hush"), "{result:?}");
        }
        let mut connect = workspace.command(["connect", "--port", "0", "--timeout", "1s"]);
        connect.envs(variables.iter().copied());
        assert_eq!(run_command(connect).status, Some(2), "{file}");
    }
    assert_eq!(server.state()["tokenRequests"], 0);

    // The environment's choice of a platform takes precedence over the file's base URL.
    let workspace = Workspace::new();
    workspace.write(".env", "PAYMAN_BASE_URL=http://127.0.0.1:1\n");
    let mut command = workspace.command(["whoami"]);
    command
        .env("PAYMAN_ENVIRONMENT", "test")
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_CLIENT_SECRET", "hush");
    let result = run_command(command);
    assert!(result.status == Some(0) && result.out.contains("agent.payman.dev"), "{result:?}");
}

#[test]
fn a_platform_named_in_the_file_counts_as_a_destination() {
    let workspace = Workspace::new();
    workspace.write(".env", "PAYMAN_ENVIRONMENT=test\n");
    let mut command = workspace.command(["whoami"]);
    command.env("PAYMAN_CLIENT_ID", "an-app").env("PAYMAN_CLIENT_SECRET", "hush");
    let result = run_command(command);
    assert!(result.status == Some(2) && result.err.contains("PAYMAN_ENVIRONMENT"), "{result:?}");
}

#[test]
fn other_variables_are_ignored() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = proxy.local_addr().unwrap();
    let workspace = Workspace::new();
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let lines: String = names.iter().map(|name| format!("{name}=http://{address}\n")).collect();
    workspace.write(".env", &format!("{lines}SSL_CERT_FILE=/nowhere\nnot a line at all\n"));
    let mut command = workspace.command(["ask", BALANCE, "--timeout", "3s"]);
    command
        .env("PAYMAN_BASE_URL", "https://payman.invalid")
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_CLIENT_SECRET", "hush");
    let result = run_command(command);
    assert_eq!(result.status, Some(1), "{result:?}");
    assert!(proxy.accept().is_err(), "the proxy of the file was used");
}
