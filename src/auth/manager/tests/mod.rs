//! Tests of the token manager with a scripted token endpoint, on paused time.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep};

use super::rate_limit::RateLimit;
use super::{Options, TokenManager};
use crate::auth::grant::{Exchange, ExchangeError, Grant, GrantFault, Granted};
use crate::auth::sign_in::CodeSignIn;
use crate::auth::store::memory::MemoryTokenStore;
use crate::auth::store::{
    Claim, Claimed, Committed, Owner, StoreError, StoredToken, TokenKey, TokenStore,
};
use crate::auth::token::{Token, TokenInfo, TokenSource};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::BackgroundRefresh;

mod failures;
mod freshness;
mod identity;
mod replicas;
mod runtimes;
mod sign_ins;
mod sign_out;

const SECOND: Duration = Duration::from_secs(1);

type ExchangeReply = Result<Granted, ExchangeError>;
type ScriptedAnswer = dyn Fn(usize, Grant) -> BoxFuture<'static, ExchangeReply> + Send + Sync;

/// One exchange that was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    grant: &'static str,
    secret: Option<String>,
    at: Instant,
}

/// A token endpoint that answers by a script, and records its requests.
struct Script {
    answer: Box<ScriptedAnswer>,
    asked: Mutex<Vec<Asked>>,
}

impl Script {
    fn new(
        answer: impl Fn(usize, Grant) -> BoxFuture<'static, ExchangeReply> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { answer: Box::new(answer), asked: Mutex::default() })
    }

    /// Creates an endpoint that answers at once.
    fn at_once(answer: impl Fn(usize) -> ExchangeReply + Send + Sync + 'static) -> Arc<Self> {
        Self::new(move |number, _| Box::pin(std::future::ready(answer(number))))
    }

    /// Creates an endpoint that answers each request after a delay.
    fn after(
        delay: Duration,
        answer: impl Fn(usize) -> ExchangeReply + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(move |number, _| {
            let reply = answer(number);
            Box::pin(async move {
                sleep(delay).await;
                reply
            })
        })
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn secrets(&self) -> Vec<String> {
        self.asked().into_iter().filter_map(|asked| asked.secret).collect()
    }
}

impl Exchange for Script {
    fn exchange(&self, grant: Grant) -> BoxFuture<'static, ExchangeReply> {
        let secret = match &grant {
            Grant::ClientCredentials => None,
            Grant::AuthCode(secret) | Grant::Refresh(secret) => {
                Some(secret.expose_secret().to_owned())
            }
        };
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(Asked { grant: grant.name(), secret, at: Instant::now() });
            asked.len()
        };
        (self.answer)(number, grant)
    }
}

fn granted(number: usize, expires_in: i64, refresh: Option<&str>) -> Granted {
    Granted {
        access: SecretString::from(format!("access-{number}")),
        refresh: refresh.map(SecretString::from),
        expires_in: Some(expires_in),
        scope: Some("read_balance,new_scope".to_owned()),
    }
}

/// Grants access token `access-n` and the rotated refresh token `refresh-n`.
fn rotated(number: usize, expires_in: i64) -> ExchangeReply {
    Ok(granted(number, expires_in, Some(&format!("refresh-{number}"))))
}

fn fault(fault: GrantFault) -> ExchangeReply {
    let kind = match fault {
        GrantFault::NotSent => ErrorKind::Connect,
        GrantFault::Busy => ErrorKind::RateLimited,
        GrantFault::Failed => ErrorKind::Http,
        GrantFault::Lost => ErrorKind::Interrupted,
        GrantFault::Refused => ErrorKind::Auth,
        GrantFault::GrantDead => ErrorKind::ReauthorizationRequired,
    };
    Err(ExchangeError::new(fault, kind, "as the script says"))
}

fn busy_for(wait: Duration) -> ExchangeReply {
    let mut error = ExchangeError::new(GrantFault::Busy, ErrorKind::RateLimited, "busy");
    error.error = error.error.with_retry_after(Some(wait));
    Err(error)
}

fn key(owner: Owner) -> TokenKey {
    TokenKey::new(owner, "client-id", "http://127.0.0.1:1", "subject")
}

/// Returns a rate limit that is not shared with the managers of other tests, whose clocks differ.
fn rate(key: TokenKey) -> Arc<RateLimit> {
    Arc::new(RateLimit::new(key))
}

fn app(script: &Arc<Script>) -> TokenManager {
    app_on(script, MemoryTokenStore::new())
}

fn app_on(script: &Arc<Script>, store: impl TokenStore) -> TokenManager {
    let token = Token { loaded: false, ..Token::none(TokenSource::ClientCredentials) };
    manager(script, store, Owner::App, token, true)
}

fn user(script: &Arc<Script>, info: TokenInfo) -> TokenManager {
    user_on(script, MemoryTokenStore::new(), info)
}

fn user_on(script: &Arc<Script>, store: impl TokenStore, info: TokenInfo) -> TokenManager {
    manager(script, store, Owner::User, Token { loaded: false, ..info.into_token().unwrap() }, true)
}

fn manager(
    script: &Arc<Script>,
    store: impl TokenStore,
    owner: Owner,
    token: Token,
    retry: bool,
) -> TokenManager {
    let options = options(owner, u32::from(retry));
    let script: Arc<dyn Exchange> = Arc::<Script>::clone(script);
    TokenManager::with_rate(options, script, Arc::new(store), rate(key(owner)), token)
}

fn sign_in(script: &Arc<Script>, store: impl TokenStore) -> CodeSignIn {
    let exchange: Arc<dyn Exchange> = Arc::<Script>::clone(script);
    CodeSignIn {
        options: options(Owner::User, 1),
        exchange,
        store: Arc::new(store),
        client_id: "client-id".to_owned(),
        base_url: "http://127.0.0.1:1".to_owned(),
        subject: Some("subject".to_owned()),
    }
}

fn options(owner: Owner, lost_refresh_retries: u32) -> Options {
    Options { owner, lost_refresh_retries, background: BackgroundRefresh::Enabled }
}

async fn obtained(manager: &TokenManager) -> String {
    manager.request_token().await.unwrap().header.to_str().unwrap().to_owned()
}

/// Makes calls at the same time, each in a task of its own, and returns their results.
async fn concurrently<T: Send + 'static, Call: Future<Output = T> + Send + 'static>(
    manager: &TokenManager,
    calls: usize,
    call: impl Fn(TokenManager) -> Call,
) -> Vec<T> {
    let tasks: Vec<_> = (0..calls).map(|_| tokio::spawn(call(manager.clone()))).collect();
    futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

async fn refused(manager: &TokenManager) -> Error {
    let error = manager.request_token().await.expect_err("there is no token to be had");
    assert!(error.is_safe_to_ask_again(), "nothing of the ask was sent");
    error
}

/// A memory store that fails on command.
#[derive(Clone, Default)]
struct Flaky {
    store: MemoryTokenStore,
    commits_fail: Arc<AtomicBool>,
    claims_fail: Arc<AtomicBool>,
    loads_fail: Arc<AtomicBool>,
    commits: Arc<AtomicU32>,
}

fn down() -> StoreError {
    "the disk is full".into()
}

impl TokenStore for Flaky {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        if self.loads_fail.load(Ordering::Relaxed) {
            return Box::pin(async { Err(down()) });
        }
        self.store.load(key)
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        if self.claims_fail.load(Ordering::Relaxed) {
            return Box::pin(async { Err(down()) });
        }
        self.store.claim(key, generation)
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        if self.commits_fail.load(Ordering::Relaxed) {
            return Box::pin(async { Err(down()) });
        }
        self.store.commit(claim, token)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.release(claim)
    }
}
