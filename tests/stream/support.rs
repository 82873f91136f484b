//! Scripted servers of event streams, and helpers that read them.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use payman_sdk::{AskStream, Client, Event, Result};
use serde_json::json;

use crate::common::events::text_event;
use crate::common::raw::{
    RawRequest, RawServer, Step, events_head, events_head_of, json_reply, not_found, serve,
};
use crate::common::{GET, STREAM, client_with, config, task};

pub fn client(server: &RawServer) -> Client {
    client_with(config(&server.url))
}

pub async fn stream(server: &RawServer) -> AskStream {
    client(server).ask_stream("hi").await.unwrap()
}

pub async fn collect(stream: AskStream) -> (Vec<Event>, Option<payman_sdk::Error>) {
    let results: Vec<Result<Event>> = stream.collect().await;
    let mut events = Vec::new();
    for (at, result) in results.iter().enumerate() {
        assert!(result.is_ok() || at + 1 == results.len(), "no item follows an error");
    }
    for result in results {
        match result {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

/// Starts a server whose streams are interrupted after "Hel", with `ending` as the last steps.
/// Two lookups return the running task; later ones return the completed task with `final_text`.
pub async fn interrupted_server(
    final_text: &'static str,
    resubscribe: bool,
    ending: fn() -> Vec<Step>,
) -> RawServer {
    let lookups = AtomicUsize::new(0);
    serve(move |request: RawRequest| {
        let id = request.task_id().to_owned();
        match request.path.as_str() {
            STREAM => {
                let mut steps = vec![
                    events_head_of(100_000),
                    Step::Send(text_event(&id, 0, "Hel", false).into_bytes()),
                ];
                steps.extend(ending());
                steps
            }
            GET => {
                let (state, text) = if lookups.fetch_add(1, Ordering::SeqCst) < 2 {
                    ("WORKING", "Hel")
                } else {
                    ("COMPLETED", final_text)
                };
                vec![json_reply(&json!({"result": task(&id, state, text)}))]
            }
            _ if resubscribe => {
                vec![
                    events_head(),
                    Step::Send(text_event(&id, 0, "never to be appended", true).into_bytes()),
                ]
            }
            _ => not_found(),
        }
    })
    .await
}
