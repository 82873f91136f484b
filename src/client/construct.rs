//! The constructors of a client: from credentials, an auth code or a token.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Client, ClientInner};
use crate::auth::connect::AuthCode;
use crate::auth::manager::TokenManager;
use crate::auth::token::TokenInfo;
use crate::config::Config;
use crate::delivery::Platform;
use crate::endpoint::BaseUrl;
use crate::error::{Error, Result};
use crate::identity::{for_auth_code, for_credentials, for_token};
use crate::journal::ClientJournal;
use crate::transport::{Http, HttpSettings};

/// Constructors: from credentials, an auth code or a token.
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
            "share_connections joins a client on plain-http loopback with one on https; share \
             among clients of one base URL",
        ));
    }
    Ok(shared.clone())
}
