//! Tokens on a Redis server, shared by processes of many machines.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script, ScriptInvocation};
use secrecy::ExposeSecret;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::slot::unreadable;
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore};
use crate::error::{Error, Result};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const REPLY_LIMIT: Duration = Duration::from_secs(3);
/// The time for which other calls get the error of a failed attempt to connect: a refresh that
/// could not read the store claims next, and would wait for the connect limit once more.
const FAILURE_TTL: Duration = Duration::from_millis(500);
const PREFIX: &str = "payman:token:";
const PLACE: &str = "the Redis key";
/// The time for which a sign-in that cannot be renewed is kept.
const EXPIRED_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The time for which the record of a refused refresh token is kept.
const REFUSED_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The rules of [`slot`](super::slot) in Lua. Each call has a name of its own, so that one whose
/// answer was lost can be repeated.
const CLAIM: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local generation, lease, call = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local held = redis.call('HMGET', KEYS[1],
  'generation', 'token', 'claim', 'until', 'abandoned', 'fence', 'call')
if held[1] and tonumber(held[1]) > generation then
  return {'newer', held[2]}
end
local abandoned = 0
if held[3] and tonumber(held[3]) >= generation then
  if held[7] == call then
    return {'granted', held[6], held[5]}
  end
  local left = tonumber(held[4]) - now
  if left > lease then
    left = lease
    redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + lease))
  end
  if left > 0 then
    return {'held', string.format('%.0f', left)}
  end
  if tonumber(held[3]) == generation then
    abandoned = tonumber(held[5]) + 1
  end
end
local fence = string.format('%.0f', math.max(tonumber(held[6] or '0') + 1, now))
redis.call('HSET', KEYS[1], 'fence', fence, 'claim', ARGV[1], 'abandoned', abandoned,
  'until', string.format('%.0f', now + lease), 'call', call)
if not held[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {'granted', fence, tostring(abandoned)}
";

const COMMIT: &str = r"
local generation, token, sign_in = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[5])
local held = redis.call('HMGET', KEYS[1], 'generation', 'token', 'claim', 'fence', 'sign_in')
local function end_claim()
  redis.call('HDEL', KEYS[1], 'claim', 'until', 'abandoned', 'call')
end
local held_sign_in = tonumber(held[5] or '0')
local same = held_sign_in == sign_in
if held[1] and (held_sign_in > sign_in or (same and tonumber(held[1]) >= generation)) then
  if held[3] and held[4] == ARGV[3] then
    end_claim()
  end
  if held[2] == token then
    return {'saved'}
  end
  return {'superseded', held[2]}
end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'token', token, 'sign_in', ARGV[5])
local is_new_sign_in = held[1] and held_sign_in < sign_in
if held[3] and (is_new_sign_in or tonumber(held[3]) < generation or held[4] == ARGV[3]) then
  end_claim()
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
/// Leases are counted by the server's clock, so that machines need not agree on the time. Tokens
/// are stored in plain text: anyone who reads the server can act for its users. Cheap to clone;
/// nothing connects before the first use.
///
/// # Durability
///
/// A claim is as durable as the server's writes. A lost claim may let a refresh token be spent
/// twice, which ends the sign-in at servers that rotate refresh tokens:
///
/// * **Persistence**: `appendonly yes` and `appendfsync always`. A server that restarts without its
///   last writes has forgotten its last claims.
/// * **Eviction**: `maxmemory-policy noeviction`. Any other policy deletes sign-ins when memory
///   runs short.
/// * **Failover**: replication is asynchronous, so that a replica that is promoted lacks the last
///   writes. `min-replicas-to-write 1` narrows the gap and does not close it. Where sign-ins must
///   survive every failover, use a database with synchronous commits (`SqlTokenStore`).
///
/// After a failover the server at the old address answers `READONLY`; such a connection is closed
/// and replaced, so use an address that follows the primary. A Redis Cluster is not supported: its
/// redirections (`MOVED`) are reported as an error.
///
/// # TLS
///
/// `rediss://` needs the feature `redis-rustls`. It trusts the roots of the operating system, or
/// those in the file that the environment's `SSL_CERT_FILE` names. Without the feature `rustls`,
/// the program has to [install a crypto provider](crate::Config#tls).
#[derive(Clone)]
pub struct RedisTokenStore(Arc<RedisStoreInner>);

struct RedisStoreInner {
    client: Client,
    link: Mutex<Link>,
    claim: Script,
    commit: Script,
    release: Script,
    load: Script,
}

/// The connection, as far as there is one.
#[derive(Default)]
enum Link {
    #[default]
    Closed,
    /// Callers wait for it together, outside the lock.
    Connecting(Connecting),
    Failed {
        at: Instant,
        error: RedisError,
    },
    Open {
        number: u64,
        connection: MultiplexedConnection,
    },
}

#[derive(Clone)]
struct Connecting {
    number: u64,
    started: Instant,
    /// An attempt belongs to the runtime that drives it.
    runtime: Id,
    attempt: Shared<BoxFuture<'static, Result<MultiplexedConnection, RedisError>>>,
}

/// A connection and the number of the attempt that made it.
struct Connection {
    number: u64,
    connection: MultiplexedConnection,
}

/// Classifies an error by the state of the connection that returned it.
#[derive(Debug, PartialEq, Eq)]
enum RedisFault {
    /// The connection is broken, or leads to a server that cannot serve: another one may work.
    Connection,
    /// The server is part of a cluster.
    Cluster,
    /// The server understood the call and refused it.
    Call,
}

impl RedisTokenStore {
    /// Creates a store on the server at `url`, such as `redis://127.0.0.1:6379`.
    ///
    /// ```
    /// use payman_sdk::RedisTokenStore;
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let store = RedisTokenStore::new("redis://127.0.0.1:6379/")?; // connects when it is used
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) for another kind of URL, and for
    /// `rediss://` without the feature `redis-rustls`.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        let url = url.as_ref().trim();
        if cfg!(not(feature = "redis-rustls"))
            && ["rediss://", "valkeys://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return Err(Error::invalid_input(
                "the token store's URL asks for TLS, which needs the feature redis-rustls",
            ));
        }
        // Without the cause: it may quote the URL, and that may hold a password.
        let client = Client::open(url).map_err(|_| {
            Error::invalid_input(
                "the token store's URL is not a Redis URL such as redis://host:6379",
            )
        })?;
        Ok(Self(Arc::new(RedisStoreInner {
            client,
            link: Mutex::default(),
            claim: Script::new(CLAIM),
            commit: Script::new(COMMIT),
            release: Script::new(RELEASE),
            load: Script::new(LOAD),
        })))
    }

    /// Runs a script. Each may be repeated, and is repeated once, on a new connection.
    async fn run(&self, call: &ScriptInvocation<'_>) -> Result<Vec<String>, StoreError> {
        let mut is_last = false;
        loop {
            let Connection { number, mut connection } = self.0.connection().await?;
            let error = match call.invoke_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let fault = fault_of(&error);
            if fault != RedisFault::Call {
                self.0.close(number);
            }
            match fault {
                RedisFault::Call => return Err(error.into()),
                RedisFault::Cluster if is_last => {
                    let message = "the Redis server is part of a cluster, which is not supported";
                    return Err(format!("{message}: {error}").into());
                }
                RedisFault::Connection if is_last => return Err(error.into()),
                RedisFault::Cluster | RedisFault::Connection => is_last = true,
            }
        }
    }
}

impl RedisStoreInner {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "redis-rustls")]
    fn is_tls(&self) -> bool {
        matches!(self.client.get_connection_info().addr(), redis::ConnectionAddr::TcpTls { .. })
    }

    /// Returns the open connection, or waits for one. The lock is not held while connecting.
    async fn connection(&self) -> Result<Connection, StoreError> {
        let runtime = Handle::try_current()?.id();
        #[cfg(feature = "redis-rustls")]
        if self.is_tls() && !crate::transport::crypto::has_crypto_provider() {
            return Err("no crypto provider of rustls is installed, which rediss:// needs".into());
        }
        let connecting = {
            let mut link = self.link();
            match &*link {
                Link::Open { number, connection } => {
                    return Ok(Connection { number: *number, connection: connection.clone() });
                }
                Link::Connecting(connecting) if connecting.is_under_way(runtime) => {
                    connecting.clone()
                }
                Link::Failed { at, error } if at.elapsed() < FAILURE_TTL => {
                    return Err(error.clone().into());
                }
                Link::Connecting(_) | Link::Failed { .. } | Link::Closed => {
                    let connecting = self.connect(runtime);
                    *link = Link::Connecting(connecting.clone());
                    connecting
                }
            }
        };
        let number = connecting.number;
        let result = connecting.attempt.await;
        let mut link = self.link();
        if matches!(&*link, Link::Connecting(present) if present.number == number) {
            *link = match &result {
                Ok(connection) => Link::Open { number, connection: connection.clone() },
                Err(error) => Link::Failed { at: Instant::now(), error: error.clone() },
            };
        }
        Ok(Connection { number, connection: result? })
    }

    fn connect(&self, runtime: Id) -> Connecting {
        let client = self.client.clone();
        let attempt = async move {
            let limits = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_LIMIT))
                .set_response_timeout(Some(REPLY_LIMIT));
            client.get_multiplexed_async_connection_with_config(&limits).await
        };
        let (number, started) = (fastrand::u64(..), Instant::now());
        Connecting { number, started, runtime, attempt: attempt.boxed().shared() }
    }

    /// Gives up a connection, unless there is another one already.
    fn close(&self, number: u64) {
        let mut link = self.link();
        if matches!(&*link, Link::Open { number: present, .. } if *present == number) {
            *link = Link::Closed;
        }
    }
}

impl Connecting {
    fn is_under_way(&self, runtime: Id) -> bool {
        self.runtime == runtime && self.started.elapsed() < CONNECT_LIMIT + REPLY_LIMIT
    }
}

/// Classifies an error. Within a script, older servers put the code into the text.
fn fault_of(error: &RedisError) -> RedisFault {
    const WRONG_SERVER: [&str; 7] =
        ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOREPLICAS", "TRYAGAIN"];
    const CLUSTER: [&str; 4] = ["MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT"];

    let Some(code) = error.code() else {
        return RedisFault::Connection;
    };
    let detail = error.detail().unwrap_or_default();
    let says = |known: &&str| {
        code == *known || detail.split([' ', ':']).any(|word| word.trim_matches('-') == *known)
    };
    if CLUSTER.iter().any(&says) {
        RedisFault::Cluster
    } else if WRONG_SERVER.iter().any(says) {
        RedisFault::Connection
    } else {
        RedisFault::Call
    }
}

/// Written by hand, because the URL may hold a password.
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
                _ => Err(unreadable(PLACE)),
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
            call.arg(uuid::Uuid::new_v4().simple().to_string()).arg(millis(EXPIRED_RETENTION));
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
                _ => Err(unreadable(PLACE)),
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
            call.arg(kept_for(token).map_or_else(String::new, |wait| millis(wait).to_string()));
            call.arg(token.sign_in);
            let answer = self.run(&call).await?;
            match &*answer.iter().map(String::as_str).collect::<Vec<_>>() {
                ["saved"] => Ok(Committed::Saved),
                ["superseded", json] => StoredToken::from_json(json).map(Committed::Superseded),
                _ => Err(unreadable(PLACE)),
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

/// Returns how long a token is kept; `None` without limit, where it can be renewed.
fn kept_for(token: &StoredToken) -> Option<Duration> {
    if token.refused {
        return Some(REFUSED_RETENTION);
    }
    let left = token.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
    token.refresh.is_none().then(|| left + EXPIRED_RETENTION)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_replica_close_the_connection() {
        let parse = |text: &str| {
            redis::parse_redis_value(text.as_bytes()).unwrap().extract_error().unwrap_err()
        };
        for (text, fault) in [
            ("-READONLY You can't write against a read only replica.\r\n", RedisFault::Connection),
            ("-LOADING Redis is loading the dataset in memory\r\n", RedisFault::Connection),
            ("-MASTERDOWN Link with MASTER is down\r\n", RedisFault::Connection),
            ("-NOAUTH Authentication required.\r\n", RedisFault::Connection),
            ("-CLUSTERDOWN The cluster is down\r\n", RedisFault::Cluster),
            ("-MOVED 3999 127.0.0.1:6381\r\n", RedisFault::Cluster),
            (
                "-ERR Error running script: @user_script: 1: -READONLY You can't\r\n",
                RedisFault::Connection,
            ),
            ("-ERR unknown command\r\n", RedisFault::Call),
            ("-OOM command not allowed\r\n", RedisFault::Call),
        ] {
            assert_eq!(fault_of(&parse(text)), fault, "{text}");
        }
    }
}
