//! The Redis token store against servers that fail: scripted ones, and with `tests/redis/run` real
//! ones.
#![cfg(test)]
#![cfg(feature = "redis-rustls")]

mod connecting;
mod replies;
mod resp;
mod tls;

use std::error::Error as _;
use std::fmt::Write;

use payman_sdk::{Client, Config, Error, ErrorKind, RedisTokenStore, TokenInfo};

/// Returns a client of a user whose token is in the store. Nothing listens at its base URL.
fn client(store: &RedisTokenStore, subject: &str) -> Client {
    client_with(store, subject, TokenInfo::stored())
}

fn client_with(store: &RedisTokenStore, subject: &str, token: TokenInfo) -> Client {
    let config = Config::new("client-id").base_url("http://127.0.0.1:9");
    let config = config.subject(subject).token_store(store.clone());
    Client::with_token(config, token).unwrap()
}

/// Returns the text of an error and all its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap();
        source = error.source();
    }
    text
}

/// Checks that an error says that the store failed, and nothing of the user.
fn assert_store_failed(error: &Error, case: &str) {
    assert_eq!(error.kind(), ErrorKind::TokenStore, "{case}: {error:?}");
    assert!(error.is_safe_to_ask_again(), "{case}: {error:?}");
    assert!(!error.is_reauthorization_required(), "{case}: {error:?}");
}
