//! Makes clients before and after a crypto provider is installed: first an error, then a client.

use payman_sdk::{Client, Config, Error, RedisTokenStore, TokenInfo};

fn client(config: Config) -> Result<Client, Error> {
    Client::with_token(config, TokenInfo::refresh_only("refresh"))
}

fn loopback() -> Config {
    Config::new("client-id").base_url("http://127.0.0.1:9")
}

fn main() {
    for config in [Config::new("client-id"), loopback()] {
        let error = client(config).expect_err("there is no provider");
        assert!(error.is_invalid_input(), "{error:?}");
        assert!(error.to_string().contains("crypto provider"), "{error}");
    }

    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("no provider was installed before");

    for config in [Config::new("client-id"), loopback()] {
        client(config).expect("there is a provider");
    }
    // Nothing listens there: the store fails, and does not panic.
    let store = RedisTokenStore::new("rediss://127.0.0.1:9/").expect("the URL is one of Redis");
    let user = client(loopback().subject("alice").token_store(store)).expect("it connects later");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = runtime.expect("a runtime").block_on(user.access_token());
    let error = failed.expect_err("nothing listens there");
    assert_eq!(error.kind(), payman_sdk::ErrorKind::TokenStore, "{error:?}");
    println!("a missing crypto provider is an error, and an installed one is used");
}
