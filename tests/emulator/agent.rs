//! What the agent understands, and what it does to the books.

use payman_sdk::emulator::{Currency, Decimal, PaymentStatus};
use payman_sdk::{Emulator, SessionId, TaskId};

use crate::support::*;

fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

#[tokio::test]
async fn a_payment_is_exact_and_can_be_audited() {
    let peer = peer().await;
    assert!(peer.ask("How much money do I have in my wallet?").await.contains("$1,000,000.00"));
    assert_eq!(peer.ask("List all payees").await, "You have no payees yet.");
    assert!(peer.ask("Create a new payee with the email t@y.com").await.contains("t@y.com"));
    assert!(peer.ask("create payee Tyllen").await.contains("Tyllen"));
    assert!(peer.ask("create payee Tyllen").await.contains("already"));

    let task = TaskId::new();
    let answer = words(&peer.send(&task, "Pay Tyllen $0.10").await);
    assert!(answer.contains("$0.10") && answer.contains("Tyllen"), "{answer}");
    for _ in 0..9 {
        peer.ask("Pay Tyllen 0.1$").await;
    }
    peer.ask("send 100 TSD to t@y.com").await;

    let state = peer.emulator.state();
    assert_eq!(state.wallets[0].balance, decimal("999899.00"));
    assert_eq!((state.payees.len(), state.payments.len()), (2, 11));
    let first = &state.payments[0];
    assert_eq!((first.payee.as_str(), first.amount.to_string().as_str()), ("Tyllen", "0.10"));
    assert_eq!((&first.task_id, first.status), (&task, PaymentStatus::Completed));
    assert_eq!((&first.payee_id, &first.wallet_id), (&state.payees[1].id, &state.wallets[0].id));
    assert_eq!(first.timestamp.as_str().len(), 30);
    assert_eq!(
        (state.payments[10].currency, state.payments[10].amount),
        (Currency::Tsd, decimal("100.00"))
    );
    let spent: Decimal = state.payments.iter().map(|payment| payment.amount).sum();
    assert_eq!(state.wallets[0].balance + spent, decimal("1000000.00"));

    let last = peer.ask("Show my last 2 transactions").await;
    assert_eq!(last.lines().count(), 3, "{last}");
    assert!(
        last.contains("1. 100.00 TSD to t@y.com") && last.contains("2. $0.10 to Tyllen"),
        "{last}"
    );
}

#[tokio::test]
async fn an_unknown_payee_is_asked_about_first() {
    let peer = peer().await;
    let task = TaskId::new();
    let question = peer.send(&task, "Pay Tyllen $50").await;
    assert_eq!(question["status"]["state"], "INPUT_REQUIRED");
    assert_eq!(question["artifacts"], serde_json::json!([]));
    assert!(words(&question).contains("Tyllen") && words(&question).contains("$50.00"));
    assert!(peer.emulator.state().payments.is_empty());

    // Only in the task that was asked.
    assert!(peer.ask("yes, create them").await.contains("Nothing was done"));
    assert!(peer.emulator.state().payments.is_empty());

    let unclear = peer.send(&task, "yes, but only $20").await;
    assert_eq!(unclear["status"]["state"], "INPUT_REQUIRED");
    let done = peer.send(&task, "yes, create them").await;
    assert_eq!(done["status"]["state"], "COMPLETED");
    assert!(words(&done).contains("Paid $50.00 to Tyllen"), "{}", words(&done));
    let state = peer.emulator.state();
    assert_eq!((state.payees.len(), state.payments.len(), state.sends[&task]), (1, 1, 3));

    let other = TaskId::new();
    peer.send(&other, "Pay Nobody $5").await;
    assert!(words(&peer.send(&other, "no").await).contains("Nothing was done"));
    let another = TaskId::new();
    peer.send(&another, "Pay Tylen $5").await;
    assert!(words(&peer.send(&another, "Tyllen").await).contains("Paid $5.00 to Tyllen"));
    // Someone creates the payee while the question waits: there is one afterwards, not two.
    let slow = TaskId::new();
    peer.send(&slow, "Pay Zoë $5").await;
    peer.ask("create payee Zoë").await;
    assert!(words(&peer.send(&slow, "yes").await).contains("Paid $5.00 to Zoë"));
    let order = TaskId::new();
    peer.send(&order, "Pay Nobody $5").await;
    assert!(words(&peer.send(&order, "ok, pay Tyllen $7").await).contains("Paid $7.00 to Tyllen"));
    assert_eq!(peer.emulator.state().payees.len(), 2);
}

#[tokio::test]
async fn of_two_the_right_one_is_chosen() {
    let peer = peer().await;
    peer.ask("Create a payee named Tyllen Smith with the email a@b.com").await;
    peer.ask("Create a payee named Tyllen Jones with the email c@d.com").await;
    for (answer, paid) in [
        ("the second one", "Tyllen Jones"),
        ("1", "Tyllen Smith"),
        ("Jones", "Tyllen Jones"),
        ("a@b.com", "Tyllen Smith"),
    ] {
        let task = TaskId::new();
        let question = peer.send(&task, "Pay Tyllen $12.50").await;
        assert_eq!(question["status"]["state"], "INPUT_REQUIRED");
        assert!(words(&question).contains("2. Tyllen Jones (c@d.com)"), "{}", words(&question));
        assert_eq!(peer.send(&task, "the ninth").await["status"]["state"], "INPUT_REQUIRED");
        let done = words(&peer.send(&task, answer).await);
        assert!(done.contains(&format!("Paid $12.50 to {paid}")), "{answer}: {done}");
    }
    assert_eq!(peer.emulator.state().payments.len(), 4);
}

#[tokio::test]
async fn missing_words_are_asked_for() {
    let peer = peer().await;
    peer.ask("create payee Tyllen").await;
    for (order, answer) in [("Pay Tyllen", "$5"), ("Pay $5", "Tyllen")] {
        let task = TaskId::new();
        assert_eq!(peer.send(&task, order).await["status"]["state"], "INPUT_REQUIRED");
        assert!(words(&peer.send(&task, answer).await).contains("Paid $5.00 to Tyllen"));
    }
    let task = TaskId::new();
    assert_eq!(peer.send(&task, "Create a new payee").await["status"]["state"], "INPUT_REQUIRED");
    assert!(words(&peer.send(&task, "Zoë Ünal").await).contains("Zoë Ünal"));
}

#[tokio::test]
async fn what_cannot_be_paid_is_not() {
    let peer = peer_of(
        Emulator::builder().opening_balance(decimal("100.00")).approval_limit(decimal("50")),
    )
    .await;
    peer.ask("create payee Tyllen").await;
    let short = peer.send(&TaskId::new(), "Pay Tyllen $100.01").await;
    assert_eq!(short["status"]["state"], "FAILED");
    assert!(words(&short).contains("Insufficient funds"));
    for text in [
        "Pay Tyllen 5k",
        "Pay Tyllen $1,5",
        "Pay Tyllen -5",
        "Pay Tyllen €5",
        "Pay Tyllen $0",
        "Pay Tyllen $5 and $6",
    ] {
        let task = peer.send(&TaskId::new(), text).await;
        assert_eq!(task["status"]["state"], "COMPLETED", "{text}");
        assert!(words(&task).contains("Nothing was paid"), "{text}: {}", words(&task));
    }
    assert!(peer.emulator.state().payments.is_empty());

    let waiting = peer.send(&TaskId::new(), "Pay Tyllen $50.01").await;
    assert_eq!(waiting["status"]["state"], "COMPLETED");
    assert!(words(&waiting).contains("awaits approval") && words(&waiting).contains("$50.01"));
    assert!(peer.ask("Pay Tyllen $50.00").await.contains("Paid $50.00"));
    let state = peer.emulator.state();
    assert_eq!(state.payments[0].status, PaymentStatus::AwaitingApproval);
    assert_eq!(state.wallets[0].balance, decimal("50.00"));
    assert!(peer.ask("list transactions").await.contains("awaiting approval"));
}

#[tokio::test]
async fn sessions_are_remembered_and_never_mix() {
    let mut peer = peer().await;
    let alice = peer.session.clone();
    assert!(peer.ask("What did we talk about earlier?").await.contains("not talked"));
    peer.ask("create payee Tyllen").await;
    peer.session = SessionId::new();
    peer.ask("What's my balance?").await;
    let bob = peer.ask("What did we talk about earlier?").await;
    assert!(bob.contains("What's my balance?") && !bob.contains("Tyllen"), "{bob}");
    peer.session = alice;
    let alice = peer.ask("What did we talk about earlier?").await;
    assert!(alice.contains("create payee Tyllen") && !alice.contains("balance?"), "{alice}");
    assert!(peer.ask("What's the weather?").await.contains("understand only"));
}
