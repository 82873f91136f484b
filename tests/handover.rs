//! Tests which failures prove that an ask was not sent, and what an answer proves: connections
//! that are never established, time limits, statuses, media types and error bodies.

#![cfg(test)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::raw::{Asked, events_head, serve};
use common::{GET, SEND, STREAM, TOKEN, client_with, config, on, requests_to, task, task_reply};
use payman_sdk::{Ask, Client, Config, Environment, ErrorKind, RetryPolicy};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

async fn is_not_done_in_time(client: &Client, limit: Duration) {
    for streamed in [false, true] {
        let started = Instant::now();
        let ask = Ask::new("hi").deadline(limit);
        let error = match streamed {
            false => client.ask(ask).await.unwrap_err(),
            true => client.ask_stream(ask).await.err().unwrap(),
        };
        let took = started.elapsed();
        assert!(error.is_timeout(), "{error:?}");
        assert!(error.is_safe_to_ask_again() && !error.is_outcome_unknown(), "{error:?}");
        assert!(error.task_id().is_some());
        assert!(took < limit + Duration::from_millis(250), "{took:?}");
    }
}

/// A resolver that takes a minute.
struct SlowNames;

impl reqwest::dns::Resolve for SlowNames {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Err("no such name".into())
        })
    }
}

#[tokio::test]
async fn a_deadline_that_passes_while_names_are_resolved_is_not_done() {
    let config = Config::new("id")
        .environment(Environment::Test)
        .configure_http(|http| http.no_proxy().dns_resolver(Arc::new(SlowNames)));
    is_not_done_in_time(&client_with(config), Duration::from_millis(400)).await;
}

#[tokio::test]
async fn a_deadline_that_passes_in_a_tls_handshake_is_not_done() {
    // It accepts, and never says a word of TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let client = client_with(config(&url).configure_http(|http| http.no_proxy()));
    is_not_done_in_time(&client, Duration::from_millis(400)).await;
}

#[tokio::test]
async fn a_deadline_that_passes_while_connections_are_not_accepted_is_not_done() {
    // The queue of the listener is full, so that further connections get no answer at all.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        let connecting = TcpStream::connect(address);
        if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), connecting).await {
            held.push(stream);
        }
    }
    let client = client_with(config(&format!("http://{address}")));
    is_not_done_in_time(&client, Duration::from_millis(400)).await;
}

#[tokio::test]
async fn a_deadline_that_is_over_sends_nothing() {
    let server = MockServer::start().await;
    let client = common::client(&server);
    is_not_done_in_time(&client, Duration::ZERO).await;
    let error = client.ask(Ask::new("hi").reply_timeout(Duration::ZERO)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_safe_to_ask_again(), "{error:?}");
    assert!(server.received_requests().await.unwrap().is_empty());
}

/// The request left: from then on a time limit says nothing of the ask.
#[tokio::test]
async fn a_deadline_that_passes_after_the_request_was_taken_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ask = Ask::new("hi").deadline(Duration::from_millis(300));
    let error = client_with(config(&url)).ask(ask).await.unwrap_err();
    assert!(error.is_timeout() && error.is_outcome_unknown(), "{error:?}");
}

/// The connection's runtime stands still: a later ask from another one either gets through on a
/// connection of its own, or was not done. It is never unknown.
#[test]
fn a_runtime_that_stands_still_makes_no_outcome_unknown() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let serving =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for h2 in [false, true] {
        let (url, client) = serving.block_on(async {
            let server = MockServer::start().await;
            Mock::given(path(SEND))
                .respond_with(task_reply("COMPLETED", "ok"))
                .mount(&server)
                .await;
            let config = config(&server.uri()).configure_http(move |http| match h2 {
                true => http.http2_prior_knowledge(),
                false => http,
            });
            let client = client_with(config);
            // Kept for as long as the process lives.
            (Box::leak(Box::new(server)).uri(), client)
        });
        let still = runtime();
        still.block_on(client.ask("first")).unwrap();
        // From here on nobody drives `still`.
        let ask = Ask::new("second").deadline(Duration::from_millis(700));
        match runtime().block_on(client.ask(ask)) {
            Ok(reply) => assert_eq!(reply.text(), "ok"),
            Err(error) => assert!(error.is_safe_to_ask_again(), "{h2} {url}: {error:?}"),
        }
        drop(still);
        // Nor does the end of a runtime.
        match runtime().block_on(client.ask(Ask::new("third").deadline(Duration::from_secs(5)))) {
            Ok(reply) => assert_eq!(reply.text(), "ok"),
            Err(error) => assert!(error.is_safe_to_ask_again(), "{h2}: {error:?}"),
        }
    }
}

/// A resolver that knows no name, and counts.
#[derive(Clone, Default)]
struct NoNames(Arc<AtomicUsize>);

impl reqwest::dns::Resolve for NoNames {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err("no such name".into()) })
    }
}

#[tokio::test]
async fn asks_without_time_for_a_retry_cost_no_retry_budget() {
    let names = NoNames::default();
    let resolver = names.clone();
    let config = Config::new("id")
        .environment(Environment::Test)
        .retry(RetryPolicy::default().connect_retries(3))
        .configure_http(move |http| http.no_proxy().dns_resolver(resolver.clone()));
    let client = client_with(config);
    let hurried = (0..400).map(|_| client.ask(Ask::new("hi").deadline(Duration::from_millis(40))));
    for result in futures::future::join_all(hurried).await {
        assert!(result.unwrap_err().is_safe_to_ask_again());
    }
    let before = names.0.load(Ordering::SeqCst);
    assert!(client.ask("hi").await.unwrap_err().is_connect());
    assert_eq!(names.0.load(Ordering::SeqCst), before + 4);
}

#[tokio::test]
async fn what_a_status_proves() {
    for at in [SEND, STREAM] {
        let statuses =
            [(501, true), (406, false), (409, true), (408, false), (460, false), (499, false)];
        for (status, not_done) in statuses {
            let server = MockServer::start().await;
            on(&server, at, ResponseTemplate::new(status)).await;
            let client = common::client(&server);
            let error = match at {
                SEND => client.ask("hi").await.unwrap_err(),
                _ => client.ask_stream("hi").await.err().unwrap(),
            };
            assert_eq!(error.is_safe_to_ask_again(), not_done, "{at} {status}: {error:?}");
            assert_eq!(error.is_outcome_unknown(), !not_done, "{at} {status}: {error:?}");
            assert_eq!(requests_to(&server, at).await.len(), 1);
            assert_eq!(requests_to(&server, GET).await.is_empty(), not_done);
        }
        let server = MockServer::start().await;
        on(&server, at, common::json_answer(common::rpc_error(-32004))).await;
        let client = common::client(&server);
        let error = match at {
            SEND => client.ask("hi").await.unwrap_err(),
            _ => client.ask_stream("hi").await.err().unwrap(),
        };
        assert!(error.is_unsupported() && error.is_safe_to_ask_again(), "{error:?}");
    }
}

/// A server that acts and then may not write its error answers 406: the answer is found.
#[tokio::test]
async fn after_a_406_the_answer_is_found() {
    let server = MockServer::start().await;
    on(&server, STREAM, ResponseTemplate::new(406)).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "paid")).mount(&server).await;
    let events = common::client(&server).ask_stream("hi").await.unwrap();
    assert_eq!(events.into_reply().await.unwrap().text(), "paid");
    assert_eq!(requests_to(&server, STREAM).await.len(), 1);
}

#[tokio::test]
async fn accept_headers_leave_room_for_errors() {
    let server = MockServer::start().await;
    let token = json!({"accessToken": "a", "tokenType": "Bearer", "expiresIn": 3600});
    on(&server, TOKEN, common::json_answer(token)).await;
    let client = Client::with_credentials(config(&server.uri()).client_secret("s")).unwrap();
    let _ = client.ask("hi").await;
    let _ = client.ask_stream("hi").await;
    let _ = client.get_task("tsk-1").await;
    let _ = client.cancel_task("tsk-1").await;
    let json = "application/json, */*;q=0.1";
    let events = "text/event-stream, application/json, */*;q=0.1";
    for (at, accept) in
        [(TOKEN, json), (SEND, json), (STREAM, events), (GET, json), (common::CANCEL, json)]
    {
        let requests = requests_to(&server, at).await;
        assert!(!requests.is_empty(), "{at}");
        for request in requests {
            assert_eq!(request.headers["accept"], accept, "{at}");
        }
    }
    // The resubscribed stream too.
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    let server = serve(move |asked: Asked| {
        heads.lock().unwrap().push(asked.path.clone());
        match asked.path.as_str() {
            STREAM => vec![events_head()],
            GET => vec![common::raw::json_reply(
                &json!({"result": task(asked.task_id(), "COMPLETED", "x")}),
            )],
            _ => common::raw::not_found(),
        }
    })
    .await;
    let events = client_with(config(&server.url)).ask_stream("hi").await.unwrap();
    assert_eq!(events.into_reply().await.unwrap().text(), "x");
    assert_eq!(seen.lock().unwrap().as_slice(), [STREAM, GET]);
}

#[tokio::test]
async fn an_error_body_of_the_rest_api_is_read() {
    let server = MockServer::start().await;
    let body = json!({
        "status": 400, "timestamp": "2025-06-27T16:31:41Z", "errorCode": "insufficient_funds",
        "message": "The wallet holds $5.\nIt needs $50.",
    });
    on(&server, SEND, ResponseTemplate::new(400).set_body_json(body)).await;
    let error = common::client(&server).ask("hi").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("The wallet holds $5. It needs $50.") && text.contains("400"), "{text}");
    assert_eq!(error.error_code(), Some("insufficient_funds"));
    assert_eq!((error.kind(), error.status()), (ErrorKind::Http, Some(400)));
    assert!(error.is_safe_to_ask_again());

    for (body, code) in [
        (json!({"errorCode": "not_allowed"}), Some("not_allowed")),
        (json!({"errorCode": 17, "message": null}), Some("17")),
        (json!({"errorCode": null, "message": ["odd"]}), None),
        (json!(["odd"]), None),
    ] {
        let server = MockServer::start().await;
        on(&server, SEND, ResponseTemplate::new(500).set_body_json(&body)).await;
        let error = common::client(&server).ask("hi").await.unwrap_err();
        assert_eq!(error.error_code(), code, "{body}");
        assert!(error.is_outcome_unknown(), "{body}");
    }
}
