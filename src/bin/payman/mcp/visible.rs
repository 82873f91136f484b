//! Escapes characters that are invisible, or that change the appearance of the text around them.

use payman_sdk::escape::is_unsafe;

/// Returns the text with every invisible character escaped, for a person who decides on it.
///
/// Line ends stay. A tab is escaped: it could push the end of a line out of view. An answer is
/// escaped less strictly, by [`escape_text`](payman_sdk::escape::escape_text): it may hold emoji
/// and scripts that need joiners.
pub(super) fn strict(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && (is_unsafe(c) || is_invisible(c)) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns the text on one line, cut after `max_chars`.
pub(super) fn one_line(text: &str, max_chars: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = line.chars();
    let mut short: String = chars.by_ref().take(max_chars).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    strict(&short)
}

/// Returns true for spaces without a width, blank letters, and characters that join or separate
/// others or choose a variant of one.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_and_reordering_characters_are_escaped() {
        for (text, shown) in [
            ("Pay Bob $50", "Pay Bob $50"),
            ("Pay Bob\u{202e}05$", "Pay Bob\\u{202e}05$"),
            ("Pay Bo\u{200d}b", "Pay Bo\\u{200d}b"),
            ("a\tb\r\n\u{1b}[2K\u{9b}", "a\\tb\\r\n\\u{1b}[2K\\u{9b}"),
            ("x\u{e0041}", "x\\u{e0041}"),
            ("Zoë, 東京, ₿", "Zoë, 東京, ₿"),
        ] {
            assert_eq!(strict(text), shown);
        }
    }

    #[test]
    fn one_line_is_short() {
        assert_eq!(one_line("a\n b   c", 10), "a b c");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }
}
