//! The way to a fresh token on its own, for the benches.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::HeaderValue;
use secrecy::SecretString;
use tokio::time::Instant;

use super::super::grant::{Exchange, ExchangeError, Fault, Grant, Granted};
use super::super::store::{Owner, TokenKey};
use super::super::token::{Access, Lifetime, Token, TokenSource};
use super::{Keeper, Options};
use crate::MemoryTokenStore;
use crate::error::ErrorKind;

/// Reads a token as an ask does, and replaces it as a renewal does; sends nothing.
pub struct TokenReader(Keeper);

struct Nobody;

impl Exchange for Nobody {
    fn exchange(&self, _: Grant) -> BoxFuture<'static, Result<Granted, ExchangeError>> {
        let error = ExchangeError::new(Fault::Refused, ErrorKind::Auth, "there is no server");
        std::future::ready(Err(error)).boxed()
    }
}

impl Default for TokenReader {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenReader {
    /// With a token that lives for an hour.
    #[must_use]
    pub fn new() -> Self {
        let options = Options { owner: Owner::App, lost_refresh_retries: 1 };
        let key = TokenKey::new(Owner::App, "bench", "http://localhost", "bench");
        let store = Arc::new(MemoryTokenStore::new());
        let reader =
            Self(Keeper::new(options, Arc::new(Nobody), store, key, Token::none(TokenSource::ClientCredentials)));
        reader.renew();
        reader
    }

    /// The header of the token in hand. Needs a tokio runtime around it.
    #[must_use]
    pub fn read(&self) -> Option<HeaderValue> {
        Some(self.0.lend().now_or_never()?.ok()?.header)
    }

    /// Takes up the next token.
    pub fn renew(&self) {
        let generation = self.0.0.token().generation + 1;
        let lifetime = Lifetime::new(Instant::now(), Duration::from_secs(3600));
        let access = Access::new(&SecretString::from(format!("token-{generation}")), lifetime, generation);
        self.0.0.install(Token { generation, access, ..Token::none(TokenSource::ClientCredentials) });
    }
}

impl fmt::Debug for TokenReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReader").finish_non_exhaustive()
    }
}
