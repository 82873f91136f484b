//! Tokens in a file, shared by processes of one machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::slot::{Changed, Slot, unreadable};
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore, millis};

/// How long to wait for other processes' turns with the file.
const LOCK_LIMIT: Duration = Duration::from_secs(8);

/// Keeps tokens in a file that only its owner can read, and shares them among the processes of one machine.
///
/// The file is never written in place: a new one (mode 0600, flushed to the disk) takes its place at once. Whoever
/// changes it holds a lock on a second file, `<path>.lock`, across processes; reading needs no lock. Keep both on a
/// local disk: network file systems often do not honour locks. The directory must exist.
///
/// A file that holds something else is an error, and is left as it is.
///
/// ```no_run
/// use payman_sdk::{Client, Config, FileTokenStore, TokenInfo};
///
/// # fn main() -> payman_sdk::Result<()> {
/// let config = Config::new("client-id").subject("alice").token_store(FileTokenStore::new("/var/lib/my-app/tokens.json"));
/// let client = Client::with_token(config, TokenInfo::stored())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileTokenStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    queue: Mutex<Queue>,
}

/// What is asked of the file by this process: done together, with one lock and one write for all that waits.
#[derive(Default)]
struct Queue {
    waiting: Vec<Request>,
    /// A thread is at work, and will take what waits.
    busy: bool,
}

enum Request {
    Claim(TokenKey, u64, oneshot::Sender<Result<Claimed, StoreError>>),
    Commit(Claim, StoredToken, oneshot::Sender<Result<Committed, StoreError>>),
    Release(Claim, oneshot::Sender<Result<(), StoreError>>),
}

/// What is told once the file is written.
enum Answer {
    Claimed(Claimed),
    Committed(Committed),
    Released,
}

/// The whole file. Slots are read where they are asked for: of many sign-ins, one is of interest.
#[derive(Serialize, Deserialize)]
struct Book {
    version: u32,
    tokens: BTreeMap<String, Box<RawValue>>,
}

const VERSION: u32 = 1;

impl Default for Book {
    fn default() -> Self {
        Self { version: VERSION, tokens: BTreeMap::new() }
    }
}

impl Book {
    fn slot(&self, key: &TokenKey) -> Result<Slot, StoreError> {
        self.tokens.get(key.as_str()).map_or_else(|| Ok(Slot::default()), |raw| slot_of(raw))
    }

    fn set(&mut self, key: &TokenKey, slot: &Slot) -> Result<(), StoreError> {
        self.tokens.insert(key.as_str().to_owned(), serde_json::value::to_raw_value(slot)?);
        Ok(())
    }

    fn forget_stale(&mut self, now: u64) {
        self.tokens.retain(|_, raw| slot_of(raw).map_or(true, |slot| !slot.is_stale(now)));
    }
}

/// The parser's own words might quote the file.
fn slot_of(raw: &RawValue) -> Result<Slot, StoreError> {
    serde_json::from_str(raw.get()).map_err(|_| unreadable("the token file"))
}

impl FileTokenStore {
    /// A store in the file at `path`, which is made at the first commit.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner { path: path.into(), queue: Mutex::default() }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut queue = self.0.queue();
            queue.waiting.push(request(sender));
            !std::mem::replace(&mut queue.busy, true)
        };
        if begins {
            let worker = Worker { store: Arc::clone(&self.0), done: false };
            // Once begun it goes on to its end, whoever still waits for it.
            tokio::task::spawn_blocking(move || worker.work());
        }
        answer
            .await
            .unwrap_or_else(|_| Err("the runtime ended before the token file was written".into()))
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the queue until it is empty.
struct Worker {
    store: Arc<Inner>,
    done: bool,
}

impl Worker {
    fn work(mut self) {
        loop {
            let waiting = {
                let mut queue = self.store.queue();
                if queue.waiting.is_empty() {
                    queue.busy = false;
                    self.done = true;
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            let undo = serve(&self.store.path, waiting);
            self.store.queue().waiting.extend(undo);
        }
    }
}

/// Where its runtime ended before it began: those who wait are told, and the next one begins anew.
impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            let mut queue = self.store.queue();
            queue.busy = false;
            queue.waiting.clear();
        }
    }
}

/// Alone among all processes. Gives back what is to be undone: claims that were granted to someone who is gone.
fn serve(path: &Path, waiting: Vec<Request>) -> Vec<Request> {
    let now = millis(SystemTime::now());
    let mut answers = Vec::with_capacity(waiting.len());
    let mut requests = waiting.into_iter();
    let done = lock(path).and_then(|_lock| {
        let mut book = read(path)?;
        let mut changed = false;
        for request in requests.by_ref() {
            match apply(&mut book, &request, now) {
                Ok((answer, change)) => {
                    answers.push((request, answer));
                    changed |= change;
                }
                Err(error) => request.fail(&error.to_string()),
            }
        }
        if changed {
            // Now and then is often enough.
            if fastrand::u8(..) == 0 {
                book.forget_stale(now);
            }
            write(path, &book)?;
        }
        Ok(())
    });
    match done {
        Ok(()) => {
            answers.into_iter().filter_map(|(request, answer)| tell(request, answer)).collect()
        }
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

fn apply(book: &mut Book, request: &Request, now: u64) -> Result<(Answer, Changed), StoreError> {
    let key = match request {
        Request::Claim(key, ..) => key,
        Request::Commit(claim, ..) | Request::Release(claim, ..) => claim.key(),
    };
    let mut slot = book.slot(key)?;
    let (answer, changed) = match request {
        Request::Claim(key, generation, _) => {
            let (claimed, changed) = slot.claim(key, *generation, now);
            (Answer::Claimed(claimed), changed)
        }
        Request::Commit(claim, token, _) => {
            let (committed, changed) = slot.commit(claim, token);
            (Answer::Committed(committed), changed)
        }
        Request::Release(claim, _) => (Answer::Released, slot.release(claim)),
    };
    if changed {
        book.set(key, &slot)?;
    }
    Ok((answer, changed))
}

/// Whoever is gone needs no answer, but must not keep a right.
fn tell(request: Request, answer: Answer) -> Option<Request> {
    match (request, answer) {
        (Request::Claim(_, _, sender), Answer::Claimed(claimed)) => {
            match sender.send(Ok(claimed)) {
                Err(Ok(Claimed::Granted(claim))) => {
                    Some(Request::Release(claim, oneshot::channel().0))
                }
                _ => None,
            }
        }
        (Request::Commit(_, _, sender), Answer::Committed(committed)) => {
            let _ = sender.send(Ok(committed));
            None
        }
        (Request::Release(_, sender), _) => {
            let _ = sender.send(Ok(()));
            None
        }
        _ => None,
    }
}

impl Request {
    fn fail(self, why: &str) {
        match self {
            Self::Claim(_, _, sender) => drop(sender.send(Err(why.into()))),
            Self::Commit(_, _, sender) => drop(sender.send(Err(why.into()))),
            Self::Release(_, sender) => drop(sender.send(Err(why.into()))),
        }
    }
}

/// By hand: short.
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
        let work = move || Ok(read(&path)?.slot(&key)?.token().cloned());
        Box::pin(async {
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.into()))
        })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        let key = key.clone();
        Box::pin(self.ask(move |answer| Request::Claim(key, generation, answer)))
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        let (claim, token) = (claim.clone(), token.clone());
        Box::pin(self.ask(move |answer| Request::Commit(claim, token, answer)))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        let claim = claim.clone();
        Box::pin(self.ask(move |answer| Request::Release(claim, answer)))
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Options for a file that only its owner can read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Ends when the file is dropped, or its process.
fn lock(path: &Path) -> Result<File, StoreError> {
    let file = private()
        .create(true)
        .truncate(false)
        .open(beside(path, ".lock"))
        .map_err(context("cannot open the lock"))?;
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Asking again, and not a lock that blocks: a process that hangs with the lock must not hang all others.
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_micros(fastrand::u64(200..2_000)));
            }
            Err(TryLockError::WouldBlock) => {
                return Err("another process holds the token file's lock".into());
            }
            Err(TryLockError::Error(error)) => return Err(context("cannot lock")(error)),
        }
    }
}

fn read(path: &Path) -> Result<Book, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
        Err(error) => return Err(context("cannot read")(error)),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Book::default());
    }
    // The parser's own words might quote the file.
    let book: Book = serde_json::from_slice(&bytes).map_err(|_| unreadable("the token file"))?;
    if book.version != VERSION {
        return Err(unreadable("the token file"));
    }
    Ok(book)
}

/// Under the lock. At every moment the path names a whole file: the old one or the new one.
fn write(path: &Path, book: &Book) -> Result<(), StoreError> {
    let bytes = Zeroizing::new(serde_json::to_vec(book)?);
    let fresh = beside(path, ".new");
    // One that a crash left behind may have another mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(context("cannot replace")(error));
        }
        _ => {}
    }
    let written = private().create_new(true).open(&fresh).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.map_err(context("cannot write"))?;
    fs::rename(&fresh, path).map_err(context("cannot replace"))?;
    flush_directory(path).map_err(context("cannot flush the directory of"))
}

/// Makes the new name durable.
#[cfg(unix)]
fn flush_directory(path: &Path) -> io::Result<()> {
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Other systems have no such call; renaming is as durable as they make it.
#[cfg(not(unix))]
fn flush_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

fn context(what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |error| io::Error::new(error.kind(), format!("{what} the token file: {error}")).into()
}
