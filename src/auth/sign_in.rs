//! A user's sign-in begins: an auth code becomes the first token.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::{Instant, sleep};

use super::grant::{Exchange, ExchangeError, Fault, Grant, Granted};
use super::manager::refresh::{ask_store, token_of};
use super::manager::{Options, TokenManager, events};
use super::store::{Owner, TokenKey, TokenStore, fingerprint};
use super::token::{Lifetime, Token, TokenSource};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::transport::backoff::Backoff;

const TRIES: u32 = 3;

/// Where the sign-in is to be kept.
pub(super) struct Place {
    pub(super) options: Options,
    pub(super) exchange: Arc<dyn Exchange>,
    pub(super) store: Arc<dyn TokenStore>,
    pub(super) client_id: String,
    pub(super) base_url: String,
    pub(super) subject: Option<String>,
}

/// In a task of its own: a caller who leaves does not take the only copy of a token along.
pub(super) async fn sign_in(place: Place, code: SecretString) -> Result<TokenManager> {
    let task = tokio::spawn(async move {
        let grant = Grant::AuthCode(code);
        let asked = Instant::now();
        let (granted, asked) =
            exchange(&*place.exchange, &grant, asked).await.map_err(never_again)?;
        place.begin(&grant, granted, asked).await
    });
    task.await.unwrap_or_else(|error| {
        Err(Error::new(
            ErrorKind::Interrupted,
            Outcome::NotDone,
            "the exchange of the auth code was cut short",
        )
        .with_source(error))
    })
}

/// Again only where nothing was sent: a code is never sent twice.
async fn exchange(
    exchange: &dyn Exchange,
    grant: &Grant,
    mut asked: Instant,
) -> Result<(Granted, Instant), ExchangeError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    let mut tries = 1;
    loop {
        match exchange.exchange(grant.clone()).await {
            Ok(granted) => return Ok((granted, asked)),
            Err(failed) => {
                events::failed(grant, 0, &failed, asked);
                if failed.fault != Fault::NotSent || tries == TRIES {
                    return Err(failed);
                }
                sleep(backoff.next_wait()).await;
            }
        }
        tries += 1;
        asked = Instant::now();
    }
}

/// Where the code may have been spent, or was refused, only a new one helps.
fn never_again(failed: ExchangeError) -> Error {
    let used_up = failed.fault == Fault::Lost
        || matches!(failed.error.status(), Some(400 | 500..=502 | 504..));
    if !used_up || failed.fault == Fault::GrantDead {
        return failed.error;
    }
    Error::new(
        ErrorKind::ReauthorizationRequired,
        Outcome::NotDone,
        "the user has to connect again: the auth code was sent and brought no token, and a code is never sent twice",
    )
    .with_source(failed.error)
}

impl Place {
    async fn begin(self, grant: &Grant, granted: Granted, asked: Instant) -> Result<TokenManager> {
        let seed = fingerprint(granted.refresh.as_ref().unwrap_or(&granted.access));
        let subject = self.subject.as_deref().unwrap_or(&seed);
        let key = TokenKey::new(Owner::User, &self.client_id, &self.base_url, subject);
        // What the store holds under this subject is an earlier sign-in of the same user: this one follows it.
        let before = match ask_store(self.store.load(&key)).await {
            Ok(stored) => stored.map_or(0, |stored| stored.generation),
            Err(_) => 0,
        };
        let lifetime = Lifetime::of_seconds(asked, granted.expires_in);
        let mut token = token_of(grant, granted, lifetime, before + 1).map_err(never_again)?;
        token.seed = Some(seed);
        events::obtained(grant, &token, asked);
        let keeper = TokenManager::new(
            self.options,
            self.exchange,
            self.store,
            key,
            Token::none(TokenSource::AuthCode),
        );
        keeper.begin(token, lifetime).await;
        Ok(keeper)
    }
}
