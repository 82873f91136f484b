//! Spans and the hook of asks; asks that are sent once; headers; ids chosen in advance.

#![cfg(test)]

mod common;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::{Asked, Step, events_head, json_reply, not_found, serve};
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
struct Recorded {
    name: &'static str,
    parent: Option<&'static str>,
    fields: HashMap<&'static str, String>,
    closed: bool,
}

/// Records every span.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(u64, Recorded)>>>);

struct Fields<'a>(&'a mut HashMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, new: &tracing::span::Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let parent = ctx.span(id).and_then(|span| span.parent()).map(|parent| parent.name());
        let mut span = Recorded { name: new.metadata().name(), parent, ..Recorded::default() };
        new.record(&mut Fields(&mut span.fields));
        self.0.lock().unwrap().push((id.into_u64(), span));
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, _: Context<'_, S>) {
        self.open(id, |span| values.record(&mut Fields(&mut span.fields)));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.open(&id, |span| span.closed = true);
    }
}

impl Spans {
    /// A number is used again once its span is closed.
    fn open(&self, id: &Id, act: impl FnOnce(&mut Recorded)) {
        let mut spans = self.0.lock().unwrap();
        let open = spans.iter_mut().rev().find(|(of, span)| *of == id.into_u64() && !span.closed);
        if let Some((_, span)) = open {
            act(span);
        }
    }

    fn named(&self, name: &str) -> Vec<Recorded> {
        let spans = self.0.lock().unwrap();
        spans.iter().map(|(_, span)| span).filter(|span| span.name == name).cloned().collect()
    }

    /// The only span with this name, which is closed.
    fn closed(&self, name: &str) -> Recorded {
        let named = self.named(name);
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(named[0].closed, "{named:?}");
        named[0].clone()
    }
}

/// Keeps the tests of this file apart: which spans are enabled is cached for the whole process, and
/// another test's subscriber would change it in the middle of one.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

fn record() -> (Spans, tracing::subscriber::DefaultGuard) {
    let spans = Spans::default();
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

/// A server whose streams go as the text of the ask says.
async fn server() -> common::raw::RawServer {
    serve(|asked: Asked| {
        let said = asked.body["params"]["message"]["parts"][0]["text"].as_str().unwrap_or("");
        let id = asked.path.clone();
        let task_id = asked.body["params"]["id"].as_str().unwrap().to_owned();
        let working = event(&json!({"id": task_id, "status": {"state": "WORKING"}}));
        let done = json!({"id": task_id, "status": {"state": "COMPLETED"}, "final": true});
        match (id.as_str(), said) {
            (STREAM, "refused") => vec![Step::Say(
                b"HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
            )],
            (STREAM, "cut") => vec![events_head(), Step::Say(working)],
            (STREAM, "long") => vec![events_head(), Step::Say(working), Step::Stall],
            (STREAM, _) => vec![events_head(), Step::Say(working), Step::Say(event(&done))],
            (SEND, _) => vec![json_reply(&json!({"result": task(&task_id, "COMPLETED", "ok")}))],
            (GET, _) if said.is_empty() && task_id.starts_with("tsk-known") => {
                vec![json_reply(&json!({"result": task(&task_id, "COMPLETED", "ok")}))]
            }
            _ => not_found(),
        }
    })
    .await
}

#[tokio::test]
async fn each_asks_span_ends_with_the_ask() {
    let _alone = alone().await;
    let server = server().await;
    let client = client_with(config(&server.url));

    // Read to its end, and kept.
    let (spans, guard) = record();
    let mut events = client.ask_stream("whole").await.unwrap();
    while let Some(event) = events.next().await {
        event.unwrap();
    }
    assert_eq!(spans.closed("stream").fields["state"], "completed");
    assert!(spans.closed("stream").fields.contains_key("duration_ms"));
    drop((events, guard));

    let (spans, _guard) = record();
    assert!(client.ask_stream("refused").await.is_err());
    assert_eq!(spans.closed("stream").fields["state"], "error");

    let (spans, _guard) = record();
    let mut events = client.ask_stream("cut").await.unwrap();
    while events.next().await.is_some() {}
    assert_eq!(spans.closed("stream").fields["state"], "error");
    drop(events);

    let (spans, _guard) = record();
    let mut events = client.ask_stream("long").await.unwrap();
    events.next().await.unwrap().unwrap();
    assert!(!spans.named("stream")[0].closed);
    drop(events);
    assert_eq!(spans.closed("stream").fields["state"], "working");

    let (spans, _guard) = record();
    client.ask("whole").await.unwrap();
    assert_eq!(spans.closed("ask").fields["state"], "completed");
    assert_eq!(spans.closed("attempt").fields["status"], "200");

    let (spans, _guard) = record();
    let events = client.follow("tsk-known").await.unwrap();
    assert_eq!(events.into_reply().await.unwrap().text(), "ok");
    assert_eq!(spans.closed("follow").fields["state"], "completed");
}

#[tokio::test]
async fn a_span_is_a_child_of_the_callers_and_leaves_its_fields_alone() {
    let _alone = alone().await;
    let server = server().await;
    let client = client_with(config(&server.url));
    let mine = || {
        info_span!(
            target: "mine", "mine", state = "mine", status = "mine", duration_ms = "mine",
                attempt = "mine"
        )
    };
    let untouched = |span: &Recorded| span.fields.values().all(|value| value == "mine");

    let (spans, _guard) = record();
    let events = client.ask_stream("whole").instrument(mine()).await.unwrap();
    events.into_reply().await.unwrap();
    client.ask("whole").instrument(mine()).await.unwrap();
    assert_eq!(spans.closed("stream").parent, Some("mine"));
    assert_eq!(spans.closed("ask").parent, Some("mine"));
    assert!(spans.named("mine").iter().all(untouched), "{:?}", spans.named("mine"));

    // Nor where the SDK's own spans are turned off.
    let spans = Spans::default();
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
    let _alone = alone().await;
    let server = server().await;
    let client = client_with(config(&server.url));
    let (spans, _guard) = record();
    client.ask(Ask::new("whole").session("ses-\u{202e}1\u{9b}\n2")).await.unwrap();
    assert_eq!(spans.closed("ask").fields["session_id"], r"ses-\u{202e}1\u{9b}\n2");
}

#[tokio::test]
async fn the_hook_is_told_of_each_ask_once() {
    let _alone = alone().await;
    let server = server().await;
    let told: Arc<Mutex<Vec<AskSummary>>> = Arc::default();
    let tell = Arc::clone(&told);
    let client = client_with(
        config(&server.url)
            .on_ask_completed(move |summary| tell.lock().unwrap().push(summary.clone())),
    );
    let last = || told.lock().unwrap().drain(..).collect::<Vec<_>>();

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

    // A future that was never polled is no ask.
    drop(client.ask("whole"));
    assert!(last().is_empty());
}

#[tokio::test]
async fn clones_of_one_ask_are_sent_once() {
    let _alone = alone().await;
    let server = MockServer::start().await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let client = common::client(&server);
    let ask = Ask::new("Pay Tyllen $50");
    let (first, again, streamed) = (ask.clone(), ask.clone(), ask.clone());
    // Prepared before the first was sent, and sent at the same time.
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
        // The first was done, so it would be wrong to say that nothing was.
        assert!(!error.is_safe_to_ask_again() && error.task_id().is_some(), "{error:?}");
    }
    assert_eq!(requests_to(&server, SEND).await.len(), 1);
}

#[tokio::test]
async fn an_ask_that_was_surely_not_done_may_be_sent_again() {
    let _alone = alone().await;
    let server = MockServer::start().await;
    common::first(&server, SEND, 1, ResponseTemplate::new(403)).await;
    Mock::given(path(SEND)).respond_with(task_reply("COMPLETED", "ok")).mount(&server).await;
    let client = common::client(&server);
    let ask = Ask::new("hi");
    assert!(client.ask(ask.clone()).await.unwrap_err().is_safe_to_ask_again());
    assert!(client.ask(ask.clone()).await.is_ok());
    assert!(client.ask(ask.clone()).await.is_err());
    // Another task is another ask.
    assert!(client.ask(ask.clone().with_task_id(TaskId::new())).await.is_ok());
    assert!(client.ask(ask.continue_task("tsk-other")).await.is_ok());

    // One whose outcome is unknown stays sent.
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(500)).await;
    let (client, ask) = (common::client(&server), Ask::new("hi"));
    assert!(client.ask(ask.clone()).await.unwrap_err().is_outcome_unknown());
    assert!(client.ask(ask).await.unwrap_err().is_invalid_input());
    assert_eq!(requests_to(&server, SEND).await.len(), 1);
}

#[tokio::test]
async fn a_chosen_id_is_the_tasks_id() {
    let _alone = alone().await;
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

    // Another process may have sent it before: a conflict is no refusal of that.
    let server = MockServer::start().await;
    on(&server, SEND, ResponseTemplate::new(409)).await;
    let error = common::client(&server).ask(Ask::new("hi").with_task_id(&id)).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
}

#[tokio::test]
async fn headers_go_along_with_an_ask_and_its_lookups() {
    let _alone = alone().await;
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
async fn an_invalid_header_is_refused_before_any_network() {
    let _alone = alone().await;
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
    let _alone = alone().await;
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
    let lacking = MockServer::start().await;
    let client: Client = common::client(&lacking);
    assert!(client.follow("tsk-1").await.unwrap_err().is_unsupported());
    on(&lacking, CANCEL, ResponseTemplate::new(500)).await;
    // Following is what was asked for, whatever the policy says of running tasks.
    let server = MockServer::start().await;
    let first = Mock::given(path(GET)).respond_with(task_reply("WORKING", "half"));
    first.up_to_n_times(1).mount(&server).await;
    Mock::given(path(GET)).respond_with(task_reply("COMPLETED", "whole")).mount(&server).await;
    let client = client_with(config(&server.uri()).retry(RetryPolicy::none()));
    let reply = client.follow("tsk-1").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.text(), "whole");
}

/// A caller who left before anything was sent has not used the ask up.
#[tokio::test]
async fn an_ask_that_waited_for_a_token_in_vain_was_not_sent() {
    let _alone = alone().await;
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
    // From then on a clone that would fail before it is sent does not say that nothing was done.
    let late = ask.clone().deadline(Duration::ZERO);
    let error = common::client(&server).ask(late).await.unwrap_err();
    assert!(error.is_invalid_input() && !error.is_safe_to_ask_again(), "{error:?}");
    assert!(common::client(&server).ask(ask).await.unwrap_err().is_invalid_input());
    assert_eq!(requests_to(&server, SEND).await.len(), 1);
}
