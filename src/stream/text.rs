//! Only the words of a stream, as they come.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};

use super::AskStream;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::event::Event;
use crate::ids::TaskId;
use crate::reply::Reply;
use crate::wire::part::Part;
use crate::wire::task::{Artifact, words_of};

/// The words of an answer as they come; see [`AskStream::text`].
///
/// What was given cannot be taken back: where the answer was rewritten, or was cut and its end does not start with
/// what was given, the stream ends in an error of kind [`ErrorKind::Protocol`].
#[must_use = "a stream does nothing unless it is read"]
pub struct TextStream {
    events: AskStream,
    given: String,
    ended: bool,
}

impl TextStream {
    pub(super) fn new(events: AskStream) -> Self {
        Self { events, given: String::new(), ended: false }
    }

    /// What has come so far, as a reply: after the last words, its state says how the task ended.
    #[must_use]
    pub fn reply_so_far(&self) -> Reply {
        self.events.reply_so_far()
    }

    /// The task.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        self.events.task_id()
    }

    /// What of `whole` was not given yet; `None` where it does not start with what was.
    fn rest(&mut self, whole: &str) -> Option<String> {
        let rest = whole.strip_prefix(self.given.as_str())?.to_owned();
        self.given.push_str(&rest);
        Some(rest)
    }

    fn words_of(&mut self, event: &Event) -> Option<String> {
        let artifacts = self.events.accumulated().artifacts();
        let Some(words) = plainly_appended(event, artifacts, self.given.len()) else {
            let so_far = settled_text(artifacts);
            return self.rest(&so_far);
        };
        self.given.push_str(&words);
        Some(words)
    }

    fn last_words(&mut self) -> Option<Result<String>> {
        let whole = self.events.accumulated().text();
        match self.rest(&whole) {
            Some(rest) if rest.is_empty() => None,
            Some(rest) => Some(Ok(rest)),
            None => Some(Err(rewritten(self.task_id()))),
        }
    }
}

fn rewritten(id: &TaskId) -> Error {
    Error::new(
        ErrorKind::Protocol,
        Outcome::Settled,
        "the answer was rewritten: it does not start with the words already given",
    )
    .with_task_id(id)
}

/// The usual event: more words for the only artifact that words may come from. Saves reading the whole text again.
fn plainly_appended(event: &Event, artifacts: &[Artifact], given: usize) -> Option<String> {
    let Event::Artifact(update) = event else {
        return None;
    };
    let ([only], [Part::Text(more)]) = (artifacts, update.artifact.parts.as_slice()) else {
        return None;
    };
    let [Part::Text(whole)] = only.parts.as_slice() else {
        return None;
    };
    let extended = update.artifact.append && whole.text.len() == given + more.text.len();
    extended.then(|| more.text.clone())
}

/// The text that only grows at its end from here: the artifacts up to the first that may still get more words.
fn settled_text(artifacts: &[Artifact]) -> String {
    let open = artifacts.iter().position(|artifact| !is_complete(artifact));
    words_of(open.and_then(|at| artifacts.get(..=at)).unwrap_or(artifacts))
}

fn is_complete(artifact: &Artifact) -> bool {
    let has_no_words =
        !artifact.parts.is_empty() && artifact.parts.iter().all(|part| part.as_text().is_none());
    artifact.last_chunk == Some(true) || has_no_words
}

impl Stream for TextStream {
    type Item = Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            match ready!(self.events.poll_next_unpin(cx)) {
                Some(Ok(event)) => match self.words_of(&event) {
                    Some(words) if !words.is_empty() => return Poll::Ready(Some(Ok(words))),
                    // What does not fit now may fit in the end.
                    _ => {}
                },
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(self.last_words());
                }
            }
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for TextStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextStream").field("events", &self.events).finish_non_exhaustive()
    }
}
