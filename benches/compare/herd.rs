//! Ten thousand concurrent asks with an expired token, compared with a fresh one.
//!
//! Measures the time until all have their replies, over one open HTTP/2 connection. It includes the
//! token request.

use std::time::{Duration, Instant};

use payman_sdk::{Client, Config, TokenInfo};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::baseline::{TEXT, our_client};
use super::row::{Measured, Row, alternate};
use super::server;

const ASKS: usize = 10_000;
const PAIRS: usize = 7;
const HOUR: Duration = Duration::from_secs(60 * 60);

pub fn rows() -> Vec<Row> {
    vec![Row::new("herd/expired", 1.15, measure)]
}

fn measure() -> Measured {
    let (base_url, token_requests) = server::start();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let warm = our_client(&base_url, |http| http.http2_prior_knowledge());
    let herd = |lifetime| {
        let config = Config::new("client-id")
            .client_secret("secret")
            .base_url(&base_url)
            .share_connections(&warm);
        let token = TokenInfo::access("an-access-token", lifetime).refresh("a-refresh-token");
        ask_at_once(&runtime, &Client::with_token(config, token).expect("a valid config"))
    };
    herd(HOUR);
    assert_eq!(token_requests.take(), 0, "a fresh token needs no request");
    let mut most = 0;
    let mut expired = || {
        let time = herd(Duration::ZERO);
        most = most.max(token_requests.take());
        time
    };
    let pairs = alternate(PAIRS, &mut expired, || herd(HOUR));
    println!("COUNT token-requests {most}");
    Measured { pairs, bytes: None }
}

fn ask_at_once(runtime: &Runtime, client: &Client) -> f64 {
    runtime.block_on(async {
        let started = Instant::now();
        let mut asks = JoinSet::new();
        for _ in 0..ASKS {
            asks.spawn(client.ask(TEXT));
        }
        while let Some(reply) = asks.join_next().await {
            reply.expect("the ask does not panic").expect("a reply");
        }
        started.elapsed().as_secs_f64()
    })
}
