//! Comments and pings that arrive in pieces: which of them keep a stream from being idle.

#![cfg(test)]

mod common;

use std::time::{Duration, Instant};

use common::raw::{RawRequest, Step, events_head, not_found, serve};
use common::{STREAM, client_with, config};
use payman_sdk::{Ask, TaskState};
use serde_json::json;

const IDLE: Duration = Duration::from_millis(800);

fn event(state: &str, is_final: bool) -> Vec<u8> {
    // Without an id: it belongs to the stream's own task.
    let result = json!({"status": {"state": state}, "final": is_final});
    format!("data: {}\n\n", json!({"result": result})).into_bytes()
}

/// Says each piece, and pauses after it.
fn pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, pause: Duration) -> Vec<Step> {
    pieces.into_iter().flat_map(|piece| [Step::Send(piece.to_vec()), Step::Wait(pause)]).collect()
}

/// Reads a stream that begins with a status and goes on with these steps.
async fn read(steps: Vec<Step>) -> (payman_sdk::Result<payman_sdk::Reply>, Duration) {
    let steps = std::sync::Mutex::new(Some(steps));
    let server = serve(move |asked: RawRequest| match asked.path.as_str() {
        STREAM => {
            let mut all = vec![events_head(), Step::Send(event("WORKING", false))];
            all.extend(steps.lock().unwrap().take().unwrap());
            all
        }
        _ => not_found(),
    })
    .await;
    let client = client_with(config(&server.url));
    let events = client.ask_stream(Ask::new("hi").idle_timeout(IDLE)).await.unwrap();
    let started = Instant::now();
    let reply = events.into_reply().await;
    (reply, started.elapsed())
}

#[tokio::test]
async fn every_byte_of_a_heartbeat_keeps_a_stream_from_being_idle() {
    let pause = Duration::from_millis(250);
    let status = event("WORKING", false);
    let cases: [(&str, Vec<Step>); 6] = [
        ("a comment byte by byte", pieces(b": ping\n\n".chunks(1), pause)),
        ("CRLF between CR and LF", pieces([&b":\r"[..], b"\n", b"\r", b"\n:\r", b"\n\r"], pause)),
        ("a bare colon at a time", pieces([&b":"[..]; 5], pause)),
        (
            "a ping with data, cut inside its name and its JSON",
            pieces([&b"eve"[..], b"nt: pi", b"ng\ndata: {\"ty", b"pe\":\"ping\"}\n", b"\n"], pause),
        ),
        ("blank lines", pieces([&b"\n"[..]; 5], pause)),
        ("an event in slow pieces", pieces(status.chunks(status.len().div_ceil(5)), pause)),
    ];
    let runs = cases.into_iter().map(|(name, mut steps)| async move {
        let lasts = pause * u32::try_from(steps.len() / 2).unwrap();
        assert!(lasts > IDLE, "{name}: too short to tell");
        let bare_comment = name == "a bare colon at a time";
        if bare_comment {
            steps.push(Step::Send(b"\n".to_vec()));
        }
        steps.push(Step::Send(event("COMPLETED", true)));
        let (reply, took) = read(steps).await;
        let reply = reply.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(reply.state(), &TaskState::Completed, "{name}");
        assert!(took > IDLE, "{name}: {took:?}");
    });
    futures::future::join_all(runs).await;
}

/// The time counts from the last byte, whole heartbeat or not.
#[tokio::test]
async fn silence_after_a_piece_of_a_heartbeat_is_silence() {
    for (name, piece) in [
        ("half a comment", &b": pi"[..]),
        ("a comment without its blank line", b": ping\n"),
        ("a CR without its LF", b": ping\r"),
        ("half an event", b"data: {\"result\""),
    ] {
        let mut steps = vec![Step::Wait(IDLE / 2), Step::Send(piece.to_vec())];
        steps.push(Step::Stall);
        let (reply, took) = read(steps).await;
        let error = reply.unwrap_err();
        assert!(error.is_timeout() && error.is_outcome_unknown(), "{name}: {error:?}");
        // Then the task is looked up for the recovery time, in vain.
        let least = IDLE / 2 + IDLE;
        assert!(took >= least, "{name}: {took:?}");
        assert!(took < least + Duration::from_millis(1500), "{name}: {took:?}");
    }
}

/// After a state that may be the last, heartbeats do not restart the idle limit, even in pieces.
#[tokio::test]
async fn heartbeats_in_pieces_do_not_hold_a_stream_open_that_may_have_ended() {
    let mut steps = vec![Step::Send(event("COMPLETED", false))];
    for _ in 0..40 {
        steps.extend(pieces([&b": pi"[..], b"ng\n", b"\n"], Duration::from_millis(100)));
    }
    let (reply, took) = read(steps).await;
    assert_eq!(reply.unwrap().state(), &TaskState::Completed);
    assert!(took < Duration::from_secs(10), "{took:?}");
}
