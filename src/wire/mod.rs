//! The wire format: JSON-RPC, tasks, and the token endpoint.
//!
//! All leniency about spellings is in this module, so that the rest of the crate handles one shape.
//!
//! | `POST` to | body | reply |
//! |---|---|---|
//! | `/api/a2a/tasks/send` | [`request::SendParams`] | a [`task::Task`] |
//! | `/api/a2a/tasks/sendSubscribe` | the same | server-sent events, see [`update`] |
//! | `/api/a2a/tasks/get`, `…/cancel` | [`request::TaskParams`] | a [`task::Task`] |
//! | `/api/a2a/tasks/resubscribe` | the same | server-sent events |
//! | `/api/oauth2/token?grant_type=…` | empty | [`oauth::TokenReply`] |
//!
//! All but the last are JSON-RPC: the body is the `params` of a [`jsonrpc::Request`], and the
//! reply, or each event, the `result` of a response.
//!
//! Requests carry `content-type: application/json` and the header [`ACCESS_TOKEN_HEADER`]. Unset
//! fields are left out: some servers answer 500 to a null.

pub(crate) mod binary;
pub(crate) mod json;
pub(crate) mod jsonrpc;
pub(crate) mod lenient;
pub(crate) mod message;
pub(crate) mod oauth;
pub(crate) mod part;
pub(crate) mod request;
pub(crate) mod state;
pub(crate) mod task;
pub(crate) mod timestamp;
pub(crate) mod update;

/// A JSON object that the caller or the server attached to a task, a message, a part or an
/// artifact.
///
/// Integers from -2^63 to 2^64-1 are exact, other numbers to 15 significant digits. Write an amount
/// of money as text, or as an integer in the smallest unit.
/// [`Client::ask_raw`](crate::Client::ask_raw) keeps every digit that the server wrote.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// The header that carries the access token on every call but those to the token endpoint.
pub(crate) const ACCESS_TOKEN_HEADER: &str = "x-payman-access-token";

/// Paths below the base URL.
pub(crate) mod path {
    pub(crate) const TOKEN: &str = "/api/oauth2/token";
    pub(crate) const SEND: &str = "/api/a2a/tasks/send";
    pub(crate) const SEND_SUBSCRIBE: &str = "/api/a2a/tasks/sendSubscribe";
    pub(crate) const GET: &str = "/api/a2a/tasks/get";
    pub(crate) const CANCEL: &str = "/api/a2a/tasks/cancel";
    pub(crate) const RESUBSCRIBE: &str = "/api/a2a/tasks/resubscribe";
    #[cfg(feature = "emulator")]
    pub(crate) const AGENT_CARD: &str = "/.well-known/agent.json";
}
