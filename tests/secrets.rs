//! Tests that no secret appears in logs, errors or debug output. The secrets are canaries: unique
//! strings that are searched for in all output.
//!
//! A test program of its own, because it subscribes to every `tracing` target of the process.
#![cfg(test)]

use std::error::Error as _;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{
    Ask, AuthCode, Client, Config, ConnectUrl, Emulator, Error, FileTokenStore, MemoryTokenStore,
    RetryPolicy, TokenInfo,
};
use secrecy::ExposeSecret;

const SECRET: &str = "canary-client-secret";
const ASK_TEXT: &str = "canary-asked-text";
const REFRESH: &str = "canary-refresh-token";
const ACCESS: &str = "canary-access-token";
const CODE: &str = "canary-auth-code";
const STATE: &str = "canary-csrf-state";

#[derive(Clone, Default)]
struct CapturedOutput(Arc<Mutex<Vec<u8>>>);

impl CapturedOutput {
    fn add(&self, text: &str) {
        let mut all = self.0.lock().unwrap();
        all.extend_from_slice(text.as_bytes());
        all.push(b'\n');
    }

    /// Adds a value as `{:?}` and as `{:#?}`.
    fn debug(&self, value: &impl Debug) {
        self.add(&format!("{value:?} {value:#?}"));
    }

    /// Adds an error with all of its sources.
    fn error(&self, error: &Error) {
        self.debug(error);
        self.add(&error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            self.add(&format!("{cause} {cause:?} {cause:#?}"));
            source = cause.source();
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for CapturedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn config(base_url: &str) -> Config {
    let retry = RetryPolicy::default().recovery_timeout(Duration::from_millis(200));
    Config::new("client-id").client_secret(SECRET).base_url(base_url).retry(retry)
}

fn ask() -> Ask {
    Ask::new(ASK_TEXT)
        .metadata("key", ASK_TEXT)
        .message_metadata("key", ASK_TEXT)
        .part_metadata("key", ASK_TEXT)
}

/// Calls every operation of a client, and adds its results and errors to the output.
async fn use_everything(client: &Client, output: &CapturedOutput) {
    output.debug(client);
    output.debug(&ask());
    match client.ask(ask()).await {
        Ok(reply) => output.add(&format!("{:?} {:?}", reply.state(), reply.task_id())),
        Err(error) => output.error(&error),
    }
    if let Err(error) = client.ask_raw(ask()).await {
        output.error(&error);
    }
    match client.ask_stream(ask()).await {
        Ok(mut events) => {
            output.debug(&events);
            while let Some(event) = events.next().await {
                if let Err(error) = event {
                    output.error(&error);
                }
            }
        }
        Err(error) => output.error(&error),
    }
    if let Err(error) = client.get_task(payman_sdk::TaskId::new()).await {
        output.error(&error);
    }
    if let Err(error) = client.cancel_task(payman_sdk::TaskId::new()).await {
        output.error(&error);
    }
    match client.access_token().await {
        Ok(token) => output.debug(&token),
        Err(error) => output.error(&error),
    }
    output.debug(&client.refresh_token());
    output.debug(&client.token_status());
    if let Some(failure) = client.token_status().last_failure() {
        output.error(failure.error());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_or_formatted() {
    let output = CapturedOutput::default();
    let writer = output.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mut secrets: Vec<String> =
        [SECRET, ASK_TEXT, REFRESH, ACCESS, CODE, STATE].map(str::to_owned).to_vec();

    // The emulator's agent does not repeat text that it does not understand.
    let payman = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let base = payman.base_url();
    let directory = tempfile::tempdir().unwrap();
    let store = FileTokenStore::new(directory.path().join("tokens.json"));
    output.debug(&(&store, MemoryTokenStore::new()));

    // Uses credentials, an auth code and a token, at first without faults, then with each kind of
    // fault.
    output.debug(&config(base));
    let app = Client::with_credentials(config(base)).unwrap();
    use_everything(&app, &output).await;
    secrets.push(app.access_token().await.unwrap().expose_secret().to_owned());

    let code = payman.issue_code(["read_balance"]);
    secrets.push(code.clone());
    let user =
        Client::with_auth_code(config(base).subject("alice").token_store(store.clone()), code)
            .await
            .unwrap();
    use_everything(&user, &output).await;
    secrets.push(user.refresh_token().unwrap().expose_secret().to_owned());
    payman.expire_access_tokens();
    use_everything(&user, &output).await;
    secrets.push(user.refresh_token().unwrap().expose_secret().to_owned());
    secrets.push(user.access_token().await.unwrap().expose_secret().to_owned());

    for operation in [Operation::Token, Operation::Send, Operation::SendSubscribe] {
        let faults = [
            Fault::close(),
            Fault::close().after_acting(),
            Fault::status(400),
            Fault::status(401),
            Fault::status(429).retry_after("1"),
            Fault::status(500),
            Fault::status(503),
            Fault::status(307),
            Fault::cut(20),
            Fault::end_after(20),
            Fault::end_after(0),
        ];
        for fault in faults {
            payman.fault(fault.on(operation).times(2));
            let client = Client::with_credentials(config(base)).unwrap();
            use_everything(&client, &output).await;
        }
    }
    payman.revoke_all();
    use_everything(&user, &output).await;

    // Uses canaries that the server rejects.
    let info = TokenInfo::access(ACCESS, Duration::from_secs(3600)).refresh(REFRESH);
    output.debug(&info);
    use_everything(&Client::with_token(config(base), info).unwrap(), &output).await;
    output.debug(&AuthCode::from(CODE));
    output.error(&Client::with_auth_code(config(base), CODE).await.unwrap_err());
    let bad = TokenInfo::access(format!("{ACCESS}\n"), Duration::ZERO);
    output.error(&Client::with_token(config(base), bad).unwrap_err());

    // Uses an address without a server.
    let nowhere = "http://127.0.0.1:9";
    use_everything(
        &Client::with_token(config(nowhere), TokenInfo::refresh_only(REFRESH)).unwrap(),
        &output,
    )
    .await;
    output.error(&Client::with_auth_code(config(nowhere), CODE).await.unwrap_err());
    let with_password = format!("https://user:{SECRET}@host.test/");
    output.error(&Client::with_credentials(config(&with_password)).unwrap_err());
    output.debug(&config(&with_password));

    // Connects a user.
    let url = ConnectUrl::new("client-id", "http://127.0.0.1:9/").state(STATE);
    output.debug(&url);
    for redirect in [
        format!("?code={CODE}&state=x"),
        format!("?state={STATE}"),
        format!("?code={CODE}&code={CODE}"),
    ] {
        output.error(&ConnectUrl::parse_redirect(redirect, STATE).unwrap_err());
    }
    output
        .debug(&ConnectUrl::parse_redirect(format!("?code={CODE}&state={STATE}"), STATE).unwrap());

    let text = output.text();
    // Checks that the output contains the logs of this crate and of its HTTP stack.
    for target in ["payman_sdk::token", "hyper", "TokenStatus", "ReauthorizationRequired"] {
        assert!(text.contains(target), "{target} is not in the output");
    }
    let encoded =
        secrets.iter().map(|secret| base64_of(&format!("client-id:{secret}"))).collect::<Vec<_>>();
    for secret in secrets.iter().chain(&encoded) {
        let found: Vec<_> =
            text.lines().filter(|line| line.contains(secret.as_str())).take(5).collect();
        assert!(found.is_empty(), "{secret} is in:\n{}", found.join("\n"));
    }
    println!("{} canaries in none of {} lines", secrets.len(), text.lines().count());
}

/// Returns the text in Base64, as in the `Authorization` header.
fn base64_of(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = text.as_bytes().chunks_exact(3).flat_map(|three| {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        (0..4).rev().map(move |place| char::from(LETTERS[(bits >> (6 * place) & 63) as usize]))
    });
    // Incomplete groups of three bytes are omitted, because a part is enough for the search.
    letters.collect()
}
