//! Tests that the SDK's values survive serialization, in JSON and in formats that are not
//! human-readable.

#![cfg(test)]

use std::fmt::Debug;

use payman_sdk::{
    Artifact, ArtifactUpdate, Event, Message, Part, RawReply, Reply, RequestId, Role, SessionId,
    StatusUpdate, Task, TaskId, TaskState, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Serializes and deserializes a value as JSON text, as a JSON value, and in postcard.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "JSON text");
    let json = serde_json::to_value(value).unwrap();
    assert_eq!(&serde_json::from_value::<T>(json).unwrap(), value, "JSON value");
    let bytes = postcard::to_stdvec(value).unwrap();
    assert_eq!(&postcard::from_bytes::<T>(&bytes).unwrap(), value, "postcard");
}

fn task() -> Task {
    let mut task = Task::new("tsk-1", TaskState::InputRequired);
    task.session_id = Some(SessionId::from("ses-1"));
    task.status.timestamp = Some(Timestamp::from("2025-06-27T16:31:41.510422505Z"));
    let mut artifact = Artifact::from_text("You have $5.00.");
    artifact.name = Some("response".to_owned());
    artifact.parts.push(Part::data(json!({"balance": [5, 0]})));
    artifact.parts.push(Part::file(json!({"name": "a.pdf", "bytes": "aGk="})));
    artifact.metadata.insert("n".to_owned(), json!(1.5));
    task.artifacts.push(artifact);
    task.history.push(Message::new(Role::User, "How much?"));
    task.history.push(Message::new(Role::Agent, "A moment."));
    task.metadata.insert("agentId".to_owned(), json!("ai-1"));
    task
}

#[test]
fn ids_states_and_times() {
    round_trip(&TaskId::new());
    round_trip(&SessionId::from("anything, of any length: ".repeat(9)));
    round_trip(&RequestId::from("17"));
    for state in ["completed", "INPUT_REQUIRED", "new-state"] {
        round_trip(&state.parse::<TaskState>().unwrap());
    }
    round_trip(&"2025-06-27T16:31:41".parse::<Timestamp>().unwrap());
    assert_eq!("tsk-1".parse::<TaskId>().unwrap(), "tsk-1");
}

#[test]
fn timestamps_are_ordered_by_the_point_in_time() {
    let mut times = ["2025-06-27T18:00:00+02:00", "2025-06-27T15:59:59.9Z", "2025-06-27T16:00:01"]
        .map(Timestamp::from);
    times.sort();
    let sorted: Vec<&str> = times.iter().map(Timestamp::as_str).collect();
    assert_eq!(
        sorted,
        ["2025-06-27T15:59:59.9Z", "2025-06-27T18:00:00+02:00", "2025-06-27T16:00:01"]
    );
}

#[test]
fn tasks_and_their_parts() {
    let task = task();
    round_trip(&task);
    round_trip(&Task::new("tsk-1", TaskState::Working));
    for artifact in &task.artifacts {
        round_trip(artifact);
        artifact.parts.iter().for_each(round_trip);
    }
    task.history.iter().for_each(round_trip);
    round_trip(&task.status);
}

#[test]
fn events() {
    let mut status = StatusUpdate::new("tsk-1", TaskState::Completed);
    status.is_final = true;
    let mut artifact = ArtifactUpdate::new("tsk-1", Artifact::from_text("more"));
    artifact.artifact.append = true;
    artifact.artifact.index = 3;
    round_trip(&status);
    round_trip(&artifact);
    let unknown: Value = json!({"kind": "new-event", "n": [1, null]});
    for event in [
        Event::Status(status),
        Event::Artifact(artifact),
        Event::Task(task()),
        Event::Task(Task::new("tsk-1", TaskState::Working)),
        Event::Unknown(unknown),
        Event::Unknown(json!(7)),
    ] {
        round_trip(&event);
    }
}

#[test]
fn replies() {
    let reply = Reply::from(task());
    let bytes = postcard::to_stdvec(&reply).unwrap();
    assert_eq!(postcard::from_bytes::<Reply>(&bytes).unwrap(), reply);

    // The formatted reply omits parts of the task, but a second round trip does not change it.
    let json = serde_json::to_value(&reply).unwrap();
    let again: Reply = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), json);
    assert_eq!(again.text(), reply.text());
    assert_eq!(again.state(), reply.state());
    assert_eq!(again.session_id(), reply.session_id());
}

/// The formatted reply of a task without a history omits nothing.
#[test]
fn formatted_replies_deserialize_without_loss() {
    let mut whole = task();
    whole.history.clear();
    let mut second = Artifact::from_text("two");
    second.parts.push(Part::text("parts"));
    second.id = Some("a-2".to_owned());
    second.index = 7;
    let mut third = Artifact::from_text("with a time");
    third.index = 2;
    third.timestamp = Some(Timestamp::from("2025-06-27T16:31:41.584Z"));
    whole.artifacts.extend([second, third]);
    let mut plain = Task::new("tsk-2", TaskState::Completed);
    plain.artifacts.push(Artifact::from_text("You have $5.00."));
    for task in [whole, plain] {
        let reply = Reply::from(task);
        let json = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&json).unwrap(), reply, "{json}");
    }
}

#[test]
fn raw_replies() {
    let raw: RawReply = r#"{"result": {"n": 1.10000000000000000001}}"#.parse().unwrap();
    let text = serde_json::to_string(&raw).unwrap();
    assert_eq!(serde_json::from_str::<RawReply>(&text).unwrap().as_str(), raw.as_str());
    let bytes = postcard::to_stdvec(&raw).unwrap();
    assert_eq!(postcard::from_bytes::<RawReply>(&bytes).unwrap().as_str(), raw.as_str());
    assert!("{".parse::<RawReply>().is_err());
}
