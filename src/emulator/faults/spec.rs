//! The JSON form of a fault.

use std::time::Duration;

use serde::Deserialize;

use super::{Fault, FaultTiming};

/// The fields of a fault's JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::emulator) struct FaultSpec {
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
