//! The cost of an idempotency key.
//!
//! Both sides send the same ask to the same server, and write the same facts to a database: one row
//! before the request, one update with the reply. The baseline does so by hand with `sqlx`. What
//! counts is the time that passes, since most of it is the database's. PostgreSQL is measured where
//! `DATABASE_URL` names a server.

use std::time::{Duration, Instant};

use payman_sdk::{Ask, Client, Config, SqlJournal, TokenInfo};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::runtime::{Builder, Runtime};

use super::minimal_server;
use super::row::{Measured, Row, alternate};

const ASKS: u32 = 25;
const PAIRS: usize = 21;
const TEXT: &str = "Pay Tyllen $50";
const HOUR: Duration = Duration::from_secs(60 * 60);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS by_hand (key TEXT PRIMARY KEY, \
     state TEXT NOT NULL, task_id TEXT NOT NULL, text TEXT NOT NULL, reply TEXT, \
     created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)";
const INSERT: &str = "INSERT INTO by_hand (key, state, task_id, text, created_at, updated_at) \
     VALUES ($1, 'sending', $2, $3, $4, $4) ON CONFLICT (key) DO NOTHING";
const UPDATE: &str = "UPDATE by_hand SET state = 'settled', reply = $2, updated_at = $3 \
     WHERE key = $1 AND state = 'sending'";

pub fn rows() -> Vec<Row> {
    let mut rows = vec![Row::new("journal/sqlite", 1.2, sqlite)];
    if let Some(url) = postgres_url() {
        rows.push(Row::new("journal/postgres", 1.2, move || postgres(&url)));
    }
    rows
}

fn postgres_url() -> Option<String> {
    std::env::var("DATABASE_URL").ok().filter(|url| url.starts_with("postgres"))
}

fn sqlite() -> Measured {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("a directory");
    let pool = |name: &str| {
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join(name))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
        runtime.block_on(pool.connect_with(options)).expect("a database")
    };
    let journal = SqlJournal::with_pool(pool("ours.db"));
    let by_hand = pool("by_hand.db");
    runtime.block_on(sqlx::query(TABLE).execute(&by_hand)).expect("a table");
    let baseline = async |client: &Client, key: &str| ask_sqlite(client, &by_hand, key).await;
    measure(&runtime, journal, baseline)
}

fn postgres(url: &str) -> Measured {
    let runtime = runtime();
    let pool = || {
        let pool = PgPoolOptions::new().max_connections(2).connect(url);
        runtime.block_on(pool).expect("a server")
    };
    let journal = SqlJournal::with_pool(pool());
    let by_hand = pool();
    runtime.block_on(sqlx::query(TABLE).execute(&by_hand)).expect("a table");
    let baseline = async |client: &Client, key: &str| ask_postgres(client, &by_hand, key).await;
    measure(&runtime, journal, baseline)
}

/// The same code for either database.
macro_rules! by_hand {
    ($name:ident, $pool:ty) => {
        async fn $name(client: &Client, pool: &$pool, key: &str) {
            let ask = Ask::new(TEXT);
            sqlx::query(INSERT)
                .bind(key)
                .bind(ask.task_id().as_str())
                .bind(TEXT)
                .bind(now())
                .execute(pool)
                .await
                .expect("a row");
            let reply = client.ask_raw(ask).await.expect("a reply");
            sqlx::query(UPDATE)
                .bind(key)
                .bind(reply.as_str())
                .bind(now())
                .execute(pool)
                .await
                .expect("an update");
        }
    };
}

by_hand!(ask_sqlite, SqlitePool);
by_hand!(ask_postgres, PgPool);

fn measure(
    runtime: &Runtime,
    journal: SqlJournal,
    baseline: impl AsyncFn(&Client, &str),
) -> Measured {
    let base_url = minimal_server::start(answer);
    let config = || Config::new("client-id").base_url(&base_url);
    let client = |config: Config| {
        let token = TokenInfo::access("an-access-token", HOUR);
        Client::with_token(config, token).expect("a valid config")
    };
    let with_journal = client(config().journal(journal));
    let without = client(config());
    let mut number = 0_u32;
    let mut key = || {
        number += 1;
        format!("{}-{number}", payman_sdk::RequestId::new())
    };
    let mut keys = || (0..ASKS).map(|_| key()).collect::<Vec<_>>();
    let run = |ours: bool| {
        let keys = keys();
        let start = Instant::now();
        runtime.block_on(async {
            for key in &keys {
                if ours {
                    let ask = Ask::new(TEXT).idempotency_key(key.as_str());
                    with_journal.ask_raw(ask).await.expect("a reply");
                } else {
                    baseline(&without, key).await;
                }
            }
        });
        start.elapsed().as_secs_f64() * 1e6 / f64::from(ASKS)
    };
    let run = std::cell::RefCell::new(run);
    run.borrow_mut()(true);
    run.borrow_mut()(false);
    let pairs = alternate(PAIRS, || run.borrow_mut()(true), || run.borrow_mut()(false));
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = pairs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!("journal: {:.0} against {:.0} µs", median(|pair| pair.0), median(|pair| pair.1));
    Measured { pairs, bytes: None }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.expect("after 1970").as_millis()).expect("before the year 292 million")
}

fn answer(to: &mut std::net::TcpStream, _: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let reply = minimal_server::reply();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    to.write_all(format!("{head} {}\r\n\r\n{reply}", reply.len()).as_bytes())
}
