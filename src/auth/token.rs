//! The token of one sign-in, its lifetime, and its public views.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::clock::{Deadline, Moment, wall_now};
use super::connect::Scope;
use super::store::{Owner, StoredToken, Version, fingerprint};
use crate::error::{Error, ErrorKind, Result};

/// The upper bound of a server's stated lifetime: ten years. Sums with it stay in range.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The assumed lifetime of a token whose server stated none. It is short, because an overestimate
/// costs a refused ask.
pub(crate) const UNSTATED: Duration = Duration::from_secs(5 * 60);
/// A token with a shorter lifetime is renewed on demand and not ahead of time, which would be a
/// busy loop.
const SHORTEST_KEPT_FRESH: Duration = Duration::from_secs(1);
const HEADROOM: Duration = Duration::from_secs(60);

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
    /// If a [`TokenStore`](crate::TokenStore) holds a token of the subject, a refresh token that the
    /// subject had before is replaced by the stored one. A refresh token that the subject never had
    /// is a newer sign-in, which replaces the stored one.
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

/// An access token that was valid when it was handed out.
#[derive(Clone)]
pub struct AccessToken {
    secret: SecretString,
    expires: Deadline,
}

impl AccessToken {
    /// Returns the secret token, for a header. Never log it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let token = client.access_token().await?;
    /// let header = format!("Bearer {}", token.expose_secret());
    /// # let _ = header;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Returns how long the token is still valid; zero once it has expired.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let token = client.access_token().await?;
    /// println!("{:?}", token.expires_in());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.expires.left(Moment::now())
    }

    /// Returns when the token expires, by this machine's clock.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let token = client.access_token().await?;
    /// assert!(token.expires_at() > std::time::SystemTime::now());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires.wall()
    }
}

/// Written by hand, because the token is a secret.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_in", &self.expires_in())
            .finish_non_exhaustive()
    }
}

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
    /// Given in code: [`TokenInfo`].
    Given,
    /// The token store, in which another process, or an earlier run, put it.
    Store,
}

/// The state of a client's token, for a health endpoint. It holds no secret.
///
/// It serializes as an object with the fields `usable`, `expiresAt` (seconds since 1970), `scopes`,
/// `source`, `generation`, `reauthorizationRequired`, `storeBehind` and `lastFailure` (`at`,
/// `kind`, `message`).
///
/// # What is unhealthy
///
/// * [`is_reauthorization_required`](Self::is_reauthorization_required): the user has to connect
///   again.
/// * [`is_store_behind`](Self::is_store_behind) for longer than a few minutes: the store fails, and
///   a crash loses the sign-in.
/// * Not [`is_usable`](Self::is_usable) **and** a [`last_failure`](Self::last_failure): tokens
///   cannot be obtained.
///
/// Before the first ask there is no token and no failure, which is not unhealthy: tokens are
/// obtained on demand. To have one at the start of a service, call
/// [`Client::access_token`](crate::Client::access_token) once:
///
/// ```
/// # async fn start(client: payman_sdk::Client) -> payman_sdk::Result<()> {
/// client.access_token().await?;
/// assert!(client.token_status().is_usable());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TokenStatus {
    pub(crate) usable: bool,
    #[serde(serialize_with = "seconds_or_null")]
    pub(crate) expires_at: Option<SystemTime>,
    #[serde(serialize_with = "scope_names")]
    pub(crate) scopes: Vec<Scope>,
    pub(crate) source: TokenSource,
    pub(crate) generation: u64,
    pub(crate) reauthorization_required: bool,
    pub(crate) store_behind: bool,
    pub(crate) last_failure: Option<TokenFailure>,
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn seconds_or_null<S: Serializer>(
    at: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.map(seconds).serialize(serializer)
}

fn scope_names<S: Serializer>(scopes: &[Scope], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(scopes.iter().map(Scope::as_str))
}

/// The error is written without its body and its sources.
impl Serialize for TokenFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut fields = serializer.serialize_struct("TokenFailure", 3)?;
        fields.serialize_field("at", &seconds(self.at))?;
        fields.serialize_field("kind", &format!("{:?}", self.error.kind()))?;
        fields.serialize_field("message", &self.error.to_string())?;
        fields.end()
    }
}

impl TokenStatus {
    /// Returns true while there is an access token that has not expired and was not refused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// assert!(status.is_usable());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Returns when the access token expires; `None` where there is none yet.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// assert!(status.expires_at().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Returns the scopes of the token, as far as the server named them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// println!("{:?}", status.scopes());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Returns how the token was obtained.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// println!("{:?}", status.source());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn source(&self) -> TokenSource {
        self.source
    }

    /// Returns how often the token of this sign-in was renewed; 0 for one that was given in code.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// assert!(status.generation() > 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns true when only the user can renew the token. The present one is used until it
    /// expires.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// assert!(!status.is_reauthorization_required());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_reauthorization_required(&self) -> bool {
        self.reauthorization_required
    }

    /// Returns true while the store lacks the newest token because it failed. Storing is retried.
    ///
    /// A process that ends now loses the only copy of a rotated refresh token, unless it calls
    /// [`Client::close`](crate::Client::close) and the store works again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// assert!(!status.is_store_behind());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_store_behind(&self) -> bool {
        self.store_behind
    }

    /// Returns the last failure, also after later successes: see [`TokenFailure::at`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// let status = client.token_status();
    /// assert!(status.last_failure().is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn last_failure(&self) -> Option<&TokenFailure> {
        self.last_failure.as_ref()
    }
}

/// The last failure to obtain, refresh or store a token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenFailure {
    pub(crate) at: SystemTime,
    pub(crate) error: Error,
}

impl TokenFailure {
    /// Returns the time of the failure.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Returns the error, with its sources.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }
}

/// The validity of an access token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) issued: Moment,
    pub(crate) expires: Deadline,
}

impl Lifetime {
    pub(crate) fn new(issued: Moment, lifetime: Duration) -> Self {
        Self { issued, expires: Deadline::after(issued, lifetime.min(LONGEST)) }
    }

    /// Builds the lifetime from a server's seconds, which may be missing, zero, negative or
    /// absurdly large.
    pub(crate) fn of_seconds(issued: Moment, seconds: Option<i64>) -> Self {
        let lifetime = seconds
            .map_or(UNSTATED, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        Self::new(issued, lifetime)
    }

    fn length(self) -> Duration {
        self.expires.monotonic.saturating_duration_since(self.issued.monotonic)
    }

    /// Draws the time of the refresh at random from 80 to 90 % of the lifetime, and a minute before
    /// its end where both are possible.
    fn refresh_at(self) -> Option<Instant> {
        let length = self.length();
        if length < SHORTEST_KEPT_FRESH {
            return None;
        }
        let (early, late) = (length.mul_f64(0.8), length.mul_f64(0.9));
        let late = late.min(length.saturating_sub(HEADROOM)).max(early.min(late));
        let late = if late < early { early } else { late };
        Some(self.issued.monotonic + early + (late - early).mul_f64(fastrand::f64()))
    }
}

/// The access token as it is sent.
#[derive(Clone)]
pub(crate) struct Access {
    /// The only copy of the token, marked as sensitive.
    header: HeaderValue,
    lifetime: Lifetime,
    refresh_at: Option<Instant>,
    /// The token's generation, which a 401 is compared with.
    pub(crate) serial: u64,
}

impl Access {
    /// Returns `None` for a token that is not a valid header value.
    pub(crate) fn new(secret: &SecretString, lifetime: Lifetime, serial: u64) -> Option<Self> {
        if secret.expose_secret().is_empty() {
            return None;
        }
        let mut header = HeaderValue::from_str(secret.expose_secret()).ok()?;
        header.set_sensitive(true);
        // Intermediaries may change a value that is not ASCII.
        header.to_str().ok()?;
        Some(Self { header, lifetime, refresh_at: lifetime.refresh_at(), serial })
    }

    pub(crate) fn is_alive(&self, now: Moment) -> bool {
        !self.lifetime.expires.has_passed(now)
    }

    pub(crate) fn request_token(&self) -> RequestToken {
        RequestToken { header: self.header.clone(), generation: self.serial }
    }

    pub(crate) fn expires(&self) -> Deadline {
        self.lifetime.expires
    }

    pub(crate) fn refresh_at(&self) -> Option<Instant> {
        self.refresh_at
    }

    pub(crate) fn validity(&self) -> Lifetime {
        self.lifetime
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

/// An access token for one request.
#[derive(Debug)]
pub(crate) struct RequestToken {
    /// The value of the `Authorization` header, marked as sensitive.
    pub(crate) header: HeaderValue,
    /// The generation to report when the server refuses the token.
    pub(crate) generation: u64,
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
    pub(crate) known: Vec<String>,
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
            known: Vec::new(),
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

    /// Returns true for a token that was given in code and was not yet compared with what the store
    /// holds.
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
            issued_at: access.map_or_else(wall_now, |access| access.lifetime.issued.wall),
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn share(lifetime: Duration) -> Option<(f64, Duration)> {
        let now = Moment::now();
        let lifetime = Lifetime::new(now, lifetime);
        let at = lifetime.refresh_at()?;
        let share = (at - now.monotonic).as_secs_f64() / lifetime.length().as_secs_f64();
        Some((share, lifetime.expires.monotonic - at))
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
    fn the_refresh_time_has_jitter() {
        let drawn: std::collections::HashSet<_> =
            (0..50).map(|_| (share(3600 * SECOND).unwrap().0 * 1e6) as u64).collect();
        assert!(drawn.len() > 40, "{}", drawn.len());
    }

    #[test]
    fn odd_lifetimes_are_harmless() {
        let now = Moment::now();
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
        assert!(past.usable(Moment::now()).is_none());
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
