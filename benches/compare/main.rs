//! Ours against the plainest way to do the same, both in this process, taking turns.
//!
//! ```text
//! cargo bench --bench compare                      every row
//! cargo bench --bench compare -- decode/2KiB ask   the rows whose name holds one of these
//! cargo bench --bench compare -- --store decode    the same, kept in benches/ratios.txt
//! ```
//!
//! For each row a line `RATIO <row> <median ours/other> <min> <max> <goal>`, at the end a table, and for the
//! rows `decode/…` a plot, `target/compare-decode.svg`. A row that is slower by more than a fifth than its
//! stored ratio is said so, loudly; nothing fails.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a benchmark that cannot run ends with a panic"
)]

mod ask;
mod by_hand;
mod decode;
#[expect(dead_code, reason = "shared with the benchmark `decode`, which uses the rest")]
mod events;
mod herd;
mod memory;
mod plain;
mod plot;
mod row;
mod server;
mod stored;
mod streams;
mod token;

use row::{Outcome, Row};

/// The first is cargo's.
const FLAGS: [&str; 2] = ["--bench", "--store"];

fn main() {
    if server::is_child() {
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let store = arguments.iter().any(|argument| argument == "--store");
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = arguments
        .iter()
        .find(|argument| argument.starts_with("--") && !FLAGS.contains(&argument.as_str()))
    {
        eprintln!("no such flag: {unknown}; there is --store");
        std::process::exit(2);
    }
    let wanted = |row: &Row| {
        filters.is_empty() || filters.iter().any(|filter| row.name.contains(filter.as_str()))
    };

    let rows: Vec<Row> =
        [decode::rows(), ask::rows(), streams::rows(), herd::rows(), token::rows()]
            .into_iter()
            .flatten()
            .filter(wanted)
            .collect();
    let outcomes: Vec<Outcome> = rows.into_iter().map(Row::run).collect();

    row::print_table(&outcomes);
    plot::draw(&outcomes);
    stored::compare(&outcomes);
    if store {
        stored::store(&outcomes);
    }
}
