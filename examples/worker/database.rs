//! The orders, and the journal in the same database.

use payman_sdk::{Ask, SqlJournal};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{PgPool, Row, SqlitePool};

/// An order to pay someone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payout {
    pub id: String,
    pub payee: String,
    /// The amount in dollars, as decimal text.
    pub amount: String,
}

impl Payout {
    /// Returns the problem of an invalid order. Its fields become part of the text for the agent,
    /// so they are restricted.
    pub fn problem(&self) -> Option<&'static str> {
        let is_plain =
            |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '-' | '_' | '@' | '\'');
        if self.id.is_empty() || self.id.len() > 100 || !self.id.chars().all(is_plain) {
            return Some("the id is not 1 to 100 letters and digits");
        }
        if self.payee.trim().is_empty()
            || self.payee.len() > 100
            || !self.payee.chars().all(is_plain)
        {
            return Some("the payee is not a plain name or email");
        }
        let (dollars, cents) = self.amount.split_once('.').unwrap_or((&self.amount, "00"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_amount = (1..=9).contains(&dollars.len()) && cents.len() == 2;
        if !is_amount || !digits(dollars) || !digits(cents) {
            return Some("the amount is not one such as 50 or 50.00");
        }
        None
    }

    pub fn key(&self) -> String {
        key_of(&self.id)
    }

    fn ask(&self) -> Ask {
        Ask::new(format!("Pay {} ${}", self.payee, self.amount))
            .idempotency_key(self.key())
            .metadata("order", &self.id)
    }
}

pub fn key_of(id: &str) -> String {
    format!("payout-{id}")
}

#[derive(Clone)]
pub enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS payouts \
     (id TEXT PRIMARY KEY, payee TEXT NOT NULL, amount TEXT NOT NULL)";
const INSERT: &str = "INSERT INTO payouts (id, payee, amount) VALUES ($1, $2, $3) \
     ON CONFLICT (id) DO NOTHING";
const SELECT: &str = "SELECT payee, amount FROM payouts WHERE id = $1";

/// Expands to the same code for either database: `sqlx` has a type of pool for each.
macro_rules! on {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            Database::Sqlite($pool) => $body,
            Database::Postgres($pool) => $body,
        }
    };
}

impl Database {
    /// Opens the database, and the journal in it: both on one pool.
    pub async fn open(url: &str) -> Result<(Self, SqlJournal), Failure> {
        if url.starts_with("postgres") {
            let pool = PgPool::connect(url).await?;
            sqlx::query(TABLE).execute(&pool).await?;
            let journal = SqlJournal::with_pool(pool.clone()).await?;
            return Ok((Self::Postgres(pool), journal));
        }
        let options = url.parse::<SqliteConnectOptions>()?.create_if_missing(true);
        let pool = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Wal)).await?;
        sqlx::query(TABLE).execute(&pool).await?;
        let journal = SqlJournal::with_pool(pool.clone()).await?;
        Ok((Self::Sqlite(pool), journal))
    }

    /// Writes an order and reserves its ask, both or neither. The same order again changes nothing.
    pub async fn add(&self, journal: &SqlJournal, payout: &Payout) -> Result<(), Failure> {
        on!(self, pool => {
            let mut tx = pool.begin().await?;
            sqlx::query(INSERT)
                .bind(&payout.id)
                .bind(&payout.payee)
                .bind(&payout.amount)
                .execute(&mut *tx)
                .await?;
            // Another order of the same id is a conflict here, and the transaction is rolled back.
            journal.reserve(&mut tx, payout.ask()).await?;
            tx.commit().await?;
        });
        Ok(())
    }

    pub async fn payout(&self, id: &str) -> Result<Option<Payout>, Failure> {
        let found: Option<(String, String)> = on!(self, pool => {
            let row = sqlx::query(SELECT).bind(id).fetch_optional(pool).await?;
            row.map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?
        });
        Ok(found.map(|(payee, amount)| Payout { id: id.to_owned(), payee, amount }))
    }
}
