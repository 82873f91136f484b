//! Tests the agent: the messages that it understands, and their effect on the ledger.

use payman_sdk::emulator::{Currency, Decimal, PaymentStatus};
use payman_sdk::{Emulator, SessionId, TaskId};

use crate::support::*;

fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

#[tokio::test]
async fn payments_are_exact_and_recorded() {
    let client = start().await;
    assert!(client.ask("How much money do I have in my wallet?").await.contains("$1,000,000.00"));
    assert_eq!(client.ask("List all payees").await, "You have no payees yet.");
    assert!(client.ask("Create a new payee with the email t@y.com").await.contains("t@y.com"));
    assert!(client.ask("create payee Tyllen").await.contains("Tyllen"));
    assert!(client.ask("create payee Tyllen").await.contains("already"));

    let task = TaskId::new();
    let answer = answer_text(&client.send(&task, "Pay Tyllen $0.10").await);
    assert!(answer.contains("$0.10") && answer.contains("Tyllen"), "{answer}");
    for _ in 0..9 {
        client.ask("Pay Tyllen 0.1$").await;
    }
    client.ask("send 100 TSD to t@y.com").await;

    let state = client.emulator.state();
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

    let last = client.ask("Show my last 2 transactions").await;
    assert_eq!(last.lines().count(), 3, "{last}");
    assert!(
        last.contains("1. 100.00 TSD to t@y.com") && last.contains("2. $0.10 to Tyllen"),
        "{last}"
    );
}

#[tokio::test]
async fn an_unknown_payee_needs_confirmation() {
    let client = start().await;
    let task = TaskId::new();
    let question = client.send(&task, "Pay Tyllen $50").await;
    assert_eq!(question["status"]["state"], "INPUT_REQUIRED");
    assert_eq!(question["artifacts"], serde_json::json!([]));
    assert!(answer_text(&question).contains("Tyllen") && answer_text(&question).contains("$50.00"));
    assert!(client.emulator.state().payments.is_empty());

    // An answer has an effect only in the task of its question.
    assert!(client.ask("yes, create them").await.contains("Nothing was done"));
    assert!(client.emulator.state().payments.is_empty());

    let unclear = client.send(&task, "yes, but only $20").await;
    assert_eq!(unclear["status"]["state"], "INPUT_REQUIRED");
    let done = client.send(&task, "yes, create them").await;
    assert_eq!(done["status"]["state"], "COMPLETED");
    assert!(answer_text(&done).contains("Paid $50.00 to Tyllen"), "{}", answer_text(&done));
    let state = client.emulator.state();
    assert_eq!((state.payees.len(), state.payments.len(), state.sends[&task]), (1, 1, 3));

    let other = TaskId::new();
    client.send(&other, "Pay Nobody $5").await;
    assert!(answer_text(&client.send(&other, "no").await).contains("Nothing was done"));
    let another = TaskId::new();
    client.send(&another, "Pay Tylen $5").await;
    assert!(answer_text(&client.send(&another, "Tyllen").await).contains("Paid $5.00 to Tyllen"));
    // The payee is created while the question is pending, so the answer must not create it again.
    let slow = TaskId::new();
    client.send(&slow, "Pay Zoë $5").await;
    client.ask("create payee Zoë").await;
    assert!(answer_text(&client.send(&slow, "yes").await).contains("Paid $5.00 to Zoë"));
    let order = TaskId::new();
    client.send(&order, "Pay Nobody $5").await;
    assert!(
        answer_text(&client.send(&order, "ok, pay Tyllen $7").await)
            .contains("Paid $7.00 to Tyllen")
    );
    assert_eq!(client.emulator.state().payees.len(), 2);
}

#[tokio::test]
async fn an_ambiguous_payee_is_chosen_by_the_answer() {
    let client = start().await;
    client.ask("Create a payee named Tyllen Smith with the email a@b.com").await;
    client.ask("Create a payee named Tyllen Jones with the email c@d.com").await;
    for (answer, paid) in [
        ("the second one", "Tyllen Jones"),
        ("1", "Tyllen Smith"),
        ("Jones", "Tyllen Jones"),
        ("a@b.com", "Tyllen Smith"),
    ] {
        let task = TaskId::new();
        let question = client.send(&task, "Pay Tyllen $12.50").await;
        assert_eq!(question["status"]["state"], "INPUT_REQUIRED");
        assert!(
            answer_text(&question).contains("2. Tyllen Jones (c@d.com)"),
            "{}",
            answer_text(&question)
        );
        assert_eq!(client.send(&task, "the ninth").await["status"]["state"], "INPUT_REQUIRED");
        let done = answer_text(&client.send(&task, answer).await);
        assert!(done.contains(&format!("Paid $12.50 to {paid}")), "{answer}: {done}");
    }
    assert_eq!(client.emulator.state().payments.len(), 4);
}

#[tokio::test]
async fn missing_details_are_asked_for() {
    let client = start().await;
    client.ask("create payee Tyllen").await;
    for (order, answer) in [("Pay Tyllen", "$5"), ("Pay $5", "Tyllen")] {
        let task = TaskId::new();
        assert_eq!(client.send(&task, order).await["status"]["state"], "INPUT_REQUIRED");
        assert!(answer_text(&client.send(&task, answer).await).contains("Paid $5.00 to Tyllen"));
    }
    let task = TaskId::new();
    assert_eq!(client.send(&task, "Create a new payee").await["status"]["state"], "INPUT_REQUIRED");
    assert!(answer_text(&client.send(&task, "Zoë Ünal").await).contains("Zoë Ünal"));
}

#[tokio::test]
async fn impossible_payments_are_not_made() {
    let client = start_with(
        Emulator::builder().opening_balance(decimal("100.00")).approval_limit(decimal("50")),
    )
    .await;
    client.ask("create payee Tyllen").await;
    let short = client.send(&TaskId::new(), "Pay Tyllen $100.01").await;
    assert_eq!(short["status"]["state"], "FAILED");
    assert!(answer_text(&short).contains("Insufficient funds"));
    for text in [
        "Pay Tyllen 5k",
        "Pay Tyllen $1,5",
        "Pay Tyllen -5",
        "Pay Tyllen €5",
        "Pay Tyllen $0",
        "Pay Tyllen $5 and $6",
    ] {
        let task = client.send(&TaskId::new(), text).await;
        assert_eq!(task["status"]["state"], "COMPLETED", "{text}");
        assert!(answer_text(&task).contains("Nothing was paid"), "{text}: {}", answer_text(&task));
    }
    assert!(client.emulator.state().payments.is_empty());

    let waiting = client.send(&TaskId::new(), "Pay Tyllen $50.01").await;
    assert_eq!(waiting["status"]["state"], "COMPLETED");
    assert!(
        answer_text(&waiting).contains("awaits approval")
            && answer_text(&waiting).contains("$50.01")
    );
    assert!(client.ask("Pay Tyllen $50.00").await.contains("Paid $50.00"));
    let state = client.emulator.state();
    assert_eq!(state.payments[0].status, PaymentStatus::AwaitingApproval);
    assert_eq!(state.wallets[0].balance, decimal("50.00"));
    assert!(client.ask("list transactions").await.contains("awaiting approval"));
}

#[tokio::test]
async fn sessions_are_remembered_and_kept_apart() {
    let mut client = start().await;
    let alice = client.session.clone();
    assert!(client.ask("What did we talk about earlier?").await.contains("not talked"));
    client.ask("create payee Tyllen").await;
    client.session = SessionId::new();
    client.ask("What's my balance?").await;
    let bob = client.ask("What did we talk about earlier?").await;
    assert!(bob.contains("What's my balance?") && !bob.contains("Tyllen"), "{bob}");
    client.session = alice;
    let alice = client.ask("What did we talk about earlier?").await;
    assert!(alice.contains("create payee Tyllen") && !alice.contains("balance?"), "{alice}");
    assert!(client.ask("What's the weather?").await.contains("understand only"));
}
