//! Conversion of an ask to and from the form in which a journal stores it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};

use super::context::{AskDetails, TaskOrigin};
use super::{Ask, Origin, Session};
use crate::error::{Error, Result};
use crate::ids::{SessionId, TaskId};
use crate::stored_ask::{SessionChoice, StoredAsk, StoredLimits, StoredOrigin};
use crate::wire::request::method;

/// An ask with an idempotency key, as a journal records it.
pub(crate) struct KeyedAsk {
    pub(crate) key: String,
    pub(crate) stored: StoredAsk,
    pub(crate) task_id: TaskId,
}

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

fn check_key(key: &str) -> Result<()> {
    if key.trim().is_empty() {
        return Err(Error::invalid_input("the idempotency key is blank"));
    }
    if key.len() > MAX_KEY {
        return Err(Error::invalid_input("the idempotency key is longer than 255 bytes"));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::invalid_input("the idempotency key has a control character"));
    }
    Ok(())
}

/// Conversion from and to the stored form.
impl Ask {
    /// Returns the journal's record of the ask; `None` without a key.
    pub(crate) fn keyed(&self) -> Result<Option<KeyedAsk>> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        check_key(key)?;
        let (key, stored) = (key.clone(), self.to_stored());
        Ok(Some(KeyedAsk { key, stored, task_id: self.task_id.clone() }))
    }

    /// Returns the record of a reserved ask, after the checks that are made when it is sent.
    pub(crate) fn checked_for_reserve(self) -> Result<KeyedAsk> {
        let Some(keyed) = self.keyed()? else {
            return Err(Error::invalid_input(
                "only an ask with an idempotency key can be reserved: Ask::idempotency_key",
            ));
        };
        let defaults = Arc::new(AskDetails::default());
        self.prepare(method::SEND, &SessionId::new(), &defaults)?;
        Ok(keyed)
    }

    pub(crate) fn to_stored(&self) -> StoredAsk {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        StoredAsk {
            text: self.text.clone(),
            origin: match &self.origin {
                Origin::Minted => StoredOrigin::Minted,
                Origin::Chosen => StoredOrigin::Chosen,
                Origin::Continued { since } => StoredOrigin::Continued { since: since.clone() },
            },
            session: match &self.session {
                Session::Client => SessionChoice::Client,
                Session::New => SessionChoice::New,
                Session::Given(id) => SessionChoice::Given(id.clone()),
            },
            metadata: self.metadata.clone(),
            message_metadata: self.message_metadata.clone(),
            part_metadata: self.part_metadata.clone(),
            headers: self.headers.iter().map(header).collect(),
            limits: StoredLimits {
                reply_timeout: StoredLimits::millis(self.reply_timeout),
                idle_timeout: StoredLimits::millis(self.idle_timeout),
                deadline: StoredLimits::millis(self.deadline),
                max_event_bytes: self.max_event_bytes,
                max_reply_bytes: self.max_reply_bytes,
            },
        }
    }

    pub(crate) fn from_stored(stored: StoredAsk, task_id: TaskId) -> Self {
        let mut ask = Self::new(stored.text);
        ask.task_id = task_id;
        ask.origin = stored.origin.into();
        ask.session = match stored.session {
            SessionChoice::Client => Session::Client,
            SessionChoice::New => Session::New,
            SessionChoice::Given(id) => Session::Given(id),
        };
        ask.metadata = stored.metadata;
        ask.message_metadata = stored.message_metadata;
        ask.part_metadata = stored.part_metadata;
        ask.reply_timeout = stored.limits.reply_timeout.map(Duration::from_millis);
        ask.idle_timeout = stored.limits.idle_timeout.map(Duration::from_millis);
        ask.deadline = stored.limits.deadline.map(Duration::from_millis);
        ask.max_event_bytes = stored.limits.max_event_bytes;
        ask.max_reply_bytes = stored.limits.max_reply_bytes;
        for (name, value) in stored.headers {
            ask = ask.header(name, value);
        }
        ask
    }
}

impl From<StoredOrigin> for Origin {
    fn from(stored: StoredOrigin) -> Self {
        match stored {
            StoredOrigin::Minted => Self::Minted,
            StoredOrigin::Chosen => Self::Chosen,
            StoredOrigin::Continued { since } => Self::Continued { since },
        }
    }
}

/// Returns the origin of a stored ask's task id.
pub(crate) fn stored_task_origin(stored: &StoredAsk) -> TaskOrigin {
    Origin::from(stored.origin.clone()).of_task(stored.text.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fingerprint(ask: &Ask) -> String {
        ask.to_stored().fingerprint(ask.task_id())
    }

    #[test]
    fn the_hash_covers_content_and_nothing_else() {
        let ask =
            || Ask::new("Pay Tyllen $50").metadata("b", 1).metadata("a", json!({"y":1,"x":2}));
        let same = [
            ask(),
            Ask::new("Pay Tyllen $50").metadata("a", json!({"x":2,"y":1})).metadata("b", 1),
            ask().deadline(Duration::from_secs(1)),
            ask().idempotency_key("another"),
        ];
        for other in &same {
            assert_eq!(fingerprint(&ask()), fingerprint(other));
        }
        let different = [
            Ask::new("Pay Tyllen $50"),
            Ask::new("Pay Tyllen $60").metadata("b", 1).metadata("a", json!({"y":1,"x":2})),
            ask().new_session(),
            ask().session("ses-1"),
            ask().message_metadata("c", 1),
            ask().part_metadata("c", 1),
            ask().continue_task("tsk-1"),
        ];
        for (position, other) in different.iter().enumerate() {
            assert_ne!(fingerprint(&ask()), fingerprint(other), "{position}");
        }
    }

    #[test]
    fn an_ask_survives_storage() -> Result<(), serde_json::Error> {
        let ask = Ask::new("yes")
            .continue_task("tsk-1")
            .session("ses-1")
            .metadata("a", 1)
            .deadline(Duration::from_secs(3));
        let stored = ask.to_stored();
        let read: StoredAsk = serde_json::from_str(&serde_json::to_string(&stored)?)?;
        assert_eq!(read, stored);
        let again = Ask::from_stored(read, TaskId::from("tsk-1"));
        assert_eq!(again.to_stored(), stored);
        assert_eq!(again.task_id(), "tsk-1");
        Ok(())
    }
}
