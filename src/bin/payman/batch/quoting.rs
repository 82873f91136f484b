//! Finds quotes that do not fit in a CSV file.
//!
//! The CSV reader accepts them: it takes the rows after a quote that is never closed into one text,
//! and drops a quote within a quoted text. Either changes what is asked.

/// A position between two bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CsvPosition {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field: the end of the field, or the first of two quotes.
    AfterQuote,
    /// After the blank that follows a quoted field.
    AfterField,
}

/// Returns the line and the problem of the first quote that does not fit.
pub(super) fn misplaced_quote(text: &[u8]) -> Option<(u64, &'static str)> {
    use CsvPosition::{AfterField, AfterQuote, FieldStart, Quoted, Unquoted};
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let (mut line, mut opened) = (1, 1);
    let mut position = FieldStart;
    for byte in text {
        position = match (position, byte) {
            (Quoted, b'"') => AfterQuote,
            (Quoted, _) | (AfterQuote, b'"') => Quoted,
            (_, b',' | b'\r' | b'\n') => FieldStart,
            (AfterQuote | AfterField, b' ' | b'\t') => AfterField,
            (AfterQuote | AfterField, _) => {
                return Some((line, "text follows a closing quote; write a quote in it twice"));
            }
            (FieldStart, b'"') => {
                opened = line;
                Quoted
            }
            (FieldStart | Unquoted, _) => Unquoted,
        };
        line += u64::from(*byte == b'\n');
    }
    (position == Quoted).then_some((opened, "the quote that begins a field is never closed"))
}

#[cfg(test)]
mod tests {
    use super::misplaced_quote;

    #[test]
    fn quotes_that_do_not_fit_are_found_with_their_line() {
        for (name, text, line) in [
            ("no quotes", "a,b\nc,d\n", None),
            ("quoted fields", "\"a\",\"b, c\"\r\n\"d\ne\",f", None),
            ("two quotes", "a,\"say \"\"hi\"\"\"\n", None),
            ("an empty field", "\"\",\"\"\n", None),
            ("a quote in a field without quotes", "a,5\" pipe\n", None),
            ("a blank after the field", "\"a\" ,b\n", None),
            ("a byte-order mark", "\u{feff}\"a\",b\n", None),
            ("never closed", "a,b\nc,\"d\ne,f\n", Some(2)),
            ("never closed, at the end", "a,\"", Some(1)),
            ("one quote within quotes", "a,b\n\"c\nd \"e\" f\",g\n", Some(3)),
            ("text after the field", "\"a\" b,c\n", Some(1)),
            ("a second quoted text", "\"a\" \"b\",c\n", Some(1)),
        ] {
            assert_eq!(misplaced_quote(text.as_bytes()).map(|(line, _)| line), line, "{name}");
        }
    }
}
