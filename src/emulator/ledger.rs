//! The books: wallets, payees and payments, in exact decimals.

use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::clock;
use super::money::{Currency, Money};
use crate::ids::TaskId;
use crate::wire::timestamp::Timestamp;

/// A wallet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Wallet {
    /// Its id, `wlt-…`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it holds.
    pub currency: Currency,
    /// How much it holds. As JSON it is a string, so that no reader rounds it.
    pub balance: Decimal,
}

/// Someone who can be paid.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Payee {
    /// Its id, `pye-…`.
    pub id: String,
    /// What people call them; their email where no name was given.
    pub name: String,
    /// Their email.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// When they were created.
    pub timestamp: Timestamp,
}

impl Payee {
    /// The name, with the email where that says more.
    pub(super) fn described(&self) -> String {
        match &self.email {
            Some(email) if *email != self.name => format!("{} ({email})", self.name),
            _ => self.name.clone(),
        }
    }
}

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum PaymentStatus {
    /// The money left the wallet.
    Completed,
    /// The amount is over the limit: someone has to approve it, and no money has left the wallet.
    AwaitingApproval,
}

/// A payment. An ask that was turned down (for lack of funds, say) leaves none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Payment {
    /// Its id, `pay-…`.
    pub id: String,
    /// Who is paid: the payee's id.
    pub payee_id: String,
    /// Who is paid: the payee's name at the time.
    pub payee: String,
    /// How much. As JSON it is a string, so that no reader rounds it.
    pub amount: Decimal,
    /// In what money.
    pub currency: Currency,
    /// Out of which wallet.
    pub wallet_id: String,
    /// The task that it was made in.
    pub task_id: TaskId,
    /// When it was made.
    pub timestamp: Timestamp,
    /// What became of it.
    pub status: PaymentStatus,
}

/// Why nothing was paid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct InsufficientFunds {
    pub(super) balance: Decimal,
}

pub(super) struct Ledger {
    wallet: Wallet,
    payees: Vec<Payee>,
    payments: Vec<Payment>,
}

impl Ledger {
    pub(super) fn new(opening_balance: Decimal) -> Self {
        let wallet = Wallet {
            id: mint("wlt"),
            name: "Main wallet".to_owned(),
            currency: Currency::Usd,
            balance: opening_balance,
        };
        Self { wallet, payees: Vec::new(), payments: Vec::new() }
    }

    pub(super) fn wallets(&self) -> &[Wallet] {
        std::slice::from_ref(&self.wallet)
    }

    pub(super) fn balance(&self) -> Decimal {
        self.wallet.balance
    }

    pub(super) fn payees(&self) -> &[Payee] {
        &self.payees
    }

    pub(super) fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// The payee of exactly that name and email.
    pub(super) fn same_payee(&self, name: &str, email: Option<&str>) -> Option<&Payee> {
        self.payees.iter().find(|payee| {
            same(&payee.name, name)
                && match (&payee.email, email) {
                    (Some(have), Some(want)) => same(have, want),
                    (None, None) => true,
                    _ => false,
                }
        })
    }

    pub(super) fn create_payee(&mut self, name: &str, email: Option<&str>) -> Payee {
        let payee = Payee {
            id: mint("pye"),
            name: name.to_owned(),
            email: email.map(str::to_owned),
            timestamp: clock::now(),
        };
        self.payees.push(payee.clone());
        payee
    }

    /// Everyone who may be meant: of exactly that name or email, or else with all of its words in the name.
    pub(super) fn find_payees(&self, who: &str) -> Vec<Payee> {
        let exact: Vec<Payee> = self
            .payees
            .iter()
            .filter(|payee| {
                same(&payee.name, who)
                    || payee.email.as_deref().is_some_and(|email| same(email, who))
            })
            .cloned()
            .collect();
        if !exact.is_empty() {
            return exact;
        }
        let wanted: Vec<String> = who.split_whitespace().map(str::to_lowercase).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        self.payees
            .iter()
            .filter(|payee| {
                let name = payee.name.to_lowercase();
                wanted.iter().all(|word| name.split_whitespace().any(|part| part == word))
            })
            .cloned()
            .collect()
    }

    /// Pays, or notes a payment that someone has to approve: then no money leaves the wallet.
    pub(super) fn pay(
        &mut self,
        payee: &Payee,
        money: Money,
        approval_limit: Decimal,
        task_id: &TaskId,
    ) -> Result<Payment, InsufficientFunds> {
        let short = InsufficientFunds { balance: self.wallet.balance };
        let rest = self
            .wallet
            .balance
            .checked_sub(money.amount)
            .filter(|rest| !rest.is_sign_negative())
            .ok_or(short)?;
        let status = if money.amount > approval_limit {
            PaymentStatus::AwaitingApproval
        } else {
            self.wallet.balance = rest;
            PaymentStatus::Completed
        };
        let payment = Payment {
            id: mint("pay"),
            payee_id: payee.id.clone(),
            payee: payee.name.clone(),
            amount: money.amount,
            currency: money.currency,
            wallet_id: self.wallet.id.clone(),
            task_id: task_id.clone(),
            timestamp: clock::now(),
            status,
        };
        self.payments.push(payment.clone());
        Ok(payment)
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn mint(prefix: &str) -> String {
    format!("{prefix}-{}", Uuid::new_v4().hyphenated())
}
