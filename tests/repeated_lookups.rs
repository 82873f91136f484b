//! Tests that an answer depends neither on the number of lookups, nor on how much of it the earlier
//! lookups showed.

#![cfg(test)]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::{RawRequest, RawServer, Step, events_head, json_reply, not_found, serve};
use common::{GET, SEND, STREAM, client_with, config};
use futures::TryStreamExt;
use futures::future::join_all;
use payman_sdk::{Ask, Client, Event, Reply, RetryPolicy};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

/// Returns so many values; `PAYMAN_SEED` repeats a run. All cases run at once, since each waits
/// between its lookups.
fn generate<S: Strategy>(cases: usize, strategy: S) -> Vec<S::Value> {
    let seed = std::env::var("PAYMAN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("PAYMAN_SEED={seed}, {cases} cases");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..cases).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => "[a-z é€\u{1f600}\n]{0,12}".prop_map(|text| json!({"type": "text", "text": text})),
        1 => any::<i32>().prop_map(|number| {
            json!({"type": "data", "data": {"n": number, "x": f64::from(number) / 8.0}})
        }),
        1 => "[a-z]{1,6}".prop_map(|name| {
            json!({"type": "file", "file": {"name": name, "bytes": "aGk="}})
        }),
    ]
}

/// Generates the artifacts of the whole answer in parts, so that it can be shown up to any of them.
fn artifacts() -> impl Strategy<Value = Vec<Vec<Value>>> {
    prop::collection::vec(prop::collection::vec(part(), 1..4), 1..4)
}

/// The snapshots that a server returns before the task is complete.
#[derive(Clone, Debug)]
struct Case {
    artifacts: Vec<Vec<Value>>,
    /// The share of parts that each earlier lookup shows, in thousandths: the same or growing.
    shown: Vec<usize>,
    message: Option<String>,
    state: &'static str,
}

fn case() -> impl Strategy<Value = Case> {
    let shown = prop::collection::vec(0..=1000usize, 0..4);
    let state = prop::sample::select(vec!["COMPLETED", "FAILED", "INPUT_REQUIRED", "rejected"]);
    (artifacts(), shown, prop::option::of("[a-zé ]{0,9}"), state).prop_map(
        |(artifacts, mut shown, message, state)| {
            shown.sort_unstable();
            Case { artifacts, shown, message, state }
        },
    )
}

/// Generates the cases, and adds one whose first artifact grows when a second one comes.
fn cases() -> Arc<Vec<Case>> {
    let text = |text: &str| json!({"type": "text", "text": text});
    let artifacts = vec![vec![text("A"), text("B")], vec![text("C")]];
    let grows = Case { artifacts, shown: vec![340], message: None, state: "COMPLETED" };
    Arc::new([generate(40, case()), vec![grows]].concat())
}

impl Case {
    fn task(&self, id: &str) -> Value {
        let mut task = snapshot(id, self.state, &self.artifacts, usize::MAX);
        task["status"]["message"] = json!(self.message);
        task["metadata"] = json!({"agentId": "ai-1"});
        task["history"] = json!([{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]);
        task
    }

    /// Returns the snapshots that the lookups show, the last one complete.
    fn snapshots(&self, id: &str) -> Vec<Value> {
        let parts: usize = self.artifacts.iter().map(Vec::len).sum();
        let earlier = self
            .shown
            .iter()
            .map(|shown| snapshot(id, "WORKING", &self.artifacts, parts * shown / 1000));
        earlier.chain([self.task(id)]).collect()
    }
}

/// Shows the first parts of a task.
fn snapshot(id: &str, state: &str, artifacts: &[Vec<Value>], mut parts: usize) -> Value {
    let mut shown = Vec::new();
    for (index, artifact) in artifacts.iter().enumerate() {
        let first = &artifact[..artifact.len().min(parts)];
        parts -= first.len();
        if !first.is_empty() {
            shown.push(json!({"index": index, "name": "response", "parts": first}));
        }
    }
    json!({"id": id, "sessionId": "ses-server", "status": {"state": state}, "artifacts": shown})
}

/// The ways to receive an answer.
const WAYS: [&str; 6] = ["direct", "lost", "running", "cut", "cut after all", "followed"];

/// Starts a server of all cases. The task's id names the way and the case.
async fn server(cases: Arc<Vec<Case>>) -> RawServer {
    let lookups: Mutex<HashMap<String, usize>> = Mutex::default();
    serve(move |asked: RawRequest| {
        let id = asked.task_id();
        let (way, number) = id.split_once('/').unwrap();
        let case = &cases[number.parse::<usize>().unwrap()];
        let snapshots = case.snapshots(id);
        let reply = |task: &Value| vec![json_reply(&json!({"result": task}))];
        match (asked.path.as_str(), way) {
            (GET, _) => {
                let mut lookups = lookups.lock().unwrap();
                let times = lookups.entry(id.to_owned()).or_default();
                let at = (*times).min(snapshots.len() - 1);
                *times += 1;
                reply(&snapshots[at])
            }
            (SEND, "direct") => reply(&case.task(id)),
            (SEND, "lost") => Vec::new(),
            (SEND, "running") => reply(&json!({"id": id, "status": {"state": "SUBMITTED"}})),
            (STREAM, _) => {
                // As much as the first lookup shows, or everything but the state.
                let first = match way {
                    "cut" => snapshots[0]["artifacts"].clone(),
                    _ => case.task(id)["artifacts"].clone(),
                };
                let working = json!({"id": id, "status": {"state": "WORKING"}});
                let artifacts = first.as_array().unwrap().iter();
                let chunks = artifacts.map(|artifact| json!({"id": id, "artifact": artifact}));
                let events = [working].into_iter().chain(chunks).map(|result| {
                    let event = format!("data: {}\n\n", json!({"result": result}));
                    Step::Send(event.into_bytes())
                });
                [events_head()].into_iter().chain(events).collect()
            }
            _ => not_found(),
        }
    })
    .await
}

/// Returns a reply as JSON, without the ids that each ask has of its own.
fn essence(reply: &Reply) -> Value {
    let mut json = serde_json::to_value(reply).unwrap();
    for own in ["id", "taskId", "requestId", "sessionId"] {
        json.as_object_mut().unwrap().remove(own);
    }
    json
}

async fn reply_of(client: &Client, way: &str, number: usize) -> Reply {
    let id = format!("{way}/{number}");
    let ask = || Ask::new("hi").with_task_id(id.as_str());
    let reply = match way {
        "direct" | "lost" | "running" => client.ask(ask()).await,
        "followed" => client.follow(id.as_str()).await.unwrap().into_reply().await,
        _ => client.ask_stream(ask()).await.unwrap().into_reply().await,
    };
    reply.unwrap_or_else(|error| panic!("{id}: {error:?}"))
}

fn client(server: &RawServer) -> Client {
    let policy = RetryPolicy::default().recovery_timeout(Duration::from_secs(20));
    client_with(config(&server.url).retry(policy))
}

#[tokio::test]
async fn an_answer_does_not_depend_on_how_often_it_is_looked_up() {
    let cases = cases();
    let server = server(Arc::clone(&cases)).await;
    let client = client(&server);
    let runs = cases.iter().enumerate().map(|(number, case)| {
        let client = &client;
        async move {
            let replies = join_all(WAYS.map(|way| reply_of(client, way, number))).await;
            let direct = essence(&replies[0]);
            for (way, reply) in WAYS.iter().zip(&replies) {
                assert_eq!(essence(reply), direct, "{way}: {case:?}");
                assert_eq!(reply.text(), replies[0].text(), "{way}: {case:?}");
            }
            // Once complete, it is the same as often as it is looked up.
            let task = client.get_task(format!("lost/{number}")).await.unwrap();
            assert_eq!(&task, replies[1].task(), "{case:?}");
        }
    });
    join_all(runs).await;
}

/// The text that the stream yielded before a cut is the start of the whole text, independent of the
/// lookups.
#[tokio::test]
async fn the_text_does_not_depend_on_how_often_it_is_looked_up() {
    let cases = cases();
    let server = server(Arc::clone(&cases)).await;
    let client = client(&server);
    let runs = cases.iter().enumerate().map(|(number, case)| {
        let client = &client;
        async move {
            let whole = reply_of(client, "direct", number).await.text();
            let ask = Ask::new("hi").with_task_id(format!("cut/{number}"));
            let texts = client.ask_stream(ask).await.unwrap().text();
            let texts: Vec<String> =
                texts.try_collect().await.unwrap_or_else(|error| panic!("{error:?}: {case:?}"));
            assert_eq!(texts.concat(), whole, "{case:?}");
            // Each snapshot shows no less than the one before.
            let id = format!("followed/{number}");
            let events: Vec<Event> = client.follow(id).await.unwrap().try_collect().await.unwrap();
            let sizes = events.iter().map(|event| match event {
                Event::Task(task) => task.artifacts.iter().map(|it| it.parts.len()).sum(),
                event => panic!("{event:?}"),
            });
            let sizes: Vec<usize> = sizes.collect();
            assert!(sizes.is_sorted(), "{sizes:?}: {case:?}");
            assert!(sizes.len() <= case.shown.len() + 1, "{sizes:?}: {case:?}");
        }
    });
    join_all(runs).await;
}
