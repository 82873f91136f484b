//! Observing asks: the span of each ask, and the hook that is called at its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Span, info_span};

use crate::ask::AskContext;
use crate::error::{Error, Outcome};
use crate::escape::escape_line;
use crate::time::millis_since;
use crate::wire::state::TaskState;

/// A function that is called once for each ask that ended; see
/// [`Config::on_ask_completed`](crate::Config::on_ask_completed).
pub(crate) type AskHook = Arc<dyn Fn(&AskSummary) + Send + Sync>;

/// The call that an [`AskSummary`] describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AskKind {
    /// [`Client::ask`](crate::Client::ask) or [`Client::ask_raw`](crate::Client::ask_raw).
    Ask,
    /// [`Client::ask_stream`](crate::Client::ask_stream) or
    /// [`Client::ask_stream_raw`](crate::Client::ask_stream_raw).
    Stream,
    /// [`Client::follow`](crate::Client::follow).
    Follow,
}

impl AskKind {
    /// Returns the kind in lower case, as a label of a metric: `ask`, `stream`, `follow`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Stream => "stream",
            Self::Follow => "follow",
        }
    }
}

/// The outcome of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AskOutcome {
    /// The answer was received, whatever [state](AskSummary::state) the task is in.
    Answered,
    /// An error: nothing was done.
    NotDone,
    /// An error: it may have been done.
    Unknown,
    /// An error, although the task's state is known: the answer's text is not whole, for example.
    Failed,
    /// The caller dropped the future or the stream before its end: it may have been done.
    Abandoned,
}

impl AskOutcome {
    /// Returns the outcome in snake case, as a label of a metric: `answered`, `not_done`,
    /// `unknown`, `failed`, `abandoned`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotDone => "not_done",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    fn of(error: &Error) -> Self {
        match error.outcome() {
            Outcome::NotDone => Self::NotDone,
            Outcome::Unknown => Self::Unknown,
            Outcome::Settled => Self::Failed,
        }
    }
}

/// The summary of an ask that [`Config::on_ask_completed`](crate::Config::on_ask_completed)
/// receives: figures, never text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AskSummary {
    /// The call.
    pub kind: AskKind,
    /// The number of attempts to send the ask: 1 unless an attempt failed, 0 if none was begun.
    pub attempts: u32,
    /// The time from the first poll to the end of the answer.
    pub duration: Duration,
    /// The outcome.
    pub outcome: AskOutcome,
    /// The last known state of the task; [`TaskState::Unknown`] if none is known.
    pub state: TaskState,
}

/// Ends an ask's span and calls the hook, exactly once: by a call of `end_…`, or when it is
/// dropped.
///
/// `None` where there is neither an interested subscriber nor a hook.
pub(crate) struct AskObserver(Option<Box<Observed>>);

struct Observed {
    span: Span,
    started: Instant,
    hook: Option<AskHook>,
    kind: AskKind,
    attempts: u32,
    state: TaskState,
}

impl AskObserver {
    /// Begins the span. Call this at the first poll of the ask's future, so that the span is a
    /// child of the caller's span.
    pub(crate) fn begin(kind: AskKind, ask: &AskContext, hook: Option<&AskHook>) -> Self {
        let span = span_of(kind, ask);
        if span.is_disabled() && hook.is_none() {
            return Self(None);
        }
        Self(Some(Box::new(Observed {
            span,
            started: Instant::now(),
            hook: hook.cloned(),
            kind,
            attempts: 0,
            state: TaskState::Unknown,
        })))
    }

    /// Returns the ask's own span: disabled where no subscriber is interested, and never the
    /// caller's.
    pub(crate) fn span(&self) -> Span {
        self.0.as_ref().map_or_else(Span::none, |observed| observed.span.clone())
    }

    /// Runs `act` within the ask's span.
    pub(crate) fn in_scope<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(observed) => observed.span.in_scope(act),
            None => act(),
        }
    }

    pub(crate) fn count_attempt(&mut self) {
        if let Some(observed) = &mut self.0 {
            observed.attempts += 1;
        }
    }

    /// Records the task's state, for an ask that is dropped before its end.
    pub(crate) fn note_state(&mut self, state: &TaskState) {
        if let Some(observed) = &mut self.0
            && observed.state != *state
        {
            observed.state = state.clone();
        }
    }

    /// Ends the span of an ask whose answer was received.
    pub(crate) fn end_answered(&mut self, state: &TaskState) {
        self.note_state(state);
        self.end(AskOutcome::Answered);
    }

    /// Ends the span of an ask that failed.
    pub(crate) fn end_failed(&mut self, error: &Error) {
        self.end(AskOutcome::of(error));
    }

    fn end(&mut self, outcome: AskOutcome) {
        let Some(observed) = self.0.take() else { return };
        let Observed { span, started, hook, kind, attempts, state } = *observed;
        let shown = match outcome {
            AskOutcome::Answered | AskOutcome::Abandoned => state.as_str(),
            AskOutcome::NotDone | AskOutcome::Unknown | AskOutcome::Failed => "error",
        };
        span.record("state", shown);
        span.record("duration_ms", millis_since(started));
        drop(span);
        if let Some(hook) = hook {
            hook(&AskSummary { kind, attempts, duration: started.elapsed(), outcome, state });
        }
    }
}

impl Drop for AskObserver {
    fn drop(&mut self) {
        self.end(AskOutcome::Abandoned);
    }
}

impl fmt::Debug for AskObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskObserver").finish_non_exhaustive()
    }
}

macro_rules! span_named {
    ($name:literal, $ask:expr) => {
        info_span!(
            $name,
            task_id = %escape_line($ask.task_id.as_str()),
            session_id = %escape_line($ask.session_id.as_str()),
            request_id = %$ask.request,
            state = tracing::field::Empty,
            duration_ms = tracing::field::Empty,
        )
    };
}

fn span_of(kind: AskKind, ask: &AskContext) -> Span {
    match kind {
        AskKind::Ask => span_named!("ask", ask),
        AskKind::Stream => span_named!("stream", ask),
        AskKind::Follow => span_named!("follow", ask),
    }
}
