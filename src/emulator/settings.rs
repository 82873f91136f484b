//! The emulator's settings.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rust_decimal::Decimal;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::named_enum::named_enum;

/// The platform's scopes, by their names on the wire.
pub(super) const SCOPES: [&str; 7] = [
    "read_balance",
    "read_list_wallets",
    "read_list_payees",
    "read_list_transactions",
    "write_create_payee",
    "write_send_payment",
    "write_create_wallet",
];

/// An operation of the emulator, named after the last segment of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Operation {
    /// `tasks/send`
    Send,
    /// `tasks/sendSubscribe`
    SendSubscribe,
    /// `tasks/get`
    Get,
    /// `tasks/cancel`
    Cancel,
    /// `tasks/resubscribe`
    Resubscribe,
    /// The token endpoint.
    Token,
    /// `/.well-known/agent.json`
    AgentCard,
}

impl Operation {
    const ALL: [Self; 7] = [
        Self::Send,
        Self::SendSubscribe,
        Self::Get,
        Self::Cancel,
        Self::Resubscribe,
        Self::Token,
        Self::AgentCard,
    ];

    /// Returns the operation's name: `send`, `sendSubscribe`, `get`, `cancel`, `resubscribe`,
    /// `token` or `agentCard`.
    ///
    /// ```
    /// use payman_sdk::emulator::Operation;
    ///
    /// assert_eq!(Operation::SendSubscribe.as_str(), "sendSubscribe");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::SendSubscribe => "sendSubscribe",
            Self::Get => "get",
            Self::Cancel => "cancel",
            Self::Resubscribe => "resubscribe",
            Self::Token => "token",
            Self::AgentCard => "agentCard",
        }
    }

    pub(super) fn is_task_operation(self) -> bool {
        !matches!(self, Self::Token | Self::AgentCard)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Operation {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        let found = Self::ALL.into_iter().find(|operation| operation.as_str() == text);
        found.ok_or_else(|| {
            crate::Error::invalid_input(format!("\"{text}\" is not an operation of the emulator"))
        })
    }
}

named_enum! {
    /// The response to a request for an operation that the server lacks.
    Unsupported {
        /// HTTP 404 without a JSON-RPC error.
        #[default]
        NotFound = "404",
        /// HTTP 405.
        MethodNotAllowed = "405",
        /// HTTP 501.
        NotImplemented = "501",
        /// HTTP 200 with the JSON-RPC error -32601.
        MethodNotFound = "-32601",
        /// HTTP 200 with the JSON-RPC error -32004.
        UnsupportedOperation = "-32004",
    }
}

/// The settings of an [`Emulator`](super::Emulator).
///
/// They are set before the start with [`EmulatorBuilder`](super::EmulatorBuilder), or changed while
/// it runs with [`Emulator::configure`](super::Emulator::configure).
///
/// ```
/// use payman_sdk::emulator::Settings;
/// use std::time::Duration;
///
/// let mut settings = Settings::default();
/// settings.agent_delay = Duration::from_millis(50);
/// assert_eq!(settings.chunk_chars, 24);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The port on 127.0.0.1; 0 selects a free one. Changes after the start have no effect.
    pub port: u16,
    /// The wallet's balance at the start and after a reset. Default: 1,000,000.00.
    pub opening_balance: Decimal,
    /// The only accepted client id and secret. Default: all are accepted.
    pub credentials: Option<(String, SecretString)>,
    /// True to accept every access token, with all scopes. Default: false.
    pub accept_any_token: bool,
    /// The lifetime of an access token. Default: one hour.
    pub token_lifetime: Duration,
    /// The lifetime of an authorization code. Default: one minute.
    pub code_lifetime: Duration,
    /// True to issue a new refresh token with each refresh; the use of an old one then revokes the
    /// whole sign-in. Default: false.
    pub rotate_refresh_tokens: bool,
    /// True to repeat a refresh token that is not rotated in the refresh reply. Default: true.
    pub refresh_token_in_refresh_replies: bool,
    /// True to issue a refresh token with the client credentials grant. Default: false.
    pub refresh_tokens_for_apps: bool,
    /// The scopes of a client credentials token. Default: all.
    pub scopes: BTreeSet<String>,
    /// The length of a chunk of a streamed answer, in characters. Default: 24; 0 disables chunking.
    pub chunk_chars: usize,
    /// The agent's pause after each chunk. Default: zero.
    pub chunk_delay: Duration,
    /// The agent's pause before it acts. Default: zero.
    pub agent_delay: Duration,
    /// The delay of every request before it is processed. Default: zero.
    pub latency: Duration,
    /// Payments above this amount await approval. Default: 10,000.00.
    pub approval_limit: Decimal,
    /// The operations that the server lacks. Default: none.
    pub missing: BTreeSet<Operation>,
    /// The response to a request for one of them. Default: 404.
    pub unsupported: Unsupported,
    /// True to answer 409 to a second `send` of a task id, unless the agent waits for an answer in
    /// that task. Default: false: the task continues, and the agent runs again.
    pub conflict_on_resend: bool,
    /// The format of the responses. Default: the platform's.
    pub dialect: Dialect,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            opening_balance: Decimal::new(100_000_000, 2),
            credentials: None,
            accept_any_token: false,
            token_lifetime: Duration::from_secs(3600),
            code_lifetime: Duration::from_secs(60),
            rotate_refresh_tokens: false,
            refresh_token_in_refresh_replies: true,
            refresh_tokens_for_apps: false,
            scopes: all_scopes(),
            chunk_chars: 24,
            chunk_delay: Duration::ZERO,
            agent_delay: Duration::ZERO,
            latency: Duration::ZERO,
            approval_limit: Decimal::new(1_000_000, 2),
            missing: BTreeSet::new(),
            unsupported: Unsupported::default(),
            conflict_on_resend: false,
            dialect: Dialect::default(),
        }
    }
}

pub(super) fn all_scopes() -> BTreeSet<String> {
    SCOPES.into_iter().map(str::to_owned).collect()
}
