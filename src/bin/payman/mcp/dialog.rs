//! Asks the host's user something, in the way of either protocol generation.
//!
//! Up to 2025-11-25 the server sends an `elicitation/create` request while the tool call is in
//! progress. From 2026-07-28 on the call ends with an `input_required` result, and the host repeats
//! it with the user's answer and an opaque state, which is a handle to what is kept here.

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

/// How long a user may take to answer.
const USER_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long a host may take to read that a question is withdrawn.
const WITHDRAWAL_LIMIT: Duration = Duration::from_secs(2);
/// How many questions may wait for their answer, in the newer protocol.
const MAX_OPEN: usize = 64;

/// The name of the one question in an `input_required` result.
const QUESTION: &str = "user";
/// The field of the form for an answer in words.
const ANSWER: &str = "answer";

/// How the host lets its user be asked.
pub(super) enum UserChannel {
    /// By a request to the host, while the call is in progress.
    Request(Peer<RoleServer>),
    /// By a result that asks, after which the host repeats the call.
    RoundTrip,
    /// Not at all.
    Unavailable,
}

impl UserChannel {
    pub(super) fn of(context: &RequestContext<RoleServer>) -> Self {
        let elicitation = context.client_capabilities().and_then(|all| all.elicitation);
        // A host that names no mode means forms.
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

/// What the user said.
pub(super) enum UserAnswer {
    Accepted(Option<String>),
    /// They said no.
    Declined,
    /// They closed the question without an answer, or the host did.
    Dismissed,
    /// The host could not ask them.
    Failed(String),
}

/// A form to be shown to the user.
pub(super) enum Form {
    /// Accept or decline.
    Consent,
    /// One line of text.
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

/// Asks by a request to the host and waits for the answer. Withdraws the question if the host gives
/// the tool call up.
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

/// Returns a result that asks. The state comes back with the answer.
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

/// Questions whose answers come with a later call.
pub(super) struct OpenDialogs(Mutex<BoundedMap<String, OpenDialog>>);

/// What a question was about.
#[derive(Clone)]
pub(super) enum OpenDialog {
    /// May this be sent? Counts once.
    Confirmation(Digest),
    /// The agent's question, in this reply. Kept, so that a repeated answer is recognized.
    Question(Box<Reply>),
}

impl OpenDialogs {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX_OPEN)))
    }

    /// Keeps a dialog under a new handle that nobody can guess, and returns the handle.
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

    /// Uses up a confirmation. Returns true if it was asked for this very content and not used
    /// before.
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
    fn a_confirmation_counts_once_and_for_its_own_content_only() {
        let open = OpenDialogs::new();
        let handle = open.open(OpenDialog::Confirmation([1; 32]));
        assert!(!open.use_confirmation(&handle, [2; 32]));
        assert!(!open.use_confirmation("guess", [1; 32]));
        assert!(open.use_confirmation(&handle, [1; 32]));
        assert!(!open.use_confirmation(&handle, [1; 32]));
    }

    #[test]
    fn only_acceptance_is_acceptance() {
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
