//! Tests typed and raw events, and their accumulation to the reply.

use futures::StreamExt;
use payman_sdk::{Ask, ErrorKind, Event, TaskState};
use serde_json::json;

use super::support::{client, collect, stream};
use crate::common::events::{event, result_event, status_event, text_event};
use crate::common::raw::{RawRequest, json_reply, serve, stream_server};
use crate::common::{client_with, config, task};

#[tokio::test]
async fn events_are_typed_and_accumulate_to_the_reply() {
    let server = stream_server(|id| {
        [
            status_event(id, "WORKING", false),
            text_event(id, 0, "Hel", false),
            text_event(id, 0, "lo", true),
            result_event(json!({"novelty": 1})),
            status_event(id, "COMPLETED", true),
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
async fn every_spelling_of_a_final_event_ends_the_stream() {
    let final_events: [fn(&str) -> String; 8] = [
        |id| status_event(id, "COMPLETED", true),
        |id| status_event(id, "completed", false),
        |id| status_event(id, "failed", false),
        |id| status_event(id, "INPUT_REQUIRED", false),
        |id| result_event(json!({"id": id, "status": {"state": "COMPLETED"}, "isFinal": true})),
        |id| {
            result_event(json!({"id": id, "status": {"state": "COMPLETED"}, "is_final": true,
                    "final": null}))
        },
        |id| event(&json!({"id": id, "status": {"state": "COMPLETED"}, "final": true})),
        |id| {
            result_event(json!({"id": id, "status": {"state": "COMPLETED"}, "artifacts": [],
                    "history": null}))
        },
    ];
    for (number, end) in final_events.into_iter().enumerate() {
        let server = stream_server(move |id| text_event(id, 0, "hi", false) + &end(id)).await;
        let (events, error) = collect(stream(&server).await).await;
        assert!(error.is_none(), "case {number}: {error:?}");
        assert_eq!(events.len(), 2, "case {number}");
    }
}

#[tokio::test]
async fn events_after_the_final_event_are_not_delivered() {
    let server =
        stream_server(|id| status_event(id, "COMPLETED", true) + &text_event(id, 0, "late", false))
            .await;
    let (events, error) = collect(stream(&server).await).await;
    assert_eq!((events.len(), error.is_none()), (1, true));
}

#[tokio::test]
async fn malformed_events_are_typed_errors() {
    let malformed = [
        "data: {\n\n".to_owned(),
        "data: nonsense\n\n".to_owned(),
        "data: {\"jsonrpc\":\"2.0\",\"id\":1}\n\n".to_owned(),
        "data: {\"result\":null,\"error\":null}\n\n".to_owned(),
        "data: {\"result\":{\"artifact\":{\"parts\":\"malformed\"}}}\n\n".to_owned(),
    ];
    for bytes in malformed {
        let text = bytes.clone();
        let server = stream_server(move |id| {
            text_event(id, 0, "hi", false) + &text + &status_event(id, "COMPLETED", true)
        })
        .await;
        let (events, error) = collect(stream(&server).await).await;
        assert_eq!(events.len(), 1, "{bytes}");
        assert_eq!(error.unwrap().kind(), ErrorKind::Protocol, "{bytes}");
    }
}

#[tokio::test]
async fn events_of_another_task_are_ignored() {
    let server = stream_server(|id| {
        text_event("tsk-other", 0, "not mine", false)
            + &status_event("tsk-other", "COMPLETED", true)
            + &text_event(id, 0, "mine", false)
            + &status_event(id, "COMPLETED", true)
    })
    .await;
    assert_eq!(stream(&server).await.into_reply().await.unwrap().text(), "mine");
}

#[tokio::test]
async fn an_artifact_is_replaced_or_appended_to_by_its_index() {
    let server = stream_server(|id| {
        [
            text_event(id, 0, "draft", false),
            text_event(id, 7, "B1", true),
            text_event(id, 0, "A1", false),
            result_event(
                json!({"id": id, "artifact": {"parts": [{"text": "A2"}, {"data": {"n": 1}},
                {"text": "A3"}], "append": true, "last_chunk": true}}),
            ),
            text_event(id, 7, "B2", true),
            status_event(id, "COMPLETED", true),
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
async fn raw_events_have_the_exact_bytes_of_the_server() {
    let server = stream_server(|id| {
        format!(
            "event: x\nid: 1\ndata: {{\"result\": {{\"id\":\"{id}\", \"n\": 1.10,\
             \"status\":{{\"state\":\"working\"}}}} }}\n\n"
        ) + &status_event(id, "COMPLETED", true)
    })
    .await;
    let events: Vec<_> = client(&server).ask_stream_raw("hi").await.unwrap().collect().await;
    assert_eq!(events.len(), 2);
    let first = events[0].as_ref().unwrap();
    assert!(first.json().get().starts_with("{\"result\": {\"id\":\""));
    assert!(first.result().unwrap().get().contains("\"n\": 1.10"));
}

#[tokio::test]
async fn a_json_reply_to_a_stream_request_is_a_stream_of_one_event() {
    let server = serve(|request: RawRequest| {
        vec![json_reply(&json!({"result": task(request.task_id(), "COMPLETED", "all of it")}))]
    })
    .await;
    let (events, error) = collect(stream(&server).await).await;
    assert!(error.is_none());
    assert!(matches!(events.as_slice(), [Event::Task(task)] if task.text() == "all of it"));
}

#[tokio::test]
async fn the_accumulated_size_of_a_stream_is_bounded() {
    let server = stream_server(|id| {
        text_event(id, 0, &"x".repeat(1000), true).repeat(100)
            + &status_event(id, "COMPLETED", true)
    })
    .await;
    let client = client(&server);
    let stream = client.ask_stream(Ask::new("hi").max_reply_bytes(50_000)).await.unwrap();
    let error = stream.into_reply().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let stream = client.ask_stream(Ask::new("hi").max_event_bytes(500)).await.unwrap();
    assert_eq!(stream.into_reply().await.unwrap_err().kind(), ErrorKind::TooLarge);

    // Only the current text of an artifact counts, not the text that it replaced.
    let server = stream_server(|id| {
        text_event(id, 0, &"x".repeat(1000), false).repeat(100)
            + &status_event(id, "COMPLETED", true)
    })
    .await;
    let stream = client_with(config(&server.url))
        .ask_stream(Ask::new("hi").max_reply_bytes(50_000))
        .await
        .unwrap();
    assert_eq!(stream.into_reply().await.unwrap().text().len(), 1000);
}
