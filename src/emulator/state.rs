//! What the emulator knows, for tests to look at.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ledger::{Payee, Payment, Wallet};
use super::settings::Operation;
use crate::ids::TaskId;
use crate::wire::Metadata;
use crate::wire::task::Task;

/// What the emulator knows at one moment; `GET /_emulator/state` gives the same as JSON, in camelCase.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EmulatorState {
    /// The wallets.
    pub wallets: Vec<Wallet>,
    /// The payees, in the order of their creation.
    pub payees: Vec<Payee>,
    /// The payments, in the order they were made.
    pub payments: Vec<Payment>,
    /// The tasks with their whole history, in the order of their first request.
    pub tasks: Vec<Task>,
    /// For each task, how many `send` and `sendSubscribe` requests reached the agent.
    pub sends: BTreeMap<TaskId, u64>,
    /// For each task, the metadata of each of those requests.
    pub request_metadata: BTreeMap<TaskId, Vec<Metadata>>,
    /// For each operation, how many requests arrived, whatever then became of them.
    pub requests: BTreeMap<Operation, u64>,
    /// How many requests arrived at the token endpoint.
    pub token_requests: u64,
    /// How often a refresh token was used that had been replaced by a newer one.
    pub refresh_reuses: u64,
}

impl EmulatorState {
    /// A task, by its id.
    #[must_use]
    pub fn task(&self, id: impl AsRef<str>) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == *id.as_ref())
    }
}
