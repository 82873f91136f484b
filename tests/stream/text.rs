//! Tests the text of a stream.

use futures::StreamExt;
use payman_sdk::{ErrorKind, TaskState};
use serde_json::json;

use super::support::{interrupted_server, stream};
use crate::common::events::{result_event, status_event, text_event};
use crate::common::raw::stream_server;

#[tokio::test]
async fn streamed_text_concatenates_to_the_text_of_the_reply() {
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
            result_event(json!({"id": id, "artifact": {"parts": [{"text": "one"}, {"text": "two"}],
                    "lastChunk": true}}))
                + &text_event(id, 1, "three", false)
        },
        |id| {
            result_event(json!({"id": id, "artifact": {"parts": [{"data": [1]}]}}))
                + &text_event(id, 1, "w", false)
                + &text_event(id, 1, "x", true)
        },
        |id| text_event(id, 0, "same", false) + &text_event(id, 0, "same and more", false),
    ];
    for (number, bytes) in streams.into_iter().enumerate() {
        let server =
            stream_server(move |id| bytes(id) + &status_event(id, "COMPLETED", true)).await;
        let pieces: Vec<String> =
            stream(&server).await.text().map(|text| text.unwrap()).collect().await;
        let reply = stream(&server).await.into_reply().await.unwrap();
        assert_eq!(pieces.concat(), reply.text(), "case {number}");
        assert!(pieces.len() > 1, "case {number}: {pieces:?}");
    }
}

#[tokio::test]
async fn text_that_is_rewritten_after_it_was_yielded_is_an_error() {
    let server = stream_server(|id| {
        text_event(id, 0, "yes", false)
            + &text_event(id, 0, "no", false)
            + &status_event(id, "COMPLETED", true)
    })
    .await;
    let pieces: Vec<_> = stream(&server).await.text().collect().await;
    assert_eq!(pieces[0].as_ref().unwrap(), "yes");
    assert_eq!(pieces.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn without_artifacts_the_text_is_the_status_message() {
    let server = stream_server(|id| {
        status_event(id, "WORKING", false)
            + &result_event(json!({"id": id, "status": {"state": "input-required",
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
    assert_eq!(text.reply_so_far().state(), &TaskState::InputRequired, "the final state is known");
    assert!(text.next().await.is_none());
}

#[tokio::test]
async fn after_an_interruption_the_text_continues_only_if_it_matches() {
    let server = interrupted_server("Hello", false, Vec::new).await;
    let pieces: Vec<String> =
        stream(&server).await.text().map(|text| text.unwrap()).collect().await;
    assert_eq!(pieces, ["Hel", "lo"]);
    let server = interrupted_server("Goodbye", false, Vec::new).await;
    let pieces: Vec<_> = stream(&server).await.text().collect().await;
    assert!(pieces.last().unwrap().is_err());
    let server = interrupted_server("Hello", false, Vec::new).await;
    assert_eq!(stream(&server).await.into_reply().await.unwrap().text(), "Hello");
}
