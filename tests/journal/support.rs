//! Journals of every kind, and clients that share them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use payman_sdk::emulator::EmulatorBuilder;
use payman_sdk::{
    Ask, Client, Config, Emulator, Journal, MemoryJournal, RetryPolicy, SqlJournal, TaskId,
};
use tempfile::TempDir;

pub const PAY: &str = "Pay Tyllen $50";
pub const PATIENCE: Duration = Duration::from_millis(600);

/// A journal, and what has to live as long as it does.
pub struct Kept {
    pub name: &'static str,
    pub journal: Arc<dyn Journal>,
    _directory: Option<TempDir>,
}

pub async fn memory() -> Kept {
    Kept { name: "memory", journal: Arc::new(MemoryJournal::new()), _directory: None }
}

pub async fn sqlite() -> Kept {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqlJournal::connect(sqlite_url(&directory)).await.unwrap();
    Kept { name: "SQLite", journal: Arc::new(journal), _directory: Some(directory) }
}

pub fn sqlite_url(directory: &TempDir) -> String {
    format!("sqlite://{}", directory.path().join("journal.db").display())
}

/// Returns the URL of the server of `tests/postgres/run` that no test restarts. Each test has a
/// schema of its own.
pub async fn postgres_url() -> Option<String> {
    let url = std::env::var("DATABASE_URL").ok().filter(|url| url.starts_with("postgres"))?;
    Some(schema_of_its_own(&url).await)
}

/// Creates a schema, and returns the URL that uses it.
pub async fn schema_of_its_own(url: &str) -> String {
    let schema = format!("test_{}", TaskId::new().as_str().replace('-', "_"));
    let pool = sqlx::PgPool::connect(url).await.unwrap();
    sqlx::Executor::execute(&pool, format!("CREATE SCHEMA {schema}").as_str()).await.unwrap();
    pool.close().await;
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{schema}")
}

pub async fn postgres() -> Option<Kept> {
    let journal = SqlJournal::connect(postgres_url().await?).await.unwrap();
    Some(Kept { name: "PostgreSQL", journal: Arc::new(journal), _directory: None })
}

/// Returns a journal of each kind that is available.
pub async fn journals() -> Vec<Kept> {
    let mut kept = vec![memory().await, sqlite().await];
    kept.extend(postgres().await);
    kept
}

pub async fn emulator() -> Emulator {
    emulator_of(Emulator::builder()).await
}

pub async fn emulator_of(builder: EmulatorBuilder) -> Emulator {
    let payman = builder.start().await.unwrap();
    payman.client().ask("Create payee Tyllen").await.unwrap();
    payman
}

pub fn config(payman: &Emulator) -> Config {
    let retry = RetryPolicy::default().recovery_timeout(PATIENCE).connect_retries(0);
    Config::new("id").client_secret("secret").base_url(payman.base_url()).retry(retry)
}

pub fn client(payman: &Emulator, journal: &Arc<dyn Journal>) -> Client {
    Client::with_credentials(config(payman).journal(Arc::clone(journal))).unwrap()
}

pub fn pay(key: &str) -> Ask {
    Ask::new(PAY).idempotency_key(key)
}

/// Counts the payments, and asserts that no task was ever sent twice.
pub fn payments(payman: &Emulator) -> usize {
    let state = payman.state();
    assert!(state.sends.values().all(|sends| *sends == 1), "{:?}", state.sends);
    state.payments.len()
}

pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < limit, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
