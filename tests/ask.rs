//! Tests `ask`: the requests it sends and the replies it returns.

#![cfg(test)]

mod common;

use common::*;
use payman_sdk::{Ask, Client, Config, ErrorKind, TaskId, TaskState, TokenInfo};
use serde_json::{Value, json};
use std::time::Duration;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

#[tokio::test]
async fn a_request_has_the_format_of_the_protocol() {
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let ask = Ask::new("Pay Tyllen $50")
        .metadata("source", "mobile-app")
        .metadata("userId", 7)
        .message_metadata("tags", ["a", "b"])
        .part_metadata("currency", "USD");
    let id = ask.task_id().clone();
    client(&server).with_session("ses-1").ask(ask).await.unwrap();

    let request = requests_to(&server, SEND).await.remove(0);
    assert_eq!(request.headers["x-payman-access-token"], "access-token");
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(request.headers["user-agent"].to_str().unwrap().starts_with("payman-sdk-rust/"));
    assert!(!request.headers.contains_key("authorization"));
    let body: Value = request.body_json().unwrap();
    let request_id = body["id"].as_str().unwrap().to_owned();
    assert!(request_id.starts_with("req-"));
    let expected = json!({
        "jsonrpc": "2.0", "id": request_id, "method": "tasks/send",
        "params": {
            "id": id, "sessionId": "ses-1", "metadata": {"source": "mobile-app", "userId": 7},
            "message": {
                "role": "user", "metadata": {"tags": ["a", "b"]},
                "parts": [{"type": "text", "text": "Pay Tyllen $50",
                    "metadata": {"currency": "USD"}}],
            },
        },
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn unset_fields_are_omitted() {
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    client(&server).ask("hi").await.unwrap();
    let body = String::from_utf8(requests_to(&server, SEND).await.remove(0).body).unwrap();
    assert!(!body.contains("metadata") && !body.contains("null"), "{body}");
}

#[tokio::test]
async fn a_reply_has_the_format_of_the_platforms_sdks() {
    let server = MockServer::start().await;
    Mock::given(path(SEND))
        .respond_with(task_reply("COMPLETED", "You have $5."))
        .mount(&server)
        .await;
    let ask = Ask::new("How much?");
    let id = ask.task_id().clone();
    let reply = client(&server).ask(ask).await.unwrap();
    assert_eq!(reply.to_string(), "You have $5.");
    assert_eq!(reply.state(), &TaskState::Completed);
    assert_eq!(reply.task_id(), &id);
    assert_eq!(reply.session_id().unwrap(), "ses-server");
    assert_eq!(reply.status_message(), Some("Processing completed successfully"));
    assert_eq!(reply.timestamp().unwrap().as_str(), "2025-06-27T16:31:41.510422505Z");
    assert_eq!(reply.artifacts()[0].kind(), "text");
    let expected = json!({
        "taskId": id, "requestId": reply.request_id(), "sessionId": "ses-server",
            "status": "COMPLETED",
        "statusMessage": "Processing completed successfully",
            "timestamp": "2025-06-27T16:31:41.510422505Z",
        "artifacts": [{
            "name": "response", "description": "AI Assistant Response", "content": "You have $5.",
                "type": "text",
            "timestamp": "2025-06-27T16:31:41.510422505Z", "metadata": {},
        }],
        "metadata": {"agentId": "ai-1"},
    });
    assert_eq!(serde_json::to_value(&reply).unwrap(), expected);
    assert!(reply.request_id().unwrap().as_str().starts_with("req-"));
    assert!(reply.into_completed().is_ok());
}

#[tokio::test]
async fn a_reply_in_any_dialect_is_parsed() {
    let results = [
        json!({"id": "t", "status": {"state": "TASK_STATE_COMPLETED", "message": null},
            "artifacts": [{"parts": [{"text": "a"}, {"type": "text", "text": "b"}]}]}),
        json!({"id": 5, "session_id": 7, "status": {"state": "completed",
            "message": {"role": "assistant", "parts": [{"type": "text", "text": "done"}]}},
            "artifacts": [{"name": null, "parts": [{"type": "text", "text": "a\nb"}], "index": null,
            "append": null, "new": {}}], "metadata": null, "history": null}),
        json!({"status": {"state": "Completed", "message": "a\nb"}, "artifacts": null}),
    ];
    for result in results {
        let server = MockServer::start().await;
        let body = json!({"id": null, "error": null, "unknown": [1], "result": result});
        on(&server, SEND, json_answer(body)).await;
        let reply = client(&server).ask("hi").await.unwrap();
        assert_eq!(reply.text(), "a\nb");
        assert_eq!(reply.state(), &TaskState::Completed);
        assert!(reply.session_id().is_some());
    }
}

#[tokio::test]
async fn a_raw_reply_has_the_exact_bytes_of_the_server() {
    let text = "{\"z\":1.10, \"result\": {\"status\":{\"state\":\"COMPLETED\"},\
        \"n\":123456789012345678901234567890, \"id\":\"t\"},\n \
        \"jsonrpc\":\"2.0\",\"a\":\"\\u00e9\"}";
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(200).set_body_raw(text, "application/json")).await;
    let raw = client(&server).ask_raw("hi").await.unwrap();
    assert_eq!(raw.json().get(), text);
    let result = raw.result().unwrap().get();
    assert_eq!(
        result,
        "{\"status\":{\"state\":\"COMPLETED\"},\"n\":123456789012345678901234567890, \"id\":\"t\"}"
    );
}

#[tokio::test]
async fn a_failed_task_is_a_reply_and_an_error_of_into_completed() {
    for (wire, state) in [
        ("FAILED", TaskState::Failed),
        ("cancelled", TaskState::Canceled),
        ("REJECTED", TaskState::Rejected),
    ] {
        let server = MockServer::start().await;
        Mock::given(path(SEND)).respond_with(task_reply(wire, "no")).mount(&server).await;
        let reply = client(&server).ask("hi").await.unwrap();
        assert_eq!(reply.state(), &state);
        let id = reply.task_id().clone();
        let error = reply.into_completed().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TaskNotCompleted);
        assert_eq!(error.task_id(), Some(&id));
        assert!(!error.is_outcome_unknown() && !error.is_safe_to_ask_again());
        assert_eq!(error.body().unwrap(), "no");
    }
}

#[tokio::test]
async fn an_answer_is_sent_to_the_same_task_and_session() {
    let server = MockServer::start().await;
    Mock::given(path(SEND))
        .respond_with(task_reply("INPUT_REQUIRED", "which one?"))
        .mount(&server)
        .await;
    let client = client(&server);
    let question = client.ask("Pay John").await.unwrap();
    client.ask(question.answer("the second one")).await.unwrap();
    let requests = requests_to(&server, SEND).await;
    let bodies: Vec<Value> = requests.iter().map(|request| request.body_json().unwrap()).collect();
    assert_eq!(bodies[0]["params"]["id"], bodies[1]["params"]["id"]);
    assert_eq!(bodies[1]["params"]["sessionId"], "ses-server");
    assert_ne!(bodies[0]["id"], bodies[1]["id"]);
}

#[tokio::test]
async fn invalid_input_is_refused_without_a_request() {
    let server = MockServer::start().await;
    let url = server.uri();
    let token = || TokenInfo::access("a", Duration::from_secs(60));
    let config = || Config::new("id").base_url(&url);
    let refused = [
        Client::with_credentials(Config::new(" ").client_secret("s").base_url(&url)).err(),
        Client::with_credentials(config()).err(),
        Client::with_credentials(config().client_secret(" ")).err(),
        Client::with_auth_code(config().client_secret("s"), " ").await.err(),
        Client::with_auth_code(config(), "code").await.err(),
        Client::with_token(config(), TokenInfo::access(" ", Duration::from_secs(60))).err(),
        Client::with_token(config(), TokenInfo::refresh_only("")).err(),
        Client::with_token(config().session_id(" "), token()).err(),
        Client::with_token(Config::new("id").base_url("http://example.com"), token()).err(),
        Client::with_token(Config::new("id").base_url("not a url"), token()).err(),
        Client::with_token(Config::new("id").base_url("https://user:pw@agent.payman.ai"), token())
            .err(),
        client(&server).ask(" \n").await.err(),
        client(&server).ask_stream("").await.err(),
        client(&server).ask(Ask::new("x").session("")).await.err(),
        client(&server).ask(Ask::new("x").continue_task(" ")).await.err(),
        client(&server)
            .ask(Ask::new("x").metadata("k", std::collections::HashMap::from([((1, 2), 3)])))
            .await
            .err(),
    ];
    for (number, error) in refused.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("case {number} was accepted"));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "case {number}: {error}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_is_an_error_and_the_token_is_not_forwarded() {
    let elsewhere = MockServer::start().await;
    for status in [301, 302, 303, 307, 308] {
        let server = MockServer::start().await;
        let to = format!("{}/steal", elsewhere.uri());
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(status).insert_header("location", to.as_str()))
            .mount(&server)
            .await;
        let error = client(&server).ask("hi").await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert!(!error.is_safe_to_ask_again());
        assert_eq!(count(&server, SEND).await, 1);
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn concurrent_sessions_do_not_mix() {
    let server = MockServer::start().await;
    Mock::given(path(SEND))
        .respond_with(|request: &wiremock::Request| {
            let body: Value = request.body_json().unwrap();
            let params = &body["params"];
            let said = format!(
                "{} said {}",
                params["sessionId"].as_str().unwrap(),
                params["message"]["parts"][0]["text"].as_str().unwrap()
            );
            json_answer(json!({"result": {"id": params["id"], "sessionId": params["sessionId"],
                "status": {"state": "COMPLETED"}, "artifacts": [{"parts": [{"type": "text",
                "text": said}]}]}}))
        })
        .mount(&server)
        .await;
    let client = client(&server);
    let asks = (0..200).map(|n| {
        let client = client.clone();
        async move {
            let mine = client.new_session();
            let reply = if n % 2 == 0 {
                mine.ask(format!("{n}")).await
            } else {
                client.ask(Ask::new(format!("{n}")).session(mine.session_id())).await
            };
            assert_eq!(reply.unwrap().text(), format!("{} said {n}", mine.session_id()));
        }
    });
    futures::future::join_all(asks).await;
    let own = client.session_id();
    let fresh = client.ask(Ask::new("x").new_session()).await.unwrap();
    assert_ne!(fresh.session_id(), Some(&own));
    assert_eq!(client.session_id(), own);
}

#[tokio::test]
async fn asks_and_streams_can_be_spawned() {
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let spawned = {
        let client = client(&server);
        let text = String::from("hi");
        tokio::spawn(client.ask(text.as_str()))
    };
    assert_eq!(spawned.await.unwrap().unwrap().text(), "ok");
    // The futures borrow neither the client nor the text nor the id.
    let (asking, streaming, lookup) = {
        let (client, text, id) = (client(&server), String::from("hi"), TaskId::new());
        (client.ask(&text), client.ask_stream(text.as_str()), client.get_task(&id))
    };
    assert_eq!(asking.await.unwrap().text(), "ok");
    assert!(streaming.await.is_err() && lookup.await.is_err());
}

#[tokio::test]
async fn an_error_body_is_kept_up_to_its_limit() {
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(400).set_body_string("x".repeat(100_000))).await;
    let error = client(&server).ask("hi").await.unwrap_err();
    assert_eq!(error.body().unwrap().len(), 64 * 1024);
    let small = client_with(config(&server.uri()).max_error_body_bytes(10));
    assert_eq!(small.ask("hi").await.unwrap_err().body().unwrap(), "x".repeat(10));
    assert!(
        error.is_safe_to_ask_again(),
        "the length of the body does not change what a 400 proves"
    );
}

#[tokio::test]
async fn an_error_body_is_classified_even_if_none_of_it_is_kept() {
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(400).set_body_json(rpc_error(-32603))).await;
    let error =
        client_with(config(&server.uri()).max_error_body_bytes(0)).ask("hi").await.unwrap_err();
    assert_eq!((error.rpc_code(), error.is_outcome_unknown()), (Some(-32603), true));
}

#[tokio::test]
async fn a_reply_over_the_limit_is_a_typed_error() {
    let server = MockServer::start().await;
    Mock::given(path(SEND))
        .respond_with(task_reply("COMPLETED", "0123456789"))
        .mount(&server)
        .await;
    let error = client(&server).ask(Ask::new("hi").max_reply_bytes(100)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.is_outcome_unknown());
}
