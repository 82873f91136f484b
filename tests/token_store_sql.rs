//! A token store shared through a database: SQLite, and PostgreSQL where `tests/postgres/run`
//! started one.
#![cfg(test)]
#![cfg(all(feature = "sqlite", feature = "postgres"))]

mod common;

use std::sync::Arc;

use common::holders::lost::{Faults, Lost, Size, hold};
use common::holders::turn;
use payman_sdk::SqlTokenStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sign_in_is_lost_where_requests_are_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("tokens.db").display());
    clients_share_a_database(Lost::Requests, &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sign_in_is_kept_or_reported_where_replies_are_lost_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("tokens.db").display());
    clients_share_a_database(Lost::Replies, &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sign_in_is_lost_where_requests_are_on_postgres() {
    if let Some(url) = postgres_url() {
        clients_share_a_database(Lost::Requests, &url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sign_in_is_kept_or_reported_where_replies_are_lost_on_postgres() {
    if let Some(url) = postgres_url() {
        clients_share_a_database(Lost::Replies, &url).await;
    }
}

fn postgres_url() -> Option<String> {
    let url = std::env::var("DATABASE_URL").ok().filter(|url| url.starts_with("postgres"));
    if url.is_none() {
        eprintln!("left out: DATABASE_URL is not set; tests/postgres/run sets it");
    }
    url
}

/// Runs clients of one database. Each has a pool of its own, as a process would.
async fn clients_share_a_database(lost: Lost, url: &str) {
    let _turn = turn().await;
    let size = Size::from_env();
    let server = Faults::start(lost, size).await;
    let mut holders = Vec::new();
    for _ in 0..size.holders {
        let store = Arc::new(SqlTokenStore::connect(url).await.unwrap());
        let plan = server.plan.clone();
        holders.push(tokio::spawn(async move {
            hold(&plan, |_| Arc::<SqlTokenStore>::clone(&store)).await
        }));
    }
    server.inject().await;
    let mut reports = Vec::new();
    for holder in holders {
        reports.push(holder.await.unwrap());
    }
    server.check_reports(&reports);
}
