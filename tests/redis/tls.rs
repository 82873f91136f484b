//! `rediss://`: Redis over TLS. The trusted roots are an environment variable, so that each client
//! is a process of its own.

use std::process::Stdio;
use std::sync::Arc;

use payman_sdk::{Client, Config, Emulator, RedisTokenStore, TokenInfo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::resp::{Answer, RespServer, ok};
use crate::{chain, client};

const URL: &str = "PAYMAN_TEST_REDIS_CHILD_URL";
const CYCLE: &str = "PAYMAN_TEST_REDIS_CHILD_CYCLE";
const MARK: &str = "result of a child: ";

/// A certificate authority, and its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: std::path::PathBuf,
    _directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("roots.pem");
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file, _directory: directory }
    }

    /// Issues a certificate for a name.
    fn issue(&self, name: &str, is_expired: bool) -> TlsAcceptor {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if is_expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn server(tls: Option<TlsAcceptor>) -> RespServer {
    RespServer::start(
        tls,
        |command| {
            if command.is_script() { Answer::token("stored") } else { ok() }
        },
    )
    .await
}

fn with_scheme(scheme: &str, server: &RespServer) -> String {
    format!("{scheme}://{}/", server.address)
}

/// Runs `child_process` with these roots, and returns its result.
async fn child(url: &str, roots: &std::path::Path, cycle: bool) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tls::child_process", "--nocapture"]).env(URL, url);
    command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
    if cycle {
        command.env(CYCLE, "1");
    }
    let output = command.stdout(Stdio::piped()).kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.split_once(MARK));
    result.unwrap_or_else(|| panic!("no result: {text}")).1.to_owned()
}

/// Runs as a client in a process of its own, which the tests below start. Does nothing without a
/// URL.
#[tokio::test]
async fn child_process() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let store = RedisTokenStore::new(url).unwrap();
    let result = match std::env::var_os(CYCLE) {
        None => client(&store, "alice").access_token().await,
        Some(_) => sign_in_and_come_back(&store).await,
    };
    println!(
        "{MARK}{}",
        match result {
            Ok(token) => format!("token {}", token.expose_secret()),
            Err(error) => format!("{:?}: {}", error.kind(), chain(&error)),
        }
    );
}

/// Signs a user in, and reads the token with another client.
async fn sign_in_and_come_back(
    store: &RedisTokenStore,
) -> payman_sdk::Result<payman_sdk::AccessToken> {
    let payman = Emulator::start().await?;
    let config = || {
        let config = Config::new("client-id").client_secret("client-secret");
        config.base_url(payman.base_url()).subject("alice").token_store(store.clone())
    };
    let first = Client::with_auth_code(config(), payman.issue_code(["read_balance"])).await?;
    let stored = Client::with_token(config(), TokenInfo::stored())?.access_token().await?;
    assert_eq!(stored.expose_secret(), first.access_token().await?.expose_secret());
    assert!(!first.token_status().is_store_behind());
    Ok(stored)
}

#[tokio::test]
async fn a_trusted_server_is_used() {
    let authority = Authority::new();
    for name in ["127.0.0.1", "localhost"] {
        let server = server(Some(authority.issue(name, false))).await;
        let url = format!("rediss://{name}:{}/", server.address.port());
        assert_eq!(child(&url, &authority.file, false).await, "token stored", "{name}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_an_error_of_the_store() {
    let (authority, other) = (Authority::new(), Authority::new());
    let cases = [
        ("another authority", other.issue("127.0.0.1", false), "certificate"),
        ("another name", authority.issue("elsewhere.test", false), "certificate"),
        ("expired", authority.issue("127.0.0.1", true), "certificate"),
    ];
    for (case, tls, expected) in cases {
        let server = server(Some(tls)).await;
        let url = with_scheme("rediss", &server);
        let result = child(&url, &authority.file, false).await;
        assert!(result.starts_with("TokenStore: "), "{case}: {result}");
        assert!(result.contains(expected), "{case}: {result}");
    }
}

#[tokio::test]
async fn tls_on_one_side_only_is_an_error_of_the_store() {
    let authority = Authority::new();
    let (plain, tls) =
        (server(None).await, server(Some(authority.issue("127.0.0.1", false))).await);
    for url in [with_scheme("rediss", &plain), with_scheme("redis", &tls)] {
        let result = child(&url, &authority.file, false).await;
        assert!(result.starts_with("TokenStore: "), "{url}: {result}");
    }
    let missing = authority.file.with_file_name("missing.pem");
    let result = child(&with_scheme("rediss", &tls), &missing, false).await;
    assert!(result.starts_with("TokenStore: "), "no roots: {result}");
}

#[tokio::test]
async fn a_real_server_over_tls_is_used_where_it_is_trusted() {
    let (Ok(url), Ok(roots)) =
        (std::env::var("PAYMAN_TEST_REDIS_TLS_URL"), std::env::var("PAYMAN_TEST_REDIS_TLS_ROOTS"))
    else {
        eprintln!("skipped: PAYMAN_TEST_REDIS_TLS_URL is not set; tests/redis/run sets it");
        return;
    };
    let result = child(&url, roots.as_ref(), true).await;
    assert!(result.starts_with("token "), "{result}");
    let result = child(&url, &Authority::new().file, false).await;
    assert!(result.starts_with("TokenStore: ") && result.contains("certificate"), "{result}");
}
