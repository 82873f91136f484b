//! Following a task in odd surroundings: several runtimes, a reader that leaves, and servers that
//! forget the task or mix it up with another.

#![cfg(test)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::raw::{RawRequest, RawServer, Step, events_head, json_reply, not_found, serve};
use common::{GET, SEND, STREAM, client_with, config, task};
use futures::StreamExt;
use payman_sdk::{Ask, AskStream, Client, ErrorKind, Event, RetryPolicy, TaskState};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, Request};

fn result(task: &Value) -> Vec<Step> {
    vec![json_reply(&json!({"result": task}))]
}

fn rpc(code: i64) -> Vec<Step> {
    vec![json_reply(&common::rpc_error(code))]
}

fn event(result: &Value) -> Step {
    Step::Send(format!("data: {}\n\n", json!({"result": result})).into_bytes())
}

fn client(server: &RawServer, recovery: Duration) -> Client {
    let policy = RetryPolicy::default().recovery_timeout(recovery);
    client_with(config(&server.url).retry(policy))
}

/// Starts a server that answers lookups by their number, and notes the paths of all requests.
async fn server(
    others: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static,
    get: impl Fn(usize, &str) -> Vec<Step> + Send + Sync + 'static,
) -> (RawServer, Arc<Mutex<Vec<String>>>) {
    let paths: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&paths);
    let gets = AtomicUsize::new(0);
    let raw = serve(move |asked: RawRequest| {
        noted.lock().unwrap().push(asked.path.clone());
        match asked.path.as_str() {
            GET => get(gets.fetch_add(1, Ordering::SeqCst), asked.task_id()),
            _ => others(&asked),
        }
    })
    .await;
    (raw, paths)
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Creates a runtime for servers, driven by a thread of its own.
fn serving() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn completes_after(lookups: usize) -> impl Fn(usize, &str) -> Vec<Step> + Send + Sync + 'static {
    move |number, id| match number < lookups {
        true => result(&task(id, "WORKING", &"x".repeat(number))),
        false => result(&task(id, "COMPLETED", "done")),
    }
}

async fn text_of(events: AskStream) -> String {
    events.into_reply().await.unwrap().text()
}

#[test]
fn one_client_follows_on_several_runtimes_at_once() {
    let serving = serving();
    let (server, _) = serving.block_on(server(|_| not_found(), completes_after(12)));
    let client = client(&server, Duration::from_secs(2));
    let threads: Vec<_> = ["tsk-a", "tsk-b", "tsk-c"]
        .map(|id| {
            let client = client.clone();
            std::thread::spawn(move || {
                single().block_on(async { text_of(client.follow(id).await.unwrap()).await })
            })
        })
        .into();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "done");
    }
}

/// After the end of the runtime that follows a task, another one continues with the same client, or
/// even with the same stream.
#[test]
fn a_task_is_followed_further_when_its_runtime_has_ended() {
    let serving = serving();
    for h2 in [false, true] {
        let gets = AtomicUsize::new(0);
        let get = move |request: &Request| {
            let number = gets.fetch_add(1, Ordering::SeqCst);
            let state = if number < 5 { "WORKING" } else { "COMPLETED" };
            let text = ["", "1", "12", "123", "1234", "done"][number.min(5)];
            common::task_reply(state, text)(request)
        };
        // It keeps its connections open, so that they end with the runtime that drives them.
        let server = serving.block_on(async {
            let server = MockServer::start().await;
            Mock::given(path(GET)).respond_with(get).mount(&server).await;
            server
        });
        let client = client_with(config(&server.uri()).configure_http(move |http| match h2 {
            true => http.http2_prior_knowledge(),
            false => http,
        }));
        let first = single();
        let mut events = first.block_on(client.follow("tsk-a")).unwrap();
        for _ in 0..2 {
            first.block_on(events.next()).unwrap().unwrap();
        }
        drop(first);
        let second = single();
        let anew = async { text_of(client.follow("tsk-a").await.unwrap()).await };
        assert_eq!(second.block_on(anew), "done", "{h2}");
        assert_eq!(second.block_on(text_of(events)), "done", "{h2}");
        serving.block_on(async { drop(server) });
    }
}

/// A stream whose runtime stands still brings nothing more: it is idle, and its task is looked up
/// from the runtime that reads.
#[test]
fn a_stream_whose_runtime_stands_still_is_looked_up_from_another() {
    let serving = serving();
    let (server, paths) = serving.block_on(server(
        |asked| match asked.path.as_str() {
            STREAM => {
                let working = json!({"id": asked.task_id(), "status": {"state": "WORKING"}});
                let last = json!({
                    "id": asked.task_id(), "status": {"state": "COMPLETED", "message": "streamed"},
                    "final": true,
                });
                vec![
                    events_head(),
                    event(&working),
                    Step::Wait(Duration::from_millis(500)),
                    event(&last),
                ]
            }
            _ => not_found(),
        },
        |_, id| result(&task(id, "COMPLETED", "looked up")),
    ));
    let client = client(&server, Duration::from_secs(2));
    let still = single();
    let ask = Ask::new("hi").idle_timeout(Duration::from_millis(700));
    let mut events = still.block_on(client.ask_stream(ask)).unwrap();
    still.block_on(events.next()).unwrap().unwrap();
    // From here on, no thread drives `still`.
    assert_eq!(single().block_on(text_of(events)), "looked up");
    assert_eq!(paths.lock().unwrap().iter().filter(|path| *path == STREAM).count(), 1);
    drop(still);
}

#[tokio::test]
async fn following_ends_with_its_reader() {
    let (server, paths) =
        server(|_| vec![events_head(), Step::Stall], |_, id| result(&task(id, "WORKING", "half")))
            .await;
    let client = client(&server, Duration::from_secs(2));
    for reads in [0, 1, 2] {
        let before = server.disconnects.load(Ordering::SeqCst);
        let mut events = client.follow("tsk-a").await.unwrap();
        for _ in 0..reads {
            // The second snapshot does not come: the task stands still.
            let next = tokio::time::timeout(Duration::from_millis(800), events.next()).await;
            assert!(next.is_err() || next.unwrap().unwrap().is_ok());
        }
        drop(events);
        // The resubscribed stream, if it was opened, is closed.
        tokio::time::timeout(Duration::from_secs(2), async {
            while server.disconnects.load(Ordering::SeqCst) < before + usize::from(reads == 2) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the connection stays open");
        let asked = paths.lock().unwrap().len();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(paths.lock().unwrap().len(), asked, "{reads}: asked on without a reader");
    }
    // Leaving cancels nothing.
    assert!(!paths.lock().unwrap().iter().any(|path| path == common::CANCEL));
}

type Answer = fn() -> Vec<Step>;

/// The answers by which a server forgets a task.
const FORGETS: [(&str, Answer); 4] = [
    ("404", not_found),
    ("410", || {
        let head = "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        vec![Step::Send(head.as_bytes().to_vec())]
    }),
    ("-32001", || rpc(-32001)),
    ("-32601", || rpc(-32601)),
];

/// A server that forgets the task after its end does not take back the answer that was received.
#[tokio::test]
async fn a_task_that_is_forgotten_after_its_end_has_ended() {
    for (name, forgets) in FORGETS {
        let get = move |number, id: &str| match number {
            0 => result(&task(id, "WORKING", "half")),
            1 => result(&task(id, "COMPLETED", "whole")),
            _ => forgets(),
        };
        let (server, paths) = server(|_| not_found(), get).await;
        let client = client(&server, Duration::from_millis(500));
        let mut events = client.follow("tsk-a").await.unwrap();
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event.unwrap_or_else(|error| panic!("{name}: {error:?}")));
        }
        assert!(matches!(&last, Some(Event::Task(task)) if task.text() == "whole"), "{name}");
        assert!(events.next().await.is_none(), "{name}");
        let gets = paths.lock().unwrap().iter().filter(|path| *path == GET).count();
        assert_eq!(gets, 2, "{name}: a task that has ended is not looked up");
        let reply = events.into_reply().await.unwrap();
        assert_eq!((reply.text().as_str(), reply.state()), ("whole", &TaskState::Completed));
        // A new call gets the server's answer.
        assert!(client.follow("tsk-a").await.is_err(), "{name}");
    }
}

/// The state that a stream brought stays too, where the confirming lookup finds the task forgotten.
#[tokio::test]
async fn a_stream_of_a_forgotten_task_is_taken_as_it_is() {
    for (name, forgets) in FORGETS {
        let stream = |asked: &RawRequest| match asked.path.as_str() {
            STREAM => {
                let id = asked.task_id();
                let artifact = json!({"parts": [{"type": "text", "text": "whole"}]});
                vec![
                    events_head(),
                    event(&json!({"id": id, "artifact": artifact})),
                    event(&json!({"id": id, "status": {"state": "COMPLETED"}})),
                    Step::Stall,
                ]
            }
            _ => not_found(),
        };
        let (server, _) = server(stream, move |_, _| forgets()).await;
        let client = client(&server, Duration::from_millis(500));
        // Shorter than the time in which a stream may go on after such a state.
        let ask = Ask::new("hi").idle_timeout(Duration::from_millis(300));
        let reply = client.ask_stream(ask).await.unwrap().into_reply().await;
        let reply = reply.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((reply.text().as_str(), reply.state()), ("whole", &TaskState::Completed));
    }
}

/// A running task that is forgotten for good never ends well.
#[tokio::test]
async fn a_task_that_is_forgotten_while_it_runs_is_an_unknown_outcome() {
    for (name, forgets) in FORGETS {
        let get = move |number, id: &str| match number {
            0 => result(&task(id, "WORKING", "half")),
            _ => forgets(),
        };
        let (server, _) = server(|_| not_found(), get).await;
        let client = client(&server, Duration::from_millis(600));
        let started = Instant::now();
        let events = client.follow("tsk-a").await.unwrap();
        let error = events.into_reply().await.unwrap_err();
        assert!(error.is_outcome_unknown() && !error.is_safe_to_ask_again(), "{name}: {error:?}");
        assert_eq!(error.task_id().unwrap().as_str(), "tsk-a", "{name}");
        let took = started.elapsed();
        assert!(took > Duration::from_millis(600), "{name}: believed after {took:?}");
        assert!(took < Duration::from_secs(3), "{name}: {took:?}");
    }
}

/// Every second lookup returns another task, which is never shown. The right one is found.
#[tokio::test]
async fn a_server_that_mixes_tasks_up_now_and_then_is_asked_again() {
    let get = |number: usize, id: &str| match number {
        _ if number.is_multiple_of(2) => result(&task("tsk-other", "COMPLETED", "not yours")),
        1 | 3 => result(&task(id, "WORKING", "ha")),
        _ => result(&task(id, "COMPLETED", "mine")),
    };
    let others = |asked: &RawRequest| match asked.path.as_str() {
        SEND => Vec::new(),
        STREAM => {
            let artifact = json!({"parts": [{"type": "text", "text": "h"}]});
            vec![events_head(), event(&json!({"id": asked.task_id(), "artifact": artifact}))]
        }
        _ => not_found(),
    };
    let lost = async {
        let (server, _) = server(others, get).await;
        let reply = client(&server, Duration::from_secs(5)).ask("hi").await.unwrap();
        assert_eq!(reply.text(), "mine");
    };
    let running = async {
        let running = |asked: &RawRequest| result(&task(asked.task_id(), "WORKING", "h"));
        let (server, _) = server(running, get).await;
        let reply = client(&server, Duration::from_secs(5)).ask("hi").await.unwrap();
        assert_eq!(reply.text(), "mine");
    };
    let shown = |mut events: AskStream| async move {
        let id = events.task_id().clone();
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            assert_eq!(event.task_id(), Some(&id));
            assert!(!format!("{event:?}").contains("not yours"), "{event:?}");
        }
        assert_eq!(text_of(events).await, "mine");
    };
    let cut = async {
        let (server, _) = server(others, get).await;
        shown(client(&server, Duration::from_secs(5)).ask_stream("hi").await.unwrap()).await;
    };
    let followed = async {
        // The first lookup opens the stream: another task there is an error at once.
        let (server, _) = server(others, move |number, id| get(number + 1, id)).await;
        shown(client(&server, Duration::from_secs(5)).follow("tsk-a").await.unwrap()).await;
    };
    futures::join!(lost, running, cut, followed);
}

/// Lookups that return only other tasks do not prove that the task does not exist.
#[tokio::test]
async fn a_server_that_only_knows_another_task_proves_nothing() {
    let (server, _) =
        server(|_| Vec::new(), |_, _| result(&task("tsk-other", "FAILED", "not yours"))).await;
    let client = client(&server, Duration::from_millis(700));
    let error = client.ask("hi").await.unwrap_err();
    assert!(error.is_outcome_unknown() && !error.is_safe_to_ask_again(), "{error:?}");
    let error = client.follow("tsk-a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(!format!("{error} {error:?}").contains("not yours"));
}
