//! Tests problem documents and events without a server.

use payman_sdk::web::{Problem, ServerEvent};
use payman_sdk::{ConnectUrl, TaskId};
use serde_json::json;

#[tokio::test]
async fn a_denied_or_forged_callback_is_a_4xx_problem() {
    for (redirect, status, code) in [
        ("error=access_denied&state=s", 403, "connect-denied"),
        ("error=user_cancelled&state=s", 403, "connect-denied"),
        ("error=access_denied&state=forged", 400, "invalid-redirect"),
        ("error=access_denied", 400, "invalid-redirect"),
        ("code=c0de&state=forged", 400, "invalid-redirect"),
        ("code=c0de", 400, "invalid-redirect"),
        ("", 400, "invalid-redirect"),
        ("state=s", 400, "invalid-input"),
        ("code=&state=s", 400, "invalid-input"),
        ("code=a&code=b&state=s", 400, "invalid-input"),
        // The cause is this server or the platform.
        ("error=invalid_scope&state=s", 502, "refused"),
        ("error=server_error&state=s", 502, "refused"),
    ] {
        let error = ConnectUrl::parse_redirect(redirect, "s").unwrap_err();
        let problem = Problem::from(&error);
        assert_eq!((problem.status(), problem.code()), (status, code), "{redirect}");
        assert!(problem.is_safe_to_ask_again() && !problem.detail().contains("forged"));
    }
    // Without a `state`, a service cannot attribute the callback to a user.
    let error = ConnectUrl::parse_redirect("code=c0de&state=", "").unwrap_err();
    assert_eq!(Problem::from(error).status(), 400);
}

#[test]
fn an_unknown_outcome_is_never_safe_to_ask_again() {
    let lost = Problem::outcome_unknown(&TaskId::from("tsk-1"));
    assert_eq!((lost.status(), lost.task_id().unwrap().as_str()), (502, "tsk-1"));
    assert!(lost.is_outcome_unknown() && !lost.is_safe_to_ask_again());
    let event = ServerEvent::problem(&Problem::shutting_down());
    assert!(event.name() == "error" && event.data().contains("\"outcomeUnknown\":true"));
}

#[test]
fn events_convert_to_axums_sse_events() {
    let event = payman_sdk::web::ServerEvent::new("greeting", &json!({"text": "hi"}));
    let event = format!("{:?}", axum::response::sse::Event::from(event));
    assert!(event.contains("greeting"), "{event}");
}
