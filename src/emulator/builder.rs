//! Configures and starts an emulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;

use super::Emulator;
use super::backend::Backend;
use super::dialect::Dialect;
use super::faults::{Fault, FaultQueue};
use super::settings::{Operation, Settings, Unsupported};
use super::{connection, server};
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Result};

/// Configures and starts an [`Emulator`]. [`Settings`] documents the defaults.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> payman_sdk::Result<()> {
/// use payman_sdk::Emulator;
/// use std::time::Duration;
///
/// let payman = Emulator::builder()
///     .credentials("my-app", "my-secret")
///     .token_lifetime(Duration::from_secs(2))
///     .rotate_refresh_tokens()
///     .agent_delay(Duration::from_millis(20))
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct EmulatorBuilder {
    settings: Settings,
    faults: Vec<Fault>,
}

impl EmulatorBuilder {
    /// Creates a builder from existing settings.
    ///
    /// ```
    /// use payman_sdk::EmulatorBuilder;
    /// use payman_sdk::emulator::Settings;
    ///
    /// let builder = EmulatorBuilder::from_settings(Settings::default());
    /// ```
    pub fn from_settings(settings: Settings) -> Self {
        Self { settings, faults: Vec::new() }
    }

    /// Changes any of the settings.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().configure(|settings| {
    ///     settings.chunk_chars = 1;
    ///     settings.code_lifetime = std::time::Duration::from_secs(5);
    /// });
    /// ```
    pub fn configure(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Sets the port on 127.0.0.1. Default: a free one.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().port(4242);
    /// ```
    pub fn port(self, port: u16) -> Self {
        self.configure(|settings| settings.port = port)
    }

    /// Accepts only this client id and secret. Default: all are accepted.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().credentials("my-app", "my-secret");
    /// ```
    pub fn credentials(
        self,
        client_id: impl Into<String>,
        secret: impl Into<SecretString>,
    ) -> Self {
        self.configure(|settings| settings.credentials = Some((client_id.into(), secret.into())))
    }

    /// Accepts every access token, with all scopes: for tests that supply their own token.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().accept_any_token();
    /// ```
    pub fn accept_any_token(self) -> Self {
        self.configure(|settings| settings.accept_any_token = true)
    }

    /// Sets the lifetime of an access token. Default: one hour.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().token_lifetime(std::time::Duration::from_secs(2));
    /// ```
    pub fn token_lifetime(self, lifetime: Duration) -> Self {
        self.configure(|settings| settings.token_lifetime = lifetime)
    }

    /// Issues a new refresh token with each refresh; the use of an old one revokes the sign-in.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().rotate_refresh_tokens();
    /// ```
    pub fn rotate_refresh_tokens(self) -> Self {
        self.configure(|settings| settings.rotate_refresh_tokens = true)
    }

    /// Sets whether a refresh reply repeats a refresh token that is not rotated. Default: true.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().refresh_token_in_refresh_replies(false);
    /// ```
    pub fn refresh_token_in_refresh_replies(self, included: bool) -> Self {
        self.configure(|settings| settings.refresh_token_in_refresh_replies = included)
    }

    /// Issues a refresh token for the client credentials grant too.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().refresh_tokens_for_apps();
    /// ```
    pub fn refresh_tokens_for_apps(self) -> Self {
        self.configure(|settings| settings.refresh_tokens_for_apps = true)
    }

    /// Sets the scopes of a client credentials token. Default: all.
    ///
    /// ```
    /// # use payman_sdk::{Emulator, Scope};
    /// let builder = Emulator::builder().scopes([Scope::ReadBalance, Scope::ReadListPayees]);
    /// ```
    pub fn scopes(self, scopes: impl IntoIterator<Item = impl ToString>) -> Self {
        let scopes = scopes.into_iter().map(|scope| scope.to_string()).collect();
        self.configure(|settings| settings.scopes = scopes)
    }

    /// Sets the wallet's balance at the start. Default: 1,000,000.00.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// use payman_sdk::emulator::Decimal;
    ///
    /// let builder = Emulator::builder().opening_balance(Decimal::new(100_00, 2)); // $100.00
    /// ```
    pub fn opening_balance(self, amount: Decimal) -> Self {
        self.configure(|settings| settings.opening_balance = amount)
    }

    /// Sets the amount above which a payment awaits approval. Default: 10,000.00.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// use payman_sdk::emulator::Decimal;
    ///
    /// let builder = Emulator::builder().approval_limit(Decimal::from(50));
    /// ```
    pub fn approval_limit(self, amount: Decimal) -> Self {
        self.configure(|settings| settings.approval_limit = amount)
    }

    /// Sets the length of a chunk of a streamed answer, in characters. Default: 24; 0 disables
    /// chunking.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().chunk_chars(4);
    /// ```
    pub fn chunk_chars(self, characters: usize) -> Self {
        self.configure(|settings| settings.chunk_chars = characters)
    }

    /// Sets the agent's pause after each chunk. Default: zero.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().chunk_delay(std::time::Duration::from_millis(30));
    /// ```
    pub fn chunk_delay(self, delay: Duration) -> Self {
        self.configure(|settings| settings.chunk_delay = delay)
    }

    /// Sets the agent's pause before it acts. Default: zero.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().agent_delay(std::time::Duration::from_secs(1));
    /// ```
    pub fn agent_delay(self, delay: Duration) -> Self {
        self.configure(|settings| settings.agent_delay = delay)
    }

    /// Sets the delay of every request before it is processed. Default: zero.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().latency(std::time::Duration::from_millis(40));
    /// ```
    pub fn latency(self, latency: Duration) -> Self {
        self.configure(|settings| settings.latency = latency)
    }

    /// Removes an operation, as if the server never had it.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// use payman_sdk::emulator::Operation;
    ///
    /// let builder = Emulator::builder().without(Operation::Get).without(Operation::Cancel);
    /// ```
    pub fn without(self, operation: Operation) -> Self {
        self.configure(|settings| {
            settings.missing.insert(operation);
        })
    }

    /// Sets the response to a request for a removed operation. Default: 404.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// use payman_sdk::emulator::{Operation, Unsupported};
    ///
    /// let builder =
    ///     Emulator::builder().without(Operation::Get).unsupported(Unsupported::MethodNotFound);
    /// ```
    pub fn unsupported(self, response: Unsupported) -> Self {
        self.configure(|settings| settings.unsupported = response)
    }

    /// Answers 409 to a second `send` of a task id, unless the agent waits for an answer in that
    /// task.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// let builder = Emulator::builder().conflict_on_resend();
    /// ```
    pub fn conflict_on_resend(self) -> Self {
        self.configure(|settings| settings.conflict_on_resend = true)
    }

    /// Changes the format of the responses.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// use payman_sdk::emulator::StateCase;
    ///
    /// let builder = Emulator::builder().dialect(|dialect| dialect.states = StateCase::Lower);
    /// ```
    pub fn dialect(self, change: impl FnOnce(&mut Dialect)) -> Self {
        self.configure(|settings| change(&mut settings.dialect))
    }

    /// Adds a fault.
    ///
    /// ```
    /// # use payman_sdk::Emulator;
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// let builder = Emulator::builder().fault(Fault::status(503).on(Operation::Token).times(2));
    /// ```
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Starts the emulator in the caller's tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Connect`](crate::ErrorKind::Connect) if the port is not available.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::Emulator;
    /// let payman = Emulator::builder().start().await?;
    /// println!("{}", payman.base_url());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(self) -> Result<Emulator> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.settings.port));
        let unavailable = |error| Error::emulator_address(address, error);
        let listener = TcpListener::bind(address).await.map_err(unavailable)?;
        let base_url = format!("http://{}", listener.local_addr().map_err(unavailable)?);
        let mut faults = FaultQueue::default();
        faults.add(self.faults);
        let client = client_of(&base_url, &self.settings)?;
        let backend = Backend::new(base_url, self.settings, faults);
        let server = tokio::spawn(connection::serve(listener, server::router(backend.clone())));
        Ok(Emulator { backend, server, client })
    }
}

fn client_of(base_url: &str, settings: &Settings) -> Result<Client> {
    let config = match &settings.credentials {
        Some((id, secret)) => Config::new(id).client_secret(secret.expose_secret()),
        None => Config::new("emulator").client_secret("emulator"),
    };
    Client::with_credentials(config.name("emulator").base_url(base_url))
}
