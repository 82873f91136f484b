//! `ask_stream`: typed events, how a stream ends, and what happens when it is cut.

#![cfg(test)]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::raw::{
    Asked, RawServer, Step, events_head, events_head_of, json_reply, not_found, serve,
};
use common::{GET, STREAM, client_with, config, task};
use futures::StreamExt;
use payman_sdk::{Ask, AskStream, Client, ErrorKind, Event, Result, TaskState};
use serde_json::{Value, json};

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn wrapped(result: Value) -> String {
    event(&json!({"jsonrpc": "2.0", "id": "r", "result": result}))
}

fn status(id: &str, state: &str, last: bool) -> String {
    wrapped(json!({"id": id, "status": {"state": state}, "final": last}))
}

fn text_event(id: &str, index: i64, text: &str, append: bool) -> String {
    wrapped(
        json!({"id": id, "artifact": {"parts": [{"type": "text", "text": text}], "index": index,
            "append": append}}),
    )
}

/// A stream of these bytes, a clean end of the connection, and no lookups.
async fn plain(bytes: impl Fn(&str) -> String + Send + Sync + 'static) -> RawServer {
    serve(move |asked: Asked| match asked.path.as_str() {
        STREAM => vec![events_head(), Step::Say(bytes(asked.task_id()).into_bytes())],
        _ => not_found(),
    })
    .await
}

fn client(server: &RawServer) -> Client {
    client_with(config(&server.url))
}

async fn stream(server: &RawServer) -> AskStream {
    client(server).ask_stream("hi").await.unwrap()
}

async fn all(stream: AskStream) -> (Vec<Event>, Option<payman_sdk::Error>) {
    let results: Vec<Result<Event>> = stream.collect().await;
    let mut events = Vec::new();
    for (at, result) in results.iter().enumerate() {
        assert!(result.is_ok() || at + 1 == results.len(), "nothing comes after an error");
    }
    for result in results {
        match result {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

#[tokio::test]
async fn events_are_typed_and_put_together_are_the_reply() {
    let server = plain(|id| {
        [
            status(id, "WORKING", false),
            text_event(id, 0, "Hel", false),
            text_event(id, 0, "lo", true),
            wrapped(json!({"novelty": 1})),
            status(id, "COMPLETED", true),
        ]
        .concat()
    })
    .await;
    let mut events = stream(&server).await;
    assert!(matches!(events.next().await,
            Some(Ok(Event::Status(update))) if *update.state() == TaskState::Working));
    assert!(
        matches!(events.next().await, Some(Ok(Event::Artifact(update))) if update.text() == "Hel")
    );
    assert_eq!(events.reply_so_far().text(), "Hel");
    assert!(
        matches!(events.next().await, Some(Ok(Event::Artifact(update))) if update.artifact.append)
    );
    assert!(matches!(events.next().await,
            Some(Ok(Event::Unknown(value)))
                if value["result"]["novelty"] == 1 || value["novelty"] == 1));
    assert!(matches!(events.next().await, Some(Ok(Event::Status(update))) if update.is_final));
    assert!(events.next().await.is_none());
    assert!(events.next().await.is_none());
    let (task_id, session) = (events.task_id().clone(), events.session_id().clone());
    let reply = events.into_reply().await.unwrap();
    assert_eq!(
        (reply.text().as_str(), reply.task_id(), reply.session_id()),
        ("Hello", &task_id, Some(&session))
    );
}

#[tokio::test]
async fn every_spelling_of_an_end_is_an_end() {
    let ends: [fn(&str) -> String; 8] = [
        |id| status(id, "COMPLETED", true),
        |id| status(id, "completed", false),
        |id| status(id, "failed", false),
        |id| status(id, "INPUT_REQUIRED", false),
        |id| wrapped(json!({"id": id, "status": {"state": "COMPLETED"}, "isFinal": true})),
        |id| {
            wrapped(json!({"id": id, "status": {"state": "COMPLETED"}, "is_final": true,
                    "final": null}))
        },
        |id| event(&json!({"id": id, "status": {"state": "COMPLETED"}, "final": true})),
        |id| {
            wrapped(json!({"id": id, "status": {"state": "COMPLETED"}, "artifacts": [],
                    "history": null}))
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let server = plain(move |id| text_event(id, 0, "hi", false) + &end(id)).await;
        let (events, error) = all(stream(&server).await).await;
        assert!(error.is_none(), "case {number}: {error:?}");
        assert_eq!(events.len(), 2, "case {number}");
    }
}

#[tokio::test]
async fn what_comes_after_the_final_event_is_not_delivered() {
    let server =
        plain(|id| status(id, "COMPLETED", true) + &text_event(id, 0, "late", false)).await;
    let (events, error) = all(stream(&server).await).await;
    assert_eq!((events.len(), error.is_none()), (1, true));
}

#[tokio::test]
async fn a_stream_without_an_end_was_cut_however_cleanly_it_closed() {
    let cuts: [fn(&str) -> String; 6] = [
        |_| String::new(),
        |id| status(id, "WORKING", false),
        |id| text_event(id, 0, "hi", false),
        |id| status(id, "COMPLETED", true).trim_end().to_owned(),
        |id| status(id, "COMPLETED", true).chars().take(40).collect(),
        |id| status(id, "BRAND_NEW", false),
    ];
    for (number, cut) in cuts.into_iter().enumerate() {
        let server = plain(cut).await;
        let (_, error) = all(stream(&server).await).await;
        let error = error.unwrap_or_else(|| panic!("case {number} looks whole"));
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
async fn garbled_events_are_typed_errors() {
    let odd = [
        "data: {\n\n".to_owned(),
        "data: nonsense\n\n".to_owned(),
        "data: {\"jsonrpc\":\"2.0\",\"id\":1}\n\n".to_owned(),
        "data: {\"result\":null,\"error\":null}\n\n".to_owned(),
        "data: {\"result\":{\"artifact\":{\"parts\":\"odd\"}}}\n\n".to_owned(),
    ];
    for bytes in odd {
        let text = bytes.clone();
        let server = plain(move |id| {
            text_event(id, 0, "hi", false) + &text + &status(id, "COMPLETED", true)
        })
        .await;
        let (events, error) = all(stream(&server).await).await;
        assert_eq!(events.len(), 1, "{bytes}");
        assert_eq!(error.unwrap().kind(), ErrorKind::Protocol, "{bytes}");
    }
}

#[tokio::test]
async fn another_tasks_events_are_not_this_streams() {
    let server = plain(|id| {
        text_event("tsk-other", 0, "not mine", false)
            + &status("tsk-other", "COMPLETED", true)
            + &text_event(id, 0, "mine", false)
            + &status(id, "COMPLETED", true)
    })
    .await;
    assert_eq!(stream(&server).await.into_reply().await.unwrap().text(), "mine");
}

#[tokio::test]
async fn an_artifact_is_replaced_or_appended_to_by_its_index() {
    let server = plain(|id| {
        [
            text_event(id, 0, "draft", false),
            text_event(id, 7, "B1", true),
            text_event(id, 0, "A1", false),
            wrapped(json!({"id": id, "artifact": {"parts": [{"text": "A2"}, {"data": {"n": 1}},
                {"text": "A3"}], "append": true, "last_chunk": true}})),
            text_event(id, 7, "B2", true),
            status(id, "COMPLETED", true),
        ]
        .concat()
    })
    .await;
    let reply = stream(&server).await.into_reply().await.unwrap();
    assert_eq!(reply.artifacts().len(), 2);
    assert_eq!(reply.artifacts()[0].content(), "A1A2\nA3");
    assert_eq!(reply.artifacts()[1].content(), "B1B2");
    assert_eq!(reply.text(), "A1A2\nA3\nB1B2");
}

#[tokio::test]
async fn streamed_chunks_put_together_are_the_text_of_the_reply() {
    let streams: [fn(&str) -> String; 5] = [
        |id| {
            text_event(id, 0, "Hel", false)
                + &text_event(id, 0, "lo ", true)
                + &text_event(id, 0, "you", true)
        },
        |id| {
            text_event(id, 0, "a", false)
                + &text_event(id, 1, "X", false)
                + &text_event(id, 0, "b", true)
                + &text_event(id, 1, "Y", true)
        },
        |id| {
            wrapped(json!({"id": id, "artifact": {"parts": [{"text": "one"}, {"text": "two"}],
                    "lastChunk": true}}))
                + &text_event(id, 1, "three", false)
        },
        |id| {
            wrapped(json!({"id": id, "artifact": {"parts": [{"data": [1]}]}}))
                + &text_event(id, 1, "w", false)
                + &text_event(id, 1, "x", true)
        },
        |id| text_event(id, 0, "same", false) + &text_event(id, 0, "same and more", false),
    ];
    for (number, bytes) in streams.into_iter().enumerate() {
        let server = plain(move |id| bytes(id) + &status(id, "COMPLETED", true)).await;
        let pieces: Vec<String> =
            stream(&server).await.text().map(|text| text.unwrap()).collect().await;
        let reply = stream(&server).await.into_reply().await.unwrap();
        assert_eq!(pieces.concat(), reply.text(), "case {number}");
        assert!(pieces.len() > 1, "case {number}: {pieces:?}");
    }
}

#[tokio::test]
async fn text_that_was_given_and_then_rewritten_is_an_error() {
    let server = plain(|id| {
        text_event(id, 0, "yes", false)
            + &text_event(id, 0, "no", false)
            + &status(id, "COMPLETED", true)
    })
    .await;
    let pieces: Vec<_> = stream(&server).await.text().collect().await;
    assert_eq!(pieces[0].as_ref().unwrap(), "yes");
    assert_eq!(pieces.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn without_artifacts_the_text_is_the_status_message() {
    let server = plain(|id| {
        status(id, "WORKING", false)
            + &wrapped(json!({"id": id, "status": {"state": "input-required",
                "message": {"role": "agent", "parts": [{"type": "text", "text": "which one?"}]}},
                "final": true}))
    })
    .await;
    let pieces: Vec<String> =
        stream(&server).await.text().map(|text| text.unwrap()).collect().await;
    assert_eq!(pieces, ["which one?"]);
    let mut text = stream(&server).await.text();
    while let Some(piece) = text.next().await {
        piece.unwrap();
    }
    assert_eq!(text.reply_so_far().state(), &TaskState::InputRequired, "how it ended is known");
    assert!(text.next().await.is_none());
}

#[tokio::test]
async fn raw_events_are_the_servers_own_bytes() {
    let server = plain(|id| {
        format!(
            "event: x\nid: 1\ndata: {{\"result\": {{\"id\":\"{id}\", \"n\": 1.10,\
             \"status\":{{\"state\":\"working\"}}}} }}\n\n"
        ) + &status(id, "COMPLETED", true)
    })
    .await;
    let events: Vec<_> = client(&server).ask_stream_raw("hi").await.unwrap().collect().await;
    assert_eq!(events.len(), 2);
    let first = events[0].as_ref().unwrap();
    assert!(first.json().get().starts_with("{\"result\": {\"id\":\""));
    assert!(first.result().unwrap().get().contains("\"n\": 1.10"));
}

#[tokio::test]
async fn an_error_at_set_up_is_the_err_of_the_future() {
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
        let server = serve(move |asked| match asked.path.as_str() {
            STREAM => vec![Step::Say(bytes.to_vec())],
            _ => not_found(),
        })
        .await;
        let error = client(&server).ask_stream("hi").await.unwrap_err();
        assert_eq!((error.status(), error.rpc_code()), (http, rpc));
    }
}

#[tokio::test]
async fn an_error_in_a_running_stream_leads_to_a_lookup() {
    let server = serve(|asked: Asked| {
        let id = asked.task_id().to_owned();
        match asked.path.as_str() {
            STREAM => vec![
                events_head(),
                Step::Say(
                    (status(&id, "WORKING", false)
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

    let refused = plain(|_| event(&json!({"error": {"code": -32602, "message": "boom"}}))).await;
    let error = stream(&refused).await.into_reply().await.unwrap_err();
    assert!(error.is_safe_to_ask_again() && error.rpc_code() == Some(-32602));
}

/// A stream that is cut after "Hel"; the task then works once more before it has ended.
async fn cut_then_found(
    whole: &'static str,
    resubscribe: bool,
    ending: fn() -> Vec<Step>,
) -> RawServer {
    let lookups = std::sync::atomic::AtomicUsize::new(0);
    serve(move |asked: Asked| {
        let id = asked.task_id().to_owned();
        match asked.path.as_str() {
            STREAM => {
                let mut steps = vec![
                    events_head_of(100_000),
                    Step::Say(text_event(&id, 0, "Hel", false).into_bytes()),
                ];
                steps.extend(ending());
                steps
            }
            GET => {
                let (state, text) = if lookups.fetch_add(1, Ordering::SeqCst) < 2 {
                    ("WORKING", "Hel")
                } else {
                    ("COMPLETED", whole)
                };
                vec![json_reply(&json!({"result": task(&id, state, text)}))]
            }
            _ if resubscribe => {
                vec![
                    events_head(),
                    Step::Say(text_event(&id, 0, "never to be appended", true).into_bytes()),
                ]
            }
            _ => not_found(),
        }
    })
    .await
}

#[tokio::test]
async fn after_a_cut_come_only_whole_snapshots_up_to_the_last() {
    for resubscribe in [false, true] {
        let server = cut_then_found("Hello", resubscribe, Vec::new).await;
        let (events, error) = all(stream(&server).await).await;
        assert!(error.is_none(), "{error:?}");
        assert!(matches!(&events[0], Event::Artifact(update) if update.text() == "Hel"));
        assert!(events[1..].iter().all(|event| matches!(event, Event::Task(_))), "{events:?}");
        assert!(matches!(events.last(),
                Some(Event::Task(task)) if task.text() == "Hello" && task.state().is_terminal()));
        assert_eq!(events.len(), 3, "the unchanged snapshot is not delivered twice");
    }
}

#[tokio::test]
async fn after_a_cut_the_text_goes_on_only_where_it_fits() {
    let server = cut_then_found("Hello", false, Vec::new).await;
    let pieces: Vec<String> =
        stream(&server).await.text().map(|text| text.unwrap()).collect().await;
    assert_eq!(pieces, ["Hel", "lo"]);
    let server = cut_then_found("Goodbye", false, Vec::new).await;
    let pieces: Vec<_> = stream(&server).await.text().collect().await;
    assert!(pieces.last().unwrap().is_err());
    let server = cut_then_found("Hello", false, Vec::new).await;
    assert_eq!(stream(&server).await.into_reply().await.unwrap().text(), "Hello");
}

#[tokio::test]
async fn a_stream_in_a_session_of_its_own_knows_it() {
    let server = cut_then_found("Hello", false, Vec::new).await;
    let client = client(&server);
    let events = client.ask_stream(Ask::new("hi").session("ses-of-its-own")).await.unwrap();
    assert_eq!(events.session_id(), "ses-of-its-own");
    let (request, so_far) = (events.request_id(), events.reply_so_far());
    assert_eq!(
        (so_far.request_id(), so_far.session_id().unwrap().as_str()),
        (Some(&request), "ses-of-its-own")
    );
    let reply = events.into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.request_id()), ("Hello", Some(&request)));
}

#[tokio::test]
async fn a_silent_stream_is_given_up_and_looked_up() {
    let server = cut_then_found("Hello", false, || vec![Step::Stall]).await;
    let client = client(&server);
    let reply = client
        .ask_stream(Ask::new("hi").idle_timeout(Duration::from_millis(100)))
        .await
        .unwrap()
        .into_reply()
        .await;
    assert_eq!(reply.unwrap().text(), "Hello");
    assert_eq!(server.left.load(Ordering::SeqCst), 1, "its connection was closed");
}

#[tokio::test]
async fn a_streams_deadline_is_a_timeout_with_an_unknown_outcome() {
    let server = cut_then_found("Hello", false, || vec![Step::Stall]).await;
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
    let server = cut_then_found("Hello", false, || vec![Step::Stall]).await;
    let mut events = stream(&server).await;
    assert!(events.next().await.unwrap().is_ok());
    drop(events);
    while server.left.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_whole_reply_instead_of_events_is_a_stream_of_one() {
    let server = serve(|asked: Asked| {
        vec![json_reply(&json!({"result": task(asked.task_id(), "COMPLETED", "all of it")}))]
    })
    .await;
    let (events, error) = all(stream(&server).await).await;
    assert!(error.is_none());
    assert!(matches!(events.as_slice(), [Event::Task(task)] if task.text() == "all of it"));
}

#[tokio::test]
async fn what_a_stream_accumulates_is_bounded() {
    let server = plain(|id| {
        text_event(id, 0, &"x".repeat(1000), true).repeat(100) + &status(id, "COMPLETED", true)
    })
    .await;
    let client = client(&server);
    let stream = client.ask_stream(Ask::new("hi").max_reply_bytes(50_000)).await.unwrap();
    let error = stream.into_reply().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let stream = client.ask_stream(Ask::new("hi").max_event_bytes(500)).await.unwrap();
    assert_eq!(stream.into_reply().await.unwrap_err().kind(), ErrorKind::TooLarge);

    // An artifact that is replaced time and again costs what it holds, not what it held.
    let server = plain(|id| {
        text_event(id, 0, &"x".repeat(1000), false).repeat(100) + &status(id, "COMPLETED", true)
    })
    .await;
    let stream = client_with(config(&server.url))
        .ask_stream(Ask::new("hi").max_reply_bytes(50_000))
        .await
        .unwrap();
    assert_eq!(stream.into_reply().await.unwrap().text().len(), 1000);
}
