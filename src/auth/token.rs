//! The token: what is lent, when it expires, and what may be said of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::connect::Scope;
use super::store::{Owner, StoredToken, fingerprint};
use crate::error::{Error, ErrorKind, Result};

/// Ten years. A longer lifetime says no more, and sums with it stay in range.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The lifetime of a token whose server named none: short, as a wrong guess costs a refused ask.
pub(crate) const UNSTATED: Duration = Duration::from_secs(5 * 60);
/// A token that lives for less is renewed when someone asks for it, not ahead of time: no busy loop.
const SHORTEST_KEPT_FRESH: Duration = Duration::from_secs(1);
const HEADROOM: Duration = Duration::from_secs(60);

/// A token obtained elsewhere, for [`Client::with_token`](crate::Client::with_token).
///
/// It belongs to a user: the client renews it with the user's refresh token only, and never replaces it by the app's
/// own token.
///
/// ```
/// use payman_sdk::TokenInfo;
/// use std::time::{Duration, SystemTime};
///
/// let token = TokenInfo::access("access-token", Duration::from_secs(3600)).refresh("refresh-token");
/// let token = TokenInfo::access_until("access-token", SystemTime::now() + Duration::from_secs(3600));
/// let token = TokenInfo::refresh_only("refresh-token");
/// ```
#[derive(Clone)]
#[must_use]
pub struct TokenInfo {
    access: Option<(SecretString, Lifetime)>,
    refresh: Option<SecretString>,
}

impl TokenInfo {
    /// An access token that expires after `lifetime`, counted from now.
    pub fn access(token: impl Into<String>, lifetime: Duration) -> Self {
        let lifetime = Lifetime::new(Instant::now(), lifetime);
        Self { access: Some((SecretString::from(token.into()), lifetime)), refresh: None }
    }

    /// An access token that expires at `until`. One that is past is not sent, only renewed.
    pub fn access_until(token: impl Into<String>, until: SystemTime) -> Self {
        Self::access(token, until.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// No access token yet: the refresh token gets one at the first use.
    pub fn refresh_only(token: impl Into<String>) -> Self {
        Self { access: None, refresh: Some(SecretString::from(token.into())) }
    }

    /// Nothing in hand: what the [`TokenStore`](crate::TokenStore) holds for
    /// [`Config::subject`](crate::Config::subject) is used.
    pub fn stored() -> Self {
        Self { access: None, refresh: None }
    }

    /// The refresh token that renews it.
    pub fn refresh(mut self, token: impl Into<String>) -> Self {
        self.refresh = Some(SecretString::from(token.into()));
        self
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.access.is_none() && self.refresh.is_none()
    }

    /// What tells this sign-in from another where the caller names no subject.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        let secret = self.refresh.as_ref().or(self.access.as_ref().map(|(access, _)| access))?;
        Some(fingerprint(secret))
    }

    /// Checks it; generation 0 is what was given in code.
    pub(crate) fn into_token(self) -> Result<Token> {
        let blank = |secret: &SecretString| secret.expose_secret().trim().is_empty();
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

/// By hand: tokens are secrets.
impl fmt::Debug for TokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenInfo")
            .field("access", &self.access.as_ref().map(|_| "[redacted]"))
            .field("refresh", &self.refresh.as_ref().map(|_| "[redacted]"))
            .finish()
    }
}

/// An access token that was valid when it was handed out.
#[derive(Clone)]
pub struct AccessToken {
    secret: SecretString,
    expires: Instant,
}

impl AccessToken {
    /// The token in the clear: for a header, never for a log.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// How long it still lives: zero once it is past.
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }

    /// When it expires, by this machine's clock.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        to_system(self.expires)
    }
}

/// By hand: the token is a secret.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_in", &self.expires_in())
            .finish_non_exhaustive()
    }
}

/// Where the present token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenSource {
    /// The app's own credentials.
    ClientCredentials,
    /// A user's auth code.
    AuthCode,
    /// A refresh token.
    RefreshToken,
    /// Given in code: [`TokenInfo`].
    Given,
    /// The token store: another process, or an earlier run, obtained it.
    Store,
}

/// How the token stands, for a health endpoint. It holds no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenStatus {
    pub(crate) usable: bool,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) source: TokenSource,
    pub(crate) generation: u64,
    pub(crate) reauthorization_required: bool,
    pub(crate) store_behind: bool,
    pub(crate) last_failure: Option<TokenFailure>,
}

impl TokenStatus {
    /// True while there is an access token that has not expired and was not refused.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// When the access token expires; `None` where there is none yet.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// What the token may do, as far as the server said.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Where the token came from.
    #[must_use]
    pub fn source(&self) -> TokenSource {
        self.source
    }

    /// How often this sign-in's token was renewed: 0 for what was given in code.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True when nothing but the user can renew the token; one in hand still serves until it expires.
    #[must_use]
    pub fn is_reauthorization_required(&self) -> bool {
        self.reauthorization_required
    }

    /// True while the store does not hold the newest token, because it failed: it is tried again.
    ///
    /// A process that ends now may take the only copy of a rotated refresh token with it.
    #[must_use]
    pub fn is_store_behind(&self) -> bool {
        self.store_behind
    }

    /// The last thing that went wrong, kept after it went right again: look at [`TokenFailure::at`].
    #[must_use]
    pub fn last_failure(&self) -> Option<&TokenFailure> {
        self.last_failure.as_ref()
    }
}

/// What went wrong the last time that a token was obtained, refreshed or stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenFailure {
    pub(crate) at: SystemTime,
    pub(crate) error: Error,
}

impl TokenFailure {
    /// When.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// What.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The error, with its sources.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }
}

/// When a token began to live, and when it stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) issued: Instant,
    pub(crate) expires: Instant,
}

impl Lifetime {
    pub(crate) fn new(issued: Instant, lifetime: Duration) -> Self {
        Self { issued, expires: issued + lifetime.min(LONGEST) }
    }

    /// From seconds as servers write them: absent, zero, negative and absurd ones too.
    pub(crate) fn of_seconds(issued: Instant, seconds: Option<i64>) -> Self {
        let lifetime = seconds
            .map_or(UNSTATED, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        Self::new(issued, lifetime)
    }

    fn length(self) -> Duration {
        self.expires.saturating_duration_since(self.issued)
    }

    /// At 80 to 90 % of the lifetime, drawn at random, and a minute before the end where both can be had.
    fn refresh_at(self) -> Option<Instant> {
        let length = self.length();
        if length < SHORTEST_KEPT_FRESH {
            return None;
        }
        let (early, late) = (length.mul_f64(0.8), length.mul_f64(0.9));
        let late = late.min(length.saturating_sub(HEADROOM)).max(early.min(late));
        let late = if late < early { early } else { late };
        Some(self.issued + early + (late - early).mul_f64(fastrand::f64()))
    }
}

/// The access token as it is sent.
#[derive(Clone)]
pub(crate) struct Access {
    /// Marked as sensitive; the only copy.
    header: HeaderValue,
    lifetime: Lifetime,
    refresh_at: Option<Instant>,
    /// The generation that brought it: what a 401 is compared with.
    pub(crate) serial: u64,
}

impl Access {
    /// `None` for a token that no header can carry.
    pub(crate) fn new(secret: &SecretString, lifetime: Lifetime, serial: u64) -> Option<Self> {
        let mut header = HeaderValue::from_str(secret.expose_secret()).ok()?;
        header.set_sensitive(true);
        // A value of other than ASCII would not come out as it went in.
        header.to_str().ok()?;
        Some(Self { header, lifetime, refresh_at: lifetime.refresh_at(), serial })
    }

    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        now < self.lifetime.expires
    }

    pub(crate) fn request_token(&self) -> RequestToken {
        RequestToken { header: self.header.clone(), generation: self.serial }
    }

    pub(crate) fn expires(&self) -> Instant {
        self.lifetime.expires
    }

    pub(crate) fn refresh_at(&self) -> Option<Instant> {
        self.refresh_at
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime.length()
    }

    fn secret(&self) -> SecretString {
        SecretString::from(self.header.to_str().unwrap_or_default())
    }

    pub(crate) fn to_public(&self) -> AccessToken {
        AccessToken { secret: self.secret(), expires: self.lifetime.expires }
    }
}

/// A token lent for one send.
#[derive(Debug)]
pub(crate) struct RequestToken {
    /// Marked as sensitive.
    pub(crate) header: HeaderValue,
    /// To be named if the server refuses it.
    pub(crate) generation: u64,
}

/// Everything that is known of one sign-in.
pub(crate) struct Token {
    /// Orders sign-ins: milliseconds since 1970; 0 until the sign-in is compared with the store.
    pub(crate) sign_in: u64,
    /// Counts the renewals; 0 is what was given in code.
    pub(crate) generation: u64,
    pub(crate) access: Option<Arc<Access>>,
    /// The server refused the access token.
    pub(crate) refused: bool,
    pub(crate) refresh: Option<SecretString>,
    /// The fingerprint of the refresh token that the sign-in began with.
    pub(crate) seed: Option<String>,
    /// Fingerprints of earlier refresh tokens of this subject.
    pub(crate) known: Vec<String>,
    pub(crate) scope: Option<String>,
    pub(crate) source: TokenSource,
    /// Why nothing but the user can renew it.
    pub(crate) ended: Option<Error>,
    /// False until the store was asked for a newer one.
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
            known: Vec::new(),
            scope: None,
            source,
            ended: None,
            loaded: true,
        }
    }

    /// Where nothing but the user can renew it, there is no moment to do so.
    pub(crate) fn fit(&mut self, owner: Owner) {
        if let (Owner::User, None, Some(access)) = (owner, &self.refresh, &mut self.access) {
            Arc::make_mut(access).refresh_at = None;
        }
    }

    /// The access token, where nothing but its age speaks against sending it.
    pub(crate) fn sendable(&self) -> Option<&Arc<Access>> {
        self.access.as_ref().filter(|_| self.loaded && !self.refused)
    }

    /// The access token, where it can be sent.
    pub(crate) fn usable(&self, now: Instant) -> Option<&Arc<Access>> {
        self.sendable().filter(|access| access.is_alive(now))
    }

    /// True where an access token is in hand and it is not yet time for the next.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.usable(now).is_some_and(|access| access.refresh_at.is_none_or(|at| now < at))
    }

    /// True where there is nothing to forget.
    pub(crate) fn is_empty(&self) -> bool {
        self.access.is_none() && self.refresh.is_none()
    }

    pub(crate) fn scopes(&self) -> Vec<Scope> {
        self.scope.as_deref().map(Scope::parse_list).unwrap_or_default()
    }

    pub(crate) fn to_stored(&self) -> StoredToken {
        StoredToken {
            sign_in: self.sign_in,
            generation: self.generation,
            access: self.access.as_ref().map(|access| access.secret()),
            issued_at: self
                .access
                .as_ref()
                .map_or_else(SystemTime::now, |access| to_system(access.lifetime.issued)),
            expires_at: self
                .access
                .as_ref()
                .map_or_else(SystemTime::now, |access| to_system(access.expires())),
            refresh: self.refresh.clone(),
            scope: self.scope.clone(),
            seed: self.seed.clone(),
            known: self.known.clone(),
            ended: false,
            refused: false,
        }
    }

    pub(crate) fn from_stored(stored: &StoredToken) -> Self {
        let lifetime = Lifetime {
            issued: from_system(stored.issued_at),
            expires: from_system(stored.expires_at),
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

/// By hand: tokens are secrets.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.generation)
            .field("expires", &self.access.as_ref().map(|access| access.expires()))
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

pub(crate) fn to_system(at: Instant) -> SystemTime {
    let (now, here) = (Instant::now(), SystemTime::now());
    let moved = match at.checked_duration_since(now) {
        Some(ahead) => here.checked_add(ahead),
        None => here.checked_sub(now.saturating_duration_since(at)),
    };
    moved.unwrap_or(here)
}

pub(crate) fn from_system(at: SystemTime) -> Instant {
    let (now, here) = (Instant::now(), SystemTime::now());
    match at.duration_since(here) {
        Ok(ahead) => now + ahead.min(LONGEST),
        Err(past) => now.checked_sub(past.duration()).unwrap_or(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn share(lifetime: Duration) -> Option<(f64, Duration)> {
        let now = Instant::now();
        let lifetime = Lifetime::new(now, lifetime);
        let at = lifetime.refresh_at()?;
        Some(((at - now).as_secs_f64() / lifetime.length().as_secs_f64(), lifetime.expires - at))
    }

    #[test]
    fn refresh_comes_at_80_to_90_percent_and_a_minute_before_the_end() {
        for seconds in [1, 2, 7, 60, 299, 300, 301, 400, 600, 3600, 86_400, u64::MAX] {
            for _ in 0..200 {
                let (share, left) = share(Duration::from_secs(seconds)).unwrap();
                assert!((0.799..=0.901).contains(&share), "{seconds} s: {share}");
                assert!(
                    seconds < 300 || left >= 59 * SECOND + SECOND.mul_f64(0.99),
                    "{seconds} s: {left:?} left"
                );
            }
        }
    }

    #[test]
    fn the_moment_is_jittered() {
        let drawn: std::collections::HashSet<_> =
            (0..50).map(|_| (share(3600 * SECOND).unwrap().0 * 1e6) as u64).collect();
        assert!(drawn.len() > 40, "{}", drawn.len());
    }

    #[test]
    fn odd_lifetimes_are_harmless() {
        let now = Instant::now();
        for seconds in [Some(0), Some(-1), Some(i64::MIN)] {
            let lifetime = Lifetime::of_seconds(now, seconds);
            assert_eq!((lifetime.length(), lifetime.refresh_at()), (Duration::ZERO, None));
        }
        assert_eq!(Lifetime::of_seconds(now, Some(i64::MAX)).length(), LONGEST);
        assert_eq!(Lifetime::of_seconds(now, None).length(), UNSTATED);
        let far = TokenInfo::access_until("t", SystemTime::now() + Duration::from_secs(1 << 40))
            .into_token()
            .unwrap();
        assert!(far.access.unwrap().lifetime() <= LONGEST);
        let past = TokenInfo::access_until("t", SystemTime::UNIX_EPOCH).into_token().unwrap();
        assert!(past.usable(Instant::now()).is_none());
    }

    #[test]
    fn blank_and_unsendable_tokens_are_refused() {
        let hour = 3600 * SECOND;
        for bad in [
            TokenInfo::access("", hour),
            TokenInfo::access(" \t", hour),
            TokenInfo::access("a\nb", hour),
            TokenInfo::access("é", hour),
            TokenInfo::access("a", hour).refresh(" "),
            TokenInfo::refresh_only(""),
        ] {
            assert!(bad.into_token().is_err_and(|error| error.is_invalid_input()));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let info = TokenInfo::access("hush", SECOND).refresh("hush");
        let debug = format!("{info:?}");
        let token = info.into_token().unwrap();
        let access = token.access.as_ref().unwrap();
        let all = format!(
            "{debug}{token:?}{:?}{:?}{:?}",
            access.request_token(),
            access.to_public(),
            token.to_stored()
        );
        assert!(!all.contains("hush"), "{all}");
    }
}
