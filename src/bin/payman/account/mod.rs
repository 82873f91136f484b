//! The account that a command acts as: how a command obtains its client.
//!
//! A command calls [`with_account`] (or [`AccountSetup`], to change the client's `Config` or to
//! handle Ctrl-C itself). It checks the options, shows on a terminal whose account it is, runs the
//! command, ends it on SIGINT, SIGTERM and SIGHUP with the lookup commands of all tasks that are
//! [in flight](Account::track), and closes the client before it returns.

mod advice;
mod identity;
mod outcome;
mod token_file;

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use payman_sdk::{Client, Config, Emulator, FileTokenStore, TaskId, TokenInfo};
use tokio::time::{Instant, sleep, timeout};

use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::folder;
use crate::options::GlobalOptions;
use crate::output::{note, stderr_is_terminal};
use crate::signals::{EndSignal, EndSignals};
#[cfg(feature = "mcp")]
pub(crate) use identity::base_url;
pub(crate) use identity::{AccountOwner, Identity};
pub(crate) use outcome::AskFailure;
use token_file::SignInLookup;
pub(crate) use token_file::token_file;

/// The subject under which a connected user's token is kept: one per client id and platform.
pub(crate) const SUBJECT: &str = "payman connect";

/// The time limit of the wait for a token to be stored before the program ends. A further signal
/// ends the wait.
const CLOSE_LIMIT: Duration = Duration::from_secs(35);
/// The same limit after `--timeout` has passed, when the command should end soon.
const CLOSE_LIMIT_AFTER_TIMEOUT: Duration = Duration::from_secs(1);
/// The time after which the wait is explained on stderr.
const SILENT_CLOSE: Duration = Duration::from_secs(1);
/// The time after `--timeout` at which a command that has not ended by itself is ended.
const TIMEOUT_GRACE: Duration = Duration::from_millis(500);

/// A client, with the identity and the options that messages and suggested commands need.
pub(crate) struct Account {
    pub(crate) client: Client,
    pub(crate) identity: Identity,
    /// The emulator that lives as long as this command.
    emulator: Option<Emulator>,
    /// The options to be repeated in a command that is suggested.
    spelled: String,
    /// True in a conversation, which suggests its own commands that begin with `/`.
    in_chat: bool,
    quiet: bool,
    in_flight: Mutex<Vec<TaskId>>,
}

/// Runs a command with the account that the options name. See the module's documentation.
pub(crate) async fn with_account(
    options: &GlobalOptions,
    command: impl AsyncFnOnce(&Account) -> CommandResult,
) -> CommandResult {
    AccountSetup::new(options).run(command).await
}

/// The settings with which a command obtains its account.
pub(crate) struct AccountSetup<'a> {
    options: &'a GlobalOptions,
    configure: Box<dyn FnOnce(Config) -> Config + 'a>,
    in_chat: bool,
    is_announced: bool,
}

impl<'a> AccountSetup<'a> {
    pub(crate) fn new(options: &'a GlobalOptions) -> Self {
        Self { options, configure: Box::new(|config| config), in_chat: false, is_announced: true }
    }

    /// Changes the client's configuration, for example to set a journal.
    pub(crate) fn configure(mut self, configure: impl FnOnce(Config) -> Config + 'a) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Sets the account up for a conversation, which handles Ctrl-C itself and has no time limit.
    pub(crate) fn in_chat(mut self) -> Self {
        self.in_chat = true;
        self
    }

    /// Leaves it to the command to show the identity.
    pub(crate) fn without_announcement(mut self) -> Self {
        self.is_announced = false;
        self
    }

    pub(crate) async fn run(
        self,
        command: impl AsyncFnOnce(&Account) -> CommandResult,
    ) -> CommandResult {
        let started = Instant::now();
        let mut signals = EndSignals::listen();
        if self.in_chat {
            signals = signals.without_interrupt();
        }
        let limit = self.options.timeout.filter(|_| !self.in_chat);
        let is_announced = self.is_announced;
        let account = self.open().await?;
        if is_announced {
            account.announce();
        }
        let result = {
            let mut command = pin!(command(&account));
            // The command is dropped only after the tasks in flight are read.
            tokio::select! {
                result = &mut command => result,
                signal = signals.next() => Err(account.ended_by(signal)),
                () = wait_for(limit) => Err(account.timed_out()),
            }
        };
        let status = result.unwrap_or_else(CommandFailure::print);
        let is_late = limit.is_some_and(|limit| started.elapsed() >= limit);
        let close_limit = if is_late { CLOSE_LIMIT_AFTER_TIMEOUT } else { CLOSE_LIMIT };
        // A further signal ends the wait.
        let mut signals = EndSignals::listen();
        tokio::select! {
            () = account.close(close_limit) => {}
            () = explain_wait() => {}
            _ = signals.next() => {}
        }
        Ok(status)
    }

    async fn open(self) -> Result<Account, CommandFailure> {
        let options = self.options;
        let (client, identity, emulator) = if options.emulator {
            let emulator = Emulator::start()
                .await
                .map_err(|error| CommandFailure::from(&error).next("Try again."))?;
            let base_url = emulator.base_url().to_owned();
            let config =
                Config::new("payman").client_secret("emulator").base_url(base_url.as_str());
            let config = (self.configure)(with_limits(config, options));
            let client = Client::with_credentials(config).map_err(refused_settings)?;
            (client, Identity::emulator(base_url), Some(emulator))
        } else {
            let (client, identity) = sign_in(options, self.configure)?;
            (client, identity, None)
        };
        Ok(Account {
            client,
            identity,
            emulator,
            spelled: options.spelled.clone(),
            in_chat: self.in_chat,
            quiet: options.quiet,
            in_flight: Mutex::default(),
        })
    }
}

async fn wait_for(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit.saturating_add(TIMEOUT_GRACE)).await,
        None => std::future::pending().await,
    }
}

impl Account {
    /// Names the account and the platform on stderr, where a person reads it.
    fn announce(&self) {
        // A script, too, has to know that the answers are not real.
        if !self.quiet && (stderr_is_terminal() || self.emulator.is_some()) {
            note(format_args!("({}.)", self.identity));
        }
    }

    /// Returns the options to be repeated in a command that is suggested.
    pub(crate) fn spelled(&self) -> &str {
        &self.spelled
    }

    /// Shows the text of an ask as the program received it, because a shell may have changed it.
    pub(crate) fn show_asked(&self, text: &str) {
        if !self.quiet && stderr_is_terminal() {
            note(format_args!("Asking: {text}"));
        }
    }

    /// Records that a task may be in progress on the platform until the guard is dropped.
    pub(crate) fn track(&self, task: &TaskId) -> InFlight<'_> {
        self.in_flight().push(task.clone());
        InFlight { account: self, task: task.clone() }
    }

    fn in_flight(&self) -> MutexGuard<'_, Vec<TaskId>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended_by(&self, signal: EndSignal) -> CommandFailure {
        self.stopped(&format!("{signal} ended the command"), ExitStatus::Other)
    }

    fn timed_out(&self) -> CommandFailure {
        self.stopped("the time limit (--timeout) ran out", ExitStatus::Other)
    }

    fn stopped(&self, why: &str, status_if_idle: ExitStatus) -> CommandFailure {
        let in_flight = self.in_flight().clone();
        if in_flight.is_empty() {
            return CommandFailure::new(status_if_idle, why);
        }
        let failure = CommandFailure::new(
            ExitStatus::OutcomeUnknown,
            format!("{why} before the answer: the outcome is unknown"),
        );
        in_flight.iter().fold(failure, |failure, task| self.with_lookup(failure, task))
    }

    async fn close(&self, limit: Duration) {
        let _ = timeout(limit, close_client(&self.client)).await;
    }
}

/// Explains a long wait on stderr. Never returns.
async fn explain_wait() {
    sleep(SILENT_CLOSE).await;
    note("(Waiting for a token refresh. Ctrl-C ends the wait, and may end the sign-in.)");
    std::future::pending().await
}

/// Waits for a token refresh in progress and for tokens that are not stored yet.
pub(crate) async fn close_client(client: &Client) {
    client.close().await;
}

/// A task that may be in progress. See [`Account::track`].
pub(crate) struct InFlight<'a> {
    account: &'a Account,
    task: TaskId,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.account.in_flight();
        if let Some(at) = in_flight.iter().position(|task| *task == self.task) {
            in_flight.remove(at);
        }
    }
}

/// Returns the configuration for the options, with a client id and, where given, a secret.
pub(crate) fn config(options: &GlobalOptions, client_id: &str) -> Result<Config, CommandFailure> {
    options.check_destination()?;
    let mut config = Config::new(client_id);
    if let Some(secret) = &options.client_secret {
        config = config.client_secret(secret);
    }
    if let Some(environment) = options.environment {
        config = config.environment(environment);
    }
    if let Some(url) = &options.base_url {
        config = config.base_url(url);
    }
    Ok(with_limits(config, options))
}

fn with_limits(config: Config, options: &GlobalOptions) -> Config {
    // A command ends long before its token does; a conversation refreshes it with the next ask.
    let config = config.background_refresh(false);
    match options.timeout {
        Some(limit) => config.deadline(limit),
        None => config,
    }
}

/// Chooses the identity that the command acts as: a given token first, then a connected user, then
/// the app. Needs no network.
pub(crate) fn sign_in(
    options: &GlobalOptions,
    configure: impl FnOnce(Config) -> Config,
) -> Result<(Client, Identity), CommandFailure> {
    let is_token_given = options.access_token.is_some() || options.refresh_token.is_some();
    let Some(client_id) = &options.client_id else {
        let is_secret_needed = !is_token_given && options.client_secret.is_none();
        let secret = is_secret_needed.then_some("PAYMAN_CLIENT_SECRET");
        return Err(missing(["PAYMAN_CLIENT_ID"].into_iter().chain(secret)));
    };
    let config = configure(config(options, client_id)?);
    let identity = |owner| Identity::new(owner, client_id, options);
    if is_token_given {
        let (config, token, owner) = given_token(options, config)?;
        let client = Client::with_token(config, token).map_err(refused_settings)?;
        return Ok((client, identity(owner)));
    }
    if !options.as_app
        && let Some(path) = token_file(options)
    {
        match token_file::look_up(&path, options, client_id)? {
            SignInLookup::Connected => {
                let config =
                    config.subject(SUBJECT).token_store(FileTokenStore::new(path.as_path()));
                let client =
                    Client::with_token(config, TokenInfo::stored()).map_err(refused_settings)?;
                return Ok((client, identity(AccountOwner::ConnectedUser { token_file: path })));
            }
            SignInLookup::NotConnected => {}
        }
    }
    if options.client_secret.is_none() {
        return Err(missing(["PAYMAN_CLIENT_SECRET"].into_iter()));
    }
    let client = Client::with_credentials(config).map_err(refused_settings)?;
    Ok((client, identity(AccountOwner::App { secret: options.origins.client_secret })))
}

fn given_token(
    options: &GlobalOptions,
    config: Config,
) -> Result<(Config, TokenInfo, AccountOwner), CommandFailure> {
    let lifetime = Duration::from_secs(options.expires_in);
    let (access_origin, refresh_origin) =
        (options.origins.access_token, options.origins.refresh_token);
    let (token, origin) = match (&options.access_token, &options.refresh_token) {
        (Some(access), Some(refresh)) => {
            (TokenInfo::access(access, lifetime).refresh(refresh), access_origin)
        }
        (Some(access), None) => (TokenInfo::access(access, lifetime), access_origin),
        (None, Some(refresh)) => (TokenInfo::refresh_only(refresh), refresh_origin),
        (None, None) => (TokenInfo::stored(), access_origin),
    };
    let owner = AccountOwner::TokenBearer { token: origin };
    if options.refresh_token.is_none() {
        return Ok((config, token, owner));
    }
    // A server may rotate refresh tokens: the given one then works once, and its successor must
    // outlive this command.
    let Some(path) = token_file(options) else {
        return Ok((config, token, owner));
    };
    folder::create_for(&path)?;
    Ok((config.token_store(FileTokenStore::new(path)), token, owner))
}

fn refused_settings(error: payman_sdk::Error) -> CommandFailure {
    CommandFailure::from(&error)
        .next("Nothing was sent. Correct the option or variable: payman --help")
}

fn missing(names: impl Iterator<Item = &'static str>) -> CommandFailure {
    CommandFailure::usage(format!(
        "missing in the environment: {}",
        names.collect::<Vec<_>>().join(", ")
    ))
    .next("Set what is missing, or write it into a file named .env here; each has an option too.")
    .next("Without an account: payman ask --emulator 'How much money do I have in my wallet?'")
}
