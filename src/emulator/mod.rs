//! An emulator of the platform: in memory, on loopback, with play money.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> payman_sdk::Result<()> {
//! use payman_sdk::Emulator;
//!
//! let payman = Emulator::start().await?;
//! let client = payman.client();
//! client.ask("Create a payee named Tyllen").await?;
//! client.ask("Pay Tyllen $50").await?;
//!
//! let state = payman.state();
//! assert_eq!(state.payments[0].payee, "Tyllen");
//! assert_eq!(state.wallets[0].balance.to_string(), "999950.00");
//! # Ok(())
//! # }
//! ```
//!
//! Any client works: [`Emulator::client`] returns one, and every other client needs only
//! [`Emulator::base_url`], any client id and any secret. On the real platform, test money is chosen
//! by the credentials (`pm-test-…` on the live host) and not by the host. The emulator replaces the
//! host, and its money is never real.
//!
//! # Behavior
//!
//! Responses have the platform's format as far as it is known; a [`Dialect`] changes it. At the
//! start there is one wallet of $1,000,000, no payee and no payment. **All sign-ins share one
//! ledger**: a client that signs in as itself and the users who connected see the same wallet,
//! payees and payments.
//!
//! The agent works in its own tokio task, so a client that disconnects stops nothing. A task id
//! that is sent twice continues the task: a payment that is asked for twice is made twice, unless
//! the server [refuses a second send](EmulatorBuilder::conflict_on_resend). Messages to one task
//! are processed one after the other.
//!
//! | message | action | scope |
//! |---|---|---|
//! | `How much money do I have in my wallet?`, `What's my balance?` | tells the balance | `read_balance` |
//! | `List all wallets` | lists the wallets, with their balance if the token has `read_balance` | `read_list_wallets` |
//! | `Create a new payee with the email x@y.com`, `create payee Tyllen`, `Add John Doe as a payee` | creates the payee | `write_create_payee` |
//! | `List all payees` | lists the payees | `read_list_payees` |
//! | `Pay Tyllen $50`, `Pay Tyllen 50$`, `send 100 TSD to John Doe` | makes a payment | `write_send_payment` |
//! | `Show my last 5 transactions` | lists the payments, the newest first | `read_list_transactions` |
//! | `What did we talk about earlier?` | repeats the session's last messages | none |
//! | anything else | explains what the agent understands; nothing is done | none |
//!
//! * A payee who is unknown, or a name with several matches:
//!   [`InputRequired`](crate::TaskState::InputRequired). The status message is a question, and the
//!   next message **in the same task** answers it: `yes, create them`, `the second one`, a name,
//!   `no`.
//! * A payment above the [limit](Settings::approval_limit) awaits approval: the task is
//!   [`Completed`](crate::TaskState::Completed), the text states it, and no money has left the
//!   wallet.
//! * Insufficient funds and a missing scope: [`Failed`](crate::TaskState::Failed). The platform's
//!   behavior in these cases is not known; nothing is paid, and the text states it.
//! * An amount that is ambiguous (`1,5`, `5k`), not positive, has fractions of a cent or is in
//!   another currency is not paid, and the text states it. Amounts are exact decimals.
//! * A task that is canceled before the agent acts does nothing. What was done before stays done.
//!
//! # Endpoints
//!
//! Besides the platform's own paths, `GET /oauth/connect` is the consent page; `POST` it with
//! `decision=allow` or `decision=deny`. It redirects only to plain-http loopback addresses. The
//! following paths are for tests in any language:
//!
//! | request | response |
//! |---|---|
//! | `GET /_emulator/state` | [`EmulatorState`] as JSON |
//! | `POST /_emulator/reset` | discards the ledger, tasks, sessions, tokens, counters and faults; `{"reset": true}` |
//! | `POST /_emulator/faults` | adds one fault or a list of faults; `{"waiting": 3}`, or 400 with `{"error": "…"}` |
//! | `DELETE /_emulator/faults` | removes all faults, and nothing else; `{"cleared": 3}` |
//!
//! # Faults
//!
//! A [`Fault`] makes the next request fail. The first fault in the queue that applies to a
//! request's operation is used, and removed from the queue once it was used `times` times. In
//! JSON:
//!
//! ```json
//! [{"on": "send", "times": 2, "status": 503, "retryAfter": 1, "body": {"error": "busy"}},
//!  {"on": "send", "when": "after", "close": true},
//!  {"on": "sendSubscribe", "cutAfter": 100},
//!  {"on": "get", "stall": true},
//!  {"on": "any", "skip": 1, "delayMs": 200}]
//! ```
//!
//! | field | meaning | default |
//! |---|---|---|
//! | `on` | `send`, `sendSubscribe`, `get`, `cancel`, `resubscribe`, `token`, `agentCard` or `any` | `any` |
//! | `times` | the number of requests that meet the fault | 1 |
//! | `skip` | the number of requests of that operation that pass first | 0 |
//! | `when` | `before` the operation, or `after` it: the payment is made, the token is spent | `before` |
//! | `delayMs` | a delay in milliseconds, alone or with one of the following | 0 |
//! | `status` | answers with this HTTP status, with `retryAfter`, `body` and `contentType` | |
//! | `close` | `true` closes the connection without a response | |
//! | `stall` | `true` sends nothing, not even headers, and keeps the connection open | |
//! | `cutAfter` | cuts the connection after so many bytes of the response's body | |
//! | `stallAfter` | stops sending after so many bytes of the body | |
//! | `endAfter` | ends the body cleanly after so many bytes | |

mod agent;
mod agent_card;
mod agent_job;
mod backend;
mod builder;
mod clock;
mod connection;
mod consent;
mod control;
mod dialect;
mod error_format;
mod event_stream;
mod faults;
mod follow_up;
mod intent;
mod intercept;
mod ledger;
mod money;
mod named_enum;
mod negotiation;
mod oauth;
mod request;
mod rpc;
mod run;
mod server;
mod settings;
mod state;
mod tasks;
mod token_endpoint;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::task::JoinHandle;

pub use builder::EmulatorBuilder;
pub use dialect::{
    Dialect, Envelope, FinalFlag, LastChunkFlag, LineEnd, StateCase, StatusText, TokenNames,
};
pub use error_format::ErrorFormat;
pub use faults::Fault;
pub use ledger::{Payee, Payment, PaymentStatus, Wallet};
pub use money::Currency;
pub use negotiation::JsonMediaType;
pub use rust_decimal::Decimal;
pub use settings::{Operation, Settings, Unsupported};
pub use state::EmulatorState;

use crate::client::Client;
use crate::error::Result;
use backend::Backend;

/// A running emulator. It stops, and closes all its connections, when it is dropped.
///
/// It runs in the tokio runtime that it was started on, and may be dropped anywhere. [The module's
/// docs](self) describe its behavior.
pub struct Emulator {
    backend: Arc<Backend>,
    server: JoinHandle<()>,
    client: Client,
}

impl Emulator {
    /// Starts an emulator with the default [`Settings`] on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Connect`](crate::ErrorKind::Connect) if no port is available.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// use payman_sdk::Emulator;
    ///
    /// let payman = Emulator::start().await?;
    /// println!("{}", payman.client().ask("How much money do I have in my wallet?").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns a builder with the default [`Settings`].
    ///
    /// ```
    /// use payman_sdk::Emulator;
    ///
    /// let builder = Emulator::builder().chunk_chars(4).rotate_refresh_tokens();
    /// ```
    pub fn builder() -> EmulatorBuilder {
        EmulatorBuilder::default()
    }

    /// Returns the base URL, `http://127.0.0.1:PORT`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// use payman_sdk::{Client, Config, Emulator};
    ///
    /// let payman = Emulator::start().await?;
    /// let config = Config::new("any-id").client_secret("any-secret").base_url(payman.base_url());
    /// let client = Client::with_credentials(config)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.backend.base_url
    }

    /// Returns a client of the emulator with a new session. All of them share one token and one
    /// connection pool.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// let (alice, bob) = (payman.client(), payman.client());
    /// assert_ne!(alice.session_id(), bob.session_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.new_session()
    }

    /// Returns a snapshot of the state.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// assert!(payman.state().payments.is_empty());
    /// assert_eq!(payman.state().wallets[0].balance.to_string(), "1000000.00");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn state(&self) -> EmulatorState {
        self.backend.state()
    }

    /// Discards the ledger, tasks, sessions, tokens, counters and faults. The settings stay.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// payman.client().ask("Create a payee named Tyllen").await?;
    /// payman.reset();
    /// assert!(payman.state().payees.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset(&self) {
        self.backend.reset();
    }

    /// Changes the settings of a running emulator. Requests in progress may keep the old ones.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// payman.configure(|settings| settings.agent_delay = std::time::Duration::from_secs(1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.backend.settings());
    }

    /// Adds a fault to the queue.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// payman.fault(Fault::status(400).on(Operation::Send));
    /// let error = payman.client().ask("Pay Tyllen $50").await.unwrap_err();
    /// assert!(error.is_safe_to_ask_again());
    /// # Ok(())
    /// # }
    /// ```
    pub fn fault(&self, fault: Fault) {
        self.faults([fault]);
    }

    /// Adds faults to the queue.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// use payman_sdk::emulator::{Fault, Operation};
    ///
    /// payman.faults([Fault::close().on(Operation::Send), Fault::status(503).on(Operation::Get)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.backend.faults().add(faults);
    }

    /// Removes all faults from the queue. The ledger, tasks, sessions and tokens stay. A request
    /// that met a fault already is not affected.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// use payman_sdk::emulator::Fault;
    ///
    /// let client = payman.client();
    /// client.ask("Create a payee named Tyllen").await?;
    /// payman.fault(Fault::status(400).always());
    /// assert!(client.ask("List all payees").await.is_err());
    /// payman.clear_faults();
    /// assert!(client.ask("List all payees").await?.text().contains("Tyllen"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear_faults(&self) {
        self.backend.faults().clear();
    }

    /// Issues an authorization code, as if a user had consented to these scopes. Any client may use
    /// it once, within [`Settings::code_lifetime`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// use payman_sdk::{Client, Config, Scope};
    ///
    /// let code = payman.issue_code([Scope::ReadBalance]);
    /// let config = Config::new("my-app").client_secret("secret").base_url(payman.base_url());
    /// let user = Client::with_auth_code(config, code).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn issue_code(&self, scopes: impl IntoIterator<Item = impl ToString>) -> String {
        let lifetime = self.backend.settings().code_lifetime;
        self.backend.data().oauth.issue_code(None, scope_names(scopes), lifetime)
    }

    /// Issues an access token of a new sign-in with these scopes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// use payman_sdk::{Client, Config, Scope, TokenInfo};
    /// use std::time::Duration;
    ///
    /// let token = payman.issue_access_token([Scope::ReadBalance]);
    /// let config = Config::new("my-app").base_url(payman.base_url());
    /// let token = TokenInfo::access(token, Duration::from_secs(3600));
    /// let user = Client::with_token(config, token)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn issue_access_token(&self, scopes: impl IntoIterator<Item = impl ToString>) -> String {
        let settings = self.backend.settings().clone();
        self.backend.data().oauth.issue_tokens(scope_names(scopes), &settings).access_token
    }

    /// Issues a refresh token of a new sign-in with these scopes, for any client.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// use payman_sdk::{Client, Config, Scope, TokenInfo};
    ///
    /// let token = payman.issue_refresh_token([Scope::ReadBalance]);
    /// let config = Config::new("my-app").client_secret("secret").base_url(payman.base_url());
    /// let user = Client::with_token(config, TokenInfo::refresh_only(token))?;
    /// user.ask("What's my balance?").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn issue_refresh_token(&self, scopes: impl IntoIterator<Item = impl ToString>) -> String {
        let settings = self.backend.settings().clone();
        self.backend
            .data()
            .oauth
            .issue_tokens(scope_names(scopes), &settings)
            .refresh_token
            .unwrap_or_default()
    }

    /// Expires all access tokens issued so far. They can be refreshed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// let client = payman.client();
    /// client.ask("List all payees").await?;
    /// payman.expire_access_tokens();
    /// client.ask("List all payees").await?; // refreshes first
    /// assert_eq!(payman.state().token_requests, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire_access_tokens(&self) {
        self.backend.data().oauth.expire_access_tokens();
    }

    /// Revokes all sign-ins so far: their access tokens and refresh tokens are refused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// use payman_sdk::{Client, Config, Scope, TokenInfo};
    ///
    /// let token = payman.issue_refresh_token([Scope::ReadBalance]);
    /// payman.revoke_all();
    /// let config = Config::new("my-app").client_secret("secret").base_url(payman.base_url());
    /// let user = Client::with_token(config, TokenInfo::refresh_only(token))?;
    /// let error = user.ask("What's my balance?").await.unwrap_err();
    /// assert!(error.is_reauthorization_required());
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke_all(&self) {
        self.backend.data().oauth.revoke_all();
    }

    /// Serves until the future is dropped: for programs that only run an emulator.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::Emulator;
    /// Emulator::builder().port(4242).start().await?.serve_forever().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve_forever(mut self) {
        let _ = (&mut self.server).await;
    }
}

fn scope_names(scopes: impl IntoIterator<Item = impl ToString>) -> BTreeSet<String> {
    scopes.into_iter().map(|scope| scope.to_string()).collect()
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
        self.backend.stop_jobs();
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}
