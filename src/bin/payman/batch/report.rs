//! Reports on the rows: counts, and one line or record per row.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indicatif::{ProgressBar, ProgressStyle};
use payman_sdk::{Error, ErrorKind, Reply, TaskId};
use serde_json::json;

use super::rows::BatchRow;
use crate::exit_status::ExitStatus;
use crate::output::{is_dumb_terminal, stderr_is_terminal};

/// The outcome of a row, ordered by severity: the worst one decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowOutcome {
    Completed,
    /// The task failed, was canceled or rejected.
    Failed,
    /// The ask was surely not done: running the batch again asks it.
    NotDone,
    /// Nothing was sent: the key belongs to another text, which may have been paid.
    Conflict,
    NeedsInput,
    Unknown,
}

impl RowOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::NotDone => "not_done",
            Self::Conflict => "conflict",
            Self::NeedsInput => "needs_input",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn exit_status(self) -> ExitStatus {
        match self {
            Self::Completed => ExitStatus::Completed,
            Self::Failed | Self::NotDone | Self::Conflict => ExitStatus::NotCompleted,
            Self::NeedsInput => ExitStatus::InputRequired,
            Self::Unknown => ExitStatus::OutcomeUnknown,
        }
    }
}

/// One row and its outcome.
pub(super) struct RowResult {
    pub(super) row: BatchRow,
    pub(super) outcome: RowOutcome,
    task_id: Option<TaskId>,
    status: Option<String>,
    answer: Option<String>,
    pub(super) error: Option<String>,
}

impl RowResult {
    pub(super) fn new(row: BatchRow, result: &Result<Reply, Error>) -> Self {
        match result {
            Ok(reply) => {
                let outcome = match ExitStatus::from(reply.state()) {
                    ExitStatus::Completed => RowOutcome::Completed,
                    ExitStatus::NotCompleted => RowOutcome::Failed,
                    ExitStatus::InputRequired => RowOutcome::NeedsInput,
                    _ => RowOutcome::Unknown,
                };
                Self {
                    row,
                    outcome,
                    task_id: Some(reply.task_id().clone()),
                    status: Some(reply.state().as_str().to_owned()),
                    answer: Some(reply.text()),
                    error: None,
                }
            }
            Err(error) => {
                let outcome = match error.kind() {
                    _ if error.is_outcome_unknown() => RowOutcome::Unknown,
                    ErrorKind::IdempotencyConflict => RowOutcome::Conflict,
                    _ => RowOutcome::NotDone,
                };
                let mut message = error.to_string();
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    let _ = write!(message, ": {error}");
                    cause = error.source();
                }
                let task_id = error.task_id().cloned();
                Self { row, outcome, task_id, status: None, answer: None, error: Some(message) }
            }
        }
    }

    pub(super) fn task_id(&self) -> Option<&TaskId> {
        self.task_id.as_ref()
    }

    pub(super) fn to_json(&self) -> String {
        json!({
            "line": self.row.line,
            "idempotencyKey": self.row.key,
            "outcome": self.outcome.as_str(),
            "taskId": self.task_id,
            "status": self.status,
            "answer": self.answer,
            "error": self.error,
        })
        .to_string()
    }

    /// Returns the row of the file of results.
    pub(super) fn to_record(&self) -> [&str; 6] {
        [
            &self.row.key,
            self.outcome.as_str(),
            self.task_id.as_ref().map_or("", TaskId::as_str),
            self.status.as_deref().unwrap_or_default(),
            self.answer.as_deref().unwrap_or_default(),
            self.error.as_deref().unwrap_or_default(),
        ]
    }
}

/// The counts by outcome, shown on stderr if it is a terminal.
pub(super) struct BatchProgress {
    bar: Option<ProgressBar>,
    counts: BTreeMap<RowOutcome, usize>,
}

impl BatchProgress {
    pub(super) fn start(rows: usize) -> Self {
        let is_shown = stderr_is_terminal() && !is_dumb_terminal();
        let bar = is_shown.then(|| {
            let bar = ProgressBar::new(rows as u64);
            let template = "{bar:24} {pos}/{len} {msg} ({elapsed})";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        Self { bar, counts: BTreeMap::new() }
    }

    pub(super) fn count(&mut self, outcome: RowOutcome) {
        *self.counts.entry(outcome).or_default() += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(self.summary());
        }
    }

    /// Returns the counts as text, such as `12 completed, 1 unknown`.
    pub(super) fn summary(&self) -> String {
        let parts: Vec<_> = self
            .counts
            .iter()
            .map(|(outcome, count)| format!("{count} {}", outcome.as_str().replace('_', " ")))
            .collect();
        parts.join(", ")
    }

    pub(super) fn worst(&self) -> RowOutcome {
        self.counts.keys().copied().max().unwrap_or(RowOutcome::Completed)
    }

    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for BatchProgress {
    fn drop(&mut self) {
        self.end();
    }
}
