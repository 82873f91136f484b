//! Asks with idempotency keys, on every kind of journal.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{
    Ask, Client, ErrorKind, Journal, JournalEntry, JournalFilter, JournalState, TaskState,
};

use crate::support::*;

async fn entry(journal: &Arc<dyn Journal>, key: &str) -> JournalEntry {
    journal.get(key).await.unwrap().expect("the key is known")
}

#[tokio::test]
async fn the_same_key_gets_the_same_reply_and_nothing_is_sent() {
    for kept in journals().await {
        let payman = emulator().await;
        let first = client(&payman, &kept.journal).ask(pay("a")).await.unwrap();
        // Another client, as another process has it.
        let other = client(&payman, &kept.journal);
        let again = other.ask(pay("a")).await.unwrap();
        assert_eq!(first, again, "{}", kept.name);
        let raw = other.ask_raw(pay("a")).await.unwrap();
        assert!(raw.as_str().contains(first.task_id().as_str()));
        assert_eq!(payments(&payman), 1, "{}", kept.name);

        let entry = entry(&kept.journal, "a").await;
        assert_eq!((entry.state(), entry.attempts()), (JournalState::Settled, 1));
        assert_eq!(entry.revision(), 2, "two durable writes");
        assert_eq!(entry.reply().as_ref(), Some(&first));
        assert_eq!(entry.task_id(), first.task_id());
        assert_eq!(entry.text(), PAY);
        other.ask(pay("b")).await.unwrap();
        assert_eq!(payments(&payman), 2);
    }
}

#[tokio::test]
async fn the_raw_reply_is_the_servers_own_bytes() {
    for kept in journals().await {
        let payman = emulator().await;
        let client = client(&payman, &kept.journal);
        let first = client.ask_raw(pay("a")).await.unwrap();
        let again = client.ask_raw(pay("a")).await.unwrap();
        assert_eq!(first.as_str(), again.as_str(), "{}", kept.name);
    }
}

#[tokio::test]
async fn other_content_and_other_identities_conflict_and_nothing_is_sent() {
    for kept in journals().await {
        let payman = emulator().await;
        let app = client(&payman, &kept.journal);
        app.ask(pay("a")).await.unwrap();
        let sends = payman.state().sends.len();
        let other = |config: payman_sdk::Config| {
            Client::with_credentials(config.journal(Arc::clone(&kept.journal))).unwrap()
        };
        let subject = other(config(&payman).subject("user-17"));
        let id =
            other(payman_sdk::Config::new("other").client_secret("s").base_url(payman.base_url()));
        for (client, ask) in [
            (&app, Ask::new("Pay Tyllen $60").idempotency_key("a")),
            (&app, pay("a").metadata("x", 1)),
            (&app, pay("a").new_session()),
            (&subject, pay("a")),
            (&id, pay("a")),
        ] {
            let error = client.ask(ask.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::IdempotencyConflict, "{}", kept.name);
            assert!(!error.is_outcome_unknown());
            let error = client.ask_stream(ask).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::IdempotencyConflict, "{}", kept.name);
        }
        assert_eq!(payman.state().sends.len(), sends);
    }
}

#[tokio::test]
async fn a_key_without_a_journal_and_a_bad_key_are_refused() {
    let payman = emulator().await;
    let sends = payman.state().sends.len();
    let error = payman.client().ask(pay("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = payman.client().ask_stream(pay("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let kept = memory().await;
    let client = client(&payman, &kept.journal);
    for key in ["", "  ", "a\nb", &"x".repeat(256)] {
        assert_eq!(client.ask(pay(key)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(payman.state().sends.len(), sends);
}

#[tokio::test]
async fn callers_at_the_same_time_pay_once() {
    for kept in journals().await {
        let payman = emulator().await;
        payman.configure(|settings| settings.agent_delay = Duration::from_millis(300));
        let clients: Vec<_> = (0..4).map(|_| client(&payman, &kept.journal)).collect();
        let asks = (0..16).map(|place| clients[place % 4].ask(pay("a")));
        let replies = futures::future::join_all(asks).await;
        let first = replies[0].as_ref().unwrap();
        for reply in &replies {
            assert_eq!(reply.as_ref().unwrap().text(), first.text(), "{}", kept.name);
        }
        assert_eq!(payments(&payman), 1, "{}", kept.name);
    }
}

#[tokio::test]
async fn a_task_that_failed_is_a_stored_reply_too() {
    for kept in journals().await {
        let payman = emulator().await;
        let client = client(&payman, &kept.journal);
        let ask = || Ask::new("Pay Tyllen $5000000").idempotency_key("a");
        assert_eq!(client.ask(ask()).await.unwrap().state(), &TaskState::Failed);
        assert_eq!(client.ask(ask()).await.unwrap().state(), &TaskState::Failed);
        assert_eq!(entry(&kept.journal, "a").await.state(), JournalState::Settled);
        assert_eq!(payman.state().sends.len(), 2);
    }
}

#[tokio::test]
async fn a_question_is_stored_and_its_answer_found() {
    for kept in journals().await {
        let payman = emulator().await;
        let client = client(&payman, &kept.journal);
        let ask = || Ask::new("Pay Bob $50").idempotency_key("a");
        let question = client.ask(ask()).await.unwrap();
        assert_eq!(question.state(), &TaskState::InputRequired);
        assert_eq!(client.ask(ask()).await.unwrap(), question, "{}", kept.name);
        assert_eq!(entry(&kept.journal, "a").await.state(), JournalState::AwaitingInput);
        let answer = || question.answer("yes, create them").idempotency_key("a/answer");
        let paid = client.ask(answer()).await.unwrap();
        assert_eq!(paid.state(), &TaskState::Completed);
        assert_eq!(client.ask(answer()).await.unwrap(), paid);
        // A caller that uses the first key again does not see the old question.
        assert_eq!(client.ask(ask()).await.unwrap().state(), &TaskState::Completed);
        assert_eq!(entry(&kept.journal, "a").await.state(), JournalState::Settled);
        assert_eq!(payman.state().payments.len(), 1);
    }
}

#[tokio::test]
async fn what_was_surely_not_done_may_be_asked_again() {
    for kept in journals().await {
        let payman = emulator().await;
        payman.fault(Fault::status(400).on(Operation::Send));
        let client = client(&payman, &kept.journal);
        let error = client.ask(pay("a")).await.unwrap_err();
        assert!(error.is_safe_to_ask_again(), "{error:?}");
        let reserved = entry(&kept.journal, "a").await;
        assert_eq!(reserved.state(), JournalState::Reserved, "{}", kept.name);
        assert!(reserved.last_error().is_some());
        assert_eq!(reserved.due_at(), None, "no worker sends what was asked directly");
        client.ask(pay("a")).await.unwrap();
        assert_eq!(entry(&kept.journal, "a").await.attempts(), 2);
        assert_eq!(payments(&payman), 1);
    }
}

#[tokio::test]
async fn a_caller_that_dies_leaves_a_task_that_the_next_one_finds() {
    for kept in journals().await {
        let payman = emulator().await;
        payman.fault(Fault::stall().on(Operation::Send).after_acting());
        let ask = tokio::spawn(client(&payman, &kept.journal).ask(pay("a")));
        until("paid", async || payments(&payman) == 1).await;
        ask.abort();
        assert!(ask.await.unwrap_err().is_cancelled());
        assert_eq!(entry(&kept.journal, "a").await.state(), JournalState::Sending);
        let reply = client(&payman, &kept.journal).ask(pay("a")).await.unwrap();
        assert_eq!(reply.state(), &TaskState::Completed, "{}", kept.name);
        assert_eq!(entry(&kept.journal, "a").await.state(), JournalState::Settled);
        assert_eq!(payments(&payman), 1);
    }
}

#[tokio::test]
async fn what_the_platform_does_not_know_is_decided_by_a_person() {
    for kept in journals().await {
        let payman = emulator().await;
        // Recorded, and gone before the platform took it up.
        payman.fault(Fault::stall().on(Operation::Send));
        let ask = tokio::spawn(client(&payman, &kept.journal).ask(pay("a")));
        until("sending", async || kept.journal.get("a").await.unwrap().is_some()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        ask.abort();
        let _ = ask.await;
        let client = client(&payman, &kept.journal);
        for _ in 0..2 {
            let error = client.ask(pay("a")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TaskNotFound, "{}: {error:?}", kept.name);
            assert!(error.is_outcome_unknown() && !error.is_safe_to_ask_again());
            assert_eq!(error.task_id(), Some(entry(&kept.journal, "a").await.task_id()));
        }
        assert_eq!(payments(&payman), 0);
        assert!(kept.journal.release("a", " ").await.is_err());
        assert!(kept.journal.release("b", "no such key").await.unwrap_err().is_invalid_input());
        let released = kept.journal.release("a", "checked by hand: not paid").await.unwrap();
        assert_eq!(released.state(), JournalState::Reserved);
        client.ask(pay("a")).await.unwrap();
        let settled = entry(&kept.journal, "a").await;
        assert_eq!((settled.state(), settled.attempts()), (JournalState::Settled, 2));
        let [release] = settled.releases() else { panic!("{:?}", settled.releases()) };
        assert_eq!(release.reason, "checked by hand: not paid");
        assert_eq!(release.from, JournalState::Sending);
        assert_ne!(&release.task_id, settled.task_id());
        assert_eq!(payments(&payman), 1);
    }
}

#[tokio::test]
async fn a_platform_that_cannot_be_asked_leaves_it_unknown() {
    let payman = emulator_of(payman_sdk::Emulator::builder().without(Operation::Get)).await;
    let kept = memory().await;
    payman.fault(Fault::close().on(Operation::Send).after_acting());
    let client = client(&payman, &kept.journal);
    for _ in 0..2 {
        let error = client.ask(pay("a")).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error:?}");
    }
    assert_eq!(entry(&kept.journal, "a").await.state(), JournalState::Sending);
    assert_eq!(payments(&payman), 1);
}

#[tokio::test]
async fn entries_are_listed_by_state_and_age_and_forgotten() {
    for kept in journals().await {
        let payman = emulator().await;
        let client = client(&payman, &kept.journal);
        for key in ["a", "b", "c"] {
            client.ask(pay(key)).await.unwrap();
        }
        payman.fault(Fault::status(400).on(Operation::Send));
        client.ask(pay("d")).await.unwrap_err();
        let list = async |filter: JournalFilter| -> Vec<String> {
            let entries = kept.journal.list(&filter).await.unwrap();
            entries.iter().map(|entry| entry.key().to_owned()).collect()
        };
        assert_eq!(list(JournalFilter::new()).await, ["a", "b", "c", "d"], "{}", kept.name);
        assert_eq!(list(JournalState::Reserved.into()).await, ["d"]);
        let both = JournalFilter::from(JournalState::Reserved).state(JournalState::Settled);
        assert_eq!(list(both.skip(1).limit(2)).await, ["b", "c"]);
        let old = JournalFilter::new().older_than(Duration::from_secs(3600));
        assert!(list(old).await.is_empty());
        let soon = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(kept.journal.forget_before(SystemTime::UNIX_EPOCH).await.unwrap(), 0);
        assert_eq!(kept.journal.forget_before(soon).await.unwrap(), 3);
        assert_eq!(list(JournalFilter::new()).await, ["d"]);
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_had_leaves_no_trace() {
    let payman = emulator().await;
    let kept = memory().await;
    payman.fault(Fault::status(401).on(Operation::Token).always());
    let error = client(&payman, &kept.journal).ask(pay("a")).await.unwrap_err();
    assert!(error.is_safe_to_ask_again(), "{error:?}");
    assert_eq!(kept.journal.get("a").await.unwrap(), None);
}
