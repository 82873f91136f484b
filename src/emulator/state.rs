//! A snapshot of the emulator's state, for assertions in tests.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ledger::{Payee, Payment, Wallet};
use super::settings::Operation;
use crate::ids::TaskId;
use crate::wire::Metadata;
use crate::wire::task::Task;

/// A snapshot of the emulator's state, from [`Emulator::state`](super::Emulator::state).
///
/// `GET /_emulator/state` returns the same fields as JSON, in camelCase.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EmulatorState {
    /// The wallets.
    pub wallets: Vec<Wallet>,
    /// The payees, in the order of their creation.
    pub payees: Vec<Payee>,
    /// The payments, in the order in which they were made.
    pub payments: Vec<Payment>,
    /// The tasks with their whole history, in the order of their first request.
    pub tasks: Vec<Task>,
    /// The number of `send` and `sendSubscribe` requests that reached the agent, by task.
    pub sends: BTreeMap<TaskId, u64>,
    /// The metadata of each of those requests, by task.
    pub request_metadata: BTreeMap<TaskId, Vec<Metadata>>,
    /// The number of requests that arrived, by operation, including those that a fault answered.
    pub requests: BTreeMap<Operation, u64>,
    /// The number of requests that arrived at the token endpoint.
    pub token_requests: u64,
    /// The number of uses of refresh tokens that a newer one had replaced.
    pub refresh_reuses: u64,
}

impl EmulatorState {
    /// Returns the task with this id.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// use payman_sdk::{Ask, Emulator, TaskState};
    ///
    /// let payman = Emulator::start().await?;
    /// let ask = Ask::new("List all payees");
    /// let task_id = ask.task_id().clone();
    /// payman.client().ask(ask).await?;
    /// let state = payman.state();
    /// assert_eq!(state.task(&task_id).map(|task| task.state()), Some(&TaskState::Completed));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task(&self, id: impl AsRef<str>) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == *id.as_ref())
    }
}
