//! Tokens that are given, and users who connect.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use payman_sdk::Emulator;
use payman_sdk::emulator::Fault;

use crate::support::{BALANCE, Place, Ran, Server, end_of, finish, http};

#[test]
fn a_token_is_told_of_and_shown_only_when_asked_for() {
    let server = Server::start(&["--token-lifetime", "30m"]);
    let shown = server.run(&["token", "--reveal"]);
    let token = shown.out.trim();
    assert!(
        shown.status == Some(0) && token.len() > 8 && !token.contains(char::is_whitespace),
        "{shown:?}"
    );
    assert!(
        shown.err.contains("valid for 29 min 5") || shown.err.contains("valid for 30 min 0"),
        "{shown:?}"
    );

    let told = server.run(&["token"]);
    assert!(
        told.out.contains("own credentials") && told.out.contains("write_send_payment"),
        "{told:?}"
    );

    let place = Place::new();
    let mut command = place.command(["ask", BALANCE]);
    command
        .env("PAYMAN_BASE_URL", &server.base_url)
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_ACCESS_TOKEN", token);
    assert_eq!(finish(command).status, Some(0), "an access token is all it needs");
    let mut command = place.command(["token", "--expires-in", "600"]);
    command
        .env("PAYMAN_BASE_URL", &server.base_url)
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_ACCESS_TOKEN", token);
    let told = finish(command);
    assert!(
        told.out.contains("valid for 9 min 5") || told.out.contains("valid for 10 min 0"),
        "{told:?}"
    );
    assert!(!told.out.contains(token) && !told.err.contains(token));
}

#[test]
fn a_refresh_token_that_works_once_serves_many_commands() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let emulator = runtime.block_on(Emulator::builder().rotate_refresh_tokens().start()).unwrap();
    let refresh = emulator.issue_refresh_token(["read_balance"]);
    let place = Place::new();
    let run = || {
        let mut command = place.command(["ask", BALANCE]);
        command
            .env("PAYMAN_BASE_URL", emulator.base_url())
            .env("PAYMAN_CLIENT_ID", "an-app")
            .env("PAYMAN_CLIENT_SECRET", "hush-secret")
            .env("PAYMAN_REFRESH_TOKEN", &refresh);
        finish(command)
    };
    assert_eq!(run().status, Some(0));
    emulator.expire_access_tokens();
    assert_eq!(run().status, Some(0));
    assert_eq!(run().status, Some(0));
    let state = emulator.state();
    assert_eq!((state.refresh_reuses, state.token_requests), (0, 2));

    // The app's own credentials do not replace a sign-in that was revoked.
    emulator.revoke_all();
    let ran = run();
    assert_eq!((ran.status, ran.out.as_str()), (Some(5), ""), "{ran:?}");
    assert!(ran.err.contains("connect") && !ran.err.contains(&refresh), "{ran:?}");
    emulator.fault(Fault::status(500));
}

/// A running `payman connect`, and the URL that it printed.
pub struct Connecting {
    child: Child,
    page: url::Url,
}

impl Connecting {
    fn start(server: &Server) -> Self {
        let mut command: Command = server.command(["connect", "--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, page: line.trim().parse().expect("a URL") }
    }

    fn redirect_uri(&self) -> String {
        self.page.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned()
    }

    /// Sends the user's decision and follows the redirect, as a browser does.
    fn decide(&self, server: &Server, decision: &str) -> (String, String) {
        let form = format!("{}&decision={decision}", self.page.query().unwrap());
        let (head, body) = server.http("POST", self.page.path(), &form);
        let location = head
            .lines()
            .find_map(|line| line.strip_prefix("location: "))
            .unwrap_or_else(|| panic!("{head} {body}"));
        visit(location)
    }

    fn end(self) -> Ran {
        end_of(self.child)
    }
}

fn visit(address: &str) -> (String, String) {
    let url: url::Url = address.parse().unwrap();
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    http(&url.origin().ascii_serialization(), "GET", &path, "")
}

/// Connects a user, as a browser does.
pub fn connect(server: &Server) {
    let connecting = Connecting::start(server);
    connecting.decide(server, "allow");
    let ran = connecting.end();
    assert_eq!(ran.status, Some(0), "{ran:?}");
}

#[test]
fn a_user_connects_and_later_commands_act_for_them() {
    let server = Server::start(&["--rotate-refresh-tokens"]);
    let connecting = Connecting::start(&server);
    assert!(
        connecting
            .page
            .as_str()
            .starts_with(&format!("{}/oauth/connect?client_id=an-app", server.base_url))
    );

    // A request without the right state neither connects the user nor ends the wait.
    let redirect = connecting.redirect_uri();
    assert!(visit(&format!("{redirect}?code=foreign&state=guessed")).0.contains("400"));
    assert!(visit(&format!("{redirect}?code=foreign")).0.contains("400"));

    assert!(connecting.decide(&server, "allow").1.contains("Connected"));
    let ran = connecting.end();
    assert_eq!(ran.status, Some(0), "{ran:?}");

    let told = server.run(&["token"]);
    assert!(told.status == Some(0) && told.out.contains("the token file"), "{told:?}");
    assert_eq!(server.state()["tokenRequests"], 1);
    assert_eq!(server.run(&["ask", BALANCE]).status, Some(0));
    assert_eq!(server.state()["tokenRequests"], 1, "it asked with the user's token");
    let app = server.run(&["token", "--as-app"]);
    assert!(app.out.contains("own credentials"), "{app:?}");

    // Another client id is another app.
    let other = server.run(&["token", "--client-id", "another"]);
    assert!(other.out.contains("own credentials"), "{other:?}");
    let other = server.run(&["token", "--token-file", "elsewhere.json"]);
    assert_eq!(other.status, Some(1), "a file that is named must exist: {other:?}");

    #[cfg(unix)]
    if cfg!(target_os = "linux") {
        use std::os::unix::fs::PermissionsExt;
        let file = server.place().path().join(".config/payman/tokens.json");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_user_who_says_no_is_not_connected() {
    let server = Server::start(&[]);
    let connecting = Connecting::start(&server);
    assert!(connecting.decide(&server, "deny").1.contains("Not connected"));
    let ran = connecting.end();
    assert_eq!(ran.status, Some(5), "{ran:?}");
    assert!(ran.err.contains("said no") && ran.err.contains("access_denied"), "{ran:?}");
    assert!(!ran.err.contains("SECRET") && !ran.err.contains("credentials"), "{ran:?}");
    assert!(server.run(&["token"]).out.contains("own credentials"));
}

#[test]
fn a_connected_user_who_is_gone_is_not_replaced_by_the_app() {
    let server = Server::start(&[]);
    let connecting = Connecting::start(&server);
    connecting.decide(&server, "allow");
    assert_eq!(connecting.end().status, Some(0));
    // The reset deletes the tokens, so the server no longer knows the sign-in.
    server.reset();
    let ran = server.run(&["ask", BALANCE]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(5), ""), "{ran:?}");
    assert!(ran.err.contains("payman connect"), "{ran:?}");
    assert_eq!(server.run(&["ask", BALANCE, "--as-app"]).status, Some(0));
}

#[test]
fn a_token_file_that_is_something_else_is_left_alone() {
    let server = Server::start(&[]);
    server.place().write("notes.txt", "not tokens");
    let ran = server.run(&["ask", BALANCE, "--token-file", "notes.txt"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.err.contains("token file"), "{ran:?}");
    assert_eq!(
        std::fs::read_to_string(server.place().path().join("notes.txt")).unwrap(),
        "not tokens"
    );
}

#[cfg(unix)]
#[test]
fn a_signal_during_a_refresh_loses_no_token() {
    use std::time::{Duration, Instant};

    use crate::support::until;

    for name in ["INT", "TERM", "HUP"] {
        let server = Server::start(&["--rotate-refresh-tokens", "--token-lifetime", "1s"]);
        connect(&server);
        std::thread::sleep(Duration::from_millis(1100));
        let before = server.state()["tokenRequests"].as_u64().unwrap();
        server.faults(r#"{"on": "token", "when": "after", "delayMs": 2500}"#);
        let child = server
            .command(["ask", BALANCE])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until(|| (server.state()["tokenRequests"].as_u64()? > before).then_some(())).unwrap();
        crate::support::signal(name, child.id());
        let ran = end_of(child);
        assert_eq!(ran.status, Some(6), "{name} {ran:?}");

        let started = Instant::now();
        let ran = server.run(&["ask", BALANCE]);
        assert_eq!(ran.status, Some(0), "{name} {ran:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{name} {:?}", started.elapsed());
        assert_eq!(server.state()["refreshReuses"], 0, "{name}");
    }
}
