//! Compares this crate with the simplest code that does the same (the baseline), in one process.
//!
//! ```text
//! cargo bench --bench compare                      all rows
//! cargo bench --bench compare -- decode/2KiB ask   rows whose name contains an argument
//! cargo bench --bench compare -- --store decode    also writes benches/ratios.txt
//! ```
//!
//! Prints a line `RATIO <row> <median ours/baseline> <min> <max> <goal>` for each row, then a
//! table, and plots the rows `decode/…` in `target/compare-decode.svg`. Reports rows whose ratio is
//! more than a fifth above the stored one. Nothing fails: machines differ.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a benchmark that cannot run ends with a panic"
)]

mod ask;
mod baseline;
mod decode;
#[expect(dead_code, reason = "shared with the benchmark `decode`, which uses the rest")]
mod events;
mod herd;
mod journal;
mod memory;
mod minimal_server;
mod plot;
mod row;
mod server;
mod stored;
mod streams;
mod token;

use row::{Outcome, Row};

/// `--bench` is passed by cargo.
const FLAGS: [&str; 2] = ["--bench", "--store"];

fn main() {
    if server::serve_as_child() {
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

    let rows: Vec<Row> = [
        decode::rows(),
        ask::rows(),
        streams::rows(),
        herd::rows(),
        token::rows(),
        journal::rows(),
    ]
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
