//! What the examples share: the emulator, or with `--live` the platform, where the money is real.
#![allow(dead_code)]

use std::env;

use payman_sdk::{Client, Config, Emulator, Result};

/// Whom the examples talk to. The emulator runs as long as this lives.
pub struct Payman(Option<Emulator>);

impl Payman {
    /// Starts the emulator; with `--live` reads the credentials from the environment and a `.env` file instead.
    pub async fn start() -> Result<Self> {
        if env::args().any(|argument| argument == "--live") {
            dotenvy::dotenv().ok();
            return Ok(Self(None));
        }
        let emulator = Emulator::start().await?;
        eprintln!("on the emulator at {}; --live asks the platform", emulator.base_url());
        Ok(Self(Some(emulator)))
    }

    /// A ready client.
    pub fn client(&self) -> Result<Client> {
        match &self.0 {
            Some(emulator) => Ok(emulator.client()),
            None => Client::from_env(),
        }
    }

    /// The credentials, for a client with settings of its own.
    pub fn config(&self) -> Result<Config> {
        if let Some(emulator) = &self.0 {
            return Ok(Config::new("your-client-id").client_secret("your-client-secret").base_url(emulator.base_url()));
        }
        let var = |name| env::var(name).unwrap_or_default();
        let config = Config::new(var("PAYMAN_CLIENT_ID")).client_secret(var("PAYMAN_CLIENT_SECRET"));
        match (env::var("PAYMAN_BASE_URL"), env::var("PAYMAN_ENVIRONMENT")) {
            (Ok(url), _) => Ok(config.base_url(url)),
            (_, Ok(environment)) => Ok(config.environment(environment.parse()?)),
            _ => Ok(config),
        }
    }

    /// The emulator, for what one cannot ask of the platform.
    pub fn emulator(&self) -> Option<&Emulator> {
        self.0.as_ref()
    }
}
