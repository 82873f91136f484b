//! A token store shared through a Redis server. `tests/redis/run` starts one and runs this.
#![cfg(test)]
#![cfg(feature = "redis")]

mod common;

use std::sync::Arc;

use common::holders::{Lost, Server, Size, hold};
use payman_sdk::RedisTokenStore;

/// One at a time: what they measure is time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sign_in_is_lost_where_requests_are() {
    clients_share_a_server(Lost::Requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sign_in_is_saved_or_says_so_where_replies_are_lost() {
    clients_share_a_server(Lost::Replies).await;
}

async fn clients_share_a_server(lost: Lost) {
    let Ok(url) = std::env::var("PAYMAN_TEST_REDIS_URL") else {
        eprintln!("skipped: PAYMAN_TEST_REDIS_URL is not set; tests/redis/run sets it");
        return;
    };
    let _turn = TURN.lock().await;
    let size = Size::from_env();
    let server = Server::start(lost, size).await;
    // Keys are of this server's base URL, and so of this run: what Redis held before does not
    // matter.
    let holders = (0..size.holders).map(|_| {
        let (plan, store) = (server.plan.clone(), Arc::new(RedisTokenStore::new(&url).unwrap()));
        tokio::spawn(async move { hold(&plan, |_| Arc::<RedisTokenStore>::clone(&store)).await })
    });
    let holders: Vec<_> = holders.collect();
    server.misbehave().await;
    let mut reports = Vec::new();
    for holder in holders {
        reports.push(holder.await.unwrap());
    }
    server.check_reports(&reports);
}
