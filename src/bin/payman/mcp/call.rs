//! One call of a tool.

use rmcp::RoleServer;
use rmcp::model::InputResponses;
use rmcp::service::RequestContext;

/// The context of one tool call.
pub(super) struct ToolCall {
    pub(super) context: RequestContext<RoleServer>,
    /// The state from the earlier `input_required` result.
    pub(super) state: Option<String>,
    /// The user's answers to that result.
    pub(super) responses: Option<InputResponses>,
}
