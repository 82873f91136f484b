//! Tests tasks: send, stream, get, cancel, resubscribe, and repeated sends.

use std::time::Duration;

use futures::StreamExt;
use payman_sdk::emulator::{Operation, Unsupported};
use payman_sdk::{Emulator, SessionId, TaskId, TaskState};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn a_reply_has_the_format_of_the_platform() {
    let client = start().await;
    let id = TaskId::new();
    let task = client.send(&id, "What's my balance?").await;
    assert_eq!((&task["id"], &task["sessionId"]), (&json!(id), &json!(client.session)));
    assert_eq!(task["status"]["state"], "COMPLETED");
    assert_eq!(task["status"]["message"], "Processing completed successfully");
    assert_eq!(
        task["status"]["timestamp"].as_str().unwrap().len(),
        "2025-06-27T16:31:41.510422505Z".len()
    );
    let artifact = &task["artifacts"][0];
    assert_eq!(
        (&artifact["name"], &artifact["description"]),
        (&json!("response"), &json!("AI Assistant Response"))
    );
    assert_eq!((&artifact["parts"][0]["type"], &artifact["index"]), (&json!("text"), &json!(0)));
    assert!(task["metadata"]["agentId"].as_str().unwrap().starts_with("ai-"));
    assert!(task["metadata"]["orgId"].as_str().unwrap().starts_with("org-"));
    assert!(task.get("history").is_none());
}

#[tokio::test]
async fn a_stream_is_status_chunks_status() {
    let client = start_with(Emulator::builder().chunk_chars(5)).await;
    let id = TaskId::new();
    let events = client.stream(&id, "What's my balance?").await;
    let (first, rest) = events.split_first().unwrap();
    let (last, chunks) = rest.split_last().unwrap();
    assert_eq!((&first["status"]["state"], &first["final"]), (&json!("WORKING"), &json!(false)));
    assert_eq!((&last["status"]["state"], &last["final"]), (&json!("COMPLETED"), &json!(true)));
    assert_eq!(last["status"]["message"], "Processing completed successfully");
    assert!(chunks.len() > 5);
    for (place, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk["id"], json!(id));
        assert_eq!(chunk["artifact"]["append"], json!(place > 0));
        assert_eq!(chunk["artifact"]["lastChunk"], json!(place + 1 == chunks.len()));
    }
    let streamed: String = chunks
        .iter()
        .map(|chunk| chunk["artifact"]["parts"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(streamed, answer_text(&client.get(&id).await));
}

#[tokio::test]
async fn requests_are_parsed_leniently_and_validated() {
    let client = start().await;
    let call = |body: Value| {
        let request = client
            .http
            .post(client.url("/api/a2a/tasks/send"))
            .header("x-payman-access-token", &client.token);
        let request = request.body(body.to_string()).send();
        async { read(request.await.unwrap()).await }
    };
    let params = client.params(&TaskId::new(), "What's my balance?");
    let (status, body) =
        call(json!({"jsonrpc": "2.0", "id": 7, "method": "tasks.send", "params": params})).await;
    assert_eq!((status, &body["id"]), (StatusCode::OK, &json!(7)));
    let bare = json!({"id": "t", "message": {"parts": [{"text": "What's my balance?"}]}});
    let (_, body) = call(json!({"jsonrpc": "2.0", "method": "tasks/send", "params": bare})).await;
    assert!(body["result"]["sessionId"].as_str().unwrap().starts_with("ses-"), "{body}");

    let method = "tasks/send";
    let send_with =
        |params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    for (wrong, code) in [
        (json!({"jsonrpc": "1.0", "id": 1, "method": "tasks/send", "params": params}), -32600),
        (json!({"jsonrpc": "2.0", "id": 1, "params": params}), -32600),
        (json!([1]), -32600),
        (json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": params}), -32601),
        (json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/send"}), -32602),
        (send_with(json!({"id": " ", "message": {"parts": [{"text": "a"}]}})), -32602),
        (send_with(json!({"id": "t2", "message": {"parts": []}})), -32602),
        (
            send_with(json!({"id": "t2", "message": {"parts": [{"type": "data", "data": {}}]}})),
            -32005,
        ),
    ] {
        let (_, body) = call(wrong.clone()).await;
        assert_eq!(body["error"]["code"], json!(code), "{wrong}");
    }
    let request = client
        .http
        .post(client.url("/api/a2a/tasks/send"))
        .header("x-payman-access-token", &client.token);
    let (status, body) = read(request.body("{").send().await.unwrap()).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(-32700)));
    assert_eq!(client.emulator.state().tasks.len(), 2);
}

#[tokio::test]
async fn a_task_id_sent_twice_pays_twice() {
    let client = start().await;
    client.ask("create payee Tyllen").await;
    let id = TaskId::new();
    client.send(&id, "Pay Tyllen $50").await;
    client.stream(&id, "Pay Tyllen $50").await;
    let state = client.emulator.state();
    assert_eq!(state.payments.len(), 2);
    assert_eq!(state.sends[&id], 2);
    assert_eq!(state.wallets[0].balance.to_string(), "999900.00");
    assert_eq!(state.task(&id).unwrap().history.len(), 4);

    let message = json!({"parts": [{"text": "hi"}]});
    let params = json!({"id": id, "sessionId": SessionId::new(), "message": message});
    let (_, other) = client.call("send", params).await;
    assert_eq!(other["error"]["code"], -32602);
}

#[tokio::test]
async fn messages_to_one_task_are_processed_in_order() {
    let client = start_with(Emulator::builder().agent_delay(Duration::from_millis(40))).await;
    client.ask("create payee Tyllen").await;
    let id = TaskId::new();
    let asks = (0..4).map(|_| client.send(&id, "Pay Tyllen $1"));
    for task in futures::future::join_all(asks).await {
        assert_eq!(task["status"]["state"], "COMPLETED");
        assert!(answer_text(&task).contains("Paid $1.00"));
    }
    assert_eq!(client.emulator.state().payments.len(), 4);
    let history = client.get(&id).await["history"].as_array().unwrap().len();
    assert_eq!(history, 8);
}

#[tokio::test]
async fn a_disconnect_does_not_stop_the_agent() {
    let client = start_with(Emulator::builder().agent_delay(Duration::from_millis(300))).await;
    client.ask("create payee Tyllen").await;
    for operation in ["send", "sendSubscribe"] {
        let id = TaskId::new();
        let before = client.emulator.state().payments.len();
        let request =
            tokio::spawn(client.request(operation, client.params(&id, "Pay Tyllen $50")).send());
        eventually("the request arrives", || client.emulator.state().sends.contains_key(&id)).await;
        request.abort();
        let _ = request.await;
        eventually("the payment", || client.emulator.state().payments.len() == before + 1).await;
        eventually("the end", || {
            *client.emulator.state().task(&id).unwrap().state() == TaskState::Completed
        })
        .await;
    }
}

#[tokio::test]
async fn get_returns_the_requested_history() {
    let client = start().await;
    let id = TaskId::new();
    let part = json!({
        "type": "text",
        "text": "What's my balance?",
        "metadata": {"currency": "USD"},
    });
    let params = json!({
        "id": id,
        "sessionId": client.session,
        "metadata": {"source": "app"},
        "historyLength": 1,
        "message": {"role": "user", "metadata": {"priority": "high"}, "parts": [part]},
    });
    let (_, body) = client.call("send", params).await;
    assert_eq!(body["result"]["history"].as_array().unwrap().len(), 1);
    assert_eq!(body["result"]["history"][0]["role"], "agent");

    let history = client.get(&id).await["history"].clone();
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!(history[0]["metadata"]["priority"], "high");
    assert_eq!(history[0]["parts"][0]["metadata"]["currency"], "USD");
    assert_eq!(client.emulator.state().request_metadata[&id][0]["source"], "app");

    let (_, bare) = client.call("get", json!({"id": id})).await;
    assert!(bare["result"].get("history").is_none());
    for operation in ["get", "cancel", "resubscribe"] {
        let (status, body) = client.call(operation, json!({"id": "tsk-unknown"})).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::OK, &json!(-32001)),
            "{operation}"
        );
    }
}

#[tokio::test]
async fn cancel_before_the_agent_acts_prevents_the_payment() {
    let client = start_with(Emulator::builder().agent_delay(Duration::from_secs(60))).await;
    let id = TaskId::new();
    let (_, rest) = read_until(client.subscribe(&id, "Pay Tyllen $50").await, "WORKING").await;
    let (_, body) = client.call("cancel", json!({"id": id})).await;
    assert_eq!(body["result"]["status"]["state"], "CANCELED");
    let rest: Vec<_> = rest.map(Result::unwrap).collect().await;
    let last = events(std::str::from_utf8(&rest.concat()).unwrap());
    assert_eq!(last.len(), 1);
    assert_eq!(
        (&last[0]["status"]["state"], &last[0]["final"]),
        (&json!("CANCELED"), &json!(true))
    );
    let (_, again) = client.call("cancel", json!({"id": id})).await;
    assert_eq!(again["error"]["code"], -32002);
    assert!(client.emulator.state().payments.is_empty());

    // A pending send is answered, and a pending question is discarded.
    let waiting = TaskId::new();
    let send = client.send(&waiting, "Pay Tyllen $50");
    let cancel = async {
        eventually("the task", || client.emulator.state().task(&waiting).is_some()).await;
        client.call("cancel", json!({"id": waiting})).await
    };
    assert_eq!(futures::join!(send, cancel).0["status"]["state"], "CANCELED");
    client.emulator.configure(|settings| settings.agent_delay = Duration::ZERO);
    let asked = TaskId::new();
    assert_eq!(client.send(&asked, "Pay Tyllen $50").await["status"]["state"], "INPUT_REQUIRED");
    let (_, body) = client.call("cancel", json!({"id": asked})).await;
    assert_eq!(body["result"]["status"]["state"], "CANCELED");
    client.send(&asked, "yes").await;
    assert!(client.emulator.state().payments.is_empty());
}

#[tokio::test]
async fn cancel_after_the_agent_acts_keeps_the_payment() {
    let client = start_with(Emulator::builder().chunk_chars(2)).await;
    client.ask("create payee Tyllen").await;
    client.emulator.configure(|settings| settings.chunk_delay = Duration::from_secs(60));
    let id = TaskId::new();
    let (_, _rest) = read_until(client.subscribe(&id, "Pay Tyllen $50").await, "artifact").await;
    let (_, body) = client.call("cancel", json!({"id": id})).await;
    assert_eq!(body["result"]["status"]["state"], "CANCELED");
    assert_eq!(client.emulator.state().payments.len(), 1);
}

#[tokio::test]
async fn resubscribe_streams_later_events_or_the_status() {
    let client =
        start_with(Emulator::builder().chunk_chars(4).chunk_delay(Duration::from_millis(80))).await;
    let id = TaskId::new();
    let (_, first) =
        read_until(client.subscribe(&id, "What's my balance?").await, "artifact").await;
    drop(first);
    let again = client.request("resubscribe", json!({"id": id})).send().await.unwrap();
    let heard = events(&again.text().await.unwrap());
    assert!(heard[0]["artifact"]["append"] == json!(true), "{heard:?}");
    assert_eq!(heard.last().unwrap()["status"]["state"], "COMPLETED");

    let over = client.request("resubscribe", json!({"id": id})).send().await.unwrap();
    let over = events(&over.text().await.unwrap());
    assert_eq!(over.len(), 1);
    assert_eq!(
        (&over[0]["status"]["state"], &over[0]["final"]),
        (&json!("COMPLETED"), &json!(true))
    );
}

#[tokio::test]
async fn operations_can_be_removed() {
    let builder = Emulator::builder()
        .without(Operation::Get)
        .without(Operation::Cancel)
        .without(Operation::Resubscribe);
    let client = start_with(builder).await;
    for (how, status, code) in [
        (Unsupported::NotFound, 404, None),
        (Unsupported::MethodNotAllowed, 405, None),
        (Unsupported::NotImplemented, 501, None),
        (Unsupported::MethodNotFound, 200, Some(-32601)),
        (Unsupported::UnsupportedOperation, 200, Some(-32004)),
    ] {
        client.emulator.configure(|settings| settings.unsupported = how);
        for operation in ["get", "cancel", "resubscribe"] {
            let (received, body) = client.call(operation, json!({"id": "t"})).await;
            assert_eq!(
                (received.as_u16(), body["error"]["code"].as_i64()),
                (status, code),
                "{operation}"
            );
        }
    }
    assert!(client.ask("What's my balance?").await.contains('$'));
}

#[tokio::test]
async fn the_agent_card_is_served() {
    let client = start().await;
    let (status, card) =
        read(client.http.get(client.url("/.well-known/agent.json")).send().await.unwrap()).await;
    assert_eq!((status, &card["capabilities"]["streaming"]), (StatusCode::OK, &json!(true)));
    assert!(card["skills"][0]["id"].is_string());
}

#[tokio::test]
async fn a_second_send_can_be_a_conflict() {
    let client = start_with(Emulator::builder().conflict_on_resend()).await;
    client.ask("create payee Tyllen").await;
    let id = TaskId::new();
    client.send(&id, "Pay Tyllen $50").await;
    for operation in ["send", "sendSubscribe"] {
        let (status, _) = client.call(operation, client.params(&id, "Pay Tyllen $50")).await;
        assert_eq!(status, StatusCode::CONFLICT, "{operation}");
    }
    assert_eq!(client.emulator.state().payments.len(), 1);

    // An answer to a question is not a conflict.
    let question = TaskId::new();
    client.send(&question, "Pay Nobody $5").await;
    assert!(answer_text(&client.send(&question, "yes").await).contains("Paid $5.00"));
}
