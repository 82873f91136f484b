//! After a cut: whole snapshots of the task until it has ended.

use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::ask::PreparedAsk;
use crate::delivery::{Platform, PollBackoff, TaskSnapshot, still_running};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::time::instant_after;

/// How long a resubscribed stream may be silent before the task is looked at all the same.
const SILENCE: Duration = Duration::from_secs(15);
/// Between a sign of life and the look: events come in bursts.
const BREATH: Duration = Duration::from_millis(250);

/// Looks for what a stream lost, then follows the task.
pub(super) fn after(
    platform: Arc<Platform>,
    ask: PreparedAsk,
    lost: Error,
    deadline: Instant,
) -> impl Stream<Item = Result<TaskSnapshot>> + Send {
    try_stream! {
        debug!(task_id = %ask.task_id, kind = ?lost.kind(), "the stream was cut: looking at the task");
        let found = platform.recover(&ask, lost, deadline).await?;
        let mut snapshots = Box::pin(from(platform, ask, found, deadline));
        while let Some(found) = snapshots.next().await {
            yield found?;
        }
    }
}

/// Follows a task from where it was found, yielding it whenever it changed.
pub(super) fn from(
    platform: Arc<Platform>,
    ask: PreparedAsk,
    mut found: TaskSnapshot,
    deadline: Instant,
) -> impl Stream<Item = Result<TaskSnapshot>> + Send {
    try_stream! {
        let mut signs = Signs::Unopened;
        loop {
            yield found.clone();
            if !found.task.state().is_running() {
                return;
            }
            if !platform.follows() {
                Err(Error::new(ErrorKind::Interrupted, Outcome::Unknown, "the task is still running, and is not followed")
                    .with_task_id(&ask.task_id))?;
            }
            found = next_change(&platform, &ask, &found, &mut signs, deadline).await?;
        }
    }
}

async fn next_change(
    platform: &Platform,
    ask: &PreparedAsk,
    before: &TaskSnapshot,
    signs: &mut Signs,
    deadline: Instant,
) -> Result<TaskSnapshot> {
    let mut last_seen = Instant::now();
    loop {
        signs.wait(platform, ask, deadline).await?;
        match platform.look_again(ask, deadline).await? {
            Some(now) if now.task != before.task => return Ok(now),
            Some(_) => last_seen = Instant::now(),
            None if last_seen.elapsed() < platform.recovery_timeout() => {}
            None => {
                return Err(Error::new(
                    ErrorKind::Interrupted,
                    Outcome::Unknown,
                    "the platform no longer answers for the task",
                ));
            }
        }
    }
}

/// What says that it is time to look: a resubscribed stream where the server has that, else the clock.
enum Signs {
    Unopened,
    Events(BoxStream<'static, ()>),
    Clock(PollBackoff),
}

impl Signs {
    async fn wait(
        &mut self,
        platform: &Platform,
        ask: &PreparedAsk,
        deadline: Instant,
    ) -> Result<()> {
        if matches!(self, Self::Unopened) {
            *self = Self::open(platform, ask, deadline).await;
        }
        let wait = match self {
            Self::Events(events) => match timeout(SILENCE, events.next()).await {
                Ok(None) => {
                    *self = Self::Clock(PollBackoff::new());
                    Duration::ZERO
                }
                Ok(Some(())) | Err(_) => BREATH,
            },
            Self::Clock(pace) => pace.next_wait(),
            Self::Unopened => Duration::ZERO,
        };
        if instant_after(wait) >= deadline {
            return Err(still_running(&ask.task_id));
        }
        sleep(wait).await;
        Ok(())
    }

    /// What a resubscribed stream appends cannot be trusted to follow what was had: its bytes are a sign of life, no more.
    async fn open(platform: &Platform, ask: &PreparedAsk, deadline: Instant) -> Self {
        let until = instant_after(platform.recovery_timeout()).min(deadline);
        match platform.resubscribe(&ask.task_id, until).await {
            Ok(response) => {
                let chunks =
                    response.bytes_stream().take_while(|chunk| std::future::ready(chunk.is_ok()));
                Self::Events(chunks.map(drop).boxed())
            }
            Err(_) => Self::Clock(PollBackoff::new()),
        }
    }
}
