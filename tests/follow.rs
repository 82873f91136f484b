//! Finding a lost answer, and following a task: limits of time, proof of receipt, identity.

#![cfg(test)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::raw::{RawRequest, RawServer, Step, events_head, json_reply, serve};
use common::{CANCEL, GET, SEND, STREAM, client_with, config, task};
use futures::StreamExt;
use payman_sdk::{Ask, Client, ErrorKind, RetryPolicy};
use serde_json::{Value, json};

fn status_line(status: &str, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![Step::Send(
        format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .into_bytes(),
    )]
}

fn bad_gateway() -> Vec<Step> {
    status_line("502 Bad Gateway", "", "")
}

fn html_404() -> Vec<Step> {
    status_line("404 Not Found", "content-type: text/html\r\n", "<html>no such page</html>")
}

fn result(value: &Value) -> Vec<Step> {
    vec![json_reply(&json!({"jsonrpc": "2.0", "id": 1, "result": value}))]
}

fn rpc(code: i64) -> Vec<Step> {
    vec![json_reply(&common::rpc_error(code))]
}

fn event(value: &Value) -> Vec<u8> {
    format!("data: {}\n\n", json!({"result": value})).into_bytes()
}

/// A server whose answers to `tasks/get` depend on the number of lookups and the time since the
/// first. It records their times.
struct Scripted {
    server: RawServer,
    gets: Arc<Mutex<Vec<Instant>>>,
}

impl Scripted {
    fn gets(&self) -> Vec<Instant> {
        self.gets.lock().unwrap().clone()
    }
}

async fn scripted(
    others: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static,
    get: impl Fn(usize, Duration, &str) -> Vec<Step> + Send + Sync + 'static,
) -> Scripted {
    let gets: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = Arc::clone(&gets);
    let server = serve(move |request: RawRequest| {
        if request.path != GET {
            return others(&request);
        }
        let (number, since) = {
            let mut noted = noted.lock().unwrap();
            noted.push(Instant::now());
            (noted.len() - 1, noted[0].elapsed())
        };
        get(number, since, request.task_id())
    })
    .await;
    Scripted { server, gets }
}

fn client(server: &Scripted, policy: RetryPolicy) -> Client {
    client_with(config(&server.server.url).retry(policy))
}

fn recover_for(seconds: f64) -> RetryPolicy {
    RetryPolicy::default().recovery_timeout(Duration::from_secs_f64(seconds))
}

/// The answer is found when the server is back, for every kind of failed lookup.
#[tokio::test]
async fn an_answer_is_found_after_lookups_failed_for_most_of_the_recovery_time() {
    let failures: [fn() -> Vec<Step>; 7] = [
        bad_gateway,
        html_404,
        Vec::new,
        || status_line("500 Oops", "", "{}"),
        || status_line("429 Slow Down", "retry-after: 1\r\n", ""),
        || rpc(-32603),
        || rpc(-32001),
    ];
    let runs = failures.into_iter().enumerate().map(|(number, failure)| async move {
        for path in [SEND, STREAM] {
            let server = scripted(
                |_| bad_gateway(),
                move |_, since, id| match since < Duration::from_millis(2500) {
                    true => failure(),
                    false => result(&task(id, "COMPLETED", "found")),
                },
            )
            .await;
            let client = client(&server, recover_for(4.0));
            let reply = match path {
                SEND => client.ask("hi").await,
                _ => client.ask_stream("hi").await.unwrap().into_reply().await,
            };
            let reply = reply.unwrap_or_else(|error| panic!("case {number} {path}: {error:?}"));
            assert_eq!(reply.text(), "found", "case {number}");
        }
    });
    futures::future::join_all(runs).await;
}

#[tokio::test]
async fn an_answer_is_found_after_a_restart_of_eight_seconds() {
    let server = scripted(
        |_| bad_gateway(),
        |_, since, id| match since < Duration::from_secs(8) {
            true => bad_gateway(),
            false => result(&task(id, "COMPLETED", "found")),
        },
    )
    .await;
    let client = client(&server, RetryPolicy::default());
    assert_eq!(client.ask("hi").await.unwrap().text(), "found");
}

/// The last lookup happens at the end of the time limit, and no lookup follows at once on another.
#[tokio::test]
async fn lookups_end_with_the_time_limit_and_keep_a_distance() {
    let server = scripted(|_| bad_gateway(), |_, _, _| bad_gateway()).await;
    let started = Instant::now();
    let error = client(&server, recover_for(2.0)).ask("hi").await.unwrap_err();
    assert!(error.is_outcome_unknown() && error.status() == Some(502), "{error:?}");
    let gets = server.gets();
    let last = gets.last().unwrap().duration_since(started);
    assert!(last > Duration::from_millis(1900) && last < Duration::from_millis(3000), "{last:?}");
    for pair in gets.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(45), "{:?}", pair[1] - pair[0]);
    }
}

#[tokio::test]
async fn a_server_that_answered_a_lookup_is_believed_only_later() {
    let refusals: [fn() -> Vec<Step>; 5] =
        [html_404, || rpc(-32001), || rpc(-32601), bad_gateway, || status_line("501 No", "", "")];
    for (number, refusal) in refusals.into_iter().enumerate() {
        let server = scripted(
            |request| result(&task(request.task_id(), "WORKING", "")),
            move |number, _, id| match number {
                0 => result(&task(id, "WORKING", "half")),
                1 => refusal(),
                _ => result(&task(id, "COMPLETED", "whole")),
            },
        )
        .await;
        let reply = client(&server, recover_for(4.0)).ask("hi").await;
        assert_eq!(reply.unwrap().text(), "whole", "case {number}");
    }
}

#[tokio::test]
async fn retry_after_of_a_lookup_is_waited_for_and_is_no_failure() {
    let server = scripted(
        |_| bad_gateway(),
        |number, _, id| match number {
            0 => status_line("429 Slow Down", "retry-after: 2\r\n", ""),
            _ => result(&task(id, "COMPLETED", "found")),
        },
    )
    .await;
    // Longer than the time in which lookups may fail.
    let reply = client(&server, recover_for(0.5)).ask("hi").await.unwrap();
    assert_eq!(reply.text(), "found");
    let gets = server.gets();
    assert_eq!(gets.len(), 2);
    let waited = gets[1] - gets[0];
    assert!(waited >= Duration::from_millis(1990), "{waited:?}");
}

#[tokio::test]
async fn a_retry_after_beyond_the_limits_is_not_waited_for() {
    let server = scripted(
        |_| bad_gateway(),
        |_, _, _| status_line("429 Slow Down", "retry-after: 3600\r\n", ""),
    )
    .await;
    let started = Instant::now();
    let error = client(&server, recover_for(1.0)).ask("hi").await.unwrap_err();
    assert!(error.is_outcome_unknown());
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_busy_server_that_is_also_busy_for_lookups_is_asked_until_the_time_limit() {
    let server = scripted(
        |_| status_line("429 Slow Down", "", ""),
        |_, since, id| match since < Duration::from_secs(2) {
            true => status_line("429 Slow Down", "", ""),
            false => result(&task(id, "COMPLETED", "found")),
        },
    )
    .await;
    assert_eq!(client(&server, recover_for(4.0)).ask("hi").await.unwrap().text(), "found");

    let server = scripted(
        |_| status_line("429 Slow Down", "", ""),
        |_, _, _| status_line("429 Slow Down", "", ""),
    )
    .await;
    let error = client(&server, recover_for(1.5)).ask("hi").await.unwrap_err();
    assert!(error.is_outcome_unknown() && error.is_rate_limited(), "{error:?}");
    let gets = server.gets();
    assert!(gets.len() > 2, "{}", gets.len());
    assert!(*gets.last().unwrap() - gets[0] > Duration::from_millis(1400));
}

/// Starts a server whose stream sends "Hel" and is cut. Resubscribing is answered by `resubscribed`.
async fn cut(
    resubscribed: impl Fn() -> Vec<Step> + Send + Sync + 'static,
    get: impl Fn(usize, Duration, &str) -> Vec<Step> + Send + Sync + 'static,
) -> Scripted {
    scripted(
        move |request| match request.path.as_str() {
            STREAM => {
                let artifact = json!({"parts": [{"type": "text", "text": "Hel"}]});
                let chunk = event(&json!({"id": request.task_id(), "artifact": artifact}));
                vec![events_head(), Step::Send(chunk)]
            }
            _ => resubscribed(),
        },
        get,
    )
    .await
}

fn silent() -> Vec<Step> {
    vec![events_head(), Step::Stall]
}

#[tokio::test]
async fn a_silent_resubscribed_stream_delays_neither_the_deadline_nor_the_end() {
    let server = cut(silent, |_, _, id| result(&task(id, "WORKING", "Hel"))).await;
    let started = Instant::now();
    let ask = Ask::new("hi").deadline(Duration::from_secs(3));
    let events = client(&server, recover_for(2.0)).ask_stream(ask).await.unwrap();
    let error = events.into_reply().await.unwrap_err();
    let took = started.elapsed();
    assert!(error.is_timeout() && error.is_outcome_unknown(), "{error:?}");
    assert!(took > Duration::from_millis(2400) && took < Duration::from_millis(3250), "{took:?}");

    // One lookup that fails does not end it.
    let server = cut(silent, |number, since, id| match since < Duration::from_secs(3) {
        _ if number == 2 => bad_gateway(),
        true => result(&task(id, "WORKING", "Hel")),
        false => result(&task(id, "COMPLETED", "Hello")),
    })
    .await;
    let started = Instant::now();
    let events = client(&server, recover_for(2.0)).ask_stream("hi").await.unwrap();
    assert_eq!(events.into_reply().await.unwrap().text(), "Hello");
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_resubscribed_stream_that_pings_causes_at_most_one_lookup_a_second() {
    let pings = || {
        let mut steps = vec![events_head()];
        for _ in 0..100 {
            steps.push(Step::Send(b": ping\n\n".to_vec()));
            steps.push(Step::Wait(Duration::from_millis(50)));
        }
        steps
    };
    let server = cut(pings, |_, since, id| match since < Duration::from_secs(4) {
        true => result(&task(id, "WORKING", "Hel")),
        false => result(&task(id, "COMPLETED", "Hello")),
    })
    .await;
    let events = client(&server, recover_for(2.0)).ask_stream("hi").await.unwrap();
    assert_eq!(events.into_reply().await.unwrap().text(), "Hello");
    let gets = server.gets();
    for pair in gets.windows(2).skip(1) {
        assert!(pair[1] - pair[0] > Duration::from_millis(900), "{:?}", pair[1] - pair[0]);
    }
    assert!(gets.len() <= 7, "{}", gets.len());
}

#[tokio::test]
async fn a_task_that_stands_still_is_followed_for_the_idle_limit() {
    let stands = |request: &RawRequest| result(&task(request.task_id(), "WORKING", "half"));
    // Other attachments of a server change all the time; they are no progress.
    let counter = AtomicUsize::new(0);
    let server = scripted(stands, move |_, _, id| {
        let mut task = task(id, "WORKING", "half");
        task["metadata"] = json!({"polled": counter.fetch_add(1, Ordering::SeqCst)});
        result(&task)
    })
    .await;
    let ask = Ask::new("hi").idle_timeout(Duration::from_millis(1500));
    let started = Instant::now();
    let error = client(&server, recover_for(9.0)).ask(ask).await.unwrap_err();
    let took = started.elapsed();
    assert!(error.is_timeout() && error.is_outcome_unknown(), "{error:?}");
    assert!(took > Duration::from_millis(1400) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn after_an_error_event_a_task_that_stands_still_is_given_less_time() {
    let server = scripted(
        |request| {
            let working = json!({"id": request.task_id(), "status": {"state": "WORKING"}});
            let error = format!("data: {}\n\n", common::rpc_error(-32603)).into_bytes();
            vec![events_head(), Step::Send(event(&working)), Step::Send(error)]
        },
        |_, _, id| result(&task(id, "WORKING", "")),
    )
    .await;
    let started = Instant::now();
    let events = client(&server, recover_for(1.0)).ask_stream("hi").await.unwrap();
    let error = events.into_reply().await.unwrap_err();
    assert!(error.is_timeout() && error.is_outcome_unknown(), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<payman_sdk::Error>();
    assert_eq!(cause.unwrap().rpc_code(), Some(-32603));
}

#[tokio::test]
async fn another_tasks_snapshot_is_an_error_and_is_not_shown() {
    let other = |_: &RawRequest| result(&task("tsk-other", "COMPLETED", "not yours"));
    let server =
        scripted(other, |_, _, _| result(&task("tsk-other", "COMPLETED", "not yours"))).await;
    let client = client(&server, recover_for(0.3));
    let started = Instant::now();
    for error in [
        client.get_task("tsk-mine").await.unwrap_err(),
        client.cancel_task("tsk-mine").await.unwrap_err(),
        client.ask_stream("hi").await.unwrap_err(),
        client.ask_stream_raw("hi").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        assert!(!format!("{error} {error:?} {:?}", error.body()).contains("not yours"));
    }
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(client.ask_stream("hi").await.is_err_and(|error| error.is_outcome_unknown()));

    // A stream that was cut never takes up another task's answer either.
    let server = cut(silent, |_, _, _| result(&task("tsk-other", "COMPLETED", "not yours"))).await;
    let mut events = client_with(config(&server.server.url)).ask_stream("hi").await.unwrap();
    while let Some(event) = events.next().await {
        let shown = format!("{event:?}");
        assert!(!shown.contains("not yours"), "{shown}");
    }
    assert_eq!(events.reply_so_far().text(), "Hel");
    assert!(events.into_reply().await.is_err());
}

const FIRST: &str = "2025-06-27T16:31:41.510422505Z";

/// Answers a task that asked a question at `asked_at`, was answered "yes" once before, and shows
/// `snapshot`.
async fn continued(
    asked_at: Option<&'static str>,
    reply: fn(&str) -> Vec<Step>,
    snapshot: Value,
) -> (Scripted, payman_sdk::Result<payman_sdk::Reply>) {
    let sends = AtomicUsize::new(0);
    let server = scripted(
        move |request| match (request.path.as_str(), sends.fetch_add(1, Ordering::SeqCst)) {
            (SEND, 0) => {
                let mut task = task(request.task_id(), "INPUT_REQUIRED", "sure?");
                task["status"]["timestamp"] = json!(asked_at);
                result(&task)
            }
            _ => reply(request.task_id()),
        },
        move |_, _, id| {
            let mut snapshot = snapshot.clone();
            snapshot["id"] = json!(id);
            result(&snapshot)
        },
    )
    .await;
    let client = client(&server, recover_for(0.5));
    let question = client.ask("Pay").await.unwrap();
    let answer = question.answer("yes").idle_timeout(Duration::from_secs(1));
    let reply = client.ask(answer).await;
    (server, reply)
}

fn said(state: &str, at: Option<&str>, history: bool) -> Value {
    let user = |text: &str| json!({"role": "user", "parts": [{"type": "text", "text": text}]});
    let mut task = task("", state, "answered");
    task["status"]["timestamp"] = json!(at);
    if history {
        task["history"] = json!([user("Pay"), user("yes")]);
    }
    task
}

#[tokio::test]
async fn an_old_answer_in_the_history_proves_nothing_of_a_new_one() {
    let later = Some("2025-06-27T16:32:00Z");
    for (asked_at, now, proven) in [
        (Some(FIRST), later, true),
        // Another spelling of the same instant, or an earlier one.
        (Some("2025-06-27T16:31:41.500Z"), Some("2025-06-27T16:31:41.500000000Z"), false),
        (Some("2025-06-27T16:31:41.5Z"), Some("2025-06-27T18:31:41.500+02:00"), false),
        (Some(FIRST), Some("2025-06-27T16:31:40Z"), false),
        (Some(FIRST), Some(FIRST), false),
        // Without two instants nothing is proven.
        (None, later, false),
        (Some(FIRST), None, false),
        (Some("yesterday"), Some("today"), false),
    ] {
        let (_server, reply) =
            continued(asked_at, |_| bad_gateway(), said("COMPLETED", now, true)).await;
        match reply {
            Ok(reply) => assert!(proven && reply.text() == "answered", "{asked_at:?} {now:?}"),
            Err(error) => {
                assert!(!proven && error.is_outcome_unknown(), "{asked_at:?} {now:?}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_reply_to_the_continuation_proves_receipt_without_a_history() {
    let working = |id: &str| result(&task(id, "WORKING", ""));
    for at in [Some("2025-06-27T16:32:00Z"), None] {
        let (_server, reply) = continued(None, working, said("COMPLETED", at, false)).await;
        assert_eq!(reply.unwrap().text(), "answered", "{at:?}");
    }
    // A question that may be the one that was answered is not shown again.
    let (_server, reply) = continued(None, working, said("INPUT_REQUIRED", None, false)).await;
    assert!(reply.is_err_and(|error| error.is_outcome_unknown()));
    // A snapshot from before the continuation is not its answer.
    let (_server, reply) =
        continued(Some(FIRST), working, said("INPUT_REQUIRED", Some(FIRST), false)).await;
    assert!(reply.is_err_and(|error| error.is_outcome_unknown()));
}

#[tokio::test]
async fn a_conflict_is_looked_up_only_where_the_server_may_know_the_id() {
    let sends = AtomicUsize::new(0);
    let server = scripted(
        move |_| match sends.fetch_add(1, Ordering::SeqCst) {
            0 => status_line("429 Slow Down", "retry-after: 0\r\n", ""),
            _ => status_line("409 Conflict", "", ""),
        },
        |number, _, id| match number {
            0 => rpc(-32001),
            _ => result(&task(id, "COMPLETED", "it was received")),
        },
    )
    .await;
    let reply = client(&server, recover_for(2.0)).ask("hi").await.unwrap();
    assert_eq!(reply.text(), "it was received");

    let server =
        scripted(|_| status_line("409 Conflict", "", ""), |_, _, _| panic!("looked up")).await;
    let error = client(&server, recover_for(2.0)).ask("hi").await.unwrap_err();
    assert!(error.is_safe_to_ask_again() && error.status() == Some(409));
}

#[tokio::test]
async fn every_call_keeps_the_clients_limits() {
    let stalled = scripted(|_| vec![Step::Stall], |_, _, _| vec![Step::Stall]).await;
    let url = &stalled.server.url;
    let policy = recover_for(30.0);
    let hurried = client_with(config(url).retry(policy).deadline(Duration::from_millis(600)));
    let started = Instant::now();
    assert!(hurried.get_task("tsk-1").await.unwrap_err().is_timeout());
    let took = started.elapsed();
    assert!(took > Duration::from_millis(250) && took < Duration::from_millis(850), "{took:?}");
    let started = Instant::now();
    assert!(hurried.cancel_task("tsk-1").await.unwrap_err().is_timeout());
    assert!(started.elapsed() < Duration::from_millis(850), "{:?}", started.elapsed());

    let short = RetryPolicy::none();
    let brief = client_with(config(url).retry(short).reply_timeout(Duration::from_millis(300)));
    let started = Instant::now();
    assert!(brief.get_task("tsk-1").await.is_err());
    assert!(brief.cancel_task("tsk-1").await.is_err());
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());

    // The stream's own limits count for its cancel.
    let server = scripted(
        |request| match request.path.as_str() {
            STREAM => vec![events_head(), Step::Stall],
            CANCEL => vec![Step::Stall],
            _ => html_404(),
        },
        |_, _, _| html_404(),
    )
    .await;
    let ask = Ask::new("hi").deadline(Duration::from_millis(600));
    let events = client(&server, RetryPolicy::default()).ask_stream(ask).await.unwrap();
    let started = Instant::now();
    assert!(events.cancel().await.is_err());
    assert!(started.elapsed() < Duration::from_millis(850), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_token_is_waited_for_within_the_clients_limits() {
    let server = serve(|_| vec![Step::Stall]).await;
    let config = config(&server.url).client_secret("s").deadline(Duration::from_millis(400));
    let client = Client::with_credentials(config).unwrap();
    let started = Instant::now();
    assert!(client.access_token().await.unwrap_err().is_timeout());
    assert!(started.elapsed() < Duration::from_millis(650), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_task_that_lost_its_artifacts_is_no_whole_reply() {
    let server = scripted(
        |request| result(&task(request.task_id(), "WORKING", "half an ans")),
        |_, _, id| result(&json!({"id": id, "status": {"state": "COMPLETED"}})),
    )
    .await;
    let error = client(&server, recover_for(1.0)).ask("hi").await.unwrap_err();
    assert!(error.is_interrupted(), "{error:?}");
    assert!(!error.is_outcome_unknown() && !error.is_safe_to_ask_again(), "{error:?}");
}

/// An event of the stream itself proves receipt, as a reply does.
#[tokio::test]
async fn an_event_of_a_continued_stream_proves_receipt_without_a_history() {
    for (sends_event, found) in [(true, true), (false, false)] {
        let server = scripted(
            move |request| {
                let id = request.task_id();
                match request.path.as_str() {
                    SEND => result(&task(id, "INPUT_REQUIRED", "sure?")),
                    STREAM if sends_event => {
                        let working = json!({"id": id, "status": {"state": "WORKING"}});
                        vec![events_head(), Step::Send(event(&working))]
                    }
                    STREAM => vec![events_head()],
                    _ => html_404(),
                }
            },
            |_, _, id| {
                let mut snapshot = said("COMPLETED", Some("2025-06-27T16:32:00Z"), false);
                snapshot["id"] = json!(id);
                result(&snapshot)
            },
        )
        .await;
        let client = client(&server, recover_for(0.5));
        let question = client.ask("Pay").await.unwrap();
        let events = client.ask_stream(question.answer("yes")).await.unwrap();
        match events.into_reply().await {
            Ok(reply) => assert!(found && reply.text() == "answered"),
            Err(error) => assert!(!found && error.is_outcome_unknown(), "{error:?}"),
        }
    }
}

/// A task that is followed by its id is looked up no more often than one whose stream was cut.
#[tokio::test]
async fn following_by_id_keeps_a_distance_and_ends_with_the_task() {
    let pings = |request: &RawRequest| {
        assert_ne!(request.path, SEND);
        let mut steps = vec![events_head()];
        for _ in 0..80 {
            steps.push(Step::Send(b": ping\n\n".to_vec()));
            steps.push(Step::Wait(Duration::from_millis(50)));
        }
        steps
    };
    let server = scripted(pings, |number, since, id| match since < Duration::from_secs(3) {
        // One that fails, and one of another task.
        _ if number == 1 => bad_gateway(),
        _ if number == 2 => result(&task("tsk-other", "COMPLETED", "not yours")),
        true => result(&task(id, "WORKING", "Hel")),
        false => result(&task(id, "COMPLETED", "Hello")),
    })
    .await;
    let client = client(&server, recover_for(3.0));
    let reply = client.follow("tsk-mine").await.unwrap().into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.task_id().as_str()), ("Hello", "tsk-mine"));
    assert!(server.gets().len() <= 9, "{}", server.gets().len());
}
