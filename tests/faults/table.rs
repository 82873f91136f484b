//! The matrix as a table: fault × outcome × count.

use std::collections::BTreeMap;

use super::group::Column;

#[derive(Default)]
pub struct Table {
    rows: Vec<(String, BTreeMap<Column, usize>)>,
}

const COLUMNS: [(Column, &str); 6] = [
    (Column::Whole, "whole"),
    (Column::Found, "found"),
    (Column::Again, "again"),
    (Column::Refused, "refused"),
    (Column::Unknown, "unknown"),
    (Column::Bad, "BAD"),
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
            "whole: the reply came as if nothing had happened; found: by looking the task up; again: the request was one \
             that may be made again;\n\
             refused: an error, surely not done; unknown: an error, it may have been done"
        );
    }
}
