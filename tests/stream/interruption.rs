//! Tests streams that fail, are interrupted, time out or are dropped.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use payman_sdk::{Ask, Event, TaskState};
use serde_json::json;

use super::support::{client, collect, interrupted_server, stream};
use crate::common::events::{event, status_event, text_event};
use crate::common::raw::{
    RawRequest, Step, events_head, json_reply, not_found, serve, stream_server,
};
use crate::common::{GET, STREAM, task};

#[tokio::test]
async fn a_stream_without_a_final_event_is_interrupted() {
    let cuts: [fn(&str) -> String; 6] = [
        |_| String::new(),
        |id| status_event(id, "WORKING", false),
        |id| text_event(id, 0, "hi", false),
        |id| status_event(id, "COMPLETED", true).trim_end().to_owned(),
        |id| status_event(id, "COMPLETED", true).chars().take(40).collect(),
        |id| status_event(id, "BRAND_NEW", false),
    ];
    for (number, cut) in cuts.into_iter().enumerate() {
        let server = stream_server(cut).await;
        let (_, error) = collect(stream(&server).await).await;
        let error = error.unwrap_or_else(|| panic!("case {number} counts as complete"));
        assert!(
            error.is_interrupted() && error.is_outcome_unknown() && error.task_id().is_some(),
            "case {number}: {error:?}"
        );
        assert!(stream(&server).await.into_reply().await.is_err(), "case {number}");
        let pieces: Vec<_> = stream(&server).await.text().collect().await;
        assert!(pieces.last().unwrap().is_err(), "case {number}");
    }
}

#[tokio::test]
async fn an_error_before_the_first_event_is_returned_by_the_future() {
    let answers: [(&'static [u8], Option<u16>, Option<i64>); 4] = [
        (
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
            Some(400),
            None,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\n\
            connection: close\r\n\r\n{\"error\":{\"code\":-32602,\"message\":\"bad\"}}",
            None,
            Some(-32602),
        ),
        (
            b"HTTP/1.1 500 Oops\r\nconnection: close\r\n\r\n\
            {\"error\":{\"code\":-32603,\"message\":\"bad\"}}",
            Some(500),
            Some(-32603),
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>",
            None,
            None,
        ),
    ];
    for (bytes, http, rpc) in answers {
        let server = serve(move |request| match request.path.as_str() {
            STREAM => vec![Step::Send(bytes.to_vec())],
            _ => not_found(),
        })
        .await;
        let error = client(&server).ask_stream("hi").await.unwrap_err();
        assert_eq!((error.status(), error.rpc_code()), (http, rpc));
    }
}

#[tokio::test]
async fn an_error_in_a_running_stream_leads_to_a_lookup() {
    let server = serve(|request: RawRequest| {
        let id = request.task_id().to_owned();
        match request.path.as_str() {
            STREAM => vec![
                events_head(),
                Step::Send(
                    (status_event(&id, "WORKING", false)
                        + &event(&json!({"error": {"code": -32602, "message": "boom"}})))
                        .into_bytes(),
                ),
            ],
            GET => vec![json_reply(&json!({"result": task(&id, "FAILED", "boom")}))],
            _ => not_found(),
        }
    })
    .await;
    let reply = stream(&server).await.into_reply().await.unwrap();
    assert_eq!((reply.state(), reply.text().as_str()), (&TaskState::Failed, "boom"));

    let refused =
        stream_server(|_| event(&json!({"error": {"code": -32602, "message": "boom"}}))).await;
    let error = stream(&refused).await.into_reply().await.unwrap_err();
    assert!(error.is_safe_to_ask_again() && error.rpc_code() == Some(-32602));
}

#[tokio::test]
async fn after_an_interruption_only_complete_snapshots_are_yielded() {
    for resubscribe in [false, true] {
        let server = interrupted_server("Hello", resubscribe, Vec::new).await;
        let (events, error) = collect(stream(&server).await).await;
        assert!(error.is_none(), "{error:?}");
        assert!(matches!(&events[0], Event::Artifact(update) if update.text() == "Hel"));
        assert!(events[1..].iter().all(|event| matches!(event, Event::Task(_))), "{events:?}");
        assert!(matches!(events.last(),
                Some(Event::Task(task)) if task.text() == "Hello" && task.state().is_terminal()));
        assert_eq!(events.len(), 3, "the unchanged snapshot is not delivered twice");
    }
}

#[tokio::test]
async fn a_stream_in_a_new_session_has_its_session_id() {
    let server = interrupted_server("Hello", false, Vec::new).await;
    let client = client(&server);
    let events = client.ask_stream(Ask::new("hi").session("ses-new")).await.unwrap();
    assert_eq!(events.session_id(), "ses-new");
    let (request, so_far) = (events.request_id(), events.reply_so_far());
    assert_eq!(
        (so_far.request_id(), so_far.session_id().unwrap().as_str()),
        (Some(&request), "ses-new")
    );
    let reply = events.into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.request_id()), ("Hello", Some(&request)));
}

#[tokio::test]
async fn an_idle_stream_is_looked_up() {
    let server = interrupted_server("Hello", false, || vec![Step::Stall]).await;
    let client = client(&server);
    let reply = client
        .ask_stream(Ask::new("hi").idle_timeout(Duration::from_millis(100)))
        .await
        .unwrap()
        .into_reply()
        .await;
    assert_eq!(reply.unwrap().text(), "Hello");
    assert_eq!(server.disconnects.load(Ordering::SeqCst), 1, "the connection was closed");
}

#[tokio::test]
async fn a_streams_deadline_is_a_timeout_with_an_unknown_outcome() {
    let server = interrupted_server("Hello", false, || vec![Step::Stall]).await;
    let mut events = client(&server)
        .ask_stream(Ask::new("hi").deadline(Duration::from_millis(300)))
        .await
        .unwrap();
    assert!(events.next().await.unwrap().is_ok());
    let error = events.next().await.unwrap().unwrap_err();
    assert!(error.is_timeout() && error.is_outcome_unknown());
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection_and_sends_nothing() {
    let server = interrupted_server("Hello", false, || vec![Step::Stall]).await;
    let mut events = stream(&server).await;
    assert!(events.next().await.unwrap().is_ok());
    drop(events);
    while server.disconnects.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}
