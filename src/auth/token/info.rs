//! A token that the caller obtained elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};

use super::access::Access;
use super::lifetime::{LONGEST, Lifetime};
use super::{Token, TokenSource};
use crate::auth::clock::{Deadline, Moment};
use crate::auth::store::fingerprint;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};

/// A token obtained elsewhere, for [`Client::with_token`](crate::Client::with_token).
///
/// It belongs to a user: the client renews it with the user's refresh token only, and never
/// replaces it by the app's own token.
///
/// ```
/// use payman_sdk::TokenInfo;
/// use std::time::{Duration, SystemTime};
///
/// let hour = Duration::from_secs(3600);
/// let token = TokenInfo::access("access-token", hour).refresh("refresh-token");
/// let token = TokenInfo::access_until("access-token", SystemTime::now() + hour);
/// let token = TokenInfo::refresh_only("refresh-token");
/// ```
#[derive(Clone)]
#[must_use]
pub struct TokenInfo {
    access: Option<(SecretString, Lifetime)>,
    refresh: Option<SecretString>,
}

impl TokenInfo {
    /// Takes an access token that expires after `lifetime`, counted from now.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::TokenInfo;
    ///
    /// let token = TokenInfo::access("access-token", Duration::from_secs(3600));
    /// ```
    pub fn access(token: impl Into<String>, lifetime: Duration) -> Self {
        let lifetime = Lifetime::new(Moment::now(), lifetime);
        Self { access: Some((SecretString::from(token.into()), lifetime)), refresh: None }
    }

    /// Takes an access token that expires at `until`. An expired one is not sent, only renewed.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use payman_sdk::TokenInfo;
    ///
    /// let until = SystemTime::now() + Duration::from_secs(3600);
    /// let token = TokenInfo::access_until("access-token", until);
    /// ```
    pub fn access_until(token: impl Into<String>, until: SystemTime) -> Self {
        let issued = Moment::now();
        let lifetime = Lifetime { issued, expires: Deadline::of_wall(until, issued, LONGEST) };
        Self { access: Some((SecretString::from(token.into()), lifetime)), refresh: None }
    }

    /// Takes a refresh token only; the first use obtains an access token.
    ///
    /// ```
    /// use payman_sdk::TokenInfo;
    ///
    /// let token = TokenInfo::refresh_only("refresh-token");
    /// ```
    pub fn refresh_only(token: impl Into<String>) -> Self {
        Self { access: None, refresh: Some(SecretString::from(token.into())) }
    }

    /// Takes the token that the [`TokenStore`](crate::TokenStore) holds for
    /// [`Config::subject`](crate::Config::subject).
    ///
    /// A store that fails is reported as [`ErrorKind::TokenStore`]: the user need not connect
    /// again.
    ///
    /// ```
    /// use payman_sdk::TokenInfo;
    ///
    /// let token = TokenInfo::stored(); // with Config::subject and Config::token_store
    /// ```
    pub fn stored() -> Self {
        Self { access: None, refresh: None }
    }

    /// Adds the refresh token that renews the access token.
    ///
    /// If a [`TokenStore`](crate::TokenStore) holds a token of the subject, a refresh token that
    /// the subject had before is replaced by the stored one. A refresh token that the subject never
    /// had is a newer sign-in, which replaces the stored one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::TokenInfo;
    ///
    /// let token = TokenInfo::access("access-token", Duration::from_secs(3600))
    ///     .refresh("refresh-token");
    /// ```
    pub fn refresh(mut self, token: impl Into<String>) -> Self {
        self.refresh = Some(SecretString::from(token.into()));
        self
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.access.is_none() && self.refresh.is_none()
    }

    /// Returns a fingerprint that identifies this sign-in where the caller sets no subject.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        let secret = self.refresh.as_ref().or(self.access.as_ref().map(|(access, _)| access))?;
        Some(fingerprint(secret))
    }

    /// Validates the token. Generation 0 is a token that was given in code.
    pub(crate) fn into_token(self) -> Result<Token> {
        let blank = |secret: &SecretString| secret.expose_secret().trim().is_empty();
        let has_control = |secret: &SecretString| secret.expose_secret().contains(char::is_control);
        if self.access.as_ref().is_some_and(|(access, _)| has_control(access)) {
            return Err(Error::invalid_input(
                "the access token (TokenInfo::access) holds a control character or a line end",
            ));
        }
        if self.refresh.as_ref().is_some_and(has_control) {
            return Err(Error::invalid_input(
                "the refresh token (TokenInfo::refresh) holds a control character or a line end",
            ));
        }
        if self.access.as_ref().is_some_and(|(access, _)| blank(access)) {
            return Err(Error::invalid_input("the access token is blank"));
        }
        if self.refresh.as_ref().is_some_and(blank) {
            return Err(Error::invalid_input(
                "the refresh token is blank; leave it out where there is none",
            ));
        }
        let seed = self.refresh.as_ref().map(fingerprint);
        let access = match self.access {
            Some((secret, lifetime)) => {
                Some(Arc::new(Access::new(&secret, lifetime, 0).ok_or_else(|| {
                    Error::invalid_input(
                        "the access token holds characters that no HTTP header can carry",
                    )
                })?))
            }
            None => None,
        };
        Ok(Token { access, refresh: self.refresh, seed, ..Token::none(TokenSource::Given) })
    }
}

/// Written by hand, because tokens are secrets.
impl fmt::Debug for TokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenInfo")
            .field("access", &self.access.as_ref().map(|_| "[redacted]"))
            .field("refresh", &self.refresh.as_ref().map(|_| "[redacted]"))
            .finish()
    }
}
