//! Whose account a command acts as, and that it is never the app by mistake.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sign_in::connect;
use crate::support::{BALANCE, Place, Ran, Server, finish};

#[test]
fn whoami_names_the_account_and_the_platform() {
    let server = Server::start(&[]);
    let url = &server.base_url;
    let text = server.run(&["whoami"]);
    assert_eq!(text.status, Some(0), "{text:?}");
    assert_eq!(text.out, format!("As the app an-app, on {url} (this machine).\n"));
    let whoami = |args: &[&str]| -> Value {
        let ran = server.run(&[&["whoami", "--output", "json"], args].concat());
        assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        serde_json::from_str(&ran.out).unwrap()
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

/// Runs an ask and checks that nothing was asked as anyone.
fn refused(server: &Server, args: &[&str]) -> Ran {
    let requests = server.state()["tokenRequests"].clone();
    let ran = server.run(&[&["ask", BALANCE], args].concat());
    assert!(ran.status != Some(0) && ran.out.is_empty(), "{args:?} {ran:?}");
    assert!(ran.err.contains("--as-app"), "{args:?} {ran:?}");
    let state = server.state();
    assert!(state["tasks"].as_array().unwrap().is_empty(), "{ran:?}");
    assert_eq!(state["tokenRequests"], requests, "{ran:?}");
    ran
}

#[test]
fn a_token_file_that_cannot_be_used_never_means_the_app() {
    let server = Server::start(&[]);
    let place = server.place();
    // No file, and none is named: nobody is connected.
    assert_eq!(server.run(&["whoami"]).status, Some(0));

    place.write("blank.json", " \n");
    place.write("garbled.json", "{\"version\": 1, \"tok");
    place.write("foreign.json", "{\"version\": 9, \"tokens\": {}}");
    std::fs::create_dir(place.path().join("folder.json")).unwrap();
    for file in ["blank.json", "garbled.json", "foreign.json", "folder.json", "absent.json"] {
        let ran = refused(&server, &["--token-file", file]);
        assert!(ran.err.contains(file), "{ran:?}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", place.path().join("dangling.json")).unwrap();
        refused(&server, &["--token-file", "dangling.json"]);
    }

    // The same for the file that is used unless another one is named.
    let folder = place.path().join(".config/payman");
    std::fs::create_dir_all(&folder).unwrap();
    if cfg!(target_os = "linux") {
        std::fs::write(folder.join("tokens.json"), "").unwrap();
        refused(&server, &[]);
        assert_eq!(server.run(&["ask", BALANCE, "--as-app"]).status, Some(0));
    }
}

#[test]
fn another_spelling_of_the_host_never_means_the_app() {
    let server = Server::start(&[]);
    connect(&server);
    let port = server.base_url.rsplit(':').next().unwrap();
    for same in [format!("http://127.0.0.1:{port}/"), format!(" HTTP://127.1:{port}")] {
        let ran = server.run(&["whoami", "--base-url", &same]);
        assert!(ran.status == Some(0) && ran.out.contains("the user"), "{same} {ran:?}");
    }
    for other in [
        format!("http://localhost:{port}"),
        format!("http://LOCALHOST:{port}/"),
        format!("http://127.0.0.2:{port}"),
        format!("http://127.0.0.1:{port}/v1"),
    ] {
        let ran = refused(&server, &["--base-url", &other]);
        assert!(ran.err.contains(&server.base_url), "{other} {ran:?}");
    }
    // Another emulator is another platform.
    let another = Server::start(&[]);
    let ran = server.run(&["whoami", "--base-url", &another.base_url]);
    assert!(ran.status == Some(0) && ran.out.contains("the app"), "{ran:?}");
}

#[test]
fn the_time_limit_holds_while_the_token_endpoint_hangs() {
    let server = Server::start(&["--token-lifetime", "1s"]);
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
        let ran = server.run(&[args, &["--timeout", "2s"]].concat());
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{args:?} took {took:?}: {ran:?}");
        assert!(!matches!(ran.status, Some(0) | None), "{args:?} {ran:?}");
    }
}

#[test]
fn an_error_names_the_variable_that_a_stale_token_came_from() {
    let server = Server::start(&[]);
    let mut command = server.command(["ask", BALANCE]);
    command.env("PAYMAN_ACCESS_TOKEN", "stale");
    let ran = finish(command);
    assert_eq!(ran.status, Some(5), "{ran:?}");
    assert!(ran.err.contains("PAYMAN_ACCESS_TOKEN") && !ran.err.contains("stale"), "{ran:?}");

    let ran = server.run(&["ask", BALANCE, "--access-token", "stale"]);
    assert!(ran.status == Some(5) && ran.err.contains("--access-token"), "{ran:?}");

    let mut command = server.command(["connect", "--port", "0", "--timeout", "500ms"]);
    command.env("PAYMAN_ACCESS_TOKEN", "stale");
    let ran = finish(command);
    assert!(ran.err.contains("Warning") && ran.err.contains("PAYMAN_ACCESS_TOKEN"), "{ran:?}");
}

#[test]
fn an_unreachable_server_is_named_with_the_origin_of_its_address() {
    let place = Place::new();
    let run = |url: &str, as_option: bool| {
        let mut command = place.command(["ask", BALANCE, "--timeout", "5s"]);
        command.env("PAYMAN_CLIENT_ID", "an-app").env("PAYMAN_CLIENT_SECRET", "hush");
        if as_option {
            command.args(["--base-url", url]);
        } else {
            command.env("PAYMAN_BASE_URL", url);
        }
        finish(command)
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
