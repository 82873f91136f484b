//! Tests tokens from options or variables, and the sign-in of users.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use payman_sdk::Emulator;
use payman_sdk::emulator::Fault;

use crate::support::{
    BALANCE, EmulatorProcess, ProgramOutput, Workspace, http, run_command, wait_for_output,
};

#[test]
fn a_token_is_described_and_shown_only_on_request() {
    let server = EmulatorProcess::start(&["--token-lifetime", "30m"]);
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

    let workspace = Workspace::new();
    let mut command = workspace.command(["ask", BALANCE]);
    command
        .env("PAYMAN_BASE_URL", &server.base_url)
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_ACCESS_TOKEN", token);
    assert_eq!(run_command(command).status, Some(0), "an access token is all it needs");
    let mut command = workspace.command(["token", "--expires-in", "600"]);
    command
        .env("PAYMAN_BASE_URL", &server.base_url)
        .env("PAYMAN_CLIENT_ID", "an-app")
        .env("PAYMAN_ACCESS_TOKEN", token);
    let told = run_command(command);
    assert!(
        told.out.contains("valid for 9 min 5") || told.out.contains("valid for 10 min 0"),
        "{told:?}"
    );
    assert!(!told.out.contains(token) && !told.err.contains(token));
}

#[test]
fn a_single_use_refresh_token_serves_many_commands() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let emulator = runtime.block_on(Emulator::builder().rotate_refresh_tokens().start()).unwrap();
    let refresh = emulator.issue_refresh_token(["read_balance"]);
    let workspace = Workspace::new();
    let run = || {
        let mut command = workspace.command(["ask", BALANCE]);
        command
            .env("PAYMAN_BASE_URL", emulator.base_url())
            .env("PAYMAN_CLIENT_ID", "an-app")
            .env("PAYMAN_CLIENT_SECRET", "hush-secret")
            .env("PAYMAN_REFRESH_TOKEN", &refresh);
        run_command(command)
    };
    assert_eq!(run().status, Some(0));
    emulator.expire_access_tokens();
    assert_eq!(run().status, Some(0));
    assert_eq!(run().status, Some(0));
    let state = emulator.state();
    assert_eq!((state.refresh_reuses, state.token_requests), (0, 2));

    // The app's own credentials do not replace a sign-in that was revoked.
    emulator.revoke_all();
    let result = run();
    assert_eq!((result.status, result.out.as_str()), (Some(5), ""), "{result:?}");
    assert!(result.err.contains("connect") && !result.err.contains(&refresh), "{result:?}");
    emulator.fault(Fault::status(500));
}

/// A running `payman connect`, and the URL that it printed.
pub struct ConnectCommand {
    child: Child,
    page: url::Url,
}

impl ConnectCommand {
    fn start(server: &EmulatorProcess) -> Self {
        let mut command: Command = server.command(["connect", "--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, page: line.trim().parse().expect("a URL") }
    }

    fn redirect_uri(&self) -> String {
        self.page.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned()
    }

    /// Sends the user's decision and follows the redirect.
    fn decide(&self, server: &EmulatorProcess, decision: &str) -> (String, String) {
        let form = format!("{}&decision={decision}", self.page.query().unwrap());
        let (head, body) = server.http("POST", self.page.path(), &form);
        let location = head
            .lines()
            .find_map(|line| line.strip_prefix("location: "))
            .unwrap_or_else(|| panic!("{head} {body}"));
        visit(location)
    }

    fn end(self) -> ProgramOutput {
        wait_for_output(self.child)
    }
}

fn visit(address: &str) -> (String, String) {
    let url: url::Url = address.parse().unwrap();
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    http(&url.origin().ascii_serialization(), "GET", &path, "")
}

/// Connects a user with the requests that a browser sends.
pub fn connect(server: &EmulatorProcess) {
    let connecting = ConnectCommand::start(server);
    connecting.decide(server, "allow");
    let result = connecting.end();
    assert_eq!(result.status, Some(0), "{result:?}");
}

#[test]
fn a_user_connects_and_later_commands_act_for_them() {
    let server = EmulatorProcess::start(&["--rotate-refresh-tokens"]);
    let connecting = ConnectCommand::start(&server);
    assert!(
        connecting
            .page
            .as_str()
            .starts_with(&format!("{}/oauth/connect?client_id=an-app", server.base_url))
    );

    // A request without the expected `state` neither connects the user nor ends the wait.
    let redirect = connecting.redirect_uri();
    assert!(visit(&format!("{redirect}?code=foreign&state=guessed")).0.contains("400"));
    assert!(visit(&format!("{redirect}?code=foreign")).0.contains("400"));

    assert!(connecting.decide(&server, "allow").1.contains("Connected"));
    let result = connecting.end();
    assert_eq!(result.status, Some(0), "{result:?}");

    let told = server.run(&["token"]);
    assert!(told.status == Some(0) && told.out.contains("the token file"), "{told:?}");
    assert_eq!(server.state()["tokenRequests"], 1);
    assert_eq!(server.run(&["ask", BALANCE]).status, Some(0));
    assert_eq!(server.state()["tokenRequests"], 1, "it asked with the user's token");
    let app = server.run(&["token", "--as-app"]);
    assert!(app.out.contains("own credentials"), "{app:?}");

    // Another client id counts as another app.
    let other = server.run(&["token", "--client-id", "another"]);
    assert!(other.out.contains("own credentials"), "{other:?}");
    let other = server.run(&["token", "--token-file", "elsewhere.json"]);
    assert_eq!(other.status, Some(1), "a file that is named must exist: {other:?}");

    #[cfg(unix)]
    if cfg!(target_os = "linux") {
        use std::os::unix::fs::PermissionsExt;
        let file = server.workspace().path().join(".config/payman/tokens.json");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_user_who_declines_is_not_connected() {
    let server = EmulatorProcess::start(&[]);
    let connecting = ConnectCommand::start(&server);
    assert!(connecting.decide(&server, "deny").1.contains("Not connected"));
    let result = connecting.end();
    assert_eq!(result.status, Some(5), "{result:?}");
    assert!(result.err.contains("said no") && result.err.contains("access_denied"), "{result:?}");
    assert!(!result.err.contains("SECRET") && !result.err.contains("credentials"), "{result:?}");
    assert!(server.run(&["token"]).out.contains("own credentials"));
}

#[test]
fn a_lost_sign_in_is_not_replaced_by_the_app() {
    let server = EmulatorProcess::start(&[]);
    let connecting = ConnectCommand::start(&server);
    connecting.decide(&server, "allow");
    assert_eq!(connecting.end().status, Some(0));
    // The reset deletes the tokens, so the emulator rejects the sign-in.
    server.reset();
    let result = server.run(&["ask", BALANCE]);
    assert_eq!((result.status, result.out.as_str()), (Some(5), ""), "{result:?}");
    assert!(result.err.contains("payman connect"), "{result:?}");
    assert_eq!(server.run(&["ask", BALANCE, "--as-app"]).status, Some(0));
}

#[test]
fn a_file_that_is_no_token_file_is_not_overwritten() {
    let server = EmulatorProcess::start(&[]);
    server.workspace().write("notes.txt", "not tokens");
    let result = server.run(&["ask", BALANCE, "--token-file", "notes.txt"]);
    assert_eq!(result.status, Some(1), "{result:?}");
    assert!(result.err.contains("token file"), "{result:?}");
    assert_eq!(
        std::fs::read_to_string(server.workspace().path().join("notes.txt")).unwrap(),
        "not tokens"
    );
}

#[cfg(unix)]
#[test]
fn a_signal_during_a_refresh_loses_no_token() {
    use std::time::{Duration, Instant};

    use crate::support::poll_until;

    for name in ["INT", "TERM", "HUP"] {
        let server = EmulatorProcess::start(&["--rotate-refresh-tokens", "--token-lifetime", "1s"]);
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
        poll_until(|| (server.state()["tokenRequests"].as_u64()? > before).then_some(())).unwrap();
        crate::support::send_signal(name, child.id());
        let result = wait_for_output(child);
        assert_eq!(result.status, Some(6), "{name} {result:?}");

        let started = Instant::now();
        let result = server.run(&["ask", BALANCE]);
        assert_eq!(result.status, Some(0), "{name} {result:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{name} {:?}", started.elapsed());
        assert_eq!(server.state()["refreshReuses"], 0, "{name}");
    }
}
