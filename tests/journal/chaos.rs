//! Worker processes that are killed at random, a platform that misbehaves at random, and a database
//! that is restarted: the ledger tells what was paid.
//!
//! `PAYMAN_CHAOS_ORDERS` sets how many orders there are, `PAYMAN_SEED` repeats a run's faults.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use payman_sdk::emulator::{Decimal, Fault, Operation};
use payman_sdk::{
    Ask, Client, Config, Emulator, JournalEntry, JournalFilter, JournalState, JournalWorker,
    RetryPolicy, SqlJournal,
};

use crate::support::*;

const WORKERS: usize = 4;
const JOURNAL: &str = "PAYMAN_CHAOS_JOURNAL";
const PLATFORM: &str = "PAYMAN_CHAOS_PLATFORM";

/// Runs as the worker process, which the test below starts. Does nothing without a journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_process() {
    let (Ok(journal), Ok(platform)) = (std::env::var(JOURNAL), std::env::var(PLATFORM)) else {
        return;
    };
    let journal = loop {
        match SqlJournal::connect(&journal).await {
            Ok(journal) => break journal,
            // The database is being restarted.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let worker = JournalWorker::new(client_of(&platform, journal)).concurrency(8);
    worker.poll_interval(Duration::from_millis(300)).run(std::future::pending()).await.unwrap();
}

fn client_of(platform: &str, journal: SqlJournal) -> Client {
    let retry = RetryPolicy::default().recovery_timeout(Duration::from_secs(2));
    let config = Config::new("id").client_secret("secret").base_url(platform);
    Client::with_credentials(config.retry(retry).journal(journal)).unwrap()
}

struct Processes {
    journal: String,
    platform: String,
    children: Vec<Child>,
}

impl Processes {
    fn start(&mut self) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["chaos::worker_process", "--exact", "--nocapture"])
            .env(JOURNAL, &self.journal)
            .env(PLATFORM, &self.platform)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.children.push(child);
    }

    /// Kills a worker by SIGKILL.
    fn kill(&mut self, place: usize) {
        let mut child = self.children.swap_remove(place);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        while !self.children.is_empty() {
            self.kill(0);
        }
    }
}

/// Returns an order with an amount of its own, so that each payment tells whose it is.
fn order(place: u32) -> Ask {
    let text = format!("Pay Tyllen ${}.{:02}", place / 100, place % 100);
    Ask::new(text).idempotency_key(format!("order-{place}"))
}

fn seed() -> u64 {
    let seed = std::env::var("PAYMAN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed} (PAYMAN_SEED sets it)");
    seed
}

/// Returns the faults, each with its probability per request.
fn faults(random: &mut fastrand::Rng) -> Vec<Fault> {
    let kinds: [(f64, fn() -> Fault); 9] = [
        (0.02, || Fault::close().on(Operation::Send)),
        (0.02, || Fault::close().on(Operation::Send).after_acting()),
        (0.02, || Fault::cut(30).on(Operation::Send)),
        (0.02, || Fault::status(429).on(Operation::Send)),
        (0.01, || Fault::status(503).retry_after("1").on(Operation::Send)),
        (0.02, || Fault::status(502).on(Operation::Send).after_acting()),
        (0.05, || Fault::close().on(Operation::Get)),
        (0.05, || Fault::status(502).on(Operation::Get)),
        (0.20, || Fault::close().on(Operation::Token).after_acting()),
    ];
    let mut faults = Vec::new();
    for place in 0..4_000 {
        for (share, fault) in &kinds {
            if random.f64() < *share {
                faults.push(fault().skip(place));
            }
        }
    }
    faults
}

/// Counts the payments of each order.
fn paid(payman: &Emulator, orders: u32) -> BTreeMap<u32, usize> {
    let mut paid = BTreeMap::new();
    for payment in payman.state().payments {
        let place = (1..=orders).find(|place| payment.amount == Decimal::new(i64::from(*place), 2));
        *paid.entry(place.expect("an amount of an order")).or_default() += 1;
    }
    paid
}

async fn entries(journal: &SqlJournal) -> Vec<JournalEntry> {
    loop {
        match journal.list(JournalFilter::new().limit(10_000)).await {
            Ok(entries) => return entries,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn count(entries: &[JournalEntry], state: JournalState) -> usize {
    entries.iter().filter(|entry| entry.state() == state).count()
}

async fn chaos(
    url: String,
    orders: u32,
    reserve: impl AsyncFnOnce(&SqlJournal, u32),
    restart: Option<&dyn Fn(&str)>,
) {
    let mut random = fastrand::Rng::with_seed(seed());
    let payman = emulator().await;
    payman.configure(|settings| settings.agent_delay = Duration::from_millis(250));
    let journal = SqlJournal::connect(&url).await.unwrap();
    reserve(&journal, orders).await;
    payman.faults(faults(&mut random));
    let mut processes =
        Processes { journal: url, platform: payman.base_url().to_owned(), children: Vec::new() };
    for _ in 0..WORKERS {
        processes.start();
    }

    let began = Instant::now();
    let (mut kills, mut restarts) = (0, 0);
    let unsettled = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = entries(&journal).await;
        let settled = count(&now, JournalState::Settled);
        let waiting = count(&now, JournalState::Reserved);
        assert!(now.len() >= orders as usize, "an order is lost");
        if waiting == 0 {
            break now;
        }
        assert!(began.elapsed() < Duration::from_secs(400), "{settled} settled, {waiting} waiting");
        processes.kill(random.usize(..processes.children.len()));
        processes.start();
        kills += 1;
        if let Some(restart) = restart
            && restarts < 2
            && settled > orders as usize * (restarts + 1) / 3
        {
            // The second one is a crash of the database.
            restart(["fast", "immediate"][restarts]);
            restarts += 1;
        }
    };
    assert!(kills > 0, "no worker was killed");
    assert_eq!(restarts, if restart.is_some() { 2 } else { 0 }, "restarts of the database");
    // Once the faults are over, a lookup decides the entries in progress or unknown.
    payman.clear_faults();
    eprintln!(
        "{orders} orders in {:?}: {kills} kills, {restarts} restarts; {} in progress or unknown",
        began.elapsed(),
        count(&unsettled, JournalState::Sending)
    );
    let client = client_of(payman.base_url(), journal.clone());
    let mut unknown = Vec::new();
    for entry in &unsettled {
        if entry.state() != JournalState::Sending {
            continue;
        }
        let place: u32 = entry.key().strip_prefix("order-").unwrap().parse().unwrap();
        // A caller with the key looks the task up and never sends, so it may take a worker's turn.
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            match client.ask(order(place).deadline(Duration::from_secs(20))).await {
                Ok(_) => break,
                Err(error) if error.is_outcome_unknown() && Instant::now() < limit => {
                    if error.kind() == payman_sdk::ErrorKind::TaskNotFound {
                        unknown.push((place, entry.task_id().clone()));
                        break;
                    }
                }
                Err(error) if error.is_safe_to_ask_again() => break,
                Err(error) => panic!("order {place}: {error:?}"),
            }
        }
    }
    until("all that went back to reserved is sent", async || {
        let now = entries(&journal).await;
        count(&now, JournalState::Settled) + unknown.len() >= orders as usize
    })
    .await;
    drop(processes);

    let state = payman.state();
    assert!(state.sends.values().all(|sends| *sends == 1), "a task was sent twice");
    let ledger = paid(&payman, orders);
    assert!(ledger.values().all(|times| *times == 1), "paid twice: {ledger:?}");
    let last = entries(&journal).await;
    assert_eq!(last.len(), orders as usize);
    for entry in &last {
        let place: u32 = entry.key().strip_prefix("order-").unwrap().parse().unwrap();
        let is_settled = entry.state() == JournalState::Settled;
        assert_eq!(is_settled, ledger.contains_key(&place), "{entry:?}");
        assert!(is_settled || unknown.iter().any(|(known, _)| *known == place), "{entry:?}");
    }
    eprintln!(
        "{} settled and paid once, {} unknown and not paid: {unknown:?}; \
         {} tasks, {} token requests",
        ledger.len(),
        unknown.len(),
        state.tasks.len(),
        state.token_requests
    );
    // A person looked at the wallet: nothing of them was paid.
    for (place, _) in &unknown {
        journal.release(&format!("order-{place}"), "not in the ledger").await.unwrap();
        client.ask(order(*place)).await.unwrap();
    }
    let ledger = paid(&payman, orders);
    assert_eq!(ledger.len(), orders as usize);
    assert!(ledger.values().all(|times| *times == 1), "paid twice: {ledger:?}");
}

fn orders(usual: u32) -> u32 {
    let set = std::env::var("PAYMAN_CHAOS_ORDERS").ok().and_then(|orders| orders.parse().ok());
    set.unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_on_postgres() {
    // A server of its own: this test restarts it, which breaks the connections of any other test.
    let variable = |name| std::env::var(name).ok();
    let (Some(server), Some(control)) =
        (variable("PAYMAN_CHAOS_POSTGRES"), variable("PAYMAN_CHAOS_POSTGRES_CTL"))
    else {
        eprintln!("left out: no PostgreSQL server to restart (tests/postgres/run starts one)");
        return;
    };
    let url = schema_of_its_own(&server).await;
    let restart = |mode: &str| {
        let mut arguments = control.split(' ');
        let done = Command::new(arguments.next().unwrap())
            .args(arguments)
            .args(["-m", mode, "restart"])
            .current_dir("/")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success());
    };
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let reserve = async |journal: &SqlJournal, orders: u32| {
        let mut tx = pool.begin().await.unwrap();
        for place in 1..=orders {
            journal.reserve(&mut tx, order(place)).await.unwrap();
        }
        tx.commit().await.unwrap();
        pool.close().await;
    };
    chaos(url.clone(), orders(2_000), reserve, Some(&restart)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = sqlite_url(&directory);
    let reserve = async |journal: &SqlJournal, orders: u32| {
        let pool = sqlx::SqlitePool::connect(&sqlite_url(&directory)).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        for place in 1..=orders {
            journal.reserve(&mut tx, order(place)).await.unwrap();
        }
        tx.commit().await.unwrap();
        pool.close().await;
    };
    chaos(url, orders(300), reserve, None).await;
}
