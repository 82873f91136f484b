//! A journal that fails, and a process that dies, at any point.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, pending};
use payman_sdk::{
    Ask, ErrorKind, Journal, JournalEntry, JournalFilter, JournalSaved, JournalState,
    MemoryJournal, Result, SqlJournal, TaskState,
};

use crate::support::*;

/// The failure of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// It fails, and nothing is stored.
    Fails,
    /// It fails, and the entry is stored.
    LosesAnswer,
    /// It never ends, and nothing is stored: the process dies there.
    Hangs,
    /// It never ends, and the entry is stored.
    HangsAfter,
}

/// A journal of one's own, with writes that go wrong.
struct Flaky {
    entries: MemoryJournal,
    wrong: Wrong,
    /// The write with which it begins, from 1, and how many go wrong.
    from: u32,
    times: u32,
    writes: AtomicU32,
}

impl Flaky {
    fn over(entries: &MemoryJournal, wrong: Wrong, from: u32, times: u32) -> Arc<dyn Journal> {
        let (entries, writes) = (entries.clone(), AtomicU32::new(0));
        Arc::new(Self { entries, wrong, from, times, writes })
    }
}

impl Journal for Flaky {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        Journal::get(&self.entries, key)
    }

    fn save<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<JournalSaved>> {
        Box::pin(async move {
            let write = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
            let is_wrong = write >= self.from && write < self.from + self.times;
            // As a database has it: what it stores was text on the way.
            let entry = serde_json::to_string(entry).unwrap();
            let entry: JournalEntry = serde_json::from_str(&entry).unwrap();
            match self.wrong {
                _ if !is_wrong => self.entries.save(&entry).await,
                Wrong::Fails => Err(payman_sdk::Error::journal("out of order")),
                Wrong::LosesAnswer => {
                    self.entries.save(&entry).await?;
                    Err(payman_sdk::Error::journal("out of order"))
                }
                Wrong::Hangs => pending().await,
                Wrong::HangsAfter => {
                    self.entries.save(&entry).await?;
                    pending().await
                }
            }
        })
    }

    fn list<'a>(&'a self, filter: &'a JournalFilter) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        Journal::list(&self.entries, filter)
    }

    fn forget_before(&self, time: SystemTime) -> BoxFuture<'_, Result<u64>> {
        Journal::forget_before(&self.entries, time)
    }
}

#[tokio::test]
async fn a_write_that_fails_once_is_repeated() {
    for wrong in [Wrong::Fails, Wrong::LosesAnswer] {
        for from in [1, 2] {
            let payman = emulator().await;
            let entries = MemoryJournal::new();
            let app = client(&payman, &Flaky::over(&entries, wrong, from, 1));
            let reply = app.ask(pay("a")).await.unwrap();
            let entry = entries.get("a").await.unwrap().unwrap();
            assert_eq!(entry.state(), JournalState::Settled, "{wrong:?} at {from}");
            assert_eq!((entry.revision(), entry.attempts()), (2, 1), "{wrong:?} at {from}");
            assert_eq!(app.ask(pay("a")).await.unwrap(), reply);
            assert_eq!(payments(&payman), 1);
        }
    }
}

#[tokio::test]
async fn without_a_record_nothing_is_sent() {
    let payman = emulator().await;
    let entries = MemoryJournal::new();
    let app = client(&payman, &Flaky::over(&entries, Wrong::Fails, 1, u32::MAX / 2));
    let error = app.ask(pay("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Journal, "{error:?}");
    assert!(error.is_safe_to_ask_again());
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "out of order");
    assert_eq!(payments(&payman), 0);
    let other: Arc<dyn Journal> = Arc::new(entries);
    client(&payman, &other).ask(pay("a")).await.unwrap();
    assert_eq!(payments(&payman), 1);
}

#[tokio::test]
async fn a_reply_that_cannot_be_recorded_is_a_reply_and_is_found_by_the_next_caller() {
    let payman = emulator().await;
    let entries = MemoryJournal::new();
    let app = client(&payman, &Flaky::over(&entries, Wrong::Fails, 2, u32::MAX / 2));
    let reply = app.ask(pay("a")).await.unwrap();
    assert_eq!(reply.state(), &TaskState::Completed);
    let entry = entries.get("a").await.unwrap().unwrap();
    assert_eq!(entry.state(), JournalState::Sending);
    let other: Arc<dyn Journal> = Arc::new(entries);
    assert_eq!(client(&payman, &other).ask(pay("a")).await.unwrap().text(), reply.text());
    assert_eq!(payments(&payman), 1);
}

/// The next process pays, finds the order paid, or leaves it to a person who finds it not paid.
#[tokio::test]
async fn a_process_that_dies_at_any_write_pays_at_most_once() {
    for wrong in [Wrong::Hangs, Wrong::HangsAfter] {
        for from in [1, 2] {
            for streamed in [false, true] {
                let payman = emulator().await;
                let entries = MemoryJournal::new();
                let app = client(&payman, &Flaky::over(&entries, wrong, from, 1));
                let dying = tokio::spawn(async move {
                    if streamed {
                        app.ask_stream(pay("a")).await.unwrap().into_reply().await
                    } else {
                        app.ask(pay("a")).await
                    }
                });
                tokio::time::sleep(Duration::from_millis(300)).await;
                assert!(!dying.is_finished());
                dying.abort();
                let _ = dying.await;

                let paid = payments(&payman);
                let at = format!("{wrong:?} at {from}, streamed: {streamed}");
                let journal: Arc<dyn Journal> = Arc::new(entries.clone());
                let next = client(&payman, &journal).ask(pay("a")).await;
                match (wrong, from) {
                    // It was recorded as sending, but not sent.
                    (Wrong::HangsAfter, 1) => {
                        assert_eq!(next.unwrap_err().kind(), ErrorKind::TaskNotFound, "{at}");
                        assert_eq!((paid, payments(&payman)), (0, 0), "{at}");
                    }
                    (_, 1) => {
                        assert_eq!(next.unwrap().state(), &TaskState::Completed, "{at}");
                        assert_eq!((paid, payments(&payman)), (0, 1), "{at}");
                    }
                    _ => {
                        assert_eq!(next.unwrap().state(), &TaskState::Completed, "{at}");
                        assert_eq!((paid, payments(&payman)), (1, 1), "{at}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn clones_of_one_ask_are_one_ask() {
    for kept in journals().await {
        let payman = emulator().await;
        payman.configure(|settings| settings.agent_delay = Duration::from_millis(100));
        let app = client(&payman, &kept.journal);
        let ask = pay("a");
        let (first, second) = tokio::join!(app.ask(ask.clone()), app.ask(ask.clone()));
        assert_eq!(first.unwrap().text(), second.unwrap().text(), "{}", kept.name);
        // Released, the same object stands for a new task.
        kept.journal.release("a", "once more, please").await.unwrap();
        let third = app.ask(ask.clone()).await.unwrap();
        assert_ne!(third.task_id(), ask.task_id());
        assert_eq!(payments(&payman), 2, "{}", kept.name);
    }
}

#[tokio::test]
async fn one_ask_under_two_keys_is_refused_and_leaves_nothing_unknown() {
    let kept = memory().await;
    let payman = emulator().await;
    let app = client(&payman, &kept.journal);
    let ask = Ask::new(PAY);
    app.ask(ask.clone().idempotency_key("a")).await.unwrap();
    let error = app.ask(ask.clone().idempotency_key("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let entry = kept.journal.get("b").await.unwrap().unwrap();
    assert_eq!(entry.state(), JournalState::Reserved);
    assert_eq!(payments(&payman), 1);
}

/// While another program creates the database, SQLite refuses to change its journal mode at once,
/// however long it may wait.
#[tokio::test]
async fn a_database_that_another_program_creates_is_waited_for() {
    use sqlx::{Connection, SqliteConnection};

    for statement in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let directory = tempfile::tempdir().unwrap();
        let url = sqlite_url(&directory);
        let mut other = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
        sqlx::query(statement).execute(&mut other).await.unwrap();
        sqlx::query("CREATE TABLE orders (id TEXT)").execute(&mut other).await.unwrap();
        let commit = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sqlx::query("COMMIT").execute(&mut other).await.unwrap();
            other
        });
        let journal = SqlJournal::connect(&url).await.expect(statement);
        assert!(journal.get("order-1").await.unwrap().is_none(), "{statement}");
        commit.await.unwrap();
    }
}
