//! Faults: scripted failures of requests.

mod apply;
mod queue;
mod spec;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;

use super::settings::Operation;

pub(super) use queue::FaultQueue;
pub(super) use spec::FaultSpec;

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
/// docs](crate::emulator#faults).
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

    /// Delays the request, or with [`after_acting`](Self::after_acting) the response, and does
    /// nothing else.
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
}
