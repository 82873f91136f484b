//! A host that repeats a call does not have it done twice.

use std::time::Duration;

use payman_sdk::Emulator;
use payman_sdk::emulator::{Fault, Operation};
use serde_json::json;

use crate::support::*;

const NEVER: &[&str] = &["--confirm", "never"];

#[tokio::test]
async fn a_call_that_is_repeated_under_the_same_id_is_done_once() {
    let payman = emulator(Emulator::builder().agent_delay(Duration::from_millis(300))).await;
    let mut host = host_of(&payman, NEVER).start().await;
    let params = json!({"name": "ask_payman", "arguments": {"text": PAY}});
    // While it is in progress, and after its answer.
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
    let payman = emulator(Emulator::builder().agent_delay(Duration::from_millis(1500))).await;
    let mut host = host_of(&payman, NEVER).start().await;
    let before = payman.state().tasks.len();
    let call = host.begin("ask_payman", json!({"text": PAY})).await;
    until("the ask", || payman.state().tasks.len() > before).await;
    let task = payman.state().tasks.last().unwrap().id.clone();
    host.cancel(&call).await;
    // Another id, the same words: the first task's end is waited for.
    let result = host.ask(PAY).await;
    assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
    assert_eq!(result["structuredContent"]["repeated"], true);
    assert_eq!(result["structuredContent"]["taskId"], task.as_str());
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_host_that_gave_up_in_silence_gets_the_answer_of_the_first_call() {
    let payman = emulator(Emulator::builder().agent_delay(Duration::from_millis(800))).await;
    let mut host = host_of(&payman, NEVER).start().await;
    let first = host.begin("ask_payman", json!({"text": PAY})).await;
    let second = host.begin("ask_payman", json!({"text": format!(" {PAY}\n")})).await;
    let second = host.response(&second).await;
    let first = host.response(&first).await;
    assert_eq!(
        first["result"]["structuredContent"]["taskId"],
        second["result"]["structuredContent"]["taskId"]
    );
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_never_sent_again() {
    let payman =
        emulator(Emulator::builder().without(Operation::Get).without(Operation::Resubscribe)).await;
    payman.fault(Fault::close().on(Operation::SendSubscribe).after_acting());
    let args = ["--confirm", "never", "--timeout", "4s"];
    let mut host = host_of(&payman, &args).start().await;
    let result = host.ask(PAY).await;
    assert!(is_error(&result), "{result}");
    let content = &result["structuredContent"];
    assert_eq!(content["outcomeUnknown"], true, "{result}");
    assert_eq!(content["state"], "unknown");
    assert_eq!(content["taskId"], payman.state().tasks.last().unwrap().id.as_str());
    assert!(text(&result).contains("Do not ask again"), "{result}");
    // Neither the same words nor a new key send it, as nobody confirms.
    for arguments in [json!({"text": PAY}), json!({"text": PAY, "idempotency_key": "again"})] {
        let result = host.call("ask_payman", arguments).await;
        assert_eq!(result["structuredContent"]["outcomeUnknown"], true, "{result}");
    }
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_user_may_send_again_what_is_unknown_and_is_warned() {
    let payman =
        emulator(Emulator::builder().without(Operation::Get).without(Operation::Resubscribe)).await;
    payman.fault(Fault::close().on(Operation::SendSubscribe));
    let mut host = host_of(&payman, &["--timeout", "4s"]).start().await;
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
    let payman = emulator(Emulator::builder()).await;
    payman.fault(Fault::cut(40).on(Operation::SendSubscribe));
    let mut host = host_of(&payman, NEVER).start().await;
    let result = host.ask(PAY).await;
    assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_new_key_has_it_done_once_more_and_the_same_key_does_not() {
    let payman = emulator(Emulator::builder()).await;
    let mut host = host_of(&payman, &[]).start().await;
    let with_key = |key: &str| json!({"text": PAY, "idempotency_key": key});
    host.call("ask_payman", with_key("invoice-1")).await;
    assert_eq!(payments(&payman), ["50.00"]);
    let again = host.call("ask_payman", with_key("invoice-1")).await;
    assert_eq!(again["structuredContent"]["repeated"], true, "{again}");
    assert_eq!(host.questions.len(), 1);
    host.call("ask_payman", with_key("invoice-2")).await;
    assert!(host.questions[1].contains("CAREFUL: the same was asked"), "{:?}", host.questions);
    assert_eq!(payments(&payman), ["50.00", "50.00"]);
    // Other words under a used key are refused.
    let other = json!({"text": "Pay Tyllen $70", "idempotency_key": "invoice-1"});
    let refused = host.call("ask_payman", other).await;
    assert!(is_error(&refused) && text(&refused).contains("idempotency key"), "{refused}");
    assert_eq!(payments(&payman).len(), 2);
}

#[tokio::test]
async fn without_a_window_an_answered_ask_is_a_new_one() {
    let payman = emulator(Emulator::builder()).await;
    let mut host = host_of(&payman, &["--confirm", "never", "--repeat-window", "0"]).start().await;
    host.ask(PAY).await;
    host.ask(PAY).await;
    assert_eq!(payments(&payman), ["50.00", "50.00"]);
}

#[tokio::test]
async fn without_a_window_a_request_under_the_same_id_is_still_the_same() {
    let payman = emulator(Emulator::builder()).await;
    let args = ["--confirm", "never", "--repeat-window", "0"];
    let mut host = host_of(&payman, &args).start().await;
    let params = json!({"name": "ask_payman", "arguments": {"text": PAY}});
    for repeated in [false, true] {
        host.request_as(&json!(7), "tools/call", params.clone()).await;
        let result = host.response(&json!(7)).await["result"].clone();
        assert_eq!(result["structuredContent"]["repeated"], repeated, "{result}");
    }
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn what_was_surely_not_done_may_be_asked_again() {
    let payman = emulator(Emulator::builder()).await;
    payman.fault(Fault::status(400).on(Operation::SendSubscribe));
    let mut host = host_of(&payman, NEVER).start().await;
    let result = host.ask(PAY).await;
    assert!(is_error(&result), "{result}");
    assert_eq!(result["structuredContent"]["state"], "not-sent");
    let result = host.ask(PAY).await;
    assert!(!is_error(&result), "{result}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_canceled_call_closes_its_stream_and_cancels_its_task_where_that_is_wanted() {
    for (args, paid) in [(NEVER, 1), (&["--confirm", "never", "--cancel-tasks"], 0)] {
        let payman = emulator(Emulator::builder().agent_delay(Duration::from_millis(1500))).await;
        let mut host = host_of(&payman, args).start().await;
        let before = payman.state().tasks.len();
        let call = host.begin("ask_payman", json!({"text": PAY})).await;
        until("the ask", || payman.state().tasks.len() > before).await;
        host.cancel(&call).await;
        let ended = || payman.state().tasks.last().is_some_and(|task| task.state().is_terminal());
        until("the end of the task", ended).await;
        assert_eq!(payments(&payman).len(), paid);
        // The repeated call shows what became of it.
        let result = host.ask(PAY).await;
        let state = if paid == 1 { "completed" } else { "canceled" };
        assert_eq!(result["structuredContent"]["state"], state, "{result}");
        assert_eq!(payments(&payman).len(), paid);
    }
}

#[tokio::test]
async fn an_answer_that_is_repeated_in_the_newer_protocol_is_given_once() {
    let payman = Emulator::start().await.unwrap();
    let mut host = host_of(&payman, NEVER).dialect(Dialect::Modern).start().await;
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
async fn a_key_counts_in_every_process_that_has_the_journal() {
    let payman = emulator(Emulator::builder()).await;
    let folder = tempfile::TempDir::new().unwrap();
    let journal = format!("sqlite://{}", folder.path().join("journal.db").display());
    let args = ["--journal", &journal];
    let order = |text: &str| json!({"text": text, "idempotency_key": "invoice-1"});
    let mut first = host_of(&payman, &args).start().await;
    let paid = first.call("ask_payman", order(PAY)).await;
    assert_eq!(first.questions.len(), 1);
    first.end().await;

    let mut second = host_of(&payman, &args).start().await;
    let again = second.call("ask_payman", order(PAY)).await;
    assert_eq!(again["structuredContent"]["repeated"], true, "{again}");
    assert_eq!(again["structuredContent"]["text"], paid["structuredContent"]["text"]);
    assert!(second.questions.is_empty(), "nobody has to confirm what is not sent");
    second.end().await;

    let mut third = host_of(&payman, &args).start().await;
    let other = third.call("ask_payman", order("Pay Tyllen $70")).await;
    assert!(is_error(&other) && text(&other).contains("idempotency key"), "{other}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn an_ask_is_looked_up_after_a_crash() {
    let payman = emulator(Emulator::builder().agent_delay(Duration::from_millis(1500))).await;
    let folder = tempfile::TempDir::new().unwrap();
    let journal = format!("sqlite://{}", folder.path().join("journal.db").display());
    let args = ["--confirm", "never", "--journal", &journal];
    let mut first = host_of(&payman, &args).start().await;
    let before = payman.state().tasks.len();
    first.begin("ask_payman", json!({"text": PAY})).await;
    until("the ask", || payman.state().tasks.len() > before).await;
    first.kill().await;

    let mut second = host_of(&payman, &args).start().await;
    let result = second.ask(PAY).await;
    assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
    assert_eq!(result["structuredContent"]["repeated"], true, "{result}");
    assert_eq!(payments(&payman), ["50.00"]);
    second.end().await;
    // Its outcome is known now: later the same words are a new order.
    let mut third = host_of(&payman, &args).start().await;
    assert_eq!(third.ask(PAY).await["structuredContent"]["repeated"], false);
    assert_eq!(payments(&payman), ["50.00", "50.00"]);
}

#[tokio::test]
async fn without_its_journal_nothing_is_sent() {
    let payman = emulator(Emulator::builder()).await;
    let before = payman.state().tasks.len();
    let args = ["--confirm", "never", "--journal", "sqlite:///nowhere/at/all/journal.db"];
    let mut host = host_of(&payman, &args).start().await;
    let result = host.ask(PAY).await;
    assert!(is_error(&result) && text(&result).contains("--journal"), "{result}");
    assert_eq!(result["structuredContent"]["state"], "not-sent");
    assert_eq!(payman.state().tasks.len(), before);
}

#[tokio::test]
async fn two_servers_with_one_key_at_once_send_once() {
    let payman = emulator(Emulator::builder().agent_delay(Duration::from_millis(700))).await;
    let folder = tempfile::TempDir::new().unwrap();
    let journal = format!("sqlite://{}", folder.path().join("journal.db").display());
    let args = ["--confirm", "never", "--journal", &journal];
    let mut first = host_of(&payman, &args).start().await;
    let mut second = host_of(&payman, &args).start().await;
    let order = json!({"text": PAY, "idempotency_key": "invoice-1"});
    let one = first.begin("ask_payman", order.clone()).await;
    let other = second.begin("ask_payman", order).await;
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
