//! Interoperability with independent programs. `tests/peers/run` installs them and sets
//! `PAYMAN_PEERS_PYTHON`.

#![cfg(test)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use payman_sdk::{
    Ask, Client, Config, Emulator, ErrorKind, Event, RetryPolicy, TaskState, TokenInfo,
};

/// Returns the Python interpreter of the peers. Without one, the tests are skipped.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("PAYMAN_PEERS_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("skipped: tests/peers/run installs the peers and sets PAYMAN_PEERS_PYTHON");
    }
    python
}

fn script(name: &str) -> String {
    format!("{}/tests/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

const TOKEN: &str = "the-right-token";

/// The reference server as a process, which is killed on drop.
struct ReferenceServer {
    process: Child,
    address: SocketAddr,
}

impl Drop for ReferenceServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl ReferenceServer {
    fn start(python: PathBuf) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        let process = Command::new(python)
            .args([script("reference_server.py"), address.port().to_string(), TOKEN.to_owned()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the reference server did not start"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn config(&self) -> Config {
        Config::new("id").base_url(format!("http://{}", self.address))
    }

    fn client(&self) -> Client {
        self.client_with(self.config())
    }

    fn client_with(&self, config: Config) -> Client {
        Client::with_token(config, TokenInfo::access(TOKEN, Duration::from_secs(600))).unwrap()
    }
}

#[tokio::test]
async fn replies_and_streams_of_the_reference_server() {
    let Some(python) = python() else { return };
    let server = ReferenceServer::start(python);
    let client = server.client();

    let reply = client.ask("echo hi").await.unwrap();
    assert_eq!(
        (reply.state(), reply.text().trim()),
        (&TaskState::Completed, "[0]hi \n[1]hi \n[2]hi")
    );
    assert_eq!(reply.session_id(), Some(&client.session_id()));
    let raw = client.ask_raw("echo hi").await.unwrap();
    assert!(raw.result().unwrap().get().contains("\"state\":\"completed\""), "{raw}");
    assert_eq!(client.ask("statusonly all is well").await.unwrap().text(), "all is well");

    let mut states = Vec::new();
    let mut chunks = 0;
    let mut events = client.ask_stream("echo hi").await.unwrap();
    while let Some(event) = events.next().await {
        match event.unwrap() {
            Event::Status(update) => states.push(update.state().clone()),
            Event::Artifact(_) => chunks += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (states.as_slice(), chunks),
        ([TaskState::Working, TaskState::Completed].as_slice(), 3)
    );
    assert_eq!(events.into_reply().await.unwrap().text(), "[0]hi [1]hi [2]hi ");

    let text: Vec<String> = client
        .ask_stream("multi x")
        .await
        .unwrap()
        .text()
        .map(|text| text.unwrap())
        .collect()
        .await;
    assert_eq!(text.concat(), "x-ax-b");
    let raw: Vec<_> = client.ask_stream_raw("multi x").await.unwrap().collect().await;
    assert_eq!(raw.len(), 5);
    assert!(raw.iter().all(|event| event.as_ref().unwrap().result().is_some()));
    println!("ask, raw ask, status message, stream, text, raw stream: passed");
}

#[tokio::test]
async fn a_question_of_the_reference_server_is_answered() {
    let Some(python) = python() else { return };
    let server = ReferenceServer::start(python);
    let client = server.client();
    let question = client.ask("ask me").await.unwrap();
    assert_eq!(
        (question.state(), question.text().as_str()),
        (&TaskState::InputRequired, "which one?")
    );
    let reply = client.ask(question.answer("the second")).await.unwrap();
    assert!(reply.text().contains("answer=the second"), "{reply}");
    assert_eq!(reply.task_id(), question.task_id());

    let question = client.ask_stream("ask me").await.unwrap().into_reply().await.unwrap();
    assert_eq!(question.state(), &TaskState::InputRequired);
    let reply =
        client.ask_stream(question.answer("the third")).await.unwrap().into_reply().await.unwrap();
    assert!(reply.text().contains("answer=the third"), "{reply}");
    println!("input required, answered with ask and with a stream: passed");
}

#[tokio::test]
async fn errors_of_the_reference_server() {
    let Some(python) = python() else { return };
    let server = ReferenceServer::start(python);
    // An internal error may hide a task that ran: the lookup shows that it failed.
    let reply = server.client().ask("fail now").await.unwrap();
    assert_eq!(reply.state(), &TaskState::Failed);
    assert!(reply.text().contains("agent blew up"), "{reply}");
    let reply = server.client().ask_stream("fail now").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.state(), &TaskState::Failed);

    let without_retries = server.client_with(server.config().retry(RetryPolicy::none()));
    let error = without_retries.ask("fail now").await.unwrap_err();
    assert_eq!((error.rpc_code(), error.is_outcome_unknown()), (Some(-32603), true));
    let events: Vec<_> = without_retries.ask_stream("fail now").await.unwrap().collect().await;
    assert_eq!(events.last().unwrap().as_ref().unwrap_err().rpc_code(), Some(-32603));

    let unauthorized =
        Client::with_token(server.config(), TokenInfo::access("wrong", Duration::from_secs(60)))
            .unwrap();
    let error = unauthorized.ask("echo hi").await.unwrap_err();
    assert!(error.is_auth() && error.is_safe_to_ask_again(), "{error:?}");
    assert!(unauthorized.ask_stream("echo hi").await.unwrap_err().is_auth());
    assert_eq!(
        server.client().get_task("tsk-nobody").await.unwrap_err().kind(),
        ErrorKind::TaskNotFound
    );
    println!("failed task, error in a stream, wrong token, unknown task: passed");
}

#[tokio::test]
async fn cancel_and_resubscribe_on_the_reference_server() {
    let Some(python) = python() else { return };
    let server = ReferenceServer::start(python);
    let client = server.client();
    let mut events = client.ask_stream("slow 50").await.unwrap();
    while !matches!(events.next().await.unwrap().unwrap(), Event::Artifact(_)) {}
    events.cancel().await.unwrap();
    let reply = events.into_reply().await.unwrap();
    assert_eq!(reply.state(), &TaskState::Canceled);
    assert_eq!(client.get_task(reply.task_id()).await.unwrap().state(), &TaskState::Canceled);

    // The idle timeout passes between two chunks; the rest comes from resubscribing and lookups.
    let ask = Ask::new("slow 5").idle_timeout(Duration::from_millis(250));
    let reply = client.ask_stream(ask).await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.state(), &TaskState::Completed);
    for chunk in 0..5 {
        assert!(reply.text().contains(&format!("[{chunk}]")), "{reply}");
    }
    println!("cancel, resubscribe: passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_against_the_emulator() {
    let Some(python) = python() else { return };
    let payman = Emulator::start().await.unwrap();
    let scopes = ["read_balance", "read_list_payees", "read_list_wallets"];
    let output = Command::new(python)
        .arg(script("python_client.py"))
        .args([
            payman.base_url(),
            &payman.issue_code(scopes),
            &payman.issue_access_token(scopes),
            &payman.issue_refresh_token(scopes),
        ])
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let state = payman.state();
    assert_eq!(state.payments.len(), 1);
    assert_eq!(
        (state.payments[0].payee.as_str(), state.payments[0].amount.to_string().as_str()),
        ("Tyllen", "50.00")
    );
}
