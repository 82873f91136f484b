//! Parses the intent of a message.
//!
//! This is not a language model: it recognizes the phrases that the documentation lists, and
//! reports everything else as unknown. Payments need an order that can be read in one way only.

use super::money::{self, AmountError, Currency, Money};

/// The request in a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Intent {
    Balance,
    ListWallets,
    ListPayees,
    CreatePayee {
        name: Option<String>,
        email: Option<String>,
    },
    Pay {
        who: Option<String>,
        money: Option<Money>,
    },
    /// An order to pay with an amount that was rejected.
    CannotPay(AmountError),
    Transactions {
        count: usize,
    },
    Recall,
    Unknown,
}

/// The number of transactions to list if the message gives none.
const DEFAULT_TRANSACTIONS: usize = 10;

/// Parses the intent of a message.
pub(super) fn parse(text: &str) -> Intent {
    let words = split_words(text);
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let has = |any: &[&str]| lower.iter().any(|word| any.contains(&word.as_str()));
    let phrase = lower.join(" ");

    if let Some(order) = payment_order(&words, &lower) {
        return order;
    }
    if has(&["payee"]) && has(&["create", "add", "new", "register", "save", "make"]) {
        return new_payee(&words, &lower);
    }
    if has(&["earlier", "remember", "conversation", "discuss", "discussed"])
        || phrase.contains("talk about")
    {
        return Intent::Recall;
    }
    if phrase.contains("talked about") {
        return Intent::Recall;
    }
    if has(&["transaction", "transactions", "payments", "history"]) {
        return Intent::Transactions { count: count_of(&lower) };
    }
    if has(&["payee", "payees"]) {
        return Intent::ListPayees;
    }
    if has(&["balance", "balances"])
        || phrase.contains("how much money")
        || (phrase.contains("how much") && has(&["have", "left", "wallet", "wallets"]))
    {
        return Intent::Balance;
    }
    if has(&["wallet", "wallets"]) {
        return Intent::ListWallets;
    }
    Intent::Unknown
}

/// Splits text into words without the punctuation around them.
pub(super) fn split_words(text: &str) -> Vec<&str> {
    text.split_whitespace().map(trim_punctuation).filter(|word| !word.is_empty()).collect()
}

fn trim_punctuation(word: &str) -> &str {
    word.trim_matches(['"', '\'', '“', '”', '‘', '’', '(', ')', '<', '>', '?', '!', ';', ':'])
        .trim_end_matches([',', '.', '?', '!', '"', '”'])
}

fn count_of(lower: &[String]) -> usize {
    if let Some(count) = lower.iter().find_map(|word| word.parse::<usize>().ok()) {
        return count.max(1);
    }
    if lower.iter().any(|word| word == "transaction") { 1 } else { DEFAULT_TRANSACTIONS }
}

/// Words that may stand before the verb of an order.
const PRELUDES: [&str; 34] = [
    "please", "ok", "okay", "hey", "hi", "hello", "now", "then", "and", "also", "so", "can",
    "could", "would", "will", "you", "i", "i'd", "i’d", "want", "wish", "need", "like", "to",
    "just", "go", "ahead", "kindly", "payman", "yes,", "yes", "let's", "let’s", "us",
];

/// Parses an order to pay. The verb has to come first, after words of politeness: "did I pay Tyllen
/// $50?" is not an order.
fn payment_order(words: &[&str], lower: &[String]) -> Option<Intent> {
    let start = lower.iter().position(|word| !PRELUDES.contains(&word.trim_end_matches(',')))?;
    let verb = lower.get(start)?.as_str();
    let rest = words.get(start + 1..)?;
    let rest_lower = lower.get(start + 1..)?;
    let speaks_of_money = rest_lower.iter().any(|word| word == "money");
    let certain = match verb {
        "pay" | "transfer" | "wire" => true,
        // "Send me my last 5 transactions" is not a payment.
        "send" | "give"
            if rest_lower.first().is_some_and(|word| ["me", "us"].contains(&word.as_str())) =>
        {
            return None;
        }
        "send" | "give" => speaks_of_money,
        "make" => rest_lower.iter().any(|word| word == "payment"),
        _ => return None,
    };
    let (order, _reason) = split_at_word(rest, &["for", "because", "memo", "note"]);
    let (found, left) = take_amount(order);
    let money = match found {
        Some(Ok(money)) => Some(money),
        Some(Err(error)) => {
            return (certain || verb != "make").then_some(Intent::CannotPay(error));
        }
        None if certain => None,
        None => return None,
    };
    Some(Intent::Pay { who: name_in(&left), money })
}

fn split_at_word<'a, 'w>(words: &'a [&'w str], any: &[&str]) -> (&'a [&'w str], &'a [&'w str]) {
    let at = words
        .iter()
        .position(|word| any.contains(&word.to_lowercase().as_str()))
        .unwrap_or(words.len());
    words.split_at(at)
}

/// Takes the amount out of an order, and returns the other words.
pub(super) fn take_amount<'w>(
    words: &[&'w str],
) -> (Option<Result<Money, AmountError>>, Vec<&'w str>) {
    let mut found: Option<Result<Money, AmountError>> = None;
    let mut left = Vec::with_capacity(words.len());
    let mut words = words.iter().copied().peekable();
    // The currency may precede its number as a word of its own: "USD 50".
    let mut before: Option<Result<Currency, AmountError>> = None;
    while let Some(word) = words.next() {
        let Some(amount) = money::amount_word(word) else {
            if let Some(currency) = money::currency_word(word)
                && words.peek().is_some_and(|next| money::amount_word(next).is_some())
            {
                before = Some(currency);
            } else {
                left.push(word);
            }
            continue;
        };
        let after = words.peek().and_then(|next| money::currency_word(next));
        if after.is_some() {
            words.next();
        }
        if found.is_some() {
            return (Some(Err(AmountError::Several)), left);
        }
        found = Some(amount.and_then(|(amount, sign)| {
            let named = after.or(before.take()).transpose()?;
            Ok(Money { amount, currency: named.or(sign).unwrap_or(Currency::Usd) })
        }));
    }
    (found, left)
}

/// Returns the payee's name in an order without its amount: the words after "to", or all of them,
/// without those that are not part of a name.
fn name_in(words: &[&str]) -> Option<String> {
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let name = match lower.iter().rposition(|word| word == "to") {
        Some(at) => words.get(at + 1..).unwrap_or_default(),
        None => words,
    };
    let (name, _source) =
        split_at_word(name, &["from", "using", "via", "out", "today", "now", "please", "right"]);
    let fillers = ["a", "an", "the", "payee", "payment", "of", "money", "some", "my", "to"];
    let skipped =
        name.iter().take_while(|word| fillers.contains(&word.to_lowercase().as_str())).count();
    let mut name: Vec<&str> = name.iter().skip(skipped).copied().collect();
    while name
        .last()
        .is_some_and(|word| ["money", "payment"].contains(&word.to_lowercase().as_str()))
    {
        name.pop();
    }
    joined(&name)
}

fn joined(words: &[&str]) -> Option<String> {
    let text = words.join(" ");
    let text = text.trim_matches(|letter: char| letter == ',' || letter.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_email(word: &str) -> bool {
    word.split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'))
}

/// Parses "Create a new payee with the email x@y", "create payee Tyllen" and "Add John Doe as a
/// payee".
fn new_payee(words: &[&str], lower: &[String]) -> Intent {
    let email = words.iter().find(|word| is_email(word)).map(|word| (*word).to_owned());
    let payee = lower.iter().position(|word| word == "payee").unwrap_or(words.len());
    let after = words.get(payee + 1..).unwrap_or_default();
    Intent::CreatePayee {
        name: name_after(after).or_else(|| name_before(words, lower, payee)),
        email,
    }
}

fn name_after(words: &[&str]) -> Option<String> {
    // Both "with the email x and the name y" and "named y with the email x".
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let named = lower.iter().position(|word| ["named", "called", "name"].contains(&word.as_str()));
    let words = words.get(named.map_or(0, |at| at + 1)..).unwrap_or_default();
    let (name, _rest) = split_at_word(
        words,
        &["with", "and", "whose", "who", "email", "mail", "e-mail", "at", "to", "please"],
    );
    let fillers = ["is", "of", "for", "the", "a"];
    let name: Vec<&str> = name
        .iter()
        .copied()
        .skip_while(|word| fillers.contains(&word.to_lowercase().as_str()))
        .filter(|word| !is_email(word))
        .collect();
    joined(&name)
}

fn name_before(words: &[&str], lower: &[String], payee: usize) -> Option<String> {
    let start = lower
        .iter()
        .position(|word| ["create", "add", "register", "save", "make"].contains(&word.as_str()))?;
    let end = lower.iter().position(|word| word == "as").filter(|end| *end < payee)?;
    let name: Vec<&str> =
        words.get(start + 1..end)?.iter().copied().filter(|word| !is_email(word)).collect();
    joined(&name)
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;

    fn pay(who: &str, amount: &str, currency: Currency) -> Intent {
        let money = Money { amount: Decimal::from_str_exact(amount).unwrap(), currency };
        Intent::Pay { who: Some(who.to_owned()), money: Some(money) }
    }

    #[test]
    fn orders_to_pay_are_parsed() {
        let dollars = |text: &str, who: &str, amount: &str| {
            assert_eq!(parse(text), pay(who, amount, Currency::Usd), "{text}")
        };
        dollars("Pay Tyllen 50$", "Tyllen", "50.00");
        dollars("Pay Tyllen 50$?", "Tyllen", "50.00");
        dollars("Pay Tyllen $50", "Tyllen", "50.00");
        dollars("pay Tyllen $50.", "Tyllen", "50.00");
        dollars("Pay $12.50 to John Doe", "John Doe", "12.50");
        dollars(
            "Please could you pay Tyllen Smith 1,000 dollars for 2 beers?",
            "Tyllen Smith",
            "1000.00",
        );
        dollars("Transfer $5 from my wallet to John", "John", "5.00");
        dollars("send USD 5 to x@y.com", "x@y.com", "5.00");
        dollars("Pay \"Tyllen Smith\" $5 please", "Tyllen Smith", "5.00");
        dollars("Make a payment of $5 to Tyllen", "Tyllen", "5.00");
        dollars("Make a $5 payment to Tyllen", "Tyllen", "5.00");
        dollars("Send the payee Zoë 7 bucks", "Zoë", "7.00");
        assert_eq!(parse("send 100 TSD to John Doe"), pay("John Doe", "100.00", Currency::Tsd));
        assert_eq!(parse("Pay Tyllen"), Intent::Pay { who: Some("Tyllen".into()), money: None });
        assert!(matches!(parse("Pay $5"), Intent::Pay { who: None, money: Some(_) }));
        assert_eq!(
            parse("send money to Tyllen"),
            Intent::Pay { who: Some("Tyllen".into()), money: None }
        );
    }

    #[test]
    fn other_messages_are_not_orders_to_pay() {
        for text in [
            "Do not pay Tyllen $50",
            "Did I pay Tyllen $50?",
            "I don't want to pay Tyllen $50",
            "Should we pay Tyllen $50?",
        ] {
            assert!(!matches!(parse(text), Intent::Pay { .. } | Intent::CannotPay(_)), "{text}");
        }
        for (text, error) in [
            ("Pay Tyllen 5k", AmountError::Ambiguous),
            ("Pay Tyllen $1,5", AmountError::Ambiguous),
            ("Pay Tyllen $5 and John $6", AmountError::Several),
            ("Pay Tyllen 5 thousand", AmountError::Ambiguous),
            ("Pay Tyllen 50 cents", AmountError::Ambiguous),
            ("Pay Tyllen -5", AmountError::NotPositive),
            ("Pay Tyllen 5 EUR", AmountError::OtherCurrency),
            ("Pay Tyllen €5", AmountError::OtherCurrency),
            ("Pay Tyllen $0.001", AmountError::TooPrecise),
        ] {
            assert_eq!(parse(text), Intent::CannotPay(error), "{text}");
        }
    }

    #[test]
    fn payee_names_are_parsed() {
        let new = |text: &str, name: Option<&str>, email: Option<&str>| {
            let expected = Intent::CreatePayee {
                name: name.map(str::to_owned),
                email: email.map(str::to_owned),
            };
            assert_eq!(parse(text), expected, "{text}");
        };
        new("Create a new payee with the email x@y.com", None, Some("x@y.com"));
        new("create payee Tyllen", Some("Tyllen"), None);
        new(
            "Create a payee named John Doe with the email j@d.com.",
            Some("John Doe"),
            Some("j@d.com"),
        );
        new("Add John Doe as a payee", Some("John Doe"), None);
        new("Add a new payee: Tyllen Smith, t@s.com", Some("Tyllen Smith"), Some("t@s.com"));
        new("Create a new payee", None, None);
    }

    #[test]
    fn questions_are_parsed() {
        assert_eq!(parse("How much money do I have in my wallet?"), Intent::Balance);
        assert_eq!(parse("What's my balance?"), Intent::Balance);
        assert_eq!(parse("List all wallets"), Intent::ListWallets);
        assert_eq!(parse("List all payees"), Intent::ListPayees);
        assert_eq!(parse("What did we talk about earlier?"), Intent::Recall);
        assert_eq!(parse("Show my last 5 transactions"), Intent::Transactions { count: 5 });
        assert_eq!(parse("Send me my last 5 transactions"), Intent::Transactions { count: 5 });
        assert_eq!(parse("Give me my balance"), Intent::Balance);
        assert_eq!(parse("Show my last transaction"), Intent::Transactions { count: 1 });
        assert_eq!(parse("list payments"), Intent::Transactions { count: DEFAULT_TRANSACTIONS });
        assert_eq!(parse("What's the weather?"), Intent::Unknown);
        assert_eq!(parse("   "), Intent::Unknown);
    }
}
