//! Canaries: secrets with words of their own, planted everywhere, and looked for in everything that
//! is written down.
//!
//! One test in a program of its own, as it listens to every `tracing` target of the whole process.
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
const ASKED: &str = "canary-asked-text";
const REFRESH: &str = "canary-refresh-token";
const ACCESS: &str = "canary-access-token";
const CODE: &str = "canary-auth-code";
const STATE: &str = "canary-csrf-state";

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn add(&self, text: &str) {
        let mut all = self.0.lock().unwrap();
        all.extend_from_slice(text.as_bytes());
        all.push(b'\n');
    }

    /// `{}`, `{:?}` and `{:#?}`.
    fn debug(&self, value: &impl Debug) {
        self.add(&format!("{value:?} {value:#?}"));
    }

    /// An error with all of its sources.
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

impl std::io::Write for Written {
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
    Ask::new(ASKED)
        .metadata("key", ASKED)
        .message_metadata("key", ASKED)
        .part_metadata("key", ASKED)
}

/// Success and failure of everything that a client does; results are written down as a program
/// would.
async fn use_everything(client: &Client, written: &Written) {
    written.debug(client);
    written.debug(&ask());
    match client.ask(ask()).await {
        Ok(reply) => written.add(&format!("{:?} {:?}", reply.state(), reply.task_id())),
        Err(error) => written.error(&error),
    }
    if let Err(error) = client.ask_raw(ask()).await {
        written.error(&error);
    }
    match client.ask_stream(ask()).await {
        Ok(mut events) => {
            written.debug(&events);
            while let Some(event) = events.next().await {
                if let Err(error) = event {
                    written.error(&error);
                }
            }
        }
        Err(error) => written.error(&error),
    }
    if let Err(error) = client.get_task(payman_sdk::TaskId::new()).await {
        written.error(&error);
    }
    if let Err(error) = client.cancel_task(payman_sdk::TaskId::new()).await {
        written.error(&error);
    }
    match client.access_token().await {
        Ok(token) => written.debug(&token),
        Err(error) => written.error(&error),
    }
    written.debug(&client.refresh_token());
    written.debug(&client.token_status());
    if let Some(failure) = client.token_status().last_failure() {
        written.error(failure.error());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_written_down() {
    let written = Written::default();
    let writer = written.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mut secrets: Vec<String> =
        [SECRET, ASKED, REFRESH, ACCESS, CODE, STATE].map(str::to_owned).to_vec();

    // An answer that does not echo: the emulator's agent repeats nothing of what it does not
    // understand.
    let payman = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let base = payman.base_url();
    let directory = tempfile::tempdir().unwrap();
    let store = FileTokenStore::new(directory.path().join("tokens.json"));
    written.debug(&(&store, MemoryTokenStore::new()));

    // By credentials, by code, by token: each in order, then with each kind of fault.
    written.debug(&config(base));
    let app = Client::with_credentials(config(base)).unwrap();
    use_everything(&app, &written).await;
    secrets.push(app.access_token().await.unwrap().expose_secret().to_owned());

    let code = payman.issue_code(["read_balance"]);
    secrets.push(code.clone());
    let user =
        Client::with_auth_code(config(base).subject("alice").token_store(store.clone()), code)
            .await
            .unwrap();
    use_everything(&user, &written).await;
    secrets.push(user.refresh_token().unwrap().expose_secret().to_owned());
    payman.expire_access_tokens();
    use_everything(&user, &written).await;
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
            use_everything(&client, &written).await;
        }
    }
    payman.revoke_all();
    use_everything(&user, &written).await;

    // Canaries that no server knows.
    let info = TokenInfo::access(ACCESS, Duration::from_secs(3600)).refresh(REFRESH);
    written.debug(&info);
    use_everything(&Client::with_token(config(base), info).unwrap(), &written).await;
    written.debug(&AuthCode::from(CODE));
    written.error(&Client::with_auth_code(config(base), CODE).await.unwrap_err());
    let bad = TokenInfo::access(format!("{ACCESS}\n"), Duration::ZERO);
    written.error(&Client::with_token(config(base), bad).unwrap_err());

    // No server at all.
    let nowhere = "http://127.0.0.1:9";
    use_everything(
        &Client::with_token(config(nowhere), TokenInfo::refresh_only(REFRESH)).unwrap(),
        &written,
    )
    .await;
    written.error(&Client::with_auth_code(config(nowhere), CODE).await.unwrap_err());
    let with_password = format!("https://user:{SECRET}@host.test/");
    written.error(&Client::with_credentials(config(&with_password)).unwrap_err());
    written.debug(&config(&with_password));

    // Connecting.
    let url = ConnectUrl::new("client-id", "http://127.0.0.1:9/").state(STATE);
    written.debug(&url);
    for redirect in [
        format!("?code={CODE}&state=x"),
        format!("?state={STATE}"),
        format!("?code={CODE}&code={CODE}"),
    ] {
        written.error(&ConnectUrl::parse_redirect(redirect, STATE).unwrap_err());
    }
    written
        .debug(&ConnectUrl::parse_redirect(format!("?code={CODE}&state={STATE}"), STATE).unwrap());

    let text = written.text();
    // It listened indeed: to this crate, to what carries the requests, and to what is written here.
    for target in ["payman_sdk::token", "hyper", "TokenStatus", "ReauthorizationRequired"] {
        assert!(text.contains(target), "nothing of {target} was heard");
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

/// As it is in the `Authorization` header.
fn base64_of(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = text.as_bytes().chunks_exact(3).flat_map(|three| {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        (0..4).rev().map(move |place| char::from(LETTERS[(bits >> (6 * place) & 63) as usize]))
    });
    // A rest of less than three bytes is left out: what is looked for is a part.
    letters.collect()
}
