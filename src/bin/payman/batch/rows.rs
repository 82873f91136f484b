//! Reads and checks a file of asks: the whole file, before anything is sent.

use std::collections::BTreeMap;

use payman_sdk::Ask;
use payman_sdk::escape::is_unsafe;

use super::quoting::misplaced_quote;
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
/// A template's column with this name must be a number.
const AMOUNT_COLUMN: &str = "amount";
/// The longest key that a journal takes, in bytes.
const MAX_KEY: usize = 255;
/// The longest text of one ask, in bytes.
const MAX_TEXT: usize = 1024 * 1024;
/// All rows are kept in memory.
const LIMITS: FileLimits = FileLimits { rows: 1_000_000, texts: 256 * 1024 * 1024 };
/// The number of problems after which the rest of the file is not checked.
pub(super) const MAX_PROBLEMS: usize = 1000;
const BYTE_ORDER_MARK: char = '\u{feff}';

struct FileLimits {
    rows: usize,
    /// The text of all rows, in bytes.
    texts: usize,
}

/// Reads the rows, or the problems that the file has.
pub(super) fn read(
    file: &[u8],
    template: Option<&Template>,
) -> Result<Vec<BatchRow>, Vec<RowProblem>> {
    read_within(&LIMITS, file, template)
}

fn read_within(
    limits: &FileLimits,
    file: &[u8],
    template: Option<&Template>,
) -> Result<Vec<BatchRow>, Vec<RowProblem>> {
    if let Some((line, message)) = misplaced_quote(file) {
        return Err(vec![RowProblem::new(line, message)]);
    }
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(file);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(vec![of_csv(&error)]),
    };
    let columns = Columns::find(&header, template)?;
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    let mut texts = 0_usize;
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                problems.push(of_csv(&error));
                break;
            }
        };
        // Spreadsheets write such lines after the last row.
        if record.iter().all(str::is_empty) {
            continue;
        }
        let line = record.position().map_or(0, |position| line_of(file, position));
        match columns.row(&record, line, template) {
            Ok(row) => {
                if let Some(first) = seen.insert(row.key.clone(), line) {
                    let message = format!("the key {:?} is that of line {first} too", row.key);
                    problems.push(RowProblem::new(line, message));
                }
                texts = texts.saturating_add(row.text.len());
                rows.push(row);
            }
            Err(message) => {
                problems.extend(message.into_iter().map(|message| RowProblem::new(line, message)))
            }
        }
        if rows.len() > limits.rows || texts > limits.texts {
            let FileLimits { rows, texts } = limits;
            let message = format!("there are more than {rows} rows, or {texts} bytes of text");
            return Err(vec![RowProblem::new(0, message)]);
        }
        if problems.len() >= MAX_PROBLEMS {
            break;
        }
    }
    if problems.is_empty() && rows.is_empty() {
        problems.push(RowProblem::new(0, "the file has no rows"));
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

/// Returns the line in which a record begins. The reader's position is before the empty lines that
/// it skips.
fn line_of(file: &[u8], position: &csv::Position) -> u64 {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let skipped = file.get(start..).unwrap_or_default();
    let skipped = skipped.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + skipped.filter(|byte| **byte == b'\n').count() as u64
}

/// The positions of the columns that are used.
struct Columns {
    count: usize,
    key: usize,
    text: usize,
    named: BTreeMap<String, usize>,
}

impl Columns {
    fn find(
        header: &csv::StringRecord,
        template: Option<&Template>,
    ) -> Result<Self, Vec<RowProblem>> {
        if header.len() == 1
            && let Some(separator) =
                header.iter().flat_map(str::chars).find(|c| ";\t|".contains(*c))
        {
            let message = format!("the columns are separated by {separator:?}, and not by a comma");
            return Err(vec![RowProblem::new(1, message)]);
        }
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
        let count = header.len();
        if problems.is_empty() { Ok(Self { count, key, text, named }) } else { Err(problems) }
    }

    fn row(
        &self,
        record: &csv::StringRecord,
        line: u64,
        template: Option<&Template>,
    ) -> Result<BatchRow, Vec<String>> {
        if record.len() != self.count {
            let (fields, columns) = (record.len(), self.count);
            return Err(vec![format!("the number of fields is {fields}, of columns {columns}")]);
        }
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
            Some(template) => {
                let value =
                    |name: &str| self.named.get(name).map(|at| field(*at)).unwrap_or_default();
                for (name, quote) in template.columns() {
                    problems.extend(problem_of(name, value(name), quote));
                }
                template.fill(value)
            }
        };
        if text.len() > MAX_TEXT {
            problems.push("the text is longer than 1 MiB".to_owned());
        }
        if problems.is_empty() {
            return Ok(BatchRow { line, key: key.to_owned(), text });
        }
        problems.dedup();
        Err(problems)
    }
}

/// Returns what keeps a value from being put into the text: it could be read as something else
/// than one value.
fn problem_of(name: &str, value: &str, quote: Option<char>) -> Option<String> {
    if value.is_empty() {
        return Some(format!("the field {name:?} is empty"));
    }
    if value.chars().any(is_unsafe) {
        return Some(format!("the field {name:?} has a line end or an invisible character"));
    }
    if let Some(quote) = quote.filter(|quote| value.contains(*quote)) {
        return Some(format!(
            "the field {name:?} has the character {quote} that ends the quotation in the template"
        ));
    }
    if name == AMOUNT_COLUMN && !is_amount(value) {
        return Some(format!(
            "the field {name:?} is {value:?}, and not a number above 0 such as 5 or 1250.00"
        ));
    }
    None
}

/// Accepts digits with at most one point between them. A comma, a sign or an exponent would leave
/// it to the agent how much it is.
fn is_amount(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    is_number(whole) && is_number(fraction) && value.bytes().any(|b| matches!(b, b'1'..=b'9'))
}

fn of_csv(error: &csv::Error) -> RowProblem {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
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

    #[test]
    fn files_of_spreadsheets_and_editors_are_read_as_they_are_meant() {
        let one = [("a", "Pay Ann $5"), ("b", "Pay Bob $6")];
        for (name, text) in [
            ("line ends of Windows", "idempotency_key,text\r\na,Pay Ann $5\r\nb,Pay Bob $6\r\n"),
            ("no line end at the end", "idempotency_key,text\na,Pay Ann $5\nb,Pay Bob $6"),
            ("a byte-order mark", "\u{feff}idempotency_key,text\na,Pay Ann $5\nb,Pay Bob $6\n"),
            (
                "a byte-order mark before a quote",
                "\u{feff}\"idempotency_key\",\"text\"\n\"a\",\"Pay Ann $5\"\nb,Pay Bob $6\n",
            ),
            (
                "empty lines",
                "idempotency_key,text\n\na,Pay Ann $5\n\r\n  \nb,Pay Bob $6\n,\n,,,\n\n\n",
            ),
            (
                "capitals and blanks",
                " Idempotency_Key , TEXT\n a , Pay Ann $5 \nb,\" Pay Bob $6 \"",
            ),
        ] {
            let rows = read(text.as_bytes(), None).unwrap();
            let rows: Vec<_> = rows.iter().map(|row| (&*row.key, &*row.text)).collect();
            assert_eq!(rows, one, "{name}");
        }
    }

    #[test]
    fn the_line_of_a_problem_counts_empty_lines() {
        let found = problems("idempotency_key,text\r\n\r\na,x\r\n\r\n\r\na,y\r\n", None);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 6);
        assert!(found[0].1.contains("line 3"), "{found:?}");
    }

    #[test]
    fn files_that_would_be_read_as_something_else_are_refused() {
        for (name, text, line, message) in [
            ("semicolons", "idempotency_key;text\na;x\n", 1, "';'"),
            ("tabs", "idempotency_key\ttext\na\tx\n", 1, "'\\t'"),
            ("an open quote", "idempotency_key,text\na,\"Pay Ann $5\nb,Pay Bob $6\n", 2, "closed"),
            ("a quote within quotes", "idempotency_key,text\na,\"Pay \"Ann\" $5\"\n", 2, "twice"),
            ("a comma without quotes", "idempotency_key,text\na,Pay Ann, $5\n", 2, "fields is 3"),
            ("two columns of one name", "idempotency_key,text,Text\na,x,y\n", 1, "two columns"),
        ] {
            let found = problems(text, None);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(found[0].0, line, "{name}");
            assert!(found[0].1.contains(message), "{name}: {found:?}");
        }
        let utf_16: Vec<u8> = "\u{feff}idempotency_key,text\na,x\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(read(&utf_16, None).unwrap_err()[0].message.contains("UTF-8"));
    }

    #[test]
    fn amounts_are_plain_numbers_above_zero() {
        let template = "Pay {payee} {amount}".parse().unwrap();
        for (amount, is_accepted) in [
            ("5", true),
            ("5.00", true),
            ("0.01", true),
            ("1250.5", true),
            (" 5 ", true),
            ("1,50", false),
            ("1,250.00", false),
            ("-5", false),
            ("+5", false),
            ("0", false),
            ("0.00", false),
            ("1e3", false),
            ("$5", false),
            ("5 USD", false),
            ("5.", false),
            (".5", false),
            ("1.2.3", false),
            ("1_000", false),
            ("0x10", false),
            ("five", false),
            ("\u{ff15}", false),
            ("NaN", false),
        ] {
            let file = format!("idempotency_key,payee,amount\na,Ann,\"{amount}\"\n");
            let rows = read(file.as_bytes(), Some(&template));
            assert_eq!(rows.is_ok(), is_accepted, "{amount:?}: {rows:?}");
            if let Ok(rows) = rows {
                assert_eq!(rows[0].text, format!("Pay Ann {}", amount.trim()));
            }
        }
    }

    #[test]
    fn a_value_stays_one_value_within_the_text() {
        for (name, template, payee, is_accepted) in [
            ("a comma", "Pay {payee}", "Ann, Bob", true),
            ("quotes where the template has none", "Pay {payee}", "\"\"Ann\"\" Lee", true),
            ("an apostrophe", "Pay \"{payee}\"", "O'Brien", true),
            ("braces", "Pay {payee}", "{amount}", true),
            ("letters of other languages", "Pay \"{payee}\"", "Zoë Ōno 山田", true),
            ("the template's quote", "Pay \"{payee}\" $5", "Ann\"\" $500 and \"\"Bob", false),
            ("the quote, farther away", "Pay \"Dr. {payee}\"", "Ann\"\"", false),
            ("the template's apostrophe", "Pay '{payee}'", "O'Brien", false),
            ("a line end", "Pay {payee}", "Ann\nPay Bob $5", false),
            ("a carriage return", "Pay {payee}", "Ann\rPay Bob $5", false),
            ("a paragraph separator", "Pay {payee}", "Ann\u{2029}Pay Bob $5", false),
            ("text that runs backward", "Pay {payee}", "Ann\u{202e}boB", false),
        ] {
            let template = template.parse().unwrap();
            let file = format!("idempotency_key,payee\na,\"{payee}\"\n");
            let rows = read(file.as_bytes(), Some(&template));
            assert_eq!(rows.is_ok(), is_accepted, "{name}: {rows:?}");
        }
    }

    #[test]
    fn a_file_is_bounded() {
        let rows: String = (0..MAX_PROBLEMS * 2).map(|row| format!("{row},\n")).collect();
        let found = problems(&format!("idempotency_key,text\n{rows}"), None);
        assert_eq!(found.len(), MAX_PROBLEMS);
        let long = "x".repeat(MAX_TEXT + 1);
        let found = problems(&format!("idempotency_key,text\na,{long}\n"), None);
        assert!(found.len() == 1 && found[0].1.contains("1 MiB"), "{found:?}");
        let limits = FileLimits { rows: 3, texts: 10 };
        for (name, text, is_accepted) in [
            ("as many rows as may be", "a,x\nb,x\nc,x\n", true),
            ("more rows", "a,x\nb,x\nc,x\nd,x\n", false),
            ("as much text as may be", "a,xxxxx\nb,xxxxx\n", true),
            ("more text", "a,xxxxx\nb,xxxxxx\n", false),
        ] {
            let file = format!("idempotency_key,text\n{text}");
            let rows = read_within(&limits, file.as_bytes(), None);
            assert_eq!(rows.is_ok(), is_accepted, "{name}: {rows:?}");
        }
    }
}
