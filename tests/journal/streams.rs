//! Streamed asks with idempotency keys.

use std::time::Duration;

use futures::StreamExt;
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Event, JournalState, TaskState};

use crate::support::*;

#[tokio::test]
async fn a_stream_is_recorded_and_a_later_one_yields_a_snapshot() {
    for kept in journals().await {
        let payman = emulator().await;
        let app = client(&payman, &kept.journal);
        let first = app.ask_stream(pay("a")).await.unwrap().into_reply().await.unwrap();
        let other = client(&payman, &kept.journal);
        let events: Vec<_> = other.ask_stream(pay("a")).await.unwrap().collect().await;
        let [Ok(Event::Task(task))] = events.as_slice() else {
            panic!("{}: {events:?}", kept.name)
        };
        assert_eq!((task.text(), task.state()), (first.text(), first.state()));
        assert_eq!(other.ask_stream(pay("a")).await.unwrap().into_reply().await.unwrap(), first);
        assert_eq!(other.ask(pay("a")).await.unwrap(), first, "{}", kept.name);
        let raw: Vec<_> = other.ask_stream_raw(pay("a")).await.unwrap().collect().await;
        assert_eq!(raw.len(), 1);
        assert!(raw[0].as_ref().unwrap().as_str().contains(first.task_id().as_str()));
        assert_eq!(payments(&payman), 1);
        let entry = kept.journal.get("a").await.unwrap().unwrap();
        assert_eq!((entry.state(), entry.revision()), (JournalState::Settled, 2));
    }
}

#[tokio::test]
async fn a_stream_of_what_was_asked_yields_a_snapshot_and_the_other_way_round() {
    let kept = sqlite().await;
    let payman = emulator().await;
    let client = client(&payman, &kept.journal);
    let asked = client.ask(pay("a")).await.unwrap();
    assert_eq!(client.ask_stream(pay("a")).await.unwrap().into_reply().await.unwrap(), asked);
    let raw: Vec<_> = client.ask_stream_raw(pay("b")).await.unwrap().collect().await;
    assert!(raw.len() > 1);
    assert_eq!(client.ask(pay("b")).await.unwrap().state(), &TaskState::Completed);
    assert_eq!(payments(&payman), 2);
}

#[tokio::test]
async fn it_is_recorded_by_the_time_that_the_last_event_is_seen() {
    let kept = sqlite().await;
    let payman = emulator().await;
    let client = client(&payman, &kept.journal);
    let mut events = client.ask_stream(pay("a")).await.unwrap();
    while !events.next().await.unwrap().unwrap().is_final() {}
    drop(events);
    let entry = kept.journal.get("a").await.unwrap().unwrap();
    assert_eq!(entry.state(), JournalState::Settled);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_found_by_the_next_caller() {
    for kept in journals().await {
        let payman = emulator().await;
        payman.configure(|settings| settings.agent_delay = Duration::from_millis(200));
        let client = client(&payman, &kept.journal);
        let mut events = client.ask_stream(pay("a")).await.unwrap();
        events.next().await.unwrap().unwrap();
        drop(events);
        let entry = kept.journal.get("a").await.unwrap().unwrap();
        assert_eq!(entry.state(), JournalState::Sending);
        let events: Vec<_> = client.ask_stream(pay("a")).await.unwrap().collect().await;
        assert!(matches!(events.as_slice(), [Ok(Event::Task(_))]), "{}: {events:?}", kept.name);
        assert_eq!(payments(&payman), 1);
    }
}

#[tokio::test]
async fn a_refusal_at_set_up_goes_back_to_reserved_and_a_cut_is_recovered() {
    let kept = memory().await;
    let payman = emulator().await;
    let client = client(&payman, &kept.journal);
    payman.fault(Fault::status(400).on(Operation::SendSubscribe));
    assert!(client.ask_stream(pay("a")).await.unwrap_err().is_safe_to_ask_again());
    let entry = kept.journal.get("a").await.unwrap().unwrap();
    assert_eq!(entry.state(), JournalState::Reserved);
    payman.fault(Fault::cut(40).on(Operation::SendSubscribe));
    let reply = client.ask_stream(pay("a")).await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.state(), &TaskState::Completed);
    assert_eq!(client.ask(pay("a")).await.unwrap().text(), reply.text());
    assert_eq!(payments(&payman), 1);
}
