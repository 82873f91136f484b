//! The file with the connected user's token, and the check whether it applies to this command.
//!
//! A command must never act as the app because the user's token was overlooked. So every state of
//! the file but "this app has no user here" is an error.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::SUBJECT;
use super::identity::{base_url, is_loopback};
use crate::command_failure::CommandFailure;
use crate::folder;
use crate::options::GlobalOptions;

/// The version of the store's file that this program understands.
const VERSION: u32 = 1;
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The result of looking for a connected user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SignInLookup {
    Connected,
    NotConnected,
}

/// The part of the store's file that this module reads.
#[derive(Deserialize)]
struct TokenBook {
    version: u32,
    tokens: BTreeMap<String, BookEntry>,
}

#[derive(Deserialize)]
struct BookEntry {
    /// Absent if a sign-in was begun and not completed.
    #[serde(default)]
    token: Option<IgnoredAny>,
}

/// Returns the path of the token file; `None` where the system names no home.
pub(crate) fn token_file(options: &GlobalOptions) -> Option<PathBuf> {
    options.token_file.clone().or_else(|| folder::file("tokens.json"))
}

/// Looks for the user of this app and platform.
pub(super) fn look_up(
    path: &Path,
    options: &GlobalOptions,
    client_id: &str,
) -> Result<SignInLookup, CommandFailure> {
    let unusable = |what: &str| {
        CommandFailure::other(format!("the token file {} {what}", path.display())).next(
            "Give another --token-file, connect again (payman connect), or act as the app itself \
             (--as-app).",
        )
    };
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_absent(path) => {
            if options.origins.token_file.is_given() {
                return Err(unusable(&format!(
                    "does not exist (it is named by {})",
                    options.origins.token_file
                )));
            }
            return Ok(SignInLookup::NotConnected);
        }
        Err(error) => return Err(unusable("could not be read").because(&error)),
    };
    if text.trim().is_empty() {
        return Err(unusable("is empty"));
    }
    // The parser's error might quote the file.
    let book = serde_json::from_str::<TokenBook>(&text).ok();
    let Some(book) = book.filter(|book| book.version == VERSION) else {
        return Err(unusable("holds something other than this version's tokens"));
    };
    let here = base_url(options);
    for (key, entry) in &book.tokens {
        let Some(connected_at) = user_of(key, client_id).filter(|_| entry.token.is_some()) else {
            continue;
        };
        if connected_at == here {
            return Ok(SignInLookup::Connected);
        }
        if are_both_real_or_same_port(&connected_at, &here) {
            return Err(CommandFailure::usage(format!(
                "a user is connected to this app at {connected_at}, not at {here}"
            ))
            .next(format!(
                "To act for that user: --base-url {connected_at}. To connect one here: payman \
                 connect. To act as the app itself: --as-app."
            )));
        }
    }
    Ok(SignInLookup::NotConnected)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Returns false for a symbolic link to a file that does not exist.
fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Returns the base URL of an entry for the user connected to this app.
fn user_of(key: &str, client_id: &str) -> Option<String> {
    let [owner, id, base_url, subject]: [String; 4] = serde_json::from_str(key).ok()?;
    (owner == "user" && id == client_id && subject == SUBJECT).then_some(base_url)
}

/// Returns true where two base URLs may be the same platform, or would both move real money.
/// Emulators on different ports are different platforms.
fn are_both_real_or_same_port(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (Url::parse(one), Url::parse(other)) else {
        return true;
    };
    match (is_loopback(&one), is_loopback(&other)) {
        (true, true) => one.port_or_known_default() == other.port_or_known_default(),
        (false, false) => true,
        _ => false,
    }
}
