//! The tokens of a client: reading them, signing out, and closing.

use std::sync::Arc;

use futures::future::BoxFuture;
use secrecy::SecretString;
use tokio::runtime::Handle;

use super::Client;
use crate::auth::token::{AccessToken, TokenStatus};
use crate::error::{Error, Result};

/// Tokens and sign-out.
impl Client {
    /// Returns a valid access token, and renews it first where necessary.
    ///
    /// Call this once at the start of a service to obtain the first token before the first ask.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let token = client.access_token().await?;
    /// assert!(token.expires_in() > std::time::Duration::from_secs(60));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error where there is no valid token and none could be obtained; its source has
    /// the cause.
    pub fn access_token(&self) -> BoxFuture<'static, Result<AccessToken>> {
        let platform = Arc::clone(self.platform());
        Box::pin(async move {
            if Handle::try_current().is_err() {
                return Err(Error::no_runtime());
            }
            platform.access_token().await
        })
    }

    /// Returns the present refresh token, if there is one.
    ///
    /// ```
    /// use payman_sdk::{Client, Config, TokenInfo};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let token = TokenInfo::refresh_only("refresh-token");
    /// let client = Client::with_token(Config::new("id"), token)?;
    /// assert!(client.refresh_token().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn refresh_token(&self) -> Option<SecretString> {
        self.platform().tokens.refresh_token()
    }

    /// Returns true when there is no valid access token right now; the next call obtains one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// assert!(client.is_access_token_expired()); // none yet: the next call obtains one
    /// client.access_token().await?;
    /// assert!(!client.is_access_token_expired());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_access_token_expired(&self) -> bool {
        self.platform().tokens.is_expired()
    }

    /// Signs the user out: forgets their tokens in this client, its clones and the
    /// [`TokenStore`](crate::TokenStore). They have to connect again.
    ///
    /// Once this returns `Ok`, no token of an earlier sign-in is stored again, by any process. The
    /// platform is not notified, because no request for that is known: another process may use an
    /// access token until it expires.
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
    /// user.sign_out().await?;
    /// assert!(user.access_token().await.unwrap_err().is_reauthorization_required());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`TokenStore`](crate::ErrorKind::TokenStore) where the store fails: the user is not
    /// signed out. Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) for a client of the app
    /// itself ([`with_credentials`](Self::with_credentials)), and outside a tokio runtime.
    pub fn sign_out(&self) -> BoxFuture<'static, Result<()>> {
        let platform = Arc::clone(self.platform());
        Box::pin(async move { platform.tokens.sign_out().await })
    }

    /// Returns the state of the token, for a health endpoint. It holds no secret.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// assert!(client.token_status().is_usable());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn token_status(&self) -> TokenStatus {
        self.platform().tokens.status()
    }

    /// Waits for a refresh in progress and for tokens that are not stored yet, at most 35 seconds.
    /// Call this before the process ends.
    ///
    /// If a process ends during a refresh, the only copy of a rotated refresh token may be lost.
    /// Other processes then wait for 90 seconds, and the user may have to connect again. A client
    /// that is closed still works, but no longer refreshes its token in the background. Closing
    /// again is harmless, and clones share the token.
    ///
    /// A server closes its clients after it has served its last request:
    ///
    /// ```
    /// # use std::io::Result;
    /// # async fn f(
    /// #     client: payman_sdk::Client, server: impl Future<Output = Result<()>>,
    /// # ) -> Result<()> {
    /// // axum: `axum::serve(listener, app).with_graceful_shutdown(signal)`
    /// // actix: `HttpServer::new(…).bind(…)?.run()`, which ends on Ctrl-C and SIGTERM
    /// server.await?;
    /// client.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) -> BoxFuture<'static, ()> {
        let platform = Arc::clone(self.platform());
        Box::pin(async move { platform.tokens.close().await })
    }
}
