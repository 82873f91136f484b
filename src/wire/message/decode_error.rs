//! The error of a message that cannot be decoded.

/// The reason that a message could not be decoded. Names the position but never quotes the text,
/// which is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it is not valid UTF-8")]
    Utf8,
    #[error("it is not JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("it holds NaN or Infinity, which JSON does not have (line {line}, column {column})")]
    NotFinite { line: usize, column: usize },
    #[error("its JSON is nested deeper than 128 levels (line {line}, column {column})")]
    TooDeep { line: usize, column: usize },
    #[error("its JSON does not have the shape that it claims (line {line}, column {column})")]
    Shape { line: usize, column: usize },
}

impl DecodeError {
    pub(super) fn new(text: &str, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        if error.is_data() {
            return Self::Shape { line, column };
        }
        // serde_json offers no other way to recognize this error.
        if error.to_string().starts_with("recursion limit exceeded") {
            return Self::TooDeep { line, column };
        }
        if is_not_finite(text, line, column) {
            return Self::NotFinite { line, column };
        }
        Self::NotJson { line, column }
    }
}

/// Returns true where the text has `NaN` or `Infinity` at the position of the error.
fn is_not_finite(text: &str, line: usize, column: usize) -> bool {
    let Some(line) = text.split('\n').nth(line.saturating_sub(1)) else { return false };
    let start = column.saturating_sub(2);
    let around = line.as_bytes().get(start..).unwrap_or_default();
    let around = around.get(..around.len().min(16)).unwrap_or_default();
    ["NaN", "Infinity"].iter().any(|name| memchr::memmem::find(around, name.as_bytes()).is_some())
}
