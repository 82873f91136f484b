//! A user's sign-in: an auth code becomes the first token.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::clock::{Moment, wall_now};
use super::grant::{Exchange, ExchangeError, Grant, GrantFault, Granted};
use super::manager::refresh::token_of;
use super::manager::store_calls::CheckedStore;
use super::manager::{Options, TokenManager, events, next_sign_in};
use super::store::{Owner, TokenKey, TokenStore, Version, fingerprint, millis};
use super::token::{Lifetime, Token, TokenSource};
use crate::error::{Error, Result};
use crate::transport::backoff::Backoff;

const MAX_ATTEMPTS: u32 = 3;

/// A sign-in by auth code, and the store of its token.
pub(crate) struct CodeSignIn {
    pub(crate) options: Options,
    pub(crate) exchange: Arc<dyn Exchange>,
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) client_id: String,
    pub(crate) base_url: String,
    pub(crate) subject: Option<String>,
}

/// A granted token, and the time of its request.
struct Exchanged {
    granted: Granted,
    asked: Moment,
}

impl CodeSignIn {
    /// Exchanges the code in a task of its own, for cancellation safety: dropping the caller's
    /// future must not drop the only copy of the token.
    pub(crate) async fn run(self, code: SecretString) -> Result<TokenManager> {
        let runtime = Handle::try_current().map_err(|_| Error::no_runtime())?;
        let task = runtime.spawn(async move {
            let grant = Grant::AuthCode(code);
            let exchanged = self.exchange(&grant).await.map_err(code_spent)?;
            self.begin(&grant, exchanged).await
        });
        task.await.unwrap_or_else(|error| Err(Error::sign_in_ended_early(error)))
    }

    /// Repeats the exchange only where nothing was sent: a code is never sent twice.
    async fn exchange(&self, grant: &Grant) -> Result<Exchanged, ExchangeError> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        let mut attempts = 1;
        loop {
            let asked = Moment::now();
            match self.exchange.exchange(grant.clone()).await {
                Ok(granted) => return Ok(Exchanged { granted, asked }),
                Err(failed) => {
                    events::failed(grant, 0, &failed, asked.monotonic);
                    if failed.fault != GrantFault::NotSent || attempts == MAX_ATTEMPTS {
                        return Err(failed);
                    }
                    sleep(backoff.next_wait()).await;
                }
            }
            attempts += 1;
        }
    }

    async fn begin(self, grant: &Grant, exchanged: Exchanged) -> Result<TokenManager> {
        let Exchanged { granted, asked } = exchanged;
        let seed = fingerprint(granted.refresh.as_ref().unwrap_or(&granted.access));
        let subject = self.subject.as_deref().unwrap_or(&seed);
        let key = TokenKey::new(Owner::User, &self.client_id, &self.base_url, subject);
        // The store's token under this subject is an earlier sign-in of the same user, and this one
        // is numbered after it. Where the store fails, the wall clock orders them.
        let store = CheckedStore::new(Arc::clone(&self.store), key.clone());
        let before = store.load().await.ok().flatten();
        let version = Version {
            sign_in: before.as_ref().map_or_else(|| millis(wall_now()), next_sign_in),
            generation: before.as_ref().map_or(0, |stored| stored.generation) + 1,
        };
        let lifetime = Lifetime::of_seconds(asked, granted.expires_in);
        let mut token = token_of(grant, granted, lifetime, version).map_err(code_spent)?.token;
        token.seed = Some(seed);
        token.known = before.map(|stored| stored.known_to_successor()).unwrap_or_default();
        events::obtained(grant, &token, asked.monotonic);
        let none = Token::none(TokenSource::AuthCode);
        let manager = TokenManager::new(self.options, self.exchange, self.store, key, none);
        manager.begin(token, lifetime).await;
        Ok(manager)
    }
}

/// Builds the error of a failed exchange. Where the code may have been spent, or was refused, the
/// user has to connect again.
fn code_spent(failed: ExchangeError) -> Error {
    let is_spent = match failed.fault {
        GrantFault::Lost | GrantFault::Failed => true,
        // A refusal with another error code than `invalid_grant` concerns the app.
        GrantFault::Refused => failed.error.status() == Some(400) && !failed.names_reason,
        GrantFault::NotSent | GrantFault::Busy | GrantFault::GrantDead => false,
    };
    if !is_spent {
        return failed.error;
    }
    Error::reauthorization_required(
        "the auth code was sent and brought no token, and a code is never sent twice",
    )
    .with_source(failed.error)
}
