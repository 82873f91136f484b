//! Tokens on a Redis server, shared by processes of many machines.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script, ScriptInvocation};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use super::slot::unreadable;
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore};
use crate::error::{Error, Result};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const REPLY_LIMIT: Duration = Duration::from_secs(3);
const PREFIX: &str = "payman:token:";
/// How long a sign-in that nothing can renew is remembered.
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The same rules as `slot`'s. Each call has a name of its own, so that one whose answer was lost can be repeated.
const CLAIM: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local generation, lease, call = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local held = redis.call('HMGET', KEYS[1], 'generation', 'token', 'claim', 'until', 'abandoned', 'fence', 'call')
if held[1] and tonumber(held[1]) > generation then
  return {'newer', held[2]}
end
local abandoned = 0
if held[3] and tonumber(held[3]) >= generation then
  if held[7] == call then
    return {'granted', held[6], held[5]}
  end
  local left = math.min(tonumber(held[4]) - now, lease)
  if left > 0 then
    return {'held', string.format('%.0f', left)}
  end
  if tonumber(held[3]) == generation then
    abandoned = tonumber(held[5]) + 1
  end
end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'claim', ARGV[1], 'until', string.format('%.0f', now + lease), 'abandoned', abandoned, 'call', call)
if not held[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {'granted', tostring(fence), tostring(abandoned)}
";

const COMMIT: &str = r"
local generation, token = tonumber(ARGV[1]), ARGV[2]
local held = redis.call('HMGET', KEYS[1], 'generation', 'token', 'claim', 'fence')
if held[1] and tonumber(held[1]) >= generation then
  if held[2] == token then
    return {'saved'}
  end
  return {'superseded', held[2]}
end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'token', token)
if held[3] and (tonumber(held[3]) < generation or held[4] == ARGV[3]) then
  redis.call('HDEL', KEYS[1], 'claim', 'until', 'abandoned', 'call')
end
if ARGV[4] == '' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {'saved'}
";

const RELEASE: &str = r"
if redis.call('HGET', KEYS[1], 'fence') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'claim', 'until', 'abandoned', 'call')
end
return {'released'}
";

const LOAD: &str = r"
return {'token', redis.call('HGET', KEYS[1], 'token') or ''}
";

/// Keeps tokens on a Redis server (6 or newer), and shares them among all who use that server.
///
/// Leases are counted by the server's clock, so that machines need not agree on the time. A claim is as durable as
/// the server's persistence (`appendfsync always` for the full promise); a server that forgets a claim in
/// a crash may let a refresh token be spent twice.
///
/// Tokens are stored in the clear: whoever reads the server can act for its users. Cheap to clone; nothing is
/// connected before the first use.
#[derive(Clone)]
pub struct RedisTokenStore(Arc<Inner>);

struct Inner {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    claim: Script,
    commit: Script,
    release: Script,
    load: Script,
}

impl RedisTokenStore {
    /// A store on the server at `url`, such as `redis://127.0.0.1:6379`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where that is no Redis URL.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        // Without the cause: it may quote the URL, and that may hold a password.
        let client = Client::open(url.as_ref()).map_err(|_| {
            Error::invalid_input(
                "the token store's URL is not a Redis URL; it looks like redis://host:6379",
            )
        })?;
        Ok(Self(Arc::new(Inner {
            client,
            connection: Mutex::default(),
            claim: Script::new(CLAIM),
            commit: Script::new(COMMIT),
            release: Script::new(RELEASE),
            load: Script::new(LOAD),
        })))
    }

    /// Runs a script; each may be repeated, and is, once, on a new connection.
    async fn run(&self, call: &ScriptInvocation<'_>) -> Result<Vec<String>, StoreError> {
        for last in [false, true] {
            let mut connection = self.connection().await?;
            match call.invoke_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                // The server understood and said no.
                Err(error) if last || error.code().is_some() => return Err(error.into()),
                // A connection lives on the runtime that made it, and may be gone with it.
                Err(_) => *self.0.connection.lock().await = None,
            }
        }
        Err("the Redis server did not answer".into())
    }

    async fn connection(&self) -> Result<MultiplexedConnection, StoreError> {
        let mut held = self.0.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(REPLY_LIMIT));
        let connection =
            self.0.client.get_multiplexed_async_connection_with_config(&limits).await?;
        *held = Some(connection.clone());
        Ok(connection)
    }
}

/// By hand: the URL may hold a password.
impl fmt::Debug for RedisTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTokenStore").finish_non_exhaustive()
    }
}

impl TokenStore for RedisTokenStore {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async move {
            let answer = self.run(self.0.load.prepare_invoke().key(name(key))).await?;
            match &*answer.iter().map(String::as_str).collect::<Vec<_>>() {
                ["token", ""] => Ok(None),
                ["token", json] => StoredToken::from_json(json).map(Some),
                _ => Err(unreadable("the Redis key")),
            }
        })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            let mut call = self.0.claim.prepare_invoke();
            call.key(name(key)).arg(generation).arg(millis(Claim::LEASE));
            call.arg(uuid::Uuid::new_v4().simple().to_string()).arg(millis(MONTH));
            let answer = self.run(&call).await?;
            match &*answer.iter().map(String::as_str).collect::<Vec<_>>() {
                ["newer", json] => StoredToken::from_json(json).map(Claimed::Newer),
                ["held", left] => Ok(Claimed::Held(Duration::from_millis(left.parse()?))),
                ["granted", fence, abandoned] => Ok(Claimed::Granted(Claim::new(
                    key.clone(),
                    generation,
                    fence.parse()?,
                    abandoned.parse()?,
                ))),
                _ => Err(unreadable("the Redis key")),
            }
        })
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        Box::pin(async move {
            let mut call = self.0.commit.prepare_invoke();
            call.key(name(claim.key()))
                .arg(token.generation)
                .arg(token.to_json().expose_secret())
                .arg(claim.fence());
            call.arg(keep_for(token).map_or_else(String::new, |wait| millis(wait).to_string()));
            let answer = self.run(&call).await?;
            match &*answer.iter().map(String::as_str).collect::<Vec<_>>() {
                ["saved"] => Ok(Committed::Saved),
                ["superseded", json] => StoredToken::from_json(json).map(Committed::Superseded),
                _ => Err(unreadable("the Redis key")),
            }
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut call = self.0.release.prepare_invoke();
            self.run(call.key(name(claim.key())).arg(claim.fence())).await?;
            Ok(())
        })
    }
}

fn name(key: &TokenKey) -> String {
    format!("{PREFIX}{key}")
}

/// For ever where it can be renewed.
fn keep_for(token: &StoredToken) -> Option<Duration> {
    let left = token.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
    token.refresh.is_none().then(|| left + MONTH)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
