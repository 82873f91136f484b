//! Everything about the emulator that can be set.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rust_decimal::Decimal;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::spelling::spelling;

/// The scopes that the platform knows, by their names on the wire.
pub(super) const SCOPES: [&str; 7] = [
    "read_balance",
    "read_list_wallets",
    "read_list_payees",
    "read_list_transactions",
    "write_create_payee",
    "write_send_payment",
    "write_create_wallet",
];

/// One thing that can be asked of the emulator, as its path names it.
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

    /// The operation's name: `send`, `sendSubscribe`, `get`, `cancel`, `resubscribe`, `token`, `agentCard`.
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
            crate::Error::invalid_input(format!("\"{text}\" is no operation of the emulator"))
        })
    }
}

spelling! {
    /// How the emulator says that it does not offer an operation.
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

/// What an [`Emulator`](super::Emulator) does and how it says it.
///
/// Set before the start with [`EmulatorBuilder`](super::EmulatorBuilder), or while it runs with
/// [`Emulator::configure`](super::Emulator::configure).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The port on 127.0.0.1; 0 for a free one. Counts only before the start.
    pub port: u16,
    /// What the wallet holds at the start and after a reset. Default 1,000,000.00.
    pub opening_balance: Decimal,
    /// The only client id and secret that are accepted. Any, unless set.
    pub credentials: Option<(String, SecretString)>,
    /// Whether any access token will do, with all scopes. Default false.
    pub accept_any_token: bool,
    /// How long an access token holds. Default one hour.
    pub token_lifetime: Duration,
    /// How long an authorization code holds. Default one minute.
    pub code_lifetime: Duration,
    /// Whether each refresh gives a new refresh token, and the use of an old one revokes the whole sign-in. Default false.
    pub rotate_refresh_tokens: bool,
    /// Whether a refresh reply carries the refresh token where it is not rotated. Default true.
    pub refresh_token_in_refresh_replies: bool,
    /// Whether a client that signs in as itself (client credentials) is given a refresh token. Default false.
    pub refresh_tokens_for_apps: bool,
    /// The scopes of a token for which none are asked. Default all.
    pub scopes: BTreeSet<String>,
    /// How many characters a chunk of a streamed answer has. Default 24; 0 for all at once.
    pub chunk_chars: usize,
    /// How long the agent waits after each chunk. Default zero.
    pub chunk_delay: Duration,
    /// How long the agent thinks before it acts. Default zero.
    pub agent_delay: Duration,
    /// How long every request is on its way before it reaches the emulator. Default zero.
    pub latency: Duration,
    /// Payments of more than this await approval. Default 10,000.00.
    pub approval_limit: Decimal,
    /// The operations that this server lacks. Default none.
    pub missing: BTreeSet<Operation>,
    /// How it says so.
    pub unsupported: Unsupported,
    /// How it writes.
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
            dialect: Dialect::default(),
        }
    }
}

pub(super) fn all_scopes() -> BTreeSet<String> {
    SCOPES.into_iter().map(str::to_owned).collect()
}
