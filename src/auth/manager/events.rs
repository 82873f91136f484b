//! The `tracing` events of tokens, with target `payman_sdk::token`. No field holds a secret.

use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use crate::auth::grant::{ExchangeError, Grant};
use crate::auth::token::Token;
use crate::error::Error;

const TARGET: &str = "payman_sdk::token";

/// Creates the span of one refresh. Its parent is the span of the ask that started it, if any,
/// although other asks may wait for it too.
pub(super) fn span() -> Span {
    tracing::info_span!(
        target: TARGET,
        "token",
        generation = Empty,
        outcome = Empty,
        duration_ms = Empty,
    )
}

pub(super) fn refresh_completed<T>(
    span: Span,
    generation: u64,
    result: &Result<T, Error>,
    started: Instant,
) {
    span.record("generation", generation);
    span.record("outcome", if result.is_ok() { "renewed" } else { "failed" });
    span.record("duration_ms", millis_since(started));
}

/// Reports an obtained or refreshed token.
pub(in crate::auth) fn obtained(grant: &Grant, token: &Token, asked: Instant) {
    let outcome = if grant.is_refresh() { "refreshed" } else { "obtained" };
    tracing::info!(
        target: TARGET,
        grant = grant.name(),
        generation = token.generation,
        expires_in = token.access.as_ref().map_or(0, |access| access.lifetime().as_secs()),
        outcome,
        duration_ms = millis_since(asked),
        "a token was obtained"
    );
}

pub(in crate::auth) fn failed(
    grant: &Grant,
    generation: u64,
    failed: &ExchangeError,
    asked: Instant,
) {
    tracing::warn!(
        target: TARGET,
        grant = grant.name(),
        generation,
        outcome = "failed",
        fault = ?failed.fault,
        status = failed.error.status(),
        duration_ms = millis_since(asked),
        error = %failed.error,
        "a token request failed"
    );
}

pub(super) fn refused(generation: u64) {
    let outcome = "refused";
    tracing::info!(target: TARGET, generation, outcome, "the server refused the access token");
}

pub(super) fn ended(generation: u64, error: &Error) {
    let outcome = "ended";
    tracing::warn!(target: TARGET, generation, outcome, %error, "the user has to connect again");
}

pub(super) fn signed_out(generation: u64) {
    tracing::info!(target: TARGET, generation, outcome = "signed out", "the user was signed out");
}

pub(super) fn stored(generation: u64) {
    tracing::debug!(target: TARGET, generation, outcome = "stored", "the token is stored");
}

pub(super) fn adopted(generation: u64) {
    let outcome = "loaded";
    tracing::debug!(target: TARGET, generation, outcome, "a newer token was in the store");
}

pub(super) fn store_failed(call: &'static str, error: &Error) {
    let outcome = "store failed";
    tracing::warn!(target: TARGET, call, outcome, %error, "the token store failed");
}

fn millis_since(asked: Instant) -> u64 {
    u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX)
}
