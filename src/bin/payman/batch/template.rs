//! A text with the names of columns in braces.

use std::str::FromStr;

/// A parsed template, such as `Pay {payee} {amount} {currency}`; `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(String),
}

impl Template {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    pub(super) fn fill<'a>(&self, mut value: impl FnMut(&str) -> &'a str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Column(name) => value(name).to_owned(),
        });
        pieces.collect()
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
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
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Column(name));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_filled_in() {
        let template: Template = "Pay {payee} {{{ Amount }}}".parse().unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["payee", "amount"]);
        let filled = template.fill(|name| if name == "payee" { "{amount}" } else { "5" });
        assert_eq!(filled, "Pay {amount} {5}");
        for text in ["", "Pay", "Pay {", "Pay {a", "Pay }", "Pay {}", "{a{b}}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }
}
