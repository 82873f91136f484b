//! Tests that a repeated call is not done twice.

use std::time::Duration;

use payman_sdk::Emulator;
use payman_sdk::emulator::{Fault, Operation};
use serde_json::json;

use crate::support::*;

const NEVER: &[&str] = &["--confirm", "never"];

#[tokio::test]
async fn a_call_that_is_repeated_under_the_same_id_is_done_once() {
    let payman =
        emulator_with_payee(Emulator::builder().agent_delay(Duration::from_millis(300))).await;
    let mut host = emulator_host(&payman, NEVER).start().await;
    let params = json!({"name": "ask_payman", "arguments": {"text": PAY}});
    // Repeats the call while it is in progress, and after its answer.
    host.request_as(&json!("r-1"), "tools/call", params.clone()).await;
    host.request_as(&json!("r-1"), "tools/call", params.clone()).await;
    let first = host.response(&json!("r-1")).await;
    assert!(!is_error(&first["result"]), "{first}");
    host.request_as(&json!("r-1"), "tools/call", params).await;
    let last = host.response(&json!("r-1")).await;
    assert_eq!(last["result"]["structuredContent"]["state"], "completed", "{last}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_call_that_is_repeated_after_a_timeout_is_looked_up() {
    let payman =
        emulator_with_payee(Emulator::builder().agent_delay(Duration::from_millis(1500))).await;
    let mut host = emulator_host(&payman, NEVER).start().await;
    let before = payman.state().tasks.len();
    let call = host.begin_call("ask_payman", json!({"text": PAY})).await;
    wait_until("the ask", || payman.state().tasks.len() > before).await;
    let task = payman.state().tasks.last().unwrap().id.clone();
    host.cancel(&call).await;
    // A call with another id and the same text waits for the first task.
    let result = host.ask(PAY).await;
    assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
    assert_eq!(result["structuredContent"]["repeated"], true);
    assert_eq!(result["structuredContent"]["taskId"], task.as_str());
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_second_call_with_the_same_text_gets_the_answer_of_the_first() {
    let payman =
        emulator_with_payee(Emulator::builder().agent_delay(Duration::from_millis(800))).await;
    let mut host = emulator_host(&payman, NEVER).start().await;
    let first = host.begin_call("ask_payman", json!({"text": PAY})).await;
    let second = host.begin_call("ask_payman", json!({"text": format!(" {PAY}\n")})).await;
    let second = host.response(&second).await;
    let first = host.response(&first).await;
    assert_eq!(
        first["result"]["structuredContent"]["taskId"],
        second["result"]["structuredContent"]["taskId"]
    );
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_never_resent() {
    let payman = emulator_with_payee(
        Emulator::builder().without(Operation::Get).without(Operation::Resubscribe),
    )
    .await;
    payman.fault(Fault::close().on(Operation::SendSubscribe).after_acting());
    let args = ["--confirm", "never", "--timeout", "4s"];
    let mut host = emulator_host(&payman, &args).start().await;
    let result = host.ask(PAY).await;
    assert!(is_error(&result), "{result}");
    let content = &result["structuredContent"];
    assert_eq!(content["outcomeUnknown"], true, "{result}");
    assert_eq!(content["state"], "unknown");
    assert_eq!(content["taskId"], payman.state().tasks.last().unwrap().id.as_str());
    assert!(text(&result).contains("Do not ask again"), "{result}");
    // Without a confirmation, neither the same text nor a new key sends it again.
    for arguments in [json!({"text": PAY}), json!({"text": PAY, "idempotency_key": "again"})] {
        let result = host.call("ask_payman", arguments).await;
        assert_eq!(result["structuredContent"]["outcomeUnknown"], true, "{result}");
    }
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_user_is_warned_before_an_unknown_ask_is_sent_again() {
    let payman = emulator_with_payee(
        Emulator::builder().without(Operation::Get).without(Operation::Resubscribe),
    )
    .await;
    payman.fault(Fault::close().on(Operation::SendSubscribe));
    let mut host = emulator_host(&payman, &["--timeout", "4s"]).start().await;
    let result = host.ask(PAY).await;
    assert_eq!(result["structuredContent"]["outcomeUnknown"], true, "{result}");
    assert!(payments(&payman).is_empty());
    let result = host.call("ask_payman", json!({"text": PAY, "idempotency_key": "second"})).await;
    assert!(!is_error(&result), "{result}");
    assert!(host.questions[1].contains("CAREFUL") && host.questions[1].contains("not known"));
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_lost_answer_that_can_be_looked_up_is_found() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    payman.fault(Fault::cut(40).on(Operation::SendSubscribe));
    let mut host = emulator_host(&payman, NEVER).start().await;
    let result = host.ask(PAY).await;
    assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_new_key_repeats_the_ask_and_the_same_key_does_not() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let mut host = emulator_host(&payman, &[]).start().await;
    let with_key = |key: &str| json!({"text": PAY, "idempotency_key": key});
    host.call("ask_payman", with_key("invoice-1")).await;
    assert_eq!(payments(&payman), ["50.00"]);
    let again = host.call("ask_payman", with_key("invoice-1")).await;
    assert_eq!(again["structuredContent"]["repeated"], true, "{again}");
    assert_eq!(host.questions.len(), 1);
    host.call("ask_payman", with_key("invoice-2")).await;
    assert!(host.questions[1].contains("CAREFUL: the same was asked"), "{:?}", host.questions);
    assert_eq!(payments(&payman), ["50.00", "50.00"]);
    // Another text with a used key is refused.
    let other = json!({"text": "Pay Tyllen $70", "idempotency_key": "invoice-1"});
    let refused = host.call("ask_payman", other).await;
    assert!(is_error(&refused) && text(&refused).contains("idempotency key"), "{refused}");
    assert_eq!(payments(&payman).len(), 2);
}

#[tokio::test]
async fn without_a_repeat_window_the_same_text_is_a_new_ask() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let mut host =
        emulator_host(&payman, &["--confirm", "never", "--repeat-window", "0"]).start().await;
    host.ask(PAY).await;
    host.ask(PAY).await;
    assert_eq!(payments(&payman), ["50.00", "50.00"]);
}

#[tokio::test]
async fn without_a_repeat_window_a_repeated_request_id_is_done_once() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let args = ["--confirm", "never", "--repeat-window", "0"];
    let mut host = emulator_host(&payman, &args).start().await;
    let params = json!({"name": "ask_payman", "arguments": {"text": PAY}});
    for repeated in [false, true] {
        host.request_as(&json!(7), "tools/call", params.clone()).await;
        let result = host.response(&json!(7)).await["result"].clone();
        assert_eq!(result["structuredContent"]["repeated"], repeated, "{result}");
    }
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn an_ask_that_was_not_done_may_be_sent_again() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    payman.fault(Fault::status(400).on(Operation::SendSubscribe));
    let mut host = emulator_host(&payman, NEVER).start().await;
    let result = host.ask(PAY).await;
    assert!(is_error(&result), "{result}");
    assert_eq!(result["structuredContent"]["state"], "not-sent");
    let result = host.ask(PAY).await;
    assert!(!is_error(&result), "{result}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_canceled_call_closes_its_stream_and_cancels_its_task_if_configured() {
    for (args, paid) in [(NEVER, 1), (&["--confirm", "never", "--cancel-tasks"], 0)] {
        let payman =
            emulator_with_payee(Emulator::builder().agent_delay(Duration::from_millis(1500))).await;
        let mut host = emulator_host(&payman, args).start().await;
        let before = payman.state().tasks.len();
        let call = host.begin_call("ask_payman", json!({"text": PAY})).await;
        wait_until("the ask", || payman.state().tasks.len() > before).await;
        host.cancel(&call).await;
        let ended = || payman.state().tasks.last().is_some_and(|task| task.state().is_terminal());
        wait_until("the end of the task", ended).await;
        assert_eq!(payments(&payman).len(), paid);
        // The repeated call returns the result of the task.
        let result = host.ask(PAY).await;
        let state = if paid == 1 { "completed" } else { "canceled" };
        assert_eq!(result["structuredContent"]["state"], state, "{result}");
        assert_eq!(payments(&payman).len(), paid);
    }
}

#[tokio::test]
async fn a_repeated_answer_in_the_newer_protocol_is_sent_once() {
    let payman = Emulator::start().await.unwrap();
    let mut host = emulator_host(&payman, NEVER).dialect(Dialect::Modern).start().await;
    let mut params = json!({"name": "ask_payman", "arguments": {"text": "Pay Tyllen $50"}});
    let id = host.request("tools/call", params.clone()).await;
    let asked = host.response(&id).await["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let name = asked["inputRequests"].as_object().unwrap().keys().next().unwrap();
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({name: answer("yes, create them")});
    for round in 0..3 {
        let id = host.request("tools/call", params.clone()).await;
        let result = host.response(&id).await["result"].clone();
        assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
        assert_eq!(result["structuredContent"]["repeated"], round > 0);
    }
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_key_is_shared_by_all_processes_with_the_same_journal() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let folder = tempfile::TempDir::new().unwrap();
    let journal = format!("sqlite://{}", folder.path().join("journal.db").display());
    let args = ["--journal", &journal];
    let order = |text: &str| json!({"text": text, "idempotency_key": "invoice-1"});
    let mut first = emulator_host(&payman, &args).start().await;
    let paid = first.call("ask_payman", order(PAY)).await;
    assert_eq!(first.questions.len(), 1);
    first.end().await;

    let mut second = emulator_host(&payman, &args).start().await;
    let again = second.call("ask_payman", order(PAY)).await;
    assert_eq!(again["structuredContent"]["repeated"], true, "{again}");
    assert_eq!(again["structuredContent"]["text"], paid["structuredContent"]["text"]);
    assert!(second.questions.is_empty(), "nobody has to confirm what is not sent");
    second.end().await;

    let mut third = emulator_host(&payman, &args).start().await;
    let other = third.call("ask_payman", order("Pay Tyllen $70")).await;
    assert!(is_error(&other) && text(&other).contains("idempotency key"), "{other}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn an_ask_is_looked_up_after_a_crash() {
    let payman =
        emulator_with_payee(Emulator::builder().agent_delay(Duration::from_millis(1500))).await;
    let folder = tempfile::TempDir::new().unwrap();
    let journal = format!("sqlite://{}", folder.path().join("journal.db").display());
    let args = ["--confirm", "never", "--journal", &journal];
    let mut first = emulator_host(&payman, &args).start().await;
    let before = payman.state().tasks.len();
    first.begin_call("ask_payman", json!({"text": PAY})).await;
    wait_until("the ask", || payman.state().tasks.len() > before).await;
    first.kill().await;

    let mut second = emulator_host(&payman, &args).start().await;
    let result = second.ask(PAY).await;
    assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
    assert_eq!(result["structuredContent"]["repeated"], true, "{result}");
    assert_eq!(payments(&payman), ["50.00"]);
    second.end().await;
    // The outcome is known now, so the same text is a new order.
    let mut third = emulator_host(&payman, &args).start().await;
    assert_eq!(third.ask(PAY).await["structuredContent"]["repeated"], false);
    assert_eq!(payments(&payman), ["50.00", "50.00"]);
}

#[tokio::test]
async fn without_a_usable_journal_nothing_is_sent() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let before = payman.state().tasks.len();
    let args = ["--confirm", "never", "--journal", "sqlite:///nowhere/at/all/journal.db"];
    let mut host = emulator_host(&payman, &args).start().await;
    let result = host.ask(PAY).await;
    assert!(is_error(&result) && text(&result).contains("--journal"), "{result}");
    assert_eq!(result["structuredContent"]["state"], "not-sent");
    assert_eq!(payman.state().tasks.len(), before);
}

#[tokio::test]
async fn concurrent_servers_with_the_same_key_send_once() {
    let payman =
        emulator_with_payee(Emulator::builder().agent_delay(Duration::from_millis(700))).await;
    let folder = tempfile::TempDir::new().unwrap();
    let journal = format!("sqlite://{}", folder.path().join("journal.db").display());
    let args = ["--confirm", "never", "--journal", &journal];
    let mut first = emulator_host(&payman, &args).start().await;
    let mut second = emulator_host(&payman, &args).start().await;
    let order = json!({"text": PAY, "idempotency_key": "invoice-1"});
    let one = first.begin_call("ask_payman", order.clone()).await;
    let other = second.begin_call("ask_payman", order).await;
    let (one, other) = (first.response(&one).await, second.response(&other).await);
    for response in [&one, &other] {
        assert_eq!(response["result"]["structuredContent"]["state"], "completed", "{response}");
    }
    assert_eq!(
        one["result"]["structuredContent"]["taskId"],
        other["result"]["structuredContent"]["taskId"]
    );
    assert_eq!(payments(&payman), ["50.00"]);
}
