//! Ten thousand asks at once, with an expired token and with a fresh one.

use std::time::{Duration, Instant};

use payman_sdk::{Client, Config, TokenInfo};

use super::ask;
use super::row::{Measured, Row};
use super::server::{Server, runtime};

pub fn rows() -> Vec<Row> {
    vec![Row::new("herd/expired", 1.1, expired)]
}

const ASKS: usize = 10_000;
const PAIRS: usize = 5;

fn expired() -> Measured {
    let server = Server::start_alone();
    let runtime = runtime();
    // Over one connection: ten thousand would be a test of the kernel.
    let config = || Config::new("bench").base_url(&server.url).configure_http(|http| http.http2_prior_knowledge());
    let warm = ask::client(config());
    runtime.block_on(warm.ask("hi")).expect("a reply");
    let fresh = || ask::client(config().share_connections(&warm));
    let expired = || {
        let token = TokenInfo::access("old", Duration::ZERO).refresh("refresh-token");
        Client::with_token(config().client_secret("s").share_connections(&warm), token).expect("a client")
    };
    let herd = |client: Client| {
        let start = Instant::now();
        runtime.block_on(async {
            let asks: Vec<_> = (0..ASKS).map(|_| tokio::spawn(client.ask("hi"))).collect();
            for asked in asks {
                asked.await.expect("no panic").expect("a reply");
            }
        });
        start.elapsed().as_nanos() as f64
    };
    herd(fresh());
    let mut pairs = Vec::new();
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            let first = herd(expired());
            pairs.push((first, herd(fresh())));
        } else {
            let first = herd(fresh());
            pairs.push((herd(expired()), first));
        }
    }
    let tokens = server.tokens();
    assert_eq!(tokens % PAIRS as u64, 0, "{tokens} token requests in {PAIRS} herds");
    println!("COUNT token-requests {}", tokens / PAIRS as u64);
    Measured { pairs, bytes: None }
}
