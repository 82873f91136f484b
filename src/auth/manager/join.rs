//! Joins the refresh in progress, or starts one in a task of its own.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

use super::refresh::Renewal;
use super::single_flight::{JoinOutcome, JoinedRefresh};
use super::{ManagerInner, events};
use crate::error::{Error, Result};

impl ManagerInner {
    /// Joins the refresh in progress, or starts one on this runtime. Returns the last error while
    /// requests are paused.
    pub(super) fn join_refresh(self: &Arc<Self>) -> Result<JoinedRefresh> {
        let runtime = Handle::try_current().map_err(|_| Error::no_runtime())?;
        let (joined, guard) = match self.join_or_start()? {
            JoinOutcome::Joined(joined) => return Ok(joined),
            JoinOutcome::Started(joined, guard) => (joined, guard),
        };
        // Spawned outside the lock: a runtime that is shutting down drops the task at once, and the
        // guard's destructor takes the lock.
        let span = events::span();
        runtime.spawn(async move {
            let manager = guard.manager();
            let started = Instant::now();
            let result = Renewal::new(&manager, &guard).run().instrument(span.clone()).await;
            events::refresh_completed(span, manager.read().token.generation, &result, started);
            guard.complete(result);
            manager.keep_committing().await;
        });
        Ok(joined)
    }
}
