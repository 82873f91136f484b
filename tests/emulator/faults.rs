//! Tests each kind of fault, and the control API.

use std::time::{Duration, Instant};

use futures::StreamExt;
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Emulator, TaskId};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::*;

async fn start_with_payee(builder: payman_sdk::emulator::EmulatorBuilder) -> RawClient {
    let client = start_with(builder).await;
    client.ask("create payee Tyllen").await;
    client
}

#[tokio::test]
async fn a_status_is_repeated_before_or_after_the_agent_acts() {
    let client = start_with_payee(Emulator::builder()).await;
    client.emulator.faults([
        Fault::status(503)
            .on(Operation::Send)
            .times(2)
            .retry_after("7")
            .body("{\"a\":1}", "application/json"),
        Fault::status(500).on(Operation::Send).after_acting(),
    ]);
    let id = TaskId::new();
    for (status, payments) in [(503, 0), (503, 0), (500, 1), (200, 2)] {
        let answer =
            client.request("send", client.params(&id, "Pay Tyllen $50")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(client.emulator.state().payments.len(), payments);
        if status == 503 {
            assert_eq!(answer.headers()["retry-after"], "7");
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert_eq!(answer.text().await.unwrap(), "{\"a\":1}");
        }
    }
    let state = client.emulator.state();
    assert_eq!((state.sends[&id], state.requests[&Operation::Send]), (2, 5));

    client.emulator.fault(Fault::status(502).on(Operation::SendSubscribe).after_acting());
    let answer =
        client.request("sendSubscribe", client.params(&id, "Pay Tyllen $50")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(client.emulator.state().payments.len(), 3);
}

#[tokio::test]
async fn a_connection_is_closed_before_or_after_the_agent_acts() {
    let client = start_with_payee(Emulator::builder()).await;
    for operation in ["send", "sendSubscribe"] {
        let before = client.emulator.state().payments.len();
        client.emulator.faults([Fault::close(), Fault::close().after_acting()]);
        for payments in [before, before + 1] {
            let error = client
                .request(operation, client.params(&TaskId::new(), "Pay Tyllen $50"))
                .send()
                .await
                .unwrap_err();
            assert!(error.is_request() && !error.is_timeout(), "{error:?}");
            assert_eq!(client.emulator.state().payments.len(), payments);
        }
    }
    // The next connection works.
    assert!(client.ask("What's my balance?").await.contains('$'));
}

#[tokio::test]
async fn a_body_is_cut_at_the_given_byte() {
    let client = start_with_payee(Emulator::builder()).await;
    for operation in ["send", "sendSubscribe"] {
        for bytes in [0u64, 1, 100, 1_000_000] {
            client.emulator.fault(Fault::cut(bytes).on(operation.parse().unwrap()));
            let response = client
                .request(operation, client.params(&TaskId::new(), "What's my balance?"))
                .send()
                .await
                .unwrap();
            let mut body = response.bytes_stream();
            let (mut received, mut error) = (0u64, None);
            while let Some(chunk) = body.next().await {
                match chunk {
                    Ok(chunk) => received += chunk.len() as u64,
                    Err(cut) => error = Some(cut),
                }
            }
            assert!(error.is_some_and(|error| !error.is_timeout()), "{operation} {bytes}");
            assert!(
                received == bytes || (bytes > 1000 && received > 200),
                "{operation} {bytes}: {received}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_ends_early_but_cleanly() {
    let client = start().await;
    client.emulator.fault(Fault::end_after(60));
    let body = client.subscribe(&TaskId::new(), "What's my balance?").await.text().await.unwrap();
    assert_eq!(body.len(), 60);
}

#[tokio::test]
async fn a_stall_before_the_headers_or_in_the_body() {
    let client = start_with_payee(Emulator::builder()).await;
    client.emulator.fault(Fault::stall());
    let request = client.request("send", client.params(&TaskId::new(), "Pay Tyllen $50"));
    assert!(request.timeout(Duration::from_millis(200)).send().await.unwrap_err().is_timeout());
    assert!(client.emulator.state().payments.is_empty());

    client.emulator.fault(Fault::stall().after_acting());
    let request = client.request("send", client.params(&TaskId::new(), "Pay Tyllen $50"));
    let silent = tokio::spawn(request.send());
    eventually("the agent acts", || client.emulator.state().payments.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!silent.is_finished());
    silent.abort();

    client.emulator.fault(Fault::stall_after(70));
    let response = client.subscribe(&TaskId::new(), "Pay Tyllen $50").await;
    let mut body = response.bytes_stream();
    let mut received = 0;
    while received < 70 {
        received += body.next().await.expect("the body ended").unwrap().len();
    }
    assert_eq!(received, 70);
    assert!(tokio::time::timeout(Duration::from_millis(100), body.next()).await.is_err());
    eventually("the agent acts although the stream stalls", || {
        client.emulator.state().payments.len() == 2
    })
    .await;
}

#[tokio::test]
async fn faults_apply_to_the_token_endpoint() {
    let client = start_with(Emulator::builder().rotate_refresh_tokens()).await;
    let query = format!(
        "grant_type=refresh_token&refresh_token={}",
        client.emulator.issue_refresh_token(ALL_SCOPES)
    );
    client.emulator.faults([
        Fault::status(429).on(Operation::Token).retry_after("1"),
        Fault::close().on(Operation::Token).after_acting(),
    ]);
    assert_eq!(
        client.token_request(&query, Some(basic("a", "b"))).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    let request = client
        .http
        .post(client.url(&format!("/api/oauth2/token?{query}")))
        .header("authorization", basic("a", "b"));
    assert!(request.send().await.is_err());
    // The reply was lost, but the refresh token was rotated.
    assert_eq!(
        client.token_request(&query, Some(basic("a", "b"))).await.1["error"],
        "invalid_grant"
    );
    let state = client.emulator.state();
    assert_eq!((state.token_requests, state.refresh_reuses), (3, 1));
}

#[tokio::test]
async fn delay_and_latency_postpone_the_response() {
    let client =
        start_with(Emulator::builder().fault(Fault::delay(Duration::from_millis(80)).skip(1)))
            .await;
    client.ask("What's my balance?").await;
    let start = Instant::now();
    client.ask("What's my balance?").await;
    assert!(start.elapsed() >= Duration::from_millis(80));
    client.emulator.configure(|settings| settings.latency = Duration::from_millis(80));
    let start = Instant::now();
    client.ask("What's my balance?").await;
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn the_control_api_adds_faults_and_resets() {
    let client = start_with_payee(Emulator::builder()).await;
    let post_faults = |body: serde_json::Value| {
        let request =
            client.http.post(client.url("/_emulator/faults")).body(body.to_string()).send();
        async { read(request.await.unwrap()).await }
    };
    let (status, reply) = post_faults(json!([
        {"on": "send", "times": 2, "status": 429, "retryAfter": 2},
        {"on": "send", "when": "after", "close": true},
        {"on": "sendSubscribe", "cutAfter": 10},
    ]))
    .await;
    assert_eq!((status, &reply["waiting"]), (StatusCode::OK, &json!(3)));
    for _ in 0..2 {
        let (status, _) = client.call("send", client.params(&TaskId::new(), "Pay Tyllen $5")).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(
        client
            .request("send", client.params(&TaskId::new(), "Pay Tyllen $5"))
            .send()
            .await
            .is_err()
    );
    assert!(client.subscribe(&TaskId::new(), "Pay Tyllen $5").await.text().await.is_err());

    let (status, state) =
        read(client.http.get(client.url("/_emulator/state")).send().await.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(state["payments"].as_array().unwrap().len(), 2);
    assert_eq!(state["payments"][0]["amount"], "5.00");
    assert_eq!(state["payments"][0]["status"], "COMPLETED");
    assert_eq!(state["wallets"][0]["balance"], "999990.00");
    assert_eq!((&state["tokenRequests"], &state["refreshReuses"]), (&json!(0), &json!(0)));
    assert_eq!(state["sends"].as_object().unwrap().len(), 3);
    assert_eq!(state["requests"]["send"], 4);

    assert_eq!(post_faults(json!({"explode": true})).await.0, StatusCode::BAD_REQUEST);
    post_faults(json!({"close": true})).await;
    let reset = client.http.post(client.url("/_emulator/reset")).send().await.unwrap();
    assert_eq!(reset.status(), StatusCode::OK);
    let state = client.emulator.state();
    assert_eq!(state.wallets[0].balance.to_string(), "1000000.00");
    assert!(
        state.payees.is_empty()
            && state.payments.is_empty()
            && state.tasks.is_empty()
            && state.requests.is_empty()
    );
    // The reset removed the fault and the token.
    assert_eq!(client.call("get", json!({"id": "t"})).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn faults_can_be_removed_without_a_reset() {
    let client = start_with_payee(Emulator::builder()).await;
    client.ask("Pay Tyllen $5").await;
    let remember = "What did we talk about earlier?";

    client.emulator.faults([Fault::status(503).always(), Fault::close()]);
    let params = client.params(&TaskId::new(), remember);
    assert_eq!(client.call("send", params).await.0, StatusCode::SERVICE_UNAVAILABLE);
    client.emulator.clear_faults();
    assert!(client.ask(remember).await.contains("Pay Tyllen $5"));

    let faults = json!([{"status": 503, "times": 9}, {"on": "get", "stall": true}]);
    let url = client.url("/_emulator/faults");
    client.http.post(&url).body(faults.to_string()).send().await.unwrap();
    for cleared in [2, 0] {
        let (status, reply) = read(client.http.delete(&url).send().await.unwrap()).await;
        assert_eq!((status, reply), (StatusCode::OK, json!({ "cleared": cleared })));
    }
    assert!(client.ask(remember).await.contains("Pay Tyllen $5"));
    let state = client.emulator.state();
    assert_eq!((state.payees.len(), state.payments.len()), (1, 1));
    assert_eq!(state.requests[&Operation::Send], 5);
}
