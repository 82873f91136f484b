//! The MCP server: lists the tools and dispatches their calls.

use std::sync::Arc;

use payman_sdk::{Client, Error, Reply, Task, TaskId};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorData, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, model::CallToolResult};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::ToolCall;
use super::order::TaskArguments;
use super::result::TaskResult;
use super::shared::McpCore;
use super::{tools, visible};

/// The server: three tools over the shared state.
pub(super) struct McpServer(pub(super) Arc<McpCore>);

impl McpServer {
    async fn get_task(&self, arguments: TaskArguments) -> CallToolResult {
        let what = "The task could not be looked up";
        self.on_task(arguments, what, async |client, task| client.get_task(task).await).await
    }

    async fn cancel_task(&self, arguments: TaskArguments) -> CallToolResult {
        let what = "The task was not canceled; call get_task to see how it stands";
        self.on_task(arguments, what, async |client, task| client.cancel_task(task).await).await
    }

    /// Calls the platform about a task; `what` begins the result of a failed call.
    async fn on_task(
        &self,
        arguments: TaskArguments,
        what: &str,
        call: impl AsyncFnOnce(&Client, &TaskId) -> Result<Task, Error>,
    ) -> CallToolResult {
        let task = match arguments.check() {
            Ok(task) => task,
            Err(problem) => return invalid(&problem),
        };
        let platform = match self.0.platform().await {
            Ok(platform) => platform,
            Err(problem) => return TaskResult::not_sent(problem).into_result(true),
        };
        match call(&platform.client, &task).await {
            Ok(found) => self.seen(&task, found),
            Err(error) => TaskResult::of_task_error(&error, &task, what).into_result(true),
        }
    }

    fn seen(&self, task: &TaskId, found: Task) -> CallToolResult {
        let reply = Reply::from(found);
        self.0.remember_question(&reply);
        let result = TaskResult::of_reply(&reply);
        self.0.repeats.settle(task, &result);
        result.into_result(false)
    }
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("payman", env!("CARGO_PKG_VERSION")).with_title("Payman"),
            )
            .with_instructions(tools::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::all().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        match request.name.as_ref() {
            tools::ASK => {
                let call = ToolCall {
                    context,
                    state: request.request_state,
                    responses: request.input_responses,
                };
                match read(arguments) {
                    Ok(arguments) => Ok(self.0.ask(arguments, &call).await),
                    Err(problem) => Ok(invalid(&problem).into()),
                }
            }
            tools::GET => match read(arguments) {
                Ok(arguments) => Ok(self.get_task(arguments).await.into()),
                Err(problem) => Ok(invalid(&problem).into()),
            },
            tools::CANCEL => match read(arguments) {
                Ok(arguments) => Ok(self.cancel_task(arguments).await.into()),
                Err(problem) => Ok(invalid(&problem).into()),
            },
            other => Err(ErrorData::invalid_params(
                format!("unknown tool: {}", visible::one_line(other, 100)),
                None,
            )),
        }
    }
}

fn read<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, String> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| error.to_string())
}

fn invalid(problem: &str) -> CallToolResult {
    let problem = visible::one_line(problem, 300);
    TaskResult::not_sent(format!("Nothing was sent: the arguments cannot be used: {problem}."))
        .into_result(true)
}
