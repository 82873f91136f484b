//! Reads and checks a file of asks: the whole file, before anything is sent.

use std::collections::BTreeMap;
use std::io::Read;

use payman_sdk::Ask;

use super::template::Template;

/// One ask of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchRow {
    pub(super) line: u64,
    pub(super) key: String,
    pub(super) text: String,
}

impl BatchRow {
    pub(super) fn to_ask(&self) -> Ask {
        // Each row has its own session, so that no row is read in the context of another.
        Ask::new(&self.text).new_session().idempotency_key(&self.key)
    }
}

/// A problem of the file that has to be corrected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowProblem {
    /// The number of the line; 0 for the file as a whole.
    pub(super) line: u64,
    pub(super) message: String,
}

impl RowProblem {
    fn new(line: u64, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

const KEY_COLUMN: &str = "idempotency_key";
const TEXT_COLUMN: &str = "text";
/// The longest key that a journal takes, in bytes.
const MAX_KEY: usize = 255;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads the rows, or all problems that the file has.
pub(super) fn read(
    from: impl Read,
    template: Option<&Template>,
) -> Result<Vec<BatchRow>, Vec<RowProblem>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(vec![of_csv(&error)]),
    };
    let columns = Columns::find(&header, template)?;
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let problem = of_csv(&error);
                let is_last = !matches!(error.kind(), csv::ErrorKind::UnequalLengths { .. });
                problems.push(problem);
                if is_last {
                    break;
                }
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        match columns.row(&record, line, template) {
            Ok(row) => {
                if let Some(first) = seen.insert(row.key.clone(), line) {
                    let message = format!("the key {:?} is that of line {first} too", row.key);
                    problems.push(RowProblem::new(line, message));
                }
                rows.push(row);
            }
            Err(message) => {
                problems.extend(message.into_iter().map(|message| RowProblem::new(line, message)))
            }
        }
    }
    if problems.is_empty() && rows.is_empty() {
        problems.push(RowProblem::new(0, "the file has no rows"));
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

/// The positions of the columns that are used.
struct Columns {
    key: usize,
    text: usize,
    named: BTreeMap<String, usize>,
}

impl Columns {
    fn find(
        header: &csv::StringRecord,
        template: Option<&Template>,
    ) -> Result<Self, Vec<RowProblem>> {
        let mut named = BTreeMap::new();
        let mut problems = Vec::new();
        for (place, name) in header.iter().enumerate() {
            let name = name.trim_start_matches(BYTE_ORDER_MARK).trim().to_lowercase();
            if named.insert(name.clone(), place).is_some() {
                problems.push(RowProblem::new(1, format!("there are two columns named {name:?}")));
            }
        }
        let mut require = |name: &str, why: &str| {
            named.get(name).copied().unwrap_or_else(|| {
                problems
                    .push(RowProblem::new(1, format!("there is no column named {name:?}{why}")));
                0
            })
        };
        let key = require(KEY_COLUMN, "");
        let text = match template {
            None => require(TEXT_COLUMN, "; --template makes the text of other columns"),
            Some(template) => {
                for name in template.names() {
                    require(name, ", which the template uses");
                }
                0
            }
        };
        if problems.is_empty() { Ok(Self { key, text, named }) } else { Err(problems) }
    }

    fn row(
        &self,
        record: &csv::StringRecord,
        line: u64,
        template: Option<&Template>,
    ) -> Result<BatchRow, Vec<String>> {
        let field = |place: usize| record.get(place).unwrap_or_default();
        let mut problems = Vec::new();
        let key = field(self.key);
        if key.is_empty() {
            problems.push(format!("the field {KEY_COLUMN:?} is empty"));
        } else if key.len() > MAX_KEY || key.chars().any(char::is_control) {
            problems.push(format!(
                "the key is longer than {MAX_KEY} bytes, or has a control character"
            ));
        }
        let text = match template {
            None => {
                let text = field(self.text);
                if text.is_empty() {
                    problems.push(format!("the field {TEXT_COLUMN:?} is empty"));
                }
                text.to_owned()
            }
            Some(template) => template.fill(|name| {
                let value = self.named.get(name).map(|place| field(*place)).unwrap_or_default();
                if value.is_empty() {
                    problems.push(format!("the field {name:?} is empty"));
                } else if value.chars().any(char::is_control) {
                    problems.push(format!("the field {name:?} has a control character"));
                }
                value
            }),
        };
        if problems.is_empty() {
            return Ok(BatchRow { line, key: key.to_owned(), text });
        }
        problems.dedup();
        Err(problems)
    }
}

fn of_csv(error: &csv::Error) -> RowProblem {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            RowProblem::new(line, format!("there are {len} fields, and {expected_len} columns"))
        }
        csv::ErrorKind::Utf8 { .. } => RowProblem::new(line, "the text is not UTF-8"),
        csv::ErrorKind::Io(error) => {
            RowProblem::new(0, format!("the file could not be read: {error}"))
        }
        _ => RowProblem::new(line, "this is not CSV"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, template: Option<&str>) -> Vec<(u64, String)> {
        let template = template.map(|text| text.parse().unwrap());
        let problems = read(text.as_bytes(), template.as_ref()).unwrap_err();
        problems.into_iter().map(|problem| (problem.line, problem.message)).collect()
    }

    #[test]
    fn rows_are_read_with_their_lines() {
        let text = "\u{feff}text,idempotency_key\n\"Pay Tyllen\n$5\",a\n Pay Ann $6 , b \n";
        let rows = read(text.as_bytes(), None).unwrap();
        let row = |line, key: &str, text: &str| BatchRow {
            line,
            key: key.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(rows, [row(2, "a", "Pay Tyllen\n$5"), row(4, "b", "Pay Ann $6")]);
        let template = "Pay {payee} {amount} {currency}".parse().unwrap();
        let text = "idempotency_key,payee,amount,currency,note\na,Tyllen,5,USD,\n";
        let rows = read(text.as_bytes(), Some(&template)).unwrap();
        assert_eq!(rows, [row(2, "a", "Pay Tyllen 5 USD")]);
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text = "idempotency_key,text\na,x\n,y\na,z\nb,\nc,1,2\n";
        let found = problems(text, None);
        let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 5, 6], "{found:?}");
        assert!(found[1].1.contains("line 2"), "{found:?}");
        assert_eq!(problems("key,text\na,x\n", None)[0].0, 1);
        let template = Some("Pay {payee} {amount}");
        assert_eq!(problems("idempotency_key,payee\na,Ann\n", template)[0].0, 1);
        let empty = problems("idempotency_key,payee,amount\na,Ann,\n", template);
        assert_eq!(empty, [(2, "the field \"amount\" is empty".to_owned())]);
        assert_eq!(problems("idempotency_key,text\n", None)[0].0, 0);
        assert!(!problems("", None).is_empty());
    }
}
