//! The text of a stream, chunk by chunk.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};

use super::AskStream;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::ids::TaskId;
use crate::reply::Reply;
use crate::wire::part::{Part, joined_text};
use crate::wire::task::Artifact;

/// The text of an answer, chunk by chunk; see [`AskStream::text`].
///
/// Chunks cannot be taken back. If the answer was rewritten, or was cut and its end does not start
/// with the chunks already yielded, the stream ends in an error of kind
/// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol).
#[must_use = "a stream does nothing unless it is read"]
pub struct TextStream {
    events: AskStream,
    text: TextProgress,
    state: TextState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextState {
    Reading,
    Ended,
}

impl TextStream {
    pub(super) fn new(events: AskStream) -> Self {
        Self { events, text: TextProgress::default(), state: TextState::Reading }
    }

    /// Returns the answer so far as a reply. After the last chunk, it has the final state of the
    /// task.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let mut text = client.ask_stream("List all wallets").await?.text();
    /// while let Some(chunk) = text.next().await {
    ///     print!("{}", chunk?);
    /// }
    /// assert_eq!(text.reply_so_far().state(), &payman_sdk::TaskState::Completed);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reply_so_far(&self) -> Reply {
        self.events.reply_so_far()
    }

    /// Returns the id of the task.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let text = client.ask_stream("List all wallets").await?.text();
    /// println!("{}", text.task_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        self.events.task_id()
    }

    /// Returns the rest of the whole text after the chunks already yielded.
    fn last_chunk(&mut self) -> Option<Result<String>> {
        let whole = self.events.accumulated().text();
        match whole.strip_prefix(self.text.yielded.as_str()) {
            Some("") => None,
            Some(rest) => Some(Ok(rest.to_owned())),
            None => Some(Err(Error::text_rewritten(self.task_id()))),
        }
    }
}

impl Stream for TextStream {
    type Item = Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.state == TextState::Reading {
            match ready!(self.events.poll_next_unpin(cx)) {
                Some(Ok(event)) => {
                    let chunk = self.text.apply(&event);
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Some(Err(error)) => {
                    self.state = TextState::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.state = TextState::Ended;
                    return Poll::Ready(self.last_chunk());
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

/// The text of the artifacts so far, and how much of it was yielded.
///
/// Applying an event takes time in proportion to its own size, not to that of the answer: an
/// appended chunk is added to the text of its artifact, and the position in the open artifact
/// advances.
#[derive(Default)]
struct TextProgress {
    artifacts: Vec<ArtifactText>,
    /// The position of the artifact with an index.
    positions: HashMap<i64, usize>,
    /// The artifact that may still grow; those before it are complete and were yielded.
    open: usize,
    /// The number of bytes of the open artifact that were yielded.
    yielded_of_open: usize,
    /// The text that was yielded.
    yielded: String,
    /// True once the text no longer starts with the text that was yielded. It may do so again at
    /// the end.
    is_rewritten: bool,
}

/// The text of one artifact.
#[derive(Default)]
struct ArtifactText {
    text: String,
    last_part: LastPart,
    is_complete: bool,
}

/// The kind of an artifact's last part, which decides how appended text joins it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum LastPart {
    #[default]
    None,
    Text,
    /// A part of another kind. Earlier parts may be text.
    Other {
        after_text: bool,
    },
}

impl TextProgress {
    /// Applies an event, and returns the text to yield; empty where there is none.
    fn apply(&mut self, event: &Event) -> String {
        match event {
            Event::Artifact(update) => self.apply_artifact(&update.artifact),
            Event::Task(task) => self.replace_all(&task.artifacts),
            Event::Status(_) | Event::Unknown(_) => return String::new(),
        }
        if self.is_rewritten { String::new() } else { self.advance() }
    }

    fn apply_artifact(&mut self, update: &Artifact) {
        let at = *self.positions.entry(update.index).or_insert(self.artifacts.len());
        if at == self.artifacts.len() {
            self.artifacts.push(ArtifactText::default());
        }
        let Some(artifact) = self.artifacts.get_mut(at) else { return };
        if update.append {
            artifact.append(&update.parts);
        } else {
            let replaced = std::mem::replace(artifact, ArtifactText::new(&update.parts));
            artifact.is_complete = replaced.is_complete;
            self.is_rewritten |= !self.still_fits(at, &replaced.text);
        }
        if let Some(artifact) = self.artifacts.get_mut(at) {
            artifact.is_complete |= update.last_chunk == Some(true) || artifact.has_no_text();
            // The text that was yielded lacks this text of an earlier artifact.
            self.is_rewritten |=
                at < self.open && update.append && !joined_text(&update.parts).is_empty();
        }
    }

    /// Returns true where the new text of an artifact starts with what was yielded of the old one.
    fn still_fits(&self, at: usize, old: &str) -> bool {
        let Some(new) = self.artifacts.get(at) else { return true };
        match at.cmp(&self.open) {
            std::cmp::Ordering::Less => new.text == old,
            std::cmp::Ordering::Equal => {
                old.get(..self.yielded_of_open).is_some_and(|given| new.text.starts_with(given))
            }
            std::cmp::Ordering::Greater => true,
        }
    }

    /// Replaces all artifacts by those of a whole task.
    fn replace_all(&mut self, artifacts: &[Artifact]) {
        self.artifacts = artifacts
            .iter()
            .map(|artifact| {
                let mut text = ArtifactText::new(&artifact.parts);
                text.is_complete = artifact.last_chunk == Some(true) || text.has_no_text();
                text
            })
            .collect();
        self.positions =
            artifacts.iter().enumerate().rev().map(|(at, artifact)| (artifact.index, at)).collect();
        self.find_position();
    }

    /// Finds the place in the artifacts up to which the text was yielded.
    fn find_position(&mut self) {
        let mut left = self.yielded.as_str();
        let mut begun = false;
        for (at, artifact) in self.artifacts.iter().enumerate() {
            (self.open, self.yielded_of_open) = (at, 0);
            if left.is_empty() {
                break;
            }
            if begun && !artifact.text.is_empty() {
                let Some(rest) = left.strip_prefix('\n') else { break };
                left = rest;
            }
            begun |= !artifact.text.is_empty();
            match left.strip_prefix(artifact.text.as_str()) {
                Some(rest) => {
                    left = rest;
                    self.yielded_of_open = artifact.text.len();
                    if left.is_empty() && !artifact.is_complete {
                        break;
                    }
                }
                None if artifact.text.starts_with(left) => {
                    self.yielded_of_open = left.len();
                    left = "";
                    break;
                }
                None => break,
            }
        }
        self.is_rewritten = !left.is_empty();
    }

    /// Returns the text that can be yielded now: the rest of the open artifact, and, if it is
    /// complete, the text of the next ones.
    fn advance(&mut self) -> String {
        let mut chunk = String::new();
        while let Some(artifact) = self.artifacts.get(self.open) {
            let rest = artifact.text.get(self.yielded_of_open..).unwrap_or_default();
            let has_text_before = !self.yielded.is_empty() || !chunk.is_empty();
            if self.yielded_of_open == 0 && !rest.is_empty() && has_text_before {
                chunk.push('\n');
            }
            chunk.push_str(rest);
            self.yielded_of_open = artifact.text.len();
            let is_last = self.open + 1 == self.artifacts.len();
            if !artifact.is_complete || is_last {
                break;
            }
            self.open += 1;
            self.yielded_of_open = 0;
        }
        self.yielded.push_str(&chunk);
        chunk
    }
}

impl ArtifactText {
    fn new(parts: &[Part]) -> Self {
        let mut artifact = Self::default();
        artifact.append(parts);
        artifact
    }

    /// Appends parts as [`Artifact::merge`] does: text extends a last part that is text, and other
    /// parts with text begin on a new line.
    fn append(&mut self, parts: &[Part]) {
        for (position, part) in parts.iter().enumerate() {
            let Some(text) = part.as_text() else {
                let after_text = match self.last_part {
                    LastPart::None => false,
                    LastPart::Text => true,
                    LastPart::Other { after_text } => after_text,
                };
                self.last_part = LastPart::Other { after_text };
                continue;
            };
            let extends = position == 0 && self.last_part == LastPart::Text;
            let has_text_part =
                !matches!(self.last_part, LastPart::None | LastPart::Other { after_text: false });
            if has_text_part && !extends {
                self.text.push('\n');
            }
            self.text.push_str(text);
            self.last_part = LastPart::Text;
        }
    }

    fn has_no_text(&self) -> bool {
        matches!(self.last_part, LastPart::Other { after_text: false })
    }
}
