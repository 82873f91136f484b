//! A streamed answer's words, as they come.

use payman_sdk::{AskStream, Event, Part, Reply};

/// What was printed of an answer.
#[derive(Default)]
pub(crate) struct Words {
    printed: String,
    /// The artifact that all words so far were appended to; `None` before the first.
    only: Option<i64>,
    /// Something else came, so that the whole text has to be looked at.
    mixed: bool,
}

/// What is left to print at the end.
pub(crate) enum Rest {
    More(String),
    /// The answer does not start with what was printed: all of it.
    Rewritten(String),
}

impl Words {
    /// The words to print now. What does not follow from what was printed waits for the end.
    pub(crate) fn new_in(&mut self, event: &Event, stream: &AskStream) -> Option<String> {
        if let Some(words) = self.plainly_appended(event) {
            self.printed.push_str(&words);
            return Some(words);
        }
        if matches!(event, Event::Status(_)) {
            return None;
        }
        self.mixed = true;
        let reply = stream.reply_so_far();
        if reply.artifacts().is_empty() {
            return None;
        }
        self.advance(&reply.text())
    }

    /// The usual event: text for the only artifact there is.
    fn plainly_appended(&mut self, event: &Event) -> Option<String> {
        let Event::Artifact(update) = event else {
            return None;
        };
        let [Part::Text(text)] = update.artifact.parts.as_slice() else {
            return None;
        };
        let follows = match self.only {
            None => true,
            Some(index) => update.artifact.append && index == update.artifact.index,
        };
        if self.mixed || !follows {
            return None;
        }
        self.only = Some(update.artifact.index);
        Some(text.text.clone())
    }

    fn advance(&mut self, whole: &str) -> Option<String> {
        let more = whole.strip_prefix(self.printed.as_str())?.to_owned();
        self.printed.push_str(&more);
        Some(more)
    }

    pub(crate) fn rest_of(&mut self, reply: &Reply) -> Rest {
        let whole = reply.text();
        match self.advance(&whole) {
            Some(more) => Rest::More(more),
            None => Rest::Rewritten(whole),
        }
    }
}
