//! The events of tokens. A program of its own: which events are enabled is cached for the process,
//! and other tests would take part in that.
#![cfg(test)]

use std::sync::{Arc, Mutex};

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Client, Config, Emulator};

const ALL: [&str; 2] = ["read_balance", "read_list_wallets"];

/// Writes the token events of one thread, one line each.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn token_events_tell_what_happened() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("payman_sdk::token=trace")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let payman = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let config = Config::new("client-id").client_secret("client-secret");
    let config = config.base_url(payman.base_url());
    let client = Client::with_auth_code(config, payman.issue_code(ALL)).await.unwrap();
    payman.expire_access_tokens();
    payman.fault(Fault::status(503).on(Operation::Token));
    client.ask("What's my balance?").await.unwrap();
    payman.revoke_all();
    client.ask("What's my balance?").await.unwrap_err();

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "grant=\"authorization_code\" generation=1 expires_in=3600 outcome=\"obtained\"",
        "outcome=\"stored\"",
        "generation=1 outcome=\"refused\"",
        "grant=\"refresh_token\" generation=1 outcome=\"failed\" fault=Busy status=503",
        "grant=\"refresh_token\" generation=2 expires_in=3600 outcome=\"refreshed\"",
        "outcome=\"ended\"",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(text.contains("duration_ms="));
}
