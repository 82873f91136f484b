//! An ask with an idempotency key: its record before it is sent, and at its end.

use std::sync::Arc;

use tokio::time::Instant;

use super::client_journal::ClientJournal;
use super::entry::JournalEntry;
use super::sending::Sending;
use super::state::{self, AskAttempt, BeginDecision};
use super::{JournalSaved, lookup, new_attempt, now};
use crate::ask::{Ask, KeyedAsk, PreparedAsk};
use crate::delivery::{Platform, TaskSnapshot};
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// The result of beginning an ask with a key.
pub(crate) enum Begun {
    /// The ask may be sent; its end must be recorded.
    Send(Box<Sending>),
    /// The stored reply. The prepared ask has got its ids.
    Stored(Box<TaskSnapshot>),
}

/// Checks an ask with a key; `None` without one.
pub(crate) fn keyed(
    ask: &Ask,
    journal: Option<&ClientJournal>,
    method: &'static str,
) -> Result<Option<KeyedCall>> {
    let Some(keyed) = ask.keyed()? else {
        return Ok(None);
    };
    let Some(journal) = journal else {
        return Err(Error::invalid_input("an idempotency key needs a journal: Config::journal"));
    };
    let kind = CallKind::Ask { keyed: Box::new(keyed), method };
    Ok(Some(KeyedCall { journal: journal.clone(), kind }))
}

/// A call with a key, on a client with a journal.
pub(crate) struct KeyedCall {
    journal: ClientJournal,
    kind: CallKind,
}

enum CallKind {
    Ask {
        keyed: Box<KeyedAsk>,
        method: &'static str,
    },
    /// A worker claimed the entry, which is in `sending`.
    Claimed {
        entry: Box<JournalEntry>,
        max_attempts: u32,
    },
}

impl KeyedCall {
    pub(super) fn claimed(journal: &ClientJournal, entry: JournalEntry, max_attempts: u32) -> Self {
        let kind = CallKind::Claimed { entry: Box::new(entry), max_attempts };
        Self { journal: journal.clone(), kind }
    }

    /// Begins the ask: its entry is durable before this returns [`Begun::Send`].
    pub(crate) async fn begin(
        self,
        platform: &Arc<Platform>,
        ask: &mut PreparedAsk,
        deadline: Instant,
    ) -> Result<Begun> {
        let Self { journal, kind } = self;
        match kind {
            CallKind::Ask { keyed, method } => {
                begin(platform, &journal, *keyed, method, ask, deadline).await
            }
            CallKind::Claimed { mut entry, max_attempts } => {
                entry.request_id = Some(ask.context.request.id());
                let sending = Sending::new(&journal, *entry, Some(max_attempts));
                Ok(Begun::Send(Box::new(sending)))
            }
        }
    }
}

async fn begin(
    platform: &Arc<Platform>,
    journal: &ClientJournal,
    keyed: KeyedAsk,
    method: &'static str,
    ask: &mut PreparedAsk,
    deadline: Instant,
) -> Result<Begun> {
    let mut attempt = AskAttempt {
        fingerprint: keyed.stored.fingerprint(&keyed.task_id),
        key: keyed.key,
        identity: journal.identity().as_ref().to_owned(),
        ask: keyed.stored,
        task_id: keyed.task_id,
        session_id: ask.context.session_id.clone(),
        request_id: ask.context.request.id(),
        attempt: new_attempt(),
    };
    // The token is obtained first, to shorten the time between the record and the first byte: a
    // crash in that time leaves an unknown outcome that a person has to decide.
    platform
        .request_token(deadline)
        .await
        .map_err(|error| error.with_task_id(&ask.context.task_id))?;
    let mut existing = None;
    loop {
        if existing.as_ref().is_some_and(|entry| was_given_up(entry, &attempt)) {
            renew_task(platform, &mut attempt, method, ask)?;
        }
        let entry = match state::begin(existing.take(), &attempt, now()) {
            BeginDecision::Send(entry) => *entry,
            BeginDecision::Resolve(entry) => {
                return lookup::resolve(platform, journal, *entry, &mut ask.context, deadline)
                    .await
                    .map(|found| Begun::Stored(Box::new(found)));
            }
            BeginDecision::OtherContent => return Err(Error::idempotency_other_content()),
            BeginDecision::OtherIdentity => return Err(Error::idempotency_other_identity()),
        };
        match journal.save(&entry, deadline).await? {
            JournalSaved::Written => {
                return Ok(Begun::Send(Box::new(Sending::new(journal, entry, None))));
            }
            JournalSaved::Stale => existing = journal.get(&attempt.key, deadline).await?,
        }
    }
}

/// Returns true where the task of the ask was abandoned by a release: sending it again would
/// continue that task.
fn was_given_up(entry: &JournalEntry, attempt: &AskAttempt) -> bool {
    let is_given_up = entry.releases.iter().any(|release| release.task_id == attempt.task_id);
    is_given_up && !attempt.ask.is_continuation()
}

/// Serializes the ask again, for a new task.
fn renew_task(
    platform: &Platform,
    attempt: &mut AskAttempt,
    method: &'static str,
    ask: &mut PreparedAsk,
) -> Result<()> {
    let renewed = Ask::from_stored(attempt.ask.clone(), TaskId::new())
        .session(attempt.session_id.clone())
        .prepare(method, &attempt.session_id, &platform.ask_defaults)?;
    attempt.task_id = renewed.context.task_id.clone();
    attempt.request_id = renewed.context.request.id();
    *ask = renewed;
    Ok(())
}
