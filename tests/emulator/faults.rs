//! Faults by script, each kind.

use std::time::{Duration, Instant};

use futures::StreamExt;
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Emulator, TaskId};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::*;

async fn with_tyllen(builder: payman_sdk::emulator::EmulatorBuilder) -> Peer {
    let peer = peer_of(builder).await;
    peer.ask("create payee Tyllen").await;
    peer
}

#[tokio::test]
async fn a_status_so_many_times_before_or_after_the_agent_acted() {
    let peer = with_tyllen(Emulator::builder()).await;
    peer.emulator.faults([
        Fault::status(503)
            .on(Operation::Send)
            .times(2)
            .retry_after("7")
            .body("{\"a\":1}", "application/json"),
        Fault::status(500).on(Operation::Send).after_acting(),
    ]);
    let id = TaskId::new();
    for (status, payments) in [(503, 0), (503, 0), (500, 1), (200, 2)] {
        let answer = peer.request("send", peer.params(&id, "Pay Tyllen $50")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(peer.emulator.state().payments.len(), payments);
        if status == 503 {
            assert_eq!(answer.headers()["retry-after"], "7");
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert_eq!(answer.text().await.unwrap(), "{\"a\":1}");
        }
    }
    let state = peer.emulator.state();
    assert_eq!((state.sends[&id], state.requests[&Operation::Send]), (2, 5));

    peer.emulator.fault(Fault::status(502).on(Operation::SendSubscribe).after_acting());
    let answer =
        peer.request("sendSubscribe", peer.params(&id, "Pay Tyllen $50")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(peer.emulator.state().payments.len(), 3);
}

#[tokio::test]
async fn a_connection_is_closed_before_or_after_the_agent_acted() {
    let peer = with_tyllen(Emulator::builder()).await;
    for operation in ["send", "sendSubscribe"] {
        let before = peer.emulator.state().payments.len();
        peer.emulator.faults([Fault::close(), Fault::close().after_acting()]);
        for payments in [before, before + 1] {
            let error = peer
                .request(operation, peer.params(&TaskId::new(), "Pay Tyllen $50"))
                .send()
                .await
                .unwrap_err();
            assert!(error.is_request() && !error.is_timeout(), "{error:?}");
            assert_eq!(peer.emulator.state().payments.len(), payments);
        }
    }
    // The next connection is a good one.
    assert!(peer.ask("What's my balance?").await.contains('$'));
}

#[tokio::test]
async fn a_body_is_cut_at_the_byte_and_has_no_proper_end() {
    let peer = with_tyllen(Emulator::builder()).await;
    for operation in ["send", "sendSubscribe"] {
        for bytes in [0u64, 1, 100, 1_000_000] {
            peer.emulator.fault(Fault::cut(bytes).on(operation.parse().unwrap()));
            let response = peer
                .request(operation, peer.params(&TaskId::new(), "What's my balance?"))
                .send()
                .await
                .unwrap();
            let mut body = response.bytes_stream();
            let (mut got, mut error) = (0u64, None);
            while let Some(chunk) = body.next().await {
                match chunk {
                    Ok(chunk) => got += chunk.len() as u64,
                    Err(cut) => error = Some(cut),
                }
            }
            assert!(error.is_some_and(|error| !error.is_timeout()), "{operation} {bytes}");
            assert!(got == bytes || (bytes > 1000 && got > 200), "{operation} {bytes}: {got}");
        }
    }
}

#[tokio::test]
async fn a_body_ends_early_as_if_it_were_whole() {
    let peer = peer().await;
    peer.emulator.fault(Fault::end_after(60));
    let body = peer.subscribe(&TaskId::new(), "What's my balance?").await.text().await.unwrap();
    assert_eq!(body.len(), 60);
}

#[tokio::test]
async fn silence_before_the_headers_and_in_the_body() {
    let peer = with_tyllen(Emulator::builder()).await;
    peer.emulator.fault(Fault::stall());
    let request = peer.request("send", peer.params(&TaskId::new(), "Pay Tyllen $50"));
    assert!(request.timeout(Duration::from_millis(200)).send().await.unwrap_err().is_timeout());
    assert!(peer.emulator.state().payments.is_empty());

    peer.emulator.fault(Fault::stall().after_acting());
    let request = peer.request("send", peer.params(&TaskId::new(), "Pay Tyllen $50"));
    let silent = tokio::spawn(request.send());
    eventually("the agent acts", || peer.emulator.state().payments.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!silent.is_finished());
    silent.abort();

    peer.emulator.fault(Fault::stall_after(70));
    let response = peer.subscribe(&TaskId::new(), "Pay Tyllen $50").await;
    let mut body = response.bytes_stream();
    let mut got = 0;
    while got < 70 {
        got += body.next().await.expect("the body ended").unwrap().len();
    }
    assert_eq!(got, 70);
    assert!(tokio::time::timeout(Duration::from_millis(100), body.next()).await.is_err());
    eventually("the agent acts all the same", || peer.emulator.state().payments.len() == 2).await;
}

#[tokio::test]
async fn the_token_endpoint_has_faults_too() {
    let peer = peer_of(Emulator::builder().rotate_refresh_tokens()).await;
    let query = format!(
        "grant_type=refresh_token&refresh_token={}",
        peer.emulator.issue_refresh_token(ALL)
    );
    peer.emulator.faults([
        Fault::status(429).on(Operation::Token).retry_after("1"),
        Fault::close().on(Operation::Token).after_acting(),
    ]);
    assert_eq!(
        peer.token_request(&query, Some(basic("a", "b"))).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    let request = peer
        .http
        .post(peer.url(&format!("/api/oauth2/token?{query}")))
        .header("authorization", basic("a", "b"));
    assert!(request.send().await.is_err());
    // The reply was lost after the token was spent.
    assert_eq!(peer.token_request(&query, Some(basic("a", "b"))).await.1["error"], "invalid_grant");
    let state = peer.emulator.state();
    assert_eq!((state.token_requests, state.refresh_reuses), (3, 1));
}

#[tokio::test]
async fn a_delay_and_latency_take_time() {
    let peer =
        peer_of(Emulator::builder().fault(Fault::delay(Duration::from_millis(80)).skip(1))).await;
    peer.ask("What's my balance?").await;
    let start = Instant::now();
    peer.ask("What's my balance?").await;
    assert!(start.elapsed() >= Duration::from_millis(80));
    peer.emulator.configure(|settings| settings.latency = Duration::from_millis(80));
    let start = Instant::now();
    peer.ask("What's my balance?").await;
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn the_script_over_http() {
    let peer = with_tyllen(Emulator::builder()).await;
    let script = |body: serde_json::Value| {
        let request = peer.http.post(peer.url("/_emulator/faults")).body(body.to_string()).send();
        async { read(request.await.unwrap()).await }
    };
    let (status, reply) = script(json!([
        {"on": "send", "times": 2, "status": 429, "retryAfter": 2},
        {"on": "send", "when": "after", "close": true},
        {"on": "sendSubscribe", "cutAfter": 10},
    ]))
    .await;
    assert_eq!((status, &reply["waiting"]), (StatusCode::OK, &json!(3)));
    for _ in 0..2 {
        let (status, _) = peer.call("send", peer.params(&TaskId::new(), "Pay Tyllen $5")).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(
        peer.request("send", peer.params(&TaskId::new(), "Pay Tyllen $5")).send().await.is_err()
    );
    assert!(peer.subscribe(&TaskId::new(), "Pay Tyllen $5").await.text().await.is_err());

    let (status, state) =
        read(peer.http.get(peer.url("/_emulator/state")).send().await.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(state["payments"].as_array().unwrap().len(), 2);
    assert_eq!(state["payments"][0]["amount"], "5.00");
    assert_eq!(state["payments"][0]["status"], "COMPLETED");
    assert_eq!(state["wallets"][0]["balance"], "999990.00");
    assert_eq!((&state["tokenRequests"], &state["refreshReuses"]), (&json!(0), &json!(0)));
    assert_eq!(state["sends"].as_object().unwrap().len(), 3);
    assert_eq!(state["requests"]["send"], 4);

    assert_eq!(script(json!({"explode": true})).await.0, StatusCode::BAD_REQUEST);
    script(json!({"close": true})).await;
    let reset = peer.http.post(peer.url("/_emulator/reset")).send().await.unwrap();
    assert_eq!(reset.status(), StatusCode::OK);
    let state = peer.emulator.state();
    assert_eq!(state.wallets[0].balance.to_string(), "1000000.00");
    assert!(
        state.payees.is_empty()
            && state.payments.is_empty()
            && state.tasks.is_empty()
            && state.requests.is_empty()
    );
    // The fault is gone, and so is the token.
    assert_eq!(peer.call("get", json!({"id": "t"})).await.0, StatusCode::UNAUTHORIZED);
}
