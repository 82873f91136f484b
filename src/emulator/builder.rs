//! How an emulator is set up and started.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;

use super::Emulator;
use super::dialect::Dialect;
use super::faults::{Fault, Faults};
use super::hub::Hub;
use super::settings::{Operation, Settings, Unsupported};
use super::{line, server};
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Outcome, Result};

/// Settings for an [`Emulator`], each with a method; see [`Settings`] for what they mean and their defaults.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct EmulatorBuilder {
    settings: Settings,
    faults: Vec<Fault>,
}

impl EmulatorBuilder {
    /// Starts from these settings.
    pub fn from_settings(settings: Settings) -> Self {
        Self { settings, faults: Vec::new() }
    }

    /// Changes any of the settings.
    pub fn configure(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Listens on this port of 127.0.0.1; a free one unless set.
    pub fn port(self, port: u16) -> Self {
        self.configure(|settings| settings.port = port)
    }

    /// Accepts only this client id and secret; any unless set.
    pub fn credentials(
        self,
        client_id: impl Into<String>,
        secret: impl Into<SecretString>,
    ) -> Self {
        self.configure(|settings| settings.credentials = Some((client_id.into(), secret.into())))
    }

    /// Accepts any access token, with all scopes: for tests that bring a token of their own.
    pub fn accept_any_token(self) -> Self {
        self.configure(|settings| settings.accept_any_token = true)
    }

    /// How long an access token holds.
    pub fn token_lifetime(self, lifetime: Duration) -> Self {
        self.configure(|settings| settings.token_lifetime = lifetime)
    }

    /// Gives a new refresh token with each refresh, and revokes the whole sign-in when an old one is used.
    pub fn rotate_refresh_tokens(self) -> Self {
        self.configure(|settings| settings.rotate_refresh_tokens = true)
    }

    /// Whether a refresh reply carries the refresh token where it is not rotated.
    pub fn refresh_token_in_refresh_replies(self, carried: bool) -> Self {
        self.configure(|settings| settings.refresh_token_in_refresh_replies = carried)
    }

    /// Gives a client that signs in as itself a refresh token too.
    pub fn refresh_tokens_for_apps(self) -> Self {
        self.configure(|settings| settings.refresh_tokens_for_apps = true)
    }

    /// The scopes that a client has which signs in as itself.
    pub fn scopes(self, scopes: impl IntoIterator<Item = impl ToString>) -> Self {
        let scopes = scopes.into_iter().map(|scope| scope.to_string()).collect();
        self.configure(|settings| settings.scopes = scopes)
    }

    /// What the wallet holds at the start.
    pub fn opening_balance(self, amount: Decimal) -> Self {
        self.configure(|settings| settings.opening_balance = amount)
    }

    /// Payments of more than this await approval.
    pub fn approval_limit(self, amount: Decimal) -> Self {
        self.configure(|settings| settings.approval_limit = amount)
    }

    /// How many characters a chunk of a streamed answer has; 0 for all at once.
    pub fn chunk_chars(self, characters: usize) -> Self {
        self.configure(|settings| settings.chunk_chars = characters)
    }

    /// How long the agent waits after each chunk.
    pub fn chunk_delay(self, delay: Duration) -> Self {
        self.configure(|settings| settings.chunk_delay = delay)
    }

    /// How long the agent thinks before it acts.
    pub fn agent_delay(self, delay: Duration) -> Self {
        self.configure(|settings| settings.agent_delay = delay)
    }

    /// How long every request is on its way.
    pub fn latency(self, latency: Duration) -> Self {
        self.configure(|settings| settings.latency = latency)
    }

    /// Takes an operation away, as if the server had never had it.
    pub fn without(self, operation: Operation) -> Self {
        self.configure(|settings| {
            settings.missing.insert(operation);
        })
    }

    /// How the emulator says that it lacks an operation.
    pub fn unsupported(self, how: Unsupported) -> Self {
        self.configure(|settings| settings.unsupported = how)
    }

    /// Changes how the emulator writes.
    pub fn dialect(self, change: impl FnOnce(&mut Dialect)) -> Self {
        self.configure(|settings| change(&mut settings.dialect))
    }

    /// Adds a fault that waits for its request from the start.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Starts it, in the caller's tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] where the port cannot be had.
    pub async fn start(self) -> Result<Emulator> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.settings.port));
        let refused = |error: std::io::Error| {
            let message = format!("could not listen on {address}");
            Error::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(error)
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let base_url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let mut faults = Faults::default();
        faults.add(self.faults);
        let client = client_of(&base_url, &self.settings)?;
        let hub = Hub::new(base_url, self.settings, faults);
        let server = tokio::spawn(line::serve(listener, server::router(hub.clone())));
        Ok(Emulator { hub, server, client })
    }
}

fn client_of(base_url: &str, settings: &Settings) -> Result<Client> {
    let config = match &settings.credentials {
        Some((id, secret)) => Config::new(id).client_secret(secret.expose_secret()),
        None => Config::new("emulator").client_secret("emulator"),
    };
    Client::with_credentials(config.name("emulator").base_url(base_url))
}
