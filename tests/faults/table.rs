//! Prints the number of cases by fault and outcome.

use std::collections::BTreeMap;

use super::group::Column;

#[derive(Default)]
pub struct Table {
    rows: Vec<(String, BTreeMap<Column, usize>)>,
}

const COLUMNS: [(Column, &str); 6] = [
    (Column::Complete, "complete"),
    (Column::LookedUp, "found"),
    (Column::Retried, "retried"),
    (Column::NotDone, "not done"),
    (Column::Unknown, "unknown"),
    (Column::Wrong, "WRONG"),
];

impl Table {
    pub fn add(&mut self, row: &str, column: Column) {
        let at = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), BTreeMap::new()));
            self.rows.len() - 1
        });
        *self.rows[at].1.entry(column).or_default() += 1;
    }

    pub fn print(&self) {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(5);
        let line = |name: &str, counts: &dyn Fn(Column) -> usize| {
            print!("{name:width$}");
            let mut total = 0;
            for (column, _) in COLUMNS {
                total += counts(column);
                print!(" {:>8}", counts(column));
            }
            println!(" {total:>8}");
        };
        print!("{:width$}", "fault");
        for (_, name) in COLUMNS {
            print!(" {name:>8}");
        }
        println!(" {:>8}", "cases");
        for (name, counts) in &self.rows {
            line(name, &|column| counts.get(&column).copied().unwrap_or(0));
        }
        line("total", &|column| {
            self.rows.iter().filter_map(|(_, counts)| counts.get(&column)).sum()
        });
        println!(
            "complete: the reply arrived despite the fault; found: a lookup found the task;\n\
             retried: the request was safe to repeat; not done: an error that proves that the ask \
             was not done;\n\
             unknown: an error, and the ask may have been done"
        );
    }
}
