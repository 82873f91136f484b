//! The builder of a client: all settings, checked once before any network access.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::ClientBuilder;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::auth::store::TokenStore;
use crate::endpoint::{BaseUrl, Environment};
use crate::error::{Error, Result};
use crate::ids::SessionId;
use crate::journal::Journal;
use crate::observe::{AskHook, AskSummary};
use crate::policy::{BackgroundRefresh, Limits, RetryPolicy};
use crate::transport::{ConfigureHttp, Http};

/// The settings of a client: the platform, the identity and the limits.
///
/// Nothing is checked here; `Client::with_…` checks everything before any network access.
///
/// ```
/// use payman_sdk::{Client, Config, Environment};
/// use std::time::Duration;
///
/// # fn main() -> payman_sdk::Result<()> {
/// let config = Config::new("client-id")
///     .client_secret("client-secret")
///     .environment(Environment::Test)
///     .deadline(Duration::from_secs(60));
/// let client = Client::with_credentials(config)?;
/// # Ok(())
/// # }
/// ```
///
/// # TLS
///
/// The features `rustls` (the default) and `native-tls` need no setup. With the feature
/// `rustls-no-provider` and without these two, the program depends on `rustls` itself, selects a
/// crypto provider by a feature of that crate (`ring`, `aws_lc_rs`), and installs it before it
/// makes its first client. Until then, every `Client::with_…` returns
/// [`InvalidInput`](crate::ErrorKind::InvalidInput), also for plain HTTP on loopback.
///
/// ```no_run
/// use payman_sdk::{Client, Config};
///
/// fn main() -> payman_sdk::Result<()> {
///     // Once, at the start. It fails only where a provider is installed already.
///     let provider = rustls::crypto::aws_lc_rs::default_provider();
///     provider.install_default().expect("no provider was installed before");
///
///     let config = Config::new("client-id").client_secret("client-secret");
///     let client = Client::with_credentials(config)?;
///     # let _ = client;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Config {
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<SecretString>,
    pub(crate) name: Option<String>,
    pub(crate) session_id: Option<SessionId>,
    pub(crate) subject: Option<String>,
    pub(crate) base_url: String,
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) lost_refresh_retries: u32,
    pub(crate) background_refresh: BackgroundRefresh,
    pub(crate) token_store: Option<Arc<dyn TokenStore>>,
    pub(crate) journal: Option<Arc<dyn Journal>>,
    pub(crate) configure_http: Option<ConfigureHttp>,
    pub(crate) on_ask_completed: Option<AskHook>,
    pub(crate) shared: Option<Http>,
}

impl Config {
    /// Creates a config for the live platform with default limits.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").client_secret("client-secret");
    /// assert!(payman_sdk::Client::with_credentials(config).is_ok());
    /// ```
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret: None,
            name: None,
            session_id: None,
            subject: None,
            base_url: Environment::default().base_url().to_owned(),
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            lost_refresh_retries: 1,
            background_refresh: BackgroundRefresh::Enabled,
            token_store: None,
            journal: None,
            configure_http: None,
            on_ask_completed: None,
            shared: None,
        }
    }

    /// Sets the app's secret, from the Payman dashboard.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").client_secret("client-secret");
    /// assert!(!format!("{config:?}").contains("client-secret")); // never shown
    /// ```
    pub fn client_secret(mut self, secret: impl Into<String>) -> Self {
        self.client_secret = Some(SecretString::from(secret.into()));
        self
    }

    /// Sets a name of this client for your own logs: [`Client::name`](crate::Client::name).
    ///
    /// ```
    /// use payman_sdk::{Client, Config};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let config = Config::new("client-id").client_secret("client-secret").name("payouts");
    /// assert_eq!(Client::with_credentials(config)?.name(), Some("payouts"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the session to resume. Without one the client starts a new session.
    ///
    /// ```
    /// use payman_sdk::{Client, Config};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let config = Config::new("client-id").client_secret("client-secret").session_id("ses-1");
    /// assert_eq!(Client::with_credentials(config)?.session_id(), "ses-1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn session_id(mut self, id: impl Into<SessionId>) -> Self {
        self.session_id = Some(id.into());
        self
    }

    /// Sets the owner of the token, such as the id of a user of your app. It is part of the key
    /// under which a [`TokenStore`] keeps the token: two users who share a store need two subjects.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").client_secret("client-secret").subject("user-17");
    /// ```
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Selects the live (default) or test platform. The last of this and
    /// [`base_url`](Self::base_url) counts.
    ///
    /// ```
    /// use payman_sdk::{Config, Environment};
    ///
    /// let config = Config::new("client-id").environment(Environment::Test);
    /// ```
    pub fn environment(mut self, environment: Environment) -> Self {
        environment.base_url().clone_into(&mut self.base_url);
        self
    }

    /// Sets another server: `https`, or plain `http` on loopback (a loopback address or exactly
    /// `localhost`).
    ///
    /// ```
    /// use payman_sdk::{Client, Config};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let config = Config::new("client-id").client_secret("client-secret");
    /// assert!(Client::with_credentials(config.clone().base_url("http://127.0.0.1:8731")).is_ok());
    /// let plain = config.base_url("http://example.com"); // not https
    /// assert!(Client::with_credentials(plain).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Sets the time limit for opening a connection. Default 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").connect_timeout(Duration::from_secs(3));
    /// ```
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets the time limit of one reply, from sending the request to its last byte; for a stream,
    /// to its first. Default 5 min.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").reply_timeout(Duration::from_secs(60));
    /// ```
    pub fn reply_timeout(mut self, limit: Duration) -> Self {
        self.limits.reply_timeout = limit;
        self
    }

    /// Sets the time for which a stream may be silent. The error may come up to a 64th of that time
    /// later. Pings end the silence. Default 2 min.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").idle_timeout(Duration::from_secs(30));
    /// ```
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle_timeout = limit;
        self
    }

    /// Sets the time limit of a whole ask, with its waits and lookups. Default 6 min; for a stream,
    /// none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").deadline(Duration::from_secs(90));
    /// ```
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.limits.deadline = Some(limit);
        self
    }

    /// Sets the largest size of one event in a stream, in bytes: at most 4 GiB. Default 16 MiB.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").max_event_bytes(1024 * 1024);
    /// ```
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_event_bytes = bytes;
        self
    }

    /// Sets the largest size of one reply, in bytes. Default 64 MiB.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").max_reply_bytes(4 * 1024 * 1024);
    /// ```
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_reply_bytes = bytes;
        self
    }

    /// Sets the size to which the body of an error is cut, in bytes. Default 64 KiB.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").max_error_body_bytes(1024);
    /// ```
    pub fn max_error_body_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_error_body_bytes = bytes;
        self
    }

    /// Sets the policy for sending asks again and looking up lost answers.
    ///
    /// ```
    /// use payman_sdk::{Config, RetryPolicy};
    ///
    /// let config = Config::new("client-id").retry(RetryPolicy::default().connect_retries(5));
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets whether a refresh token whose reply was lost is sent once more. Default true.
    ///
    /// The server may or may not have rotated the refresh token. With `true` it is sent a second
    /// time, and kept if that reply is lost too; only the server's `invalid_grant` ends the
    /// sign-in. With `false` a lost reply, and an answer of 408, 500, 502 or 504, mean that the
    /// user has to connect again.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").retry_lost_refresh(false);
    /// ```
    pub fn retry_lost_refresh(mut self, retry: bool) -> Self {
        self.lost_refresh_retries = u32::from(retry);
        self
    }

    /// Sets whether the token is refreshed before it expires, in a task of its own. Default true.
    ///
    /// With `false` it is refreshed when a call needs it. This suits programs that run for a short
    /// time: they end without a refresh in progress.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").background_refresh(false);
    /// ```
    pub fn background_refresh(mut self, enabled: bool) -> Self {
        self.background_refresh =
            if enabled { BackgroundRefresh::Enabled } else { BackgroundRefresh::Disabled };
        self
    }

    /// Sets the store that keeps tokens when the process ends and shares them with other processes.
    ///
    /// Without one, tokens live in memory, and clients of this process that were given the same
    /// refresh token, or the same credentials, share them as long as one of the clients exists.
    ///
    /// ```
    /// use payman_sdk::{Config, MemoryTokenStore};
    ///
    /// let store = MemoryTokenStore::new();
    /// let config = Config::new("client-id").subject("user-17").token_store(store);
    /// ```
    pub fn token_store(mut self, store: impl TokenStore) -> Self {
        self.token_store = Some(Arc::new(store));
        self
    }

    /// Sets the journal of [idempotency keys](crate::Ask::idempotency_key). Default: none, and an
    /// ask with a key is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    ///
    /// ```
    /// use payman_sdk::{Config, MemoryJournal};
    ///
    /// let config = Config::new("client-id").client_secret("secret").journal(MemoryJournal::new());
    /// ```
    pub fn journal(mut self, journal: impl Journal) -> Self {
        self.journal = Some(Arc::new(journal));
        self
    }

    /// Changes settings of the HTTP client, such as a proxy or a root certificate.
    ///
    /// The settings that the SDK relies on are applied afterwards: no redirects, no hidden retries,
    /// the limits. A total time limit (`ClientBuilder::timeout`) is not applied to token requests,
    /// because a reply that is not read may cost the sign-in.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").configure_http(|http| http.tcp_nodelay(true));
    /// ```
    pub fn configure_http(
        mut self,
        configure: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.configure_http = Some(Arc::new(configure));
        self
    }

    /// Sets a function that is called once for each ask that ended: with an answer, with an error,
    /// or because the caller dropped it. It receives figures, never text.
    ///
    /// It runs where the ask is polled or dropped, so it must not block. A panic in it unwinds into
    /// the caller.
    ///
    /// ```
    /// use payman_sdk::Config;
    ///
    /// let config = Config::new("client-id").on_ask_completed(|ask| {
    ///     println!("{} {} {:?}", ask.kind.as_str(), ask.outcome.as_str(), ask.duration);
    /// });
    /// ```
    pub fn on_ask_completed(mut self, hook: impl Fn(&AskSummary) + Send + Sync + 'static) -> Self {
        self.on_ask_completed = Some(Arc::new(hook));
        self
    }
}

/// Not derived: closures have no `Debug`, and the secret must not be shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret.as_ref().map(|_| "[redacted]"))
            .field("name", &self.name)
            .field("session_id", &self.session_id)
            .field("subject", &self.subject)
            .field(
                "base_url",
                &self.base_url.parse::<Url>().ok().map(|url| url.origin().ascii_serialization()),
            )
            .field("limits", &self.limits)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Checks the settings that every client needs.
    pub(crate) fn check(&self) -> Result<BaseUrl> {
        if self.client_id.trim().is_empty() {
            return Err(Error::invalid_input(
                "the client id is empty; it is in the Payman dashboard",
            ));
        }
        if self
            .client_secret
            .as_ref()
            .is_some_and(|secret| secret.expose_secret().trim().is_empty())
        {
            return Err(Error::invalid_input(
                "the client secret is blank; it is in the Payman dashboard",
            ));
        }
        if self.client_id.contains(char::is_control) {
            return Err(Error::invalid_input(
                "the client id (Config::new) holds a control character or a line end",
            ));
        }
        // The `Authorization: Basic` header separates id and secret by a colon (RFC 7617).
        if self.client_id.contains(':') {
            return Err(Error::invalid_input("the client id (Config::new) holds a colon"));
        }
        if self
            .client_secret
            .as_ref()
            .is_some_and(|secret| secret.expose_secret().contains(char::is_control))
        {
            return Err(Error::invalid_input(
                "the client secret (Config::client_secret) holds a control character or a line end",
            ));
        }
        if let Some(subject) = &self.subject {
            if subject.trim().is_empty() {
                return Err(Error::invalid_input("the subject (Config::subject) is blank"));
            }
            if subject.contains(char::is_control) {
                return Err(Error::invalid_input(
                    "the subject (Config::subject) holds a control character or a line end",
                ));
            }
        }
        if self.session_id.as_ref().is_some_and(SessionId::is_blank) {
            return Err(Error::invalid_input(
                "the session id is blank; leave it out to start a session",
            ));
        }
        BaseUrl::parse(&self.base_url)
    }

    /// Checks that there is a secret, for flows that need one.
    pub(crate) fn require_secret(&self) -> Result<()> {
        if self.client_secret.is_some() {
            return Ok(());
        }
        Err(Error::invalid_input("the client secret is missing; set it with Config::client_secret"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_secret() {
        let config = Config::new("id").client_secret("hush");
        assert!(!format!("{config:?}").contains("hush"));
    }
}
