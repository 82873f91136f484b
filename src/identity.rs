//! The identity of a client: builds the token manager for a config and a sign-in.

use std::sync::Arc;

use crate::auth::connect::AuthCode;
use crate::auth::grant::HttpExchange;
use crate::auth::manager::{Options, TokenManager};
use crate::auth::sign_in::CodeSignIn;
use crate::auth::store::memory::MemoryTokenStore;
use crate::auth::store::process::ProcessTokenStore;
use crate::auth::store::{Owner, TokenKey, fingerprint};
use crate::auth::token::{Token, TokenInfo, TokenSource};
use crate::config::Config;
use crate::endpoint::BaseUrl;
use crate::error::{Error, Result};
use crate::transport::Http;

/// Creates the manager of the app's own token.
pub(crate) fn for_credentials(
    config: &Config,
    base: &BaseUrl,
    http: &Http,
) -> Result<TokenManager> {
    config.require_secret()?;
    let subject = config.subject.as_deref().unwrap_or_default();
    let key = |subject: &str| TokenKey::new(Owner::App, &config.client_id, base.as_str(), subject);
    let mut token = Token::none(TokenSource::ClientCredentials);
    let exchange = Arc::new(exchange_of(config, base, http)?);
    let options = options(config, Owner::App);
    if let Some(store) = &config.token_store {
        token.loaded = false;
        return Ok(TokenManager::new(options, exchange, Arc::clone(store), key(subject), token));
    }
    // Clients of this process with the same credentials share one token. Another secret is another
    // app: a wrong one must not work because a right one did.
    let secret = config.client_secret.as_ref().map(fingerprint).unwrap_or_default();
    let key = key(&subject_with(subject, &secret));
    let store = ProcessTokenStore::shared(&key);
    token.loaded = store.present().is_none();
    Ok(TokenManager::new(options, exchange, store, key, token))
}

/// Exchanges the code of the redirect for a user's token.
pub(crate) async fn for_auth_code(
    config: &Config,
    base: &BaseUrl,
    http: &Http,
    code: AuthCode,
) -> Result<TokenManager> {
    if code.expose_secret().trim().is_empty() {
        return Err(Error::invalid_input("the auth code is blank"));
    }
    if code.expose_secret().contains(char::is_control) {
        return Err(Error::invalid_input("the auth code holds a control character or a line end"));
    }
    let sign_in = CodeSignIn {
        options: options(config, Owner::User),
        exchange: Arc::new(exchange_of(config, base, http)?),
        store: config.token_store.clone().unwrap_or_else(|| Arc::new(MemoryTokenStore::new())),
        client_id: config.client_id.clone(),
        base_url: base.as_str().to_owned(),
        subject: config.subject.clone(),
    };
    sign_in.run(code.into_secret()).await
}

/// Creates the manager of a user's token that was obtained elsewhere.
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
    let given = info.fingerprint().unwrap_or_default();
    let key = |subject: &str| TokenKey::new(Owner::User, &config.client_id, base.as_str(), subject);
    let mut token = info.into_token()?;
    let exchange = Arc::new(exchange_of(config, base, http)?);
    let options = options(config, Owner::User);
    if let Some(store) = &config.token_store {
        // Without a subject each sign-in has a key of its own: no user's client adopts another
        // user's token.
        let key = key(config.subject.as_deref().unwrap_or(&given));
        // The store is asked first: it may hold a newer generation.
        token.loaded = false;
        return Ok(TokenManager::new(options, exchange, Arc::clone(store), key, token));
    }
    // Clients of this process that were given the same token share one holder, or they would spend
    // it twice.
    let subject = config.subject.as_deref().unwrap_or_default();
    let key = key(&subject_with(subject, &given));
    let store = ProcessTokenStore::shared(&key);
    token.loaded = store.present().is_none();
    Ok(TokenManager::new(options, exchange, store, key, token))
}

/// Returns the subject of a key that only the clients with the same secret use.
fn subject_with(subject: &str, fingerprint: &str) -> String {
    serde_json::Value::from(vec![subject, fingerprint]).to_string()
}

fn exchange_of(config: &Config, base: &BaseUrl, http: &Http) -> Result<HttpExchange> {
    HttpExchange::new(http, base, &config.client_id, config.client_secret.as_ref())
}

fn options(config: &Config, owner: Owner) -> Options {
    let background = config.background_refresh;
    Options { owner, lost_refresh_retries: config.lost_refresh_retries, background }
}
