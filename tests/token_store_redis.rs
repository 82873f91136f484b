//! A token store shared through a Redis server. `tests/redis/run` starts one and runs this.
#![cfg(test)]
#![cfg(feature = "redis")]

mod common;

use std::sync::Arc;

use common::holders::lost::{Faults, Lost, Size, hold};
use common::holders::turn;
use payman_sdk::RedisTokenStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sign_in_is_lost_where_requests_are() {
    clients_share_a_server(Lost::Requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sign_in_is_kept_or_reported_where_replies_are_lost() {
    clients_share_a_server(Lost::Replies).await;
}

async fn clients_share_a_server(lost: Lost) {
    let Ok(url) = std::env::var("PAYMAN_TEST_REDIS_URL") else {
        eprintln!("skipped: PAYMAN_TEST_REDIS_URL is not set; tests/redis/run sets it");
        return;
    };
    let _turn = turn().await;
    let size = Size::from_env();
    let server = Faults::start(lost, size).await;
    // Keys are of this server's base URL, and so of this run: what Redis held before does not
    // matter.
    let holders = (0..size.holders).map(|_| {
        let (plan, store) = (server.plan.clone(), Arc::new(RedisTokenStore::new(&url).unwrap()));
        tokio::spawn(async move { hold(&plan, |_| Arc::<RedisTokenStore>::clone(&store)).await })
    });
    let holders: Vec<_> = holders.collect();
    server.inject().await;
    let mut reports = Vec::new();
    for holder in holders {
        reports.push(holder.await.unwrap());
    }
    server.check_reports(&reports);
}

/// Runs as the holder process that the scenarios start.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn holder_process() {
    common::holders::process::run_holder().await;
}

/// Each scenario starts a server of its own, which it stops and restarts.
#[cfg(unix)]
mod scenarios {
    use crate::common::holders::scenarios;
    use crate::common::holders::stores::SharedStore;

    async fn run(name: &str) {
        if std::env::var_os("PAYMAN_TEST_REDIS_URL").is_none() {
            eprintln!("{name}: left out, because tests/redis/run did not start this");
            return;
        }
        scenarios::run(name, SharedStore::redis()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kills() {
        run("kills").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stalls() {
        run("stalls").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clock_steps() {
        run("clock steps").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn outages() {
        run("outages").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sign_ins() {
        run("sign-ins").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sign_ins_during_outages() {
        run("sign-ins during outages").await;
    }
}
