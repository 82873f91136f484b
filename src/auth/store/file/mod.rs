//! Tokens in a file, shared by processes of one machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::slot::{Decision, MAX_REFUSED, Slot};
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore, millis};
use crate::auth::clock::{LeaseClock, LeaseTime};
use disk::{lock, read, resolve, write};

mod disk;

const PLACE: &str = "the token file";

/// Keeps tokens in a file that only its owner can read, and shares them among the processes of one
/// machine.
///
/// The file is never written in place: a new one, flushed to the disk, replaces it atomically. A
/// new file has mode 0600; one that exists keeps its owner and mode. A process that changes the
/// file holds a lock on a second file, `<path>.lock`; reading needs no lock. Keep both on a local
/// disk, because network file systems often do not honor locks. The directory must exist and be
/// writable; without it every call fails.
///
/// The path is made absolute when the store is created, and symbolic links are followed: a link
/// stays a link, and all paths to one file share one lock. A file that is mounted by itself (a
/// single file of a container's volume) cannot be replaced, and is an error: mount its directory
/// instead. So is a file with a second hard link, which would keep the old tokens.
///
/// A file that holds something else is an error, and is not changed.
///
/// Leases are counted by this machine's wall clock. A step of the clock, or a sleep of the machine,
/// ends no lease early in processes that were running before; a lease dated in the future is
/// honored for 90 seconds.
///
/// ```no_run
/// use payman_sdk::{Client, Config, FileTokenStore, TokenInfo};
///
/// # fn main() -> payman_sdk::Result<()> {
/// let store = FileTokenStore::new("/var/lib/my-app/tokens.json");
/// let config = Config::new("client-id").subject("alice").token_store(store);
/// let client = Client::with_token(config, TokenInfo::stored())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileTokenStore(Arc<FileStoreInner>);

struct FileStoreInner {
    path: PathBuf,
    clock: LeaseClock,
    queue: Mutex<Queue>,
}

/// The queue of this process's requests. All waiting requests are served with one lock and one
/// write.
#[derive(Default)]
struct Queue {
    waiting: Vec<FileRequest>,
    worker: WorkerState,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum WorkerState {
    #[default]
    Idle,
    /// A worker is running, and will serve all waiting requests.
    Busy,
}

enum FileRequest {
    Claim(TokenKey, u64, oneshot::Sender<Result<Claimed, StoreError>>),
    Commit(Claim, StoredToken, oneshot::Sender<Result<Committed, StoreError>>),
    Release(Claim, oneshot::Sender<Result<(), StoreError>>),
}

/// The answer to a request, which is sent once the file is written.
enum Answer {
    Claimed(Claimed),
    Committed(Committed),
    Released,
}

/// The contents of the file. Slots are parsed on demand, because one request needs one of them.
#[derive(Serialize, Deserialize)]
struct TokenFile {
    version: u32,
    tokens: BTreeMap<String, Box<RawValue>>,
}

const VERSION: u32 = 1;

impl Default for TokenFile {
    fn default() -> Self {
        Self { version: VERSION, tokens: BTreeMap::new() }
    }
}

impl TokenFile {
    fn slot(&self, key: &TokenKey) -> Result<Slot, StoreError> {
        let raw = self.tokens.get(key.as_str());
        raw.map_or_else(|| Ok(Slot::default()), |raw| Slot::from_json(raw.get(), PLACE))
    }

    fn set(&mut self, key: &TokenKey, slot: &Slot) -> Result<(), StoreError> {
        if slot.is_empty() {
            self.tokens.remove(key.as_str());
        } else {
            self.tokens.insert(key.as_str().to_owned(), serde_json::value::to_raw_value(slot)?);
        }
        if slot.refused_at().is_some() {
            self.forget_refused();
        }
        Ok(())
    }

    fn forget_stale(&mut self, now: u64) {
        self.tokens.retain(|_, raw| {
            Slot::from_json(raw.get(), PLACE).map_or(true, |slot| !slot.is_stale(now))
        });
    }

    /// Forgets the oldest records of refused sign-ins, once there are twice as many as are kept.
    fn forget_refused(&mut self) {
        let refused_at =
            |raw: &RawValue| Slot::from_json(raw.get(), PLACE).ok().and_then(|s| s.refused_at());
        let mut refused: Vec<_> = self.tokens.values().filter_map(|raw| refused_at(raw)).collect();
        if refused.len() <= 2 * MAX_REFUSED {
            return;
        }
        refused.sort_unstable();
        let keep_after = refused.get(refused.len() - MAX_REFUSED).copied().unwrap_or_default();
        self.tokens.retain(|_, raw| refused_at(raw).is_none_or(|at| at >= keep_after));
    }
}

impl FileTokenStore {
    /// Creates a store in the file at `path`. The file is made by the first claim or commit.
    ///
    /// ```
    /// use payman_sdk::FileTokenStore;
    ///
    /// let store = FileTokenStore::new("tokens.json");
    /// ```
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // Without a current directory, the path stays relative.
        let path = std::path::absolute(&path).unwrap_or(path);
        let clock = LeaseClock::new(Claim::LEASE);
        Self(Arc::new(FileStoreInner { path, clock, queue: Mutex::default() }))
    }

    /// Returns the path of the file, made absolute.
    ///
    /// ```
    /// use payman_sdk::FileTokenStore;
    ///
    /// println!("{}", FileTokenStore::new("tokens.json").path().display());
    /// ```
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> FileRequest,
    ) -> Result<T, StoreError> {
        let runtime = Handle::try_current()?;
        let (sender, answer) = oneshot::channel();
        let state = {
            let mut queue = self.0.queue();
            queue.waiting.push(request(sender));
            std::mem::replace(&mut queue.worker, WorkerState::Busy)
        };
        if state == WorkerState::Idle {
            let worker = Worker { store: Arc::clone(&self.0), finished: false };
            // The request is completed even if the caller's future is dropped.
            runtime.spawn_blocking(move || worker.work());
        }
        answer
            .await
            .unwrap_or_else(|_| Err("the runtime ended before the token file was written".into()))
    }
}

impl FileStoreInner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the queue until it is empty.
struct Worker {
    store: Arc<FileStoreInner>,
    finished: bool,
}

impl Worker {
    fn work(mut self) {
        loop {
            let waiting = {
                let mut queue = self.store.queue();
                if queue.waiting.is_empty() {
                    queue.worker = WorkerState::Idle;
                    self.finished = true;
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            let undo = serve(&self.store, waiting);
            self.store.queue().waiting.extend(undo);
        }
    }
}

/// Handles a runtime that ends before the worker ran: waiting callers get an error, the next one
/// starts a new worker.
impl Drop for Worker {
    fn drop(&mut self) {
        if !self.finished {
            let mut queue = self.store.queue();
            queue.worker = WorkerState::Idle;
            queue.waiting.clear();
        }
    }
}

/// Serves requests under the lock. Returns the requests that release claims granted to callers
/// whose futures were dropped.
fn serve(store: &FileStoreInner, waiting: Vec<FileRequest>) -> Vec<FileRequest> {
    let mut answers = Vec::with_capacity(waiting.len());
    let mut requests = waiting.into_iter();
    let done = resolve(&store.path).and_then(|path| {
        let _lock = lock(&path)?;
        // Waiting for the lock takes time: a lease begins when it is granted.
        let now = store.clock.now();
        let mut book = read(&path)?;
        let mut changed = false;
        for request in requests.by_ref() {
            match apply(&mut book, &request, now) {
                Ok(decision) => {
                    answers.push((request, decision.answer));
                    changed |= decision.changed;
                }
                Err(error) => request.fail(&error.to_string()),
            }
        }
        if changed {
            // Parsing every slot takes time, and once in many writes is enough.
            if fastrand::u8(..) == 0 {
                book.forget_stale(millis(now.wall));
            }
            write(&path, &book)?;
        }
        Ok(())
    });
    match done {
        Ok(()) => answers
            .into_iter()
            .filter_map(|(request, answer)| send_answer(request, answer))
            .collect(),
        Err(error) => {
            let why = error.to_string();
            answers
                .into_iter()
                .map(|(request, _)| request)
                .chain(requests)
                .for_each(|request| request.fail(&why));
            Vec::new()
        }
    }
}

fn apply(
    book: &mut TokenFile,
    request: &FileRequest,
    now: LeaseTime,
) -> Result<Decision<Answer>, StoreError> {
    let key = match request {
        FileRequest::Claim(key, ..) => key,
        FileRequest::Commit(claim, ..) | FileRequest::Release(claim, ..) => claim.key(),
    };
    let mut slot = book.slot(key)?;
    let decision = match request {
        FileRequest::Claim(key, generation, _) => {
            slot.claim_at(key, *generation, now).map(Answer::Claimed)
        }
        FileRequest::Commit(claim, token, _) => slot.commit(claim, token).map(Answer::Committed),
        FileRequest::Release(claim, _) => slot.release(claim).map(|()| Answer::Released),
    };
    if decision.changed {
        book.set(key, &slot)?;
    }
    Ok(decision)
}

/// Sends an answer. Returns the request that releases a claim whose caller's future was dropped.
fn send_answer(request: FileRequest, answer: Answer) -> Option<FileRequest> {
    match (request, answer) {
        (FileRequest::Claim(_, _, sender), Answer::Claimed(claimed)) => {
            match sender.send(Ok(claimed)) {
                Err(Ok(Claimed::Granted(claim))) => {
                    Some(FileRequest::Release(claim, oneshot::channel().0))
                }
                _ => None,
            }
        }
        (FileRequest::Commit(_, _, sender), Answer::Committed(committed)) => {
            let _ = sender.send(Ok(committed));
            None
        }
        (FileRequest::Release(_, sender), _) => {
            let _ = sender.send(Ok(()));
            None
        }
        _ => None,
    }
}

impl FileRequest {
    fn fail(self, why: &str) {
        match self {
            Self::Claim(_, _, sender) => drop(sender.send(Err(why.into()))),
            Self::Commit(_, _, sender) => drop(sender.send(Err(why.into()))),
            Self::Release(_, sender) => drop(sender.send(Err(why.into()))),
        }
    }
}

/// Written by hand, to show the path only.
impl fmt::Debug for FileTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileTokenStore").field(&self.0.path).finish()
    }
}

impl TokenStore for FileTokenStore {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        let (path, key) = (self.0.path.clone(), key.clone());
        let work = move || Ok(read(&resolve(&path)?)?.slot(&key)?.token().cloned());
        Box::pin(async {
            let work = Handle::try_current()?.spawn_blocking(work);
            work.await.unwrap_or_else(|error| Err(error.into()))
        })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        let key = key.clone();
        Box::pin(self.ask(move |answer| FileRequest::Claim(key, generation, answer)))
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        let (claim, token) = (claim.clone(), token.clone());
        Box::pin(self.ask(move |answer| FileRequest::Commit(claim, token, answer)))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        let claim = claim.clone();
        Box::pin(self.ask(move |answer| FileRequest::Release(claim, answer)))
    }
}
