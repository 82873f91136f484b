//! Parses amounts from text: exactly, or not at all.

use std::fmt;

use rust_decimal::Decimal;
use serde::Serialize;

/// A currency that the emulator's wallet pays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Currency {
    /// US dollars.
    Usd,
    /// Payman's test dollars. They are paid from the same wallet: one of them is one dollar.
    Tsd,
}

/// A positive amount with two decimals, in a currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Money {
    pub(super) amount: Decimal,
    pub(super) currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.currency {
            Currency::Usd => write!(f, "{}", dollars(self.amount)),
            Currency::Tsd => write!(f, "{} TSD", grouped(self.amount)),
        }
    }
}

/// Formats an amount as `$1,234.50`.
pub(super) fn dollars(amount: Decimal) -> String {
    format!("${}", grouped(amount))
}

fn grouped(amount: Decimal) -> String {
    let text = format!("{amount:.2}");
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    let mut out = String::with_capacity(text.len() + whole.len() / 3);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out.push('.');
    out.push_str(cents);
    out
}

/// The reason why an amount was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmountError {
    /// The text starts like a number, but has no reading or more than one.
    Ambiguous,
    /// The amount is zero or less.
    NotPositive,
    /// The amount has fractions of a cent.
    TooPrecise,
    /// The amount is in another currency.
    OtherCurrency,
    /// The text holds more than one amount.
    Several,
}

/// The amount in one word, with its currency unless that is a word of its own.
pub(super) type ParsedAmount = Result<(Decimal, Option<Currency>), AmountError>;

const CURRENCY_SIGNS: [(&str, Option<Currency>); 8] = [
    ("us$", Some(Currency::Usd)),
    ("$", Some(Currency::Usd)),
    ("usd", Some(Currency::Usd)),
    ("tsd", Some(Currency::Tsd)),
    ("€", None),
    ("£", None),
    ("¥", None),
    ("₹", None),
];

const OTHER_CURRENCIES: [&str; 16] = [
    "eur", "euro", "euros", "gbp", "pound", "pounds", "jpy", "yen", "chf", "cad", "aud", "inr",
    "usdc", "usdt", "btc", "eth",
];

/// Returns the currency that a word names; `Some(Err)` for one that the wallet does not pay in.
pub(super) fn currency_word(word: &str) -> Option<Result<Currency, AmountError>> {
    let word = word.to_lowercase();
    match word.as_str() {
        "$" | "us$" | "usd" | "dollar" | "dollars" | "buck" | "bucks" => Some(Ok(Currency::Usd)),
        "tsd" => Some(Ok(Currency::Tsd)),
        "€" | "£" | "¥" | "₹" => Some(Err(AmountError::OtherCurrency)),
        // Words that would change the number before them.
        "cent" | "cents" | "hundred" | "thousand" | "million" | "k" | "m" | "%" | "percent" => {
            Some(Err(AmountError::Ambiguous))
        }
        other if OTHER_CURRENCIES.contains(&other) => Some(Err(AmountError::OtherCurrency)),
        _ => None,
    }
}

/// Parses a word as an amount; `None` if it does not look like one at all.
pub(super) fn amount_word(word: &str) -> Option<ParsedAmount> {
    let word = word.to_lowercase();
    let (negative, word) = match word.strip_prefix(['-', '−']) {
        Some(rest) => (true, rest),
        None => (false, word.as_str()),
    };
    let (number, sign) = strip_sign(word);
    let number = number.trim_start_matches('+');
    let (negative, number) = match number.strip_prefix(['-', '−']) {
        Some(rest) => (true, rest),
        None => (negative, number),
    };
    let mut start = number.chars();
    let numeric = match start.next() {
        Some('.' | ',') => start.next().is_some_and(|next| next.is_ascii_digit()),
        Some(first) => first.is_ascii_digit(),
        None => false,
    };
    if !numeric {
        return None;
    }
    if let Some(None) = sign {
        return Some(Err(AmountError::OtherCurrency));
    }
    Some(parse_number(number).and_then(|amount| {
        if negative || amount.is_zero() {
            return Err(AmountError::NotPositive);
        }
        Ok((amount, sign.flatten()))
    }))
}

fn strip_sign(word: &str) -> (&str, Option<Option<Currency>>) {
    for (sign, currency) in CURRENCY_SIGNS {
        if let Some(rest) = word.strip_prefix(sign).or_else(|| word.strip_suffix(sign)) {
            return (rest, Some(currency));
        }
    }
    for other in OTHER_CURRENCIES {
        if let Some(rest) = word.strip_suffix(other) {
            return (rest, Some(None));
        }
    }
    (word, None)
}

/// Parses `1,000.50` and `1000.5`. Text that could mean two numbers is rejected.
fn parse_number(text: &str) -> Result<Decimal, AmountError> {
    let (whole, cents) = text.split_once('.').unwrap_or((text, ""));
    if !cents.bytes().all(|byte| byte.is_ascii_digit()) || (cents.is_empty() && text.contains('.'))
    {
        return Err(AmountError::Ambiguous);
    }
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let mut digits = String::from(if first.is_empty() { "0" } else { first });
    let mut grouped = false;
    for group in groups {
        if group.len() != 3 || first.is_empty() || first.len() > 3 {
            return Err(AmountError::Ambiguous);
        }
        grouped = true;
        digits.push_str(group);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || (grouped && first.starts_with('0')) {
        return Err(AmountError::Ambiguous);
    }
    if cents.len() > 2 {
        return Err(AmountError::TooPrecise);
    }
    let text = format!("{digits}.{cents:0<2}");
    Decimal::from_str_exact(&text).map_err(|_| AmountError::Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str) -> Option<Result<String, AmountError>> {
        amount_word(word).map(|found| found.map(|(amount, _)| amount.to_string()))
    }

    #[test]
    fn amounts_are_parsed_exactly() {
        for (word, amount) in [
            ("50$", "50.00"),
            ("$50", "50.00"),
            ("$12.50", "12.50"),
            ("12.5", "12.50"),
            ("100", "100.00"),
            ("US$1,234,567.89", "1234567.89"),
            ("0.01", "0.01"),
            (".5", "0.50"),
            ("50USD", "50.00"),
            ("TSD7", "7.00"),
        ] {
            assert_eq!(read(word), Some(Ok(amount.to_owned())), "{word}");
        }
    }

    #[test]
    fn ambiguous_amounts_are_rejected() {
        for word in [
            "1,5",
            "5k",
            "1.2.3",
            "1,00,000",
            "0,500",
            "12,3456",
            "1.",
            "2nd",
            "99999999999999999999999999999999",
        ] {
            assert_eq!(read(word), Some(Err(AmountError::Ambiguous)), "{word}");
        }
        assert_eq!(read("0.001"), Some(Err(AmountError::TooPrecise)));
        assert_eq!(read("-5"), Some(Err(AmountError::NotPositive)));
        assert_eq!(read("$-5"), Some(Err(AmountError::NotPositive)));
        assert_eq!(read("0.00"), Some(Err(AmountError::NotPositive)));
        assert_eq!(read("€5"), Some(Err(AmountError::OtherCurrency)));
        assert_eq!(read("Tyllen"), None);
        assert_eq!(read("$"), None);
    }

    #[test]
    fn amounts_are_formatted_with_thousands_separators() {
        let show = |text: &str| dollars(Decimal::from_str_exact(text).unwrap());
        assert_eq!(show("1000000"), "$1,000,000.00");
        assert_eq!(show("999950.1"), "$999,950.10");
        assert_eq!(show("0.05"), "$0.05");
        assert_eq!(show("123"), "$123.00");
    }
}
