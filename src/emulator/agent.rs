//! The agent: words in, a change in the books and an answer out.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::intent::{self, Intent, Reaction};
use super::ledger::{InsufficientFunds, Ledger, Payee, PaymentStatus};
use super::money::{Money, Problem, dollars};
use crate::ids::TaskId;
use crate::wire::state::TaskState;

/// One exchange of a session, as the agent remembers it.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) asked: String,
    pub(super) answered: String,
}

/// How many exchanges the agent tells of when asked what was talked about.
const RECALLED: usize = 10;

/// What the agent says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) state: TaskState,
    pub(super) text: String,
}

/// What the agent waits to hear before it goes on.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Shall the unknown payee be created and paid?
    NewPayee {
        name: String,
        money: Money,
    },
    /// Which of these is meant?
    Which {
        payees: Vec<Payee>,
        money: Money,
    },
    HowMuch {
        who: String,
    },
    Whom {
        money: Money,
    },
    PayeeName,
}

impl Question {
    /// Who the question is about.
    fn named(&self) -> &str {
        match self {
            Self::NewPayee { name, .. } | Self::HowMuch { who: name } => name,
            Self::Which { .. } | Self::Whom { .. } | Self::PayeeName => "",
        }
    }

    fn is_put_aside_by(&self, intent: &Intent) -> bool {
        match intent {
            Intent::Pay { who: Some(who), money: Some(money) } => {
                !matches!(self, Self::NewPayee { name, money: asked } if name == who && asked == money)
            }
            Intent::CreatePayee { name: Some(created), .. } => {
                !matches!(self, Self::NewPayee { name, .. } if name == created)
            }
            Intent::CreatePayee { email, .. } => email.is_some(),
            _ => false,
        }
    }
}

/// What the agent works on, and what it may do.
pub(super) struct Desk<'a> {
    pub(super) ledger: &'a mut Ledger,
    pub(super) session: &'a [Exchange],
    pub(super) question: &'a mut Option<Question>,
    pub(super) scopes: &'a BTreeSet<String>,
    pub(super) approval_limit: Decimal,
    pub(super) task_id: &'a TaskId,
}

const ABILITIES: &str = "I am the Payman emulator's agent, and I understand only a few things: \
\"How much money do I have in my wallet?\", \"List all wallets\", \"List all payees\", \"Create a payee named Tyllen\", \
\"Pay Tyllen $50\", \"Show my last 5 transactions\" and \"What did we talk about earlier?\". Nothing was done.";

impl Desk<'_> {
    pub(super) fn answer(mut self, text: &str) -> Answer {
        match self.question.take() {
            Some(question) => self.go_on(question, text),
            None => self.act(intent::understand(text)),
        }
    }

    fn act(&mut self, intent: Intent) -> Answer {
        match intent {
            Intent::Balance => self.balance(),
            Intent::ListWallets => self.wallets(),
            Intent::ListPayees => self.payees(),
            Intent::CreatePayee { name, email } => self.create_payee(name, email),
            Intent::Pay { who: Some(who), money: Some(money) } => self.pay(&who, money),
            Intent::Pay { who: Some(who), money: None } => {
                let text = format!("How much shall I pay {who}?");
                self.ask(Question::HowMuch { who }, text)
            }
            Intent::Pay { who: None, money: Some(money) } => {
                self.ask(Question::Whom { money }, format!("Whom shall I pay {money}?"))
            }
            Intent::Pay { who: None, money: None } => {
                done("Tell me whom to pay, and how much. Nothing was paid.")
            }
            Intent::CannotPay(problem) => done(explain(problem)),
            Intent::Transactions { count } => self.transactions(count),
            Intent::Recall => self.recall(),
            Intent::Unknown => done(ABILITIES),
        }
    }

    fn go_on(&mut self, question: Question, text: &str) -> Answer {
        // An order of its own puts the question aside, unless it only repeats what the question is about.
        let fresh = intent::understand(text);
        if question.is_put_aside_by(&fresh) {
            return self.act(fresh);
        }
        let repeats = matches!(fresh, Intent::Pay { who: Some(_), money: Some(_) });
        let reaction = if repeats { Reaction::Yes } else { intent::react(text, question.named()) };
        if reaction == Reaction::No {
            return done("All right. Nothing was done.");
        }
        match question {
            Question::NewPayee { name, money } => self.new_payee_answered(name, money, reaction),
            Question::Which { payees, money } => self.which_answered(payees, money, reaction),
            Question::HowMuch { who } => match reaction {
                Reaction::Amount(Ok(money)) => self.pay(&who, money),
                Reaction::Amount(Err(problem)) => {
                    let text = format!("{} How much shall I pay {who}?", explain(problem));
                    self.ask(Question::HowMuch { who }, text)
                }
                _ => {
                    let text =
                        format!("I did not understand the amount. How much shall I pay {who}?");
                    self.ask(Question::HowMuch { who }, text)
                }
            },
            Question::Whom { money } => match reaction {
                Reaction::Words(who) if !who.is_empty() => self.pay(&who, money),
                _ => self.ask(
                    Question::Whom { money },
                    format!("I need a name. Whom shall I pay {money}?"),
                ),
            },
            Question::PayeeName => match reaction {
                Reaction::Words(name) if !name.is_empty() => {
                    let email = name.contains('@').then(|| name.clone());
                    self.create_payee(email.is_none().then_some(name), email)
                }
                _ => self.ask(Question::PayeeName, "I need the payee's name or email."),
            },
        }
    }

    fn new_payee_answered(&mut self, name: String, money: Money, reaction: Reaction) -> Answer {
        match reaction {
            Reaction::Yes => {
                if let Some(refusal) = self.lacks("write_create_payee", "create payees") {
                    return refusal;
                }
                if !self.ledger.find_payees(&name).is_empty() {
                    // Someone created them in the meantime.
                    return self.pay(&name, money);
                }
                let email = name.contains('@').then_some(name.as_str());
                let payee = self.ledger.create_payee(&name, email);
                let Answer { state, text } = self.pay_payee(&payee, money);
                Answer { state, text: format!("Created the payee {}. {text}", payee.name) }
            }
            Reaction::Words(other) if !other.is_empty() => self.pay(&other, money),
            _ => self.ask_about_new(name, money),
        }
    }

    fn which_answered(&mut self, payees: Vec<Payee>, money: Money, reaction: Reaction) -> Answer {
        let chosen = match reaction {
            Reaction::Place(place) => payees.get(place).cloned(),
            Reaction::Last => payees.last().cloned(),
            // "2" alone is read as an amount, and means the second here.
            Reaction::Amount(Ok(number)) => payees
                .iter()
                .zip(1u32..)
                .find(|(_, place)| number.amount == Decimal::from(*place))
                .map(|(payee, _)| payee.clone()),
            Reaction::Words(who) => {
                let mut named = self.ledger.find_payees(&who);
                named.retain(|payee| payees.iter().any(|one| one.id == payee.id));
                match named.len() {
                    1 => named.pop(),
                    _ => None,
                }
            }
            _ => None,
        };
        match chosen {
            Some(payee) => self.pay_payee(&payee, money),
            None => self.ask_which(payees, money),
        }
    }

    fn ask(&mut self, question: Question, text: impl Into<String>) -> Answer {
        *self.question = Some(question);
        Answer { state: TaskState::InputRequired, text: text.into() }
    }

    fn ask_about_new(&mut self, name: String, money: Money) -> Answer {
        let text = format!(
            "There is no payee named {name}. Shall I create them and pay {money}? Answer yes or no, or name another payee."
        );
        self.ask(Question::NewPayee { name, money }, text)
    }

    fn ask_which(&mut self, payees: Vec<Payee>, money: Money) -> Answer {
        let mut text = format!("Which one shall I pay {money}?");
        for (place, payee) in payees.iter().enumerate() {
            text.push_str(&format!("\n{}. {}", place + 1, payee.described()));
        }
        self.ask(Question::Which { payees, money }, text)
    }

    /// The refusal where the token does not cover what is asked.
    fn lacks(&self, scope: &str, what: &str) -> Option<Answer> {
        if self.scopes.contains(scope) {
            return None;
        }
        let text =
            format!("This token may not {what}: it lacks the scope {scope}. Nothing was done.");
        Some(Answer { state: TaskState::Failed, text })
    }

    fn balance(&self) -> Answer {
        if let Some(refusal) = self.lacks("read_balance", "read balances") {
            return refusal;
        }
        let balance = dollars(self.ledger.balance());
        let name = self.ledger.wallets().first().map_or("wallet", |wallet| &wallet.name);
        done(format!("You have {balance} in your wallet \"{name}\"."))
    }

    fn wallets(&self) -> Answer {
        if let Some(refusal) = self.lacks("read_list_wallets", "list wallets") {
            return refusal;
        }
        let wallets = self.ledger.wallets();
        let mut text = match wallets.len() {
            1 => "You have 1 wallet:".to_owned(),
            count => format!("You have {count} wallets:"),
        };
        let with_balance = self.lacks("read_balance", "").is_none();
        for (place, wallet) in wallets.iter().enumerate() {
            text.push_str(&format!("\n{}. {}", place + 1, wallet.name));
            if with_balance {
                text.push_str(&format!(": {}", dollars(wallet.balance)));
            }
        }
        done(text)
    }

    fn payees(&self) -> Answer {
        if let Some(refusal) = self.lacks("read_list_payees", "list payees") {
            return refusal;
        }
        let payees = self.ledger.payees();
        if payees.is_empty() {
            return done("You have no payees yet.");
        }
        let mut text = match payees.len() {
            1 => "You have 1 payee:".to_owned(),
            count => format!("You have {count} payees:"),
        };
        for (place, payee) in payees.iter().enumerate() {
            text.push_str(&format!("\n{}. {}", place + 1, payee.described()));
        }
        done(text)
    }

    fn create_payee(&mut self, name: Option<String>, email: Option<String>) -> Answer {
        if let Some(refusal) = self.lacks("write_create_payee", "create payees") {
            return refusal;
        }
        let Some(name) = name.or_else(|| email.clone()) else {
            return self.ask(Question::PayeeName, "What is the payee's name or email?");
        };
        if let Some(payee) = self.ledger.same_payee(&name, email.as_deref()) {
            return done(format!(
                "There is a payee {} already. Nothing was created.",
                payee.described()
            ));
        }
        let payee = self.ledger.create_payee(&name, email.as_deref());
        done(format!("Created the payee {}.", payee.described()))
    }

    fn pay(&mut self, who: &str, money: Money) -> Answer {
        if let Some(refusal) = self.lacks("write_send_payment", "send payments") {
            return refusal;
        }
        let mut payees = self.ledger.find_payees(who);
        match (payees.pop(), payees.is_empty()) {
            (None, _) => self.ask_about_new(who.to_owned(), money),
            (Some(payee), true) => self.pay_payee(&payee, money),
            (Some(last), false) => {
                payees.push(last);
                self.ask_which(payees, money)
            }
        }
    }

    fn pay_payee(&mut self, payee: &Payee, money: Money) -> Answer {
        if let Some(refusal) = self.lacks("write_send_payment", "send payments") {
            return refusal;
        }
        let name = &payee.name;
        match self.ledger.pay(payee, money, self.approval_limit, self.task_id) {
            Ok(payment) if payment.status == PaymentStatus::AwaitingApproval => done(format!(
                "The payment of {money} to {name} is over the limit of {} and awaits approval. \
                 No money has moved yet. Payment {}.",
                dollars(self.approval_limit),
                payment.id
            )),
            Ok(payment) => {
                let balance = dollars(self.ledger.balance());
                done(format!(
                    "Paid {money} to {name}. Your wallet now holds {balance}. Payment {}.",
                    payment.id
                ))
            }
            Err(InsufficientFunds { balance }) => Answer {
                state: TaskState::Failed,
                text: format!(
                    "Insufficient funds: {money} to {name} is more than the {} in your wallet. Nothing was paid.",
                    dollars(balance)
                ),
            },
        }
    }

    fn transactions(&self, count: usize) -> Answer {
        if let Some(refusal) = self.lacks("read_list_transactions", "list transactions") {
            return refusal;
        }
        let payments = self.ledger.payments();
        if payments.is_empty() {
            return done("There are no transactions yet.");
        }
        let shown = count.min(payments.len());
        let mut text = match shown {
            1 => "Your last transaction:".to_owned(),
            _ => format!("Your last {shown} transactions, the newest first:"),
        };
        for (place, payment) in payments.iter().rev().take(shown).enumerate() {
            let money = Money { amount: payment.amount, currency: payment.currency };
            let status = match payment.status {
                PaymentStatus::Completed => "completed",
                PaymentStatus::AwaitingApproval => "awaiting approval",
            };
            text.push_str(&format!(
                "\n{}. {money} to {}, {status}, {}",
                place + 1,
                payment.payee,
                payment.timestamp
            ));
        }
        done(text)
    }

    fn recall(&self) -> Answer {
        if self.session.is_empty() {
            return done("We have not talked about anything yet in this session.");
        }
        let skipped = self.session.len().saturating_sub(RECALLED);
        let mut text = "Earlier in this session:".to_owned();
        for Exchange { asked, answered } in self.session.iter().skip(skipped) {
            let answered = answered.lines().next().unwrap_or_default();
            text.push_str(&format!("\n- You said \"{asked}\", and I answered: {answered}"));
        }
        done(text)
    }
}

fn done(text: impl Into<String>) -> Answer {
    Answer { state: TaskState::Completed, text: text.into() }
}

fn explain(problem: Problem) -> &'static str {
    match problem {
        Problem::DecodeError => {
            "I cannot read that amount with certainty: write it like $1,234.50. Nothing was paid."
        }
        Problem::NotPositive => "An amount has to be more than zero. Nothing was paid.",
        Problem::TooPrecise => "An amount has at most two decimals. Nothing was paid.",
        Problem::OtherCurrency => {
            "I can pay only in US dollars (USD) or test dollars (TSD). Nothing was paid."
        }
        Problem::Several => {
            "I make one payment at a time: name one payee and one amount. Nothing was paid."
        }
    }
}
