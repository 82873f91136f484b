//! Tokens as a program sees them: against the emulator, through the public API.
#![cfg(test)]

mod common;

use std::time::{Duration, Instant, SystemTime};

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{
    Client, Config, ConnectUrl, Emulator, ErrorKind, FileTokenStore, MemoryTokenStore, Scope,
    TokenInfo, TokenSource,
};
use secrecy::ExposeSecret;
use wiremock::{MockServer, ResponseTemplate};

const HOUR: Duration = Duration::from_secs(3600);
const ALL: [&str; 2] = ["read_balance", "read_list_wallets"];

fn config(payman: &Emulator) -> Config {
    Config::new("client-id").client_secret("client-secret").base_url(payman.base_url())
}

/// Sends all asks on one connection, so that ten thousand of them are not ten thousand sockets.
fn on_one_connection(config: Config) -> Config {
    config.configure_http(reqwest::ClientBuilder::http2_prior_knowledge)
}

async fn ask_at_once(client: &Client, asks: usize) {
    let asks: Vec<_> = (0..asks).map(|_| tokio::spawn(client.ask("What's my balance?"))).collect();
    for ask in asks {
        ask.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_asks_at_expiry_make_one_token_request() {
    let payman = Emulator::start().await.unwrap();
    let token =
        TokenInfo::access("long-expired", Duration::ZERO).refresh(payman.issue_refresh_token(ALL));
    let client = Client::with_token(on_one_connection(config(&payman)), token).unwrap();
    assert!(client.is_access_token_expired());
    ask_at_once(&client, 10_000).await;
    let state = payman.state();
    assert_eq!((state.token_requests, state.tasks.len()), (1, 10_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_asks_that_are_refused_at_once_make_one_token_request() {
    let payman = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let token =
        TokenInfo::access("unknown to the server", HOUR).refresh(payman.issue_refresh_token(ALL));
    let client = Client::with_token(on_one_connection(config(&payman)), token).unwrap();
    ask_at_once(&client, 1000).await;
    let state = payman.state();
    assert_eq!((state.token_requests, state.refresh_reuses), (1, 0));
    assert!(state.sends.values().all(|sends| *sends == 1));
    assert_eq!(client.token_status().generation(), 1);
}

#[tokio::test]
async fn a_second_refusal_is_an_error() {
    let server = MockServer::start().await;
    common::on(
        &server,
        common::SEND,
        ResponseTemplate::new(401).set_body_string("Missing x-payman-access-token"),
    )
    .await;
    let granted = common::json_answer(serde_json::json!({"accessToken": "new", "expiresIn": 3600}));
    common::on(&server, common::TOKEN, granted).await;
    let token = TokenInfo::access("old", HOUR).refresh("refresh");
    let client = Client::with_token(common::config(&server.uri()), token).unwrap();
    let error = client.ask("hello").await.unwrap_err();
    assert!(
        error.is_auth() && error.is_safe_to_ask_again() && error.status() == Some(401),
        "{error:?}"
    );
    assert_eq!(common::count(&server, common::TOKEN).await, 1);
    let sends = common::requests_to(&server, common::SEND).await;
    let tokens: Vec<_> =
        sends.iter().map(|send| send.headers["x-payman-access-token"].to_str().unwrap()).collect();
    assert_eq!(tokens, ["old", "new"]);
    assert_eq!(sends[0].body, sends[1].body, "the same ids");
}

#[tokio::test]
async fn a_token_request_is_as_the_platform_expects_it() {
    let server = MockServer::start().await;
    let granted = serde_json::json!({
        "accessToken": "a", "tokenType": "Bearer", "expiresIn": 600, "scope": "read_balance"
    });
    common::on(&server, common::TOKEN, common::json_answer(granted)).await;
    let config = Config::new("client-id").client_secret("client-secret").base_url(server.uri());
    let client = Client::with_credentials(config).unwrap();
    assert_eq!(client.access_token().await.unwrap().expose_secret(), "a");
    let request = &common::requests_to(&server, common::TOKEN).await[0];
    assert_eq!(request.url.query(), Some("grant_type=client_credentials"));
    assert_eq!(request.headers["authorization"], "Basic Y2xpZW50LWlkOmNsaWVudC1zZWNyZXQ=");
    assert_eq!(request.headers["content-length"], "0");
    assert!(request.body.is_empty());
    assert_eq!(client.token_status().scopes(), [Scope::ReadBalance]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = MockServer::start().await;
    let server = MockServer::start().await;
    for status in [301, 302, 307, 308] {
        let answer = ResponseTemplate::new(status)
            .insert_header("location", format!("{}/api/oauth2/token", other.uri()));
        common::first(&server, common::TOKEN, 1, answer).await;
        let client = Client::with_token(
            common::config(&server.uri()),
            TokenInfo::refresh_only("refresh-token"),
        )
        .unwrap();
        let error = client.access_token().await.unwrap_err();
        assert_eq!(error.status(), Some(status), "{error:?}");
    }
    assert!(other.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reply_of_any_size_is_read_only_so_far() {
    let server = MockServer::start().await;
    common::on(
        &server,
        common::TOKEN,
        ResponseTemplate::new(200).set_body_bytes(vec![b' '; 70_000]),
    )
    .await;
    let client =
        Client::with_credentials(common::config(&server.uri()).client_secret("s")).unwrap();
    assert_eq!(client.access_token().await.unwrap_err().kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_user_connects_through_the_consent_page() {
    let payman = Emulator::start().await.unwrap();
    let csrf = "s t/a+t&e";
    let url = ConnectUrl::new("client-id", "http://127.0.0.1:9/callback?from=payman")
        .base_url(payman.base_url())
        .scopes([Scope::ReadBalance, Scope::ReadListWallets])
        .scope_text("write_create_payee")
        .state(csrf);
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let page = browser.get(url.as_str()).send().await.unwrap();
    assert!(page.status().is_success() && page.text().await.unwrap().contains("client-id"));

    let decide = async |decision: &str| {
        let query = url.as_str().split_once('?').unwrap().1;
        let form = format!("{query}&decision={decision}");
        let answer = browser
            .post(format!("{}/oauth/connect", payman.base_url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        answer.headers()["location"].to_str().unwrap().to_owned()
    };
    let denied = ConnectUrl::parse_redirect(decide("deny").await, csrf).unwrap_err();
    assert!(denied.is_auth() && denied.body().as_deref() == Some("access_denied"), "{denied:?}");

    let redirect = decide("allow").await;
    assert!(ConnectUrl::parse_redirect(&redirect, "another browser's").is_err());
    let code = ConnectUrl::parse_redirect(&redirect, csrf).unwrap();
    let client = Client::with_auth_code(config(&payman), code.clone()).await.unwrap();
    client.ask("What's my balance?").await.unwrap().into_completed().unwrap();
    let status = client.token_status();
    assert_eq!((status.source(), status.scopes().len()), (TokenSource::AuthCode, 3));
    assert!(client.refresh_token().is_some());

    let again = Client::with_auth_code(config(&payman), code).await.unwrap_err();
    assert!(again.is_reauthorization_required(), "{again:?}");
    assert!(Client::with_auth_code(config(&payman), " ").await.unwrap_err().is_invalid_input());
}

#[tokio::test]
async fn a_code_whose_reply_is_lost_is_not_sent_again() {
    let payman = Emulator::start().await.unwrap();
    payman.fault(Fault::close().on(Operation::Token).after_acting());
    let error = Client::with_auth_code(config(&payman), payman.issue_code(ALL)).await.unwrap_err();
    assert!(error.is_reauthorization_required(), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(payman.state().token_requests, 1);
}

#[tokio::test]
async fn a_user_is_never_turned_into_the_app() {
    let payman = Emulator::start().await.unwrap();
    let users = Client::with_token(
        config(&payman),
        TokenInfo::refresh_only(payman.issue_refresh_token(ALL)),
    )
    .unwrap();
    users.ask("What's my balance?").await.unwrap();
    payman.revoke_all();
    let requests = payman.state().token_requests;
    for _ in 0..5 {
        let error = users.ask("What's my balance?").await.unwrap_err();
        assert!(error.is_reauthorization_required() && error.is_safe_to_ask_again(), "{error:?}");
    }
    assert_eq!(payman.state().token_requests, requests + 1, "one refresh that is refused");
    assert!(users.token_status().is_reauthorization_required());
}

#[tokio::test]
async fn an_app_comes_back_by_its_credentials() {
    let payman = Emulator::builder()
        .refresh_tokens_for_apps()
        .rotate_refresh_tokens()
        .start()
        .await
        .unwrap();
    let client = Client::with_credentials(config(&payman)).unwrap();
    client.ask("What's my balance?").await.unwrap();
    assert!(client.refresh_token().is_some());
    payman.expire_access_tokens();
    client.ask("What's my balance?").await.unwrap();
    assert_eq!(client.token_status().source(), TokenSource::RefreshToken);
    payman.revoke_all();
    client.ask("What's my balance?").await.unwrap();
    assert_eq!(client.token_status().source(), TokenSource::ClientCredentials);
}

#[tokio::test]
async fn a_public_client_refreshes_without_a_secret() {
    let payman = Emulator::start().await.unwrap();
    let config = Config::new("client-id").base_url(payman.base_url());
    let client =
        Client::with_token(config, TokenInfo::refresh_only(payman.issue_refresh_token(ALL)))
            .unwrap();
    client.ask("What's my balance?").await.unwrap();
}

#[tokio::test]
async fn a_sign_in_outlives_the_process_in_a_file() {
    let payman = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    let config = || config(&payman).subject("alice").token_store(FileTokenStore::new(&path));
    let first = Client::with_auth_code(config(), payman.issue_code(ALL)).await.unwrap();
    let earlier = first.refresh_token().unwrap();
    payman.expire_access_tokens();
    first.ask("What's my balance?").await.unwrap();
    let newest = first.refresh_token().unwrap();
    drop(first);
    // The next run knows nothing, or an earlier refresh token: the store knows better.
    let earlier = earlier.expose_secret();
    for given in [TokenInfo::stored(), TokenInfo::access("stale", HOUR).refresh(earlier)] {
        let next = Client::with_token(config(), given).unwrap();
        next.ask("What's my balance?").await.unwrap();
        assert_eq!(next.refresh_token().unwrap().expose_secret(), newest.expose_secret());
    }
    assert_eq!(payman.state().token_requests, 2);
    let bob = Client::with_token(config().subject("bob"), TokenInfo::stored()).unwrap();
    assert!(bob.access_token().await.unwrap_err().is_reauthorization_required());
}

#[tokio::test]
async fn users_without_a_subject_do_not_meet_in_a_store() {
    let payman = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let store = MemoryTokenStore::new();
    let with =
        |token| Client::with_token(config(&payman).token_store(store.clone()), token).unwrap();
    let alice = with(TokenInfo::refresh_only(payman.issue_refresh_token(["read_balance"])));
    let bob = with(TokenInfo::refresh_only(payman.issue_refresh_token(["read_list_payees"])));
    alice.access_token().await.unwrap();
    bob.access_token().await.unwrap();
    assert_eq!(alice.token_status().scopes(), [Scope::ReadBalance]);
    assert_eq!(bob.token_status().scopes(), [Scope::ReadListPayees]);
    let nowhere =
        Client::with_token(config(&payman).token_store(store.clone()), TokenInfo::stored());
    assert!(nowhere.unwrap_err().is_invalid_input());
}

#[tokio::test]
async fn many_users_share_one_pool() {
    let payman = Emulator::start().await.unwrap();
    let app = Client::with_credentials(config(&payman)).unwrap();
    let users = (0..20).map(|user| {
        let scope = if user % 2 == 0 { "read_balance" } else { "read_list_payees" };
        let token = TokenInfo::refresh_only(payman.issue_refresh_token([scope]));
        (user, Client::with_token(config(&payman).share_connections(&app), token).unwrap())
    });
    for (user, client) in users {
        let reply = client.ask("What's my balance?").await.unwrap();
        assert_eq!(reply.into_completed().is_ok(), user % 2 == 0, "each with a token of its own");
    }
}

#[tokio::test]
async fn what_is_given_is_checked_before_any_network() {
    let bad = [
        TokenInfo::access(" ", HOUR),
        TokenInfo::access("two\r\nlines", HOUR),
        TokenInfo::access("a", HOUR).refresh(""),
        TokenInfo::refresh_only("\t"),
        TokenInfo::stored(),
    ];
    for info in bad {
        assert!(Client::with_token(Config::new("id"), info).unwrap_err().is_invalid_input());
    }
    let past = TokenInfo::access_until("a", SystemTime::UNIX_EPOCH);
    let client =
        Client::with_token(Config::new("id").base_url("http://127.0.0.1:9"), past).unwrap();
    assert!(
        client.is_access_token_expired() && client.token_status().is_reauthorization_required()
    );
    assert!(client.ask("hello").await.unwrap_err().is_reauthorization_required());
}

#[tokio::test]
async fn any_success_status_is_a_token_reply_and_white_space_is_cut() {
    for status in [200, 201, 202, 206] {
        let server = MockServer::start().await;
        let granted =
            serde_json::json!({"accessToken": "new\r\n", "refreshToken": " r ", "expiresIn": 3600});
        let answer = ResponseTemplate::new(status).set_body_json(granted);
        common::on(&server, common::TOKEN, answer).await;
        let token = TokenInfo::refresh_only("refresh");
        let client = Client::with_token(common::config(&server.uri()), token).unwrap();
        assert_eq!(client.access_token().await.unwrap().expose_secret(), "new", "{status}");
        assert_eq!(client.refresh_token().unwrap().expose_secret(), "r");
    }
}

#[tokio::test]
async fn what_a_token_endpoint_echoes_is_redacted() {
    let (secret, refresh) = ("client+s3cret/=", "refresh&t0ken é");
    let server = MockServer::start().await;
    let echo = |request: &wiremock::Request| {
        let url = request.url.to_string();
        let basic = request.headers["authorization"].to_str().unwrap().to_owned();
        ResponseTemplate::new(400).set_body_json(serde_json::json!({
            "error": "invalid_request", "error_description": format!("bad request: {url}"),
            "error_uri": format!("https://x.test/?h={basic}"), "path": url, "message": basic,
        }))
    };
    wiremock::Mock::given(wiremock::matchers::any()).respond_with(echo).mount(&server).await;
    let config = Config::new("client-id").client_secret(secret).base_url(server.uri());
    let client = Client::with_token(config.clone(), TokenInfo::refresh_only(refresh)).unwrap();
    let errors = [
        client.access_token().await.unwrap_err(),
        Client::with_auth_code(config.clone(), refresh).await.unwrap_err(),
        Client::with_credentials(config).unwrap().access_token().await.unwrap_err(),
    ];
    for error in errors {
        let body = error.body().unwrap().into_owned();
        assert!(body.contains("invalid_request") && body.contains("[redacted]"), "{body}");
        let all = format!("{error} {error:?} {body}");
        for leaked in ["s3cret", "t0ken", "Y2xpZW50LWlk", "\"message\"", "\"path\""] {
            assert!(!all.contains(leaked), "{leaked} is in {all}");
        }
    }
}

#[tokio::test]
async fn clients_of_one_token_are_one_holder() {
    let payman = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let token = TokenInfo::refresh_only(payman.issue_refresh_token(ALL));
    let client = || Client::with_token(config(&payman), token.clone()).unwrap();
    let (one, other) = (client(), client());
    let (first, second) = tokio::join!(one.access_token(), other.access_token());
    first.unwrap();
    second.unwrap();
    // A client per request.
    for _ in 0..10 {
        client().ask("What's my balance?").await.unwrap();
    }
    payman.expire_access_tokens();
    let (first, second) =
        tokio::join!(one.ask("What's my balance?"), other.ask("What's my balance?"));
    first.unwrap();
    second.unwrap();
    assert_eq!(payman.state().refresh_reuses, 0);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_and_named() {
    let nowhere = || Config::new("id").client_secret("secret").base_url("http://127.0.0.1:9");
    let cases = [
        (nowhere().subject(""), "Config::subject"),
        (nowhere().subject("a\nb"), "Config::subject"),
        (Config::new("a:b").client_secret("s"), "client id"),
        (Config::new("a\n").client_secret("s"), "client id"),
        (nowhere().client_secret("s\r\n"), "Config::client_secret"),
        (nowhere().client_secret("s\u{0}"), "Config::client_secret"),
    ];
    for (config, setting) in cases {
        let error = Client::with_credentials(config).unwrap_err();
        assert!(error.is_invalid_input() && error.to_string().contains(setting), "{error}");
    }
    for (token, name) in [
        (TokenInfo::refresh_only("r\n"), "refresh token"),
        (TokenInfo::access("a\u{7f}", HOUR), "access token"),
    ] {
        let error = Client::with_token(nowhere(), token).unwrap_err();
        assert!(error.is_invalid_input() && error.to_string().contains(name), "{error}");
    }
    let error = Client::with_auth_code(nowhere(), "c0de\n").await.unwrap_err();
    assert!(error.is_invalid_input(), "{error}");
}

#[tokio::test]
async fn a_refusal_of_the_app_does_not_blame_the_user() {
    for (status, error, connect_again) in [
        (400, "invalid_client", false),
        (400, "unsupported_grant_type", false),
        (401, "unauthorized_client", false),
        (400, "invalid_grant", true),
    ] {
        let server = MockServer::start().await;
        let body = serde_json::json!({ "error": error });
        let answer = ResponseTemplate::new(status).set_body_json(body);
        common::on(&server, common::TOKEN, answer).await;
        let config = Config::new("id").client_secret("secret").base_url(server.uri());
        let failed = Client::with_auth_code(config, "c0de").await.unwrap_err();
        assert_eq!(failed.is_reauthorization_required(), connect_again, "{error}: {failed:?}");
    }
}

#[tokio::test]
async fn a_long_retry_after_is_capped() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(429).insert_header("retry-after", "90000");
    common::on(&server, common::TOKEN, answer).await;
    let token = TokenInfo::refresh_only("refresh");
    let client = Client::with_token(common::config(&server.uri()), token).unwrap();
    let error = client.access_token().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(HOUR));
}

/// The rate of token requests is one for all clients of a sign-in in a process.
#[tokio::test]
async fn clients_of_one_sign_in_share_the_rate_of_token_requests() {
    const CLIENTS: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let secret = |config: Config| config.client_secret("secret");
    let with_store = |config: Config| {
        config.subject("alice").token_store(FileTokenStore::new(directory.path().join("t.json")))
    };
    type Build<'a> = Box<dyn Fn(Config) -> Client + 'a>;
    let user = || TokenInfo::access("refused", HOUR).refresh("refresh");
    let cases: [(&str, Build<'_>); 4] = [
        ("an app", Box::new(|config| Client::with_credentials(secret(config)).unwrap())),
        (
            "an app with a store",
            Box::new(|config| Client::with_credentials(secret(with_store(config))).unwrap()),
        ),
        ("a user", Box::new(|config| Client::with_token(config, user()).unwrap())),
        (
            "a user with a store",
            Box::new(|config| Client::with_token(with_store(config), user()).unwrap()),
        ),
    ];
    // Kept to the end: refreshes outlive their clients, and must not count for the next case.
    let mut servers = Vec::new();
    for (case, build) in cases {
        let server = MockServer::start().await;
        common::on(&server, common::SEND, ResponseTemplate::new(401)).await;
        common::on(&server, common::TOKEN, ResponseTemplate::new(404)).await;
        let clients: Vec<_> = (0..CLIENTS).map(|_| build(common::config(&server.uri()))).collect();
        let asks = clients.iter().flat_map(|client| (0..5).map(|_| client.ask("hello")));
        let started = Instant::now();
        let asks: Vec<_> = asks.map(tokio::spawn).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A burst of four, and then two a second.
        let requests = common::count(&server, common::TOKEN).await;
        let most = 4 + usize::try_from(started.elapsed().as_millis() / 500).unwrap();
        assert!((1..=most).contains(&requests), "{case}: {requests} token requests, not {most}");
        asks.iter().for_each(tokio::task::JoinHandle::abort);
        servers.push(server);
    }
}

/// A backend that makes a client for every request sends no token request for each.
#[tokio::test]
async fn clients_with_the_same_credentials_share_one_token() {
    let payman = Emulator::start().await.unwrap();
    let clients: Vec<_> =
        (0..50).map(|_| Client::with_credentials(config(&payman)).unwrap()).collect();
    let asks = clients.iter().map(|client| client.ask("What's my balance?"));
    for reply in futures::future::join_all(asks).await {
        reply.unwrap();
    }
    assert_eq!(payman.state().token_requests, 1);
    // A wrong secret does not profit from the right one.
    let others = [config(&payman).client_secret("another"), config(&payman).subject("another")];
    let others = others.map(|config| Client::with_credentials(config).unwrap());
    for other in &others {
        other.ask("What's my balance?").await.unwrap();
    }
    assert_eq!(payman.state().token_requests, 3);
    drop((clients, others));
    // The last client took the token with it.
    let next = Client::with_credentials(config(&payman)).unwrap();
    assert!(!next.token_status().is_usable());
}

#[test]
fn outside_a_runtime_there_is_an_error() {
    let config = || Config::new("id").client_secret("secret").base_url("http://127.0.0.1:9");
    let user = Client::with_token(config(), TokenInfo::refresh_only("r")).unwrap();
    let block = futures::executor::block_on::<futures::future::BoxFuture<_>>;
    let errors = [
        block(Box::pin(async { user.access_token().await.map(|_| ()) })),
        block(Box::pin(async { user.sign_out().await })),
        block(Box::pin(async { user.ask("hello").await.map(|_| ()) })),
        block(Box::pin(async { Client::with_auth_code(config(), "c").await.map(|_| ()) })),
    ];
    for error in errors {
        let error = error.unwrap_err();
        assert!(error.is_invalid_input() && error.to_string().contains("runtime"), "{error:?}");
    }
    futures::executor::block_on(user.close());
}

#[tokio::test]
async fn the_status_serializes_before_the_first_ask_and_after() {
    let payman = Emulator::start().await.unwrap();
    let client = Client::with_credentials(config(&payman)).unwrap();
    let before = serde_json::to_value(client.token_status()).unwrap();
    assert_eq!(before["usable"], false);
    assert_eq!(before["reauthorizationRequired"], false);
    client.access_token().await.unwrap();
    let after = serde_json::to_value(client.token_status()).unwrap();
    assert_eq!((&after["usable"], &after["generation"]), (&true.into(), &1.into()));
    assert!(after["expiresAt"].as_u64().is_some());
}

#[tokio::test]
async fn a_failing_store_is_no_reason_to_connect_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    std::fs::write(&path, "no tokens").unwrap();
    let config = Config::new("id").base_url("http://127.0.0.1:9").subject("alice");
    let config = config.token_store(FileTokenStore::new(&path));
    let client = Client::with_token(config, TokenInfo::stored()).unwrap();
    let error = client.ask("hello").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenStore, "{error:?}");
    assert!(error.is_safe_to_ask_again() && std::error::Error::source(&error).is_some());
    assert!(!client.token_status().is_reauthorization_required());
}
