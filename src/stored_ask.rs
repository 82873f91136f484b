//! The stored form of an ask, and the hash that an idempotency key is bound to.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::timestamp::Timestamp;

/// The fields of an ask that are needed to send it later, or to recognize its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredAsk {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) origin: StoredOrigin,
    #[serde(default)]
    pub(crate) session: SessionChoice,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: Metadata,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(crate) message_metadata: Metadata,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(crate) part_metadata: Metadata,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "StoredLimits::is_default")]
    pub(crate) limits: StoredLimits,
}

/// The origin of an ask's task id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StoredOrigin {
    #[default]
    Minted,
    Chosen,
    /// The ask continues the task with its task id.
    Continued {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
}

/// The session of an ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SessionChoice {
    /// The session of the client that sends it.
    #[default]
    Client,
    New,
    Given(SessionId),
}

/// The ask's own limits; durations in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StoredLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_event_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_reply_bytes: Option<usize>,
}

impl StoredLimits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn millis(limit: Option<Duration>) -> Option<u64> {
        limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
    }
}

impl StoredAsk {
    pub(crate) fn is_continuation(&self) -> bool {
        matches!(self.origin, StoredOrigin::Continued { .. })
    }

    /// Returns the hash of the content: text, metadata, session choice, and the task if one is
    /// continued.
    ///
    /// Headers, limits and a new task's id are excluded, since they differ between calls.
    pub(crate) fn fingerprint(&self, task_id: &TaskId) -> String {
        let content = json!({
            "text": self.text,
            "continues": self.is_continuation().then_some(task_id),
            "session": self.session,
            "metadata": self.metadata,
            "messageMetadata": self.message_metadata,
            "partMetadata": self.part_metadata,
        });
        let mut canonical = String::new();
        write_canonical(&content, &mut canonical);
        let mut hash = String::from("1:");
        for byte in Sha256::digest(canonical.as_bytes()) {
            let _ = write!(hash, "{byte:02x}");
        }
        hash
    }
}

/// Writes JSON with sorted keys, in whatever order `serde_json`'s features keep them.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (position, (key, value)) in keys.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}
