//! Advice on an error of the SDK, for the account that it occurred with.

use payman_sdk::{Environment, Error, ErrorKind};

use super::{Account, AccountOwner};
use crate::command_failure::CommandFailure;

impl Account {
    /// Returns the failure for an error, with the platform's message and the next step.
    pub(crate) fn failure(&self, error: &Error) -> CommandFailure {
        let failure = CommandFailure::from(error);
        let said = said_by_platform(error).map(|said| format!("The platform said: {said}"));
        let failure = failure.next_if_some(said);
        if error.is_outcome_unknown() {
            return failure;
        }
        let failure = failure.next_if_some(self.advice(error));
        let is_another_server = matches!(error.status(), Some(404 | 405 | 501))
            && matches!(error.kind(), ErrorKind::Http | ErrorKind::Unsupported);
        if error.is_connect() {
            self.with_emulator(self.with_destination(failure))
        } else if is_another_server {
            self.with_destination(failure)
        } else {
            failure
        }
    }

    fn advice(&self, error: &Error) -> Option<String> {
        let line = match error.kind() {
            ErrorKind::InvalidInput => "Nothing was sent. See: payman --help".to_owned(),
            ErrorKind::Connect => "Nothing was sent: it is safe to ask again.".to_owned(),
            ErrorKind::Auth | ErrorKind::ReauthorizationRequired => self.auth_advice(error),
            ErrorKind::TaskNotFound => {
                "Check the id, and that this is the platform and account that was asked.".to_owned()
            }
            ErrorKind::TokenStore => {
                "Nothing was sent. Check the token file: --token-file, PAYMAN_TOKEN_FILE."
                    .to_owned()
            }
            ErrorKind::IdempotencyConflict => {
                "Nothing was sent. Show the first ask of the key: payman journal show KEY"
                    .to_owned()
            }
            ErrorKind::Journal => {
                "Nothing was sent. Check the journal: --journal, PAYMAN_JOURNAL.".to_owned()
            }
            ErrorKind::Timeout if !error.is_safe_to_ask_again() => {
                "Try again, with a longer --timeout.".to_owned()
            }
            _ if error.is_safe_to_ask_again() => match error.retry_after() {
                Some(wait) => {
                    format!("Nothing was done. Ask again in {} s.", wait.as_secs().max(1))
                }
                None => "Nothing was done: it is safe to ask again.".to_owned(),
            },
            _ => return None,
        };
        Some(line)
    }

    fn auth_advice(&self, error: &Error) -> String {
        let identity = &self.identity;
        match &identity.owner {
            AccountOwner::TokenBearer { token } => format!(
                "Nothing was done. The token came from {token}: give one that is valid, or leave \
                 it out to act as the connected user or the app."
            ),
            AccountOwner::ConnectedUser { .. } if error.is_reauthorization_required() => {
                "Nothing was done. Sign in again: payman connect".to_owned()
            }
            AccountOwner::ConnectedUser { token_file } => format!(
                "Nothing was done. Check PAYMAN_CLIENT_SECRET, or sign in again (payman connect); \
                 the user's token is in {}.",
                token_file.display()
            ),
            AccountOwner::App { secret } => {
                let hint = if identity.client_id.starts_with("pm-test-")
                    && identity.base_url == Environment::Test.base_url()
                {
                    " Test credentials (pm-test-…) belong to the live servers: leave \
                     --environment out."
                } else {
                    ""
                };
                format!(
                    "Nothing was done. Check the client id ({}) and the client secret (from \
                     {secret}), and that they belong to {}.{hint}",
                    identity.client_id, identity.base_url
                )
            }
            AccountOwner::Emulator => "Nothing was done.".to_owned(),
        }
    }

    /// Adds the unreachable server and the origin of its address.
    fn with_destination(&self, failure: CommandFailure) -> CommandFailure {
        let identity = &self.identity;
        failure.next(format!(
            "The server is {}, from {}. Check that address and the network.",
            identity.base_url, identity.destination
        ))
    }

    /// Adds the command that starts an emulator, if the server's address is a loopback address.
    fn with_emulator(&self, failure: CommandFailure) -> CommandFailure {
        let identity = &self.identity;
        if !identity.is_loopback() {
            return failure;
        }
        let port = url::Url::parse(&identity.base_url).ok().and_then(|url| url.port());
        let port = port.map(|port| format!(" --port {port}")).unwrap_or_default();
        failure.next(format!("Is the emulator running? To start it: payman emulator{port}"))
    }
}

/// Returns the platform's own message, shortened.
fn said_by_platform(error: &Error) -> Option<String> {
    const LONGEST: usize = 300;
    let rpc = error.rpc_error().map(|rpc| rpc.message.clone()).filter(|said| !said.is_empty());
    let text = match rpc {
        Some(message) => message,
        None => message_in_json(error).map_or_else(|| Some(error.body()?.into_owned()), Some)?,
    };
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    Some(text.chars().take(LONGEST).collect())
}

/// Returns the message of an error body in one of the usual forms.
fn message_in_json(error: &Error) -> Option<String> {
    let body = error.body_json()?;
    let message = ["error_description", "message", "error"].into_iter().find_map(|name| {
        body.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty())
    })?;
    Some(message.to_owned())
}
