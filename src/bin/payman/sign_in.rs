//! As whom the program acts: a user whose token was given, a user who is connected, or the app itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use payman_sdk::{
    Claim, Claimed, Client, Committed, Config, FileTokenStore, StoreError, StoredToken, TokenInfo,
    TokenKey, TokenStore,
};

use crate::folder;
use crate::options::Options;
use crate::status::Failure;

/// Under which the connected user's token is kept: one for each client id and platform.
pub(crate) const SUBJECT: &str = "payman connect";

/// The client for whoever the options mean. Tokens that are given come first, then a user who is connected, then the app.
pub(crate) async fn client(options: &Options) -> Result<Client, Failure> {
    let given = options.access_token.is_some() || options.refresh_token.is_some();
    let Some(id) = &options.client_id else {
        let secret = (!given && options.client_secret.is_none()).then_some("PAYMAN_CLIENT_SECRET");
        return Err(missing(["PAYMAN_CLIENT_ID"].into_iter().chain(secret)));
    };
    let config = config(options, id);
    if let Some(client) = with_given_token(options, &config)? {
        return Ok(client);
    }
    if !options.as_app
        && let Some(client) = connected(options, &config).await?
    {
        return Ok(client);
    }
    if options.client_secret.is_none() {
        return Err(missing(["PAYMAN_CLIENT_SECRET"].into_iter()));
    }
    Ok(Client::with_credentials(config)?)
}

/// Where, by which app, and within which time.
pub(crate) fn config(options: &Options, client_id: &str) -> Config {
    let mut config = Config::new(client_id);
    if let Some(secret) = &options.client_secret {
        config = config.client_secret(secret);
    }
    if let Some(environment) = options.environment {
        config = config.environment(environment);
    }
    if let Some(url) = &options.base_url {
        config = config.base_url(url);
    }
    match options.timeout {
        Some(limit) => config.deadline(limit),
        None => config,
    }
}

fn with_given_token(options: &Options, config: &Config) -> Result<Option<Client>, Failure> {
    let lifetime = Duration::from_secs(options.expires_in);
    let token = match (&options.access_token, &options.refresh_token) {
        (None, None) => return Ok(None),
        (Some(access), None) => TokenInfo::access(access, lifetime),
        (Some(access), Some(refresh)) => TokenInfo::access(access, lifetime).refresh(refresh),
        (None, Some(refresh)) => TokenInfo::refresh_only(refresh),
    };
    let mut config = config.clone();
    // A server may rotate refresh tokens: the one that was given then works once, and its successor must outlive this command.
    if options.refresh_token.is_some()
        && let Some(path) = token_file(options)
    {
        folder::make_for(&path)?;
        config = config.token_store(FileTokenStore::new(path));
    }
    Ok(Some(Client::with_token(config, token)?))
}

/// The client of the user who is connected, if one is. Once one is, nothing falls back to the app's own wallet.
async fn connected(options: &Options, config: &Config) -> Result<Option<Client>, Failure> {
    let Some(path) = token_file(options).filter(|path| path.exists()) else {
        return Ok(None);
    };
    let store = Watched { file: FileTokenStore::new(path), found: Arc::default() };
    let found = Arc::clone(&store.found);
    let client = Client::with_token(
        config.clone().subject(SUBJECT).token_store(store),
        TokenInfo::stored(),
    )?;
    // Makes it look; where the token is of no use any more, the command hears of it when it asks.
    let _ = client.access_token().await;
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    match found {
        Some(Found::Token) => Ok(Some(client)),
        Some(Found::Nothing) | None => Ok(None),
        Some(Found::DecodeError(why)) => {
            Err(Failure::other(format!("the token file could not be read: {why}"))
                .next("Give another --token-file, or act as the app itself: --as-app"))
        }
    }
}

/// Where the tokens of users are kept.
pub(crate) fn token_file(options: &Options) -> Option<PathBuf> {
    options.token_file.clone().or_else(|| folder::file("tokens.json"))
}

fn missing(names: impl Iterator<Item = &'static str>) -> Failure {
    Failure::usage(format!("missing in the environment: {}", names.collect::<Vec<_>>().join(", ")))
        .next("Set them, or write them into a file named .env in this folder; each has an option too.")
        .next("Without an account: payman ask --emulator 'How much money do I have in my wallet?'")
}

/// What a token file had for us when it was looked at.
enum Found {
    Nothing,
    Token,
    DecodeError(String),
}

/// A token file that remembers whether anything was in it.
struct Watched {
    file: FileTokenStore,
    found: Arc<Mutex<Option<Found>>>,
}

impl TokenStore for Watched {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async move {
            let loaded = self.file.load(key).await;
            let found = match &loaded {
                Ok(Some(_)) => Found::Token,
                Ok(None) => Found::Nothing,
                Err(error) => Found::DecodeError(error.to_string()),
            };
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            loaded
        })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        self.file.claim(key, generation)
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        self.file.commit(claim, token)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        self.file.release(claim)
    }
}
