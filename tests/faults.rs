//! The fault matrix: faults at many byte positions between the SDK and the emulator. The emulator's
//! ledger is audited at the end. `PAYMAN_FAULTS=full` runs every byte position and every status.

#![cfg(test)]

mod common;

/// The modules of this test program, in `tests/faults/`.
mod faults {
    pub mod cases;
    mod edges;
    pub mod group;
    mod h2;
    mod lookups;
    mod pool;
    pub mod table;
}

use std::sync::Arc;

use faults::cases::CaseGenerator;
use faults::group::{CaseGroup, CaseResult, Column, StreamReader, Target};
use faults::table::Table;
use futures::StreamExt;

/// The number of concurrent cases.
const CONCURRENCY: usize = 64;

fn is_full() -> bool {
    std::env::var("PAYMAN_FAULTS").is_ok_and(|value| value == "full")
}

/// Runs the cases of a group, audits its ledger, and returns a description of each wrong case.
async fn run_group(
    table: &mut Table,
    what: &str,
    target: Target,
    can_look_up: bool,
) -> Vec<String> {
    let group = Arc::new(CaseGroup::start(can_look_up).await);
    let reference = group.reference(target).await;
    // Setup does not depend on how the stream is read, so other readers need fewer cases.
    let is_repeated_reader =
        matches!(target, Target::Stream(StreamReader::Reply | StreamReader::Text));
    let stride = match (is_full(), is_repeated_reader && !can_look_up) {
        (false, _) => 61,
        (true, false) => 1,
        (true, true) => 5,
    };
    let generator = CaseGenerator {
        target,
        can_look_up,
        stride,
        every_status: is_full() && !is_repeated_reader,
        reference: &reference,
    };
    let cases = [
        generator.cuts(),
        generator.requests(),
        generator.timing(),
        generator.framing(),
        generator.statuses(),
    ]
    .concat();
    let results: Vec<CaseResult> = futures::stream::iter(cases)
        .map(|case| {
            let group = Arc::clone(&group);
            async move { tokio::spawn(async move { group.run(case).await }).await.unwrap() }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let mut wrong_cases = Vec::new();
    for (result, (column, violations)) in results.iter().zip(group.audit(&results)) {
        table.add(&format!("{what}: {}", result.row()), column);
        if column == Column::Wrong {
            wrong_cases.push(format!("{violations:?}: {}", result.describe()));
        }
    }
    wrong_cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_expected_outcome() {
    let started = std::time::Instant::now();
    let mut table = Table::default();
    let mut wrong_cases = Vec::new();
    let only = std::env::var("PAYMAN_FAULTS_ONLY").unwrap_or_default();
    for (what, target, can_look_up) in [
        ("ask", Target::Ask, true),
        ("ask, no lookups", Target::Ask, false),
        ("stream", Target::Stream(StreamReader::Events), true),
        ("stream, no lookups", Target::Stream(StreamReader::Events), false),
        ("stream into_reply", Target::Stream(StreamReader::Reply), true),
        ("stream into_reply, no lookups", Target::Stream(StreamReader::Reply), false),
        ("stream text", Target::Stream(StreamReader::Text), true),
        ("stream text, no lookups", Target::Stream(StreamReader::Text), false),
        ("token", Target::Token, true),
        ("task", Target::Task, true),
        ("lookup", Target::Lookup, true),
    ] {
        if !what.starts_with(&only) {
            continue;
        }
        let before = started.elapsed();
        wrong_cases.extend(run_group(&mut table, what, target, can_look_up).await);
        println!("{what}: {:.1?}", started.elapsed() - before);
    }
    table.print();
    println!("took {:.1?}", started.elapsed());
    for case in wrong_cases.iter().take(40) {
        println!("WRONG {case}");
    }
    assert!(wrong_cases.is_empty(), "{} wrong cases", wrong_cases.len());
}
