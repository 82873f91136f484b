//! Tests the graceful shutdown of a service with open streams.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use futures::StreamExt;
use payman_sdk::Emulator;
use payman_sdk::web::{ServerEvents, Shutdown};
use serde_json::json;
use tokio::net::TcpListener;

use super::support::{body_text, client, early_events, events_in, post_text, working};
use crate::common::raw::{RawRequest, Step, events_head, serve};

/// A graceful shutdown stops accepting connections and waits for open responses.
#[tokio::test]
async fn open_streams_end_with_a_shutdown_event() {
    for stalls_at_once in [false, true] {
        let upstream = serve(move |request: RawRequest| match stalls_at_once {
            true => vec![Step::Stall],
            false => vec![events_head(), working(request.task_id()), Step::Stall],
        })
        .await;
        let shutdown = Shutdown::new();
        let (client, signal) = (client(&upstream.url), shutdown.clone());
        let handler = move |text: String| {
            let events = early_events(&client, text).until(signal.begun());
            async move { events }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let begun = shutdown.begun();
        let server = axum::serve(listener, Router::new().route("/early", post(handler)));
        let server = tokio::spawn(server.with_graceful_shutdown(begun).into_future());
        let mut response = post_text(&url, "/early", "Pay").await;
        response.chunk().await.unwrap().unwrap();
        shutdown.begin();
        let finished = tokio::time::timeout(Duration::from_secs(10), body_text(response));
        let events = events_in(&finished.await.expect("the stream ends"));
        let (name, data) = events.last().unwrap();
        assert_eq!((name.as_str(), &data["code"]), ("error", &json!("shutting-down")));
        assert_eq!(data["outcomeUnknown"], true);
        assert!(data["taskId"].as_str().unwrap().starts_with("tsk-"), "{data}");
        let finished = tokio::time::timeout(Duration::from_secs(10), server);
        finished.await.expect("the server ends").unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_complete_answer_is_not_replaced_by_a_shutdown_event() {
    let payman = Emulator::start().await.unwrap();
    let reply = payman.client().ask("List all payees").await.unwrap();
    let events = ServerEvents::from_future(async move { Ok::<_, payman_sdk::Error>(reply) });
    let mut events = events.until(async {});
    let names: Vec<_> = events.by_ref().map(|event| event.name()).collect().await;
    assert_eq!(names, ["task", "done"]);

    let failed = ServerEvents::from_future(payman.client().ask(" "));
    let events: Vec<_> = failed.until(async {}).collect().await;
    assert!(events[0].data().contains("invalid-input"), "{events:?}");
}
