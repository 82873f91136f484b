//! The named constructors: the one place with the message of each error and the outcome that it
//! proves.

use std::borrow::Cow;
use std::error::Error as StdError;

use super::{Error, ErrorKind, Outcome, RedirectFailure, Source};
use crate::escape::is_unsafe;
use crate::ids::TaskId;
use crate::wire::jsonrpc::{RpcError, code};
use crate::wire::state::TaskState;

const ANOTHER_TASK: &str = "the platform answered with another task than the one asked for";

impl Error {
    /// Builds the error of bad input, which is refused before anything is sent.
    pub(crate) fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, Outcome::NotDone, message)
    }

    fn unknown(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, Outcome::Unknown, message)
    }
}

/// Errors of sending an ask.
impl Error {
    pub(crate) fn unexpected_stream() -> Self {
        Self::protocol("the platform answered an ask for a whole reply with a stream")
    }

    /// Builds the error of a clone of an ask that was sent. The first may have been done, so the
    /// outcome is unknown.
    pub(crate) fn ask_already_sent() -> Self {
        Self::unknown(ErrorKind::InvalidInput, "this ask was sent already")
    }

    pub(crate) fn deadline_passed_before_sending() -> Self {
        let message = "the time limit passed before the ask was sent";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }

    pub(crate) fn not_connected(timed_out: bool, source: impl Into<Source>) -> Self {
        let message = if timed_out {
            "connecting to the platform took too long"
        } else {
            "could not connect to the platform"
        };
        Self::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source)
    }

    /// Builds the error of a time limit that passed while the request waited for a connection.
    pub(crate) fn no_connection_in_time() -> Self {
        let message = "the time limit passed before a connection took the request";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }

    /// Builds the error of a connection that closed before it took the request.
    pub(crate) fn connection_closed_unused(source: impl Into<Source>) -> Self {
        let message = "the connection closed before it took the request";
        Self::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source)
    }

    pub(crate) fn connection_lost(source: impl Into<Source>) -> Self {
        let message = "the connection broke before the answer was whole";
        Self::unknown(ErrorKind::Interrupted, message).with_source(source)
    }

    pub(crate) fn answer_timed_out() -> Self {
        Self::unknown(ErrorKind::Timeout, "the platform did not answer in time")
    }

    /// Builds the error of a spawned ask whose tokio task panicked, or ended with its runtime.
    pub(crate) fn ask_task_ended(source: impl Into<Source>) -> Self {
        Self::unknown(ErrorKind::Interrupted, "the task that ran the ask ended before its answer")
            .with_source(source)
    }

    pub(crate) fn token_wait_timed_out() -> Self {
        let message = "the deadline passed while waiting for a token";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }
}

/// Errors of reading an answer.
impl Error {
    /// Builds the error of an answer or an event that cannot be understood or trusted.
    pub(crate) fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self::unknown(ErrorKind::Protocol, message)
    }

    pub(crate) fn another_task() -> Self {
        Self::protocol(ANOTHER_TASK)
    }

    pub(crate) fn is_another_task(&self) -> bool {
        self.0.message == ANOTHER_TASK
    }

    pub(crate) fn too_large(what: &str, limit: usize) -> Self {
        let message = format!("{what} is larger than the limit of {limit} bytes");
        Self::unknown(ErrorKind::TooLarge, message)
    }

    /// Builds the error of a JSON-RPC response; the server's message is cut short and put on one
    /// line.
    pub(crate) fn from_rpc(rpc: RpcError) -> Self {
        let kind = match rpc.code {
            Some(code::TASK_NOT_FOUND) => ErrorKind::TaskNotFound,
            Some(code::METHOD_NOT_FOUND | code::UNSUPPORTED_OPERATION) => ErrorKind::Unsupported,
            _ => ErrorKind::Rpc,
        };
        let says = on_one_line(&rpc.message);
        let message = match (rpc.code, says.as_str()) {
            (Some(code), "") => format!("the platform answered with JSON-RPC error {code}"),
            (Some(code), says) => {
                format!("the platform answered with JSON-RPC error {code}: {says}")
            }
            (None, says) => {
                format!("the platform answered with a JSON-RPC error without a code: {says}")
            }
        };
        Self::unknown(kind, message).with_rpc(rpc)
    }

    /// Builds the error of an HTTP status that is not a success.
    pub(crate) fn from_status(status: reqwest::StatusCode, says: Option<&str>) -> Self {
        let message = match says.map(on_one_line).filter(|says| !says.is_empty()) {
            Some(says) => format!("the platform answered HTTP {status}: {says}"),
            None => format!("the platform answered HTTP {status}"),
        };
        Self::unknown(ErrorKind::Http, message).with_status(status.as_u16())
    }

    /// Sets the kind that an HTTP status stands for, where it says more than the body.
    pub(crate) fn with_kind_of_status(self, status: u16, asks_to_wait: bool) -> Self {
        match (status, self.kind()) {
            (401 | 403, _) => self.with_kind(ErrorKind::Auth),
            (429, _) => self.with_kind(ErrorKind::RateLimited),
            (503, _) if asks_to_wait => self.with_kind(ErrorKind::RateLimited),
            (404 | 405 | 501, ErrorKind::Http) => self.with_kind(ErrorKind::Unsupported),
            _ => self,
        }
    }
}

/// Errors of looking up and following a task.
impl Error {
    pub(crate) fn lookups_unanswered(id: &TaskId) -> Self {
        Self::unknown(ErrorKind::Interrupted, "the platform no longer answers for the task")
            .with_task_id(id)
    }

    pub(crate) fn resubscribe_unsupported() -> Self {
        let message = "the platform did not resume the task's events";
        Self::new(ErrorKind::Unsupported, Outcome::Settled, message)
    }

    pub(crate) fn task_still_running(id: &TaskId) -> Self {
        let message = "the deadline passed while the task was still running";
        Self::unknown(ErrorKind::Timeout, message).with_task_id(id)
    }

    pub(crate) fn task_stands_still(id: &TaskId) -> Self {
        let message = "the task is still running and made no progress for too long";
        Self::unknown(ErrorKind::Timeout, message).with_task_id(id)
    }

    /// Builds the error of a stream that the server ended without a state, where lookups show none
    /// either.
    pub(crate) fn state_never_came(id: &TaskId) -> Self {
        let message = "the stream ended without a state of the task";
        Self::unknown(ErrorKind::Interrupted, message).with_task_id(id)
    }

    /// Builds the error of a stream that was cut, where lookups show a state that does not tell
    /// whether the task has ended.
    pub(crate) fn state_not_recognized(id: &TaskId, state: &TaskState) -> Self {
        let state = on_one_line(state.as_str());
        let message =
            format!("the stream was cut, and the task's state is not recognized: {state}");
        Self::unknown(ErrorKind::Interrupted, message).with_task_id(id)
    }

    pub(crate) fn task_not_followed(id: &TaskId) -> Self {
        let message = "the task is still running, and is not followed";
        Self::unknown(ErrorKind::Interrupted, message).with_task_id(id)
    }

    /// Builds the error of a task in another state than completed.
    pub(crate) fn task_not_completed(state: &TaskState, outcome: Outcome) -> Self {
        let state = on_one_line(state.as_str());
        let message = format!("the task did not complete: its state is {state}");
        Self::new(ErrorKind::TaskNotCompleted, outcome, message)
    }

    /// Builds the error of a task that has ended, whose streamed answer was cut and is not
    /// available again.
    pub(crate) fn answer_not_whole(state: &TaskState) -> Self {
        let state = on_one_line(state.as_str());
        let message =
            format!("the answer was cut and was not sent again; the task's state is {state}");
        Self::new(ErrorKind::Interrupted, Outcome::Settled, message)
    }
}

/// Errors of streams.
impl Error {
    /// Builds the error of a text that no longer starts with the chunks already yielded.
    pub(crate) fn text_rewritten(id: &TaskId) -> Self {
        let message =
            "the answer was rewritten: it does not start with the text that was already yielded";
        Self::new(ErrorKind::Protocol, Outcome::Settled, message).with_task_id(id)
    }

    /// Builds the error of a stream that ended or broke before the end of the answer.
    pub(crate) fn stream_cut(message: &'static str) -> Self {
        Self::unknown(ErrorKind::Interrupted, message)
    }

    pub(crate) fn stream_idle() -> Self {
        Self::unknown(ErrorKind::Timeout, "the stream was silent for too long")
    }

    pub(crate) fn stream_deadline_passed() -> Self {
        Self::unknown(ErrorKind::Timeout, "the deadline passed before the answer ended")
    }
}

/// Errors of connecting a user.
impl Error {
    pub(crate) fn redirect_forged() -> Self {
        let message =
            "the redirect's state is not the one that was sent: it is not this user's answer";
        Self::new(ErrorKind::Auth, Outcome::NotDone, message)
            .with_redirect_failure(RedirectFailure::Forged)
    }

    /// Builds the error of a redirect that carries an OAuth error code, which becomes the body.
    pub(crate) fn redirect_refused(code: String) -> Self {
        let failure = match code.as_str() {
            "invalid_request"
            | "unauthorized_client"
            | "unsupported_response_type"
            | "invalid_scope"
            | "invalid_client"
            | "invalid_redirect_uri"
            | "server_error"
            | "temporarily_unavailable" => RedirectFailure::Platform,
            _ => RedirectFailure::Denied,
        };
        let message = format!("the user was not connected: {code}");
        Self::new(ErrorKind::Auth, Outcome::NotDone, message)
            .with_body(code.into())
            .with_redirect_failure(failure)
    }
}

/// Errors of idempotency keys and their journal.
impl Error {
    /// Creates an error of a [`Journal`](crate::Journal) implementation, with its cause.
    ///
    /// ```
    /// let error = payman_sdk::Error::journal("the disk is full");
    /// assert_eq!(error.kind(), payman_sdk::ErrorKind::Journal);
    /// ```
    #[must_use]
    pub fn journal(source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        Self::new(ErrorKind::Journal, Outcome::Settled, "the journal failed").with_source(source)
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn database(source: impl Into<Source>) -> Self {
        let message = "the database cannot be used";
        Self::new(ErrorKind::Journal, Outcome::Settled, message).with_source(source)
    }

    pub(crate) fn idempotency_other_content() -> Self {
        Self::new(
            ErrorKind::IdempotencyConflict,
            Outcome::NotDone,
            "the idempotency key belongs to an ask with another content",
        )
    }

    pub(crate) fn idempotency_other_identity() -> Self {
        Self::new(
            ErrorKind::IdempotencyConflict,
            Outcome::NotDone,
            "the idempotency key belongs to another client id, platform or subject",
        )
    }

    pub(crate) fn stored_reply_unreadable(id: &TaskId) -> Self {
        let message = "the journal holds a reply that this version cannot read";
        Self::new(ErrorKind::Journal, Outcome::Unknown, message).with_task_id(id)
    }

    pub(crate) fn keyed_task_not_known(id: &TaskId) -> Self {
        let message = "an ask was begun under this idempotency key, and the platform does not \
                       know its task: it may have been done";
        Self::new(ErrorKind::TaskNotFound, Outcome::Unknown, message).with_task_id(id)
    }

    pub(crate) fn keyed_outcome_unknown(id: &TaskId, cause: Option<Self>) -> Self {
        let message = "an ask was begun under this idempotency key, and its task could not be \
                       looked up: it may have been done";
        let kind = cause.as_ref().map_or(ErrorKind::Interrupted, Self::kind);
        let error = Self::new(kind, Outcome::Unknown, message).with_task_id(id);
        match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    pub(crate) fn keyed_ask_in_progress(id: &TaskId) -> Self {
        let message = "the deadline passed while the ask with this idempotency key was in progress";
        Self::new(ErrorKind::Timeout, Outcome::Unknown, message).with_task_id(id)
    }

    /// Builds the error of a caller that waited for another call's attempt, which was surely not
    /// done.
    pub(crate) fn keyed_attempt_not_done(id: &TaskId, why: Option<&str>) -> Self {
        let why = why.unwrap_or("it was released");
        let message = format!("the ask in progress under this idempotency key was not done: {why}");
        Self::new(ErrorKind::Journal, Outcome::NotDone, message).with_task_id(id)
    }
}

/// Errors of tokens. None of them stands for an ask that was sent.
impl Error {
    pub(crate) fn token_request(kind: ErrorKind, message: &'static str) -> Self {
        Self::new(kind, Outcome::NotDone, message)
    }

    /// The message begins with the action that the user has to take, because the program shows it.
    pub(crate) fn reauthorization_required(reason: &'static str) -> Self {
        let message = format!("the user has to connect again: {reason}");
        Self::new(ErrorKind::ReauthorizationRequired, Outcome::NotDone, message)
    }

    pub(crate) fn token_store(source: impl Into<Source>) -> Self {
        Self::new(ErrorKind::TokenStore, Outcome::NotDone, "the token store failed")
            .with_source(source)
    }

    pub(crate) fn no_consent_of_token_store(source: impl Into<Source>) -> Self {
        let message = "the token store failed, and a refresh token is spent only with its consent";
        Self::new(ErrorKind::TokenStore, Outcome::NotDone, message).with_source(source)
    }

    pub(crate) fn sign_out_failed(source: impl Into<Source>) -> Self {
        let message = "the user is not signed out: the token store failed";
        Self::new(ErrorKind::TokenStore, Outcome::NotDone, message).with_source(source)
    }

    /// Builds the error of a claim by another process, or by another client of this one, that has
    /// not ended.
    pub(crate) fn token_claim_held() -> Self {
        let message = "another holder of this sign-in is renewing its token, and has not finished";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }

    pub(crate) fn refresh_replies_lost() -> Self {
        let message = "the replies to the token's refresh were lost";
        Self::new(ErrorKind::Interrupted, Outcome::NotDone, message)
    }

    pub(crate) fn refreshed_tokens_refused() -> Self {
        let message = "the server refuses each token as soon as it was obtained";
        Self::new(ErrorKind::Auth, Outcome::NotDone, message)
    }

    pub(crate) fn refresh_ended_early() -> Self {
        let message = "the refresh of the token ended before it was done";
        Self::new(ErrorKind::Interrupted, Outcome::NotDone, message)
    }

    pub(crate) fn sign_in_ended_early(source: impl Into<Source>) -> Self {
        let message = "the exchange of the auth code ended before it was done";
        Self::new(ErrorKind::Interrupted, Outcome::NotDone, message).with_source(source)
    }

    pub(crate) fn no_runtime() -> Self {
        Self::invalid_input("there is no tokio runtime here, and the client needs one")
    }
}

/// Errors of the emulator.
#[cfg(feature = "emulator")]
impl Error {
    /// Builds the error of an address on which the emulator cannot listen.
    pub(crate) fn emulator_address(address: std::net::SocketAddr, source: std::io::Error) -> Self {
        let message = format!("could not listen on {address}");
        Self::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source)
    }
}

/// Shortens a server's text and replaces its unsafe characters, line ends included, by spaces.
fn on_one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let text: String =
        text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).take(LONGEST).collect();
    text.trim().to_owned()
}
