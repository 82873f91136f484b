//! The agent: carries out an intent on the ledger, and answers with text.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::follow_up::{self, FollowUp};
use super::intent::{self, Intent};
use super::ledger::{InsufficientFunds, Ledger, Payee, PaymentStatus};
use super::money::{AmountError, Money, dollars};
use crate::ids::TaskId;
use crate::wire::state::TaskState;

/// One message of a session and the agent's answer.
#[derive(Clone, Debug)]
pub(super) struct ConversationTurn {
    pub(super) asked: String,
    pub(super) answered: String,
}

/// The largest number of conversation turns that the agent recalls.
const MAX_RECALLED_TURNS: usize = 10;

/// The agent's answer, and the state that it leaves the task in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AgentAnswer {
    pub(super) state: TaskState,
    pub(super) text: String,
}

/// A question that the next message in the task answers.
#[derive(Clone, Debug)]
pub(super) enum PendingQuestion {
    /// A confirmation to create the unknown payee and pay them.
    NewPayee {
        name: String,
        money: Money,
    },
    /// A choice among several matching payees.
    WhichPayee {
        payees: Vec<Payee>,
        money: Money,
    },
    Amount {
        who: String,
    },
    Recipient {
        money: Money,
    },
    PayeeName,
}

impl PendingQuestion {
    /// Returns the name of the payee that the question is about.
    fn payee_name(&self) -> &str {
        match self {
            Self::NewPayee { name, .. } | Self::Amount { who: name } => name,
            Self::WhichPayee { .. } | Self::Recipient { .. } | Self::PayeeName => "",
        }
    }

    /// Returns whether a message with this intent replaces the question instead of answering it.
    fn is_superseded_by(&self, intent: &Intent) -> bool {
        match (intent, self) {
            (Intent::Pay { who: Some(who), money: Some(paid) }, Self::NewPayee { name, money }) => {
                name != who || money != paid
            }
            (Intent::Pay { who: Some(_), money: Some(_) }, _) => true,
            (Intent::CreatePayee { name: Some(created), .. }, Self::NewPayee { name, .. }) => {
                name != created
            }
            (Intent::CreatePayee { name: Some(_), .. }, _) => true,
            (Intent::CreatePayee { email, .. }, _) => email.is_some(),
            _ => false,
        }
    }
}

/// The data that the agent works on, and the permissions that it has.
pub(super) struct AgentContext<'a> {
    pub(super) ledger: &'a mut Ledger,
    pub(super) session: &'a [ConversationTurn],
    pub(super) question: &'a mut Option<PendingQuestion>,
    pub(super) scopes: &'a BTreeSet<String>,
    pub(super) approval_limit: Decimal,
    pub(super) task_id: &'a TaskId,
}

const ABILITIES: &str = "I am the Payman emulator's agent, and I understand only a few things: \
\"How much money do I have in my wallet?\", \"List all wallets\", \"List all payees\", \
\"Create a payee named Tyllen\", \"Pay Tyllen $50\", \"Show my last 5 transactions\" and \
\"What did we talk about earlier?\". Nothing was done.";

impl AgentContext<'_> {
    /// Carries out a message and returns the answer.
    pub(super) fn answer(mut self, text: &str) -> AgentAnswer {
        match self.question.take() {
            Some(question) => self.continue_with(question, text),
            None => self.act(intent::parse(text)),
        }
    }

    fn act(&mut self, intent: Intent) -> AgentAnswer {
        match intent {
            Intent::Balance => self.balance(),
            Intent::ListWallets => self.wallets(),
            Intent::ListPayees => self.payees(),
            Intent::CreatePayee { name, email } => self.create_payee(name, email),
            Intent::Pay { who: Some(who), money: Some(money) } => self.pay(&who, money),
            Intent::Pay { who: Some(who), money: None } => {
                let text = format!("How much shall I pay {who}?");
                self.ask(PendingQuestion::Amount { who }, text)
            }
            Intent::Pay { who: None, money: Some(money) } => {
                self.ask(PendingQuestion::Recipient { money }, format!("Whom shall I pay {money}?"))
            }
            Intent::Pay { who: None, money: None } => {
                done("Tell me whom to pay, and how much. Nothing was paid.")
            }
            Intent::CannotPay(error) => done(explain(error)),
            Intent::Transactions { count } => self.transactions(count),
            Intent::Recall => self.recall(),
            Intent::Unknown => done(ABILITIES),
        }
    }

    fn continue_with(&mut self, question: PendingQuestion, text: &str) -> AgentAnswer {
        // A new order replaces the question, unless it repeats the order that the question is
        // about.
        let intent = intent::parse(text);
        if question.is_superseded_by(&intent) {
            return self.act(intent);
        }
        let repeats = matches!(intent, Intent::Pay { who: Some(_), money: Some(_) });
        let reply = match repeats {
            true => FollowUp::Yes,
            false => follow_up::parse(text, question.payee_name()),
        };
        if reply == FollowUp::No {
            return done("All right. Nothing was done.");
        }
        match question {
            PendingQuestion::NewPayee { name, money } => self.answer_new_payee(name, money, reply),
            PendingQuestion::WhichPayee { payees, money } => {
                self.answer_which_payee(payees, money, reply)
            }
            PendingQuestion::Amount { who } => match reply {
                FollowUp::Amount(Ok(money)) => self.pay(&who, money),
                FollowUp::Amount(Err(error)) => {
                    let text = format!("{} How much shall I pay {who}?", explain(error));
                    self.ask(PendingQuestion::Amount { who }, text)
                }
                _ => {
                    let text =
                        format!("I did not understand the amount. How much shall I pay {who}?");
                    self.ask(PendingQuestion::Amount { who }, text)
                }
            },
            PendingQuestion::Recipient { money } => match reply {
                FollowUp::Text(who) if !who.is_empty() => self.pay(&who, money),
                _ => self.ask(
                    PendingQuestion::Recipient { money },
                    format!("I need a name. Whom shall I pay {money}?"),
                ),
            },
            PendingQuestion::PayeeName => match reply {
                FollowUp::Text(name) if !name.is_empty() => {
                    let email = name.contains('@').then(|| name.clone());
                    self.create_payee(email.is_none().then_some(name), email)
                }
                _ => self.ask(PendingQuestion::PayeeName, "I need the payee's name or email."),
            },
        }
    }

    fn answer_new_payee(&mut self, name: String, money: Money, reply: FollowUp) -> AgentAnswer {
        match reply {
            FollowUp::Yes => {
                if let Some(refusal) = self.refuse_without("write_create_payee", "create payees") {
                    return refusal;
                }
                if !self.ledger.find_payees(&name).is_empty() {
                    // Another request created them in the meantime.
                    return self.pay(&name, money);
                }
                let email = name.contains('@').then_some(name.as_str());
                let payee = self.ledger.create_payee(&name, email);
                let AgentAnswer { state, text } = self.pay_payee(&payee, money);
                AgentAnswer { state, text: format!("Created the payee {}. {text}", payee.name) }
            }
            FollowUp::Text(other) if !other.is_empty() => self.pay(&other, money),
            _ => self.ask_new_payee(name, money),
        }
    }

    fn answer_which_payee(
        &mut self,
        payees: Vec<Payee>,
        money: Money,
        reply: FollowUp,
    ) -> AgentAnswer {
        let chosen = match reply {
            FollowUp::Ordinal(place) => payees.get(place).cloned(),
            FollowUp::Last => payees.last().cloned(),
            // "2" alone parses as an amount, and means the second payee here.
            FollowUp::Amount(Ok(number)) => payees
                .iter()
                .zip(1u32..)
                .find(|(_, place)| number.amount == Decimal::from(*place))
                .map(|(payee, _)| payee.clone()),
            FollowUp::Text(who) => {
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
            None => self.ask_which_payee(payees, money),
        }
    }

    fn ask(&mut self, question: PendingQuestion, text: impl Into<String>) -> AgentAnswer {
        *self.question = Some(question);
        AgentAnswer { state: TaskState::InputRequired, text: text.into() }
    }

    fn ask_new_payee(&mut self, name: String, money: Money) -> AgentAnswer {
        let text = format!(
            "There is no payee named {name}. Shall I create them and pay {money}? \
             Answer yes or no, or name another payee."
        );
        self.ask(PendingQuestion::NewPayee { name, money }, text)
    }

    fn ask_which_payee(&mut self, payees: Vec<Payee>, money: Money) -> AgentAnswer {
        let mut text = format!("Which one shall I pay {money}?");
        for (place, payee) in payees.iter().enumerate() {
            text.push_str(&format!("\n{}. {}", place + 1, payee.described()));
        }
        self.ask(PendingQuestion::WhichPayee { payees, money }, text)
    }

    /// Returns the refusal if the token lacks a scope.
    fn refuse_without(&self, scope: &str, what: &str) -> Option<AgentAnswer> {
        if self.scopes.contains(scope) {
            return None;
        }
        let text =
            format!("This token may not {what}: it lacks the scope {scope}. Nothing was done.");
        Some(AgentAnswer { state: TaskState::Failed, text })
    }

    fn balance(&self) -> AgentAnswer {
        if let Some(refusal) = self.refuse_without("read_balance", "read balances") {
            return refusal;
        }
        let balance = dollars(self.ledger.balance());
        let name = self.ledger.wallets().first().map_or("wallet", |wallet| &wallet.name);
        done(format!("You have {balance} in your wallet \"{name}\"."))
    }

    fn wallets(&self) -> AgentAnswer {
        if let Some(refusal) = self.refuse_without("read_list_wallets", "list wallets") {
            return refusal;
        }
        let wallets = self.ledger.wallets();
        let mut text = match wallets.len() {
            1 => "You have 1 wallet:".to_owned(),
            count => format!("You have {count} wallets:"),
        };
        let with_balance = self.refuse_without("read_balance", "").is_none();
        for (place, wallet) in wallets.iter().enumerate() {
            text.push_str(&format!("\n{}. {}", place + 1, wallet.name));
            if with_balance {
                text.push_str(&format!(": {}", dollars(wallet.balance)));
            }
        }
        done(text)
    }

    fn payees(&self) -> AgentAnswer {
        if let Some(refusal) = self.refuse_without("read_list_payees", "list payees") {
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

    fn create_payee(&mut self, name: Option<String>, email: Option<String>) -> AgentAnswer {
        if let Some(refusal) = self.refuse_without("write_create_payee", "create payees") {
            return refusal;
        }
        let Some(name) = name.or_else(|| email.clone()) else {
            return self.ask(PendingQuestion::PayeeName, "What is the payee's name or email?");
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

    fn pay(&mut self, who: &str, money: Money) -> AgentAnswer {
        if let Some(refusal) = self.refuse_without("write_send_payment", "send payments") {
            return refusal;
        }
        let mut payees = self.ledger.find_payees(who);
        match (payees.pop(), payees.is_empty()) {
            (None, _) => self.ask_new_payee(who.to_owned(), money),
            (Some(payee), true) => self.pay_payee(&payee, money),
            (Some(last), false) => {
                payees.push(last);
                self.ask_which_payee(payees, money)
            }
        }
    }

    fn pay_payee(&mut self, payee: &Payee, money: Money) -> AgentAnswer {
        if let Some(refusal) = self.refuse_without("write_send_payment", "send payments") {
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
            Err(InsufficientFunds { balance }) => AgentAnswer {
                state: TaskState::Failed,
                text: format!(
                    "Insufficient funds: {money} to {name} is more than the {} in your wallet. \
                     Nothing was paid.",
                    dollars(balance)
                ),
            },
        }
    }

    fn transactions(&self, count: usize) -> AgentAnswer {
        if let Some(refusal) = self.refuse_without("read_list_transactions", "list transactions") {
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

    fn recall(&self) -> AgentAnswer {
        if self.session.is_empty() {
            return done("We have not talked about anything yet in this session.");
        }
        let skipped = self.session.len().saturating_sub(MAX_RECALLED_TURNS);
        let mut text = "Earlier in this session:".to_owned();
        for ConversationTurn { asked, answered } in self.session.iter().skip(skipped) {
            let answered = answered.lines().next().unwrap_or_default();
            text.push_str(&format!("\n- You said \"{asked}\", and I answered: {answered}"));
        }
        done(text)
    }
}

fn done(text: impl Into<String>) -> AgentAnswer {
    AgentAnswer { state: TaskState::Completed, text: text.into() }
}

fn explain(error: AmountError) -> &'static str {
    match error {
        AmountError::Ambiguous => {
            "I cannot read that amount with certainty: write it like $1,234.50. Nothing was paid."
        }
        AmountError::NotPositive => "An amount has to be more than zero. Nothing was paid.",
        AmountError::TooPrecise => "An amount has at most two decimals. Nothing was paid.",
        AmountError::OtherCurrency => {
            "I can pay only in US dollars (USD) or test dollars (TSD). Nothing was paid."
        }
        AmountError::Several => {
            "I make one payment at a time: name one payee and one amount. Nothing was paid."
        }
    }
}
