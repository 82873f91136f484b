//! The account that a command acts as, and its platform.

use std::fmt;
use std::path::PathBuf;

use payman_sdk::Environment;
use serde::Serialize;
use url::Url;

use crate::options::GlobalOptions;
use crate::value_origin::ValueOrigin;

/// The owner of the account whose money a command can move.
#[derive(Debug)]
pub(crate) enum AccountOwner {
    /// The app itself.
    App { secret: ValueOrigin },
    /// The user who agreed at `payman connect`.
    ConnectedUser { token_file: PathBuf },
    /// The unknown owner of a token that was given.
    TokenBearer { token: ValueOrigin },
    /// An emulator that belongs to this command.
    Emulator,
}

/// The account and the platform.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) owner: AccountOwner,
    pub(crate) client_id: String,
    pub(crate) base_url: String,
    /// The origin of the base URL.
    pub(crate) destination: ValueOrigin,
}

/// The identity as `payman whoami --output json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdentityJson<'a> {
    account: &'static str,
    client_id: &'a str,
    platform: &'static str,
    base_url: &'a str,
    base_url_from: String,
    credentials_from: Option<String>,
    token_file: Option<String>,
}

impl Identity {
    pub(super) fn new(owner: AccountOwner, client_id: &str, options: &GlobalOptions) -> Self {
        Self {
            owner,
            client_id: client_id.to_owned(),
            base_url: base_url(options),
            destination: options.destination(),
        }
    }

    pub(crate) fn emulator(base_url: String) -> Self {
        Self {
            owner: AccountOwner::Emulator,
            client_id: "payman".to_owned(),
            base_url,
            destination: ValueOrigin::default(),
        }
    }

    pub(crate) fn platform(&self) -> &'static str {
        match self.base_url.as_str() {
            _ if matches!(self.owner, AccountOwner::Emulator) => "emulator",
            url if url == Environment::Live.base_url() => "live",
            url if url == Environment::Test.base_url() => "test",
            _ if self.is_loopback() => "this machine",
            _ => "another server",
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        Url::parse(&self.base_url).is_ok_and(|url| is_loopback(&url))
    }

    /// Describes the origins of the given token and of its lifetime.
    pub(crate) fn given_token(&self) -> String {
        match &self.owner {
            AccountOwner::TokenBearer { token } => {
                format!("{token}; the time is that of --expires-in, PAYMAN_EXPIRES_IN")
            }
            _ => "an option or a variable".to_owned(),
        }
    }

    pub(crate) fn to_json(&self) -> IdentityJson<'_> {
        let (account, credentials, token_file) = match &self.owner {
            AccountOwner::App { secret } => ("app", Some(secret), None),
            AccountOwner::ConnectedUser { token_file } => ("connectedUser", None, Some(token_file)),
            AccountOwner::TokenBearer { token } => ("tokenBearer", Some(token), None),
            AccountOwner::Emulator => ("emulator", None, None),
        };
        IdentityJson {
            account,
            client_id: &self.client_id,
            platform: self.platform(),
            base_url: &self.base_url,
            base_url_from: self.destination.to_string(),
            credentials_from: credentials.map(ToString::to_string),
            token_file: token_file.map(|path| path.display().to_string()),
        }
    }
}

/// Writes one line for a person.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client_id = &self.client_id;
        match &self.owner {
            AccountOwner::App { .. } => write!(f, "As the app {client_id}")?,
            AccountOwner::ConnectedUser { .. } => {
                write!(f, "As the user connected to the app {client_id}")?
            }
            AccountOwner::TokenBearer { token } => {
                write!(f, "As the owner of the token from {token}, by the app {client_id}")?;
            }
            AccountOwner::Emulator => {
                return write!(
                    f,
                    "From the emulator at {}: no real money, and no real answer",
                    self.base_url
                );
            }
        }
        write!(f, ", on {} ({})", self.base_url, self.platform())
    }
}

/// Returns the base URL as the SDK normalizes it, or the given text if it is not a URL.
pub(crate) fn base_url(options: &GlobalOptions) -> String {
    let given = match &options.base_url {
        Some(url) => url.trim(),
        None => options.environment.unwrap_or_default().base_url(),
    };
    match Url::parse(given) {
        Ok(url) => url.as_str().trim_end_matches('/').to_owned(),
        Err(_) => given.to_owned(),
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        None => false,
    }
}
