//! One call of a tool.

use rmcp::RoleServer;
use rmcp::model::InputResponses;
use rmcp::service::RequestContext;

/// What belongs to one tool call.
pub(super) struct ToolCall {
    pub(super) context: RequestContext<RoleServer>,
    /// The state that an earlier `input_required` result gave to the host.
    pub(super) state: Option<String>,
    /// The answers of the user that go with it.
    pub(super) responses: Option<InputResponses>,
}
