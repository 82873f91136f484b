//! The client: the public entry point, and its constructors.

// The order of the modules is the order of the sections in the documentation.
mod env;

mod ask;

mod tasks;

mod session;

mod tokens;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::auth::connect::AuthCode;
use crate::auth::manager::TokenManager;
use crate::auth::token::TokenInfo;
use crate::config::Config;
use crate::delivery::Platform;
use crate::endpoint::BaseUrl;
use crate::error::{Error, Result};
use crate::identity::{for_auth_code, for_credentials, for_token};
use crate::ids::SessionId;
use crate::journal::ClientJournal;
use crate::transport::{Http, HttpSettings};

/// A client of the Payman platform: one identity, one connection pool, one session.
///
/// Cheap to clone; clones are the same client. A client's session never changes, so one client in a
/// web server's state is safe to share: give each visitor a handle with a session of their own by
/// [`with_session`](Self::with_session) or [`new_session`](Self::new_session).
///
/// The futures and streams that it returns borrow nothing and are `Send`:
/// `tokio::spawn(client.ask("…"))` works.
///
/// # Runtimes
///
/// A client needs a tokio runtime when its futures are polled, not when it is created. Connections
/// are served by the runtime on which they were opened. A client that is used on several runtimes
/// works, but while one of them is blocked, or after it has ended, an ask that would have used its
/// connections waits for its time limit or fails; the error then states that nothing was sent. So
/// give each runtime a client of its own, without [`Config::share_connections`], or run all asks on
/// one runtime.
///
/// # Dropping the future of an ask
///
/// An ask whose future is dropped has an unknown outcome: it may have been received, and then the
/// agent goes on. This includes a time limit of your own around the future (`tokio::time::timeout`,
/// an axum `TimeoutLayer`), and a handler that a web framework drops because the browser
/// disconnected. Do one of these instead:
///
/// * set [`Ask::deadline`](crate::Ask::deadline), which ends in an error with the
///   [task id](Error::task_id);
/// * store [`Ask::task_id`](crate::Ask::task_id) before you ask, and look the task up with
///   [`Client::get_task`];
/// * `tokio::spawn` the ask, so that it outlives the handler.
#[derive(Clone)]
pub struct Client(Arc<ClientInner>);

/// One identity in one session. It never changes.
struct ClientInner {
    platform: Arc<Platform>,
    name: Option<Arc<str>>,
    session: SessionId,
    journal: Option<ClientJournal>,
}

/// Constructors.
impl Client {
    /// Creates a client for the app itself, from the client id and secret. Nothing is sent yet.
    ///
    /// ```
    /// use payman_sdk::{Client, Config};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let config = Config::new("client-id").client_secret("client-secret");
    /// let client = Client::with_credentials(config)?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): an empty client id, a missing secret, or
    /// another bad setting.
    pub fn with_credentials(config: Config) -> Result<Self> {
        let base = config.check()?;
        config.require_secret()?;
        let http = http_of(&config, &base)?;
        let tokens = for_credentials(&config, &base, &http)?;
        Ok(Self::assemble(config, &base, http, tokens))
    }

    /// Creates a client for the user who just consented, from the code that the browser brought
    /// back.
    ///
    /// The code is exchanged at once, and never sent twice: codes are short-lived and work once.
    ///
    /// ```
    /// use payman_sdk::{Client, Config, Scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # let code = payman.issue_code([Scope::ReadBalance]);
    /// let config = Config::new("client-id").client_secret("secret").base_url(payman.base_url());
    /// let user = Client::with_auth_code(config, code).await?;
    /// # let _ = user;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) before any network: as
    /// [`with_credentials`](Self::with_credentials), and a blank code. After that, an error of the
    /// exchange: [`is_reauthorization_required`](Error::is_reauthorization_required) where the code
    /// was refused, or its reply lost.
    pub fn with_auth_code(
        config: Config,
        code: impl Into<AuthCode>,
    ) -> BoxFuture<'static, Result<Self>> {
        let code = code.into();
        Box::pin(async move {
            let base = config.check()?;
            config.require_secret()?;
            let http = http_of(&config, &base)?;
            let tokens = for_auth_code(&config, &base, &http, code).await?;
            Ok(Self::assemble(config, &base, http, tokens))
        })
    }

    /// Creates a client for the owner of a token: an access token, a refresh token, or both.
    /// Nothing is sent yet.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::{Client, Config, TokenInfo};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let token = TokenInfo::access("access-token", Duration::from_secs(3600))
    ///     .refresh("refresh-token");
    /// let client = Client::with_token(Config::new("client-id").client_secret("secret"), token)?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): an empty client id, a blank token, or
    /// another bad setting.
    pub fn with_token(config: Config, token: TokenInfo) -> Result<Self> {
        let base = config.check()?;
        let http = http_of(&config, &base)?;
        let tokens = for_token(&config, &base, &http, token)?;
        Ok(Self::assemble(config, &base, http, tokens))
    }

    fn assemble(config: Config, base: &BaseUrl, http: Http, tokens: TokenManager) -> Self {
        let journal = config.journal.map(|journal| {
            ClientJournal::new(journal, &config.client_id, base.as_str(), config.subject.as_deref())
        });
        let platform =
            Platform::new(http, tokens, config.limits, config.retry, base, config.on_ask_completed);
        Self(Arc::new(ClientInner {
            journal,
            platform: Arc::new(platform),
            name: config.name.map(Arc::from),
            session: config.session_id.unwrap_or_default(),
        }))
    }

    pub(crate) fn platform(&self) -> &Arc<Platform> {
        &self.0.platform
    }

    pub(crate) fn http(&self) -> &Http {
        &self.platform().http
    }
}

/// Returns the connection pool of a config: a shared one, or a new one.
fn http_of(config: &Config, base: &BaseUrl) -> Result<Http> {
    let Some(shared) = &config.shared else {
        return Http::new(HttpSettings {
            plain_loopback: base.is_plain_loopback(),
            connect_timeout: config.connect_timeout,
            configure: config.configure_http.clone(),
        });
    };
    if shared.is_plain_loopback() != base.is_plain_loopback() {
        return Err(Error::invalid_input(
            "share_connections joins a client on plain-http loopback with one on https; share among clients of one base URL",
        ));
    }
    Ok(shared.clone())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.0.name)
            .field("session", &self.0.session)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Uses the connections and the retry budget of another client: one pool for the clients of
    /// many users.
    ///
    /// The other client's connect timeout and HTTP settings apply, not those of this config. Share
    /// only among clients that are used on the same runtime: see [`Client`](Client#runtimes).
    ///
    /// ```
    /// use payman_sdk::{Client, Config, TokenInfo};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let app = Client::with_credentials(Config::new("client-id").client_secret("secret"))?;
    /// let user = Client::with_token(
    ///     Config::new("client-id").client_secret("secret").share_connections(&app),
    ///     TokenInfo::refresh_only("refresh-token"),
    /// )?;
    /// # let _ = user;
    /// # Ok(())
    /// # }
    /// ```
    pub fn share_connections(mut self, other: &Client) -> Self {
        self.shared = Some(other.http().clone());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{AskStream, RawStream};

    static_assertions::assert_impl_all!(Client: Clone, Send, Sync);
    static_assertions::assert_impl_all!(AskStream: Send, Unpin);
    static_assertions::assert_impl_all!(RawStream: Send, Unpin);
}
