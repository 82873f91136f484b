//! The token of one sign-in.

mod access;
mod info;
mod lifetime;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;
use serde::Serialize;

use super::clock::{Deadline, Moment, wall_now};
use super::connect::Scope;
use super::store::{KnownTokens, Owner, StoredToken, Version};
use crate::error::Error;

pub use access::AccessToken;
pub(crate) use access::{Access, RequestToken};
pub use info::TokenInfo;
pub(crate) use lifetime::{LONGEST, Lifetime};
pub use status::{TokenFailure, TokenStatus};

/// The origin of the present token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TokenSource {
    /// The app's own credentials.
    ClientCredentials,
    /// A user's auth code.
    AuthCode,
    /// A refresh token.
    RefreshToken,
    /// A [`TokenInfo`] that was given in code.
    Given,
    /// The token store, in which another process, or an earlier run, put it.
    Store,
}

/// Everything that is known about one sign-in.
pub(crate) struct Token {
    /// The number that orders sign-ins: milliseconds since 1970; 0 until the sign-in is compared
    /// with the store.
    pub(crate) sign_in: u64,
    /// The number of renewals; 0 for a token that was given in code.
    pub(crate) generation: u64,
    pub(crate) access: Option<Arc<Access>>,
    /// True if the server refused the access token.
    pub(crate) refused: bool,
    pub(crate) refresh: Option<SecretString>,
    /// The fingerprint of the refresh token that the sign-in began with.
    pub(crate) seed: Option<String>,
    /// Fingerprints of earlier refresh tokens of this subject.
    pub(crate) known: KnownTokens,
    pub(crate) scope: Option<String>,
    pub(crate) source: TokenSource,
    /// The reason if only the user can renew the token.
    pub(crate) ended: Option<Error>,
    /// True once the store was read for a newer token.
    pub(crate) loaded: bool,
}

impl Token {
    pub(crate) fn none(source: TokenSource) -> Self {
        Self {
            sign_in: 0,
            generation: 0,
            access: None,
            refused: false,
            refresh: None,
            seed: None,
            known: KnownTokens::default(),
            scope: None,
            source,
            ended: None,
            loaded: true,
        }
    }

    /// Clears the time of the refresh where only the user can renew the token.
    pub(crate) fn limit_refresh(&mut self, owner: Owner) {
        if let (Owner::User, None, Some(access)) = (owner, &self.refresh, &mut self.access) {
            Arc::make_mut(access).refresh_at = None;
        }
    }

    /// Returns the access token, unless there is another reason than its age not to send it.
    pub(crate) fn sendable(&self) -> Option<&Arc<Access>> {
        self.access.as_ref().filter(|_| self.loaded && !self.refused)
    }

    /// Returns the access token, where it can be sent.
    pub(crate) fn usable(&self, now: Moment) -> Option<&Arc<Access>> {
        self.sendable().filter(|access| access.is_alive(now))
    }

    /// Returns true where there is a usable access token and it is not yet time to refresh it.
    pub(crate) fn is_fresh(&self, now: Moment) -> bool {
        self.usable(now).is_some_and(|access| access.refresh_at.is_none_or(|at| now.monotonic < at))
    }

    pub(crate) fn version(&self) -> Version {
        Version { sign_in: self.sign_in, generation: self.generation }
    }

    /// Returns true for a token that was given in code and was not yet compared with the store.
    pub(crate) fn is_given(&self) -> bool {
        self.source == TokenSource::Given
            && self.version() == Version::default()
            && !self.is_empty()
    }

    /// Returns true where there is neither an access token nor a refresh token.
    pub(crate) fn is_empty(&self) -> bool {
        self.access.is_none() && self.refresh.is_none()
    }

    pub(crate) fn scopes(&self) -> Vec<Scope> {
        self.scope.as_deref().map(Scope::parse_list).unwrap_or_default()
    }

    pub(crate) fn to_stored(&self) -> StoredToken {
        let access = self.access.as_deref();
        StoredToken {
            sign_in: self.sign_in,
            generation: self.generation,
            access: access.map(Access::secret),
            issued_at: access.map_or_else(wall_now, |access| access.validity().issued.wall),
            expires_at: access.map_or_else(wall_now, |access| access.expires().wall()),
            refresh: self.refresh.clone(),
            scope: self.scope.clone(),
            seed: self.seed.clone(),
            known: self.known.clone(),
            ended: false,
            refused: false,
        }
    }

    pub(crate) fn from_stored(stored: &StoredToken) -> Self {
        let now = Moment::now();
        let issued = Deadline::of_wall(stored.issued_at, now, LONGEST);
        let lifetime = Lifetime {
            issued: Moment { monotonic: issued.monotonic, wall: issued.wall() },
            expires: Deadline::of_wall(stored.expires_at, now, LONGEST),
        };
        let access = stored
            .access
            .as_ref()
            .and_then(|secret| Access::new(secret, lifetime, stored.generation));
        Self {
            sign_in: stored.sign_in,
            generation: stored.generation,
            access: access.map(Arc::new),
            refresh: stored.refresh.clone(),
            seed: stored.seed.clone(),
            known: stored.known.clone(),
            scope: stored.scope.clone(),
            ..Self::none(TokenSource::Store)
        }
    }
}

/// Written by hand, because tokens are secrets.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.generation)
            .field("expires", &self.access.as_ref().map(|access| access.expires().wall()))
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
