//! The other end of the wire: a stand-in for the platform, in memory, on loopback, with play money.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> payman_sdk::Result<()> {
//! use payman_sdk::Emulator;
//!
//! let payman = Emulator::start().await?;
//! assert!(payman.base_url().starts_with("http://127.0.0.1:"));
//! assert_eq!(payman.state().wallets[0].balance.to_string(), "1000000.00");
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! It writes as the platform does, so far as that is known: see the [dialect](Dialect) for the spellings that can be
//! changed. There is one wallet of $1,000,000, no payee and no payment at the start. **All sign-ins share one ledger**: a
//! client that signs in as itself and the users who connected see the same wallet, payees and payments.
//!
//! The agent works in a task of its own: a caller who disconnects stops nothing. A task id that is sent twice
//! continues the task, and a payment that is asked for twice is made twice. Messages to one task take turns.
//!
//! | asked | done |
//! |---|---|
//! | `How much money do I have in my wallet?`, `What's my balance?` | tells the balance (scope `read_balance`) |
//! | `List all wallets` | lists them (`read_list_wallets`), with what they hold (`read_balance`) |
//! | `Create a new payee with the email x@y.com`, `create payee Tyllen`, `Add John Doe as a payee` | creates it (`write_create_payee`) |
//! | `List all payees` | lists them (`read_list_payees`) |
//! | `Pay Tyllen $50`, `Pay Tyllen 50$`, `send 100 TSD to John Doe` | pays (`write_send_payment`) |
//! | `Show my last 5 transactions` | lists them, the newest first (`read_list_transactions`) |
//! | `What did we talk about earlier?` | tells the session's last exchanges |
//! | anything else | says what it can do, and that nothing was done |
//!
//! * A payee that is unknown, or two that could be meant: [`InputRequired`](crate::TaskState::InputRequired), the question is
//!   the status message, and the next message **in the same task** answers it: `yes, create them`, `the second one`, a name, `no`.
//! * A payment of more than the [limit](Settings::approval_limit) awaits approval: the task is
//!   [`Completed`](crate::TaskState::Completed), the text says so, and no money has left the wallet.
//! * Insufficient funds and a missing scope: [`Failed`](crate::TaskState::Failed). What the platform does there is not
//!   known; nothing is paid, and the text says so.
//! * An amount that could mean two things (`1,5`, `5k`), is not positive, has fractions of a cent or is in another
//!   currency is not paid, and the text says so. Amounts are exact decimals.
//! * A task that is canceled while the agent thinks does nothing more; what it had done before stays done.
//!
//! # Over HTTP
//!
//! Beside the platform's own paths, `GET /oauth/connect` is the consent page (`POST` it with `decision=allow` or `decision=deny`);
//! redirects go only to plain-http loopback addresses. For tests in any language:
//!
//! | request | what |
//! |---|---|
//! | `GET /_emulator/state` | [`EmulatorState`] as JSON |
//! | `POST /_emulator/reset` | back to the start: books, tasks, sessions, tokens, counters and faults |
//! | `POST /_emulator/faults` | one fault or a list of them, as below |
//!
//! ```json
//! [{"on": "send", "times": 2, "status": 503, "retryAfter": 1, "body": {"error": "busy"}},
//!  {"on": "send", "when": "after", "close": true},
//!  {"on": "sendSubscribe", "cutAfter": 100},
//!  {"on": "get", "stall": true},
//!  {"on": "any", "skip": 1, "delayMs": 200}]
//! ```
//!
//! `on` is `send`, `sendSubscribe`, `get`, `cancel`, `resubscribe`, `token`, `agentCard` or `any` (the default); `times` is 1 unless given; `skip` lets
//! so many requests pass first; `when` is `before` (the default) or `after` the agent acted. Then one of `status` (with `retryAfter`,
//! `body`, `contentType`), `close`, `stall` (no headers either), `cutAfter`, `stallAfter`, `endAfter` (bytes of the reply's body), each also
//! with `delayMs`, or `delayMs` alone.

mod agent;
mod builder;
mod clock;
mod control;
mod dialect;
mod faults;
mod hub;
mod intent;
mod ledger;
mod line;
mod money;
mod oauth;
mod request;
mod run;
mod server;
mod settings;
mod spelling;
mod state;
mod tasks;
mod tokens;

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinHandle;

pub use builder::EmulatorBuilder;
pub use dialect::{
    Dialect, Envelope, FinalFlag, LastChunkFlag, LineEnd, StateCase, StatusText, TokenNames,
};
pub use faults::Fault;
pub use ledger::{Payee, Payment, PaymentStatus, Wallet};
pub use money::Currency;
pub use rust_decimal::Decimal;
pub use settings::{Operation, Settings, Unsupported};
pub use state::EmulatorState;

use crate::client::Client;
use crate::error::Result;
use hub::Hub;

/// A running emulator; it stops, with all its connections, when it is dropped.
///
/// It runs in the tokio runtime that it was started on, and may be dropped anywhere.
pub struct Emulator {
    hub: Arc<Hub>,
    server: JoinHandle<()>,
    client: Client,
}

impl Emulator {
    /// Starts one on a free port of 127.0.0.1, as the platform is, with any client id and secret.
    ///
    /// # Errors
    ///
    /// Where there is no port to be had.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Sets one up.
    pub fn builder() -> EmulatorBuilder {
        EmulatorBuilder::default()
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.hub.base_url
    }

    /// A client of it, with a session of its own. All share one token and one connection pool.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.new_session()
    }

    /// What it knows now.
    #[must_use]
    pub fn state(&self) -> EmulatorState {
        self.hub.state()
    }

    /// Back to the start: books, tasks, sessions, tokens, counters and faults. The settings stay.
    pub fn reset(&self) {
        self.hub.reset();
    }

    /// Changes the settings while it runs; what was begun goes on as it began.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.hub.settings());
    }

    /// Adds a fault.
    pub fn fault(&self, fault: Fault) {
        self.faults([fault]);
    }

    /// Adds faults.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.hub.faults().add(faults);
    }

    /// An authorization code, as if a user had agreed to these scopes: for any client, once, and soon.
    #[must_use]
    pub fn issue_code(&self, scopes: impl IntoIterator<Item = impl ToString>) -> String {
        let lifetime = self.hub.settings().code_lifetime;
        self.hub.world().oauth.issue_code(None, names(scopes), lifetime)
    }

    /// An access token of a new sign-in with these scopes.
    #[must_use]
    pub fn issue_access_token(&self, scopes: impl IntoIterator<Item = impl ToString>) -> String {
        let settings = self.hub.settings().clone();
        self.hub.world().oauth.issue_tokens(names(scopes), &settings).access_token
    }

    /// A refresh token of a new sign-in with these scopes, for any client.
    #[must_use]
    pub fn issue_refresh_token(&self, scopes: impl IntoIterator<Item = impl ToString>) -> String {
        let settings = self.hub.settings().clone();
        self.hub
            .world()
            .oauth
            .issue_tokens(names(scopes), &settings)
            .refresh_token
            .unwrap_or_default()
    }

    /// Every access token given out so far is refused from now on; they can be renewed.
    pub fn expire_access_tokens(&self) {
        self.hub.world().oauth.expire_access_tokens();
    }

    /// Every sign-in so far is gone: access tokens are refused, and refresh tokens too.
    pub fn revoke_all(&self) {
        self.hub.world().oauth.revoke_all();
    }

    /// Serves until the future is dropped: for programs that are nothing but an emulator.
    pub async fn serve_forever(mut self) {
        let _ = (&mut self.server).await;
    }
}

fn names(scopes: impl IntoIterator<Item = impl ToString>) -> std::collections::BTreeSet<String> {
    scopes.into_iter().map(|scope| scope.to_string()).collect()
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
        self.hub.stop_agents();
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}
