//! Who is asking: a credential becomes a token, and the token is kept fresh.

pub(crate) mod clock;
pub(crate) mod connect;
pub(crate) mod grant;
pub(crate) mod manager;
mod sign_in;
pub(crate) mod store;
pub(crate) mod token;

use std::sync::Arc;

use crate::config::Config;
use crate::endpoint::BaseUrl;
use crate::error::{Error, Result};
use crate::transport::Http;
use connect::AuthCode;
use grant::HttpExchange;
use manager::{Options, TokenManager};
use store::memory::MemoryTokenStore;
use store::{Owner, TokenKey, TokenStore};
use token::{Token, TokenInfo, TokenSource};

/// The app's own token.
pub(crate) fn for_credentials(
    config: &Config,
    base: &BaseUrl,
    http: &Http,
) -> Result<TokenManager> {
    config.require_secret()?;
    let subject = config.subject.as_deref().unwrap_or_default();
    keeper(config, base, http, Owner::App, subject, Token::none(TokenSource::ClientCredentials))
}

/// A user's token, for the code of the redirect: exchanged at once, and never sent twice.
pub(crate) async fn for_auth_code(
    config: &Config,
    base: &BaseUrl,
    http: &Http,
    code: AuthCode,
) -> Result<TokenManager> {
    if code.expose_secret().trim().is_empty() {
        return Err(Error::invalid_input("the auth code is blank"));
    }
    let exchange = Arc::new(exchange_of(config, base, http)?);
    let place = sign_in::Place {
        options: options(config, Owner::User),
        exchange,
        store: store_of(config),
        client_id: config.client_id.clone(),
        base_url: base.as_str().to_owned(),
        subject: config.subject.clone(),
    };
    sign_in::sign_in(place, code.into_secret()).await
}

/// A user's token that was obtained elsewhere.
pub(crate) fn for_token(
    config: &Config,
    base: &BaseUrl,
    http: &Http,
    info: TokenInfo,
) -> Result<TokenManager> {
    if info.is_stored() && (config.subject.is_none() || config.token_store.is_none()) {
        return Err(Error::invalid_input(
            "TokenInfo::stored needs a place to look: set Config::token_store and Config::subject",
        ));
    }
    // Without a subject each sign-in has a place of its own: one user's client never takes up another user's token.
    let subject = config.subject.clone().or_else(|| info.fingerprint()).unwrap_or_default();
    keeper(config, base, http, Owner::User, &subject, info.into_token()?)
}

fn keeper(
    config: &Config,
    base: &BaseUrl,
    http: &Http,
    owner: Owner,
    subject: &str,
    mut token: Token,
) -> Result<TokenManager> {
    let exchange = Arc::new(exchange_of(config, base, http)?);
    let key = TokenKey::new(owner, &config.client_id, base.as_str(), subject);
    // A store of the caller's is asked first: the newest generation wins.
    token.loaded = config.token_store.is_none();
    Ok(TokenManager::new(options(config, owner), exchange, store_of(config), key, token))
}

fn exchange_of(config: &Config, base: &BaseUrl, http: &Http) -> Result<HttpExchange> {
    HttpExchange::new(http, base, &config.client_id, config.client_secret.as_ref())
}

fn options(config: &Config, owner: Owner) -> Options {
    Options { owner, lost_refresh_retries: config.lost_refresh_retries }
}

fn store_of(config: &Config) -> Arc<dyn TokenStore> {
    config.token_store.clone().unwrap_or_else(|| Arc::new(MemoryTokenStore::new()))
}
