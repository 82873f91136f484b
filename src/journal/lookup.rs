//! Resolves an ask whose key is in use: returns the stored reply, or waits and looks the task up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::JournalSaved;
use super::client_journal::ClientJournal;
use super::entry::{JournalEntry, JournalState};
use super::snapshot::{adopt, replied, stored_reply};
use super::{now, state};
use crate::ask::{AskContext, TaskOrigin};
use crate::delivery::follow::Observation;
use crate::delivery::{Platform, TaskSnapshot};
use crate::error::{Error, Outcome, Result};
use crate::escape::escape_line;
use crate::time::instant_after;

/// The time after the start of an attempt before another caller looks it up.
const GRACE: Duration = Duration::from_millis(500);
/// The longest time between two reads of the journal.
const JOURNAL_POLL: Duration = Duration::from_millis(500);
/// The bounds of the time between two lookups.
const FIRST_LOOKUP_WAIT: Duration = Duration::from_millis(250);
const LAST_LOOKUP_WAIT: Duration = Duration::from_secs(5);
/// The time limit of the one lookup of a task that waits for the user.
const INPUT_LOOKUP: Duration = Duration::from_secs(5);

/// The result of a lookup.
enum LookupOutcome {
    /// The task ended, or waits for the user.
    Ended(Box<TaskSnapshot>),
    Running,
    /// The platform does not know the task.
    NotKnown,
    /// No answer that proves anything; with the error if there is one.
    NoAnswer(Option<Error>),
}

/// Returns the reply to an ask that another call sent, or may have sent. Never sends.
pub(super) async fn resolve(
    platform: &Arc<Platform>,
    journal: &ClientJournal,
    entry: JournalEntry,
    ask: &mut AskContext,
    deadline: Instant,
) -> Result<TaskSnapshot> {
    match entry.state {
        JournalState::Settled => stored_reply(&entry, ask),
        JournalState::AwaitingInput => newer_reply(platform, journal, entry, ask, deadline).await,
        JournalState::Sending | JournalState::Reserved => {
            wait_for_end(platform, journal, entry, ask, deadline).await
        }
    }
}

/// Returns the stored reply with the agent's question, or the final reply if the task has ended
/// since.
async fn newer_reply(
    platform: &Arc<Platform>,
    journal: &ClientJournal,
    entry: JournalEntry,
    ask: &mut AskContext,
    deadline: Instant,
) -> Result<TaskSnapshot> {
    let stored = stored_reply(&entry, ask)?;
    // The history is not checked, since only the end of the task matters here.
    ask.set_origin(TaskOrigin::Minted);
    match look_up(platform, ask, deadline.min(instant_after(INPUT_LOOKUP))).await {
        LookupOutcome::Ended(found) if found.task.state().is_terminal() => {
            settle(journal, entry, *found, ask, deadline).await
        }
        _ => Ok(stored),
    }
}

async fn wait_for_end(
    platform: &Arc<Platform>,
    journal: &ClientJournal,
    mut entry: JournalEntry,
    ask: &mut AskContext,
    deadline: Instant,
) -> Result<TaskSnapshot> {
    let patience = platform.policy().recovery_timeout;
    adopt(&entry, ask);
    let mut answered = Instant::now();
    let mut lookup_wait = FIRST_LOOKUP_WAIT;
    let mut next_lookup = match age(&entry) < GRACE {
        true => instant_after(GRACE),
        false => Instant::now(),
    };
    let mut poll = Duration::from_millis(10);
    loop {
        if Instant::now() >= next_lookup {
            let seen = look_up(platform, ask, deadline).await;
            let is_over = answered.elapsed() >= patience;
            match seen {
                LookupOutcome::Ended(found) => {
                    return settle(journal, entry, *found, ask, deadline).await;
                }
                LookupOutcome::Running => answered = Instant::now(),
                LookupOutcome::NotKnown if is_over || age(&entry) >= patience => {
                    return Err(Error::keyed_task_not_known(&entry.task_id));
                }
                LookupOutcome::NoAnswer(error) if is_over => {
                    return Err(Error::keyed_outcome_unknown(&entry.task_id, error));
                }
                LookupOutcome::NotKnown | LookupOutcome::NoAnswer(_) => {}
            }
            next_lookup = instant_after(lookup_wait);
            lookup_wait = (lookup_wait * 8 / 5).min(LAST_LOOKUP_WAIT);
        }
        let wait = poll.min(next_lookup.saturating_duration_since(Instant::now()));
        if instant_after(wait) >= deadline {
            return Err(Error::keyed_ask_in_progress(&entry.task_id));
        }
        sleep(wait).await;
        poll = (poll * 2).min(JOURNAL_POLL);
        let unknown =
            |error: Error| error.with_outcome(Outcome::Unknown).with_task_id(&entry.task_id);
        let Some(now) = journal.get(&entry.key, deadline).await.map_err(unknown)? else {
            return Err(Error::keyed_outcome_unknown(&entry.task_id, None));
        };
        match now.state {
            JournalState::Settled | JournalState::AwaitingInput => return stored_reply(&now, ask),
            JournalState::Reserved => {
                let why = now.last_error.as_deref();
                return Err(Error::keyed_attempt_not_done(&now.task_id, why));
            }
            JournalState::Sending => {}
        }
        if now.attempt != entry.attempt {
            adopt(&now, ask);
            answered = Instant::now();
        }
        entry = now;
    }
}

/// Records the result of a lookup and returns it, or returns the result that another caller
/// recorded before.
async fn settle(
    journal: &ClientJournal,
    mut entry: JournalEntry,
    found: TaskSnapshot,
    ask: &mut AskContext,
    deadline: Instant,
) -> Result<TaskSnapshot> {
    let state = escape_line(found.task.state().as_str());
    debug!(task_id = %entry.task_id, %state, "a lookup settles the ask");
    let attempt = entry.attempt.clone();
    let Some(end) = replied(&found.task, Some(&found.response), &entry) else {
        return Ok(found);
    };
    while let Some(ended) = state::settle(entry.clone(), &attempt, end.clone(), now()) {
        let saved = match journal.save(&ended, deadline).await {
            Ok(JournalSaved::Written) => return Ok(found),
            Ok(JournalSaved::Stale) => journal.get(&entry.key, deadline).await,
            Err(error) => Err(error),
        };
        match saved {
            Ok(Some(now)) => entry = now,
            // The reply is known, although the journal failed.
            Ok(None) | Err(_) => return Ok(found),
        }
    }
    match entry.response.is_some() && entry.attempt == attempt {
        true => stored_reply(&entry, ask),
        false => Ok(found),
    }
}

/// Looks up the task of a worker's claim once, and settles the entry if the task has ended.
pub(super) async fn check(
    platform: &Arc<Platform>,
    journal: &ClientJournal,
    entry: JournalEntry,
    ask: &mut AskContext,
    deadline: Instant,
) {
    adopt(&entry, ask);
    match look_up(platform, ask, deadline).await {
        LookupOutcome::Ended(found) => {
            let _ = settle(journal, entry, *found, ask, deadline).await;
        }
        LookupOutcome::Running => {}
        LookupOutcome::NotKnown => {
            warn!(task_id = %entry.task_id, "the platform does not know the task of a key");
        }
        LookupOutcome::NoAnswer(error) => {
            debug!(task_id = %entry.task_id, ?error, "the task of a key was not found");
        }
    }
}

async fn look_up(platform: &Arc<Platform>, ask: &AskContext, deadline: Instant) -> LookupOutcome {
    match platform.follower(ask, deadline).look_up_once().await {
        Observation::Seen(found) => {
            match found.task.state().is_terminal() || found.task.state().is_waiting_for_user() {
                true => LookupOutcome::Ended(Box::new(found)),
                false => LookupOutcome::Running,
            }
        }
        Observation::Stale => LookupOutcome::NoAnswer(None),
        Observation::NotKnown(_) => LookupOutcome::NotKnown,
        Observation::Unsupported(error) | Observation::Failed(error) => {
            LookupOutcome::NoAnswer(Some(error))
        }
    }
}

/// Returns the age of the attempt by the wall clock.
fn age(entry: &JournalEntry) -> Duration {
    let started = entry.started_at.unwrap_or(entry.updated_at);
    now().duration_since(started).unwrap_or_default()
}
