//! The platform behind the server, reached with the first call.

use std::sync::Arc;

use payman_sdk::{Client, Config, Emulator, Journal, MemoryJournal, Scope};
use tokio::sync::OnceCell;

use crate::account::{self, Identity};
use crate::command_failure::CommandFailure;
use crate::journal::{JournalOption, journal_of};
use crate::options::GlobalOptions;
use crate::output::note;

use super::journal::GuardedJournal;
use super::visible;

/// The access that asks are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskAccess {
    ReadWrite,
    ReadOnly,
}

/// Connects to the platform on first use, and again after a failure.
pub(super) struct LazyConnection {
    options: GlobalOptions,
    access: AskAccess,
    journal: JournalOption,
    open: OnceCell<Arc<McpPlatform>>,
}

/// The client, and the journal of its asks.
pub(super) struct McpPlatform {
    pub(super) client: Client,
    pub(super) journal: Arc<GuardedJournal>,
    /// The account's description for a person.
    pub(super) account: String,
    access: AskAccess,
    _emulator: Option<Emulator>,
}

impl LazyConnection {
    pub(super) fn new(options: GlobalOptions, access: AskAccess, journal: JournalOption) -> Self {
        Self { options, access, journal, open: OnceCell::new() }
    }

    /// Returns the platform. Checks the settings with the first call; sends nothing.
    pub(super) async fn platform(&self) -> Result<Arc<McpPlatform>, CommandFailure> {
        // An error is not kept: the next call tries again.
        Ok(Arc::clone(self.open.get_or_try_init(|| self.connect()).await?))
    }

    /// Returns the client, if one was needed.
    pub(super) fn existing(&self) -> Option<Client> {
        self.open.get().map(|platform| platform.client.clone())
    }

    async fn connect(&self) -> Result<Arc<McpPlatform>, CommandFailure> {
        let connected = match self.options.emulator {
            true => self.start_emulator().await?,
            false => self.sign_in().await?,
        };
        Ok(Arc::new(connected))
    }

    async fn sign_in(&self) -> Result<McpPlatform, CommandFailure> {
        let client_id = self.options.client_id.as_deref().unwrap_or_default();
        let owner = format!("{}\n{client_id}", account::base_url(&self.options));
        let journal = GuardedJournal::new(self.open_journal().await?, owner);
        let record = |config: Config| config.journal(Arc::clone(&journal));
        let (client, identity) = account::sign_in(&self.options, record)?;
        Ok(self.made(client, journal, &identity, None))
    }

    /// Opens the journal, which is in memory with an emulator or without a database.
    async fn open_journal(&self) -> Result<Arc<dyn Journal>, CommandFailure> {
        let has_database = cfg!(any(feature = "sqlite", feature = "postgres"));
        if !has_database && self.journal.journal.is_none() {
            note("payman mcp: built without a database: idempotency keys count until it ends.");
            return Ok(Arc::new(MemoryJournal::new()));
        }
        journal_of(&self.journal, &self.options).await
    }

    async fn start_emulator(&self) -> Result<McpPlatform, CommandFailure> {
        let emulator = Emulator::builder()
            .configure(|settings| {
                if self.access == AskAccess::ReadOnly {
                    settings.scopes.retain(|scope| !is_write(&Scope::from(scope.as_str())));
                }
            })
            .start()
            .await
            .map_err(|error| CommandFailure::from(&error).next("Try again."))?;
        let identity = Identity::emulator(emulator.base_url().to_owned());
        note(format_args!("({identity}.)"));
        let journal = GuardedJournal::new(self.open_journal().await?, String::new());
        let config = Config::new("payman")
            .client_secret("emulator")
            .base_url(emulator.base_url())
            .journal(Arc::clone(&journal));
        let client =
            Client::with_credentials(config).map_err(|error| CommandFailure::from(&error))?;
        Ok(self.made(client, journal, &identity, Some(emulator)))
    }

    fn made(
        &self,
        client: Client,
        journal: Arc<GuardedJournal>,
        identity: &Identity,
        emulator: Option<Emulator>,
    ) -> McpPlatform {
        let account = visible::one_line(&identity.to_string(), 400);
        McpPlatform { client, journal, account, access: self.access, _emulator: emulator }
    }
}

impl McpPlatform {
    /// Returns an error where `--read-only` is set and the token is not known to allow reading
    /// only.
    pub(super) async fn check_access(&self) -> Result<(), String> {
        if self.access == AskAccess::ReadWrite {
            return Ok(());
        }
        self.client.access_token().await.map_err(|error| super::result::sentence(&error))?;
        let status = self.client.token_status();
        let writes: Vec<_> =
            status.scopes().iter().filter(|scope| is_write(scope)).map(Scope::as_str).collect();
        let why = if status.scopes().is_empty() {
            "it is not known what the access token allows".to_owned()
        } else if writes.is_empty() {
            return Ok(());
        } else {
            format!("the access token allows more than reading: {}", writes.join(", "))
        };
        Err(format!(
            "--read-only is set, but {}. The app's own sign-in cannot ask for less; a user's can: \
             `payman connect --scopes \
             read_balance,read_list_wallets,read_list_payees,read_list_transactions`. Or leave \
             --read-only out",
            visible::one_line(&why, 400)
        ))
    }
}

/// Returns true for every scope that is not known to be read-only.
fn is_write(scope: &Scope) -> bool {
    !scope.as_str().starts_with("read_")
}
