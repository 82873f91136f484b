//! Tests spans, the completion hook, asks that are sent once, request headers, and chosen task ids.

#![cfg(test)]

mod common;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::{RawRequest, Step, events_head, json_reply, not_found, serve};
use common::{CANCEL, GET, SEND, STREAM, client_with, config, on, requests_to, task, task_reply};
use futures::StreamExt;
use payman_sdk::{
    Ask, AskKind, AskOutcome, AskSummary, Client, ErrorKind, RetryPolicy, TaskId, TaskState,
};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Id, Instrument, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

#[derive(Clone, Debug, Default)]
struct RecordedSpan {
    name: &'static str,
    parent: Option<&'static str>,
    fields: HashMap<&'static str, String>,
    closed: bool,
}

/// Records every span.
#[derive(Clone, Default)]
struct SpanRecorder(Arc<Mutex<Vec<(u64, RecordedSpan)>>>);

struct FieldRecorder<'a>(&'a mut HashMap<&'static str, String>);

impl Visit for FieldRecorder<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanRecorder {
    fn on_new_span(&self, new: &tracing::span::Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let parent = ctx.span(id).and_then(|span| span.parent()).map(|parent| parent.name());
        let mut span =
            RecordedSpan { name: new.metadata().name(), parent, ..RecordedSpan::default() };
        new.record(&mut FieldRecorder(&mut span.fields));
        self.0.lock().unwrap().push((id.into_u64(), span));
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, _: Context<'_, S>) {
        self.update(id, |span| values.record(&mut FieldRecorder(&mut span.fields)));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.update(&id, |span| span.closed = true);
    }
}

impl SpanRecorder {
    /// Updates the open span with this id. The ids of closed spans are reused.
    fn update(&self, id: &Id, act: impl FnOnce(&mut RecordedSpan)) {
        let mut spans = self.0.lock().unwrap();
        let open = spans.iter_mut().rev().find(|(of, span)| *of == id.into_u64() && !span.closed);
        if let Some((_, span)) = open {
            act(span);
        }
    }

    fn named(&self, name: &str) -> Vec<RecordedSpan> {
        let spans = self.0.lock().unwrap();
        spans.iter().map(|(_, span)| span).filter(|span| span.name == name).cloned().collect()
    }

    /// Returns the only span with this name, and asserts that it is closed.
    fn closed_span(&self, name: &str) -> RecordedSpan {
        let named = self.named(name);
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(named[0].closed, "{named:?}");
        named[0].clone()
    }
}

/// Runs the tests of this file one at a time. The set of enabled spans is cached for the whole
/// process, so another test's subscriber would change it during a test.
async fn exclusive() -> tokio::sync::MutexGuard<'static, ()> {
    static EXCLUSIVE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    EXCLUSIVE.lock().await
}

fn record_spans() -> (SpanRecorder, tracing::subscriber::DefaultGuard) {
    let spans = SpanRecorder::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone().with_filter(
        tracing_subscriber::filter::filter_fn(|metadata| {
            !metadata.target().starts_with("h2") && !metadata.target().starts_with("hyper")
        }),
    ));
    (spans, tracing::subscriber::set_default(subscriber))
}

fn event(result: &Value) -> Vec<u8> {
    format!("data: {}\n\n", json!({"result": result})).into_bytes()
}

/// Starts a server whose streams end in the way that the text of the ask names.
async fn server() -> common::raw::RawServer {
    serve(|request: RawRequest| {
        let text = request.body["params"]["message"]["parts"][0]["text"].as_str().unwrap_or("");
        let path = request.path.clone();
        let task_id = request.body["params"]["id"].as_str().unwrap().to_owned();
        let working = event(&json!({"id": task_id, "status": {"state": "WORKING"}}));
        let done = json!({"id": task_id, "status": {"state": "COMPLETED"}, "final": true});
        match (path.as_str(), text) {
            (STREAM, "refused") => vec![Step::Send(
                b"HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
            )],
            (STREAM, "cut") => vec![events_head(), Step::Send(working)],
            (STREAM, "long") => vec![events_head(), Step::Send(working), Step::Stall],
            (STREAM, _) => vec![events_head(), Step::Send(working), Step::Send(event(&done))],
            (SEND, _) => vec![json_reply(&json!({"result": task(&task_id, "COMPLETED", "ok")}))],
            (GET, _) if text.is_empty() && task_id.starts_with("tsk-known") => {
                vec![json_reply(&json!({"result": task(&task_id, "COMPLETED", "ok")}))]
            }
            _ => not_found(),
        }
    })
    .await
}

#[tokio::test]
async fn the_span_of_each_ask_closes_with_the_ask() {
    let _exclusive = exclusive().await;
    let server = server().await;
    let client = client_with(config(&server.url));

    // The span closes at the end of the stream, although the stream is not dropped yet.
    let (spans, guard) = record_spans();
    let mut events = client.ask_stream("whole").await.unwrap();
    while let Some(event) = events.next().await {
        event.unwrap();
    }
    assert_eq!(spans.closed_span("stream").fields["state"], "completed");
    assert!(spans.closed_span("stream").fields.contains_key("duration_ms"));
    drop((events, guard));

    let (spans, _guard) = record_spans();
    assert!(client.ask_stream("refused").await.is_err());
    assert_eq!(spans.closed_span("stream").fields["state"], "error");

    let (spans, _guard) = record_spans();
    let mut events = client.ask_stream("cut").await.unwrap();
    while events.next().await.is_some() {}
    assert_eq!(spans.closed_span("stream").fields["state"], "error");
    drop(events);

    let (spans, _guard) = record_spans();
    let mut events = client.ask_stream("long").await.unwrap();
    events.next().await.unwrap().unwrap();
    assert!(!spans.named("stream")[0].closed);
    drop(events);
    assert_eq!(spans.closed_span("stream").fields["state"], "working");

    let (spans, _guard) = record_spans();
    client.ask("whole").await.unwrap();
    assert_eq!(spans.closed_span("ask").fields["state"], "completed");
    assert_eq!(spans.closed_span("attempt").fields["status"], "200");

    let (spans, _guard) = record_spans();
    let events = client.follow("tsk-known").await.unwrap();
    assert_eq!(events.into_reply().await.unwrap().text(), "ok");
    assert_eq!(spans.closed_span("follow").fields["state"], "completed");
}

#[tokio::test]
async fn spans_are_children_of_the_callers_span_and_do_not_change_its_fields() {
    let _exclusive = exclusive().await;
    let server = server().await;
    let client = client_with(config(&server.url));
    let mine = || {
        info_span!(
            target: "mine", "mine", state = "mine", status = "mine", duration_ms = "mine",
                attempt = "mine"
        )
    };
    let untouched = |span: &RecordedSpan| span.fields.values().all(|value| value == "mine");

    let (spans, _guard) = record_spans();
    let events = client.ask_stream("whole").instrument(mine()).await.unwrap();
    events.into_reply().await.unwrap();
    client.ask("whole").instrument(mine()).await.unwrap();
    assert_eq!(spans.closed_span("stream").parent, Some("mine"));
    assert_eq!(spans.closed_span("ask").parent, Some("mine"));
    assert!(spans.named("mine").iter().all(untouched), "{:?}", spans.named("mine"));

    // The same if the SDK's own spans are disabled.
    let spans = SpanRecorder::default();
    let only_mine = tracing_subscriber::filter::filter_fn(|of| of.target() == "mine");
    let subscriber = tracing_subscriber::registry().with(only_mine).with(spans.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    async {
        client.ask("whole").await.unwrap();
        client.ask_stream("cut").await.unwrap().into_reply().await.unwrap_err();
        client.ask_stream("refused").await.unwrap_err();
        client.get_task("tsk-known").await.unwrap();
    }
    .instrument(mine())
    .await;
    assert!(spans.named("mine").iter().all(untouched), "{:?}", spans.named("mine"));
    assert_eq!(spans.named("ask").len(), 0);
}

#[tokio::test]
async fn ids_of_a_server_are_escaped_in_spans() {
    let _exclusive = exclusive().await;
    let server = server().await;
    let client = client_with(config(&server.url));
    let (spans, _guard) = record_spans();
    client.ask(Ask::new("whole").session("ses-\u{202e}1\u{9b}\n2")).await.unwrap();
    assert_eq!(spans.closed_span("ask").fields["session_id"], r"ses-\u{202e}1\u{9b}\n2");
}

#[tokio::test]
async fn the_completion_hook_is_called_once_for_each_ask() {
    let _exclusive = exclusive().await;
    let server = server().await;
    let summaries: Arc<Mutex<Vec<AskSummary>>> = Arc::default();
    let sink = Arc::clone(&summaries);
    let client = client_with(
        config(&server.url)
            .on_ask_completed(move |summary| sink.lock().unwrap().push(summary.clone())),
    );
    let last = || summaries.lock().unwrap().drain(..).collect::<Vec<_>>();

    client.ask("whole").await.unwrap();
    let summary = last().remove(0);
    assert_eq!(
        (summary.kind, summary.outcome, summary.state, summary.attempts),
        (AskKind::Ask, AskOutcome::Answered, TaskState::Completed, 1)
    );

    let mut events = client.ask_stream("whole").await.unwrap();
    while events.next().await.is_some() {}
    assert_eq!(last().len(), 1);
    drop(events);
    assert!(last().is_empty());

    assert!(client.ask_stream("refused").await.is_err());
    let summary = last().remove(0);
    assert_eq!((summary.kind, summary.outcome), (AskKind::Stream, AskOutcome::NotDone));

    assert!(client.ask_stream("cut").await.unwrap().into_reply().await.is_err());
    let summary = last().remove(0);
    assert_eq!((summary.outcome, summary.state), (AskOutcome::Unknown, TaskState::Working));

    drop(client.ask_stream("long").await.unwrap());
    assert_eq!(last().remove(0).outcome, AskOutcome::Abandoned);

    client.follow("tsk-known").await.unwrap().into_reply().await.unwrap();
    assert_eq!(last().remove(0).kind, AskKind::Follow);

    // The hook is not called for a future that was never polled.
    drop(client.ask("whole"));
    assert!(last().is_empty());
}

#[tokio::test]
async fn clones_of_one_ask_are_sent_once() {
    let _exclusive = exclusive().await;
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let client = common::client(&server);
    let ask = Ask::new("Pay Tyllen $50");
    let (first, again, streamed) = (ask.clone(), ask.clone(), ask.clone());
    // Both are cloned before the first is sent, and sent at the same time.
    let (first, second) = futures::join!(client.ask(first), client.ask(again));
    assert!(first.is_ok() != second.is_ok());
    let refused = [
        first.err().or(second.err()).unwrap(),
        client.ask_stream(streamed).await.unwrap_err(),
        client.new_session().ask(ask.deadline(Duration::from_secs(9))).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("was sent already"), "{error}");
        // The first clone was done, so the error must not claim that nothing was.
        assert!(!error.is_safe_to_ask_again() && error.task_id().is_some(), "{error:?}");
    }
    assert_eq!(requests_to(&server, SEND).await.len(), 1);
}

#[tokio::test]
async fn an_ask_that_was_not_done_may_be_sent_again() {
    let _exclusive = exclusive().await;
    let server = MockServer::start().await;
    common::first(&server, SEND, 1, ResponseTemplate::new(403)).await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let client = common::client(&server);
    let ask = Ask::new("hi");
    assert!(client.ask(ask.clone()).await.unwrap_err().is_safe_to_ask_again());
    assert!(client.ask(ask.clone()).await.is_ok());
    assert!(client.ask(ask.clone()).await.is_err());
    // An ask with another task id is a new ask.
    assert!(client.ask(ask.clone().with_task_id(TaskId::new())).await.is_ok());
    assert!(client.ask(ask.continue_task("tsk-other")).await.is_ok());

    // An ask whose outcome is unknown counts as sent.
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(500)).await;
    let (client, ask) = (common::client(&server), Ask::new("hi"));
    assert!(client.ask(ask.clone()).await.unwrap_err().is_outcome_unknown());
    assert!(client.ask(ask).await.unwrap_err().is_invalid_input());
    assert_eq!(requests_to(&server, SEND).await.len(), 1);
}

#[tokio::test]
async fn a_chosen_task_id_is_used() {
    let _exclusive = exclusive().await;
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let client = common::client(&server);
    let id = TaskId::from("order-4711");
    let ask = Ask::new("hi").with_task_id(&id);
    assert_eq!(ask.task_id(), &id);
    assert_eq!(client.ask(ask).await.unwrap().task_id(), &id);
    let error = client.ask(Ask::new("hi").with_task_id(" ")).await.unwrap_err();
    assert!(error.is_invalid_input());
    assert_eq!(requests_to(&server, SEND).await.len(), 1);

    // Another process may have sent it before, so a conflict does not prove that nothing was done.
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(409)).await;
    let error = common::client(&server).ask(Ask::new("hi").with_task_id(&id)).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
}

#[tokio::test]
async fn headers_are_sent_with_an_ask_and_its_lookups() {
    let _exclusive = exclusive().await;
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(502)).await;
    on(&server, STREAM, ResponseTemplate::new(502)).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let client = common::client(&server);
    let ask = || {
        Ask::new("hi")
            .header("traceparent", "00-1-2-01")
            .header("x-gateway", "a")
            .header("X-Gateway", String::from("b"))
            .header("authorization", "Bearer gateway")
            .header("accept", "text/html")
            .header("Content-Type", "text/html")
            .header("Content-Length", "1")
            .header("user-agent", "mine")
            .header("host", "example.com")
            .header("x-payman-access-token", "stolen")
    };
    assert!(!format!("{:?}", ask()).contains("00-1-2-01"));
    client.ask(ask()).await.unwrap();
    client.ask_stream(ask()).await.unwrap().into_reply().await.unwrap();
    for (at, sent) in [(SEND, 1), (STREAM, 1), (GET, 2)] {
        let requests = requests_to(&server, at).await;
        assert_eq!(requests.len(), sent, "{at}");
        for request in requests {
            assert_eq!(request.headers["traceparent"], "00-1-2-01", "{at}");
            assert_eq!(request.headers["authorization"], "Bearer gateway", "{at}");
            let values: Vec<_> = request.headers.get_all("x-gateway").iter().collect();
            assert_eq!(values, ["a", "b"], "{at}");
            assert_eq!(request.headers["x-payman-access-token"], "access-token", "{at}");
            assert_eq!(request.headers["content-type"], "application/json", "{at}");
            assert!(request.headers["accept"].to_str().unwrap().contains("json"), "{at}");
            assert!(request.headers["user-agent"].to_str().unwrap().starts_with("payman"), "{at}");
            assert!(request.headers["host"].to_str().unwrap().starts_with("127.0.0.1"), "{at}");
        }
    }
}

#[tokio::test]
async fn an_invalid_header_is_refused_without_a_request() {
    let _exclusive = exclusive().await;
    let server = MockServer::start().await;
    let client = common::client(&server);
    for (name, value) in
        [("", "x"), ("with space", "x"), ("x-line", "a\r\nb: c"), ("x-nul", "\0"), ("é", "x")]
    {
        let error = client.ask(Ask::new("hi").header(name, value)).await.unwrap_err();
        assert!(error.is_invalid_input() && error.is_safe_to_ask_again(), "{name:?}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("b: c"));
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_task_is_followed_by_its_id() {
    let _exclusive = exclusive().await;
    let server = MockServer::start().await;
    let first = Mock::given(path(GET)).respond_with(task_reply("WORKING", "half"));
    first.up_to_n_times(2).mount(&server).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "whole")).mount(&server).await;
    let client = common::client(&server);
    let events: Vec<_> = client.follow("tsk-1").await.unwrap().collect().await;
    let states: Vec<_> =
        events.iter().map(|event| event.as_ref().unwrap().state().unwrap().clone()).collect();
    assert_eq!(states, [TaskState::Working, TaskState::Completed]);
    let reply = client.follow(TaskId::from("tsk-1")).await.unwrap().into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.task_id().as_str()), ("whole", "tsk-1"));
    assert!(requests_to(&server, SEND).await.is_empty());

    let error = client.follow(" ").await.unwrap_err();
    assert!(error.is_invalid_input());
    let unsupported = MockServer::start().await;
    let client: Client = common::client(&unsupported);
    assert!(client.follow("tsk-1").await.unwrap_err().is_unsupported());
    on(&unsupported, CANCEL, ResponseTemplate::new(500)).await;
    // `follow` polls even if the retry policy does not follow running tasks.
    let server = MockServer::start().await;
    let first = Mock::given(path(GET)).respond_with(task_reply("WORKING", "half"));
    first.up_to_n_times(1).mount(&server).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "whole")).mount(&server).await;
    let client = client_with(config(&server.uri()).retry(RetryPolicy::none()));
    let reply = client.follow("tsk-1").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.text(), "whole");
}

/// An ask that is dropped before it was sent can be sent later.
#[tokio::test]
async fn an_ask_that_got_no_token_was_not_sent() {
    let _exclusive = exclusive().await;
    let stalled = serve(|_| vec![Step::Stall]).await;
    let client =
        Client::with_credentials(config(&stalled.url).client_secret("client-secret")).unwrap();
    let ask = Ask::new("hi");
    let waiting = tokio::time::timeout(Duration::from_millis(100), client.ask(ask.clone())).await;
    assert!(waiting.is_err());
    let late = client.ask(ask.clone().deadline(Duration::from_millis(100))).await.unwrap_err();
    assert!(late.is_timeout() && late.is_safe_to_ask_again(), "{late:?}");

    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    assert!(common::client(&server).ask(ask.clone()).await.is_ok());
    // From then on, a clone that fails before it is sent does not claim that nothing was done.
    let late = ask.clone().deadline(Duration::ZERO);
    let error = common::client(&server).ask(late).await.unwrap_err();
    assert!(error.is_invalid_input() && !error.is_safe_to_ask_again(), "{error:?}");
    assert!(common::client(&server).ask(ask).await.unwrap_err().is_invalid_input());
    assert_eq!(requests_to(&server, SEND).await.len(), 1);
}
