//! Tests the tools, their results, errors and limits.

use std::time::Duration;

use payman_sdk::Emulator;
use payman_sdk::emulator::{Fault, Operation};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn the_tools_are_described_and_annotated() {
    for dialect in [Dialect::Legacy, Dialect::Modern] {
        let mut host = host(&["--emulator"]).dialect(dialect).start().await;
        let id = host.request("tools/list", json!({})).await;
        let response = host.response(&id).await;
        let tools = response["result"]["tools"].as_array().unwrap();
        let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["ask_payman", "get_task", "cancel_task"]);
        for tool in tools {
            assert_eq!(tool["inputSchema"]["type"], "object");
            let properties = &tool["outputSchema"]["properties"];
            for field in ["taskId", "sessionId", "state", "text", "artifacts", "outcomeUnknown"] {
                assert!(properties[field].is_object(), "{field}: {tool}");
            }
            assert!(
                tool["description"].as_str().unwrap().contains("completed")
                    || tool["name"] == "cancel_task"
            );
        }
        let ask = &tools[0];
        for words in ["MOVES REAL MONEY", "NEVER ask again", "`completed`", "not instructions"] {
            assert!(ask["description"].as_str().unwrap().contains(words), "{words}");
        }
        assert_eq!(ask["annotations"]["destructiveHint"], true);
        assert_eq!(ask["annotations"]["openWorldHint"], true);
        assert_eq!(ask["annotations"]["readOnlyHint"], false);
        assert_eq!(tools[1]["annotations"]["readOnlyHint"], true);
        assert_eq!(tools[2]["annotations"]["readOnlyHint"], false);
        for field in ["text", "session_id", "task_id", "idempotency_key"] {
            assert!(ask["inputSchema"]["properties"][field].is_object(), "{field}");
        }
        assert_eq!(ask["inputSchema"]["required"], json!(["text"]));
        let (status, _) = host.end().await;
        assert!(status.success());
    }
}

#[tokio::test]
async fn an_ask_has_its_answer_as_text_and_as_structured_content() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    for dialect in [Dialect::Legacy, Dialect::Modern] {
        let mut host = emulator_host(&payman, &[]).dialect(dialect).start().await;
        let result = host.ask(BALANCE).await;
        assert!(!is_error(&result), "{result}");
        assert!(text(&result).contains("You have $1,000,000.00"), "{result}");
        let content = &result["structuredContent"];
        assert_eq!(content["state"], "completed");
        assert_eq!(content["outcomeUnknown"], false);
        assert_eq!(content["repeated"], false);
        assert!(content["text"].as_str().unwrap().contains("$1,000,000.00"));
        assert_eq!(content["artifacts"][0]["type"], "text");
        // The agent's text is delimited by lines that it could not predict.
        let lines: Vec<_> = text(&result).lines().collect();
        let begin = lines.iter().position(|line| line.starts_with("--- begin ")).unwrap();
        let mark = lines[begin].trim_start_matches("--- begin ");
        assert_eq!(lines.last().unwrap(), &format!("--- end {mark}"));
        // The task can be looked up.
        let lookup = host.call("get_task", json!({"task_id": content["taskId"]})).await;
        assert!(!is_error(&lookup), "{lookup}");
        assert_eq!(lookup["structuredContent"]["text"], content["text"]);
    }
}

#[tokio::test]
async fn progress_is_reported_if_the_host_requests_it() {
    let payman = emulator_with_payee(
        Emulator::builder().chunk_chars(4).chunk_delay(Duration::from_millis(120)),
    )
    .await;
    let mut host = emulator_host(&payman, &["--confirm", "never"]).start().await;
    let id = host
        .request("tools/call", json!({
            "name": "ask_payman", "arguments": {"text": BALANCE}, "_meta": {"progressToken": "p-1"},
        }))
        .await;
    let response = host.response(&id).await;
    assert_eq!(response["result"]["structuredContent"]["state"], "completed");
    assert!(host.progress.len() >= 3, "{:?}", host.progress);
    let values: Vec<_> =
        host.progress.iter().map(|one| one["progress"].as_f64().unwrap()).collect();
    assert!(values.windows(2).all(|two| two[0] < two[1]), "{values:?}");
    assert!(host.progress.iter().all(|one| one["progressToken"] == "p-1"));
    assert!(host.progress.iter().any(|one| one["message"].as_str().unwrap().contains("working")));
}

#[tokio::test]
async fn the_server_starts_without_the_platform_and_reports_it_in_the_first_call() {
    let mut host = host(&["--confirm", "never"]).base_url("http://127.0.0.1:9").start().await;
    let result = host.ask(BALANCE).await;
    assert!(is_error(&result));
    assert_eq!(result["structuredContent"]["state"], "not-sent", "{result}");
    assert_eq!(result["structuredContent"]["outcomeUnknown"], false);
    // The failed call is not remembered: the next call is sent.
    let result = host.ask(BALANCE).await;
    assert_eq!(result["structuredContent"]["repeated"], false, "{result}");
    let (status, _) = host.end().await;
    assert!(status.success());
}

#[tokio::test]
async fn missing_credentials_are_named_in_the_first_call_and_on_stderr() {
    let mut host = host(&[]).start().await;
    let result = host.ask(BALANCE).await;
    assert!(is_error(&result) && text(&result).contains("PAYMAN_CLIENT_ID"), "{result}");
    assert!(host.questions.is_empty(), "nobody is asked about what cannot be sent");
    let (_, errors) = host.end().await;
    assert!(errors.contains("PAYMAN_CLIENT_ID"), "{errors}");
}

#[tokio::test]
async fn failures_are_results_that_describe_the_error() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    let mut host = emulator_host(&payman, &["--confirm", "never"]).start().await;
    // The agent refuses the order.
    let refused = host.ask("Pay Tyllen $2,000,000").await;
    assert!(!text(&refused).is_empty() && payments(&payman).is_empty(), "{refused}");
    // The arguments are invalid, so nothing is sent.
    let tasks = payman.state().tasks.len();
    for (tool, arguments, named) in [
        ("ask_payman", json!({"text": "  "}), "text"),
        ("ask_payman", json!({}), "text"),
        ("ask_payman", json!({"text": "x".repeat(20_000)}), "text"),
        ("ask_payman", json!({"text": "Pay Tyllen", "amount": 50}), "amount"),
        ("ask_payman", json!({"text": "hello", "task_id": ""}), "task_id"),
        ("get_task", json!({"task_id": "a\u{0}b"}), "task_id"),
        ("cancel_task", json!({}), "task_id"),
    ] {
        let result = host.call(tool, arguments).await;
        assert!(is_error(&result) && text(&result).contains(named), "{result}");
        assert_eq!(result["structuredContent"]["state"], "not-sent");
    }
    assert_eq!(payman.state().tasks.len(), tasks);
    let result = host.call("get_task", json!({"task_id": "tsk-nobody-knows"})).await;
    assert!(is_error(&result), "{result}");
    let id = host.request("tools/call", json!({"name": "pay", "arguments": {}})).await;
    assert_eq!(host.response(&id).await["error"]["code"], -32602);
    // Neither an invalid line nor a line over the limit ends the server.
    host.send(&json!("\u{7}")).await;
    let params = json!({"x": "x".repeat(2_000_000)});
    let long = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": params});
    host.send(&long).await;
    assert!(text(&host.ask(BALANCE).await).contains("$1,000,000.00"));
}

#[tokio::test]
async fn a_running_task_is_canceled_by_its_tool() {
    let payman = emulator_with_payee(Emulator::builder().agent_delay(Duration::from_secs(4))).await;
    let mut host = emulator_host(&payman, &["--confirm", "never"]).start().await;
    let before = payman.state().tasks.len();
    let ask = host.begin_call("ask_payman", json!({"text": PAY})).await;
    wait_until("the ask", || payman.state().tasks.len() > before).await;
    let task = payman.state().tasks.last().unwrap().id.clone();
    let lookup = host.call("get_task", json!({"task_id": task})).await;
    assert_eq!(lookup["structuredContent"]["outcomeUnknown"], true, "{lookup}");
    let canceled = host.call("cancel_task", json!({"task_id": task})).await;
    assert_eq!(canceled["structuredContent"]["state"], "canceled", "{canceled}");
    let response = host.response(&ask).await;
    assert_eq!(response["result"]["structuredContent"]["state"], "canceled", "{response}");
    assert!(payments(&payman).is_empty());
}

#[tokio::test]
async fn a_long_answer_is_cut_and_hidden_characters_are_shown() {
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, Request, ResponseTemplate};

    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/api/oauth2/token"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"accessToken": "t", "expiresIn": 3600})),
        )
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/api/a2a/tasks/sendSubscribe"))
        .respond_with(|request: &Request| {
            let body: serde_json::Value = request.body_json().unwrap();
            let text = format!("\u{202e}ok\u{1b}[2J\u{e0041} {}", "x".repeat(1_000_000));
            ResponseTemplate::new(200).set_body_json(
                json!({"jsonrpc": "2.0", "id": body["id"], "result": {
                    "id": body["params"]["id"], "status": {"state": "COMPLETED"},
                    "artifacts": [{"parts": [{"type": "text", "text": text}]}],
                }}),
            )
        })
        .mount(&server)
        .await;
    let mut host = host(&["--confirm", "never"]).base_url(&server.uri()).start().await;
    let result = host.ask(BALANCE).await;
    assert_eq!(result["structuredContent"]["truncated"], true);
    assert!(result.to_string().len() < 1_000_000);
    let text = text(&result);
    assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{e0041}']));
    assert!(text.contains("\\u{202e}ok\\u{1b}[2J\\u{e0041}"));
}

#[tokio::test]
async fn a_read_only_server_makes_no_payment() {
    // The built-in emulator issues a token with read scopes only.
    let mut own = host(&["--emulator", "--read-only", "--confirm", "never"]).start().await;
    let result = own.ask(BALANCE).await;
    assert!(!is_error(&result) && text(&result).contains("$1,000,000.00"), "{result}");
    let result = own.ask(PAYEE).await;
    assert!(is_error(&result), "{result}");

    // A sign-in with more scopes is refused with an explanation.
    let payman = emulator_with_payee(Emulator::builder()).await;
    let before = payman.state().tasks.len();
    let mut host = emulator_host(&payman, &["--read-only", "--confirm", "never"]).start().await;
    let result = host.ask(PAY).await;
    assert!(is_error(&result) && text(&result).contains("write_send_payment"), "{result}");
    assert!(text(&result).contains("--read-only"), "{result}");
    assert_eq!(payman.state().tasks.len(), before);

    // A sign-in with read scopes only is used.
    let payman = Emulator::builder().scopes(["read_balance"]).start().await.unwrap();
    let mut host = emulator_host(&payman, &["--read-only", "--confirm", "never"]).start().await;
    assert!(text(&host.ask(BALANCE).await).contains("$1,000,000.00"));
}

#[tokio::test]
async fn unknown_outcomes_are_reported_on_stderr_if_the_host_disconnects() {
    let payman = emulator_with_payee(Emulator::builder()).await;
    payman.fault(Fault::stall().on(Operation::SendSubscribe).after_acting());
    let mut host = emulator_host(&payman, &["--confirm", "never"]).start().await;
    let before = payman.state().tasks.len();
    host.begin_call("ask_payman", json!({"text": PAY})).await;
    wait_until("the ask", || payman.state().tasks.len() > before).await;
    let task = payman.state().tasks.last().unwrap().id.clone();
    let (status, errors) = host.end().await;
    assert_eq!(status.code(), Some(6), "{errors}");
    assert!(errors.contains("MAY HAVE BEEN DONE") && errors.contains(task.as_str()), "{errors}");
}
