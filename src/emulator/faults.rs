//! Faults: scripted failures of requests.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;

use super::connection::ConnectionHandle;
use super::error_format::ErrorFormat;
use super::settings::Operation;

/// A failure of the next request, or of the next few.
///
/// Faults wait in a queue. A request takes the first one that applies to its operation.
///
/// ```
/// use std::time::Duration;
/// use payman_sdk::emulator::{Fault, Operation};
///
/// let faults = [
///     Fault::status(503).on(Operation::Send).times(2).retry_after("1"),
///     Fault::close().on(Operation::Send).after_acting(), // paid, but the reply is lost
///     Fault::cut(100).on(Operation::SendSubscribe),      // the body is cut after 100 bytes
///     Fault::delay(Duration::from_millis(200)),          // any operation
/// ];
/// ```
///
/// A fault deserializes from the JSON that `POST /_emulator/faults` takes: see [the emulator's
/// docs](super#faults).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "FaultSpec")]
#[must_use = "a fault does nothing until it is given to an emulator"]
pub struct Fault {
    on: Option<Operation>,
    times: u32,
    skip: u32,
    timing: FaultTiming,
    delay: Duration,
    action: FaultAction,
}

/// The point of a request at which a fault is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FaultTiming {
    #[default]
    Before,
    After,
}

#[derive(Clone, Debug, PartialEq)]
enum FaultAction {
    /// No failure, only the delay.
    Delay,
    Status {
        status: StatusCode,
        retry_after: Option<String>,
        /// The text and its media type; the dialect's error body if `None`.
        body: Option<(String, String)>,
    },
    Close,
    Stall,
    TruncateBody {
        after: u64,
        end: BodyEnd,
    },
}

/// The end of a truncated body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BodyEnd {
    /// The connection breaks.
    Cut,
    /// Nothing more arrives.
    Stall,
    /// The body ends as if it were complete.
    Clean,
}

impl Fault {
    fn new(action: FaultAction) -> Self {
        Self {
            on: None,
            times: 1,
            skip: 0,
            timing: FaultTiming::Before,
            delay: Duration::ZERO,
            action,
        }
    }

    /// Answers with this HTTP status (500 if it is not a valid one) in place of the real response.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::status(503).on(Operation::Send).retry_after("1");
    /// ```
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(FaultAction::Status { status, retry_after: None, body: None })
    }

    /// Closes the connection without a response.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// use payman_sdk::Emulator;
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let payman = Emulator::start().await?;
    /// payman.fault(Fault::close().on(Operation::Send).after_acting());
    /// // The reply is lost, so the client looks the task up.
    /// let reply = payman.client().ask("List all payees").await?;
    /// assert_eq!(reply.text(), "You have no payees yet.");
    /// # Ok(())
    /// # }
    /// ```
    pub fn close() -> Self {
        Self::new(FaultAction::Close)
    }

    /// Sends no response, not even headers, and keeps the connection open.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::stall().on(Operation::Get);
    /// ```
    pub fn stall() -> Self {
        Self::new(FaultAction::Stall)
    }

    /// Cuts the response after so many bytes of its body: the HTTP message is incomplete.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::cut(100).on(Operation::SendSubscribe);
    /// ```
    pub fn cut(after_bytes: u64) -> Self {
        Self::new(FaultAction::TruncateBody { after: after_bytes, end: BodyEnd::Cut })
    }

    /// Stops sending after so many bytes of the body, and keeps the connection open.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::stall_after(0).on(Operation::SendSubscribe); // headers only
    /// ```
    pub fn stall_after(after_bytes: u64) -> Self {
        Self::new(FaultAction::TruncateBody { after: after_bytes, end: BodyEnd::Stall })
    }

    /// Ends the response cleanly after so many bytes of its body, as if it were complete.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::end_after(100).on(Operation::SendSubscribe);
    /// ```
    pub fn end_after(after_bytes: u64) -> Self {
        Self::new(FaultAction::TruncateBody { after: after_bytes, end: BodyEnd::Clean })
    }

    /// Only delays: the request, or with [`after_acting`](Self::after_acting) the response.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::delay(std::time::Duration::from_millis(200)).on(Operation::Token);
    /// ```
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::new(FaultAction::Delay) }
    }

    /// Limits the fault to one operation. Default: any.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::status(500).on(Operation::Cancel);
    /// ```
    pub fn on(mut self, operation: Operation) -> Self {
        self.on = Some(operation);
        self
    }

    /// Sets the number of requests that meet the fault. Default: 1.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::status(429).on(Operation::Send).times(3);
    /// ```
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Repeats the fault until the faults are cleared.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::status(503).on(Operation::Get).always();
    /// ```
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    /// Lets so many requests of the operation pass first. Default: 0.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::close().on(Operation::Send).skip(2); // the third one fails
    /// ```
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// Applies the fault after the operation: the payment is made, or the token is spent. Faults
    /// that truncate a body always do.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::status(406).on(Operation::Send).after_acting();
    /// ```
    pub fn after_acting(mut self) -> Self {
        self.timing = FaultTiming::After;
        self
    }

    /// Sets the `Retry-After` header of [`Fault::status`]: seconds, or a date.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::status(429).on(Operation::Send).retry_after("2");
    /// ```
    pub fn retry_after(mut self, value: impl Into<String>) -> Self {
        if let FaultAction::Status { retry_after, .. } = &mut self.action {
            *retry_after = Some(value.into());
        }
        self
    }

    /// Sets the body of [`Fault::status`], and its media type.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::status(400).on(Operation::Token).body("{}", "application/json");
    /// ```
    pub fn body(mut self, text: impl Into<String>, media_type: impl Into<String>) -> Self {
        if let FaultAction::Status { body, .. } = &mut self.action {
            *body = Some((text.into(), media_type.into()));
        }
        self
    }

    /// Adds a delay to another fault.
    ///
    /// ```
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let fault = Fault::close().on(Operation::Get).with_delay(std::time::Duration::from_secs(1));
    /// ```
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Returns whether the agent has to finish before the fault is applied.
    pub(super) fn waits_for_agent(&self) -> bool {
        self.timing == FaultTiming::After
    }

    /// Applies the part that precedes the operation. Returns the response if it replaces it.
    pub(super) async fn apply_before(
        &self,
        connection: &ConnectionHandle,
        error_format: ErrorFormat,
    ) -> Option<Response> {
        if self.timing == FaultTiming::After {
            return None;
        }
        tokio::time::sleep(self.delay).await;
        self.apply(connection, error_format).await
    }

    /// Applies the part that follows the operation to its response.
    pub(super) async fn apply_after(
        self,
        connection: &ConnectionHandle,
        error_format: ErrorFormat,
        response: Response,
    ) -> Response {
        if self.timing == FaultTiming::After {
            tokio::time::sleep(self.delay).await;
            if let Some(replacement) = self.apply(connection, error_format).await {
                return replacement;
            }
        }
        let FaultAction::TruncateBody { after, end } = self.action else {
            return response;
        };
        let (mut head, body) = response.into_parts();
        head.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(head, truncated(body, after, end))
    }

    async fn apply(
        &self,
        connection: &ConnectionHandle,
        error_format: ErrorFormat,
    ) -> Option<Response> {
        match &self.action {
            FaultAction::Delay | FaultAction::TruncateBody { .. } => None,
            FaultAction::Status { status, retry_after, body } => {
                let mut response = match body {
                    Some((text, _)) => (*status, text.clone()).into_response(),
                    None => {
                        let message = format!("The emulator was told to answer {status}");
                        error_format.response(*status, &message)
                    }
                };
                let headers = response.headers_mut();
                if let Some(Ok(value)) = body.as_ref().map(|(_, media_type)| media_type.parse()) {
                    headers.insert(header::CONTENT_TYPE, value);
                }
                if let Some(Ok(value)) = retry_after.as_ref().map(|value| value.parse()) {
                    headers.insert(header::RETRY_AFTER, value);
                }
                Some(response)
            }
            FaultAction::Close => {
                connection.close();
                std::future::pending().await
            }
            FaultAction::Stall => std::future::pending().await,
        }
    }
}

/// The wait before a cut: a failing body discards what is still in the connection's buffer.
const FLUSH_DELAY: Duration = Duration::from_millis(10);

fn truncated(body: Body, after: u64, end: BodyEnd) -> Body {
    Body::from_stream(async_stream::stream! {
        let mut chunks = body.into_data_stream();
        let mut left = usize::try_from(after).unwrap_or(usize::MAX);
        while left > 0 {
            let Some(Ok(mut chunk)) = chunks.next().await else { break };
            chunk.truncate(left);
            left -= chunk.len();
            yield Ok::<Bytes, std::io::Error>(chunk);
        }
        match end {
            BodyEnd::Cut => {
                tokio::time::sleep(FLUSH_DELAY).await;
                yield Err(std::io::Error::other("cut by the emulator"));
            }
            BodyEnd::Stall => std::future::pending().await,
            BodyEnd::Clean => {}
        }
    })
}

/// The queue of faults that have not been used up.
#[derive(Default)]
pub(super) struct FaultQueue(VecDeque<Fault>);

impl FaultQueue {
    pub(super) fn add(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.0.extend(faults.into_iter().filter(|fault| fault.times > 0));
    }

    /// Removes all faults, and returns how many there were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the first fault that applies to a request for this operation.
    pub(super) fn take(&mut self, operation: Operation) -> Option<Fault> {
        let index = self.0.iter_mut().position(|fault| {
            let applies = fault.on.is_none_or(|on| on == operation);
            let is_skipped = applies && fault.skip > 0;
            if is_skipped {
                fault.skip -= 1;
            }
            applies && !is_skipped
        })?;
        let fault = self.0.get_mut(index)?;
        if fault.times == u32::MAX {
            return Some(fault.clone());
        }
        fault.times -= 1;
        if fault.times > 0 { Some(fault.clone()) } else { self.0.remove(index) }
    }
}

/// The JSON form of a fault.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FaultSpec {
    on: Option<String>,
    times: Option<u32>,
    #[serde(default)]
    skip: u32,
    #[serde(default)]
    when: FaultTiming,
    delay_ms: Option<u64>,
    status: Option<u16>,
    retry_after: Option<serde_json::Value>,
    body: Option<serde_json::Value>,
    content_type: Option<String>,
    cut_after: Option<u64>,
    stall_after: Option<u64>,
    end_after: Option<u64>,
    #[serde(default)]
    close: bool,
    #[serde(default)]
    stall: bool,
}

impl TryFrom<FaultSpec> for Fault {
    type Error = String;

    fn try_from(spec: FaultSpec) -> Result<Self, String> {
        let mut kinds = Vec::new();
        kinds.extend(spec.status.map(Self::status));
        kinds.extend(spec.cut_after.map(Self::cut));
        kinds.extend(spec.stall_after.map(Self::stall_after));
        kinds.extend(spec.end_after.map(Self::end_after));
        kinds.extend(spec.close.then(Self::close));
        kinds.extend(spec.stall.then(Self::stall));
        if kinds.len() > 1 {
            return Err(
                "a fault is one of status, cutAfter, stallAfter, endAfter, close, stall".to_owned()
            );
        }
        if spec.status.is_some_and(|status| !(200..1000).contains(&status)) {
            return Err("status is an HTTP status from 200 on".to_owned());
        }
        let delay = spec.delay_ms.map(Duration::from_millis);
        let mut fault = match (kinds.pop(), delay) {
            (Some(fault), delay) => fault.with_delay(delay.unwrap_or_default()),
            (None, Some(delay)) => Self::delay(delay),
            (None, None) => {
                return Err("a fault needs one of status, cutAfter, stallAfter, endAfter, close, \
                            stall, delayMs"
                    .to_owned());
            }
        };
        if let Some(on) = spec.on.filter(|on| on != "any") {
            fault = fault.on(on.parse().map_err(|error: crate::Error| error.to_string())?);
        }
        if let Some(value) = spec.retry_after {
            fault = fault.retry_after(plain_text(value));
        }
        if let Some(body) = spec.body {
            let default = if body.is_string() { "text/plain" } else { "application/json" };
            let media_type = spec.content_type.unwrap_or_else(|| default.to_owned());
            fault = fault.body(plain_text(body), media_type);
        }
        fault.timing = spec.when;
        Ok(fault.times(spec.times.unwrap_or(1)).skip(spec.skip))
    }
}

/// Returns a string without its quotes, and any other value as JSON.
fn plain_text(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_the_first_fault_for_its_operation() {
        let mut faults = FaultQueue::default();
        faults.add([
            Fault::status(503).on(Operation::Send).times(2),
            Fault::close().on(Operation::Get).skip(1),
            Fault::stall().times(0),
            Fault::cut(5),
        ]);
        let mut take = |operation| faults.take(operation).map(|fault| fault.action);
        assert!(matches!(take(Operation::Send), Some(FaultAction::Status { .. })));
        assert!(matches!(take(Operation::Get), Some(FaultAction::TruncateBody { .. })));
        assert_eq!(take(Operation::Get), Some(FaultAction::Close));
        assert!(matches!(take(Operation::Send), Some(FaultAction::Status { .. })));
        assert_eq!(take(Operation::Send), None);
        assert_eq!(faults.len(), 0);
    }

    #[test]
    fn specs_are_validated() {
        let parse = |json: &str| -> Result<Fault, String> {
            serde_json::from_str::<FaultSpec>(json).map_err(|error| error.to_string())?.try_into()
        };
        assert_eq!(
            parse(r#"{"on":"send","close":true,"when":"after"}"#),
            Ok(Fault::close().on(Operation::Send).after_acting())
        );
        assert_eq!(
            parse(r#"{"status":429,"retryAfter":2,"times":3,"body":{"a":1}}"#),
            Ok(Fault::status(429).retry_after("2").times(3).body("{\"a\":1}", "application/json"))
        );
        for wrong in [
            r#"{}"#,
            r#"{"close":true,"stall":true}"#,
            r#"{"on":"nothing","close":true}"#,
            r#"{"cut":1}"#,
            r#"{"status":7}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
