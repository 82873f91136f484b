//! Shared by the examples: access to the emulator, or with `--live` to the platform, where the
//! money is real.
//!
//! An example that is a folder includes this file by its path, since `mod support;` would look for
//! it in that folder.
#![expect(dead_code, reason = "each example uses a part of this")]

use std::env;

use payman_sdk::{Client, Config, ConnectUrl, Emulator, Environment, Result};

const CLIENT_ID: &str = "your-client-id";

/// The server that the examples talk to.
pub struct Payman {
    /// The emulator runs until this is dropped.
    emulator: Option<Emulator>,
    /// The emulator's address; `None` for the platform.
    base_url: Option<String>,
}

impl Payman {
    /// Starts the emulator, or with `--live` reads the credentials from the environment and a
    /// `.env` file.
    pub async fn start() -> Result<Self> {
        if env::args().any(|argument| argument == "--live") {
            dotenvy::dotenv().ok();
            return Ok(Self { emulator: None, base_url: None });
        }
        let emulator = Emulator::start().await?;
        eprintln!("on the emulator at {}; --live asks the platform", emulator.base_url());
        Ok(Self { base_url: Some(emulator.base_url().to_owned()), emulator: Some(emulator) })
    }

    /// Uses an emulator that runs already.
    pub fn at(base_url: &str) -> Self {
        Self { emulator: None, base_url: Some(base_url.to_owned()) }
    }

    /// Creates a client with default settings.
    pub fn client(&self) -> Result<Client> {
        match &self.base_url {
            Some(_) => Client::with_credentials(self.config()?),
            None => Client::from_env(),
        }
    }

    /// Returns the credentials, for a client with other settings.
    pub fn config(&self) -> Result<Config> {
        if let Some(base_url) = &self.base_url {
            return Ok(Config::new(CLIENT_ID)
                .client_secret("your-client-secret")
                .base_url(base_url));
        }
        let config =
            Config::new(var("PAYMAN_CLIENT_ID")).client_secret(var("PAYMAN_CLIENT_SECRET"));
        match env::var("PAYMAN_BASE_URL") {
            Ok(url) => Ok(config.base_url(url)),
            Err(_) => Ok(config.environment(environment()?)),
        }
    }

    /// Returns the page where a user connects their account to the app.
    pub fn connect_url(&self, redirect_uri: &str) -> Result<ConnectUrl> {
        if let Some(base_url) = &self.base_url {
            return Ok(ConnectUrl::new(CLIENT_ID, redirect_uri).base_url(base_url));
        }
        let url = ConnectUrl::new(var("PAYMAN_CLIENT_ID"), redirect_uri);
        match env::var("PAYMAN_BASE_URL") {
            Ok(base) => Ok(url.base_url(base)),
            Err(_) => Ok(url.environment(environment()?)),
        }
    }

    /// Returns the emulator, for functions that the platform does not have.
    pub fn emulator(&self) -> Option<&Emulator> {
        self.emulator.as_ref()
    }
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn environment() -> Result<Environment> {
    env::var("PAYMAN_ENVIRONMENT").map_or(Ok(Environment::Live), |name| name.parse())
}
