//! What the user's words ask for.
//!
//! This is no language model: it knows the phrases that its documentation lists, and says so about
//! everything else. Where money is concerned it takes only plain orders that can be read in one way.

use super::money::{self, Currency, Money, Problem};

/// What is asked for.
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
    /// An order to pay whose amount cannot be taken.
    CannotPay(Problem),
    Transactions {
        count: usize,
    },
    Recall,
    Unknown,
}

/// How many transactions are shown when nobody says how many.
const TRANSACTIONS: usize = 10;

pub(super) fn understand(text: &str) -> Intent {
    let words: Vec<&str> =
        text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect();
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

/// A word without the punctuation around it.
fn bare(word: &str) -> &str {
    word.trim_matches(['"', '\'', '“', '”', '‘', '’', '(', ')', '<', '>', '?', '!', ';', ':'])
        .trim_end_matches([',', '.', '?', '!', '"', '”'])
}

fn count_of(lower: &[String]) -> usize {
    if let Some(count) = lower.iter().find_map(|word| word.parse::<usize>().ok()) {
        return count.max(1);
    }
    if lower.iter().any(|word| word == "transaction") { 1 } else { TRANSACTIONS }
}

const PRELUDES: [&str; 34] = [
    "please", "ok", "okay", "hey", "hi", "hello", "now", "then", "and", "also", "so", "can",
    "could", "would", "will", "you", "i", "i'd", "i’d", "want", "wish", "need", "like", "to",
    "just", "go", "ahead", "kindly", "payman", "yes,", "yes", "let's", "let’s", "us",
];

/// An order to pay. Only where the verb comes first (after words of politeness): "did I pay Tyllen $50?" is none.
fn payment_order(words: &[&str], lower: &[String]) -> Option<Intent> {
    let start = lower.iter().position(|word| !PRELUDES.contains(&word.trim_end_matches(',')))?;
    let verb = lower.get(start)?.as_str();
    let rest = words.get(start + 1..)?;
    let rest_lower = lower.get(start + 1..)?;
    let speaks_of_money = rest_lower.iter().any(|word| word == "money");
    let certain = match verb {
        "pay" | "transfer" | "wire" => true,
        // "Send me my last 5 transactions" is no payment.
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
        Some(Err(problem)) => {
            return (certain || verb != "make").then_some(Intent::CannotPay(problem));
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

/// Takes the one amount out of an order.
fn take_amount<'w>(words: &[&'w str]) -> (Option<Result<Money, Problem>>, Vec<&'w str>) {
    let mut found: Option<Result<Money, Problem>> = None;
    let mut left = Vec::with_capacity(words.len());
    let mut words = words.iter().copied().peekable();
    // A currency may stand before its number, as a word of its own: "USD 50".
    let mut before: Option<Result<Currency, Problem>> = None;
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
            return (Some(Err(Problem::Several)), left);
        }
        found = Some(amount.and_then(|(amount, sign)| {
            let named = after.or(before.take()).transpose()?;
            Ok(Money { amount, currency: named.or(sign).unwrap_or(Currency::Usd) })
        }));
    }
    (found, left)
}

/// The name that is left of an order: what follows "to", or all of it, without what is not part of a name.
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

/// "Create a new payee with the email x@y", "create payee Tyllen", "Add John Doe as a payee".
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
    // "with the email x and the name y" as well as "named y with the email x"
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

/// What an answer to a question says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reaction {
    Yes,
    No,
    /// The one at this place, from 0.
    Place(usize),
    Last,
    Amount(Result<Money, Problem>),
    /// Anything else: usually a name.
    Words(String),
    /// It starts like a yes, and says something more.
    Unclear,
}

/// What may follow a yes without changing what was asked.
const NOTHING_NEW: [&str; 30] = [
    "yes", "ok", "okay", "sure", "please", "create", "add", "them", "him", "her", "it", "that",
    "and", "then", "pay", "do", "so", "go", "ahead", "the", "a", "new", "payee", "make", "correct",
    "right", "thanks", "thank", "you", "confirm",
];

/// Reads an answer. `named` is who the question is about: to name them again says nothing new.
pub(super) fn react(text: &str, named: &str) -> Reaction {
    let words: Vec<&str> =
        text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect();
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let first = lower.first().map_or("", String::as_str);
    let phrase = lower.join(" ");
    if ["no", "nope", "don't", "don’t", "stop", "cancel", "nevermind", "none", "nobody"]
        .contains(&first)
        || phrase.starts_with("never mind")
        || phrase.starts_with("do not")
    {
        return Reaction::No;
    }
    if ["yes", "yes,", "yeah", "yep", "sure", "ok", "okay", "y", "correct", "create", "confirm"]
        .contains(&first)
        || phrase.starts_with("go ahead")
        || phrase.starts_with("please do")
        || phrase.starts_with("do it")
    {
        // A yes with an amount, a "but" or a name in it is no yes to what was asked.
        let named: Vec<String> = named.split_whitespace().map(str::to_lowercase).collect();
        let nothing_new = lower.iter().all(|word| {
            let word = word.trim_matches(',');
            NOTHING_NEW.contains(&word) || named.iter().any(|name| name == word)
        });
        let short = ["yeah", "yep", "y"].contains(&first) && lower.len() == 1;
        return if nothing_new || short { Reaction::Yes } else { Reaction::Unclear };
    }
    if let Some(place) = place_in(&lower) {
        return place;
    }
    let (found, left) = take_amount(&words);
    if let Some(found) = found
        && left.iter().all(|word| {
            ["pay", "them", "just", "make", "it", "please"].contains(&word.to_lowercase().as_str())
        })
    {
        return Reaction::Amount(found);
    }
    let fillers = ["pay", "to", "the", "it's", "its", "it’s", "i", "mean", "meant"];
    let skipped = lower.iter().take_while(|word| fillers.contains(&word.as_str())).count();
    Reaction::Words(words.iter().skip(skipped).copied().collect::<Vec<_>>().join(" "))
}

fn place_in(lower: &[String]) -> Option<Reaction> {
    let words: Vec<&str> = lower
        .iter()
        .map(String::as_str)
        .filter(|word| !["the", "one", "number", "please", "payee"].contains(word))
        .collect();
    let [only] = words.as_slice() else {
        return None;
    };
    let place = match *only {
        "first" | "1st" | "#1" => 0,
        "second" | "2nd" | "#2" => 1,
        "third" | "3rd" | "#3" => 2,
        "fourth" | "4th" | "#4" => 3,
        "fifth" | "5th" | "#5" => 4,
        "last" | "latter" => return Some(Reaction::Last),
        _ => return None,
    };
    Some(Reaction::Place(place))
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
    fn orders_to_pay() {
        let dollars = |text: &str, who: &str, amount: &str| {
            assert_eq!(understand(text), pay(who, amount, Currency::Usd), "{text}")
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
        assert_eq!(
            understand("send 100 TSD to John Doe"),
            pay("John Doe", "100.00", Currency::Tsd)
        );
        assert_eq!(
            understand("Pay Tyllen"),
            Intent::Pay { who: Some("Tyllen".into()), money: None }
        );
        assert!(matches!(understand("Pay $5"), Intent::Pay { who: None, money: Some(_) }));
        assert_eq!(
            understand("send money to Tyllen"),
            Intent::Pay { who: Some("Tyllen".into()), money: None }
        );
    }

    #[test]
    fn what_is_no_order_pays_nothing() {
        for text in [
            "Do not pay Tyllen $50",
            "Did I pay Tyllen $50?",
            "I don't want to pay Tyllen $50",
            "Should we pay Tyllen $50?",
        ] {
            assert!(
                !matches!(understand(text), Intent::Pay { .. } | Intent::CannotPay(_)),
                "{text}"
            );
        }
        for (text, problem) in [
            ("Pay Tyllen 5k", Problem::DecodeError),
            ("Pay Tyllen $1,5", Problem::DecodeError),
            ("Pay Tyllen $5 and John $6", Problem::Several),
            ("Pay Tyllen 5 thousand", Problem::DecodeError),
            ("Pay Tyllen 50 cents", Problem::DecodeError),
            ("Pay Tyllen -5", Problem::NotPositive),
            ("Pay Tyllen 5 EUR", Problem::OtherCurrency),
            ("Pay Tyllen €5", Problem::OtherCurrency),
            ("Pay Tyllen $0.001", Problem::TooPrecise),
        ] {
            assert_eq!(understand(text), Intent::CannotPay(problem), "{text}");
        }
    }

    #[test]
    fn payees_are_named() {
        let new = |text: &str, name: Option<&str>, email: Option<&str>| {
            let expected = Intent::CreatePayee {
                name: name.map(str::to_owned),
                email: email.map(str::to_owned),
            };
            assert_eq!(understand(text), expected, "{text}");
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
    fn questions() {
        assert_eq!(understand("How much money do I have in my wallet?"), Intent::Balance);
        assert_eq!(understand("What's my balance?"), Intent::Balance);
        assert_eq!(understand("List all wallets"), Intent::ListWallets);
        assert_eq!(understand("List all payees"), Intent::ListPayees);
        assert_eq!(understand("What did we talk about earlier?"), Intent::Recall);
        assert_eq!(understand("Show my last 5 transactions"), Intent::Transactions { count: 5 });
        assert_eq!(understand("Send me my last 5 transactions"), Intent::Transactions { count: 5 });
        assert_eq!(understand("Give me my balance"), Intent::Balance);
        assert_eq!(understand("Show my last transaction"), Intent::Transactions { count: 1 });
        assert_eq!(understand("list payments"), Intent::Transactions { count: TRANSACTIONS });
        assert_eq!(understand("What's the weather?"), Intent::Unknown);
        assert_eq!(understand("   "), Intent::Unknown);
    }

    #[test]
    fn answers() {
        let react = |text| super::react(text, "Tyllen Smith");
        for yes in [
            "yes, create them",
            "Yes",
            "y",
            "create them",
            "ok, pay Tyllen",
            "Please do.",
            "go ahead",
        ] {
            assert_eq!(react(yes), Reaction::Yes, "{yes}");
        }
        for unclear in ["yes, but $20", "yes, pay Bob", "ok and John too", "yes create payee Bob"] {
            assert_eq!(react(unclear), Reaction::Unclear, "{unclear}");
        }
        assert_eq!(react("No."), Reaction::No);
        assert_eq!(react("the second one"), Reaction::Place(1));
        assert_eq!(react("the last one"), Reaction::Last);
        assert_eq!(react("Tyllen Smith"), Reaction::Words("Tyllen Smith".into()));
        assert!(matches!(react("$50"), Reaction::Amount(Ok(_))));
    }
}
