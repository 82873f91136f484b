//! Prints the text of a streamed answer as it arrives.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use payman_sdk::{Error, ErrorKind, Part, Reply, Task, TextStream};
use tokio::time::sleep;

use crate::account::AskFailure;
use crate::output::{StdoutReader, note, print_line, print_text};
use crate::spinner::Spinner;

/// The interval at which the spinner reads the task's state.
const STATE_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct StreamPrinter {
    stream: TextStream,
    progress: Spinner,
    /// True if the printed text does not end with a line end.
    is_mid_line: bool,
    has_printed: bool,
    reader: StdoutReader,
}

impl StreamPrinter {
    pub(crate) fn new(stream: TextStream, progress: Spinner) -> Self {
        progress.show(stream.reply_so_far().state());
        Self {
            stream,
            progress,
            is_mid_line: false,
            has_printed: false,
            reader: StdoutReader::Present,
        }
    }

    /// Prints until the answer has ended. May be dropped and called again.
    pub(crate) async fn print_all(&mut self) -> Result<(), AskFailure> {
        while let Some(text) = self.next().await {
            self.progress.end();
            match text {
                Ok(text) => self.print(&text)?,
                Err(error) if is_rewritten(&error, &self.reply()) => {
                    self.end_line()?;
                    note("(The agent rewrote its answer. This is the whole answer:)");
                    self.print(&self.reply().text())?;
                }
                Err(error) => {
                    // The printed text is not the answer, and must be separated from the error.
                    self.end_line()?;
                    return Err(error.into());
                }
            }
        }
        self.progress.end();
        if !self.has_printed {
            self.print(&printable(self.reply().task()))?;
        }
        self.reader = print_line("")?;
        self.is_mid_line = false;
        Ok(())
    }

    /// Returns the next text, and shows the task's state while the spinner is there.
    async fn next(&mut self) -> Option<Result<String, Error>> {
        while self.progress.is_shown() {
            tokio::select! {
                next = self.stream.next() => return next,
                () = sleep(STATE_INTERVAL) => {
                    self.progress.show(self.stream.reply_so_far().state());
                }
            }
        }
        self.stream.next().await
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        if !text.is_empty() {
            self.has_printed = true;
            self.is_mid_line = !text.ends_with('\n');
            self.reader = print_text(text)?;
        }
        Ok(())
    }

    /// Ends the spinner and the line, so that what is printed next starts on a line of its own.
    pub(crate) fn end_line(&mut self) -> io::Result<()> {
        self.progress.end();
        if self.is_mid_line {
            self.is_mid_line = false;
            self.reader = print_line("")?;
        }
        Ok(())
    }

    /// Returns the reply as far as it has arrived.
    pub(crate) fn reply(&self) -> Reply {
        self.stream.reply_so_far()
    }

    /// Returns whether someone still read stdout when it was last written.
    pub(crate) fn reader(&self) -> StdoutReader {
        self.reader
    }
}

/// Returns true for the error of a stream whose answer is known and does not begin with the text
/// that was printed.
fn is_rewritten(error: &Error, reply: &Reply) -> bool {
    let state = reply.state();
    error.kind() == ErrorKind::Protocol
        && !error.is_outcome_unknown()
        && (state.is_terminal() || state.is_waiting_for_user())
}

/// Returns the readable content of a task: its text or, if it has none, its data as JSON and the
/// names of its files.
pub(crate) fn printable(task: &Task) -> String {
    let parts = task.artifacts.iter().flat_map(|artifact| &artifact.parts);
    let has_text = parts.clone().any(|part| part.as_text().is_some_and(|text| !text.is_empty()));
    let shown: Vec<String> = parts.filter_map(show_part).collect();
    if has_text || shown.is_empty() { task.text() } else { shown.join("\n") }
}

fn show_part(part: &Part) -> Option<String> {
    let json = |value| serde_json::to_string_pretty(value).ok();
    match part {
        Part::Text(_) => None,
        Part::Data(part) => json(&part.data),
        Part::File(part) => {
            let name = part.name().or_else(|| part.uri()).unwrap_or("without a name");
            Some(match part.mime_type() {
                Some(kind) => format!("[file {name}, {kind}]"),
                None => format!("[file {name}]"),
            })
        }
        Part::Unknown(value) => json(value),
        _ => None,
    }
}
