//! Tests the dialects, which are variants of the response format.

use std::time::Duration;

use payman_sdk::emulator::{
    Dialect, Envelope, ErrorFormat, Fault, FinalFlag, JsonMediaType, LastChunkFlag, LineEnd,
    Operation, StateCase, StatusText, TokenNames, Unsupported,
};
use payman_sdk::{Emulator, TaskId};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::support::*;

async fn body(change: impl FnOnce(&mut Dialect)) -> String {
    let client = start_with(Emulator::builder().dialect(change)).await;
    client.subscribe(&TaskId::new(), "What's my balance?").await.text().await.unwrap()
}

#[tokio::test]
async fn line_ends() {
    for (line_end, end) in [(LineEnd::Lf, "\n"), (LineEnd::CrLf, "\r\n"), (LineEnd::Cr, "\r")] {
        let body = body(|dialect| dialect.line_end = line_end).await;
        assert!(body.ends_with(&format!("{end}{end}")));
        let events: Vec<_> = body.split_terminator(&format!("{end}{end}")).collect();
        assert!(events.len() > 3);
        for event in events {
            assert!(
                event.starts_with("data: {")
                    && event.ends_with('}')
                    && !event.contains(['\r', '\n']),
                "{event:?}"
            );
        }
    }
}

#[tokio::test]
async fn byte_order_mark_comments_and_several_data_lines() {
    let body = body(|dialect| {
        dialect.byte_order_mark = true;
        dialect.comments = true;
        dialect.several_lines = true;
    })
    .await;
    assert!(body.starts_with("\u{feff}: "));
    assert!(body.contains("\nevent: message\n") && body.contains("\nretry: 3000\n"));
    let first = body.split("\n\n").next().unwrap();
    let data: Vec<_> = first.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(data.len() > 5);
    assert_eq!(
        serde_json::from_str::<Value>(&data.join("\n")).unwrap()["result"]["status"]["state"],
        "WORKING"
    );
}

#[tokio::test]
async fn pings_keep_a_silent_stream_alive() {
    let builder = Emulator::builder().agent_delay(Duration::from_millis(400));
    let client =
        start_with(builder.dialect(|dialect| dialect.ping = Some(Duration::from_millis(20)))).await;
    let body = client.subscribe(&TaskId::new(), "What's my balance?").await.text().await.unwrap();
    assert!(body.matches(": ping\n\n").count() >= 2, "{body}");
    assert_eq!(events(&body).last().unwrap()["final"], true);
}

#[tokio::test]
async fn states_flags_and_status_messages() {
    for (states, working, completed) in [
        (StateCase::Lower, "working", "completed"),
        (StateCase::Prefixed, "TASK_STATE_WORKING", "TASK_STATE_COMPLETED"),
    ] {
        let client =
            start_with(Emulator::builder().dialect(|dialect| dialect.states = states)).await;
        let events = client.stream(&TaskId::new(), "What's my balance?").await;
        assert_eq!(events[0]["status"]["state"], working);
        assert_eq!(
            client.send(&TaskId::new(), "What's my balance?").await["status"]["state"],
            completed
        );
    }
    for (final_flag, last_flag, names) in [
        (FinalFlag::Camel, LastChunkFlag::Snake, ["isFinal", "last_chunk"]),
        (FinalFlag::Snake, LastChunkFlag::Camel, ["is_final", "lastChunk"]),
    ] {
        let body = body(|dialect| {
            dialect.final_flag = final_flag;
            dialect.last_chunk_flag = last_flag;
        })
        .await;
        let events = events(&body);
        assert_eq!(events.last().unwrap()[names[0]], true);
        assert_eq!(events[events.len() - 2]["artifact"][names[1]], true);
    }
    let body = body(|dialect| {
        dialect.final_flag = FinalFlag::Absent;
        dialect.last_chunk_flag = LastChunkFlag::Absent;
        dialect.status_text = StatusText::Message;
    })
    .await;
    assert!(!body.contains("inal\"") && !body.contains("ast_chunk") && !body.contains("astChunk"));
    let last = events(&body).pop().unwrap();
    assert_eq!(last["status"]["message"]["parts"][0]["text"], "Processing completed successfully");
    assert_eq!(last["status"]["message"]["role"], "agent");
}

#[tokio::test]
async fn bare_events_and_snake_case_token_replies() {
    let body = body(|dialect| dialect.envelope = Envelope::Bare).await;
    let first = body.split("\n\n").next().unwrap().strip_prefix("data: ").unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(first["status"]["state"], "WORKING");
    assert!(first.get("jsonrpc").is_none());

    let client =
        start_with(Emulator::builder().dialect(|dialect| dialect.token_names = TokenNames::Snake))
            .await;
    let query =
        format!("grant_type=authorization_code&code={}", client.emulator.issue_code(ALL_SCOPES));
    let (_, reply) = client.token_request(&query, Some(basic("a", "b"))).await;
    assert!(reply["access_token"].is_string() && reply["refresh_token"].is_string());
    assert_eq!(reply["expires_in"], json!(3600));
    assert!(reply.get("accessToken").is_none());
}

#[test]
fn options_parse_from_text() {
    assert_eq!("crlf".parse::<LineEnd>().unwrap(), LineEnd::CrLf);
    assert_eq!("is_final".parse::<FinalFlag>().unwrap(), FinalFlag::Snake);
    let error = "loud".parse::<StateCase>().unwrap_err();
    assert_eq!(error.to_string(), "\"loud\" is none of: upper, lower, prefixed");
}

#[tokio::test]
async fn json_media_types() {
    for (media_type, expected) in [
        (JsonMediaType::Json, Some("application/json")),
        (JsonMediaType::Vendor, Some("application/vnd.payman.v1+json")),
        (JsonMediaType::Absent, None),
    ] {
        let builder = Emulator::builder().dialect(|dialect| dialect.json_media_type = media_type);
        let client = start_with(builder).await;
        let params = client.params(&TaskId::new(), "What's my balance?");
        let response = client.request("send", params).send().await.unwrap();
        let found = response.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap());
        assert_eq!(found, expected);
        let (status, body) = read(response).await;
        assert_eq!((status, &body["id"]), (StatusCode::OK, &json!("req-1")));
        let stream = client.subscribe(&TaskId::new(), "What's my balance?").await;
        assert_eq!(stream.headers()[CONTENT_TYPE], "text/event-stream");
    }
}

#[tokio::test]
async fn an_unacceptable_response_is_406_after_the_agent_acted() {
    let builder = Emulator::builder().dialect(|dialect| {
        dialect.strict_accept = true;
        dialect.error_format = ErrorFormat::Rest;
    });
    let client = start_with(builder).await;
    client.ask("create payee Tyllen").await;
    let failure = Fault::status(500).on(Operation::SendSubscribe).after_acting();
    for (accept, expected) in [
        ("text/event-stream", StatusCode::NOT_ACCEPTABLE),
        ("text/event-stream, application/json, */*;q=0.1", StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        client.emulator.fault(failure.clone());
        let before = client.emulator.state().payments.len();
        let params = client.params(&TaskId::new(), "Pay Tyllen $50");
        let request = client.request("sendSubscribe", params).header(ACCEPT, accept);
        assert_eq!(request.send().await.unwrap().status(), expected);
        assert_eq!(client.emulator.state().payments.len(), before + 1);
    }
    let params = client.params(&TaskId::new(), "List all payees");
    let request = client.request("sendSubscribe", params).header(ACCEPT, "text/event-stream");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn errors_in_the_format_of_the_rest_api() {
    let builder = Emulator::builder()
        .without(Operation::Get)
        .unsupported(Unsupported::NotImplemented)
        .dialect(|dialect| dialect.error_format = ErrorFormat::Rest);
    let mut client = start_with(builder).await;
    client.emulator.fault(Fault::status(502));
    let params = client.params(&TaskId::new(), "List all payees");
    let (_, body) = client.call("send", params.clone()).await;
    assert_eq!((&body["status"], &body["errorCode"]), (&json!(502), &json!("internal_error")));
    let (_, body) = client.call("get", json!({"id": "t"})).await;
    assert_eq!(body["status"], 501);
    client.token = "unknown".to_owned();
    let (status, body) = client.call("send", params).await;
    assert_eq!((status, &body["errorCode"]), (StatusCode::UNAUTHORIZED, &json!("not_authorized")));
    assert_eq!(body["message"], "Invalid or expired x-payman-access-token");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
}
