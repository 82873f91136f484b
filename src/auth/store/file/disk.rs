//! The token file on the disk: resolving its path, locking, reading and replacing it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use secrecy::zeroize::Zeroizing;

use super::{PLACE, TokenFile, VERSION};
use crate::auth::store::StoreError;
use crate::auth::store::slot::unreadable;
use crate::os;

/// The time limit of waiting for other processes to release the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(8);
/// The maximum length of a chain of symbolic links; a longer one is taken for a loop.
const MAX_LINKS: usize = 40;

/// Returns the path of the file itself, so that every path to it has the same lock and no link is
/// replaced.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let directory = directory_of(&path);
        match fs::read_link(&path) {
            Ok(target) => path = directory.join(target),
            // Either the path is not a symbolic link or no file exists yet.
            Err(_) => {
                let Ok(directory) = directory.canonicalize() else {
                    return Ok(path);
                };
                // A lock next to a directory would be stray.
                let name = path.file_name().filter(|_| !path.is_dir());
                let name = name.ok_or("the token file's path names a directory")?;
                return Ok(directory.join(name));
            }
        }
    }
    Err("the token file's path is a loop of symbolic links".into())
}

fn directory_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Locks the file at a resolved path. The lock ends when the result is dropped, or its process
/// ends.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = beside(path, ".lock");
    let file = os::private_file()
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(context("cannot open the lock of"))?;
    // A lock file that root created must be accessible to the owner of the tokens.
    if let Ok(tokens) = fs::metadata(path) {
        let _ = os::give_to_owner_of(&tokens, &file, &lock_path);
    }
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            // No blocking lock: a process that hangs with the lock must not hang all others.
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_micros(fastrand::u64(200..2_000)));
            }
            Err(TryLockError::WouldBlock) => {
                return Err("another process holds the token file's lock".into());
            }
            Err(TryLockError::Error(error)) => return Err(context("cannot lock")(error)),
        }
    }
    // A process that was killed while it wrote may have left this file.
    let _ = fs::remove_file(beside(path, ".new"));
    Ok(file)
}

/// Reads the file. A file that does not exist holds nothing; one whose directory does not exist is
/// an error, because its content is unknown.
pub(super) fn read(path: &Path) -> Result<TokenFile, StoreError> {
    let is_missing = |read: &io::Result<Vec<u8>>| {
        read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let mut bytes = fs::read(path);
    if is_missing(&bytes) {
        fs::metadata(directory_of(path)).map_err(context("cannot find the directory of"))?;
        // The directory may have appeared in the meantime, and the file with it.
        bytes = fs::read(path);
        if is_missing(&bytes) {
            return Ok(TokenFile::default());
        }
    }
    let bytes = Zeroizing::new(bytes.map_err(context("cannot read"))?);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(TokenFile::default());
    }
    // The parser's own error might quote the file.
    let book: TokenFile = serde_json::from_slice(&bytes).map_err(|_| unreadable(PLACE))?;
    if book.version != VERSION {
        return Err(unreadable(PLACE));
    }
    Ok(book)
}

/// Replaces the file, under the lock. At every moment the path names a whole file: the old one or
/// the new one.
pub(super) fn write(path: &Path, book: &TokenFile) -> Result<(), StoreError> {
    let bytes = Zeroizing::new(serde_json::to_vec(book)?);
    refuse_hard_links(path)?;
    let fresh = beside(path, ".new");
    let replaced = write_new(path, &fresh, &bytes).and_then(|()| {
        fs::rename(&fresh, path).map_err(|error| {
            if error.kind() == io::ErrorKind::ResourceBusy {
                return mounted_by_itself(error);
            }
            context("cannot replace")(error)
        })
    });
    if replaced.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    replaced?;
    os::flush_directory(&directory_of(path)).map_err(context("cannot flush the directory of"))
}

fn write_new(path: &Path, fresh: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file =
        os::private_file().create_new(true).open(fresh).map_err(context("cannot write"))?;
    if let Ok(present) = fs::metadata(path) {
        os::give_to_owner_of(&present, &file, fresh)
            .map_err(context("cannot keep the owner of"))?;
    }
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(context("cannot write"))
}

/// Refuses a file with a second name. Replacing it would leave that name with the old tokens, and
/// a program that uses it would spend a refresh token a second time.
fn refuse_hard_links(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(present) if os::has_hard_links(&present) => {
            Err("the token file has a second name, a hard link, which would keep the old tokens: \
                 use a symbolic link"
                .into())
        }
        _ => Ok(()),
    }
}

fn mounted_by_itself(error: io::Error) -> StoreError {
    let message = "the token file is a mount point, which cannot be replaced: mount its directory";
    io::Error::new(error.kind(), format!("{message} ({error})")).into()
}

fn context(what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |error| io::Error::new(error.kind(), format!("{what} {PLACE}: {error}")).into()
}
