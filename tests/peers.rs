//! Against programs that others wrote; `tests/peers/run` installs them and sets `PAYMAN_PEERS_PYTHON`.

#![cfg(test)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use payman_sdk::{
    Ask, Client, Config, Emulator, ErrorKind, Event, RetryPolicy, TaskState, TokenInfo,
};

/// The interpreter with the peers installed; without one, the tests that need it are skipped.
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

/// The reference server, ended when dropped.
struct Reference {
    process: Child,
    address: SocketAddr,
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Reference {
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
async fn the_reference_server_is_understood() {
    let Some(python) = python() else { return };
    let server = Reference::start(python);
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

    let words: Vec<String> = client
        .ask_stream("multi x")
        .await
        .unwrap()
        .text()
        .map(|words| words.unwrap())
        .collect()
        .await;
    assert_eq!(words.concat(), "x-ax-b");
    let raw: Vec<_> = client.ask_stream_raw("multi x").await.unwrap().collect().await;
    assert_eq!(raw.len(), 5);
    assert!(raw.iter().all(|event| event.as_ref().unwrap().result().is_some()));
    println!("ask, raw, status message, stream, words, raw stream: understood");
}

#[tokio::test]
async fn the_reference_server_asks_back_and_is_answered() {
    let Some(python) = python() else { return };
    let server = Reference::start(python);
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
    println!("input required and answered, whole and streamed");
}

#[tokio::test]
async fn the_reference_servers_errors_are_typed_or_looked_into() {
    let Some(python) = python() else { return };
    let server = Reference::start(python);
    // An internal error may hide a task that ran: looking shows that it failed.
    let reply = server.client().ask("fail now").await.unwrap();
    assert_eq!(reply.state(), &TaskState::Failed);
    assert!(reply.text().contains("agent blew up"), "{reply}");
    let reply = server.client().ask_stream("fail now").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.state(), &TaskState::Failed);

    let blunt = server.client_with(server.config().retry(RetryPolicy::none()));
    let error = blunt.ask("fail now").await.unwrap_err();
    assert_eq!((error.rpc_code(), error.is_outcome_unknown()), (Some(-32603), true));
    let events: Vec<_> = blunt.ask_stream("fail now").await.unwrap().collect().await;
    assert_eq!(events.last().unwrap().as_ref().unwrap_err().rpc_code(), Some(-32603));

    let stranger =
        Client::with_token(server.config(), TokenInfo::access("wrong", Duration::from_secs(60)))
            .unwrap();
    let error = stranger.ask("echo hi").await.unwrap_err();
    assert!(error.is_auth() && error.is_safe_to_ask_again(), "{error:?}");
    assert!(stranger.ask_stream("echo hi").await.unwrap_err().is_auth());
    assert_eq!(
        server.client().get_task("tsk-nobody").await.unwrap_err().kind(),
        ErrorKind::TaskNotFound
    );
    println!("failed task, error in a stream, wrong token, unknown task: typed");
}

#[tokio::test]
async fn the_reference_server_cancels_and_resubscribes() {
    let Some(python) = python() else { return };
    let server = Reference::start(python);
    let client = server.client();
    let mut events = client.ask_stream("slow 50").await.unwrap();
    while !matches!(events.next().await.unwrap().unwrap(), Event::Artifact(_)) {}
    events.cancel().await.unwrap();
    let reply = events.into_reply().await.unwrap();
    assert_eq!(reply.state(), &TaskState::Canceled);
    assert_eq!(client.get_task(reply.task_id()).await.unwrap().state(), &TaskState::Canceled);

    // Given up as silent between two chunks; the rest is seen by resubscribing and looking.
    let ask = Ask::new("slow 5").idle_timeout(Duration::from_millis(250));
    let reply = client.ask_stream(ask).await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.state(), &TaskState::Completed);
    for chunk in 0..5 {
        assert!(reply.text().contains(&format!("[{chunk}]")), "{reply}");
    }
    println!("canceled; cut and found again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platforms_python_sdk_runs_against_the_emulator() {
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
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{failed}");
    let state = payman.state();
    assert_eq!(state.payments.len(), 1);
    assert_eq!(
        (state.payments[0].payee.as_str(), state.payments[0].amount.to_string().as_str()),
        ("Tyllen", "50.00")
    );
}
