//! The ratios in the repository, and the rows that became slower since.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use super::row::Outcome;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/ratios.txt");
/// A ratio of more than this times the stored one is reported.
const TOLERATED: f64 = 1.2;

fn stored() -> BTreeMap<String, f64> {
    let text = fs::read_to_string(PATH).unwrap_or_default();
    let line = |line: &str| {
        let (name, ratio) = line.split_once(' ')?;
        Some((name.to_owned(), ratio.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Reports the rows that are slower than stored.
pub fn compare(outcomes: &[Outcome]) {
    let stored = stored();
    for outcome in outcomes {
        let Some(before) =
            stored.get(&outcome.name).filter(|before| outcome.median > *before * TOLERATED)
        else {
            continue;
        };
        println!(
            "\n!!! SLOWER: {} is at {:.3}, stored is {before:.3} (more than a fifth)",
            outcome.name, outcome.median
        );
    }
}

/// Stores the results. Rows that were not run keep their stored ratio.
pub fn store(outcomes: &[Outcome]) {
    let mut ratios = stored();
    ratios.extend(outcomes.iter().map(|outcome| (outcome.name.clone(), outcome.median)));
    let text = ratios.iter().fold(String::new(), |mut text, (name, ratio)| {
        let _ = writeln!(text, "{name} {ratio:.3}");
        text
    });
    fs::write(PATH, text).expect("benches/ratios.txt can be written");
}
