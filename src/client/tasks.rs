//! Calls about existing tasks: look up, follow, cancel.

use std::sync::Arc;

use futures::future::BoxFuture;
use tracing::Instrument;

use super::Client;
use crate::ask::AskContext;
use crate::delivery::{Platform, Response};
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::observe::{AskKind, AskObserver};
use crate::stream::{AskStream, Driver};
use crate::time::instant_after;
use crate::wire::task::Task;

/// Existing tasks: lookup, following, cancellation.
impl Client {
    /// Looks a task up: after a crash, or after an error whose outcome is unknown.
    ///
    /// It keeps the client's limits, and repeats a lookup that failed for up to
    /// [`RetryPolicy::recovery_timeout`](crate::RetryPolicy::recovery_timeout).
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let task = client.get_task("tsk-6b7a…").await?;
    /// println!("{}", task.state());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TaskNotFound`](crate::ErrorKind::TaskNotFound) where the server knows no such task;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where it offers no lookups;
    /// [`Protocol`](crate::ErrorKind::Protocol) where it answers with another task.
    pub fn get_task(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<Task>> {
        let (platform, ask) = self.existing_task(id.into());
        Box::pin(async move { platform.get_persistently(&ask?).await.map(|found| found.task) })
    }

    /// Follows an existing task until it no longer runs: a stream of snapshots, one whenever the
    /// task changed. [`into_reply`](AskStream::into_reply) returns the answer.
    ///
    /// After a restart, a program can follow the tasks whose ids it has stored. For a task that has
    /// ended, the stream yields one snapshot.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let reply = client.follow("tsk-6b7a…").await?.into_reply().await?;
    /// println!("{reply}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_task`](Self::get_task). The stream ends in an error of kind
    /// [`Timeout`](crate::ErrorKind::Timeout) at the client's deadline, or when the task makes no
    /// progress for the idle limit.
    pub fn follow(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<AskStream>> {
        let (platform, ask) = self.existing_task(id.into());
        Box::pin(async move {
            let ask = ask?;
            let hook = platform.on_ask_completed.as_ref();
            let mut observer = AskObserver::begin(AskKind::Follow, &ask, hook);
            let deadline = ask.limits().deadline.map(instant_after);
            match platform.get_persistently(&ask).instrument(observer.span()).await {
                Ok(found) => {
                    let response = Response::Task(found);
                    let driver = Driver::new(platform, ask, response, deadline, observer);
                    Ok(AskStream::new(driver))
                }
                Err(error) => {
                    observer.end_failed(&error);
                    Err(error)
                }
            }
        })
    }

    /// Cancels a task. This does not undo what the agent has already done.
    ///
    /// It keeps the client's limits, as [`get_task`](Self::get_task) does.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let task = client.cancel_task("tsk-6b7a…").await?;
    /// println!("{}", task.state());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TaskNotFound`](crate::ErrorKind::TaskNotFound) where the server knows no such task;
    /// [`Rpc`](crate::ErrorKind::Rpc) with code -32002 where the task has already ended;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where it offers no cancellation;
    /// [`Protocol`](crate::ErrorKind::Protocol) where it answers with another task.
    pub fn cancel_task(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<Task>> {
        let (platform, ask) = self.existing_task(id.into());
        Box::pin(async move { platform.cancel(&ask?).await.map(|found| found.task) })
    }

    fn existing_task(&self, id: TaskId) -> (Arc<Platform>, Result<AskContext>) {
        let platform = Arc::clone(self.platform());
        let ask = match id.is_blank() {
            true => Err(Error::invalid_input("the task id is blank")),
            false => {
                let limits = platform.ask_defaults.limits;
                Ok(AskContext::of_task(id, self.0.session.clone(), limits))
            }
        };
        (platform, ask)
    }
}
