//! Asks the host's user a question, in either generation of the protocol.
//!
//! Up to 2025-11-25 the server sends an `elicitation/create` request while the tool call is in
//! progress. From 2026-07-28 on the call ends with an `input_required` result, and the host repeats
//! it with the user's answer and an opaque state, which is a handle to an [`OpenDialog`].

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use payman_sdk::Reply;
use rmcp::RoleServer;
use rmcp::model::{
    CallToolResponse, CancelledNotificationParam, ClientResult, ElicitRequest, ElicitRequestParams,
    ElicitResult, ElicitationAction, ElicitationSchema, InputRequest, InputRequiredResult,
    InputResponses, ProtocolVersion, ServerRequest, StringSchema,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestContext, ServiceError};
use tokio::time::timeout;
use uuid::Uuid;

use super::bounded::BoundedMap;
use super::call::ToolCall;
use super::order::{Digest, MAX_TEXT};

/// The time limit of the user's answer.
const USER_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The time limit of telling a host that a question is withdrawn.
const WITHDRAWAL_LIMIT: Duration = Duration::from_secs(2);
/// The maximum number of unanswered questions in the newer protocol.
const MAX_OPEN: usize = 64;

/// The name of the one question in an `input_required` result.
const QUESTION: &str = "user";
/// The field of the form for an answer in words.
const ANSWER: &str = "answer";

/// The way to ask the host's user.
pub(super) enum UserChannel {
    /// A request to the host, while the call is in progress.
    Request(Peer<RoleServer>),
    /// An `input_required` result, after which the host repeats the call.
    RoundTrip,
    /// The host cannot ask its user.
    Unavailable,
}

impl UserChannel {
    pub(super) fn of(context: &RequestContext<RoleServer>) -> Self {
        let elicitation = context.client_capabilities().and_then(|all| all.elicitation);
        // A host that states no mode supports forms.
        let has_forms =
            elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none());
        if !has_forms {
            return Self::Unavailable;
        }
        match context.protocol_version() {
            Some(version) if version.as_str() >= ProtocolVersion::V_2026_07_28.as_str() => {
                Self::RoundTrip
            }
            _ => Self::Request(context.peer.clone()),
        }
    }
}

/// The user's answer.
pub(super) enum UserAnswer {
    Accepted(Option<String>),
    /// The user declined.
    Declined,
    /// The user or the host closed the question without an answer.
    Dismissed,
    /// The host could not ask the user.
    Failed(String),
}

/// A form to be shown to the user.
pub(super) enum Form {
    /// A form to accept or decline.
    Consent,
    /// A form with one line of text.
    Words,
}

impl Form {
    fn schema(&self) -> ElicitationSchema {
        match self {
            Self::Consent => ElicitationSchema::new(BTreeMap::new()),
            Self::Words => ElicitationSchema::builder()
                .string_property(ANSWER, |field: StringSchema| field.title("Your answer"))
                .build()
                .unwrap_or_else(|_| ElicitationSchema::new(BTreeMap::new())),
        }
    }

    fn request(&self, message: String) -> ElicitRequestParams {
        ElicitRequestParams::FormElicitationParams {
            meta: None,
            message,
            requested_schema: self.schema(),
        }
    }
}

/// Asks by a request to the host and waits for the answer. Withdraws the question if the host
/// abandons the tool call.
pub(super) async fn ask_user(
    peer: &Peer<RoleServer>,
    form: &Form,
    message: String,
    call: &ToolCall,
) -> UserAnswer {
    let question = ServerRequest::ElicitRequest(ElicitRequest::new(form.request(message)));
    let limit = PeerRequestOptions::with_timeout(USER_TIMEOUT);
    let asked = match peer.send_cancellable_request(question, limit).await {
        Ok(asked) => asked,
        Err(error) => return UserAnswer::Failed(error.to_string()),
    };
    let id = asked.id.clone();
    let answer = tokio::select! {
        answer = asked.await_response() => answer,
        () = call.context.ct.cancelled() => {
            let reason = "the tool call was canceled".to_owned();
            let withdrawn = CancelledNotificationParam::new(Some(id), Some(reason));
            let _ = timeout(WITHDRAWAL_LIMIT, peer.notify_cancelled(withdrawn)).await;
            return UserAnswer::Dismissed;
        }
    };
    match answer {
        Ok(ClientResult::ElicitResult(result)) => read_answer(&result),
        Ok(_) => UserAnswer::Failed("the host's answer is of another kind".to_owned()),
        Err(ServiceError::Timeout { .. }) => UserAnswer::Dismissed,
        Err(error) => UserAnswer::Failed(error.to_string()),
    }
}

/// Returns an `input_required` result. The host returns the state with the answer.
pub(super) fn ask_by_result(form: &Form, message: String, state: String) -> CallToolResponse {
    let request = InputRequest::Elicitation(ElicitRequest::new(form.request(message)));
    let requests = BTreeMap::from([(QUESTION.to_owned(), request)]);
    InputRequiredResult::new(Some(requests), Some(state)).into()
}

/// Reads the user's answer in a repeated call.
pub(super) fn answer_in(responses: Option<&InputResponses>) -> UserAnswer {
    let Some(response) = responses.and_then(|responses| responses.get(QUESTION)) else {
        return UserAnswer::Dismissed;
    };
    match serde_json::from_value::<ElicitResult>(response.clone()) {
        Ok(result) => read_answer(&result),
        Err(error) => UserAnswer::Failed(error.to_string()),
    }
}

fn read_answer(result: &ElicitResult) -> UserAnswer {
    match result.action {
        ElicitationAction::Accept => {
            let content = result.content.as_ref();
            let words =
                content.and_then(|content| content.get(ANSWER)).and_then(|word| word.as_str());
            let words =
                words.map(str::trim).filter(|words| !words.is_empty() && words.len() <= MAX_TEXT);
            UserAnswer::Accepted(words.map(str::to_owned))
        }
        ElicitationAction::Decline => UserAnswer::Declined,
        _ => UserAnswer::Dismissed,
    }
}

/// The questions whose answers arrive with a later call.
pub(super) struct OpenDialogs(Mutex<BoundedMap<String, OpenDialog>>);

/// The subject of an open question.
#[derive(Clone)]
pub(super) enum OpenDialog {
    /// A confirmation of this content, to be used once.
    Confirmation(Digest),
    /// The agent's question, in this reply. It is kept to recognize a repeated answer.
    Question(Box<Reply>),
}

impl OpenDialogs {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX_OPEN)))
    }

    /// Stores a dialog under a new random handle, and returns the handle.
    pub(super) fn open(&self, dialog: OpenDialog) -> String {
        let handle = Uuid::new_v4().to_string();
        self.lock().insert(handle.clone(), dialog);
        handle
    }

    /// Returns the agent's question behind a handle.
    pub(super) fn question(&self, handle: &str) -> Option<Box<Reply>> {
        match self.lock().get(&handle.to_owned()) {
            Some(OpenDialog::Question(reply)) => Some(reply.clone()),
            _ => None,
        }
    }

    /// Consumes a confirmation. Returns true if it was for exactly this content and unused before.
    pub(super) fn use_confirmation(&self, handle: &str, content: Digest) -> bool {
        let mut open = self.lock();
        let handle = handle.to_owned();
        match open.get(&handle) {
            Some(OpenDialog::Confirmation(about)) if *about == content => {
                open.remove(&handle).is_some()
            }
            _ => false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BoundedMap<String, OpenDialog>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_is_valid_once_and_for_its_content_only() {
        let open = OpenDialogs::new();
        let handle = open.open(OpenDialog::Confirmation([1; 32]));
        assert!(!open.use_confirmation(&handle, [2; 32]));
        assert!(!open.use_confirmation("guess", [1; 32]));
        assert!(open.use_confirmation(&handle, [1; 32]));
        assert!(!open.use_confirmation(&handle, [1; 32]));
    }

    #[test]
    fn only_an_accepted_form_is_consent() {
        let answer = |json: serde_json::Value| {
            answer_in(Some(&BTreeMap::from([(QUESTION.to_owned(), json)])))
        };
        assert!(matches!(
            answer(serde_json::json!({"action": "accept"})),
            UserAnswer::Accepted(None)
        ));
        assert!(matches!(
            answer(serde_json::json!({"action": "accept", "content": {"answer": " yes "}})),
            UserAnswer::Accepted(Some(words)) if words == "yes"
        ));
        assert!(matches!(answer(serde_json::json!({"action": "decline"})), UserAnswer::Declined));
        assert!(matches!(answer(serde_json::json!({"action": "cancel"})), UserAnswer::Dismissed));
        assert!(matches!(answer(serde_json::json!({"action": "sure"})), UserAnswer::Failed(_)));
        assert!(matches!(answer(serde_json::json!({})), UserAnswer::Failed(_)));
        assert!(matches!(answer_in(None), UserAnswer::Dismissed));
    }
}
