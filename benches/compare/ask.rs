//! One ask, against a POST written by hand.

use std::time::{Duration, Instant};

use payman_sdk::{Client, Config, TokenInfo, decode};
use serde_json::json;

use super::row::{Measured, Row, in_turns};
use super::server::{Server, runtime};

pub fn client(config: Config) -> Client {
    let token = TokenInfo::access("an-access-token", Duration::from_secs(3600));
    Client::with_token(config, token).expect("a client")
}

pub fn rows() -> Vec<Row> {
    vec![Row::new("ask/cpu", 1.05, cpu)]
}

const TEXT: &str = "How much money do I have in my wallet?";

/// The processor time of the client's thread, connection and all: the server has a thread of its own.
fn cpu() -> Measured {
    let server = Server::start();
    let runtime = runtime();
    let client = client(Config::new("bench").base_url(&server.url));
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().expect("a client");
    let url = format!("{}/api/a2a/tasks/send", server.url);
    let session = format!("ses-{}", uuid::Uuid::new_v4());

    let ours = || {
        let reply = runtime.block_on(client.ask(TEXT)).expect("a reply");
        assert!(reply.state().is_terminal());
    };
    let by_hand = || {
        let task = runtime.block_on(async {
            let body = json!({
                "jsonrpc": "2.0", "id": format!("req-{}", uuid::Uuid::new_v4()), "method": "tasks/send",
                "params": {
                    "id": format!("tsk-{}", uuid::Uuid::new_v4()), "sessionId": session,
                    "message": {"role": "user", "parts": [{"type": "text", "text": TEXT}]},
                },
            });
            let request = http
                .post(&url)
                .header("content-type", "application/json")
                .header("accept", "application/json")
                .header("x-payman-access-token", "an-access-token")
                .body(body.to_string());
            let reply = request.send().await.expect("an answer").error_for_status().expect("a reply");
            decode::response(&reply.bytes().await.expect("a body")).expect("a task")
        });
        assert!(task.state().is_terminal());
    };
    let wall = |side: &dyn Fn()| {
        const ASKS: u32 = 500;
        let start = Instant::now();
        (0..ASKS).for_each(|_| side());
        start.elapsed() / ASKS
    };
    let pairs = in_turns(ours, by_hand);
    println!("WALL ask/cpu {:?} an ask, by hand {:?}", wall(&ours), wall(&by_hand));
    Measured { pairs, bytes: None }
}
