use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use payman_sdk::emulator::{Decimal, Fault, Operation};
use payman_sdk::{Client, Config, Emulator, RetryPolicy, TaskId};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::journal::{Journal, Record};
use crate::worker::{End, Worker};

const LONG: Duration = Duration::from_secs(60);

async fn emulator() -> Emulator {
    let emulator = Emulator::start().await.unwrap();
    emulator.client().ask("Create payee Tyllen").await.unwrap();
    emulator
}

fn worker(client: Client, path: &Path) -> Worker {
    let journal = Arc::new(Journal::open(path).unwrap());
    Worker { client, journal, concurrency: 4, drain: LONG, patience: Duration::from_millis(300) }
}

/// The worker that a restart makes: whatever the killed one was still writing is waited for.
async fn restarted(client: Client, path: &Path) -> Worker {
    while let Err(error) = Journal::open(path) {
        assert!(error.to_string().contains("another worker"), "{error}");
        sleep(Duration::from_millis(5)).await;
    }
    worker(client, path)
}

fn a_queue() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue.jsonl");
    (directory, path)
}

/// One amount a job, so that each payment tells whose it is.
async fn add_payments(journal: &Journal, count: u32) {
    for dollars in 1..=count {
        journal.add(format!("Pay Tyllen ${dollars}")).await.unwrap();
    }
}

fn lines(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn done(path: &Path) -> Vec<u64> {
    let done = |record: Record| match record {
        Record::Done { job, .. } => Some(job),
        _ => None,
    };
    let mut jobs: Vec<u64> = lines(path).into_iter().filter_map(done).collect();
    jobs.sort_unstable();
    jobs
}

/// How often each amount was paid; and no task was ever sent twice.
fn ledger(emulator: &Emulator) -> BTreeMap<u64, usize> {
    let state = emulator.state();
    assert!(state.sends.values().all(|sends| *sends == 1), "{:?}", state.sends);
    let mut paid = BTreeMap::new();
    for payment in state.payments {
        let dollars = (1..1000).find(|dollars| payment.amount == Decimal::from(*dollars)).unwrap();
        *paid.entry(dollars).or_default() += 1;
    }
    paid
}

fn each_once(count: u64) -> BTreeMap<u64, usize> {
    (1..=count).map(|dollars| (dollars, 1)).collect()
}

#[tokio::test]
async fn a_worker_that_is_killed_pays_each_exactly_once() {
    let emulator = emulator().await;
    let (_directory, path) = a_queue();
    // Three are answered. The next four are paid, and nobody hears of it.
    emulator.fault(Fault::stall().on(Operation::Send).after_acting().skip(3).times(4));
    let first = worker(emulator.client(), &path);
    add_payments(&first.journal, 12).await;
    let running = tokio::spawn(async move { first.run(pending()).await });
    while emulator.state().payments.len() < 7 || done(&path).len() < 3 {
        sleep(Duration::from_millis(5)).await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(done(&path).len(), 3);

    let second = restarted(emulator.client(), &path).await;
    second.journal.close();
    assert_eq!(timeout(LONG, second.run(pending())).await.unwrap().unwrap(), End::Clean);
    assert_eq!(ledger(&emulator), each_once(12));
    assert_eq!(done(&path), (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_still_runs_is_followed_after_a_restart() {
    let emulator = emulator().await;
    let (_directory, path) = a_queue();
    emulator.configure(|settings| settings.agent_delay = Duration::from_millis(700));
    let first = worker(emulator.client(), &path);
    add_payments(&first.journal, 4).await;
    let running = tokio::spawn(async move { first.run(pending()).await });
    while emulator.state().sends.len() < 5 {
        sleep(Duration::from_millis(5)).await;
    }
    running.abort();
    let _ = running.await;

    let second = restarted(emulator.client(), &path).await;
    second.journal.close();
    second.run(pending()).await.unwrap();
    assert_eq!(ledger(&emulator), each_once(4));
    assert_eq!(done(&path), [1, 2, 3, 4]);
}

/// Killed at any moment, again and again: no payment is made twice, and none is lost without a word.
#[tokio::test]
async fn killed_at_random_nothing_is_paid_twice() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    const JOBS: u32 = 40;
    let emulator = emulator().await;
    let (_directory, path) = a_queue();
    add_payments(&Journal::open(&path).unwrap(), JOBS).await;
    for _ in 0..15 {
        let worker =
            Worker { patience: Duration::ZERO, ..restarted(emulator.client(), &path).await };
        worker.journal.close();
        let running = tokio::spawn(async move { worker.run(pending()).await });
        sleep(Duration::from_micros(random.u64(500..20_000))).await;
        running.abort();
        let _ = running.await;
    }
    let last = restarted(emulator.client(), &path).await;
    last.journal.close();
    assert_eq!(last.run(pending()).await.unwrap(), End::Clean);
    drop(last);

    let paid = ledger(&emulator);
    assert!(paid.values().all(|times| *times == 1), "{paid:?}");
    let done = done(&path);
    for job in 1..=u64::from(JOBS) {
        let unclear = lines(&path)
            .iter()
            .any(|line| matches!(line, Record::Unclear { job: id, .. } if *id == job));
        assert!(done.contains(&job) || unclear, "job {job} is forgotten");
        assert_eq!(paid.contains_key(&job), done.contains(&job), "job {job}");
    }
    println!("{} paid and known, {} for a person", paid.len(), JOBS as usize - paid.len());
}

#[tokio::test]
async fn what_the_platform_does_not_know_is_left_to_a_person() {
    let emulator = emulator().await;
    let (_directory, path) = a_queue();
    {
        let journal = Journal::open(&path).unwrap();
        add_payments(&journal, 1).await;
        // The process ended between this line and the ask.
        journal.write(Record::Asking { job: 1, task_id: TaskId::new() }).await.unwrap();
    }
    for _ in 0..2 {
        let worker = restarted(emulator.client(), &path).await;
        worker.journal.close();
        assert_eq!(worker.run(pending()).await.unwrap(), End::Clean);
    }
    assert_eq!(ledger(&emulator), BTreeMap::new());
    assert!(matches!(lines(&path).last(), Some(Record::Unclear { job: 1, .. })));
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_begins_nothing() {
    let emulator = emulator().await;
    let (_directory, path) = a_queue();
    emulator.configure(|settings| settings.agent_delay = Duration::from_millis(200));
    let worker = worker(emulator.client(), &path);
    add_payments(&worker.journal, 12).await;
    let four_under_way = async {
        while emulator.state().sends.len() < 5 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(worker.run(four_under_way).await.unwrap(), End::Clean);
    let paid = ledger(&emulator);
    assert_eq!(done(&path), paid.keys().copied().collect::<Vec<_>>());
    // The stop may come while one that was answered makes room for another.
    assert!((4..=8).contains(&paid.len()), "{paid:?}");
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_its_limit() {
    let emulator = emulator().await;
    let (_directory, path) = a_queue();
    emulator.fault(Fault::stall().on(Operation::Send).always());
    let worker = Worker { drain: Duration::from_millis(50), ..worker(emulator.client(), &path) };
    add_payments(&worker.journal, 4).await;
    let asked = async {
        while emulator.state().requests.get(&Operation::Send).is_none_or(|asks| *asks < 5) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(timeout(LONG, worker.run(asked)).await.unwrap().unwrap(), End::LeftSome);
    assert!(done(&path).is_empty());
}

#[tokio::test]
async fn a_stop_before_the_start_begins_nothing() {
    let emulator = emulator().await;
    let (_directory, path) = a_queue();
    let worker = worker(emulator.client(), &path);
    add_payments(&worker.journal, 3).await;
    assert_eq!(worker.run(ready(())).await.unwrap(), End::Clean);
    assert_eq!(emulator.state().sends.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_surely_not_done_is_asked_again_and_then_given_up() {
    let (_directory, path) = a_queue();
    let token = payman_sdk::TokenInfo::access("a", LONG * 60);
    let config = Config::new("id").base_url("http://127.0.0.1:1").retry(RetryPolicy::none());
    let worker = worker(Client::with_token(config, token).unwrap(), &path);
    add_payments(&worker.journal, 1).await;
    worker.journal.close();
    assert_eq!(worker.run(pending()).await.unwrap(), End::Clean);
    let asked: Vec<_> = lines(&path)
        .into_iter()
        .filter_map(
            |line| if let Record::Asking { task_id, .. } = line { Some(task_id) } else { None },
        )
        .collect();
    let distinct: std::collections::BTreeSet<_> = asked.iter().collect();
    assert_eq!((asked.len(), distinct.len()), (5, 5));
    assert!(matches!(lines(&path).last(), Some(Record::Failed { job: 1, .. })));
}

#[tokio::test]
async fn a_torn_line_is_dropped_and_a_second_worker_refused() {
    let (_directory, path) = a_queue();
    {
        let journal = Journal::open(&path).unwrap();
        add_payments(&journal, 2).await;
        assert!(Journal::open(&path).is_err());
    }
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{{\"event\":\"asking\",\"job\":1,\"task_")).unwrap();
    let journal = Journal::open(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    journal.close();
    let first = journal.next().await.unwrap();
    assert_eq!((first.id, first.text.as_str(), first.task_id), (1, "Pay Tyllen $1", None));
    assert_eq!(journal.next().await.unwrap().id, 2);
    assert!(journal.next().await.is_none());
}
