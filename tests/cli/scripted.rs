//! A platform with scripted answers, for answers that the emulator does not give.

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::{ProgramOutput, Workspace, run_command};

pub struct ScriptedPlatform {
    server: MockServer,
    runtime: Runtime,
    pub workspace: Workspace,
}

impl ScriptedPlatform {
    /// Starts a platform that issues tokens, and answers 404 to other requests.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(MockServer::start());
        let platform = Self { server, runtime, workspace: Workspace::new() };
        let token = json!({"accessToken": "at", "tokenType": "Bearer", "expiresIn": 3600});
        platform
            .answer("/api/oauth2/token", move |_| ResponseTemplate::new(200).set_body_json(&token));
        platform
    }

    pub fn answer(
        &self,
        at: &str,
        respond: impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static,
    ) {
        let mock = Mock::given(method("POST")).and(path(at)).respond_with(respond);
        self.runtime.block_on(mock.mount(&self.server));
    }

    /// Answers asks and lookups with this task, with the id from the request.
    pub fn answer_task(&self, task: Value) {
        let template = task.clone();
        let respond = move |request: &Request| {
            let body: Value = request.body_json().unwrap();
            let mut task = template.clone();
            task["id"] = body["params"]["id"].clone();
            ResponseTemplate::new(200)
                .set_body_json(json!({"jsonrpc": "2.0", "id": body["id"], "result": task}))
        };
        self.answer("/api/a2a/tasks/send", respond.clone());
        self.answer("/api/a2a/tasks/get", respond);
    }

    /// Answers streams with these events, with the id from the request.
    pub fn answer_events(&self, events: Vec<Value>) {
        self.answer("/api/a2a/tasks/sendSubscribe", move |request| {
            let body: Value = request.body_json().unwrap();
            let body: String = events
                .iter()
                .map(|event| {
                    let mut event = event.clone();
                    event["id"] = body["params"]["id"].clone();
                    let message = json!({"jsonrpc": "2.0", "id": body["id"], "result": event});
                    format!("data: {message}\n\n")
                })
                .collect();
            ResponseTemplate::new(200).set_body_raw(body, "text/event-stream")
        });
    }

    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.workspace.command(args);
        command
            .env("PAYMAN_BASE_URL", self.server.uri())
            .env("PAYMAN_CLIENT_ID", "an-app")
            .env("PAYMAN_CLIENT_SECRET", "hush-secret");
        command
    }

    pub fn run(&self, args: &[&str]) -> ProgramOutput {
        run_command(self.command(args))
    }
}
