//! Wallets, payees and payments, in exact decimals.

use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::clock;
use super::money::{Currency, Money};
use crate::ids::TaskId;
use crate::wire::timestamp::Timestamp;

/// A wallet of the emulator.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Wallet {
    /// The id, `wlt-…`.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The currency of the balance.
    pub currency: Currency,
    /// The balance. It is a string in JSON, so that no reader rounds it.
    pub balance: Decimal,
}

/// A payee of the emulator.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Payee {
    /// The id, `pye-…`.
    pub id: String,
    /// The display name; the email address if no name was given.
    pub name: String,
    /// The email address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The time of creation.
    pub timestamp: Timestamp,
}

impl Payee {
    /// Returns the name, with the email address unless it is the name.
    pub(super) fn described(&self) -> String {
        match &self.email {
            Some(email) if *email != self.name => format!("{} ({email})", self.name),
            _ => self.name.clone(),
        }
    }
}

/// The status of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum PaymentStatus {
    /// The money left the wallet.
    Completed,
    /// The amount is over the limit: the payment needs approval, and no money has left the wallet.
    AwaitingApproval,
}

/// A payment of the emulator. An ask that was refused (insufficient funds) creates none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Payment {
    /// The id, `pay-…`.
    pub id: String,
    /// The payee's id.
    pub payee_id: String,
    /// The payee's name at the time of the payment.
    pub payee: String,
    /// The amount. It is a string in JSON, so that no reader rounds it.
    pub amount: Decimal,
    /// The currency of the amount.
    pub currency: Currency,
    /// The id of the wallet that pays.
    pub wallet_id: String,
    /// The task that made the payment.
    pub task_id: TaskId,
    /// The time of the payment.
    pub timestamp: Timestamp,
    /// The status.
    pub status: PaymentStatus,
}

/// The error of a payment above the wallet's balance; nothing was paid.
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

    /// Returns the payee with exactly this name and email address.
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

    /// Returns the payees that `who` may refer to: those with exactly that name or email address,
    /// or else those whose name has all of its words.
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

    /// Makes a payment. Above the limit it awaits approval, and no money leaves the wallet.
    pub(super) fn pay(
        &mut self,
        payee: &Payee,
        money: Money,
        approval_limit: Decimal,
        task_id: &TaskId,
    ) -> Result<Payment, InsufficientFunds> {
        let insufficient = InsufficientFunds { balance: self.wallet.balance };
        let rest = self
            .wallet
            .balance
            .checked_sub(money.amount)
            .filter(|rest| !rest.is_sign_negative())
            .ok_or(insufficient)?;
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
