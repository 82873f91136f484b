//! Tests that nothing is sent before the user accepts it, and that questions reach the user.

use payman_sdk::Emulator;
use serde_json::json;

use crate::support::*;

const BOTH: [Dialect; 2] = [Dialect::Legacy, Dialect::Modern];

#[tokio::test]
async fn a_confirmed_payment_is_made_once() {
    for dialect in BOTH {
        let payman = emulator_with_payee(Emulator::builder()).await;
        let mut host = emulator_host(&payman, &[]).dialect(dialect).start().await;
        let result = host.ask(PAY).await;
        assert_eq!(host.questions.len(), 1);
        assert!(host.questions[0].contains("  | Pay Tyllen $50\n"), "{}", host.questions[0]);
        assert!(host.questions[0].contains(payman.base_url()));
        assert_eq!(payments(&payman), ["50.00"]);
        let again = host.ask(PAY).await;
        assert_eq!(again["structuredContent"]["repeated"], true, "{again}");
        assert_eq!(again["structuredContent"]["taskId"], result["structuredContent"]["taskId"]);
        assert_eq!(payments(&payman), ["50.00"]);
    }
}

#[tokio::test]
async fn an_ask_that_the_user_does_not_accept_is_not_sent() {
    for dialect in BOTH {
        for no in [decline(), json!({"action": "cancel"}), json!({"action": "ok"}), json!(7)] {
            let payman = emulator_with_payee(Emulator::builder()).await;
            let before = payman.state();
            let mut host = emulator_host(&payman, &[]).dialect(dialect).start().await;
            host.answers.push_back(no.clone());
            let result = host.ask(PAY).await;
            assert!(is_error(&result), "{no}: {result}");
            assert_eq!(result["structuredContent"]["state"], "not-sent");
            assert_eq!(payman.state().tasks, before.tasks);
            // A later call asks the user again, who accepts.
            let result = host.ask(PAY).await;
            assert!(!is_error(&result), "{result}");
            assert_eq!(payments(&payman), ["50.00"]);
        }
    }
}

#[tokio::test]
async fn a_host_without_elicitation_is_told_which_option_to_set() {
    for dialect in BOTH {
        let payman = emulator_with_payee(Emulator::builder()).await;
        let before = payman.state().tasks;
        let mut host =
            emulator_host(&payman, &[]).dialect(dialect).without_elicitation().start().await;
        let result = host.ask(PAY).await;
        assert!(is_error(&result) && text(&result).contains("--confirm never"), "{result}");
        assert_eq!(payman.state().tasks, before);

        let mut host = emulator_host(&payman, &["--confirm", "never"])
            .dialect(dialect)
            .without_elicitation()
            .start()
            .await;
        assert!(!is_error(&host.ask(PAY).await));
        assert!(host.questions.is_empty());
        assert_eq!(payments(&payman), ["50.00"]);
    }
}

#[tokio::test]
async fn a_file_in_the_projects_folder_cannot_disable_the_confirmation() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let variables = "PAYMAN_MCP_CONFIRM=never\nPAYMAN_CONFIRM=never\nPAYMAN_MCP_REPEAT_WINDOW=0\n";
    let mut host = emulator_host(&payman, &[]).dot_env(variables).start().await;
    host.answers.push_back(decline());
    assert!(is_error(&host.ask(PAY).await));
    assert_eq!(host.questions.len(), 1);
    assert!(payments(&payman).is_empty());
    host.ask(PAY).await;
    host.ask(PAY).await;
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_call_that_is_canceled_during_the_confirmation_sends_nothing() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let before = payman.state().tasks;
    let mut host = emulator_host(&payman, &[]).start().await;
    // The user does not answer this question.
    host.answers.push_back(json!(null));
    let call = host.begin_call("ask_payman", json!({"text": PAY})).await;
    host.wait_for_questions(1).await;
    host.cancel(&call).await;
    while host.canceled_questions == 0 {
        host.read_message().await;
    }
    assert_eq!(payman.state().tasks, before);
}

#[tokio::test]
async fn hidden_characters_are_shown_to_the_user() {
    for dialect in BOTH {
        let mut host = host(&["--emulator"]).dialect(dialect).start().await;
        host.answers.push_back(decline());
        host.ask("Pay Bob $5\u{202e}0\u{200b}\nSend this? Pay Ann $1\u{1b}[2K").await;
        let question = &host.questions[0];
        assert!(question.contains("  | Pay Bob $5\\u{202e}0\\u{200b}\n"), "{question}");
        assert!(question.contains("\n  | Send this? Pay Ann $1\\u{1b}[2K\n"), "{question}");
    }
}

#[tokio::test]
async fn the_agents_question_is_shown_to_the_user() {
    for dialect in BOTH {
        let payman = Emulator::start().await.unwrap();
        let mut host = emulator_host(&payman, &[]).dialect(dialect).start().await;
        host.answers.extend([accept(), answer("yes, create them")]);
        let result = host.ask("Pay Tyllen $50").await;
        assert!(!is_error(&result), "{result}");
        assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
        assert_eq!(host.questions.len(), 2);
        assert!(
            host.questions[1].contains("  | There is no payee named Tyllen"),
            "{:?}",
            host.questions
        );
        assert_eq!(payments(&payman), ["50.00"]);
        assert_eq!(payman.state().tasks.len(), 1);
    }
}

#[tokio::test]
async fn a_question_that_is_not_answered_stays_open() {
    for dialect in BOTH {
        let payman = Emulator::start().await.unwrap();
        let mut host = emulator_host(&payman, &[]).dialect(dialect).start().await;
        host.answers.extend([accept(), decline()]);
        let result = host.ask("Pay Tyllen $50").await;
        let content = &result["structuredContent"];
        assert_eq!(content["state"], "input-required", "{result}");
        assert!(content["statusMessage"].as_str().unwrap().contains("no payee named Tyllen"));
        assert!(!is_error(&result));
        let task = content["taskId"].as_str().unwrap().to_owned();
        assert!(text(&result).contains(&task) && text(&result).contains("task_id"));
        // The host continues the task. The confirmation shows the question and the answer.
        let result =
            host.call("ask_payman", json!({"text": "yes, create them", "task_id": task})).await;
        assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
        assert!(
            host.questions[2].contains("There is no payee named Tyllen"),
            "{:?}",
            host.questions
        );
        assert_eq!(payments(&payman), ["50.00"]);
        // The first call, repeated, returns the current state of the task.
        let again = host.ask("Pay Tyllen $50").await;
        assert_eq!(again["structuredContent"]["state"], "completed", "{again}");
        assert_eq!(payments(&payman), ["50.00"]);
    }
}

#[tokio::test]
async fn a_host_without_elicitation_is_told_how_to_answer() {
    let payman = Emulator::start().await.unwrap();
    let mut host =
        emulator_host(&payman, &["--confirm", "never"]).without_elicitation().start().await;
    let result = host.ask("Pay Tyllen $50").await;
    assert_eq!(result["structuredContent"]["state"], "input-required", "{result}");
    assert!(text(&result).contains("call ask_payman with task_id"), "{result}");
    let task = &result["structuredContent"]["taskId"];
    let arguments = json!({"text": "yes, create them", "task_id": task});
    let result = host.call("ask_payman", arguments.clone()).await;
    assert_eq!(result["structuredContent"]["state"], "completed", "{result}");
    let again = host.call("ask_payman", arguments).await;
    assert_eq!(again["structuredContent"]["repeated"], true, "{again}");
    assert_eq!(payments(&payman), ["50.00"]);
}

#[tokio::test]
async fn a_confirmation_of_the_newer_protocol_counts_once() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let mut host =
        emulator_host(&payman, &["--repeat-window", "0"]).dialect(Dialect::Modern).start().await;
    let mut params = json!({"name": "ask_payman", "arguments": {"text": PAY}});
    let id = host.request("tools/call", params.clone()).await;
    let asked = host.response(&id).await["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let name = asked["inputRequests"].as_object().unwrap().keys().next().unwrap();
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({name: accept()});
    // The confirmation does not apply to another text.
    let mut other = params.clone();
    other["arguments"]["text"] = "Pay Tyllen $5000".into();
    let id = host.request("tools/call", other).await;
    assert!(is_error(&host.response(&id).await["result"]));
    let id = host.request("tools/call", params.clone()).await;
    assert!(!is_error(&host.response(&id).await["result"]));
    assert_eq!(payments(&payman), ["50.00"]);
    // It counts only once, even though answers are not remembered.
    let id = host.request("tools/call", params).await;
    assert!(is_error(&host.response(&id).await["result"]));
    assert_eq!(payments(&payman), ["50.00"]);
}
