//! Tests the end of a stream and its reply: states without a final event, snapshots without
//! artifacts, slow readers and other media types.

#![cfg(test)]

mod common;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::events::{result_event, text_event};
use common::raw::{RawRequest, RawServer, Step, events_head, json_reply, not_found, serve};
use common::{GET, STREAM, client_with, config, task};
use futures::{Stream, StreamExt};
use payman_sdk::{Ask, Event, RetryPolicy, TaskState};
use serde_json::{Value, json};

fn event(result: &Value) -> Vec<u8> {
    result_event(result.clone()).into_bytes()
}

fn status(id: &str, state: &str) -> Vec<u8> {
    event(&json!({"id": id, "status": {"state": state}}))
}

fn chunk(id: &str, index: i64, text: &str) -> Vec<u8> {
    text_event(id, index, text, true).into_bytes()
}

/// Returns the steps that send 20 comments per second for 30 s.
fn comments() -> Vec<Step> {
    (0..600)
        .flat_map(|_| [Step::Send(b": ping\n\n".to_vec()), Step::Wait(Duration::from_millis(50))])
        .collect()
}

/// Starts a server whose streams have these steps. `get` answers lookups; `None` is a 404.
async fn stream_server(
    steps: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    get: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
) -> RawServer {
    serve(move |request: RawRequest| match request.path.as_str() {
        STREAM => {
            let mut all = vec![events_head()];
            all.extend(steps(request.task_id()));
            all
        }
        GET => match get(request.task_id()) {
            Some(task) => vec![json_reply(&json!({"result": task}))],
            None => not_found(),
        },
        _ => not_found(),
    })
    .await
}

#[tokio::test]
async fn a_state_without_a_final_event_ends_an_open_stream_after_a_while() {
    type Get = fn(&str) -> Option<Value>;
    let gets: [(&str, Get, &str); 4] = [
        ("COMPLETED", |_| None, "Hel"),
        ("INPUT_REQUIRED", |_| None, "Hel"),
        ("COMPLETED", |id| Some(task(id, "COMPLETED", "Hello")), "Hello"),
        // The snapshot is older than the events of the stream.
        ("COMPLETED", |id| Some(task(id, "WORKING", "He")), "Hel"),
    ];
    let runs = gets.into_iter().map(|(state, get, text)| async move {
        let server = stream_server(
            move |id| {
                let mut steps =
                    vec![Step::Send(chunk(id, 0, "Hel")), Step::Send(status(id, state))];
                steps.extend(comments());
                steps
            },
            get,
        )
        .await;
        let client = client_with(config(&server.url).retry(RetryPolicy::default()));
        let started = Instant::now();
        let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
        assert_eq!(reply.text(), text);
        assert!(reply.state().is_terminal() || reply.state() == &TaskState::InputRequired);
        let took = started.elapsed();
        assert!(took > Duration::from_secs(4) && took < Duration::from_secs(10), "{took:?}");
    });
    futures::future::join_all(runs).await;
}

#[tokio::test]
async fn events_after_such_a_state_are_applied() {
    let server = stream_server(
        |id| {
            vec![
                Step::Send(status(id, "COMPLETED")),
                Step::Wait(Duration::from_secs(3)),
                Step::Send(chunk(id, 0, "Hel")),
                Step::Wait(Duration::from_secs(3)),
                Step::Send(chunk(id, 0, "lo")),
            ]
        },
        |_| None,
    )
    .await;
    let client = client_with(config(&server.url));
    let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.text(), "Hello");
}

#[tokio::test]
async fn a_snapshot_without_artifacts_keeps_the_text() {
    for (last, text) in [
        (json!({"status": {"state": "COMPLETED"}, "history": []}), "Hello"),
        (json!({"status": {"state": "COMPLETED"}, "history": [], "artifacts": null}), "Hello"),
        (json!({"status": {"state": "COMPLETED"}, "artifacts": []}), ""),
    ] {
        let sent = last.clone();
        let server = stream_server(
            move |id| {
                let mut sent = sent.clone();
                sent["id"] = json!(id);
                vec![
                    Step::Send(chunk(id, 0, "Hel")),
                    Step::Send(chunk(id, 0, "lo")),
                    Step::Send(event(&sent)),
                ]
            },
            |_| None,
        )
        .await;
        let client = client_with(config(&server.url));
        let events: Vec<Event> =
            client.ask_stream("hi").await.unwrap().map(|event| event.unwrap()).collect().await;
        // The event has the text too, for readers that render each snapshot.
        assert!(matches!(&events[2], Event::Task(task) if task.text() == text), "{last}");
        let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
        assert_eq!(reply.text(), text, "{last}");
    }
}

#[tokio::test]
async fn an_interrupted_answer_that_a_lookup_cannot_complete_is_an_error_with_a_state() {
    for state in ["COMPLETED", "FAILED", "INPUT_REQUIRED"] {
        let server = stream_server(
            |id| vec![Step::Send(chunk(id, 0, "Hel"))],
            move |id| Some(json!({"id": id, "status": {"state": state}})),
        )
        .await;
        let client = client_with(config(&server.url));
        let mut events = client.ask_stream("hi").await.unwrap();
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        let error = last.unwrap().unwrap_err();
        assert!(error.is_interrupted() && !error.is_outcome_unknown(), "{state}: {error:?}");
        assert!(!error.is_safe_to_ask_again() && error.task_id().is_some(), "{state}: {error:?}");
        let so_far = events.reply_so_far();
        assert_eq!(so_far.text(), "Hel");
        assert_ne!(so_far.state(), &TaskState::Working);
        assert!(client.ask_stream("hi").await.unwrap().into_reply().await.is_err());
        let texts: Vec<_> = client.ask_stream("hi").await.unwrap().text().collect().await;
        assert!(texts.last().unwrap().is_err());
    }
    // No text was streamed before the interruption, so the result of the lookup is complete.
    let server = stream_server(
        |id| vec![Step::Send(status(id, "WORKING"))],
        |id| Some(json!({"id": id, "status": {"state": "COMPLETED", "message": "done"}})),
    )
    .await;
    let client = client_with(config(&server.url));
    let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.text(), "done");
}

#[tokio::test]
async fn an_event_with_a_status_and_an_artifact_can_be_final() {
    let text = |text: &str| json!({"parts": [{"type": "text", "text": text}]});
    let server = stream_server(
        move |id| {
            let last = json!({
                "id": id, "artifact": text("all"), "status": {"state": "COMPLETED"}, "final": true,
            });
            let mut steps = vec![Step::Send(status(id, "WORKING")), Step::Send(event(&last))];
            steps.extend(comments());
            steps
        },
        |_| None,
    )
    .await;
    let client = client_with(config(&server.url));
    let started = Instant::now();
    let mut events = client.ask_stream("hi").await.unwrap();
    assert!(!events.next().await.unwrap().unwrap().is_final());
    let last = events.next().await.unwrap().unwrap();
    assert!(last.is_final() && last.state() == Some(&TaskState::Completed), "{last:?}");
    assert!(events.next().await.is_none());
    let reply = events.into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.state()), ("all", &TaskState::Completed));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_final_event_of_a_running_task_is_followed_or_an_error() {
    let working =
        |id: &str| event(&json!({"id": id, "status": {"state": "WORKING"}, "final": true}));
    let server = stream_server(
        move |id| vec![Step::Send(chunk(id, 0, "Hel")), Step::Send(working(id))],
        |id| Some(task(id, "COMPLETED", "Hello")),
    )
    .await;
    let client = client_with(config(&server.url));
    let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.state()), ("Hello", &TaskState::Completed));

    // If the task cannot be followed, the stream ends with an error.
    let server = stream_server(move |id| vec![Step::Send(working(id))], |_| None).await;
    let client = client_with(config(&server.url));
    let error = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    let off = RetryPolicy::default().follow_running_tasks(false);
    let client = client_with(config(&server.url).retry(off));
    let error = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");

    // A final artifact without a state ends the stream, so the task is looked up.
    let last = |id: &str| {
        let artifact = json!({"parts": [{"type": "text", "text": "Hel"}]});
        event(&json!({"id": id, "artifact": artifact, "final": true}))
    };
    let server = stream_server(
        move |id| vec![Step::Send(last(id))],
        |id| Some(task(id, "COMPLETED", "Hello")),
    )
    .await;
    let client = client_with(config(&server.url));
    let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.state()), ("Hello", &TaskState::Completed));
}

#[tokio::test]
async fn json_of_any_media_type_is_a_stream_of_one_event() {
    let types: [&[&str]; 8] = [
        &["application/json"],
        &["application/json-rpc"],
        &["application/vnd.payman.v1+json"],
        &["text/plain;charset=UTF-8"],
        &["application/octet-stream"],
        &[],
        &["text/event-stream", "application/json"],
        &["application/json", "text/event-stream"],
    ];
    for content_types in types {
        let server = serve(move |request: RawRequest| {
            if request.path == GET {
                return not_found();
            }
            let mut head = String::from("HTTP/1.1 200 OK\r\nconnection: close\r\n");
            for content_type in content_types {
                head.push_str(&format!("content-type: {content_type}\r\n"));
            }
            let body = json!({"result": task(request.task_id(), "COMPLETED", "all of it")});
            vec![Step::Send(format!("{head}\r\n{body}").into_bytes())]
        })
        .await;
        let client = client_with(config(&server.url));
        let reply = client.ask_stream("hi").await.unwrap().into_reply().await;
        assert_eq!(reply.unwrap().text(), "all of it", "{content_types:?}");
        assert_eq!(client.ask("hi").await.unwrap().text(), "all of it", "{content_types:?}");
    }
}

#[tokio::test]
async fn artifacts_without_an_index_are_numbered_in_order() {
    let server = stream_server(
        |id| {
            let artifact = |text: &str| json!({"parts": [{"type": "text", "text": text}]});
            let task = json!({
                "id": id, "status": {"state": "WORKING"},
                "artifacts": [artifact("A"), artifact("B"), artifact("C")],
            });
            vec![
                Step::Send(event(&task)),
                Step::Send(chunk(id, 1, "2")),
                Step::Send(chunk(id, 2, "3")),
                Step::Send(chunk(id, 0, "1")),
                Step::Send(chunk(id, 3, "D")),
                Step::Send(status(id, "COMPLETED")),
            ]
        },
        |_| None,
    )
    .await;
    let client = client_with(config(&server.url));
    let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.text(), "A1\nB2\nC3\nD");
}

#[tokio::test]
async fn infinite_time_limits_are_accepted() {
    let server = stream_server(
        |id| {
            vec![
                Step::Send(chunk(id, 0, "Hel")),
                Step::Wait(Duration::from_millis(300)),
                Step::Send(chunk(id, 0, "lo")),
                Step::Wait(Duration::from_millis(300)),
                Step::Send(status(id, "COMPLETED")),
            ]
        },
        |_| None,
    )
    .await;
    let config = config(&server.url)
        .idle_timeout(Duration::MAX)
        .reply_timeout(Duration::MAX)
        .deadline(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .retry(RetryPolicy::default().recovery_timeout(Duration::MAX));
    let client = client_with(config);
    let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.text(), "Hello");
}

/// A single poll returns, even if the server sends events of another task without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_skips_a_bounded_number_of_events() {
    let server = stream_server(
        |_| {
            let block = status("tsk-other", "WORKING").repeat(2000);
            (0..200).map(|_| Step::Send(block.clone())).collect()
        },
        |_| None,
    )
    .await;
    let client = client_with(config(&server.url));
    let mut events = client.ask_stream("hi").await.unwrap();
    let started = Instant::now();
    let (mut polls, mut longest) = (0, Duration::ZERO);
    while started.elapsed() < Duration::from_millis(700) {
        let before = Instant::now();
        // Other executors have no cooperative budget like tokio's, so the test disables it.
        let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut events).poll_next(cx)));
        let polled = tokio::task::unconstrained(poll).await;
        assert!(polled.is_pending());
        longest = longest.max(before.elapsed());
        polls += 1;
        tokio::task::yield_now().await;
    }
    assert!(polls > 3 && longest < Duration::from_millis(300), "{polls} polls, {longest:?}");
}

#[tokio::test]
async fn a_slow_reader_gets_the_events_received_before_the_deadline() {
    let server = stream_server(
        |id| {
            let mut all = Vec::new();
            for _ in 0..20 {
                all.extend(chunk(id, 0, "x"));
            }
            all.extend(event(&json!({"id": id, "status": {"state": "COMPLETED"}, "final": true})));
            vec![Step::Send(all), Step::Stall]
        },
        |_| None,
    )
    .await;
    let client = client_with(config(&server.url));
    let ask = Ask::new("hi").deadline(Duration::from_millis(300));
    let mut events = client.ask_stream(ask).await.unwrap();
    while let Some(event) = events.next().await {
        event.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(events.into_reply().await.unwrap().text(), "x".repeat(20));
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_never_pauses() {
    let server = stream_server(
        |id| {
            let block = chunk(id, 0, "x").repeat(100);
            (0..3000).map(|_| Step::Send(block.clone())).collect()
        },
        |_| None,
    )
    .await;
    let client = client_with(config(&server.url).max_reply_bytes(usize::MAX));
    for raw in [false, true] {
        let ask = Ask::new("hi").deadline(Duration::from_millis(500));
        let started = Instant::now();
        let error = match raw {
            false => client.ask_stream(ask).await.unwrap().into_reply().await.unwrap_err(),
            true => {
                let mut responses = client.ask_stream_raw(ask).await.unwrap();
                loop {
                    match responses.next().await.unwrap() {
                        Ok(_) => {}
                        Err(error) => break error,
                    }
                }
            }
        };
        assert!(error.is_timeout() && error.is_outcome_unknown(), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

/// Raw events are not accumulated, so the limit on the size of a reply does not apply.
#[tokio::test]
async fn raw_events_are_not_accumulated() {
    let server = stream_server(
        |id| {
            let block = chunk(id, 0, &"x".repeat(10_000));
            let mut steps: Vec<Step> = (0..100).map(|_| Step::Send(block.clone())).collect();
            steps.push(Step::Send(status(id, "COMPLETED")));
            steps
        },
        |_| None,
    )
    .await;
    let client = client_with(config(&server.url));
    let ask = Ask::new("hi").max_reply_bytes(50_000);
    let responses: Vec<_> = client.ask_stream_raw(ask).await.unwrap().collect().await;
    assert_eq!(responses.iter().filter(|response| response.is_ok()).count(), 101);
}
