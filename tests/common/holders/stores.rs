//! The stores that holders share: a file or a Redis server, each of which can fail for a while.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use payman_sdk::{Claim, FileTokenStore, RedisTokenStore, TokenStore};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::directory;

/// The location of the store.
#[derive(Clone, Serialize, Deserialize)]
pub enum StoreLocation {
    File(PathBuf),
    Redis(String),
}

impl StoreLocation {
    pub fn open(&self) -> Arc<dyn TokenStore> {
        match self {
            Self::File(path) => Arc::new(FileTokenStore::new(path)),
            Self::Redis(url) => Arc::new(RedisTokenStore::new(url).unwrap()),
        }
    }
}

/// The ways in which a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The directory of the file is moved away.
    Moved,
    /// A file has the place of the directory.
    NotADirectory,
    /// The Redis server is stopped.
    Stopped,
    /// The Redis server is killed.
    Killed,
    /// The Redis server is a replica for a while.
    ReadOnly,
}

/// A store for the processes of one test.
pub enum SharedStore {
    File { directory: tempfile::TempDir },
    Redis(RedisServer),
}

impl SharedStore {
    pub fn file() -> Self {
        let directory = directory();
        std::fs::create_dir(directory.path().join("tokens")).unwrap();
        Self::File { directory }
    }

    /// Starts a Redis server.
    pub async fn redis() -> Self {
        Self::Redis(RedisServer::start().await)
    }

    /// Returns a directory for other files of the test.
    pub fn directory(&self) -> &Path {
        match self {
            Self::File { directory } => directory.path(),
            Self::Redis(server) => server.directory.path(),
        }
    }

    pub fn location(&self) -> StoreLocation {
        match self {
            Self::File { directory } => {
                StoreLocation::File(directory.path().join("tokens/tokens.json"))
            }
            Self::Redis(server) => StoreLocation::Redis(server.url()),
        }
    }

    /// Returns the ways in which this store fails.
    pub fn outages(&self) -> &'static [Outage] {
        match self {
            Self::File { .. } => &[Outage::Moved, Outage::NotADirectory],
            Self::Redis(_) => &[Outage::Stopped, Outage::Killed, Outage::ReadOnly],
        }
    }

    /// Dates all leases back, as if a lease had passed.
    pub async fn end_leases(&self) {
        let back = Claim::LEASE + Duration::from_secs(10);
        let back = u64::try_from(back.as_millis()).unwrap();
        match self {
            Self::File { directory } => {
                let path = directory.path().join("tokens/tokens.json");
                let lock = std::fs::File::create(path.with_extension("json.lock")).unwrap();
                lock.lock().unwrap();
                let text = std::fs::read_to_string(&path).unwrap();
                let mut book: Value = serde_json::from_str(&text).unwrap();
                for slot in book["tokens"].as_object_mut().unwrap().values_mut() {
                    if let Some(until) = slot.pointer_mut("/claim/until") {
                        *until = Value::from(until.as_u64().unwrap() - back);
                    }
                }
                let fresh = path.with_extension("dated");
                std::fs::write(&fresh, book.to_string()).unwrap();
                std::fs::rename(&fresh, &path).unwrap();
            }
            Self::Redis(server) => {
                let script = r"
                    for _, key in ipairs(redis.call('KEYS', 'payman:token:*')) do
                      if redis.call('HEXISTS', key, 'until') == 1 then
                        redis.call('HINCRBY', key, 'until', -ARGV[1])
                      end
                    end
                    return 'OK'";
                server.call(redis::cmd("EVAL").arg(script).arg(0).arg(back)).await;
            }
        }
    }

    pub async fn fail(&mut self, outage: Outage) {
        match (self, outage) {
            (Self::File { directory }, Outage::Moved | Outage::NotADirectory) => {
                let path = directory.path().join("tokens");
                std::fs::rename(&path, directory.path().join("away")).unwrap();
                if outage == Outage::NotADirectory {
                    std::fs::write(&path, "").unwrap();
                }
            }
            (Self::Redis(server), Outage::Stopped) => server.stop("TERM").await,
            (Self::Redis(server), Outage::Killed) => server.stop("KILL").await,
            (Self::Redis(server), Outage::ReadOnly) => {
                // There is no such primary, so that nothing is replicated.
                server.call(redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1)).await;
            }
            (_, outage) => panic!("not an outage of this store: {outage:?}"),
        }
    }

    pub async fn recover(&mut self, outage: Outage) {
        match (self, outage) {
            (Self::File { directory }, Outage::Moved | Outage::NotADirectory) => {
                let path = directory.path().join("tokens");
                if outage == Outage::NotADirectory {
                    std::fs::remove_file(&path).unwrap();
                }
                std::fs::rename(directory.path().join("away"), path).unwrap();
            }
            (Self::Redis(server), Outage::ReadOnly) => {
                server.call(redis::cmd("REPLICAOF").arg("NO").arg("ONE")).await;
            }
            (Self::Redis(server), _) => server.launch().await,
            (_, outage) => panic!("not an outage of this store: {outage:?}"),
        }
    }
}

/// A Redis server that flushes every write.
pub struct RedisServer {
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl RedisServer {
    async fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut server = Self { directory: directory(), port: free.port(), process: None };
        server.launch().await;
        server
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn launch(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.directory.path())
            .stdout(log)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        self.process = Some(process);
        let limit = Instant::now() + Duration::from_secs(10);
        while self.try_call(&redis::cmd("PING")).await.is_err() {
            assert!(Instant::now() < limit, "the Redis server does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(&mut self, signal: &str) {
        let mut process = self.process.take().unwrap();
        super::process::signal(&process, signal);
        process.wait().await.unwrap();
    }

    async fn try_call(&self, command: &redis::Cmd) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        command.query_async(&mut client.get_multiplexed_async_connection().await?).await
    }

    async fn call(&self, command: &redis::Cmd) {
        self.try_call(command).await.unwrap();
    }
}
