//! Tests which outcomes allow an ask to be resent, and which lead to a lookup.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::dns::unresolvable;
use common::*;
use payman_sdk::{Ask, ErrorKind, RetryPolicy, TaskState};
use serde_json::{Value, json};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

#[tokio::test]
async fn a_failed_connection_is_retried_and_safe_to_ask_again() {
    for retries in [0, 2, 3] {
        let (client, resolver) = unresolvable(retries);
        let error = client.ask("hi").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.is_safe_to_ask_again() && !error.is_outcome_unknown());
        assert_eq!(resolver.lookups(), retries as usize + 1);
        assert!(error.task_id().is_some());
    }
}

#[tokio::test]
async fn the_retry_budget_is_shared_by_clones_and_sessions() {
    let (client, resolver) = unresolvable(1);
    let asks = (0..300).map(|_| client.new_session().ask("hi"));
    for result in futures::future::join_all(asks).await {
        assert!(result.unwrap_err().is_safe_to_ask_again());
    }
    assert_eq!(resolver.lookups(), 300 + 100, "the budget allows 100 retries");
}

#[tokio::test]
async fn other_4xx_statuses_and_refusal_codes_are_not_retried() {
    for status in [400, 402, 403, 404, 405, 409, 410, 413, 415, 421, 422, 426, 428, 431, 451, 501] {
        let server = MockServer::start().await;
        on(&server, SEND, ResponseTemplate::new(status).set_body_string("<html>no</html>")).await;
        let error = client(&server).ask("hi").await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.body().unwrap(), "<html>no</html>");
        assert!(error.is_safe_to_ask_again(), "{status}");
        assert_eq!(server.received_requests().await.unwrap().len(), 1);
    }
    for code in [-32700, -32600, -32601, -32602, -32004, -32005] {
        for status in [200, 400, 500] {
            let server = MockServer::start().await;
            on(&server, SEND, ResponseTemplate::new(status).set_body_json(rpc_error(code))).await;
            let error = client(&server).ask("hi").await.unwrap_err();
            assert_eq!(error.rpc_code(), Some(code));
            assert!(error.is_safe_to_ask_again(), "{code} {status}");
            assert_eq!(server.received_requests().await.unwrap().len(), 1);
        }
    }
}

fn ambiguous_responses() -> Vec<ResponseTemplate> {
    let mut answers: Vec<_> =
        [301, 406, 408, 500, 502, 503, 504, 599].map(ResponseTemplate::new).into();
    answers.extend([-32603, -32001, -32000, -1, 0, 7].map(|code| json_answer(rpc_error(code))));
    answers.extend(
        [-32603, -32000].map(|code| ResponseTemplate::new(400).set_body_json(rpc_error(code))),
    );
    answers.push(ResponseTemplate::new(503).insert_header("retry-after", "0"));
    answers.push(ResponseTemplate::new(204));
    answers.push(ResponseTemplate::new(200).set_body_string("garbage"));
    answers.push(json_answer(json!({})));
    answers.push(json_answer(json!({"jsonrpc": "2.0", "id": 1})));
    answers.push(json_answer(json!({"result": {}})));
    answers.push(json_answer(json!({"result": "done"})));
    answers.push(json_answer(
        json!({"result": {"status": {"state": "COMPLETED"}, "artifacts": "odd"}}),
    ));
    answers.push(json_answer(json!({"error": {}})));
    answers
}

#[tokio::test]
async fn an_ask_that_may_have_run_is_looked_up_and_never_resent() {
    for (number, answer) in ambiguous_responses().into_iter().enumerate() {
        let server = MockServer::start().await;
        on(&server, SEND, answer.clone()).await;
        on(&server, STREAM, answer).await;
        Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "found")).mount(&server).await;
        let reply = client(&server)
            .ask("hi")
            .await
            .unwrap_or_else(|error| panic!("case {number}: {error:?}"));
        assert_eq!(
            (reply.text().as_str(), reply.state()),
            ("found", &TaskState::Completed),
            "case {number}"
        );
        assert_eq!(count(&server, SEND).await, 1, "case {number}");
        let stream = client(&server).ask_stream("hi").await.unwrap();
        assert_eq!(stream.into_reply().await.unwrap().text(), "found", "case {number}");
        assert_eq!(count(&server, STREAM).await, 1, "case {number}");
    }
}

#[tokio::test]
async fn a_failed_lookup_is_an_error_with_an_unknown_outcome() {
    let lookups = [
        ResponseTemplate::new(404),
        ResponseTemplate::new(501),
        json_answer(rpc_error(-32001)),
        json_answer(rpc_error(-32601)),
        json_answer(rpc_error(-32004)),
        ResponseTemplate::new(500),
    ];
    for (number, answer) in ambiguous_responses().into_iter().enumerate() {
        let server = MockServer::start().await;
        on(&server, SEND, answer.clone()).await;
        on(&server, STREAM, answer).await;
        on(&server, GET, lookups[number % lookups.len()].clone()).await;
        let ask = Ask::new("hi");
        let id = ask.task_id().clone();
        let error = client(&server).ask(ask).await.unwrap_err();
        assert!(
            error.is_outcome_unknown() && !error.is_safe_to_ask_again(),
            "case {number}: {error:?}"
        );
        assert_eq!(error.task_id(), Some(&id));
        assert_eq!(count(&server, SEND).await, 1, "case {number}");
        let error = client(&server).ask_stream("hi").await.unwrap_err();
        assert!(error.is_outcome_unknown(), "case {number}: {error:?}");
        assert_eq!(count(&server, STREAM).await, 1, "case {number}");
    }
}

#[tokio::test]
async fn lookups_can_be_turned_off() {
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(500)).await;
    let error =
        client_with(config(&server.uri()).retry(RetryPolicy::none())).ask("hi").await.unwrap_err();
    assert!(error.is_outcome_unknown());
    assert_eq!(error.status(), Some(500));
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_429_an_unknown_task_is_resent() {
    let server = MockServer::start().await;
    first(&server, SEND, 1, ResponseTemplate::new(429).insert_header("retry-after", "0")).await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "second")).mount(&server).await;
    on(&server, GET, json_answer(rpc_error(-32001))).await;
    assert_eq!(client(&server).ask("hi").await.unwrap().text(), "second");
    let requests = server.received_requests().await.unwrap();
    let paths: Vec<_> = requests.iter().map(|request| request.url.path().to_owned()).collect();
    assert_eq!(paths, [SEND, GET, SEND]);
    assert_eq!(requests[0].body, requests[2].body, "the same ids");
}

#[tokio::test]
async fn after_a_429_a_known_task_is_not_resent() {
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(429).insert_header("retry-after", "0")).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "found")).mount(&server).await;
    assert_eq!(client(&server).ask("hi").await.unwrap().text(), "found");
    assert_eq!(count(&server, SEND).await, 1);
}

#[tokio::test]
async fn without_lookups_a_429_is_resent_only_when_opted_in() {
    let server = MockServer::start().await;
    first(&server, SEND, 2, ResponseTemplate::new(429).insert_header("retry-after", "0")).await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "again")).mount(&server).await;
    on(&server, GET, ResponseTemplate::new(404)).await;
    let error = client(&server).ask("hi").await.unwrap_err();
    assert!(error.is_rate_limited() && !error.is_safe_to_ask_again());
    assert_eq!(error.retry_after(), Some(Duration::ZERO));
    assert_eq!(count(&server, SEND).await, 1);
    let opted_in =
        client_with(config(&server.uri()).retry(short_recovery().resend_when_busy(true)));
    assert_eq!(opted_in.ask("hi").await.unwrap().text(), "again");
    assert_eq!(count(&server, SEND).await, 3);
}

#[tokio::test]
async fn repeated_429s_are_an_error_that_is_safe_to_ask_again() {
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(429).insert_header("retry-after", "0")).await;
    on(&server, GET, json_answer(rpc_error(-32001))).await;
    let error = client(&server).ask("hi").await.unwrap_err();
    assert!(error.is_rate_limited() && error.is_safe_to_ask_again());
    assert_eq!(count(&server, SEND).await, 3);
}

#[tokio::test]
async fn a_retry_after_beyond_the_deadline_fails_at_once() {
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(429).insert_header("retry-after", "3600")).await;
    let error =
        client(&server).ask(Ask::new("hi").deadline(Duration::from_secs(30))).await.unwrap_err();
    assert!(error.is_rate_limited());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_503_with_retry_after_is_resent_only_when_opted_in() {
    for (opted_in, sends) in [(false, 1), (true, 2)] {
        let server = MockServer::start().await;
        first(&server, SEND, 1, ResponseTemplate::new(503).insert_header("retry-after", "0")).await;
        Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "again")).mount(&server).await;
        on(&server, GET, json_answer(rpc_error(-32001))).await;
        let result =
            client_with(config(&server.uri()).retry(short_recovery().resend_when_busy(opted_in)))
                .ask("hi")
                .await;
        assert_eq!(result.is_ok(), opted_in);
        assert_eq!(count(&server, SEND).await, sends);
    }
}

#[tokio::test]
async fn a_running_task_is_followed_to_its_end() {
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("SUBMITTED", "")).mount(&server).await;
    Mock::given(path(GET))
        .respond_with(task_reply("WORKING", "half"))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "whole")).mount(&server).await;
    assert_eq!(client(&server).ask("hi").await.unwrap().text(), "whole");
    assert_eq!((count(&server, SEND).await, count(&server, GET).await), (1, 3));

    let lazy =
        client_with(config(&server.uri()).retry(short_recovery().follow_running_tasks(false)));
    assert_eq!(lazy.ask("hi").await.unwrap().state(), &TaskState::Submitted);
}

#[tokio::test]
async fn without_lookups_a_running_task_is_returned_as_received() {
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("WORKING", "half")).mount(&server).await;
    let reply = client(&server).ask("hi").await.unwrap();
    assert_eq!((reply.text().as_str(), reply.state()), ("half", &TaskState::Working));
    assert!(reply.into_completed().unwrap_err().is_outcome_unknown());
}

#[tokio::test]
async fn a_task_that_runs_past_the_deadline_has_an_unknown_outcome() {
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("WORKING", "half")).mount(&server).await;
    Mock::given(path(GET)).respond_with(task_reply("WORKING", "half")).mount(&server).await;
    let error =
        client(&server).ask(Ask::new("hi").deadline(Duration::from_millis(700))).await.unwrap_err();
    assert!(error.is_timeout() && error.is_outcome_unknown() && error.task_id().is_some());
}

fn with_history(
    said: &'static str,
    at: &'static str,
) -> impl Fn(&wiremock::Request) -> ResponseTemplate {
    move |request: &wiremock::Request| {
        let body: Value = request.body_json().unwrap();
        assert!(body["params"]["historyLength"].as_u64().unwrap() > 0);
        let mut task = task(body["params"]["id"].as_str().unwrap(), "COMPLETED", "answered");
        task["history"] = json!([
            {"role": "user", "parts": [{"type": "text", "text": "Pay John"}]},
            {"role": "agent", "parts": [{"type": "text", "text": "which one?"}]},
            {"role": "user", "parts": [{"type": "text", "text": said}]},
        ]);
        task["status"]["timestamp"] = json!(at);
        json_answer(json!({"result": task}))
    }
}

#[tokio::test]
async fn a_lookup_of_a_continued_task_needs_the_message_in_its_history() {
    let before = "2025-06-27T16:31:41.510422505Z";
    let later = "2025-06-27T16:32:00Z";
    for (said, at, found) in
        [("the second", later, true), ("the first", later, false), ("the second", before, false)]
    {
        let server = MockServer::start().await;
        Mock::given(path(SEND))
            .respond_with(task_reply("INPUT_REQUIRED", "which one?"))
            .up_to_n_times(1)
            .mount(&server)
            .await;
        on(&server, SEND, ResponseTemplate::new(502)).await;
        Mock::given(path(GET)).respond_with(with_history(said, at)).mount(&server).await;
        let client = client(&server);
        let question = client.ask("Pay John").await.unwrap();
        let result = client.ask(question.answer("the second")).await;
        match result {
            Ok(reply) => assert!(found && reply.text() == "answered", "{said} {at}"),
            Err(error) => assert!(!found && error.is_outcome_unknown(), "{said} {at}: {error:?}"),
        }
        assert_eq!(count(&server, SEND).await, 2);
    }
}

#[tokio::test]
async fn a_rejected_token_that_cannot_be_refreshed_is_an_auth_error() {
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(401).set_body_string("Missing x-payman-access-token"))
        .await;
    let error = client(&server).ask("hi").await.unwrap_err();
    assert!(error.is_auth() && error.is_safe_to_ask_again(), "{error:?}");
    assert_eq!(count(&server, SEND).await, 1);
}

#[tokio::test]
async fn a_rejected_token_is_refreshed_once_and_the_ask_resent_once() {
    for (refusals, ok) in [(1, true), (2, false), (9, false)] {
        let server = MockServer::start().await;
        let token =
            json!({"accessToken": "new", "tokenType": "Bearer", "expiresIn": 3600, "scope": "s"});
        on(&server, TOKEN, json_answer(token)).await;
        first(
            &server,
            SEND,
            refusals,
            ResponseTemplate::new(401).set_body_json(json!({"error": "no"})),
        )
        .await;
        Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
        let client =
            payman_sdk::Client::with_credentials(config(&server.uri()).client_secret("s")).unwrap();
        let result = client.ask("hi").await;
        assert_eq!(result.is_ok(), ok, "{result:?}");
        if let Err(error) = result {
            assert!(error.is_auth() && error.is_safe_to_ask_again());
            assert_eq!(error.status(), Some(401));
        }
        let sends = requests_to(&server, SEND).await;
        assert_eq!(sends.len(), 2);
        assert_eq!(sends[0].body, sends[1].body);
        assert_eq!(count(&server, TOKEN).await, 2);
    }
}

#[tokio::test]
async fn a_401_that_contains_a_task_is_not_resent() {
    let server = MockServer::start().await;
    let body = json!({"result": {"id": "t", "status": {"state": "WORKING"}}});
    on(&server, SEND, ResponseTemplate::new(401).set_body_json(body)).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "found")).mount(&server).await;
    assert_eq!(client(&server).ask("hi").await.unwrap().text(), "found");
    assert_eq!(count(&server, SEND).await, 1);
}

#[tokio::test]
async fn lookups_and_cancel_requests_are_retried_within_the_limits() {
    let server = MockServer::start().await;
    first(&server, GET, 2, ResponseTemplate::new(502)).await;
    Mock::given(path(GET)).respond_with(task_reply("CANCELED", "")).mount(&server).await;
    first(&server, CANCEL, 1, ResponseTemplate::new(500)).await;
    on(&server, CANCEL, json_answer(rpc_error(-32002))).await;
    let client = client(&server);
    assert_eq!(client.get_task("tsk-1").await.unwrap().state(), &TaskState::Canceled);
    assert_eq!(count(&server, GET).await, 3);
    // The answer to the first cancel is lost. The second is refused because the task has ended,
    // so the client looks up its state.
    assert_eq!(client.cancel_task("tsk-1").await.unwrap().state(), &TaskState::Canceled);
    assert_eq!(count(&server, CANCEL).await, 2);
}

#[tokio::test]
async fn an_unsupported_operation_is_a_typed_error() {
    for answer in [404, 405, 501]
        .map(ResponseTemplate::new)
        .into_iter()
        .chain([-32601, -32004].map(|code| json_answer(rpc_error(code))))
    {
        let server = MockServer::start().await;
        on(&server, GET, answer.clone()).await;
        on(&server, CANCEL, answer).await;
        let client = client(&server);
        assert!(client.get_task("t").await.unwrap_err().is_unsupported());
        assert!(client.cancel_task("t").await.unwrap_err().is_unsupported());
    }
    let server = MockServer::start().await;
    on(&server, GET, json_answer(rpc_error(-32001))).await;
    assert_eq!(client(&server).get_task("t").await.unwrap_err().kind(), ErrorKind::TaskNotFound);
}
