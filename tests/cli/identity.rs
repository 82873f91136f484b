//! Tests which account a command acts as, and that it never falls back to the app.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sign_in::connect;
use crate::support::{BALANCE, EmulatorProcess, ProgramOutput, Workspace, run_command};

#[test]
fn whoami_names_the_account_and_the_platform() {
    let server = EmulatorProcess::start(&[]);
    let url = &server.base_url;
    let text = server.run(&["whoami"]);
    assert_eq!(text.status, Some(0), "{text:?}");
    assert_eq!(text.out, format!("As the app an-app, on {url} (this machine).\n"));
    let whoami = |args: &[&str]| -> Value {
        let result = server.run(&[&["whoami", "--output", "json"], args].concat());
        assert_eq!((result.status, result.err.as_str()), (Some(0), ""), "{result:?}");
        serde_json::from_str(&result.out).unwrap()
    };
    assert_eq!(
        whoami(&[]),
        json!({
            "account": "app",
            "clientId": "an-app",
            "platform": "this machine",
            "baseUrl": url,
            "baseUrlFrom": "PAYMAN_BASE_URL",
            "credentialsFrom": "PAYMAN_CLIENT_SECRET",
            "tokenFile": null,
        })
    );
    let bearer = whoami(&["--access-token", "hush-token", "--environment", "live"]);
    assert_eq!(bearer["account"], "tokenBearer");
    assert_eq!(bearer["credentialsFrom"], "--access-token");
    assert_eq!(
        (&bearer["platform"], &bearer["baseUrlFrom"]),
        (&json!("live"), &json!("--environment"))
    );
    assert!(!bearer.to_string().contains("hush"));

    connect(&server);
    let user = whoami(&[]);
    assert_eq!(user["account"], "connectedUser");
    assert!(user["tokenFile"].as_str().unwrap().ends_with("tokens.json"), "{user}");
    assert_eq!(whoami(&["--as-app"])["account"], "app");
    assert_eq!(server.state()["tokenRequests"], 1, "only connecting needs the network");
}

/// Runs an ask that has to be refused, and checks that nothing was sent.
fn refused(server: &EmulatorProcess, args: &[&str]) -> ProgramOutput {
    let requests = server.state()["tokenRequests"].clone();
    let result = server.run(&[&["ask", BALANCE], args].concat());
    assert!(result.status != Some(0) && result.out.is_empty(), "{args:?} {result:?}");
    assert!(result.err.contains("--as-app"), "{args:?} {result:?}");
    let state = server.state();
    assert!(state["tasks"].as_array().unwrap().is_empty(), "{result:?}");
    assert_eq!(state["tokenRequests"], requests, "{result:?}");
    result
}

#[test]
fn an_unusable_token_file_never_falls_back_to_the_app() {
    let server = EmulatorProcess::start(&[]);
    let workspace = server.workspace();
    // Without a token file, the app's own account is used.
    assert_eq!(server.run(&["whoami"]).status, Some(0));

    workspace.write("blank.json", " \n");
    workspace.write("garbled.json", "{\"version\": 1, \"tok");
    workspace.write("foreign.json", "{\"version\": 9, \"tokens\": {}}");
    std::fs::create_dir(workspace.path().join("folder.json")).unwrap();
    for file in ["blank.json", "garbled.json", "foreign.json", "folder.json", "absent.json"] {
        let result = refused(&server, &["--token-file", file]);
        assert!(result.err.contains(file), "{result:?}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", workspace.path().join("dangling.json")).unwrap();
        refused(&server, &["--token-file", "dangling.json"]);
    }

    // The same holds for the default token file.
    let folder = workspace.path().join(".config/payman");
    std::fs::create_dir_all(&folder).unwrap();
    if cfg!(target_os = "linux") {
        std::fs::write(folder.join("tokens.json"), "").unwrap();
        refused(&server, &[]);
        assert_eq!(server.run(&["ask", BALANCE, "--as-app"]).status, Some(0));
    }
}

#[test]
fn another_spelling_of_the_host_never_falls_back_to_the_app() {
    let server = EmulatorProcess::start(&[]);
    connect(&server);
    let port = server.base_url.rsplit(':').next().unwrap();
    for same in [format!("http://127.0.0.1:{port}/"), format!(" HTTP://127.1:{port}")] {
        let result = server.run(&["whoami", "--base-url", &same]);
        assert!(result.status == Some(0) && result.out.contains("the user"), "{same} {result:?}");
    }
    for other in [
        format!("http://localhost:{port}"),
        format!("http://LOCALHOST:{port}/"),
        format!("http://127.0.0.2:{port}"),
        format!("http://127.0.0.1:{port}/v1"),
    ] {
        let result = refused(&server, &["--base-url", &other]);
        assert!(result.err.contains(&server.base_url), "{other} {result:?}");
    }
    // Another emulator counts as another platform.
    let another = EmulatorProcess::start(&[]);
    let result = server.run(&["whoami", "--base-url", &another.base_url]);
    assert!(result.status == Some(0) && result.out.contains("the app"), "{result:?}");
}

#[test]
fn the_time_limit_holds_while_the_token_endpoint_hangs() {
    let server = EmulatorProcess::start(&["--token-lifetime", "1s"]);
    connect(&server);
    std::thread::sleep(Duration::from_millis(1100));
    server.faults(r#"{"on": "token", "stall": true, "times": 50}"#);
    for args in [
        &["ask", BALANCE][..],
        &["ask", "--stream", BALANCE],
        &["token"],
        &["task", "get", "tsk-1"],
        &["ask", BALANCE, "--as-app"],
    ] {
        let started = Instant::now();
        let result = server.run(&[args, &["--timeout", "2s"]].concat());
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{args:?} took {took:?}: {result:?}");
        assert!(!matches!(result.status, Some(0) | None), "{args:?} {result:?}");
    }
}

#[test]
fn an_error_names_the_variable_that_a_stale_token_came_from() {
    let server = EmulatorProcess::start(&[]);
    let mut command = server.command(["ask", BALANCE]);
    command.env("PAYMAN_ACCESS_TOKEN", "stale");
    let result = run_command(command);
    assert_eq!(result.status, Some(5), "{result:?}");
    assert!(
        result.err.contains("PAYMAN_ACCESS_TOKEN") && !result.err.contains("stale"),
        "{result:?}"
    );

    let result = server.run(&["ask", BALANCE, "--access-token", "stale"]);
    assert!(result.status == Some(5) && result.err.contains("--access-token"), "{result:?}");

    let mut command = server.command(["connect", "--port", "0", "--timeout", "500ms"]);
    command.env("PAYMAN_ACCESS_TOKEN", "stale");
    let result = run_command(command);
    assert!(
        result.err.contains("Warning") && result.err.contains("PAYMAN_ACCESS_TOKEN"),
        "{result:?}"
    );
}

#[test]
fn an_unreachable_server_is_named_with_the_origin_of_its_address() {
    let workspace = Workspace::new();
    let run = |url: &str, as_option: bool| {
        let mut command = workspace.command(["ask", BALANCE, "--timeout", "5s"]);
        command.env("PAYMAN_CLIENT_ID", "an-app").env("PAYMAN_CLIENT_SECRET", "hush");
        if as_option {
            command.args(["--base-url", url]);
        } else {
            command.env("PAYMAN_BASE_URL", url);
        }
        run_command(command)
    };
    let refused = run("http://127.0.0.1:1", false);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    for part in ["http://127.0.0.1:1", "PAYMAN_BASE_URL", "payman emulator --port 1"] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    let unresolved = run("https://payman.invalid", true);
    assert_eq!(unresolved.status, Some(1), "{unresolved:?}");
    for part in ["https://payman.invalid", "--base-url"] {
        assert!(unresolved.err.contains(part), "{part}: {unresolved:?}");
    }
    assert!(!unresolved.err.contains("payman emulator"), "{unresolved:?}");
}
