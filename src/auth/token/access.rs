//! An access token: as it is sent, and as it is given to the caller.

use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::lifetime::Lifetime;
use crate::auth::clock::{Deadline, Moment};

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

/// The access token as it is sent.
#[derive(Clone)]
pub(crate) struct Access {
    /// The only copy of the token, marked as sensitive.
    header: HeaderValue,
    lifetime: Lifetime,
    pub(super) refresh_at: Option<Instant>,
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

    pub(super) fn secret(&self) -> SecretString {
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
