//! Refresh tokens that a subject had before.

/// The number of fingerprints of each kind that are kept.
const MAX_KNOWN: usize = 32;

/// Fingerprints of refresh tokens that a subject had before, newest last. A program that is still
/// configured with one of them holds the same sign-in, or an earlier one.
///
/// The two kinds are counted separately: a sign-in is renewed thousands of times, and the first
/// refresh token of an earlier sign-in may stay in a configuration for as long.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownTokens {
    /// Those that earlier sign-ins began with.
    pub(crate) seeds: Vec<String>,
    /// Those that were spent.
    pub(crate) spent: Vec<String>,
}

impl KnownTokens {
    pub(crate) fn contains(&self, fingerprint: &str) -> bool {
        self.seeds.iter().chain(&self.spent).any(|known| known == fingerprint)
    }

    pub(crate) fn add_seed(&mut self, fingerprint: String) {
        add(&mut self.seeds, fingerprint);
    }

    pub(crate) fn add_spent(&mut self, fingerprint: String) {
        add(&mut self.spent, fingerprint);
    }

    /// Adds what another record knows, as newer.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.seeds.iter().cloned().for_each(|fingerprint| self.add_seed(fingerprint));
        other.spent.iter().cloned().for_each(|fingerprint| self.add_spent(fingerprint));
    }
}

/// Adds a fingerprint; the oldest ones are forgotten.
fn add(known: &mut Vec<String>, fingerprint: String) {
    known.retain(|other| *other != fingerprint);
    known.push(fingerprint);
    let surplus = known.len().saturating_sub(MAX_KNOWN);
    known.drain(..surplus);
}
