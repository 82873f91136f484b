//! The transactional outbox: asks that are reserved in the caller's transaction, and taken by
//! workers.

use super::{
    DatabasePool, Error, GET, INSERT, JournalClaim, JournalEntry, Result, Row, SqlJournal, UPDATE,
    bind_row, now, read, signed, to_millis,
};
use crate::ask::Ask;
use crate::journal::state;

#[cfg(feature = "postgres")]
pub(super) use postgres::Listener;

/// A transaction in which an ask can be reserved: `sqlx::Transaction` of SQLite or PostgreSQL, or
/// such a connection. The trait is sealed.
pub trait JournalTransaction: sealed::Sealed + Send {}

mod sealed {
    pub trait Sealed {
        fn connection(&mut self) -> TransactionConnection<'_>;
    }

    #[derive(Debug)]
    pub enum TransactionConnection<'c> {
        #[cfg(feature = "sqlite")]
        Sqlite(&'c mut sqlx::SqliteConnection),
        #[cfg(feature = "postgres")]
        Postgres(&'c mut sqlx::PgConnection),
    }
}

use sealed::TransactionConnection;

macro_rules! transaction {
    ($variant:ident: $($type:ty),*) => {$(
        impl JournalTransaction for $type {}

        impl sealed::Sealed for $type {
            fn connection(&mut self) -> TransactionConnection<'_> {
                TransactionConnection::$variant(&mut *self)
            }
        }
    )*};
}

#[cfg(feature = "sqlite")]
transaction!(
    Sqlite: sqlx::Transaction<'_, sqlx::Sqlite>,
    sqlx::SqliteConnection,
    sqlx::pool::PoolConnection<sqlx::Sqlite>
);
#[cfg(feature = "postgres")]
transaction!(
    Postgres: sqlx::Transaction<'_, sqlx::Postgres>,
    sqlx::PgConnection,
    sqlx::pool::PoolConnection<sqlx::Postgres>
);

/// Reads the entry of a key within a transaction. A macro, as are the others here, because the
/// connections of `sqlx` have no common type.
macro_rules! stored_entry {
    ($connection:expr, $key:expr) => {
        sqlx::query_scalar(GET)
            .bind(&$key)
            .fetch_optional(&mut *$connection)
            .await
            .map_err(Error::journal)?
    };
}

/// Stores the claim of the entry that was found, and commits the transaction.
macro_rules! commit_claim {
    ($journal:expr, $claim:expr, $tx:ident, $found:expr) => {{
        let claimed = $claim.apply(read(&$found)?);
        let row = Row::new(&claimed)?;
        bind_row!(sqlx::query(UPDATE), row).execute(&mut *$tx).await.map_err(Error::journal)?;
        $journal.committed($tx.commit().await, claimed).await
    }};
}

impl SqlJournal {
    /// Reserves an ask in your own transaction: it is sent by a
    /// [`JournalWorker`](crate::JournalWorker) if, and only if, the transaction commits.
    ///
    /// The transaction is one of the journal's own database. The ask's [task id](Ask::task_id) is
    /// the one that it will first be sent with. Reserving the same content again changes nothing.
    ///
    /// ```
    /// # use payman_sdk::SqlJournal;
    /// # type Failure = Box<dyn std::error::Error>;
    /// # async fn f(pool: sqlx::SqlitePool, journal: SqlJournal) -> Result<(), Failure> {
    /// use payman_sdk::Ask;
    ///
    /// let mut tx = pool.begin().await?;
    /// let order = "INSERT INTO orders (id, payee, amount) VALUES (4711, 'Tyllen', '50')";
    /// sqlx::query(order).execute(&mut *tx).await?;
    /// journal.reserve(&mut tx, Ask::new("Pay Tyllen $50").idempotency_key("order-4711")).await?;
    /// tx.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an ask without a key, one that cannot
    /// be sent, or a transaction of the other kind of database;
    /// [`IdempotencyConflict`](crate::ErrorKind::IdempotencyConflict) if the key belongs to another
    /// ask; [`Journal`](crate::ErrorKind::Journal) if the database fails.
    pub async fn reserve<T: JournalTransaction + ?Sized>(
        &self,
        tx: &mut T,
        ask: impl Into<Ask>,
    ) -> Result<()> {
        let ask = ask.into().checked_for_reserve()?;
        let entry = state::reserve(ask.key, ask.stored, &ask.task_id, now());
        let row = Row::new(&entry)?;
        let stored: Option<String> = match (tx.connection(), &self.0.pool.0) {
            #[cfg(feature = "sqlite")]
            (TransactionConnection::Sqlite(connection), DatabasePool::Sqlite(_)) => {
                if !self.0.tables.are_ready() {
                    self.0.tables.migrate_sqlite(connection).await.map_err(Error::journal)?;
                }
                let done = bind_row!(sqlx::query(INSERT), row)
                    .execute(&mut *connection)
                    .await
                    .map_err(Error::journal)?;
                match done.rows_affected() {
                    0 => stored_entry!(connection, entry.key),
                    _ => None,
                }
            }
            #[cfg(feature = "postgres")]
            (TransactionConnection::Postgres(connection), DatabasePool::Postgres(_)) => {
                if !self.0.tables.are_ready() {
                    self.0.tables.migrate_postgres(connection).await.map_err(Error::journal)?;
                }
                // Insert and notify in one round trip. PostgreSQL sends the notification when the
                // transaction commits.
                let insert = format!(
                    "WITH reserved AS ({INSERT} RETURNING key) \
                     SELECT pg_notify('{}', '') FROM reserved",
                    postgres::CHANNEL
                );
                let done = bind_row!(sqlx::query(&insert), row)
                    .fetch_optional(&mut *connection)
                    .await
                    .map_err(Error::journal)?;
                match done {
                    None => stored_entry!(connection, entry.key),
                    Some(_) => None,
                }
            }
            #[cfg(all(feature = "sqlite", feature = "postgres"))]
            _ => {
                return Err(Error::invalid_input(
                    "the transaction is of another kind of database than the journal",
                ));
            }
        };
        if let Some(stored) = stored {
            return read(&stored)?.check_content(&entry.fingerprint);
        }
        // Workers of this process poll soon, and more often for a while, since the transaction has
        // not committed yet.
        self.0.reserved.notify_one();
        Ok(())
    }

    /// Takes the row that is due longest, of those that no other worker is taking.
    pub(super) async fn claim_row(&self, claim: &JournalClaim) -> Result<Option<JournalEntry>> {
        match self.ready().await? {
            #[cfg(feature = "sqlite")]
            DatabasePool::Sqlite(pool) => {
                // Reads first, so that idle workers do not take the write lock.
                let due = "SELECT entry FROM payman_journal WHERE state = $1 AND due_at <= $2 \
                           AND (identity IS NULL OR identity = $3) ORDER BY due_at LIMIT 1";
                let bind = || {
                    sqlx::query_scalar::<_, String>(due)
                        .bind(claim.state().as_str())
                        .bind(signed(to_millis(claim.now())))
                        .bind(claim.identity())
                };
                if bind().fetch_optional(pool).await.map_err(Error::journal)?.is_none() {
                    return Ok(None);
                }
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(Error::journal)?;
                let found = bind().fetch_optional(&mut *tx).await.map_err(Error::journal)?;
                let Some(found) = found else {
                    return Ok(None);
                };
                commit_claim!(self, claim, tx, found)
            }
            #[cfg(feature = "postgres")]
            DatabasePool::Postgres(pool) => {
                let due = "SELECT entry FROM payman_journal WHERE state = $1 AND due_at <= $2 \
                           AND (identity IS NULL OR identity = $3) \
                           ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED";
                let mut tx = pool.begin().await.map_err(Error::journal)?;
                let found: Option<String> = sqlx::query_scalar(due)
                    .bind(claim.state().as_str())
                    .bind(signed(to_millis(claim.now())))
                    .bind(claim.identity())
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(Error::journal)?;
                let Some(found) = found else {
                    return Ok(None);
                };
                commit_claim!(self, claim, tx, found)
            }
        }
    }

    /// Checks a commit whose answer was lost. If it was done, the row has this claim.
    async fn committed(
        &self,
        result: Result<(), sqlx::Error>,
        claimed: JournalEntry,
    ) -> Result<Option<JournalEntry>> {
        let Err(error) = result else {
            return Ok(Some(claimed));
        };
        for wait in [100, 400, 1600] {
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            match self.load(&claimed.key).await {
                Ok(stored) if stored.as_ref() == Some(&claimed) => return Ok(Some(claimed)),
                Ok(_) => break,
                Err(_) => {}
            }
        }
        Err(Error::journal(error))
    }

    pub(super) async fn wait_for_reserved(&self) {
        let here = self.0.reserved.notified();
        match &self.0.pool.0 {
            #[cfg(feature = "sqlite")]
            DatabasePool::Sqlite(_) => here.await,
            #[cfg(feature = "postgres")]
            DatabasePool::Postgres(pool) => tokio::select! {
                () = here => {}
                () = self.0.listener.notified(pool) => {}
            },
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use sqlx::PgPool;
    use sqlx::postgres::PgListener;
    use tracing::debug;

    pub(super) const CHANNEL: &str = "payman_journal";
    const RETRY: Duration = Duration::from_secs(5);

    /// The connection that receives notifications of reserved asks. It is opened when it is first
    /// needed, and again after it broke.
    #[derive(Default)]
    pub(in crate::journal::sql) struct Listener(Mutex<Option<PgListener>>);

    impl Listener {
        /// Completes at the next notification, and possibly without one.
        pub(super) async fn notified(&self, pool: &PgPool) {
            // With a pool of one connection, none would be left for queries.
            if pool.options().get_max_connections() < 2 {
                std::future::pending::<()>().await;
            }
            loop {
                let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                let listener = match kept {
                    Some(listener) => Ok(listener),
                    None => listen(pool).await,
                };
                let result = match listener {
                    Ok(mut listener) => listener.recv().await.map(|_| listener),
                    Err(error) => Err(error),
                };
                match result {
                    Ok(mut listener) => {
                        while listener.next_buffered().is_some() {}
                        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
                        return;
                    }
                    Err(error) => {
                        debug!(%error, "no notifications from PostgreSQL: polling");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}
