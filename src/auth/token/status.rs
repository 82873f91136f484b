//! The state of a client's token, for a health endpoint.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::TokenSource;
use crate::auth::connect::Scope;
use crate::error::{Error, ErrorKind};

/// The state of a client's token, for a health endpoint. It holds no secret.
///
/// It serializes as an object with the fields `usable`, `expiresAt` (seconds since 1970), `scopes`,
/// `source`, `generation`, `reauthorizationRequired`, `storeBehind` and `lastFailure` (`at`,
/// `kind`, `message`).
///
/// # Unhealthy states
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

/// Serializes the error without its body and its sources.
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
