//! The worker: so many asks at a time, and no ask twice.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use payman_sdk::{Ask, Client, Error, ErrorKind, Reply, TaskId};
use tokio::time::{Instant, sleep};

use crate::journal::{Job, Journal, Record};

#[derive(Clone)]
pub struct Worker {
    pub client: Client,
    pub journal: Arc<Journal>,
    /// How many asks are under way at most.
    pub concurrency: usize,
    /// How long asks under way may take after the signal to stop.
    pub drain: Duration,
    /// How long a task is looked for that the platform does not know, or does not answer for.
    pub patience: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is under way.
    Clean,
    /// The limit passed first: what was under way will be looked up after the next start.
    LeftSome,
}

/// How often a job is asked that was surely not done.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Worker {
    /// Works until the queue is closed and empty, or until `stop`: then no job is begun, and those under way
    /// are finished within the limit.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> io::Result<End> {
        let stop = stop.shared();
        let jobs = stream::unfold(Arc::clone(&self.journal), |journal| async move {
            let job = journal.next().await?;
            Some((job, journal))
        });
        let settle = |job| {
            let worker = self.clone();
            async move { worker.settle(job).await }
        };
        let work = jobs.take_until(stop.clone()).map(settle).buffer_unordered(self.concurrency);
        let work = async {
            futures::pin_mut!(work);
            while let Some(done) = work.next().await {
                done?;
            }
            Ok(End::Clean)
        };
        let limit = stop.then(|()| sleep(self.drain));
        tokio::select! {
            end = work => end,
            () = limit => Ok(End::LeftSome),
        }
    }

    async fn settle(&self, job: Job) -> io::Result<()> {
        let record = match &job.task_id {
            Some(task_id) => self.look(&job, task_id).await,
            None => self.ask(&job).await?,
        };
        let line = serde_json::to_string(&record)?;
        self.journal.write(record).await?;
        // What is printed is for people: a closed terminal stops no payment.
        let _ = writeln!(io::stdout(), "{line}");
        Ok(())
    }

    async fn ask(&self, job: &Job) -> io::Result<Record> {
        let mut wait = FIRST_WAIT;
        for left in (0..TRIES).rev() {
            let ask = Ask::new(&job.text).new_session().metadata("job", job.id);
            let task_id = ask.task_id().clone();
            // On the disk before a byte is sent: whatever happens from here, this ask can be found again.
            self.journal.write(Record::Asking { job: job.id, task_id: task_id.clone() }).await?;
            let error = match self.client.ask(ask).await {
                Ok(reply) => return Ok(done(job, &reply)),
                Err(error) => error,
            };
            if !error.is_safe_to_ask_again() {
                return Ok(self.look(job, &task_id).await);
            }
            let why = error.to_string();
            if left == 0 || is_hopeless(&error) {
                return Ok(Record::Failed { job: job.id, why });
            }
            self.journal.write(Record::NotDone { job: job.id, why }).await?;
            sleep(error.retry_after().unwrap_or(wait).min(LONGEST_WAIT)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        Ok(Record::Failed { job: job.id, why: "tried too often".to_owned() })
    }

    /// Looks at what was asked before: in this run, or by a worker that is gone. Never asks.
    async fn look(&self, job: &Job, task_id: &TaskId) -> Record {
        let mut until = Instant::now() + self.patience;
        let mut wait = FIRST_WAIT / 5;
        loop {
            let why = match self.client.get_task(task_id).await {
                Ok(task) if !task.state().is_running() => return done(job, &Reply::from(task)),
                Ok(_) => {
                    until = Instant::now() + self.patience;
                    "the task is still running".to_owned()
                }
                Err(error) if error.is_unsupported() => return unclear(job, &error.to_string()),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                return unclear(job, &why);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT / 12);
        }
    }
}

/// No other try would fare better: someone has to change something first.
fn is_hopeless(error: &Error) -> bool {
    error.is_auth()
        || matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Rpc | ErrorKind::Http)
}

fn done(job: &Job, reply: &Reply) -> Record {
    Record::Done { job: job.id, state: reply.state().clone(), text: reply.text() }
}

/// Not known is not the same as not done: the ask may have been under way. A person looks at the wallet's transactions.
fn unclear(job: &Job, why: &str) -> Record {
    Record::Unclear { job: job.id, why: why.to_owned() }
}
