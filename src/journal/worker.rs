//! Sends reserved asks: any number of workers share a journal.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::client_journal::ClientJournal;
use super::entry::JournalEntry;
use super::keyed::KeyedCall;
use super::sending::Sending;
use super::{ClaimPurpose, JournalClaim, lookup};
use crate::ask::Ask;
use crate::delivery::Platform;
use crate::error::{Error, Result};
use crate::escape::escape_line;
use crate::ids::SessionId;
use crate::reply::Reply;
use crate::time::instant_after;
use crate::wire::request::method;

/// Sends the asks that were reserved in a journal, and looks up those whose outcome is unknown.
///
/// Any number of workers, in any number of processes, share a journal: each reserved ask is taken
/// by one of them. A worker that dies leaves its asks in [`Sending`](crate::JournalState::Sending);
/// the others look them up, and never send them again. An ask that was surely not done goes back to
/// [`Reserved`](crate::JournalState::Reserved) and is sent again later, with growing waits. If a
/// repetition cannot succeed, it stays there, with its [last
/// error](crate::JournalEntry::last_error), until it is [released](crate::Journal::release).
///
/// A reserved ask that names no session is asked in a session of its own.
///
/// ```no_run
/// # use tokio::sync::oneshot::Receiver;
/// # async fn f(client: payman_sdk::Client, shutdown: Receiver<()>) -> payman_sdk::Result<()> {
/// use payman_sdk::JournalWorker;
///
/// JournalWorker::new(client).concurrency(8).run(async { drop(shutdown.await) }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a worker does nothing until it runs"]
pub struct JournalWorker {
    platform: Arc<Platform>,
    journal: Option<ClientJournal>,
    ask: WorkerAsk,
    concurrency: usize,
    interval: Option<Duration>,
    poll_interval: Duration,
    max_attempts: u32,
    drain: Duration,
}

/// A function that sends the ask of an entry that a worker took.
pub(crate) type WorkerAsk =
    Arc<dyn Fn(Ask, KeyedCall) -> BoxFuture<'static, Result<Reply>> + Send + Sync>;

/// The first wait after the journal had nothing to do; doubled up to the poll interval.
const FIRST_IDLE: Duration = Duration::from_millis(10);
/// Every so many claims, the worker searches for unknown outcomes before reserved asks.
const LOOKUP_TURN: u32 = 16;
/// The time limit of one lookup.
const LOOKUP_LIMIT: Duration = Duration::from_secs(20);

impl JournalWorker {
    /// Creates a worker; `ask` sends an ask by the worker's client.
    pub(crate) fn with_parts(
        platform: Arc<Platform>,
        journal: Option<ClientJournal>,
        ask: WorkerAsk,
    ) -> Self {
        Self {
            platform,
            journal,
            ask,
            concurrency: 4,
            interval: None,
            poll_interval: Duration::from_secs(1),
            max_attempts: 20,
            drain: Duration::from_secs(60),
        }
    }

    /// Sets the largest number of asks in progress. Default 4; at least 1.
    ///
    /// ```
    /// # fn f(client: payman_sdk::Client) {
    /// use payman_sdk::JournalWorker;
    ///
    /// let worker = JournalWorker::new(client).concurrency(8);
    /// # }
    /// ```
    pub fn concurrency(mut self, asks: usize) -> Self {
        self.concurrency = asks.max(1);
        self
    }

    /// Sets the largest number of asks per minute, evenly spaced. Default: no limit. 0 counts as 1.
    ///
    /// ```
    /// # fn f(client: payman_sdk::Client) {
    /// use payman_sdk::JournalWorker;
    ///
    /// let worker = JournalWorker::new(client).per_minute(30); // one every two seconds
    /// # }
    /// ```
    pub fn per_minute(mut self, asks: u32) -> Self {
        self.interval = Some(Duration::from_secs(60) / asks.max(1));
        self
    }

    /// Sets the time between two searches for reserved asks if no notification wakes the worker.
    /// Default 1 s.
    ///
    /// ```
    /// # fn f(client: payman_sdk::Client) {
    /// use std::time::Duration;
    /// use payman_sdk::JournalWorker;
    ///
    /// let worker = JournalWorker::new(client).poll_interval(Duration::from_millis(200));
    /// # }
    /// ```
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval.max(FIRST_IDLE);
        self
    }

    /// Sets the largest number of attempts for an ask that was surely not done. Default 20.
    ///
    /// ```
    /// # fn f(client: payman_sdk::Client) {
    /// use payman_sdk::JournalWorker;
    ///
    /// let worker = JournalWorker::new(client).max_attempts(5);
    /// # }
    /// ```
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Sets the time limit of asks in progress after the shutdown signal. Default 60 s.
    ///
    /// An ask that is still in progress then stays in [`Sending`](crate::JournalState::Sending),
    /// and is looked up later.
    ///
    /// ```
    /// # fn f(client: payman_sdk::Client) {
    /// use std::time::Duration;
    /// use payman_sdk::JournalWorker;
    ///
    /// let worker = JournalWorker::new(client).drain_timeout(Duration::from_secs(20));
    /// # }
    /// ```
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Runs until `shutdown` completes; then begins no more asks, and ends when those in progress
    /// have ended, or their [time](Self::drain_timeout) has passed.
    ///
    /// If the journal or the platform fails, it waits and tries again.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// use payman_sdk::JournalWorker;
    ///
    /// let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    /// JournalWorker::new(client).run(ctrl_c).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a client without a journal.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Some(journal) = self.journal.clone() else {
            return Err(Error::invalid_input("a worker needs a journal: Config::journal"));
        };
        let mut run = Run {
            worker: &self,
            journal: &journal,
            steps: FuturesUnordered::new(),
            in_progress: 0,
            claim: ClaimStep::Due,
            idle: FIRST_IDLE,
            claims: 0,
            next_send: Instant::now(),
        };
        let mut shutdown = pin!(shutdown);
        let mut woken = journal.journal().reserved();
        loop {
            run.start_claim();
            let due = run.claim_due();
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(step) = run.steps.next(), if !run.steps.is_empty() => run.take(step),
                () = &mut woken => {
                    run.wake();
                    woken = journal.journal().reserved();
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    run.claim = ClaimStep::Due;
                }
            }
        }
        drop(woken);
        run.drain().await;
        Ok(())
    }
}

impl fmt::Debug for JournalWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalWorker")
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// A future that the worker waits for. A claim is never dropped before it completes, since it may
/// have been stored.
enum WorkStep {
    Claimed(Result<Option<Box<WorkItem>>>),
    Done,
}

enum WorkItem {
    ToSend(JournalEntry),
    ToLookUp(JournalEntry),
}

enum ClaimStep {
    /// The next claim may begin.
    Due,
    InProgress,
    /// The last claim found no entry.
    IdleUntil(Instant),
}

struct Run<'w> {
    worker: &'w JournalWorker,
    journal: &'w ClientJournal,
    steps: FuturesUnordered<BoxFuture<'w, WorkStep>>,
    in_progress: usize,
    claim: ClaimStep,
    idle: Duration,
    claims: u32,
    next_send: Instant,
}

impl<'w> Run<'w> {
    fn start_claim(&mut self) {
        let has_room = self.in_progress < self.worker.concurrency;
        if !has_room || !matches!(self.claim, ClaimStep::Due) {
            return;
        }
        self.claims = self.claims.wrapping_add(1);
        self.claim = ClaimStep::InProgress;
        let (worker, journal) = (self.worker, self.journal);
        let may_send = Instant::now() >= self.next_send;
        let lookups_first = self.claims.is_multiple_of(LOOKUP_TURN);
        self.steps.push(Box::pin(async move {
            WorkStep::Claimed(claim(worker, journal, may_send, lookups_first).await)
        }));
    }

    /// Returns the time at which an idle worker claims again.
    fn claim_due(&self) -> Option<Instant> {
        match self.claim {
            ClaimStep::IdleUntil(due) => Some(due),
            ClaimStep::Due | ClaimStep::InProgress => None,
        }
    }

    fn wake(&mut self) {
        self.idle = FIRST_IDLE;
        if let ClaimStep::IdleUntil(_) = self.claim {
            self.claim = ClaimStep::Due;
        }
    }

    fn take(&mut self, step: WorkStep) {
        match step {
            WorkStep::Done => self.in_progress = self.in_progress.saturating_sub(1),
            WorkStep::Claimed(Ok(Some(claimed))) => {
                self.claim = ClaimStep::Due;
                self.idle = FIRST_IDLE;
                self.in_progress = self.in_progress.saturating_add(1);
                if let (WorkItem::ToSend(_), Some(interval)) = (&*claimed, self.worker.interval) {
                    self.next_send = instant_after(interval);
                }
                self.steps.push(Box::pin(handle(self.worker, self.journal, *claimed)));
            }
            WorkStep::Claimed(nothing) => {
                if let Err(error) = nothing {
                    warn!(%error, "the journal's worker cannot go on, and tries again");
                }
                let mut due = instant_after(self.idle);
                if self.next_send > Instant::now() {
                    due = due.min(self.next_send);
                }
                self.claim = ClaimStep::IdleUntil(due);
                self.idle = self.idle.saturating_mul(2).min(self.worker.poll_interval);
            }
        }
    }

    async fn drain(&mut self) {
        let mut limit = pin!(tokio::time::sleep(self.worker.drain));
        while !self.steps.is_empty() {
            let step = tokio::select! {
                biased;
                step = self.steps.next() => step,
                () = &mut limit => {
                    warn!(asks = self.in_progress, "a worker ends with asks in progress");
                    return;
                }
            };
            // The entry that was claimed last was not sent, so it is made available to other
            // workers.
            if let Some(WorkStep::Claimed(Ok(Some(claimed)))) = step
                && let WorkItem::ToSend(entry) = *claimed
            {
                let journal = self.journal;
                self.steps.push(Box::pin(async move {
                    Sending::new(journal, entry, Some(u32::MAX)).give_back().await;
                    WorkStep::Done
                }));
            }
        }
    }
}

async fn claim(
    worker: &JournalWorker,
    journal: &ClientJournal,
    may_send: bool,
    lookups_first: bool,
) -> Result<Option<Box<WorkItem>>> {
    // The token is obtained first: without one nothing can be sent, and an entry that was claimed
    // in vain would have to be looked up.
    worker.platform.request_token(instant_after(LOOKUP_LIMIT)).await?;
    let send = async || {
        if !may_send {
            return Ok(None);
        }
        let claim = JournalClaim::new(ClaimPurpose::Send, journal.identity().clone());
        Ok(journal.journal().claim(&claim).await?.map(WorkItem::ToSend).map(Box::new))
    };
    let look_up = async || {
        let claim = JournalClaim::new(ClaimPurpose::LookUp, journal.identity().clone());
        Ok::<_, Error>(journal.journal().claim(&claim).await?.map(WorkItem::ToLookUp).map(Box::new))
    };
    if lookups_first {
        return match look_up().await? {
            Some(claimed) => Ok(Some(claimed)),
            None => send().await,
        };
    }
    match send().await? {
        Some(claimed) => Ok(Some(claimed)),
        None => look_up().await,
    }
}

async fn handle(worker: &JournalWorker, journal: &ClientJournal, claimed: WorkItem) -> WorkStep {
    match claimed {
        WorkItem::ToSend(entry) => {
            let task_id = entry.task_id.clone();
            let session = entry.session_id.clone().unwrap_or_default();
            let ask = Ask::from_stored(entry.ask.clone(), task_id.clone()).session(session);
            let call = KeyedCall::claimed(journal, entry, worker.max_attempts);
            match (worker.ask)(ask, call).await {
                Ok(reply) => {
                    let state = escape_line(reply.state().as_str());
                    debug!(%task_id, %state, "a reserved ask was answered");
                }
                Err(error) => warn!(%task_id, %error, "a reserved ask was not answered"),
            }
        }
        WorkItem::ToLookUp(entry) => {
            let ask = Ask::from_stored(entry.ask.clone(), entry.task_id.clone());
            let platform = &worker.platform;
            match ask.prepare(method::SEND, &SessionId::new(), &platform.ask_defaults) {
                Ok(mut ask) => {
                    let until = instant_after(LOOKUP_LIMIT);
                    lookup::check(platform, journal, entry, &mut ask.context, until).await;
                }
                Err(error) => warn!(%error, "the journal holds an ask that cannot be looked up"),
            }
        }
    }
    WorkStep::Done
}
