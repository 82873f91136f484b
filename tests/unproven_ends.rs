//! Ends that do not prove themselves: a final event whose state is not recognized or never came,
//! and tasks that list no artifacts after some were streamed.

#![cfg(test)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::raw::{RawRequest, RawServer, Step, events_head, json_reply, not_found, serve};
use common::{GET, SEND, STREAM, client_with, config, rpc_error, task};
use futures::{StreamExt, TryStreamExt};
use payman_sdk::{Ask, Client, Event, JournalState, MemoryJournal, RetryPolicy, TaskState};
use serde_json::{Value, json};

fn event(result: &Value) -> Step {
    Step::Send(format!("data: {}\n\n", json!({"result": result})).into_bytes())
}

fn chunk(id: &str) -> Step {
    event(&json!({"id": id, "artifact": {"parts": [{"type": "text", "text": "Hel"}]}}))
}

fn result(task: &Value) -> Vec<Step> {
    vec![json_reply(&json!({"result": task}))]
}

fn bare(id: &str, state: &str) -> Vec<Step> {
    result(&json!({"id": id, "status": {"state": state}}))
}

/// Starts a server whose stream is a chunk, these steps and its end. Lookups are answered by their
/// number.
async fn streaming(
    last: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    get: impl Fn(usize, &str) -> Vec<Step> + Send + Sync + 'static,
) -> RawServer {
    let gets = AtomicUsize::new(0);
    serve(move |asked: RawRequest| match asked.path.as_str() {
        STREAM => {
            let mut steps = vec![events_head(), chunk(asked.task_id())];
            steps.extend(last(asked.task_id()));
            steps
        }
        GET => get(gets.fetch_add(1, Ordering::SeqCst), asked.task_id()),
        _ => not_found(),
    })
    .await
}

fn client(server: &RawServer) -> Client {
    client_with(config(&server.url).retry(RetryPolicy::default()))
}

/// A lookup's answer, by its number and the task's id.
type Get = fn(usize, &str) -> Vec<Step>;

const ENDED: Get = |_, id| result(&task(id, "COMPLETED", "Hello"));
const ASKS: Get = |_, id| result(&task(id, "INPUT_REQUIRED", "Hello?"));
const RUNS_ON: Get = |number, id| match number < 2 {
    true => result(&task(id, "WORKING", "He")),
    false => result(&task(id, "COMPLETED", "Hello")),
};
const ENDED_BARE: Get = |_, id| bare(id, "COMPLETED");
const ENDED_EMPTY: Get =
    |_, id| result(&json!({"id": id, "status": {"state": "COMPLETED"}, "artifacts": []}));
const RUNS_ON_THEN_BARE: Get = |number, id| match number < 2 {
    true => bare(id, "WORKING"),
    false => bare(id, "COMPLETED"),
};
const SAME: Get = |_, id| result(&task(id, "PAUSED", "other text"));
const NAMELESS: Get = |_, id| result(&json!({"id": id, "status": {}}));
const NOT_THERE: Get = |_, _| not_found();
const NOT_KNOWN: Get = |_, _| vec![json_reply(&rpc_error(-32001))];
const NOT_OFFERED: Get = |_, _| vec![json_reply(&rpc_error(-32601))];
const SILENT: Get = |_, _| vec![Step::Stall];

/// The expected end of a stream with an unproven end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With this text, in this state.
    Reply(&'static str, Shown),
    /// With an error: it may have been done.
    Unknown,
    /// With an error: the state is known, the text is not whole.
    NotWhole,
}

#[derive(Clone, Copy, Debug)]
enum Shown {
    Completed,
    InputRequired,
    /// The state as the stream wrote it.
    AsReceived,
}

#[tokio::test]
async fn a_final_event_whose_state_proves_no_end_is_looked_up() {
    use End::{NotWhole, Reply, Unknown};
    use Shown::{AsReceived, Completed, InputRequired};
    let cases: [(&str, Option<&str>, Get, End); 19] = [
        ("unrecognized, ended", Some("PAUSED"), ENDED, Reply("Hello", Completed)),
        ("unrecognized, asks", Some("PAUSED"), ASKS, Reply("Hello?", InputRequired)),
        ("unrecognized, runs on", Some("PAUSED"), RUNS_ON, Reply("Hello", Completed)),
        // The server said that the stream is whole: a bare task does not make the text doubtful.
        ("unrecognized, ended bare", Some("PAUSED"), ENDED_BARE, Reply("Hel", Completed)),
        ("unrecognized, ended empty", Some("PAUSED"), ENDED_EMPTY, Reply("Hel", Completed)),
        // Unless the task went on after the stream.
        ("unrecognized, runs on bare", Some("PAUSED"), RUNS_ON_THEN_BARE, NotWhole),
        ("unrecognized, the same", Some("PAUSED"), SAME, Reply("Hel", AsReceived)),
        ("unrecognized, nameless", Some("PAUSED"), NAMELESS, Reply("Hel", AsReceived)),
        ("unrecognized, 404", Some("PAUSED"), NOT_THERE, Reply("Hel", AsReceived)),
        ("unrecognized, not known", Some("PAUSED"), NOT_KNOWN, Reply("Hel", AsReceived)),
        ("unrecognized, not offered", Some("PAUSED"), NOT_OFFERED, Reply("Hel", AsReceived)),
        ("unrecognized, silent", Some("PAUSED"), SILENT, Reply("Hel", AsReceived)),
        ("none, ended", None, ENDED, Reply("Hello", Completed)),
        ("none, ended bare", None, ENDED_BARE, Reply("Hel", Completed)),
        ("none, unrecognized", None, SAME, Unknown),
        ("none, nameless", None, NAMELESS, Unknown),
        ("none, 404", None, NOT_THERE, Unknown),
        ("none, not offered", None, NOT_OFFERED, Unknown),
        ("said to be unknown, 404", Some("unknown"), NOT_THERE, Unknown),
    ];
    let runs = cases.into_iter().map(|(name, state, get, end)| async move {
        let last = move |id: &str| {
            vec![match state {
                Some(state) => event(&json!({"id": id, "status": {"state": state}, "final": true})),
                None => event(&json!({
                    "id": id, "artifact": {"parts": [], "append": true}, "final": true,
                })),
            }]
        };
        let server = streaming(last, get).await;
        let started = Instant::now();
        let reply = client(&server).ask_stream("hi").await.unwrap().into_reply().await;
        assert!(started.elapsed() < Duration::from_secs(5), "{name}: {:?}", started.elapsed());
        match (end, reply) {
            (Reply(text, shown), Ok(reply)) => {
                let expected = match shown {
                    Completed => TaskState::Completed,
                    InputRequired => TaskState::InputRequired,
                    AsReceived => TaskState::Other("PAUSED".to_owned()),
                };
                assert_eq!((reply.text().as_str(), reply.state()), (text, &expected), "{name}");
                if matches!(shown, AsReceived) {
                    assert!(!reply.state().is_terminal(), "{name}");
                    let error = reply.into_completed().unwrap_err();
                    assert!(error.is_outcome_unknown(), "{name}: {error:?}");
                }
            }
            (Unknown, Err(error)) => {
                assert!(error.is_outcome_unknown() && error.task_id().is_some(), "{name}");
            }
            (NotWhole, Err(error)) => {
                assert!(error.is_interrupted() && !error.is_outcome_unknown(), "{name}: {error:?}");
                assert!(!error.is_safe_to_ask_again(), "{name}: {error:?}");
            }
            (end, reply) => panic!("{name}: {end:?} expected, got {reply:?}"),
        }
    });
    futures::future::join_all(runs).await;
}

/// Without lookups, nothing but the stream is known: its state is shown, or it is an error.
#[tokio::test]
async fn without_lookups_a_final_event_without_a_recognized_state_is_no_success() {
    for (name, status) in [("unrecognized", json!({"state": "PAUSED"})), ("none", json!({}))] {
        let last = move |id: &str| vec![event(&json!({"id": id, "status": status, "final": true}))];
        let server = streaming(last, |_, _| panic!("looked up")).await;
        let policy = RetryPolicy::default().reconcile_lost_answers(false);
        let client = client_with(config(&server.url).retry(policy));
        let texts: Result<Vec<_>, _> =
            client.ask_stream("hi").await.unwrap().text().try_collect().await;
        let reply = client.ask_stream("hi").await.unwrap().into_reply().await;
        match name {
            "none" => {
                assert!(texts.unwrap_err().is_outcome_unknown());
                assert!(reply.unwrap_err().is_outcome_unknown());
            }
            _ => {
                assert_eq!(texts.unwrap(), ["Hel"]);
                let error = reply.unwrap().into_completed().unwrap_err();
                assert!(error.is_outcome_unknown(), "{error:?}");
            }
        }
    }
}

/// With an idempotency key, such an ask is not settled: it is never sent again, and a later caller
/// looks it up.
#[tokio::test]
async fn an_ask_with_a_key_is_not_settled_by_an_end_that_proves_nothing() {
    for (name, status) in [("unrecognized", json!({"state": "PAUSED"})), ("none", json!({}))] {
        let last = move |id: &str| vec![event(&json!({"id": id, "status": status, "final": true}))];
        let sends = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sends);
        let last = move |id: &str| {
            counted.fetch_add(1, Ordering::SeqCst);
            last(id)
        };
        // The platform knows the end only later.
        let is_known = Arc::new(AtomicBool::new(false));
        let known = Arc::clone(&is_known);
        let get = move |_, id: &str| match known.load(Ordering::SeqCst) {
            true => result(&task(id, "COMPLETED", "Hello")),
            false => not_found(),
        };
        let server = streaming(last, get).await;
        let journal = MemoryJournal::new();
        let policy = RetryPolicy::default().recovery_timeout(Duration::from_millis(500));
        let config = config(&server.url).retry(policy).journal(journal.clone());
        let client = client_with(config);
        let ask = || Ask::new("hi").idempotency_key("order-1");
        let reply = client.ask_stream(ask()).await.unwrap().into_reply().await;
        assert_eq!(reply.is_ok(), name == "unrecognized", "{name}: {reply:?}");
        let entry = journal.get("order-1").await.unwrap().unwrap();
        assert_ne!(entry.state(), JournalState::Settled, "{name}");
        is_known.store(true, Ordering::SeqCst);
        let reply = client.ask_stream(ask()).await.unwrap().into_reply().await.unwrap();
        assert_eq!((reply.text().as_str(), reply.state()), ("Hello", &TaskState::Completed));
        assert_eq!(sends.load(Ordering::SeqCst), 1, "{name}");
        let entry = journal.get("order-1").await.unwrap().unwrap();
        assert_eq!(entry.state(), JournalState::Settled, "{name}");
    }
}

/// A task in the stream itself follows its chunks: where it says that there are no artifacts, they
/// were taken back. The text that was yielded already cannot be, which is an error.
#[tokio::test]
async fn a_streamed_task_that_lists_no_artifacts_takes_the_text_back() {
    let last = |id: &str| {
        vec![event(&json!({
            "id": id, "artifacts": [], "status": {"state": "COMPLETED", "message": "done"},
        }))]
    };
    let server = streaming(last, |_, _| panic!("looked up")).await;
    let client = client(&server);
    let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.state()), ("done", &TaskState::Completed));
    let texts: Vec<_> = client.ask_stream("hi").await.unwrap().text().collect().await;
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert_eq!(texts[0].as_ref().unwrap(), "Hel");
    let error = texts[1].as_ref().unwrap_err();
    assert!(!error.is_outcome_unknown() && !error.is_safe_to_ask_again(), "{error:?}");
}

/// A lookup is answered from what the server stored, which need not be what it streamed.
#[tokio::test]
async fn a_task_found_without_artifacts_takes_nothing_back_and_is_no_whole_answer() {
    for (name, get) in [("bare", ENDED_BARE), ("empty", ENDED_EMPTY)] {
        let server = streaming(|_| Vec::new(), get).await;
        let client = client(&server);
        let mut events = client.ask_stream("hi").await.unwrap();
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        let error = last.unwrap().unwrap_err();
        assert!(error.is_interrupted() && !error.is_outcome_unknown(), "{name}: {error:?}");
        assert!(!error.is_safe_to_ask_again(), "{name}: {error:?}");
        let so_far = events.reply_so_far();
        assert_eq!((so_far.text().as_str(), so_far.state()), ("Hel", &TaskState::Completed));
        let raw: Vec<_> = client.ask_stream_raw("hi").await.unwrap().collect().await;
        assert!(raw.last().unwrap().as_ref().is_err_and(|error| error.is_interrupted()), "{name}");
    }

    // A snapshot of a task that still runs takes nothing back either.
    let server = streaming(
        |_| Vec::new(),
        |number, id| match number {
            0 => result(&json!({"id": id, "status": {"state": "WORKING"}, "artifacts": []})),
            _ => result(&task(id, "COMPLETED", "Hello")),
        },
    )
    .await;
    let events: Vec<Event> =
        client(&server).ask_stream("hi").await.unwrap().try_collect().await.unwrap();
    let texts: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Task(task) => Some(task.text()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["Hel", "Hello"]);
}

/// A state that is not recognized does not prove the end of an answer that was cut. The task is
/// looked up further, until that is an error. The state is shown as it was received.
#[tokio::test]
async fn a_cut_stream_does_not_end_well_in_a_state_that_is_not_recognized() {
    let working = |id: &str| event(&json!({"id": id, "status": {"state": "WORKING"}}));
    let final_working =
        |id: &str| event(&json!({"id": id, "status": {"state": "WORKING"}, "final": true}));
    type Last = fn(&str) -> Step;
    for (name, last) in [("cut", working as Last), ("final", final_working as Last)] {
        // It goes on: the answer is found.
        let get: Get = |number, id| match number < 2 {
            true => result(&task(id, "PAUSED", "He")),
            false => result(&task(id, "COMPLETED", "Hello")),
        };
        let server = streaming(move |id| vec![last(id)], get).await;
        let reply = client(&server).ask_stream("hi").await.unwrap().into_reply().await.unwrap();
        assert_eq!((reply.text().as_str(), reply.state()), ("Hello", &TaskState::Completed));

        // It stands still: by then, and with lookups alone, it is an error.
        for follows in [true, false] {
            let server = streaming(move |id| vec![last(id)], SAME).await;
            let policy = RetryPolicy::default()
                .recovery_timeout(Duration::from_secs(1))
                .follow_running_tasks(follows);
            let client = client_with(config(&server.url).retry(policy));
            let started = Instant::now();
            let mut events = client.ask_stream("hi").await.unwrap();
            let mut end = None;
            while let Some(event) = events.next().await {
                end = Some(event);
            }
            let error = end.unwrap().unwrap_err();
            assert!(error.is_outcome_unknown(), "{name}, {follows}: {error:?}");
            assert!(!error.is_safe_to_ask_again(), "{name}, {follows}: {error:?}");
            assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
            if name == "cut" || follows {
                let state = TaskState::Other("PAUSED".to_owned());
                assert_eq!(events.reply_so_far().state(), &state, "{name}, {follows}");
                assert!(error.to_string().contains("PAUSED"), "{name}, {follows}: {error}");
            }
            let texts: Vec<_> = client.ask_stream("hi").await.unwrap().text().collect().await;
            assert!(texts.last().unwrap().is_err(), "{name}, {follows}");
        }
    }

    // If the server gives such a state as its reply, it is the reply.
    let server = streaming(|_| Vec::new(), SAME).await;
    let followed = client(&server).follow("tsk-1").await.unwrap().into_reply().await.unwrap();
    assert_eq!(followed.state(), &TaskState::Other("PAUSED".to_owned()));
    assert!(followed.into_completed().unwrap_err().is_outcome_unknown());
}

#[tokio::test]
async fn a_running_task_that_ends_with_an_empty_list_is_no_whole_reply() {
    for (name, get) in [("bare", ENDED_BARE), ("empty", ENDED_EMPTY)] {
        let server = serve(move |asked: RawRequest| match asked.path.as_str() {
            SEND => result(&task(asked.task_id(), "WORKING", "half an ans")),
            GET => get(0, asked.task_id()),
            _ => not_found(),
        })
        .await;
        let error = client(&server).ask("hi").await.unwrap_err();
        assert!(error.is_interrupted() && !error.is_outcome_unknown(), "{name}: {error:?}");
        assert!(!error.is_safe_to_ask_again(), "{name}: {error:?}");
    }
}
