//! Conversions between journal entries and snapshots of tasks.

use bytes::Bytes;
use serde_json::json;

use super::entry::JournalEntry;
use super::state::AttemptEnd;
use crate::ask::{AskContext, stored_task_origin};
use crate::delivery::TaskSnapshot;
use crate::error::{Error, Result};
use crate::ids::MintedRequest;
use crate::wire::task::Task;

/// Returns the end of an attempt that a task shows; `None` while it runs, or in a state that is not
/// known to be an end.
pub(super) fn replied(
    task: &Task,
    response: Option<&Bytes>,
    entry: &JournalEntry,
) -> Option<AttemptEnd> {
    let awaits_input = task.state().is_waiting_for_user();
    if !awaits_input && !task.state().is_terminal() {
        return None;
    }
    let response = match response {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => json!({"jsonrpc": "2.0", "id": entry.request_id, "result": task}).to_string(),
    };
    Some(AttemptEnd::Replied { response, awaits_input })
}

/// Returns the stored reply as a snapshot, and sets the ids of the prepared ask to those of the
/// stored one.
pub(super) fn stored_reply(entry: &JournalEntry, ask: &mut AskContext) -> Result<TaskSnapshot> {
    adopt(entry, ask);
    match (entry.stored_task(), &entry.response) {
        (Some(task), Some(response)) => {
            let response = Bytes::from(response.clone());
            Ok(TaskSnapshot { response, ..TaskSnapshot::of(task) })
        }
        _ => Err(Error::stored_reply_unreadable(&entry.task_id)),
    }
}

/// Sets the ids of the ask to those of the entry's attempt.
pub(super) fn adopt(entry: &JournalEntry, ask: &mut AskContext) {
    ask.task_id = entry.task_id.clone();
    ask.set_origin(stored_task_origin(&entry.ask));
    if let Some(session) = &entry.session_id {
        ask.session_id = session.clone();
    }
    if let Some(request) = entry.request_id.as_ref().and_then(MintedRequest::parse) {
        ask.request = request;
    }
}
