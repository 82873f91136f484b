//! Properties of whole answers: an answer does not depend on how its bytes are cut into chunks, and
//! it is what its events say.

#![cfg(test)]

mod chunking {
    pub mod script;
}
mod common;

use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use chunking::script::{Item, Script, TASK, artifact, layout, script, text};
use common::property::check;
use common::raw::{RawRequest, RawServer, Step, serve};
use common::{client_with, config};
use futures::StreamExt;
use payman_sdk::{Ask, Client, Error, Event, Reply, RetryPolicy};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A content type, and the chunks of a body.
type Answer = (&'static str, Vec<Vec<u8>>);

/// A server whose answer is set before each ask.
struct Chunks {
    runtime: Runtime,
    client: Client,
    answer: Arc<Mutex<Answer>>,
    _server: RawServer,
}

impl Chunks {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let answer: Arc<Mutex<Answer>> = Arc::default();
        let next = Arc::clone(&answer);
        let server = runtime.block_on(serve(move |_: RawRequest| {
            let (content_type, chunks) = &*next.lock().unwrap();
            vec![Step::Send(http_chunks(content_type, chunks))]
        }));
        // Nothing is looked up: what is wrong with an answer is an error at once.
        let client = client_with(config(&server.url).retry(RetryPolicy::none()));
        Self { runtime, client, answer, _server: server }
    }

    fn set(&self, content_type: &'static str, chunks: Vec<Vec<u8>>) {
        *self.answer.lock().unwrap() = (content_type, chunks);
    }

    /// Reads a stream in these chunks, and returns its events or its error.
    fn stream(&self, chunks: Vec<Vec<u8>>) -> DecodedAnswer {
        self.set("text/event-stream", chunks);
        self.runtime.block_on(async {
            let ask = || Ask::new("hi").with_task_id(TASK);
            let mut seen = DecodedAnswer::default();
            let mut events = match self.client.ask_stream(ask()).await {
                Ok(events) => events,
                Err(error) => {
                    return DecodedAnswer { error: Some(ErrorSummary::of(&error)), ..seen };
                }
            };
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => seen.events.push(event),
                    Err(error) => seen.error = Some(ErrorSummary::of(&error)),
                }
            }
            seen.so_far = Some(without_request(events.reply_so_far()));
            match events.into_reply().await {
                Ok(reply) => seen.reply = Some(without_request(reply)),
                Err(_) => assert!(seen.error.is_some(), "an error that no event showed"),
            }
            let mut texts = self.client.ask_stream(ask()).await.unwrap().text();
            while let Some(text) = texts.next().await {
                match text {
                    Ok(text) => seen.texts.push(text),
                    Err(error) => seen.text_error = Some(ErrorSummary::of(&error)),
                }
            }
            let mut raw = self.client.ask_stream_raw(ask()).await.unwrap();
            while let Some(Ok(response)) = raw.next().await {
                seen.raw.push(response.as_str().to_owned());
            }
            seen
        })
    }

    /// Returns the reply whose JSON comes in these chunks.
    fn reply(&self, chunks: Vec<Vec<u8>>) -> Result<Reply, ErrorSummary> {
        self.set("application/json", chunks);
        let ask = Ask::new("hi").with_task_id(TASK);
        let reply = self.runtime.block_on(self.client.ask(ask));
        reply.map(without_request).map_err(|error| ErrorSummary::of(&error))
    }
}

/// The part of an answer that a reader sees.
#[derive(Debug, Default, PartialEq)]
struct DecodedAnswer {
    events: Vec<Event>,
    error: Option<ErrorSummary>,
    so_far: Option<Reply>,
    reply: Option<Reply>,
    texts: Vec<String>,
    text_error: Option<ErrorSummary>,
    raw: Vec<String>,
}

/// The public properties of an error.
#[derive(Clone, Debug, PartialEq)]
struct ErrorSummary {
    chain: String,
    outcome: (bool, bool),
    kind: payman_sdk::ErrorKind,
    code: Option<i64>,
}

impl ErrorSummary {
    fn of(error: &Error) -> Self {
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            write!(chain, ": {error}").unwrap();
            source = error.source();
        }
        let outcome = (error.is_outcome_unknown(), error.is_safe_to_ask_again());
        Self { chain, outcome, kind: error.kind(), code: error.rpc_code() }
    }
}

/// Returns a reply as its JSON, without the ids that each ask has of its own.
fn without_request(reply: Reply) -> Reply {
    let mut json = serde_json::to_value(&reply).unwrap();
    json["requestId"] = Value::Null;
    json["sessionId"] = Value::Null;
    serde_json::from_value(json).unwrap()
}

/// Returns a response with one HTTP chunk for each chunk, so that the client receives each by
/// itself, however TCP cuts them.
fn http_chunks(content_type: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n"
    )
    .into_bytes();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Cuts bytes at the given places, whatever they are.
fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    places.into_iter().map(|to| bytes[std::mem::replace(&mut from, to)..to].to_vec()).collect()
}

fn single_bytes(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 1..20)
}

#[test]
fn a_stream_does_not_depend_on_its_chunks() {
    let server = Chunks::start();
    check(250, (script(), cuts(), cuts()), |(script, first, second)| {
        let bytes = script.bytes();
        let whole = server.stream(vec![bytes.clone()]);
        for chunks in [cut(&bytes, &first), cut(&bytes, &second), single_bytes(&bytes)] {
            prop_assert_eq!(&server.stream(chunks), &whole);
        }
        Ok(())
    });
}

/// Any bytes may be missing, changed or too many: an answer is still read in one way only.
#[test]
fn a_damaged_stream_does_not_depend_on_its_chunks() {
    let server = Chunks::start();
    let damage =
        (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..3), 0..4usize);
    check(250, (script(), damage, cuts()), |(script, (at, more, less), cuts)| {
        let mut bytes = script.bytes();
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..bytes.len().min(at + less), more);
        let whole = server.stream(vec![bytes.clone()]);
        for chunks in [cut(&bytes, &cuts), single_bytes(&bytes)] {
            prop_assert_eq!(&server.stream(chunks), &whole, "{}", bytes.escape_ascii());
        }
        Ok(())
    });
}

#[test]
fn a_stream_is_what_its_events_say() {
    let server = Chunks::start();
    check(250, (script(), cuts()), |(script, cuts)| {
        let seen = server.stream(cut(&script.bytes(), &cuts));
        prop_assert_eq!(seen.reply.is_some(), script.ends_well(), "{:?}", seen.error);
        prop_assert_eq!(seen.error.is_some(), !script.ends_well());
        prop_assert_eq!(seen.events.len(), script.messages().len());
        prop_assert_eq!(seen.raw.len(), script.messages().len());
        let so_far = seen.so_far.unwrap();
        let texts: Vec<String> =
            so_far.artifacts().iter().map(|artifact| artifact.content()).collect();
        prop_assert_eq!(texts, script.artifact_texts(usize::MAX));
        if let Some(reply) = seen.reply {
            prop_assert_eq!(&reply, &so_far);
            // Text that was yielded and then replaced is an error, nothing else is.
            match seen.text_error {
                None => prop_assert_eq!(seen.texts.concat(), reply.text()),
                Some(error) => {
                    prop_assert!(error.chain.contains("rewritten"), "{:?}", error);
                    prop_assert!(!script.text_only_grows(), "{:?}", seen.texts);
                    prop_assert!(!reply.text().starts_with(&seen.texts.concat()));
                }
            }
        }
        Ok(())
    });
}

/// A stream that is cut anywhere before its last event never looks complete.
#[test]
fn a_stream_that_is_cut_is_never_a_reply() {
    let server = Chunks::start();
    let running = prop::collection::vec((artifact(), layout()), 1..5);
    let last = json!({"id": TASK, "status": {"state": "COMPLETED"}, "final": true});
    check(150, (running, layout(), any::<prop::sample::Index>()), |(running, layout, at)| {
        let items = running.into_iter().map(|(artifact, layout)| {
            (Item::Message(json!({"id": TASK, "artifact": artifact})), layout)
        });
        let script =
            Script { mark: false, items: items.collect(), last: Some((last.clone(), layout)) };
        let bytes = script.bytes();
        prop_assert!(server.stream(vec![bytes.clone()]).reply.is_some());
        // The event ends with its blank line, of which a CRLF need not be whole.
        let blank = bytes.len() - 1;
        let seen = server.stream(vec![bytes[..at.index(blank)].to_vec()]);
        prop_assert!(seen.reply.is_none());
        prop_assert!(seen.error.is_some_and(|error| error.outcome == (true, false)));
        prop_assert!(seen.text_error.is_some());
        Ok(())
    });
}

#[test]
fn a_reply_does_not_depend_on_its_chunks() {
    let server = Chunks::start();
    let artifacts = prop::collection::vec(artifact(), 0..3);
    let damage = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    let reply = (artifacts, text(), layout(), any::<bool>(), damage);
    check(250, (reply, cuts()), |((artifacts, message, layout, mark, damage), cuts)| {
        let status = json!({"state": "COMPLETED", "message": message});
        let task = json!({"id": TASK, "status": status, "artifacts": artifacts});
        let mark = if mark { "\u{feff}" } else { "" };
        let mut bytes = format!("{mark}{}", layout.json(&task)).into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = server.reply(vec![bytes.clone()]);
        if damage.is_none() {
            prop_assert!(whole.is_ok(), "{:?}", whole);
        }
        prop_assert_eq!(&server.reply(cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&server.reply(single_bytes(&bytes)), &whole);
        Ok(())
    });
}
