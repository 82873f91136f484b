//! Parses an answer to the agent's question.

use super::intent::{split_words, take_amount};
use super::money::{AmountError, Money};

/// The meaning of an answer to the agent's question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FollowUp {
    Yes,
    No,
    /// The item at this position, from 0.
    Ordinal(usize),
    Last,
    Amount(Result<Money, AmountError>),
    /// Anything else: usually a name.
    Text(String),
    /// The answer starts with a yes, and adds something new.
    Unclear,
}

/// Words that may follow a yes without changing its meaning.
const NEUTRAL_WORDS: [&str; 30] = [
    "yes", "ok", "okay", "sure", "please", "create", "add", "them", "him", "her", "it", "that",
    "and", "then", "pay", "do", "so", "go", "ahead", "the", "a", "new", "payee", "make", "correct",
    "right", "thanks", "thank", "you", "confirm",
];

/// Parses an answer. `payee_name` is the payee that the question is about: repeating the name adds
/// nothing new.
pub(super) fn parse(text: &str, payee_name: &str) -> FollowUp {
    let words = split_words(text);
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let first = lower.first().map_or("", String::as_str);
    let phrase = lower.join(" ");
    if ["no", "nope", "don't", "don’t", "stop", "cancel", "nevermind", "none", "nobody"]
        .contains(&first)
        || phrase.starts_with("never mind")
        || phrase.starts_with("do not")
    {
        return FollowUp::No;
    }
    if ["yes", "yes,", "yeah", "yep", "sure", "ok", "okay", "y", "correct", "create", "confirm"]
        .contains(&first)
        || phrase.starts_with("go ahead")
        || phrase.starts_with("please do")
        || phrase.starts_with("do it")
    {
        // A yes with an amount, a "but" or another name in it does not agree to the question.
        let payee_name: Vec<String> =
            payee_name.split_whitespace().map(str::to_lowercase).collect();
        let is_neutral = lower.iter().all(|word| {
            let word = word.trim_matches(',');
            NEUTRAL_WORDS.contains(&word) || payee_name.iter().any(|name| name == word)
        });
        let short = ["yeah", "yep", "y"].contains(&first) && lower.len() == 1;
        return if is_neutral || short { FollowUp::Yes } else { FollowUp::Unclear };
    }
    if let Some(position) = parse_ordinal(&lower) {
        return position;
    }
    let (found, left) = take_amount(&words);
    if let Some(found) = found
        && left.iter().all(|word| {
            ["pay", "them", "just", "make", "it", "please"].contains(&word.to_lowercase().as_str())
        })
    {
        return FollowUp::Amount(found);
    }
    let fillers = ["pay", "to", "the", "it's", "its", "it’s", "i", "mean", "meant"];
    let skipped = lower.iter().take_while(|word| fillers.contains(&word.as_str())).count();
    FollowUp::Text(words.iter().skip(skipped).copied().collect::<Vec<_>>().join(" "))
}

fn parse_ordinal(lower: &[String]) -> Option<FollowUp> {
    let words: Vec<&str> = lower
        .iter()
        .map(String::as_str)
        .filter(|word| !["the", "one", "number", "please", "payee"].contains(word))
        .collect();
    let [only] = words.as_slice() else {
        return None;
    };
    let position = match *only {
        "first" | "1st" | "#1" => 0,
        "second" | "2nd" | "#2" => 1,
        "third" | "3rd" | "#3" => 2,
        "fourth" | "4th" | "#4" => 3,
        "fifth" | "5th" | "#5" => 4,
        "last" | "latter" => return Some(FollowUp::Last),
        _ => return None,
    };
    Some(FollowUp::Ordinal(position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed() {
        let parse = |text| super::parse(text, "Tyllen Smith");
        for yes in [
            "yes, create them",
            "Yes",
            "y",
            "create them",
            "ok, pay Tyllen",
            "Please do.",
            "go ahead",
        ] {
            assert_eq!(parse(yes), FollowUp::Yes, "{yes}");
        }
        for unclear in ["yes, but $20", "yes, pay Bob", "ok and John too", "yes create payee Bob"] {
            assert_eq!(parse(unclear), FollowUp::Unclear, "{unclear}");
        }
        assert_eq!(parse("No."), FollowUp::No);
        assert_eq!(parse("the second one"), FollowUp::Ordinal(1));
        assert_eq!(parse("the last one"), FollowUp::Last);
        assert_eq!(parse("Tyllen Smith"), FollowUp::Text("Tyllen Smith".into()));
        assert!(matches!(parse("$50"), FollowUp::Amount(Ok(_))));
    }
}
