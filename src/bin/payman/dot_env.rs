//! The file `.env` in the current folder.
//!
//! The folder may be someone else's, so little is taken from the file: only variables named
//! `PAYMAN_*`, with values taken literally. A `$` is not expanded, because that would let the file
//! send any variable of the environment to a server of its choice. `GlobalOptions` checks where a
//! destination from the file may be used.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::command_failure::CommandFailure;

const FILE: &str = ".env";
const PREFIX: &str = "PAYMAN_";
const MAX_BYTES: u64 = 256 * 1024;

/// The variables of the file that take effect: those that the environment does not set.
#[derive(Debug, Default)]
pub(crate) struct DotEnv(BTreeMap<String, String>);

impl DotEnv {
    /// Reads the file, if there is one.
    pub(crate) fn read() -> Result<Self, CommandFailure> {
        if !Path::new(FILE).is_file() {
            return Ok(Self::default());
        }
        let mut text = String::new();
        std::fs::File::open(FILE)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
            .map_err(|error| {
            CommandFailure::usage("the file .env could not be read")
                .because(&error)
                .next("Make it readable, or run the command in another folder.")
        })?;
        let mut values = parse(&text).map_err(|error| {
            CommandFailure::usage(error)
                .next("A line is NAME=value; a value with spaces, # or quotes stands in quotes.")
        })?;
        values.retain(|name, value| !value.trim().is_empty() && !is_set(name));
        Ok(Self(values))
    }

    /// Sets the variables in the environment of this process, where clap reads them.
    pub(crate) fn apply(&self) -> Result<(), CommandFailure> {
        let lines = self.0.iter().map(|(name, value)| format!("{name}={}\n", requoted(value)));
        let text: String = lines.collect();
        dotenvy::from_read_override(text.as_bytes())
            .map_err(|_| CommandFailure::usage("the values in the file .env cannot be used"))
    }

    /// Returns true where the value of this variable comes from the file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Returns the value in quotes, in which dotenvy expands nothing.
fn requoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name)
        .is_some_and(|value| value.to_str().is_none_or(|text| !text.trim().is_empty()))
}

/// Returns the `PAYMAN_*` variables. An error names a line and never quotes it: it may hold a
/// secret.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut last_name = None;
    while !rest.is_empty() {
        let (line, next_lines) = rest.split_once('\n').unwrap_or((rest, ""));
        let error = || unreadable(text, rest, last_name.as_deref());
        let is_comment = line.trim_start().starts_with('#');
        let Some((name, after_equals)) =
            rest.split_once('=').filter(|_| line.contains('=') && !is_comment)
        else {
            if without_export(line).starts_with(PREFIX) {
                return Err(error());
            }
            rest = next_lines;
            continue;
        };
        let name = without_export(name).trim_end();
        let value = after_equals.trim_start_matches([' ', '\t']);
        let (value, after) = match value.chars().next() {
            // A quoted value may continue on the next lines.
            Some(quote @ ('\'' | '"')) => {
                let (value, after) = quoted(value, quote).ok_or_else(error)?;
                (value, after.split_once('\n').unwrap_or_default().1)
            }
            _ => (unquoted(value.lines().next().unwrap_or_default()).to_owned(), next_lines),
        };
        if name.starts_with(PREFIX) {
            last_name = Some(name.to_owned());
            values.insert(name.to_owned(), value);
        }
        rest = after;
    }
    Ok(values)
}

fn without_export(line: &str) -> &str {
    let line = line.trim_start();
    line.strip_prefix("export ").unwrap_or(line).trim_start()
}

/// Returns the value up to a comment.
fn unquoted(value: &str) -> &str {
    let end = [" #", "\t#"].iter().filter_map(|comment| value.find(comment)).min();
    end.and_then(|end| value.get(..end)).unwrap_or(value).trim()
}

/// Returns the text between the quote at the start and its partner, and what follows.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    chars.next();
    while let Some(c) = chars.next() {
        match c {
            _ if c == quote => return Some((value, chars.as_str())),
            '\\' if quote == '"' => match chars.next()? {
                'n' => value.push('\n'),
                c @ ('"' | '\\' | '$') => value.push(c),
                c => value.extend(['\\', c]),
            },
            _ => value.push(c),
        }
    }
    None
}

fn unreadable(text: &str, rest: &str, last_name: Option<&str>) -> String {
    let lines = |text: &str| text.matches('\n').count();
    let number = lines(text) - lines(rest) + 1;
    match last_name {
        Some(name) => {
            format!("line {number} of the file .env, after that of {name}, is not understood")
        }
        None => format!("line {number} of the file .env is not understood"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().collect()
    }

    #[test]
    fn values_are_taken_literally() {
        for (line, value) in [
            ("PAYMAN_A=b", "b"),
            ("  export PAYMAN_A = b # comment", "b"),
            ("PAYMAN_A=a#b", "a#b"),
            ("PAYMAN_A='a # ${HOME} \"'", "a # ${HOME} \""),
            (r#"PAYMAN_A="a \" \$x $HOME""#, "a \" $x $HOME"),
            ("PAYMAN_A='one\ntwo' # comment\nOTHER", "one\ntwo"),
            ("\u{feff}PAYMAN_A=b\r\n", "b"),
            ("OTHER='\nPAYMAN_A=no\n'\nnonsense\n#PAYMAN_A=no=1\nPAYMAN_A=b", "b"),
        ] {
            assert_eq!(pairs(line), [("PAYMAN_A".to_owned(), value.to_owned())], "{line}");
        }
        assert!(pairs("HTTPS_PROXY=http://127.0.0.1:1\nSSL_CERT_FILE=x\n").is_empty());
    }

    #[test]
    fn an_error_names_the_line_and_does_not_quote_it() {
        for (text, place) in [
            ("PAYMAN_A='hush", "line 1 of"),
            ("\nPAYMAN_A=b\nPAYMAN_B hush", "line 3 of the file .env, after that of PAYMAN_A"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(place) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn applied_values_equal_the_parsed_ones() {
        let value = "a'b\"c$HOME ${HOME}\n#\\";
        let line = format!("A={}\n", requoted(value));
        let read: Vec<_> = dotenvy::from_read_iter(line.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(read, [("A".to_owned(), value.to_owned())]);
    }
}
