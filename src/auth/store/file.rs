//! Tokens in a file, shared by processes of one machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

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
    /// One at a time from here, so that waiting for the lock takes one thread and not many.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The whole file.
#[derive(Serialize, Deserialize)]
struct Book {
    version: u32,
    tokens: BTreeMap<String, Slot>,
}

const VERSION: u32 = 1;

impl Default for Book {
    fn default() -> Self {
        Self { version: VERSION, tokens: BTreeMap::new() }
    }
}

impl FileTokenStore {
    /// A store in the file at `path`, which is made at the first commit.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner { path: path.into(), turn: Arc::default() }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Changes one key's slot, alone among all processes.
    async fn change<T: Send + 'static>(
        &self,
        key: &TokenKey,
        act: impl FnOnce(&mut Slot, u64) -> (T, Changed) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, key) = (self.0.path.clone(), key.clone());
        // Held by the thread: if this future is dropped, the turn ends with the work and not before.
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        off_the_runtime(move || {
            let _turn = turn;
            let _lock = lock(&path)?;
            let mut book = read(&path)?;
            let now = millis(SystemTime::now());
            let (answer, changed) = act(book.tokens.entry(key.as_str().to_owned()).or_default(), now);
            if changed {
                book.tokens.retain(|_, slot| !slot.is_stale(now));
                write(&path, &book)?;
            }
            Ok(answer)
        })
        .await
    }
}

/// By hand: short.
impl fmt::Debug for FileTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileTokenStore").field(&self.0.path).finish()
    }
}

impl TokenStore for FileTokenStore {
    fn load<'a>(&'a self, key: &'a TokenKey) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        let (path, key) = (self.0.path.clone(), key.clone());
        Box::pin(off_the_runtime(move || Ok(read(&path)?.tokens.remove(key.as_str()).and_then(|s| s.token().cloned()))))
    }

    fn claim<'a>(&'a self, key: &'a TokenKey, generation: u64) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        let owned = key.clone();
        Box::pin(self.change(key, move |slot, now| slot.claim(&owned, generation, now)))
    }

    fn commit<'a>(&'a self, claim: &'a Claim, token: &'a StoredToken) -> BoxFuture<'a, Result<Committed, StoreError>> {
        let (owned, token) = (claim.clone(), token.clone());
        Box::pin(self.change(claim.key(), move |slot, _| slot.commit(&owned, &token)))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        let owned = claim.clone();
        Box::pin(self.change(claim.key(), move |slot, _| ((), slot.release(&owned))))
    }
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.into()))
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
    let file =
        private().create(true).truncate(false).open(beside(path, ".lock")).map_err(context("cannot open the lock"))?;
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Asking again, and not a lock that blocks: a process that hangs with the lock must not hang all others.
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_micros(fastrand::u64(200..2_000)));
            }
            Err(TryLockError::WouldBlock) => return Err("another process holds the token file's lock".into()),
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
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(context("cannot replace")(error)),
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
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
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
