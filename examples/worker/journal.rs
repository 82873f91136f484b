//! The queue: a file of JSON lines that is only ever appended to. What it says is on the disk before anything is done about it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use payman_sdk::{TaskId, TaskState};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// One line of the file: what became of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    Queued {
        job: u64,
        text: String,
    },
    /// About to be asked, as this task. From here on the outcome is unknown until another line says it.
    Asking {
        job: u64,
        task_id: TaskId,
    },
    /// Surely not done: it may be asked again, as another task.
    NotDone {
        job: u64,
        why: String,
    },
    /// It may have been done, and nothing tells for now. It is never asked again, only looked up.
    Unclear {
        job: u64,
        why: String,
    },
    /// The agent finished talking.
    Done {
        job: u64,
        state: TaskState,
        text: String,
    },
    /// Given up; surely not done.
    Failed {
        job: u64,
        why: String,
    },
}

#[derive(Clone, Debug)]
pub struct Job {
    pub id: u64,
    pub text: String,
    /// The task that it was asked as, if it may have been.
    pub task_id: Option<TaskId>,
}

pub struct Journal {
    file: Arc<Mutex<File>>,
    jobs: Mutex<Jobs>,
    more: Notify,
}

#[derive(Default)]
struct Jobs {
    open: BTreeMap<u64, Job>,
    waiting: VecDeque<u64>,
    last_id: u64,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// Reads what there is. One process at a time may hold a journal.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another worker has this queue"),
            TryLockError::Error(error) => error,
        })?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that a crash tore was not acted upon: what follows a line's writing did not happen.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        file.seek(io::SeekFrom::End(0))?;
        let mut jobs = Jobs::default();
        for line in text.get(..whole).unwrap_or_default().lines() {
            jobs.apply(serde_json::from_str(line)?);
        }
        jobs.waiting = jobs.open.keys().copied().collect();
        Ok(Self { file: Arc::new(Mutex::new(file)), jobs: Mutex::new(jobs), more: Notify::new() })
    }

    /// Takes a job in. It is queued once this returns, whatever happens then.
    pub async fn add(&self, text: impl Into<String>) -> io::Result<()> {
        let job = {
            let mut jobs = lock(&self.jobs);
            jobs.last_id += 1;
            jobs.last_id
        };
        self.write(Record::Queued { job, text: text.into() }).await?;
        lock(&self.jobs).waiting.push_back(job);
        self.more.notify_one();
        Ok(())
    }

    /// There will be no more jobs.
    pub fn close(&self) {
        lock(&self.jobs).closed = true;
        self.more.notify_one();
    }

    /// The next job; waits for one, until the journal is closed.
    pub async fn next(&self) -> Option<Job> {
        loop {
            {
                let mut jobs = lock(&self.jobs);
                if let Some(id) = jobs.waiting.pop_front() {
                    return jobs.open.get(&id).cloned();
                }
                if jobs.closed {
                    return None;
                }
            }
            self.more.notified().await;
        }
    }

    /// Writes a line to the disk. Dropping this future does not keep the line from being written.
    pub async fn write(&self, record: Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let mut file = lock(&file);
            file.write_all(&line)?;
            file.sync_data()
        })
        .await??;
        lock(&self.jobs).apply(record);
        Ok(())
    }
}

impl Jobs {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Queued { job, text } => {
                self.last_id = self.last_id.max(job);
                self.open.insert(job, Job { id: job, text, task_id: None });
            }
            Record::Asking { job, task_id } => {
                if let Some(job) = self.open.get_mut(&job) {
                    job.task_id = Some(task_id);
                }
            }
            Record::NotDone { job, .. } => {
                if let Some(job) = self.open.get_mut(&job) {
                    job.task_id = None;
                }
            }
            Record::Unclear { .. } => {}
            Record::Done { job, .. } | Record::Failed { job, .. } => {
                self.open.remove(&job);
            }
        }
    }
}
