//! The fault matrix: everything that can go wrong between the SDK and the platform, byte by byte,
//! with a ledger that is audited at the end. Bounded here; `PAYMAN_FAULTS=full` runs every byte and
//! every status.

#![cfg(test)]

mod common;

/// The parts of this test program, in `tests/faults/`.
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

use faults::cases::Maker;
use faults::group::{Column, Group, Ran, Target, Way};
use faults::table::Table;
use futures::StreamExt;

/// The number of cases in progress at once.
const AT_ONCE: usize = 64;

fn full() -> bool {
    std::env::var("PAYMAN_FAULTS").is_ok_and(|value| value == "full")
}

/// Runs a group's cases, audits its ledger, and gives what is wrong.
async fn run(table: &mut Table, what: &str, target: Target, can_look_up: bool) -> Vec<String> {
    let group = Arc::new(Group::start(can_look_up).await);
    let reference = group.reference(target).await;
    // However a stream is read, it is set up in the same way.
    let reads_again = matches!(target, Target::Stream(Way::Reply | Way::Text));
    let stride = match (full(), reads_again && !can_look_up) {
        (false, _) => 61,
        (true, false) => 1,
        (true, true) => 5,
    };
    let maker = Maker {
        target,
        can_look_up,
        stride,
        every_status: full() && !reads_again,
        reference: &reference,
    };
    let cases = [maker.cuts(), maker.requests(), maker.timing(), maker.framing(), maker.statuses()]
        .concat();
    let ran: Vec<Ran> = futures::stream::iter(cases)
        .map(|case| {
            let group = Arc::clone(&group);
            async move { tokio::spawn(async move { group.run(case).await }).await.unwrap() }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut bad = Vec::new();
    for (ran, (column, wrong)) in ran.iter().zip(group.audit(&ran)) {
        table.add(&format!("{what}: {}", ran.row()), column);
        if column == Column::Bad {
            bad.push(format!("{wrong:?}: {}", ran.describe()));
        }
    }
    bad
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_has_no_bad_cell() {
    let started = std::time::Instant::now();
    let mut table = Table::default();
    let mut bad = Vec::new();
    let only = std::env::var("PAYMAN_FAULTS_ONLY").unwrap_or_default();
    for (what, target, can_look_up) in [
        ("ask", Target::Ask, true),
        ("ask, no lookups", Target::Ask, false),
        ("stream", Target::Stream(Way::Events), true),
        ("stream, no lookups", Target::Stream(Way::Events), false),
        ("stream into_reply", Target::Stream(Way::Reply), true),
        ("stream into_reply, no lookups", Target::Stream(Way::Reply), false),
        ("stream text", Target::Stream(Way::Text), true),
        ("stream text, no lookups", Target::Stream(Way::Text), false),
        ("token", Target::Token, true),
        ("task", Target::Task, true),
        ("lookup", Target::Lookup, true),
    ] {
        if !what.starts_with(&only) {
            continue;
        }
        let before = started.elapsed();
        bad.extend(run(&mut table, what, target, can_look_up).await);
        println!("{what}: {:.1?}", started.elapsed() - before);
    }
    table.print();
    println!("took {:.1?}", started.elapsed());
    for bad in bad.iter().take(40) {
        println!("BAD {bad}");
    }
    assert!(bad.is_empty(), "{} bad cells", bad.len());
}
