//! The same facts in other spellings.

use std::time::Duration;

use payman_sdk::emulator::{
    Dialect, Envelope, FinalFlag, LastChunkFlag, LineEnd, StateCase, StatusText, TokenNames,
};
use payman_sdk::{Emulator, TaskId};
use serde_json::{Value, json};

use crate::support::*;

async fn body(change: impl FnOnce(&mut Dialect)) -> String {
    let peer = peer_of(Emulator::builder().dialect(change)).await;
    peer.subscribe(&TaskId::new(), "What's my balance?").await.text().await.unwrap()
}

#[tokio::test]
async fn line_ends() {
    for (line_end, end) in [(LineEnd::Lf, "\n"), (LineEnd::CrLf, "\r\n"), (LineEnd::Cr, "\r")] {
        let body = body(|dialect| dialect.line_end = line_end).await;
        assert!(body.ends_with(&format!("{end}{end}")));
        let frames: Vec<_> = body.split_terminator(&format!("{end}{end}")).collect();
        assert!(frames.len() > 3);
        for frame in frames {
            assert!(
                frame.starts_with("data: {")
                    && frame.ends_with('}')
                    && !frame.contains(['\r', '\n']),
                "{frame:?}"
            );
        }
    }
}

#[tokio::test]
async fn marks_comments_and_several_lines() {
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
async fn pings_fill_the_silence() {
    let builder = Emulator::builder().agent_delay(Duration::from_millis(400));
    let peer =
        peer_of(builder.dialect(|dialect| dialect.ping = Some(Duration::from_millis(20)))).await;
    let body = peer.subscribe(&TaskId::new(), "What's my balance?").await.text().await.unwrap();
    assert!(body.matches(": ping\n\n").count() >= 2, "{body}");
    assert_eq!(events(&body).last().unwrap()["final"], true);
}

#[tokio::test]
async fn states_flags_and_messages() {
    for (states, working, completed) in [
        (StateCase::Lower, "working", "completed"),
        (StateCase::Prefixed, "TASK_STATE_WORKING", "TASK_STATE_COMPLETED"),
    ] {
        let peer = peer_of(Emulator::builder().dialect(|dialect| dialect.states = states)).await;
        let events = peer.stream(&TaskId::new(), "What's my balance?").await;
        assert_eq!(events[0]["status"]["state"], working);
        assert_eq!(
            peer.send(&TaskId::new(), "What's my balance?").await["status"]["state"],
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
async fn bare_events_and_snake_tokens() {
    let body = body(|dialect| dialect.envelope = Envelope::Bare).await;
    let first = body.split("\n\n").next().unwrap().strip_prefix("data: ").unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(first["status"]["state"], "WORKING");
    assert!(first.get("jsonrpc").is_none());

    let peer =
        peer_of(Emulator::builder().dialect(|dialect| dialect.token_names = TokenNames::Snake))
            .await;
    let query = format!("grant_type=authorization_code&code={}", peer.emulator.issue_code(ALL));
    let (_, reply) = peer.token_request(&query, Some(basic("a", "b"))).await;
    assert!(reply["access_token"].is_string() && reply["refresh_token"].is_string());
    assert_eq!(reply["expires_in"], json!(3600));
    assert!(reply.get("accessToken").is_none());
}

#[test]
fn spellings_are_read_from_text() {
    assert_eq!("crlf".parse::<LineEnd>().unwrap(), LineEnd::CrLf);
    assert_eq!("is_final".parse::<FinalFlag>().unwrap(), FinalFlag::Snake);
    let error = "loud".parse::<StateCase>().unwrap_err();
    assert_eq!(error.to_string(), "\"loud\" is none of: upper, lower, prefixed");
}
