//! Checks which settings the program takes from a file `.env` in the current folder.

use std::net::TcpListener;

use crate::support::{BALANCE, Place, Server, finish};

#[test]
fn it_is_read_where_the_environment_says_nothing() {
    let server = Server::start(&["--credentials", "an-app:right"]);
    let place = Place::new();
    let url = &server.base_url;
    place.write(
        ".env",
        &format!(
            "PAYMAN_BASE_URL={url}\nexport PAYMAN_CLIENT_ID = an-app # a comment\n\
             PAYMAN_CLIENT_SECRET='right'\n"
        ),
    );
    let ran = place.run(&["ask", BALANCE]);
    assert_eq!(ran.status, Some(0), "{ran:?}");

    // A blank variable counts as not set.
    let mut command = place.command(["ask", BALANCE]);
    command.env("PAYMAN_CLIENT_SECRET", " ");
    assert_eq!(finish(command).status, Some(0));

    // The environment wins.
    let mut command = place.command(["ask", BALANCE]);
    command.env("PAYMAN_BASE_URL", url).env("PAYMAN_CLIENT_SECRET", "wrong");
    assert_eq!(finish(command).status, Some(5));

    // Only the current folder's file counts.
    let below = place.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut command = place.command(["ask", BALANCE]);
    command.current_dir(below);
    assert_eq!(finish(command).status, Some(2));
}

#[test]
fn a_line_that_is_wrong_is_not_quoted() {
    let place = Place::new();
    place.write(".env", "PAYMAN_CLIENT_ID=an-app\nPAYMAN_CLIENT_SECRET='hush-secret\n");
    let ran = place.run(&["ask", BALANCE]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("PAYMAN_CLIENT_ID") && !ran.err.contains("hush"), "{ran:?}");
    assert_eq!(place.run(&["--help"]).status, Some(0), "help needs no file");
}

#[test]
fn a_destination_is_used_only_with_credentials_of_the_same_file() {
    let server = Server::start(&[]);
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
        let place = Place::new();
        place.write(".env", file);
        for command in ["ask", "token", "whoami"] {
            let mut args = vec![command];
            args.extend((command == "ask").then_some(BALANCE));
            let mut command = place.command(args);
            command.envs(variables.iter().copied());
            let ran = finish(command);
            assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{file} {ran:?}");
            assert!(ran.err.contains(".env") && !ran.err.contains("hush"), "{ran:?}");
        }
        let mut connect = place.command(["connect", "--port", "0", "--timeout", "1s"]);
        connect.envs(variables.iter().copied());
        assert_eq!(finish(connect).status, Some(2), "{file}");
    }
    assert_eq!(server.state()["tokenRequests"], 0);

    // The environment variable of the other platform wins over the file's destination.
    let place = Place::new();
    place.write(".env", "PAYMAN_BASE_URL=http://127.0.0.1:1\n");
    let mut command = place.command(["whoami"]);
    command
        .env("PAYMAN_ENVIRONMENT", "test")
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_CLIENT_SECRET", "hush");
    let ran = finish(command);
    assert!(ran.status == Some(0) && ran.out.contains("agent.payman.dev"), "{ran:?}");
}

#[test]
fn the_environment_of_a_folder_is_a_destination_too() {
    let place = Place::new();
    place.write(".env", "PAYMAN_ENVIRONMENT=test\n");
    let mut command = place.command(["whoami"]);
    command.env("PAYMAN_CLIENT_ID", "an-app").env("PAYMAN_CLIENT_SECRET", "hush");
    let ran = finish(command);
    assert!(ran.status == Some(2) && ran.err.contains("PAYMAN_ENVIRONMENT"), "{ran:?}");
}

#[test]
fn other_names_are_not_taken() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = proxy.local_addr().unwrap();
    let place = Place::new();
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let lines: String = names.iter().map(|name| format!("{name}=http://{address}\n")).collect();
    place.write(".env", &format!("{lines}SSL_CERT_FILE=/nowhere\nnot a line at all\n"));
    let mut command = place.command(["ask", BALANCE, "--timeout", "3s"]);
    command
        .env("PAYMAN_BASE_URL", "https://payman.invalid")
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_CLIENT_SECRET", "hush");
    let ran = finish(command);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(proxy.accept().is_err(), "the proxy of the file was used");
}
