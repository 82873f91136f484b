//! Tokens in a SQLite or PostgreSQL database.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use secrecy::ExposeSecret;

use super::slot::{Decision, Slot};
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{DatabasePool, FileAccess, Migration, SqlPool, Tables, on_pool, signed};

const TABLE: &str = "CREATE TABLE payman_tokens (
    key TEXT NOT NULL PRIMARY KEY,
    slot TEXT NOT NULL,
    forget_at BIGINT
)";
const MIGRATIONS: &[Migration] = &[Migration { sqlite: TABLE, postgres: TABLE }];

const WRITE: &str = "INSERT INTO payman_tokens (key, slot, forget_at) VALUES ($1, $2, $3) \
     ON CONFLICT (key) DO UPDATE SET slot = excluded.slot, forget_at = excluded.forget_at";
const DELETE: &str = "DELETE FROM payman_tokens WHERE key = $1 AND $2 IS NULL AND $3 IS NULL";
const FORGET: &str = "DELETE FROM payman_tokens WHERE forget_at < $1";

/// Writes a change in a transaction, commits it, and evaluates to the answer. A macro, because the
/// databases have different types of transactions.
macro_rules! write_change {
    ($store:ident, $tx:ident, $key:ident, $change:ident) => {{
        let Some(written) = &$change.written else {
            return Ok($change.answer);
        };
        sqlx::query(if written.slot.is_some() { WRITE } else { DELETE })
            .bind($key.as_str())
            .bind(&written.slot)
            .bind(written.forget_at)
            .execute(&mut *$tx)
            .await?;
        sqlx::query(FORGET).bind(signed($change.now)).execute(&mut *$tx).await?;
        let committed = $tx.commit().await;
        $store.committed($key, committed, $change).await
    }};
}

/// The time for which a sign-in that cannot be renewed is kept after its token expired.
const EXPIRED_RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Keeps tokens in a SQLite (feature `sqlite`) or PostgreSQL (feature `postgres`) database, and
/// shares them among all who use that database.
///
/// It has one table, `payman_tokens`, which it creates and brings up to date itself. On PostgreSQL
/// leases are measured by the server's clock, so that machines need not agree on the time.
///
/// Tokens are stored in plain text: anyone who reads the database can act for its users. A SQLite
/// file that [`connect`](Self::connect) creates is accessible to its owner only. Cheap to clone.
///
/// ```
/// # async fn f() -> payman_sdk::Result<()> {
/// use payman_sdk::{Client, Config, SqlTokenStore, TokenInfo};
///
/// let store = SqlTokenStore::connect("sqlite://payman.db").await?;
/// let config = Config::new("client-id").subject("user-17").token_store(store);
/// let client = Client::with_token(config, TokenInfo::stored())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqlTokenStore(Arc<SqlTokenStoreInner>);

struct SqlTokenStoreInner {
    pool: SqlPool,
    tables: Tables,
}

impl SqlTokenStore {
    /// Connects to the database at `url`, and creates the table if it is missing: `sqlite://path`
    /// (the file is created too) or `postgres://user@host/database`.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) for a URL of neither kind or
    /// without its feature, and [`TokenStore`](crate::ErrorKind::TokenStore) if the database cannot
    /// be used.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        let pool = SqlPool::connect(url.as_ref(), FileAccess::OwnerOnly).await;
        let pool = pool.map_err(|error| match error.kind() {
            ErrorKind::Journal => error.with_kind(ErrorKind::TokenStore),
            _ => error,
        })?;
        Self::with_pool(pool).await
    }

    /// Uses your own pool: a `sqlx::SqlitePool` or a `sqlx::PgPool`.
    ///
    /// The table is created when it is first needed. Await the store to create it at once. A
    /// connection to PostgreSQL lives on the runtime that made it: a pool belongs to one runtime.
    ///
    /// ```
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use payman_sdk::SqlTokenStore;
    ///
    /// let pool = sqlx::SqlitePool::connect("sqlite://users.db").await?;
    /// let store = SqlTokenStore::with_pool(pool.clone()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_pool(pool: impl Into<SqlPool>) -> Self {
        let tables = Tables::new("tokens", MIGRATIONS);
        Self(Arc::new(SqlTokenStoreInner { pool: pool.into(), tables }))
    }

    async fn ready(&self) -> Result<&DatabasePool, sqlx::Error> {
        if !self.0.tables.are_ready() {
            self.0.tables.ensure(&self.0.pool).await?;
        }
        Ok(&self.0.pool.0)
    }

    async fn read(&self, key: &TokenKey) -> Result<Option<String>, StoreError> {
        const READ: &str = "SELECT slot FROM payman_tokens WHERE key = $1";
        Ok(on_pool!(self.ready().await?, pool => {
            sqlx::query_scalar(READ).bind(key.as_str()).fetch_optional(pool).await?
        }))
    }

    /// Reads a slot, decides, and writes it back where it changed: in one transaction, with the row
    /// locked.
    async fn update<T: Send>(
        &self,
        key: &TokenKey,
        decide: impl FnOnce(&mut Slot, u64) -> Decision<T> + Send,
    ) -> Result<T, StoreError> {
        match self.ready().await? {
            #[cfg(feature = "sqlite")]
            DatabasePool::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                let read = "SELECT slot FROM payman_tokens WHERE key = $1";
                let stored: Option<String> =
                    sqlx::query_scalar(read).bind(key.as_str()).fetch_optional(&mut *tx).await?;
                let change =
                    SlotChange::decide(stored.as_deref(), millis(SystemTime::now()), decide)?;
                write_change!(self, tx, key, change)
            }
            #[cfg(feature = "postgres")]
            DatabasePool::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                // Inserts a row to lock. It is rolled back if nothing changes.
                let insert = "INSERT INTO payman_tokens (key, slot) VALUES ($1, '{}') \
                              ON CONFLICT (key) DO NOTHING";
                sqlx::query(insert).bind(key.as_str()).execute(&mut *tx).await?;
                let read = "SELECT slot, (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
                            FROM payman_tokens WHERE key = $1 FOR UPDATE";
                let (stored, now): (String, i64) =
                    sqlx::query_as(read).bind(key.as_str()).fetch_one(&mut *tx).await?;
                let now = u64::try_from(now).unwrap_or_default();
                let change = SlotChange::decide(Some(&stored), now, decide)?;
                write_change!(self, tx, key, change)
            }
        }
    }

    /// A commit whose answer was lost may have been done: then the row holds this very slot.
    async fn committed<T>(
        &self,
        key: &TokenKey,
        result: Result<(), sqlx::Error>,
        change: SlotChange<T>,
    ) -> Result<T, StoreError> {
        let Err(error) = result else {
            return Ok(change.answer);
        };
        let written = change.written.and_then(|written| written.slot);
        match (self.read(key).await, written) {
            (Ok(Some(stored)), Some(written)) if stored == written => Ok(change.answer),
            _ => Err(error.into()),
        }
    }
}

/// The change of the row that follows from a decision.
struct SlotChange<T> {
    answer: T,
    now: u64,
    /// `None` where nothing changed.
    written: Option<WrittenSlot>,
}

struct WrittenSlot {
    /// `None` for a slot that holds nothing: its row is deleted.
    slot: Option<String>,
    /// The time after which the row is deleted, in milliseconds since 1970.
    forget_at: Option<i64>,
}

impl<T> SlotChange<T> {
    fn decide(
        stored: Option<&str>,
        now: u64,
        decide: impl FnOnce(&mut Slot, u64) -> Decision<T>,
    ) -> Result<Self, StoreError> {
        let mut slot = match stored {
            Some(json) => Slot::from_json(json, "the database")?,
            None => Slot::default(),
        };
        let Decision { answer, changed } = decide(&mut slot, now);
        if !changed {
            return Ok(Self { answer, now, written: None });
        }
        let json = match slot.is_empty() {
            true => None,
            false => Some(slot.to_json()?.expose_secret().to_owned()),
        };
        let dead = slot.token().filter(|token| token.refresh.is_none());
        let forget_at = dead
            .map(|token| signed(millis(token.expires_at()).saturating_add(EXPIRED_RETENTION_MS)));
        Ok(Self { answer, now, written: Some(WrittenSlot { slot: json, forget_at }) })
    }
}

/// Creates the table at once.
impl IntoFuture for SqlTokenStore {
    type Output = Result<Self>;
    type IntoFuture = BoxFuture<'static, Result<Self>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.ready().await {
                Ok(_) => {}
                Err(error) => return Err(Error::database(error).with_kind(ErrorKind::TokenStore)),
            }
            Ok(self)
        })
    }
}

impl fmt::Debug for SqlTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlTokenStore").field(&self.0.pool).finish()
    }
}

impl TokenStore for SqlTokenStore {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async move {
            let Some(json) = self.read(key).await? else {
                return Ok(None);
            };
            Ok(Slot::from_json(&json, "the database")?.token().cloned())
        })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(self.update(key, move |slot, now| slot.claim(key, generation, now)))
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        Box::pin(self.update(claim.key(), move |slot, _| slot.commit(claim, token)))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.update(claim.key(), move |slot, _| slot.release(claim)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::store::tests::check_contract;

    async fn two_of_sqlite(directory: &tempfile::TempDir) -> (SqlTokenStore, SqlTokenStore) {
        let url = format!("sqlite://{}", directory.path().join("tokens.db").display());
        (SqlTokenStore::connect(&url).await.unwrap(), SqlTokenStore::connect(&url).await.unwrap())
    }

    #[tokio::test]
    async fn sqlite_fulfills_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let (store, other) = two_of_sqlite(&directory).await;
        check_contract(&store, &other).await;
    }

    /// `tests/postgres/run` runs this test with its own server.
    #[tokio::test]
    async fn postgres_fulfills_the_contract() {
        let Ok(url) = std::env::var("DATABASE_URL") else {
            eprintln!("left out: DATABASE_URL is not set; tests/postgres/run sets it");
            return;
        };
        let store = SqlTokenStore::connect(&url).await.unwrap();
        let other = SqlTokenStore::connect(&url).await.unwrap();
        check_contract(&store, &other).await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_new_sqlite_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = two_of_sqlite(&directory).await;
        let key = TokenKey::new(crate::auth::store::Owner::User, "id", "https://h", "u");
        store.claim(&key, 0).await.unwrap();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", file.path());
        }
    }

    #[tokio::test]
    async fn unknown_subjects_leave_no_rows() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = two_of_sqlite(&directory).await;
        for subject in 0..20 {
            let subject = subject.to_string();
            let key = TokenKey::new(crate::auth::store::Owner::User, "id", "https://h", &subject);
            assert!(store.load(&key).await.unwrap().is_none());
            let Claimed::Granted(claim) = store.claim(&key, 0).await.unwrap() else {
                panic!("nobody else claims it");
            };
            store.release(&claim).await.unwrap();
        }
        let rows: i64 = on_pool!(store.ready().await.unwrap(), pool => {
            let count = sqlx::query_scalar("SELECT COUNT(*) FROM payman_tokens");
            count.fetch_one(pool).await.unwrap()
        });
        assert_eq!(rows, 0);
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_used_is_an_error_of_the_token_store() {
        let error = SqlTokenStore::connect("sqlite:///no/such/folder/t.db").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenStore, "{error:?}");
        assert!(SqlTokenStore::connect("mysql://h/d").await.unwrap_err().is_invalid_input());
    }
}
