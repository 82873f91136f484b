//! Databases of the journal and the token store: a pool of either kind, and embedded migrations.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;

use crate::error::{Error, Result};

#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
#[cfg(feature = "sqlite")]
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions};
#[cfg(feature = "sqlite")]
use tokio::time::{Instant, sleep};

/// The time limit for getting a connection of a pool that is created here.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
/// The time for which SQLite waits for another process that writes.
#[cfg(feature = "sqlite")]
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// The interval between attempts to open a database that is being created.
#[cfg(feature = "sqlite")]
const BUSY_INTERVAL: Duration = Duration::from_millis(30);

/// A pool of connections to SQLite or PostgreSQL, converted from a `sqlx` pool.
#[derive(Clone)]
pub struct SqlPool(pub(crate) DatabasePool);

#[derive(Clone)]
pub(crate) enum DatabasePool {
    #[cfg(feature = "sqlite")]
    Sqlite(SqlitePool),
    #[cfg(feature = "postgres")]
    Postgres(PgPool),
}

#[cfg(feature = "sqlite")]
impl From<SqlitePool> for SqlPool {
    fn from(pool: SqlitePool) -> Self {
        Self(DatabasePool::Sqlite(pool))
    }
}

#[cfg(feature = "postgres")]
impl From<PgPool> for SqlPool {
    fn from(pool: PgPool) -> Self {
        Self(DatabasePool::Postgres(pool))
    }
}

impl fmt::Debug for SqlPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            #[cfg(feature = "sqlite")]
            DatabasePool::Sqlite(_) => "SqlPool(SQLite)",
            #[cfg(feature = "postgres")]
            DatabasePool::Postgres(_) => "SqlPool(PostgreSQL)",
        })
    }
}

/// Runs the same code on either pool.
macro_rules! on_pool {
    ($pool:expr, $name:ident => $body:expr) => {
        match $pool {
            #[cfg(feature = "sqlite")]
            $crate::sql::DatabasePool::Sqlite($name) => $body,
            #[cfg(feature = "postgres")]
            $crate::sql::DatabasePool::Postgres($name) => $body,
        }
    };
}
pub(crate) use on_pool;

/// The permissions of the database's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileAccess {
    /// The default permissions of files that the process creates.
    Default,
    /// Only the owner, if the file is created here: it holds secrets.
    OwnerOnly,
}

impl SqlPool {
    /// Connects to the database at `url`: `sqlite://path` or `postgres://…`.
    pub(crate) async fn connect(url: &str, access: FileAccess) -> Result<Self> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" => connect_sqlite(url, access).await,
            "postgres" | "postgresql" => connect_postgres(url).await,
            _ => Err(Error::invalid_input(
                "the database's URL is neither sqlite://… nor postgres://…",
            )),
        }
    }
}

#[cfg(feature = "sqlite")]
async fn connect_sqlite(url: &str, access: FileAccess) -> Result<SqlPool> {
    use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
    use std::str::FromStr;

    let options = SqliteConnectOptions::from_str(url)
        .map_err(|_| Error::invalid_input("the database's URL is no SQLite URL: sqlite://path"))?
        .create_if_missing(true)
        .busy_timeout(BUSY_LIMIT)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit survives a loss of power: an ask is recorded before it is sent.
        .synchronous(SqliteSynchronous::Full);
    if access == FileAccess::OwnerOnly {
        create_private(options.get_filename()).map_err(Error::database)?;
    }
    let give_up_at = Instant::now() + BUSY_LIMIT;
    loop {
        let connected = open_sqlite(options.clone()).await;
        match connected {
            Err(error) if is_busy(&error) && Instant::now() < give_up_at => {
                sleep(BUSY_INTERVAL.mul_f64(0.5 + fastrand::f64())).await;
            }
            connected => return Ok(connected.map_err(Error::database)?.into()),
        }
    }
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(
    options: SqliteConnectOptions,
) -> std::result::Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        // SQLite allows one writer, and a database in memory belongs to its connection.
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .acquire_timeout(ACQUIRE_LIMIT.saturating_add(BUSY_LIMIT))
        .connect_with(options)
        .await
}

/// Returns true where another connection holds a lock. SQLite does not wait for the one that a
/// change of the journal mode needs, as in a database that another process creates at this moment.
#[cfg(feature = "sqlite")]
fn is_busy(error: &sqlx::Error) -> bool {
    // The low byte of an extended result code is the result code.
    const PRIMARY_CODE: u32 = 0xff;
    const SQLITE_BUSY: u32 = 5;
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & PRIMARY_CODE == SQLITE_BUSY)
}

#[cfg(feature = "sqlite")]
fn create_private(path: &std::path::Path) -> std::io::Result<()> {
    let name = path.as_os_str();
    if name.is_empty() || name == ":memory:" || name.to_string_lossy().starts_with("file:") {
        return Ok(());
    }
    match crate::os::private_file().create_new(true).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "sqlite"))]
async fn connect_sqlite(_: &str, _: FileAccess) -> Result<SqlPool> {
    Err(Error::invalid_input("SQLite needs the crate's feature `sqlite`"))
}

#[cfg(feature = "postgres")]
async fn connect_postgres(url: &str) -> Result<SqlPool> {
    use sqlx::postgres::PgConnectOptions;
    use std::str::FromStr;

    // The cause is omitted, since it may quote the URL, which may contain a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        Error::invalid_input("the database's URL is no PostgreSQL URL: postgres://user@host/name")
    })?;
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(ACQUIRE_LIMIT)
        .connect_with(options)
        .await
        .map_err(Error::database)?;
    Ok(pool.into())
}

#[cfg(not(feature = "postgres"))]
async fn connect_postgres(_: &str) -> Result<SqlPool> {
    Err(Error::invalid_input("PostgreSQL needs the crate's feature `postgres`"))
}

/// The statements that bring a component's tables from one version to the next, in either
/// database's SQL.
pub(crate) struct Migration {
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "the other database's"))]
    pub(crate) sqlite: &'static str,
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "the other database's"))]
    pub(crate) postgres: &'static str,
}

/// Runs the migrations after `$version`, and records each. A macro, because the connections of
/// `sqlx` have no common type.
macro_rules! apply_migrations {
    ($tables:expr, $connection:expr, $version:expr, $sql:ident) => {
        for (number, migration) in $tables.after($version) {
            sqlx::Executor::execute(&mut *$connection, migration.$sql).await?;
            sqlx::query(RECORD)
                .bind($tables.component)
                .bind(number)
                .execute(&mut *$connection)
                .await?;
        }
    };
}

/// The tables of one component, created when they are first needed.
pub(crate) struct Tables {
    component: &'static str,
    migrations: &'static [Migration],
    ready: Arc<AtomicBool>,
}

impl Clone for Tables {
    fn clone(&self) -> Self {
        Self { ready: Arc::clone(&self.ready), ..*self }
    }
}

impl Tables {
    pub(crate) fn new(component: &'static str, migrations: &'static [Migration]) -> Self {
        Self { component, migrations, ready: Arc::default() }
    }

    pub(crate) fn are_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Creates the tables, or brings them up to date. Two processes may do so at once.
    pub(crate) async fn ensure(&self, pool: &SqlPool) -> Result<(), sqlx::Error> {
        match &pool.0 {
            #[cfg(feature = "sqlite")]
            DatabasePool::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                self.migrate_sqlite(&mut tx).await?;
                tx.commit().await?;
            }
            #[cfg(feature = "postgres")]
            DatabasePool::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                self.migrate_postgres(&mut tx).await?;
                tx.commit().await?;
            }
        }
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Creates or updates the tables in SQLite. The connection must be in a transaction.
    #[cfg(feature = "sqlite")]
    pub(crate) fn migrate_sqlite<'a>(
        &'a self,
        connection: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(async move {
            sqlx::Executor::execute(&mut *connection, MIGRATIONS_TABLE).await?;
            let version: i64 = sqlx::query_scalar(VERSION)
                .bind(self.component)
                .fetch_one(&mut *connection)
                .await?;
            apply_migrations!(self, connection, version, sqlite);
            Ok(())
        })
    }

    /// Creates or updates the tables in PostgreSQL. The connection must be in a transaction.
    #[cfg(feature = "postgres")]
    pub(crate) fn migrate_postgres<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(async move {
            // A role without the permission to create tables can use existing ones.
            let exists: bool =
                sqlx::query_scalar("SELECT to_regclass('payman_migrations') IS NOT NULL")
                    .fetch_one(&mut *connection)
                    .await?;
            if !exists {
                lock_migrations(connection).await?;
                sqlx::Executor::execute(&mut *connection, MIGRATIONS_TABLE).await?;
            }
            let mut version = self.postgres_version(connection).await?;
            if !self.after(version).is_empty() {
                lock_migrations(connection).await?;
                version = self.postgres_version(connection).await?;
            }
            apply_migrations!(self, connection, version, postgres);
            Ok(())
        })
    }

    #[cfg(feature = "postgres")]
    async fn postgres_version(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(VERSION).bind(self.component).fetch_one(&mut *connection).await
    }

    fn after(&self, version: i64) -> Vec<(i64, &'static Migration)> {
        (1..).zip(self.migrations).filter(|(number, _)| *number > version).collect()
    }
}

/// Waits until no other process migrates, and locks the migrations until the transaction ends.
#[cfg(feature = "postgres")]
async fn lock_migrations(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(7809644627822240000)").execute(connection).await?;
    Ok(())
}

const MIGRATIONS_TABLE: &str = "CREATE TABLE IF NOT EXISTS payman_migrations (
    component TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (component, version)
)";
const VERSION: &str =
    "SELECT COALESCE(MAX(version), 0) FROM payman_migrations WHERE component = $1";
const RECORD: &str = "INSERT INTO payman_migrations (component, version) VALUES ($1, $2)";

/// Converts a number to an integer of the database. Both databases have signed integers only.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
