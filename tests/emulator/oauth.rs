//! Tests OAuth grants, refresh, rotation and scopes.

use std::time::Duration;

use payman_sdk::{Emulator, TaskId};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn client_credentials_in_the_query_or_a_form() {
    let mut client = start().await;
    let (status, reply) =
        client.token_request("grant_type=client_credentials", Some(basic("any", "thing"))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&reply["tokenType"], &reply["expiresIn"]), (&json!("Bearer"), &json!(3600)));
    assert!(reply["scope"].as_str().unwrap().contains("write_send_payment"));
    assert!(reply.get("refreshToken").is_none());
    client.token = reply["accessToken"].as_str().unwrap().to_owned();
    assert!(client.ask("What's my balance?").await.contains("$1,000,000.00"));

    let form = client.http.post(client.url("/api/oauth2/token"));
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let form = form
        .body("grant_type=client_credentials&client_id=a%26b&client_secret=c")
        .send()
        .await
        .unwrap();
    assert_eq!(form.status(), StatusCode::OK);

    for (query, authorization, error) in [
        ("grant_type=client_credentials", None, "invalid_client"),
        ("grant_type=client_credentials&client_id=a", None, "invalid_client"),
        ("grant_type=password", Some(basic("a", "b")), "unsupported_grant_type"),
        ("", Some(basic("a", "b")), "invalid_request"),
        ("grant_type=refresh_token&refresh_token=no", Some(basic("a", "b")), "invalid_grant"),
        ("grant_type=authorization_code&code=no", Some(basic("a", "b")), "invalid_grant"),
        ("grant_type=client_credentials&scope=fly", Some(basic("a", "b")), "invalid_scope"),
    ] {
        let (status, reply) = client.token_request(query, authorization).await;
        assert!(status.is_client_error(), "{query}");
        assert_eq!(reply["error"], error, "{query}");
    }
    assert_eq!(client.emulator.state().token_requests, 9);
}

#[tokio::test]
async fn only_the_configured_credentials_are_accepted() {
    let client = start_with(Emulator::builder().credentials("id", "secret")).await;
    let grant = "grant_type=client_credentials";
    assert_eq!(client.token_request(grant, Some(basic("id", "secret"))).await.0, StatusCode::OK);
    for (id, secret) in [("id", "wrong"), ("other", "secret"), ("id", "")] {
        let (status, reply) = client.token_request(grant, Some(basic(id, secret))).await;
        assert_eq!(
            (status, &reply["error"]),
            (StatusCode::UNAUTHORIZED, &json!("invalid_client")),
            "{id}:{secret}"
        );
    }
    // A public client refreshes with its client id alone.
    let token = client.emulator.issue_refresh_token(ALL_SCOPES);
    let query = |id: &str| format!("grant_type=refresh_token&refresh_token={token}&client_id={id}");
    assert_eq!(client.token_request(&query("id"), None).await.0, StatusCode::OK);
    assert_eq!(client.token_request(&query("other"), None).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_code_works_once_and_expires() {
    let client = start().await;
    let client = &client;
    let exchange = |code: String| async move {
        let query = format!("grant_type=authorization_code&code={code}");
        client.token_request(&query, Some(basic("id", "secret"))).await
    };
    let code = client.emulator.issue_code(["read_balance"]);
    let (status, reply) = exchange(code.clone()).await;
    assert_eq!((status, &reply["scope"]), (StatusCode::OK, &json!("read_balance")));
    assert!(reply["refreshToken"].is_string());
    assert_eq!(exchange(code).await.1["error"], "invalid_grant");

    client.emulator.configure(|settings| settings.code_lifetime = Duration::ZERO);
    assert_eq!(exchange(client.emulator.issue_code(ALL_SCOPES)).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn without_rotation_a_refresh_token_stays_valid() {
    let client = start().await;
    let token = client.emulator.issue_refresh_token(["read_balance"]);
    let query = format!("grant_type=refresh_token&refresh_token={token}");
    for _ in 0..2 {
        let (status, reply) = client.token_request(&query, Some(basic("id", "secret"))).await;
        assert_eq!((status, &reply["refreshToken"]), (StatusCode::OK, &json!(token)));
        assert_eq!(reply["scope"], "read_balance");
    }
    client.emulator.configure(|settings| settings.refresh_token_in_refresh_replies = false);
    let (status, reply) = client.token_request(&query, Some(basic("id", "secret"))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(reply.get("refreshToken").is_none());
    assert_eq!(client.emulator.state().refresh_reuses, 0);
}

#[tokio::test]
async fn reuse_of_a_rotated_token_revokes_that_sign_in_only() {
    let mut client = start_with(Emulator::builder().rotate_refresh_tokens()).await;
    let bystander = client.token.clone();
    let first = client.emulator.issue_refresh_token(ALL_SCOPES);
    let (_, reply) = refresh(&client, &first).await;
    let second = reply["refreshToken"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let access = reply["accessToken"].as_str().unwrap().to_owned();

    assert_eq!(refresh(&client, &first).await.1["error"], "invalid_grant");
    assert_eq!(client.emulator.state().refresh_reuses, 1);
    assert_eq!(refresh(&client, &second).await.1["error"], "invalid_grant");
    assert_eq!(client.emulator.state().refresh_reuses, 1);

    client.token = access;
    let (status, body) =
        client.call("send", client.params(&TaskId::new(), "What's my balance?")).await;
    assert_eq!(
        (status, body),
        (StatusCode::UNAUTHORIZED, json!("Invalid or expired x-payman-access-token"))
    );
    client.token = bystander;
    assert!(client.ask("What's my balance?").await.contains("$1,000,000.00"));
}

#[tokio::test]
async fn a_refresh_token_belongs_to_its_client() {
    let client = start().await;
    let query =
        format!("grant_type=authorization_code&code={}", client.emulator.issue_code(ALL_SCOPES));
    let (_, reply) = client.token_request(&query, Some(basic("mine", "secret"))).await;
    let query = format!(
        "grant_type=refresh_token&refresh_token={}",
        reply["refreshToken"].as_str().unwrap()
    );
    assert_eq!(
        client.token_request(&query, Some(basic("other", "secret"))).await.1["error"],
        "invalid_grant"
    );
    assert_eq!(client.token_request(&query, Some(basic("mine", "secret"))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn missing_unknown_and_expired_tokens_are_refused() {
    let mut client = start_with(Emulator::builder().token_lifetime(Duration::from_secs(7))).await;
    let ask = client.params(&TaskId::new(), "What's my balance?");
    assert_eq!(client.call("send", ask.clone()).await.0, StatusCode::OK);
    client.emulator.expire_access_tokens();
    for operation in ["send", "sendSubscribe", "get", "cancel", "resubscribe"] {
        assert_eq!(
            client.call(operation, ask.clone()).await.0,
            StatusCode::UNAUTHORIZED,
            "{operation}"
        );
    }
    client.token = String::new();
    let (status, body) = client.call("send", ask.clone()).await;
    assert_eq!((status, body), (StatusCode::UNAUTHORIZED, json!("Missing x-payman-access-token")));
    client.token = "foreign".to_owned();
    assert_eq!(client.call("send", ask.clone()).await.0, StatusCode::UNAUTHORIZED);
    client.emulator.configure(|settings| settings.accept_any_token = true);
    assert_eq!(client.call("send", ask).await.0, StatusCode::OK);

    let refresh = client.emulator.issue_refresh_token(ALL_SCOPES);
    let query = format!("grant_type=refresh_token&refresh_token={refresh}");
    assert_eq!(client.token_request(&query, Some(basic("a", "b"))).await.1["expiresIn"], 7);
    client.emulator.revoke_all();
    assert_eq!(
        client.token_request(&query, Some(basic("a", "b"))).await.1["error"],
        "invalid_grant"
    );
}

#[tokio::test]
async fn an_access_token_expires_with_its_lifetime() {
    let client = start_with(Emulator::builder().token_lifetime(Duration::ZERO)).await;
    let (status, _) = client.call("get", json!({"id": "tsk-1"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_missing_scope_fails_the_task() {
    let mut client = start().await;
    client.ask("create payee Tyllen").await;
    for (scopes, text, lacking) in [
        (vec!["read_balance", "write_create_payee"], "Pay Tyllen $50", "write_send_payment"),
        (vec!["write_send_payment"], "create payee John", "write_create_payee"),
        (vec!["write_send_payment"], "What's my balance?", "read_balance"),
        (vec!["read_balance"], "List all wallets", "read_list_wallets"),
        (vec!["read_balance"], "List all payees", "read_list_payees"),
        (vec!["read_balance"], "Show my last 5 transactions", "read_list_transactions"),
    ] {
        client.token = client.emulator.issue_access_token(scopes);
        let task = client.send(&TaskId::new(), text).await;
        assert_eq!(task["status"]["state"], "FAILED", "{text}");
        assert!(answer_text(&task).contains(lacking), "{text}: {}", answer_text(&task));
    }
    // The answer to a question is checked for scopes too.
    client.token = client.emulator.issue_access_token(["write_send_payment"]);
    let task = TaskId::new();
    assert_eq!(client.send(&task, "Pay Nobody $5").await["status"]["state"], "INPUT_REQUIRED");
    assert_eq!(client.send(&task, "yes").await["status"]["state"], "FAILED");
    let state = client.emulator.state();
    assert_eq!((state.payments.len(), state.payees.len()), (0, 1));

    client.token = client.emulator.issue_access_token(["read_list_wallets"]);
    assert!(!client.ask("List all wallets").await.contains('$'));
}

async fn refresh(client: &RawClient, token: &str) -> (StatusCode, serde_json::Value) {
    let query = format!("grant_type=refresh_token&refresh_token={token}");
    client.token_request(&query, Some(basic("id", "secret"))).await
}
