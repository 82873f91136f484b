//! A token store shared by processes: each holder of the sign-ins is a process of its own.
#![cfg(test)]

mod common;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::holders::lost::{Faults, HolderPlan, Lost, LostReport, Size, hold};
use common::holders::{directory, turn};
use payman_sdk::FileTokenStore;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

const PLAN: &str = "PAYMAN_TEST_HOLDER_PLAN";
const MARK: &str = "report of a holder: ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sign_in_is_lost_where_requests_are() {
    processes_share_a_file(Lost::Requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sign_in_is_kept_or_reported_where_replies_are_lost() {
    processes_share_a_file(Lost::Replies).await;
}

#[cfg(unix)]
mod scenarios {
    use crate::common::holders::scenarios;
    use crate::common::holders::stores::SharedStore;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kills() {
        scenarios::run("kills", async { SharedStore::file() }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stalls() {
        scenarios::run("stalls", async { SharedStore::file() }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clock_steps() {
        scenarios::run("clock steps", async { SharedStore::file() }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn outages() {
        scenarios::run("outages", async { SharedStore::file() }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sign_ins() {
        scenarios::run("sign-ins", async { SharedStore::file() }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sign_ins_during_outages() {
        scenarios::run("sign-ins during outages", async { SharedStore::file() }).await;
    }
}

async fn processes_share_a_file(lost: Lost) {
    let _turn = turn().await;
    let size = Size::from_env();
    let server = Faults::start(lost, size).await;
    let directory = directory();
    let plan =
        serde_json::json!({"path": directory.path().join("tokens.json"), "plan": server.plan})
            .to_string();
    let processes: Vec<_> =
        futures::future::join_all((0..size.holders).map(|_| start(&plan))).await;
    server.inject().await;
    let limit = Duration::from_secs(60);
    let reports = tokio::time::timeout(
        limit,
        futures::future::join_all(processes.into_iter().map(report_of)),
    )
    .await;
    server.check_reports(&reports.expect("a holder does not come to its end"));
}

async fn start(plan: &str) -> Child {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder_process", "--nocapture"])
        .env(PLAN, "stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Through the pipe, because tokens belong in no environment and no command line.
    process.stdin.take().unwrap().write_all(plan.as_bytes()).await.unwrap();
    process
}

async fn report_of(process: Child) -> LostReport {
    let output = process.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let report = text
        .lines()
        .find_map(|line| line.split_once(MARK))
        .unwrap_or_else(|| panic!("no report: {text}"));
    serde_json::from_str(report.1).unwrap()
}

/// Runs as the holder process that the tests start. Does nothing without a plan.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn holder_process() {
    #[cfg(unix)]
    common::holders::process::run_holder().await;
    if std::env::var_os(PLAN).is_none() {
        return;
    }
    #[derive(serde::Deserialize)]
    struct Given {
        path: std::path::PathBuf,
        plan: HolderPlan,
    }
    let given: Given = serde_json::from_reader(std::io::stdin()).unwrap();
    let store = Arc::new(FileTokenStore::new(given.path));
    let report = hold(&given.plan, |_| Arc::<FileTokenStore>::clone(&store)).await;
    println!("{MARK}{}", serde_json::to_string(&report).unwrap());
}
