//! The transactional outbox and its workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{
    Ask, Client, Config, Emulator, ErrorKind, Journal, JournalFilter, JournalState, JournalWorker,
    MemoryJournal, RetryPolicy, SqlJournal,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::*;

struct Running {
    stop: oneshot::Sender<()>,
    run: JoinHandle<payman_sdk::Result<()>>,
}

fn start(worker: JournalWorker) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    Running { stop, run: tokio::spawn(worker.run(shutdown)) }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.run).await.unwrap().unwrap().unwrap();
    }
}

async fn settled(journal: &dyn Journal) -> usize {
    journal.list(&JournalFilter::from(JournalState::Settled)).await.unwrap().len()
}

fn arc(journal: &SqlJournal) -> Arc<dyn Journal> {
    Arc::new(journal.clone())
}

/// The same test on either database: `sqlx` has a type of pool for each.
macro_rules! transactional {
    ($name:ident, $pool:expr) => {
        #[tokio::test]
        async fn $name() {
            let Some((pool, _directory)) = $pool.await else { return };
            // Not awaited: the first reservation creates the table, in its transaction.
            let journal = SqlJournal::with_pool(pool.clone());
            let orders = "CREATE TABLE orders (id TEXT PRIMARY KEY)";
            sqlx::query(orders).execute(&pool).await.unwrap();
            let order = async |id: &str, ask: Ask, commit: bool| {
                let mut tx = pool.begin().await.unwrap();
                let insert = "INSERT INTO orders (id) VALUES ($1)";
                sqlx::query(insert).bind(id).execute(&mut *tx).await.unwrap();
                let reserved = journal.reserve(&mut tx, ask).await;
                match commit {
                    true => tx.commit().await.unwrap(),
                    false => tx.rollback().await.unwrap(),
                }
                reserved
            };
            let ask = || pay("a");
            let reserved = ask();
            let task_id = reserved.task_id().clone();
            order("1", ask(), false).await.unwrap();
            order("2", reserved, true).await.unwrap();
            order("3", ask(), true).await.unwrap();
            let other = Ask::new("Pay Tyllen $60").idempotency_key("a");
            let error = order("4", other, false).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::IdempotencyConflict);
            let error = order("5", Ask::new(PAY), false).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let entry = journal.get("a").await.unwrap().unwrap();
            assert_eq!((entry.state(), entry.attempts()), (JournalState::Reserved, 0));
            assert_eq!(entry.task_id(), &task_id);

            let payman = emulator().await;
            let client = client(&payman, &arc(&journal));
            let workers: Vec<_> =
                (0..3).map(|_| start(JournalWorker::new(client.clone()).concurrency(4))).collect();
            until("settled", async || settled(&journal).await == 1).await;
            // While they run: a reservation wakes them.
            for place in 0..10 {
                order(&format!("w{place}"), pay(&format!("b{place}")), true).await.unwrap();
            }
            until("all settled", async || settled(&journal).await == 11).await;
            for worker in workers {
                worker.stop().await;
            }
            assert_eq!(payments(&payman), 11);
            let entry = journal.get("a").await.unwrap().unwrap();
            assert_eq!(entry.reply().unwrap().task_id(), &task_id);
            assert_eq!(entry.revision(), 3, "reserved, sending, settled");
            // A direct call with the key gets the reply too.
            let reply = client.ask(ask()).await.unwrap();
            assert_eq!(reply.task_id(), &task_id);
        }
    };
}

async fn sqlite_pool() -> Option<(sqlx::SqlitePool, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("{}?mode=rwc", sqlite_url(&directory));
    Some((sqlx::SqlitePool::connect(&url).await.unwrap(), Some(directory)))
}

async fn postgres_pool() -> Option<(sqlx::PgPool, Option<tempfile::TempDir>)> {
    Some((sqlx::PgPool::connect(&postgres_url().await?).await.unwrap(), None))
}

transactional!(an_order_and_its_ask_in_one_sqlite_transaction, sqlite_pool());
transactional!(an_order_and_its_ask_in_one_postgres_transaction, postgres_pool());

#[tokio::test]
async fn a_transaction_of_the_other_database_is_refused() {
    let Some((pool, _)) = postgres_pool().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let journal = SqlJournal::connect(sqlite_url(&directory)).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    let error = journal.reserve(&mut tx, pay("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_reservation_wakes_a_worker_on_postgres_long_before_it_polls() {
    let Some((pool, _)) = postgres_pool().await else { return };
    // The worker is another process: it has a pool of its own.
    let journal = SqlJournal::with_pool(pool.clone()).await.unwrap();
    let search_path: String =
        sqlx::query_scalar("SHOW search_path").fetch_one(&pool).await.unwrap();
    let options = (*pool.connect_options()).clone().options([("search_path", search_path)]);
    let other = SqlJournal::with_pool(sqlx::PgPool::connect_with(options).await.unwrap());
    let payman = emulator().await;
    let worker = JournalWorker::new(client(&payman, &arc(&other)));
    let running = start(worker.poll_interval(Duration::from_secs(600)));
    // Idle, with a long wait ahead.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut tx = pool.begin().await.unwrap();
    journal.reserve(&mut tx, pay("a")).await.unwrap();
    tx.commit().await.unwrap();
    let began = Instant::now();
    until("settled", async || settled(&journal).await == 1).await;
    assert!(began.elapsed() < Duration::from_secs(60));
    running.stop().await;
}

#[tokio::test]
async fn a_worker_without_a_journal_is_refused() {
    let payman = emulator().await;
    let error = JournalWorker::new(payman.client()).run(async {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn memory_client(payman: &Emulator, journal: &MemoryJournal) -> Client {
    Client::with_credentials(config(payman).journal(journal.clone())).unwrap()
}

#[tokio::test]
async fn what_was_surely_not_done_is_sent_again_and_what_nothing_can_mend_is_not() {
    let payman = emulator().await;
    let journal = MemoryJournal::new();
    payman.fault(Fault::status(429).retry_after("1").on(Operation::Send));
    journal.reserve(pay("a")).await.unwrap();
    let running = start(JournalWorker::new(memory_client(&payman, &journal)));
    until("settled", async || settled(&journal).await == 1).await;
    payman.fault(Fault::status(400).on(Operation::Send));
    journal.reserve(pay("b")).await.unwrap();
    until("parked", async || {
        let entry = journal.get("b").await.unwrap().unwrap();
        entry.state() == JournalState::Reserved && entry.attempts() == 1
    })
    .await;
    let parked = journal.get("b").await.unwrap().unwrap();
    assert_eq!(parked.due_at(), None, "a refusal is not repeated");
    assert!(parked.last_error().unwrap().contains("400"), "{:?}", parked.last_error());
    journal.release("b", "the platform was mended").await.unwrap();
    until("released and settled", async || settled(&journal).await == 2).await;
    running.stop().await;
    assert_eq!(payments(&payman), 2);
}

#[tokio::test]
async fn a_worker_that_dies_leaves_its_asks_to_be_looked_up_by_another() {
    let payman = emulator().await;
    let journal = MemoryJournal::new();
    for key in ["a", "b", "c"] {
        journal.reserve(pay(key)).await.unwrap();
    }
    payman.fault(Fault::stall().on(Operation::Send).after_acting().times(3));
    let first = start(JournalWorker::new(memory_client(&payman, &journal)));
    until("paid", async || payments(&payman) == 3).await;
    first.run.abort();
    assert_eq!(settled(&journal).await, 0);
    let second = start(JournalWorker::new(memory_client(&payman, &journal)));
    until("looked up", async || settled(&journal).await == 3).await;
    second.stop().await;
    assert_eq!(payments(&payman), 3);
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_progress_and_begins_nothing() {
    let payman = emulator().await;
    payman.configure(|settings| settings.agent_delay = Duration::from_millis(300));
    let journal = MemoryJournal::new();
    for place in 0..12 {
        journal.reserve(pay(&format!("{place}"))).await.unwrap();
    }
    let running = start(JournalWorker::new(memory_client(&payman, &journal)).concurrency(3));
    until("in progress", async || payman.state().sends.len() >= 4).await;
    running.stop().await;
    let paid = payments(&payman);
    assert!((3..=6).contains(&paid), "{paid}");
    assert_eq!(settled(&journal).await, paid);
    let reserved = journal.list(JournalState::Reserved).await.unwrap();
    assert_eq!(reserved.len(), 12 - paid);
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_its_limit() {
    let payman = emulator().await;
    payman.fault(Fault::stall().on(Operation::Send).always());
    let journal = MemoryJournal::new();
    journal.reserve(pay("a")).await.unwrap();
    let worker = JournalWorker::new(memory_client(&payman, &journal));
    let running = start(worker.drain_timeout(Duration::from_millis(50)));
    until("sending", async || journal.list(JournalState::Sending).await.unwrap().len() == 1).await;
    running.stop().await;
    assert_eq!(journal.list(JournalState::Sending).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rate_limit_spaces_the_asks() {
    let payman = emulator().await;
    let journal = MemoryJournal::new();
    for place in 0..5 {
        journal.reserve(pay(&format!("{place}"))).await.unwrap();
    }
    let began = Instant::now();
    // One in 100 ms.
    let running = start(JournalWorker::new(memory_client(&payman, &journal)).per_minute(600));
    until("settled", async || settled(&journal).await == 5).await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    running.stop().await;
}

#[tokio::test]
async fn a_worker_waits_for_a_platform_that_is_away() {
    let journal = MemoryJournal::new();
    let config = Config::new("id").client_secret("s").base_url("http://127.0.0.1:1");
    let config = config.retry(RetryPolicy::none()).journal(journal.clone());
    journal.reserve(pay("a")).await.unwrap();
    let running = start(JournalWorker::new(Client::with_credentials(config).unwrap()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    running.stop().await;
    let entry = journal.get("a").await.unwrap().unwrap();
    assert_eq!((entry.state(), entry.attempts()), (JournalState::Reserved, 0));
}
