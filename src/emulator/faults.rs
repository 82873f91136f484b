//! Faults by script: what goes wrong, with which requests, how often.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;

use super::line::Line;
use super::settings::Operation;

/// Something that goes wrong with the next request, or with the next few.
///
/// Faults wait in a queue. A request takes the first one that is meant for its operation.
///
/// ```
/// use std::time::Duration;
/// use payman_sdk::emulator::{Fault, Operation};
///
/// let faults = [
///     Fault::status(503).on(Operation::Send).times(2).retry_after("1"),
///     Fault::close().on(Operation::Send).after_acting(),      // paid, and nobody hears of it
///     Fault::cut(100).on(Operation::SendSubscribe),           // the reply breaks off after 100 bytes
///     Fault::delay(Duration::from_millis(200)),               // any operation
/// ];
/// ```
///
/// Read with serde from the JSON that `POST /_emulator/faults` takes: see [the emulator's docs](super).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Script")]
#[must_use = "a fault does nothing until it is given to an emulator"]
pub struct Fault {
    on: Option<Operation>,
    times: u32,
    skip: u32,
    acted: bool,
    delay: Duration,
    action: Action,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    /// Only the delay.
    Nothing,
    Status {
        status: StatusCode,
        retry_after: Option<String>,
        body: String,
        content_type: String,
    },
    Close,
    Stall,
    Body {
        after: u64,
        end: BodyEnd,
    },
}

/// What a reply's body does where it ends too early.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BodyEnd {
    Cut,
    Stall,
    Clean,
}

impl Fault {
    fn new(action: Action) -> Self {
        Self { on: None, times: 1, skip: 0, acted: false, delay: Duration::ZERO, action }
    }

    /// Answers with this HTTP status (500 where it is none), in place of the real answer.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = format!("The emulator was told to answer {status}");
        Self::new(Action::Status {
            status,
            retry_after: None,
            body,
            content_type: "text/plain".to_owned(),
        })
    }

    /// Closes the connection without an answer.
    pub fn close() -> Self {
        Self::new(Action::Close)
    }

    /// Never answers, not even with headers, and keeps the connection open.
    pub fn stall() -> Self {
        Self::new(Action::Stall)
    }

    /// Breaks the reply off after so many bytes of its body: the HTTP message has no proper end.
    pub fn cut(after_bytes: u64) -> Self {
        Self::new(Action::Body { after: after_bytes, end: BodyEnd::Cut })
    }

    /// Falls silent after so many bytes of the reply's body, and keeps the connection open.
    pub fn stall_after(after_bytes: u64) -> Self {
        Self::new(Action::Body { after: after_bytes, end: BodyEnd::Stall })
    }

    /// Ends the reply after so many bytes of its body, cleanly, as if that were all of it.
    pub fn end_after(after_bytes: u64) -> Self {
        Self::new(Action::Body { after: after_bytes, end: BodyEnd::Clean })
    }

    /// Only makes the request wait: on its way there, or with [`after_acting`](Self::after_acting) on its way back.
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::new(Action::Nothing) }
    }

    /// Only for this operation. Without it: whatever comes next.
    pub fn on(mut self, operation: Operation) -> Self {
        self.on = Some(operation);
        self
    }

    /// How often; once unless set.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Every time, until a reset.
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    /// Lets so many requests pass first.
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// Only after the agent acted (the payment is made, the token is spent), not before. Breaking a body
    /// off is always after.
    pub fn after_acting(mut self) -> Self {
        self.acted = true;
        self
    }

    /// A `Retry-After` header for [`Fault::status`]: seconds, or a date.
    pub fn retry_after(mut self, value: impl Into<String>) -> Self {
        if let Action::Status { retry_after, .. } = &mut self.action {
            *retry_after = Some(value.into());
        }
        self
    }

    /// The body of [`Fault::status`].
    pub fn body(mut self, text: impl Into<String>, media_type: impl Into<String>) -> Self {
        if let Action::Status { body, content_type, .. } = &mut self.action {
            *body = text.into();
            *content_type = media_type.into();
        }
        self
    }

    /// Also waits for so long.
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// True where the agent has to be done before the answer may go wrong.
    pub(super) fn waits_for_agent(&self) -> bool {
        self.acted
    }

    /// Plays the part that comes before the request is looked at; the answer, where that is all there will be.
    pub(super) async fn play_before(&self, line: &Line) -> Option<Response> {
        if self.acted {
            return None;
        }
        tokio::time::sleep(self.delay).await;
        self.play(line).await
    }

    /// Plays the part that comes after, on the real answer.
    pub(super) async fn play_after(self, line: &Line, answer: Response) -> Response {
        if self.acted {
            tokio::time::sleep(self.delay).await;
            if let Some(other) = self.play(line).await {
                return other;
            }
        }
        let Action::Body { after, end } = self.action else {
            return answer;
        };
        let (mut head, body) = answer.into_parts();
        head.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(head, shortened(body, after, end))
    }

    async fn play(&self, line: &Line) -> Option<Response> {
        match &self.action {
            Action::Nothing | Action::Body { .. } => None,
            Action::Status { status, retry_after, body, content_type } => {
                let mut answer = (*status, body.clone()).into_response();
                let headers = answer.headers_mut();
                if let Ok(value) = content_type.parse() {
                    headers.insert(header::CONTENT_TYPE, value);
                }
                if let Some(Ok(value)) = retry_after.as_ref().map(|value| value.parse()) {
                    headers.insert(header::RETRY_AFTER, value);
                }
                Some(answer)
            }
            Action::Close => {
                line.close();
                std::future::pending().await
            }
            Action::Stall => std::future::pending().await,
        }
    }
}

/// How long a cut waits for what was sent to leave: what is still in a buffer when a body fails is lost with it.
const FLUSH: Duration = Duration::from_millis(10);

fn shortened(body: Body, after: u64, end: BodyEnd) -> Body {
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
                tokio::time::sleep(FLUSH).await;
                yield Err(std::io::Error::other("cut by the emulator"));
            }
            BodyEnd::Stall => std::future::pending().await,
            BodyEnd::Clean => {}
        }
    })
}

/// The faults that wait for their requests.
#[derive(Default)]
pub(super) struct Faults(VecDeque<Fault>);

impl Faults {
    pub(super) fn add(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.0.extend(faults.into_iter().filter(|fault| fault.times > 0));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What goes wrong with a request for this operation.
    pub(super) fn take(&mut self, operation: Operation) -> Option<Fault> {
        let place = self.0.iter_mut().position(|fault| {
            let meant = fault.on.is_none_or(|on| on == operation);
            let passes = meant && fault.skip > 0;
            if passes {
                fault.skip -= 1;
            }
            meant && !passes
        })?;
        let fault = self.0.get_mut(place)?;
        if fault.times == u32::MAX {
            return Some(fault.clone());
        }
        fault.times -= 1;
        if fault.times > 0 { Some(fault.clone()) } else { self.0.remove(place) }
    }
}

/// A fault as `POST /_emulator/faults` reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Script {
    on: Option<String>,
    times: Option<u32>,
    #[serde(default)]
    skip: u32,
    #[serde(default)]
    when: When,
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

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum When {
    #[default]
    Before,
    After,
}

impl TryFrom<Script> for Fault {
    type Error = String;

    fn try_from(script: Script) -> Result<Self, String> {
        let mut kinds = Vec::new();
        kinds.extend(script.status.map(Self::status));
        kinds.extend(script.cut_after.map(Self::cut));
        kinds.extend(script.stall_after.map(Self::stall_after));
        kinds.extend(script.end_after.map(Self::end_after));
        kinds.extend(script.close.then(Self::close));
        kinds.extend(script.stall.then(Self::stall));
        if kinds.len() > 1 {
            return Err(
                "a fault is one of status, cutAfter, stallAfter, endAfter, close, stall".to_owned()
            );
        }
        if script.status.is_some_and(|status| !(200..1000).contains(&status)) {
            return Err("status is an HTTP status from 200 on".to_owned());
        }
        let delay = script.delay_ms.map(Duration::from_millis);
        let mut fault = match (kinds.pop(), delay) {
            (Some(fault), delay) => fault.with_delay(delay.unwrap_or_default()),
            (None, Some(delay)) => Self::delay(delay),
            (None, None) => {
                return Err(
                    "a fault needs one of status, cutAfter, stallAfter, endAfter, close, stall, delayMs".to_owned()
                );
            }
        };
        if let Some(on) = script.on.filter(|on| on != "any") {
            fault = fault.on(on.parse().map_err(|error: crate::Error| error.to_string())?);
        }
        if let Some(value) = script.retry_after {
            fault = fault.retry_after(plain(value));
        }
        if let Some(body) = script.body {
            let json = !body.is_string();
            let media_type = script.content_type.unwrap_or_else(|| media_type(json).to_owned());
            fault = fault.body(plain(body), media_type);
        }
        if matches!(script.when, When::After) {
            fault = fault.after_acting();
        }
        Ok(fault.times(script.times.unwrap_or(1)).skip(script.skip))
    }
}

fn media_type(json: bool) -> &'static str {
    if json { "application/json" } else { "text/plain" }
}

fn plain(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_the_first_fault_that_is_meant_for_it() {
        let mut faults = Faults::default();
        faults.add([
            Fault::status(503).on(Operation::Send).times(2),
            Fault::close().on(Operation::Get).skip(1),
            Fault::stall().times(0),
            Fault::cut(5),
        ]);
        let mut take = |operation| faults.take(operation).map(|fault| fault.action);
        assert!(matches!(take(Operation::Send), Some(Action::Status { .. })));
        assert!(matches!(take(Operation::Get), Some(Action::Body { .. })));
        assert_eq!(take(Operation::Get), Some(Action::Close));
        assert!(matches!(take(Operation::Send), Some(Action::Status { .. })));
        assert_eq!(take(Operation::Send), None);
        assert_eq!(faults.len(), 0);
    }

    #[test]
    fn scripts_are_checked() {
        let read = |json: &str| -> Result<Fault, String> {
            serde_json::from_str::<Script>(json).map_err(|error| error.to_string())?.try_into()
        };
        assert_eq!(
            read(r#"{"on":"send","close":true,"when":"after"}"#),
            Ok(Fault::close().on(Operation::Send).after_acting())
        );
        assert_eq!(
            read(r#"{"status":429,"retryAfter":2,"times":3,"body":{"a":1}}"#),
            Ok(Fault::status(429).retry_after("2").times(3).body("{\"a\":1}", "application/json"))
        );
        for wrong in [
            r#"{}"#,
            r#"{"close":true,"stall":true}"#,
            r#"{"on":"sned","close":true}"#,
            r#"{"cut":1}"#,
            r#"{"status":7}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
