//! Tests which failures and answers prove that an ask was not done: connections
//! that are never established, time limits, statuses, media types and error bodies.

#![cfg(test)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::dns::unresolvable;
use common::events::{event, status_event};
use common::raw::{RawRequest, Step, events_head, json_reply, not_found, serve};
use common::{GET, SEND, STREAM, TOKEN, client_with, config, on, requests_to, task, task_reply};
use payman_sdk::{Ask, Client, Config, Environment, ErrorKind, RetryPolicy};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Asserts that asks time out within the limit, and are safe to send again.
async fn assert_times_out_unsent(client: &Client, limit: Duration) {
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

/// A DNS resolver that takes a minute.
struct SlowResolver;

impl reqwest::dns::Resolve for SlowResolver {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Err("no such name".into())
        })
    }
}

#[tokio::test]
async fn a_deadline_during_name_resolution_is_safe_to_ask_again() {
    let config = Config::new("id")
        .environment(Environment::Test)
        .configure_http(|http| http.no_proxy().dns_resolver(Arc::new(SlowResolver)));
    assert_times_out_unsent(&client_with(config), Duration::from_millis(400)).await;
}

#[tokio::test]
async fn a_deadline_during_the_tls_handshake_is_safe_to_ask_again() {
    // The listener accepts connections, but never answers the TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let client = client_with(config(&url).configure_http(|http| http.no_proxy()));
    assert_times_out_unsent(&client, Duration::from_millis(400)).await;
}

#[tokio::test]
async fn a_deadline_during_the_tcp_handshake_is_safe_to_ask_again() {
    // The listener's backlog is full, so further SYN packets get no answer.
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
    assert_times_out_unsent(&client, Duration::from_millis(400)).await;
}

#[tokio::test]
async fn an_expired_deadline_sends_nothing() {
    let server = MockServer::start().await;
    let client = common::client(&server);
    assert_times_out_unsent(&client, Duration::ZERO).await;
    let error = client.ask(Ask::new("hi").reply_timeout(Duration::ZERO)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_safe_to_ask_again(), "{error:?}");
    assert!(server.received_requests().await.unwrap().is_empty());
}

/// The token endpoint does not respond, so no byte of the ask is sent.
#[tokio::test]
async fn a_deadline_that_passes_while_a_token_is_awaited_is_not_done() {
    let server = serve(|_| vec![Step::Stall]).await;
    let with_secret = config(&server.url).client_secret("s");
    let client = Client::with_credentials(with_secret.clone()).unwrap();
    assert_times_out_unsent(&client, Duration::from_millis(400)).await;
    // By the client's own deadline too.
    let limit = Duration::from_millis(300);
    let client = Client::with_credentials(with_secret.deadline(limit)).unwrap();
    let started = Instant::now();
    let error = client.ask("hi").await.unwrap_err();
    assert!(error.is_timeout() && error.is_safe_to_ask_again(), "{error:?}");
    assert!(started.elapsed() < limit + Duration::from_millis(250), "{:?}", started.elapsed());
    // A call about an existing task ends in time as well, and says nothing of an ask.
    let started = Instant::now();
    let error = client.get_task("tsk-1").await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert!(!error.is_safe_to_ask_again() && !error.is_outcome_unknown(), "{error:?}");
    assert!(started.elapsed() < limit + Duration::from_millis(250), "{:?}", started.elapsed());
}

/// The first token is refused, and the second never comes: the refusal proves that nothing was
/// done.
#[tokio::test]
async fn a_deadline_that_passes_while_a_refused_token_is_renewed_is_not_done() {
    for at in [SEND, STREAM] {
        let tokens = AtomicUsize::new(0);
        let server = serve(move |request: RawRequest| {
            if !request.path.starts_with(TOKEN) {
                let head = "HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                return vec![Step::Send(head.as_bytes().to_vec())];
            }
            match tokens.fetch_add(1, Ordering::SeqCst) {
                0 => vec![json_reply(&json!({"accessToken": "a", "expiresIn": 3600}))],
                _ => vec![Step::Stall],
            }
        })
        .await;
        let client = Client::with_credentials(config(&server.url).client_secret("s")).unwrap();
        let limit = Duration::from_millis(600);
        let ask = Ask::new("hi").deadline(limit);
        let started = Instant::now();
        let error = match at {
            SEND => client.ask(ask).await.unwrap_err(),
            _ => client.ask_stream(ask).await.err().unwrap(),
        };
        assert!(error.is_timeout() && error.is_safe_to_ask_again(), "{at}: {error:?}");
        assert!(started.elapsed() < limit + Duration::from_millis(250), "{:?}", started.elapsed());
        assert_eq!(server.requests.load(Ordering::SeqCst), 3, "{at}");
    }
}

/// Once the request has been sent, a timeout proves nothing about the outcome.
#[tokio::test]
async fn a_deadline_after_the_request_was_sent_has_an_unknown_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ask = Ask::new("hi").deadline(Duration::from_millis(300));
    let error = client_with(config(&url)).ask(ask).await.unwrap_err();
    assert!(error.is_timeout() && error.is_outcome_unknown(), "{error:?}");
}

/// The pooled connection belongs to a runtime that no longer runs. An ask from another runtime
/// either succeeds on a new connection or is safe to send again; its outcome is never unknown.
#[test]
fn a_stopped_runtime_leaves_no_outcome_unknown() {
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
            // The server is leaked: it has to outlive this runtime's block.
            (Box::leak(Box::new(server)).uri(), client)
        });
        let stopped = runtime();
        stopped.block_on(client.ask("first")).unwrap();
        // From here on, nothing polls the tasks of `stopped`.
        let ask = Ask::new("second").deadline(Duration::from_millis(700));
        match runtime().block_on(client.ask(ask)) {
            Ok(reply) => assert_eq!(reply.text(), "ok"),
            Err(error) => assert!(error.is_safe_to_ask_again(), "{h2} {url}: {error:?}"),
        }
        drop(stopped);
        // Dropping the runtime leaves no unknown outcome either.
        match runtime().block_on(client.ask(Ask::new("third").deadline(Duration::from_secs(5)))) {
            Ok(reply) => assert_eq!(reply.text(), "ok"),
            Err(error) => assert!(error.is_safe_to_ask_again(), "{h2}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn asks_without_time_for_a_retry_use_no_retry_budget() {
    let (client, resolver) = unresolvable(3);
    let short_asks =
        (0..400).map(|_| client.ask(Ask::new("hi").deadline(Duration::from_millis(40))));
    for result in futures::future::join_all(short_asks).await {
        assert!(result.unwrap_err().is_safe_to_ask_again());
    }
    let before = resolver.lookups();
    assert!(client.ask("hi").await.unwrap_err().is_connect());
    assert_eq!(resolver.lookups(), before + 4);
}

/// The outcome that each status proves, without a body that says more: true for "not done".
const STATUSES: [(u16, bool); 38] = [
    (400, true),
    (402, true),
    (403, true),
    (404, true),
    (405, true),
    // Answered by servers that acted, and then may not write their error.
    (406, false),
    // Answered by gateways for a request that is under way.
    (408, false),
    // To the first request with a new id.
    (409, true),
    (410, true),
    (412, true),
    (413, true),
    (415, true),
    // Another server was meant: this one did not act.
    (421, true),
    (422, true),
    // Locked: to the first request with a new id, it is not this ask that is under way.
    (423, true),
    // One step failed; another may have been done before it.
    (424, false),
    // The server would not act on what may be a replay.
    (425, true),
    (426, true),
    (428, true),
    (431, true),
    (451, true),
    // Gateways: the client left.
    (460, false),
    (499, false),
    (500, false),
    (501, true),
    (502, false),
    (503, false),
    (504, false),
    (505, false),
    (507, false),
    (508, false),
    (511, false),
    (520, false),
    (523, false),
    (526, false),
    (530, false),
    (598, false),
    (599, false),
];

/// No status of a gateway or of a failure is taken for a refusal.
#[tokio::test]
async fn no_5xx_but_501_says_that_nothing_was_done() {
    for status in (500..600).filter(|status| *status != 501) {
        let server = MockServer::start().await;
        on(&server, SEND, ResponseTemplate::new(status)).await;
        let policy = RetryPolicy::none();
        let client = client_with(config(&server.uri()).retry(policy));
        let error = client.ask("hi").await.unwrap_err();
        assert!(error.is_outcome_unknown() && !error.is_safe_to_ask_again(), "{status}: {error:?}");
        assert_eq!(requests_to(&server, SEND).await.len(), 1, "{status}");
    }
}

/// A conflict or a lock on an id that the server may know from before may be about this very ask.
#[tokio::test]
async fn a_conflict_or_a_lock_on_an_id_that_was_chosen_is_looked_up() {
    for status in [409, 423] {
        let server = MockServer::start().await;
        on(&server, SEND, ResponseTemplate::new(status)).await;
        on(&server, STREAM, ResponseTemplate::new(status)).await;
        Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "paid")).mount(&server).await;
        let client = common::client(&server);
        let ask = || Ask::new("hi").with_task_id("tsk-chosen");
        assert_eq!(client.ask(ask()).await.unwrap().text(), "paid", "{status}");
        let events = client.ask_stream(ask()).await.unwrap();
        assert_eq!(events.into_reply().await.unwrap().text(), "paid", "{status}");
        // A new id cannot be in conflict with itself.
        assert!(client.ask("hi").await.unwrap_err().is_safe_to_ask_again(), "{status}");
    }
}

#[tokio::test]
async fn each_status_is_classified_as_not_done_or_unknown() {
    for at in [SEND, STREAM] {
        let runs = STATUSES.into_iter().map(|(status, not_done)| async move {
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
        });
        futures::future::join_all(runs).await;
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

/// A server may answer 406 after it acted, if its error has an unacceptable media type.
#[tokio::test]
async fn a_406_is_looked_up() {
    let server = MockServer::start().await;
    on(&server, STREAM, ResponseTemplate::new(406)).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "paid")).mount(&server).await;
    let events = common::client(&server).ask_stream("hi").await.unwrap();
    assert_eq!(events.into_reply().await.unwrap().text(), "paid");
    assert_eq!(requests_to(&server, STREAM).await.len(), 1);
}

#[tokio::test]
async fn accept_headers_allow_other_types_for_errors() {
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
    // A stream that ends early is looked up, not sent again.
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    let server = serve(move |request: RawRequest| {
        heads.lock().unwrap().push(request.path.clone());
        match request.path.as_str() {
            STREAM => vec![events_head()],
            GET => vec![common::raw::json_reply(
                &json!({"result": task(request.task_id(), "COMPLETED", "x")}),
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
async fn an_error_body_of_the_rest_api_is_parsed() {
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

/// A clone may be sent only where the first event of the stream refused the ask.
#[tokio::test]
async fn a_clone_of_a_streamed_ask_is_sent_only_after_a_refusal() {
    /// Returns the events of a stream about the task with this id.
    type EventsOf = fn(&str) -> String;

    fn refusal() -> String {
        event(&json!({"jsonrpc": "2.0", "id": "r", "error": {"code": -32602, "message": "no"}}))
    }
    let cases: [(&str, EventsOf, usize); 4] = [
        ("refused", |_| refusal(), 2),
        ("begun, then an error", |id| status_event(id, "WORKING", false) + &refusal(), 1),
        ("begun, then cut", |id| status_event(id, "WORKING", false), 1),
        ("cut before any event", |_| String::new(), 1),
    ];
    for (case, events, sends) in cases {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let server = serve(move |request: RawRequest| {
            if request.path != STREAM {
                return not_found();
            }
            counted.fetch_add(1, Ordering::SeqCst);
            vec![events_head(), Step::Send(events(request.task_id()).into_bytes())]
        })
        .await;
        let retry = RetryPolicy::default().recovery_timeout(Duration::from_millis(200));
        let client = client_with(config(&server.url).retry(retry));
        let ask = Ask::new("hi");
        let first = client.ask_stream(ask.clone()).await.unwrap().into_reply().await.unwrap_err();
        assert_eq!(first.is_safe_to_ask_again(), sends == 2, "{case}: {first:?}");
        let second = async { client.ask_stream(ask).await?.into_reply().await };
        let second = second.await.unwrap_err();
        assert_eq!(second.is_invalid_input(), sends == 1, "{case}: {second:?}");
        assert_eq!(second.is_safe_to_ask_again(), sends == 2, "{case}: {second:?}");
        assert_eq!(sent.load(Ordering::SeqCst), sends, "{case}");
    }
}
