//! Holders of the same sign-ins: clients, mostly in processes of their own, that share a token
//! store while requests are lost, processes are killed or stopped, clocks step, stores fail, and
//! users sign in and out.
//!
//! The server rotates refresh tokens on every use, and revokes a sign-in whose old refresh token
//! comes back.

use std::collections::BTreeSet;

use payman_sdk::Scope;

#[cfg(unix)]
mod clock;
#[cfg(unix)]
mod ledger;
pub mod lost;
#[cfg(unix)]
pub mod process;
#[cfg(unix)]
pub mod scenarios;
#[cfg(unix)]
mod stage;
#[cfg(unix)]
pub mod stores;

const SCOPES: [Scope; 7] = [
    Scope::ReadBalance,
    Scope::ReadListWallets,
    Scope::ReadListPayees,
    Scope::ReadListTransactions,
    Scope::WriteCreatePayee,
    Scope::WriteSendPayment,
    Scope::WriteCreateWallet,
];

/// Returns the scopes of a user. Each user has a set of their own, so that a token tells whose it
/// is; the app's own token has all of them.
fn scopes_of(user: usize) -> BTreeSet<String> {
    let bits = user + 1;
    assert!(bits < 127, "more users than sets of scopes");
    let names = SCOPES.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
    names.map(|(_, scope)| scope.to_string()).collect()
}

/// Returns true where the environment asks for the long form of the tests.
pub fn is_full() -> bool {
    std::env::var("PAYMAN_TOKEN_STORE").is_ok_and(|size| size == "full")
}

fn random(what: &str) -> fastrand::Rng {
    let seed = std::env::var("PAYMAN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed of {what}: {seed} (PAYMAN_SEED sets it)");
    fastrand::Rng::with_seed(seed)
}

/// One test at a time, because they measure time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits until no other test of this program measures time.
pub async fn turn() -> tokio::sync::MutexGuard<'static, ()> {
    TURN.lock().await
}

/// Returns a directory in memory where possible: a hundred writes a second, each flushed to the
/// disk, are too many for some disks.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
