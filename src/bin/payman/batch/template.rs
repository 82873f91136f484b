//! A text with the names of columns in braces.

use std::str::FromStr;

/// A parsed template, such as `Pay {payee} {amount} {currency}`; `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `quote`: what ends the quotation that the column is in.
    Column {
        name: String,
        quote: Option<char>,
    },
}

impl Template {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns().map(|(name, _)| name)
    }

    /// Returns the columns, each with the character that would end the quotation it is in.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, Option<char>)> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Column { name, quote } => Some((name.as_str(), *quote)),
            Piece::Text(_) => None,
        })
    }

    pub(super) fn fill<'a>(&self, mut value: impl FnMut(&str) -> &'a str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Column { name, .. } => value(name).to_owned(),
        });
        pieces.collect()
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut quote = None;
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '{' | '}' if rest.peek() == Some(&c) => {
                    rest.next();
                    plain.push(c);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some(c) if c != '{' => name.push(c),
                            _ => return Err("a `{` has no `}`; `{{` is a brace".to_owned()),
                        }
                    }
                    let name = name.trim().to_lowercase();
                    if name.is_empty() {
                        return Err("`{}` names no column".to_owned());
                    }
                    quote = open_quote(&plain, quote);
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Column { name, quote });
                }
                '}' => return Err("a `}` has no `{`; `}}` is a brace".to_owned()),
                c => plain.push(c),
            }
        }
        pieces.push(Piece::Text(plain));
        let template = Self(pieces);
        if template.names().next().is_none() {
            return Err("the template names no column, such as {payee}".to_owned());
        }
        Ok(template)
    }
}

/// Returns what ends the quotation that is open after `text`. An apostrophe opens one only at the
/// end of the text, right before a column.
fn open_quote(text: &str, open: Option<char>) -> Option<char> {
    let mut open = open;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        open = match (open, c) {
            (Some(quote), c) if c == quote => None,
            (Some(quote), _) => Some(quote),
            (None, '"') => Some('"'),
            (None, '\u{201c}' | '\u{201e}') => Some('\u{201d}'),
            (None, '\u{ab}') => Some('\u{bb}'),
            (None, '\'' | '`') if rest.peek().is_none() => Some(c),
            (None, _) => None,
        };
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_filled_in() {
        let template: Template = "Pay {payee} {{{ Amount }}}".parse().unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["payee", "amount"]);
        let filled = template.fill(|name| if name == "payee" { "{amount}" } else { "5" });
        assert_eq!(filled, "Pay {amount} {5}");
        let template = "Pay \"the {payee}\", {amount}: '{note}', \u{201c}{why}\u{201d}";
        let template: Template = template.parse().unwrap();
        let quotes: Vec<_> = template.columns().map(|(_, quote)| quote).collect();
        assert_eq!(quotes, [Some('"'), None, Some('\''), Some('\u{201d}')]);
        for text in ["", "Pay", "Pay {", "Pay {a", "Pay }", "Pay {}", "{a{b}}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }
}
