//! The order of an `ask_payman` call: its arguments, their validation, and its identity.

use payman_sdk::{Reply, SessionId, TaskId};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Identifies an ask by its content.
pub(super) type Digest = [u8; 32];

/// The longest text of an ask, in bytes: a person has to be able to read it all.
pub(super) const MAX_TEXT: usize = 16 * 1024;
const MAX_ID: usize = 255;

/// Arguments of `ask_payman`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskArguments {
    /// The request in plain words, as the user wants it: whom to pay, how much, in which currency,
    /// what for. With task_id: the answer to the agent's question.
    text: String,
    /// The conversation to continue: a sessionId of an earlier result. Leave it out to stay in this
    /// connection's own conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    session_id: Option<String>,
    /// Only to answer a question of the agent: the taskId of a result whose state is
    /// input-required. Leave it out for everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    task_id: Option<String>,
    /// A name for this one order, such as an invoice number. The same key never sends twice. Use a
    /// new key to have an order done once more that was given in the same words before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    idempotency_key: Option<String>,
}

/// Arguments of `get_task` and `cancel_task`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskArguments {
    /// The taskId of an earlier result.
    task_id: String,
}

impl TaskArguments {
    pub(super) fn check(self) -> Result<TaskId, String> {
        checked_id("task_id", Some(self.task_id))?
            .map(TaskId::from)
            .ok_or_else(|| "the argument task_id is missing".to_owned())
    }
}

/// One validated ask.
#[derive(Clone)]
pub(super) struct AskOrder {
    text: String,
    session: Option<SessionId>,
    task: Option<TaskId>,
    key: Option<String>,
    content: Digest,
    identity: Digest,
}

impl AskArguments {
    pub(super) fn check(self) -> Result<AskOrder, String> {
        if self.text.trim().is_empty() {
            return Err("the argument text is blank".to_owned());
        }
        if self.text.len() > MAX_TEXT {
            return Err(format!("the argument text is longer than {MAX_TEXT} bytes"));
        }
        let session = checked_id("session_id", self.session_id)?;
        let task = checked_id("task_id", self.task_id)?;
        let key = checked_id("idempotency_key", self.idempotency_key)?;
        Ok(AskOrder::new(self.text, session.map(Into::into), task.map(Into::into), key))
    }
}

fn checked_id(name: &str, id: Option<String>) -> Result<Option<String>, String> {
    let Some(id) = id else { return Ok(None) };
    if id.trim().is_empty() {
        return Err(format!("the argument {name} is blank: leave it out"));
    }
    if id.len() > MAX_ID || id.chars().any(char::is_control) {
        return Err(format!(
            "the argument {name} is longer than {MAX_ID} bytes, or has control characters"
        ));
    }
    Ok(Some(id))
}

impl AskOrder {
    pub(super) fn new(
        text: String,
        session: Option<SessionId>,
        task: Option<TaskId>,
        key: Option<String>,
    ) -> Self {
        // White space at the ends is not part of the identity.
        let content = digest(&[
            "ask",
            session.as_ref().map_or("", SessionId::as_str),
            task.as_ref().map_or("", TaskId::as_str),
            text.trim(),
        ]);
        let identity = key.as_ref().map_or(content, |key| digest(&["key", key]));
        Self { text, session, task, key, content, identity }
    }

    /// Returns the answer that a user gave to a question of the agent through the host. Its
    /// identity is the question's, so that a repeated call does not answer twice.
    pub(super) fn of_answer(
        text: String,
        session: Option<SessionId>,
        task: TaskId,
        question: &str,
    ) -> Self {
        let order = Self::new(text, session, Some(task), None);
        Self { identity: digest(&["question", question]), ..order }
    }

    /// Returns the order in the session of the task that it continues, unless it names a session.
    pub(super) fn in_session_of(&self, question: Option<&Reply>) -> Self {
        let session = question.and_then(Reply::session_id).cloned();
        Self { session: self.session.clone().or(session), ..self.clone() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    pub(super) fn task(&self) -> Option<&TaskId> {
        self.task.as_ref()
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the digest of the content: session, continued task and text.
    pub(super) fn content(&self) -> Digest {
        self.content
    }

    /// Returns the digest of the account and the content, or of the question that is answered.
    pub(super) fn digest_for(&self, account: &str) -> Digest {
        let asked = if self.key.is_some() { self.content } else { self.identity };
        let mut hash = Sha256::new();
        hash.update(digest(&["account", account]));
        hash.update(asked);
        hash.finalize().into()
    }

    /// Returns the identity of the ask: the digest of its idempotency key, or else of its content.
    pub(super) fn identity(&self) -> Digest {
        self.identity
    }
}

/// Returns the digest of a list, with the length of each field, so that no two lists share one.
pub(super) fn digest(fields: &[&str]) -> Digest {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: serde_json::Value) -> Result<AskOrder, String> {
        serde_json::from_value::<AskArguments>(json).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn the_content_identifies_an_ask() {
        let order = |json| check(json).unwrap();
        let plain = order(serde_json::json!({"text": "Pay Bob $50"}));
        assert_eq!(
            plain.identity(),
            order(serde_json::json!({"text": " Pay Bob $50\n"})).identity()
        );
        for other in [
            serde_json::json!({"text": "Pay Bob $51"}),
            serde_json::json!({"text": "Pay Bob $50", "session_id": "s"}),
            serde_json::json!({"text": "Pay Bob $50", "task_id": "t"}),
            serde_json::json!({"text": "Pay Bob $50", "idempotency_key": "k"}),
        ] {
            assert_ne!(plain.identity(), order(other).identity());
        }
        let keyed = order(serde_json::json!({"text": "Pay Bob $50", "idempotency_key": "k"}));
        assert_eq!(keyed.content(), plain.content());
    }

    #[test]
    fn errors_name_the_invalid_argument() {
        for (json, name) in [
            (serde_json::json!({"text": " "}), "text"),
            (serde_json::json!({"text": "x".repeat(MAX_TEXT + 1)}), "text"),
            (serde_json::json!({"text": "x", "task_id": ""}), "task_id"),
            (serde_json::json!({"text": "x", "session_id": "a\u{7}"}), "session_id"),
            (
                serde_json::json!({"text": "x", "idempotency_key": "k".repeat(256)}),
                "idempotency_key",
            ),
            (serde_json::json!({"text": "x", "amount": 5}), "amount"),
        ] {
            let error = check(json).err().unwrap();
            assert!(error.contains(name), "{error}");
        }
    }
}
