//! A journal on SQLite or PostgreSQL.

mod outbox;

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::entry::{JournalEntry, JournalFilter, JournalState, to_millis};
use super::{Journal, JournalClaim, JournalSaved, now};
use crate::error::{Error, Result};
use crate::sql::{DatabasePool, FileAccess, Migration, SqlPool, Tables, on_pool, signed};

pub use outbox::JournalTransaction;
#[cfg(feature = "postgres")]
use outbox::Listener;

const MIGRATIONS: &[Migration] =
    &[Migration { sqlite: include_str!("sqlite_1.sql"), postgres: include_str!("postgres_1.sql") }];

/// A [`Journal`] on SQLite (feature `sqlite`) or PostgreSQL (feature `postgres`).
///
/// It has one table, `payman_journal`, which it creates and brings up to date itself. `state`,
/// `task_id` and `key` are columns for your own queries; do not write to them. Cheap to clone.
///
/// ```
/// # async fn f(config: payman_sdk::Config) -> payman_sdk::Result<()> {
/// use payman_sdk::{Ask, Client, SqlJournal};
///
/// let journal = SqlJournal::connect("sqlite://payman.db").await?;
/// let client = Client::with_credentials(config.journal(journal.clone()))?;
/// let ask = Ask::new("Pay Tyllen $50").idempotency_key("order-4711");
/// let reply = client.ask(ask).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqlJournal(Arc<SqlJournalInner>);

struct SqlJournalInner {
    pool: SqlPool,
    tables: Tables,
    reserved: Notify,
    #[cfg(feature = "postgres")]
    listener: Listener,
}

impl SqlJournal {
    /// Connects to the database at `url`, and creates the table if it is missing: `sqlite://path`
    /// (the file is created too) or `postgres://user@host/database`.
    ///
    /// ```
    /// # async fn f() -> payman_sdk::Result<()> {
    /// use payman_sdk::SqlJournal;
    ///
    /// let journal = SqlJournal::connect("sqlite://payman.db").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a URL of neither kind or without its
    /// feature; [`Journal`](crate::ErrorKind::Journal) if the database cannot be used.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::with_pool(SqlPool::connect(url.as_ref(), FileAccess::Default).await?).await
    }

    /// Uses your own pool: a `sqlx::SqlitePool` or a `sqlx::PgPool`.
    ///
    /// The table is created when it is first needed. Await the journal to create it at once:
    ///
    /// ```
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use payman_sdk::SqlJournal;
    ///
    /// let pool = sqlx::SqlitePool::connect("sqlite://orders.db").await?;
    /// let journal = SqlJournal::with_pool(pool.clone()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A record must survive a crash: leave SQLite's `synchronous` at `FULL` and PostgreSQL's
    /// `synchronous_commit` on. A worker on PostgreSQL keeps one of the pool's connections to
    /// listen on.
    #[must_use]
    pub fn with_pool(pool: impl Into<SqlPool>) -> Self {
        Self(Arc::new(SqlJournalInner {
            pool: pool.into(),
            tables: Tables::new("journal", MIGRATIONS),
            reserved: Notify::new(),
            #[cfg(feature = "postgres")]
            listener: Listener::default(),
        }))
    }

    /// Returns the entry of a key.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::SqlJournal) -> payman_sdk::Result<()> {
    /// if let Some(entry) = journal.get("order-4711").await? {
    ///     println!("{:?}, task {}", entry.state(), entry.task_id());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Journal`](crate::ErrorKind::Journal) if the database fails.
    pub async fn get(&self, key: &str) -> Result<Option<JournalEntry>> {
        Journal::get(self, key).await
    }

    /// Returns the entries that match, the least recently written first.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::SqlJournal) -> payman_sdk::Result<()> {
    /// use payman_sdk::JournalState;
    ///
    /// for entry in journal.list(JournalState::Sending).await? {
    ///     println!("{}: unknown, task {}", entry.key(), entry.task_id());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Journal`](crate::ErrorKind::Journal) if the database fails.
    pub async fn list(&self, filter: impl Into<JournalFilter>) -> Result<Vec<JournalEntry>> {
        Journal::list(self, &filter.into()).await
    }

    /// Records a person's decision that the key may be asked again, with the reason, and returns
    /// the entry.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::SqlJournal) -> payman_sdk::Result<()> {
    /// let reason = "not among the transactions of 27 June";
    /// let entry = journal.release("order-4711", reason).await?;
    /// println!("{} may be asked again", entry.key());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): no such key, or a blank reason.
    /// [`Journal`](crate::ErrorKind::Journal) if the database fails.
    pub async fn release(&self, key: &str, reason: &str) -> Result<JournalEntry> {
        Journal::release(self, key, reason).await
    }

    /// Deletes the settled entries that were last written before `time`, and returns how many.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::SqlJournal) -> payman_sdk::Result<()> {
    /// use std::time::{Duration, SystemTime};
    ///
    /// let year = Duration::from_secs(365 * 24 * 60 * 60);
    /// let forgotten = journal.forget_before(SystemTime::now() - year).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Journal`](crate::ErrorKind::Journal) if the database fails.
    pub async fn forget_before(&self, time: SystemTime) -> Result<u64> {
        Journal::forget_before(self, time).await
    }

    async fn ready(&self) -> Result<&DatabasePool> {
        if !self.0.tables.are_ready() {
            self.0.tables.ensure(&self.0.pool).await.map_err(Error::journal)?;
        }
        Ok(&self.0.pool.0)
    }

    async fn load(&self, key: &str) -> Result<Option<JournalEntry>> {
        let row: Option<String> = on_pool!(self.ready().await?, pool => {
            sqlx::query_scalar(GET).bind(key).fetch_optional(pool).await.map_err(Error::journal)?
        });
        row.map(|json| read(&json)).transpose()
    }
}

/// Creates the table at once.
impl IntoFuture for SqlJournal {
    type Output = Result<Self>;
    type IntoFuture = BoxFuture<'static, Result<Self>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.ready().await?;
            Ok(self)
        })
    }
}

impl fmt::Debug for SqlJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlJournal").field(&self.0.pool).finish()
    }
}

/// An entry's columns.
struct Row<'a> {
    entry: &'a JournalEntry,
    revision: i64,
    due_at: Option<i64>,
    updated_at: i64,
    json: String,
}

impl<'a> Row<'a> {
    fn new(entry: &'a JournalEntry) -> Result<Self> {
        Ok(Self {
            entry,
            revision: signed(entry.revision),
            due_at: entry.due_at.map(|due| signed(to_millis(due))),
            updated_at: signed(to_millis(entry.updated_at)),
            json: serde_json::to_string(entry).map_err(Error::journal)?,
        })
    }
}

/// Binds all columns in the order of `INSERT`.
macro_rules! bind_row {
    ($query:expr, $row:expr) => {
        $query
            .bind(&$row.entry.key)
            .bind($row.revision)
            .bind($row.entry.state.as_str())
            .bind($row.entry.task_id.as_str())
            .bind(&$row.entry.identity)
            .bind($row.due_at)
            .bind($row.updated_at)
            .bind(&$row.json)
    };
}
use bind_row;

const GET: &str = "SELECT entry FROM payman_journal WHERE key = $1";
const INSERT: &str = "INSERT INTO payman_journal \
     (key, revision, state, task_id, identity, due_at, updated_at, entry) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (key) DO NOTHING";
const UPDATE: &str = "UPDATE payman_journal SET revision = $2, state = $3, task_id = $4, \
     identity = $5, due_at = $6, updated_at = $7, entry = $8 \
     WHERE key = $1 AND revision = $2 - 1";

impl Journal for SqlJournal {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        Box::pin(self.load(key))
    }

    fn save<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<JournalSaved>> {
        Box::pin(async move {
            let row = Row::new(entry)?;
            let statement = if entry.revision == 1 { INSERT } else { UPDATE };
            let written = on_pool!(self.ready().await?, pool => {
                bind_row!(sqlx::query(statement), row)
                    .execute(pool)
                    .await
                    .map_err(Error::journal)?
                    .rows_affected()
            });
            // An earlier try may have written the entry although its answer was lost.
            if written > 0 || self.load(&entry.key).await?.as_ref() == Some(entry) {
                return Ok(JournalSaved::Written);
            }
            Ok(JournalSaved::Stale)
        })
    }

    fn list<'a>(&'a self, filter: &'a JournalFilter) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        Box::pin(async move {
            const LIST: &str = "SELECT entry FROM payman_journal \
                 WHERE updated_at < $1 AND ($2 OR state IN ($3, $4, $5, $6)) \
                 ORDER BY updated_at, key LIMIT $7 OFFSET $8";
            let before = filter.before.map_or(i64::MAX, |before| signed(to_millis(before)));
            let mut states = JournalState::ALL.map(|state| match filter.states.contains(&state) {
                true => state.as_str(),
                false => "",
            });
            states.sort_unstable();
            let [first, second, third, fourth] = states;
            let rows: Vec<String> = on_pool!(self.ready().await?, pool => {
                sqlx::query_scalar(LIST)
                    .bind(before)
                    .bind(filter.states.is_empty())
                    .bind(first)
                    .bind(second)
                    .bind(third)
                    .bind(fourth)
                    .bind(i64::from(filter.limit))
                    .bind(signed(filter.offset))
                    .fetch_all(pool)
                    .await
                    .map_err(Error::journal)?
            });
            rows.iter().map(|json| read(json)).collect()
        })
    }

    fn forget_before(&self, time: SystemTime) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            const FORGET: &str = "DELETE FROM payman_journal WHERE state = $1 AND updated_at < $2";
            on_pool!(self.ready().await?, pool => {
                sqlx::query(FORGET)
                    .bind(JournalState::Settled.as_str())
                    .bind(signed(to_millis(time)))
                    .execute(pool)
                    .await
                    .map(|done| done.rows_affected())
                    .map_err(Error::journal)
            })
        })
    }

    fn claim<'a>(&'a self, claim: &'a JournalClaim) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        Box::pin(self.claim_row(claim))
    }

    fn reserved(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.wait_for_reserved())
    }
}

fn read(json: &str) -> Result<JournalEntry> {
    serde_json::from_str(json).map_err(|_| {
        Error::journal("the journal holds an entry that this version of the SDK cannot read")
    })
}
