//! The client: the handle through which everything is done.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use secrecy::SecretString;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::ask::{Ask, AskContext};
use crate::auth::connect::AuthCode;
use crate::auth::manager::TokenManager;
use crate::auth::token::{AccessToken, TokenInfo, TokenStatus};
use crate::config::Config;
use crate::delivery::{ExpectedResponse, Platform, Response, TaskSnapshot};
use crate::endpoint::BaseUrl;
use crate::error::{Error, Result};
use crate::identity::{for_auth_code, for_credentials, for_token};
use crate::ids::{SessionId, TaskId};
use crate::journal::{self, Begun, ClientJournal, JournalWorker, KeyedCall};
use crate::observe::{AskKind, AskObserver};
use crate::reply::{RawReply, Reply};
use crate::stream::{AskStream, Driver, RawStream};
use crate::time::instant_after;
use crate::transport::{Http, HttpSettings};
use crate::wire::request::method;
use crate::wire::task::Task;

/// A client of the Payman platform: one identity, one connection pool, one session.
///
/// Cheap to clone; clones are the same client. A client's session never changes, so one client in a
/// web server's state is safe to share: give each visitor a handle with a session of their own by
/// [`with_session`](Self::with_session) or [`new_session`](Self::new_session).
///
/// The futures and streams that it returns borrow nothing and are `Send`:
/// `tokio::spawn(client.ask("…"))` works.
///
/// # Runtimes
///
/// A client needs a tokio runtime when its futures are polled, not when it is made. Connections are
/// served by the runtime on which they were opened. A client that is used on several runtimes
/// works, but while one of them stands still or after it has ended, an ask that would have used its
/// connections waits for its time limit or fails; the error then says that nothing was sent. So
/// give each runtime a client of its own, without [`Config::share_connections`], or run all asks on
/// one runtime.
#[derive(Clone)]
pub struct Client(Arc<ClientInner>);

/// One identity in one session. It never changes.
struct ClientInner {
    platform: Arc<Platform>,
    name: Option<Arc<str>>,
    session: SessionId,
    journal: Option<ClientJournal>,
}

/// Making a client.
impl Client {
    /// Creates a client for the app itself, from the client id and secret. Nothing is sent yet.
    ///
    /// ```
    /// use payman_sdk::{Client, Config};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let config = Config::new("client-id").client_secret("client-secret");
    /// let client = Client::with_credentials(config)?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): an empty client id, a missing secret, or
    /// another bad setting.
    pub fn with_credentials(config: Config) -> Result<Self> {
        let base = config.check()?;
        config.require_secret()?;
        let http = http_of(&config, &base)?;
        let tokens = for_credentials(&config, &base, &http)?;
        Ok(Self::assemble(config, &base, http, tokens))
    }

    /// Creates a client for the user who just consented, from the code that the browser brought
    /// back.
    ///
    /// The code is exchanged at once, and never sent twice: codes are short-lived and work once.
    ///
    /// ```
    /// use payman_sdk::{Client, Config, Scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # let code = payman.issue_code([Scope::ReadBalance]);
    /// let config = Config::new("client-id").client_secret("secret").base_url(payman.base_url());
    /// let user = Client::with_auth_code(config, code).await?;
    /// # let _ = user;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) before any network: as
    /// [`with_credentials`](Self::with_credentials), and a blank code. After that, an error of the
    /// exchange: [`is_reauthorization_required`](Error::is_reauthorization_required) where the code
    /// was refused, or its reply lost.
    pub fn with_auth_code(
        config: Config,
        code: impl Into<AuthCode>,
    ) -> BoxFuture<'static, Result<Self>> {
        let code = code.into();
        Box::pin(async move {
            let base = config.check()?;
            config.require_secret()?;
            let http = http_of(&config, &base)?;
            let tokens = for_auth_code(&config, &base, &http, code).await?;
            Ok(Self::assemble(config, &base, http, tokens))
        })
    }

    /// Creates a client for the owner of a token: an access token, a refresh token, or both.
    /// Nothing is sent yet.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::{Client, Config, TokenInfo};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let token = TokenInfo::access("access-token", Duration::from_secs(3600))
    ///     .refresh("refresh-token");
    /// let client = Client::with_token(Config::new("client-id").client_secret("secret"), token)?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): an empty client id, a blank token, or
    /// another bad setting.
    pub fn with_token(config: Config, token: TokenInfo) -> Result<Self> {
        let base = config.check()?;
        let http = http_of(&config, &base)?;
        let tokens = for_token(&config, &base, &http, token)?;
        Ok(Self::assemble(config, &base, http, tokens))
    }

    /// Creates a client from environment variables. A `.env` file is not read.
    ///
    /// `PAYMAN_CLIENT_ID` and `PAYMAN_CLIENT_SECRET`; optionally `PAYMAN_ENVIRONMENT` (`live` or
    /// `test`) or `PAYMAN_BASE_URL`, `PAYMAN_SESSION_ID`, `PAYMAN_CLIENT_NAME`. With
    /// `PAYMAN_ACCESS_TOKEN` and `PAYMAN_EXPIRES_IN` (seconds), or `PAYMAN_REFRESH_TOKEN`, or both,
    /// it is a client [with that token](Self::with_token).
    ///
    /// ```
    /// use payman_sdk::Client;
    ///
    /// match Client::from_env() {
    ///     Ok(client) => println!("{}", client.session_id()),
    ///     Err(error) => eprintln!("{error}"), // names the variables that are missing
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), naming the variables that are missing or
    /// not understood.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| env::var(name).ok())
    }

    fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let var = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let token = token_from_vars(&var)?;
        let secret = var("PAYMAN_CLIENT_SECRET");
        let mut missing = Vec::new();
        let client_id = var("PAYMAN_CLIENT_ID");
        if client_id.is_none() {
            missing.push("PAYMAN_CLIENT_ID");
        }
        if secret.is_none() && token.is_none() {
            missing.push("PAYMAN_CLIENT_SECRET");
        }
        let (Some(client_id), true) = (client_id, missing.is_empty()) else {
            return Err(Error::invalid_input(format!(
                "missing in the environment: {}",
                missing.join(", ")
            )));
        };
        let mut config = Config::new(client_id);
        if let Some(secret) = secret {
            config = config.client_secret(secret);
        }
        if let Some(environment) = var("PAYMAN_ENVIRONMENT") {
            config = config.environment(environment.parse()?);
        }
        if let Some(url) = var("PAYMAN_BASE_URL") {
            config = config.base_url(url);
        }
        if let Some(session) = var("PAYMAN_SESSION_ID") {
            config = config.session_id(session);
        }
        if let Some(name) = var("PAYMAN_CLIENT_NAME") {
            config = config.name(name);
        }
        match token {
            Some(token) => Self::with_token(config, token),
            None => Self::with_credentials(config),
        }
    }

    fn assemble(config: Config, base: &BaseUrl, http: Http, tokens: TokenManager) -> Self {
        let journal = config.journal.map(|journal| {
            ClientJournal::new(journal, &config.client_id, base.as_str(), config.subject.as_deref())
        });
        let platform =
            Platform::new(http, tokens, config.limits, config.retry, base, config.on_ask_completed);
        Self(Arc::new(ClientInner {
            journal,
            platform: Arc::new(platform),
            name: config.name.map(Arc::from),
            session: config.session_id.unwrap_or_default(),
        }))
    }

    pub(crate) fn platform(&self) -> &Arc<Platform> {
        &self.0.platform
    }

    pub(crate) fn http(&self) -> &Http {
        &self.platform().http
    }
}

/// Returns the pool that a config asks for: a shared one, or one of its own.
fn http_of(config: &Config, base: &BaseUrl) -> Result<Http> {
    let Some(shared) = &config.shared else {
        return Http::new(HttpSettings {
            plain_loopback: base.is_plain_loopback(),
            connect_timeout: config.connect_timeout,
            configure: config.configure_http.clone(),
        });
    };
    if shared.is_plain_loopback() != base.is_plain_loopback() {
        return Err(Error::invalid_input(
            "share_connections joins a client on plain-http loopback with one on https; share among clients of one base URL",
        ));
    }
    Ok(shared.clone())
}

fn token_from_vars(var: &impl Fn(&str) -> Option<String>) -> Result<Option<TokenInfo>> {
    let refresh = var("PAYMAN_REFRESH_TOKEN");
    let Some(access) = var("PAYMAN_ACCESS_TOKEN") else {
        return Ok(refresh.map(TokenInfo::refresh_only));
    };
    let Some(lifetime) = var("PAYMAN_EXPIRES_IN") else {
        return Err(Error::invalid_input(
            "PAYMAN_ACCESS_TOKEN is set without PAYMAN_EXPIRES_IN, its lifetime in seconds",
        ));
    };
    let seconds = lifetime.trim().parse().map_err(|error| {
        Error::invalid_input("PAYMAN_EXPIRES_IN is not a number of seconds").with_source(error)
    })?;
    let token = TokenInfo::access(access, Duration::from_secs(seconds));
    Ok(Some(match refresh {
        Some(refresh) => token.refresh(refresh),
        None => token,
    }))
}

/// Asking.
///
/// **Dropping the future of an ask leaves its outcome unknown**: so does a time limit of your own
/// around it (`tokio::time::timeout`, an axum `TimeoutLayer`), and a web framework that drops a
/// handler because the browser went away. The ask may have been received, and the agent goes on.
/// Use [`Ask::deadline`] instead, which ends in an error with the [task id](Error::task_id); or
/// store [`Ask::task_id`] before you ask, and look the task up with [`Client::get_task`]; or
/// `tokio::spawn` the ask, so that it outlives the handler.
impl Client {
    /// Asks, and waits for the full reply.
    ///
    /// A task that failed is an `Ok` reply with that state: see [`Reply::into_completed`]. A task
    /// that is still submitted or working when the server replies is followed until it ends.
    ///
    /// **Dropping this future leaves the outcome unknown**, and so does a time limit of your own
    /// around it: the agent may go on, and pay. See [above](Client#impl-Client-1).
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let reply = client.ask("How much money do I have in my wallet?").await?;
    /// println!("{reply}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Error`]: before anything else, check
    /// [`is_outcome_unknown`](Error::is_outcome_unknown).
    pub fn ask(&self, ask: impl Into<Ask>) -> BoxFuture<'static, Result<Reply>> {
        self.ask_for_task(ask.into(), into_reply)
    }

    /// Asks, and returns the server's JSON-RPC response as it is, byte for byte.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let raw = client.ask_raw("List all payees").await?;
    /// println!("{}", raw.json());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask); a JSON-RPC error is an `Err` here too, with the response as its
    /// [body](Error::body).
    pub fn ask_raw(&self, ask: impl Into<Ask>) -> BoxFuture<'static, Result<RawReply>> {
        self.ask_for_task(ask.into(), |found, ask| {
            RawReply::read(&found.response).ok_or_else(|| {
                Error::protocol("the platform's answer is not JSON").with_task_id(&ask.task_id)
            })
        })
    }

    fn ask_for_task<T: Send + 'static>(
        &self,
        ask: Ask,
        into_reply: fn(TaskSnapshot, &AskContext) -> Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        match journal::keyed(&ask, self.0.journal.as_ref(), method::SEND) {
            Ok(keyed) => self.ask_with_key(ask, keyed, into_reply),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    /// Asks; `keyed` is what the journal needs of an ask with an idempotency key.
    fn ask_with_key<T: Send + 'static>(
        &self,
        ask: Ask,
        keyed: Option<KeyedCall>,
        into_reply: fn(TaskSnapshot, &AskContext) -> Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        let platform = Arc::clone(self.platform());
        let mut ask = match ask.prepare(method::SEND, &self.0.session, &platform.limits) {
            Ok(ask) => ask,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        Box::pin(async move {
            let hook = platform.on_ask_completed.as_ref();
            let mut observer = AskObserver::begin(AskKind::Ask, &ask.context, hook);
            let span = observer.span();
            let deadline = platform.reply_deadline(&ask.context.limits);
            let expected = ExpectedResponse::Reply;
            let sending = match keyed {
                None => None,
                Some(keyed) => {
                    let begin = keyed.begin(&platform, &mut ask, deadline);
                    match Box::pin(begin).instrument(span.clone()).await {
                        Ok(Begun::Send(sending)) => Some(sending),
                        Ok(Begun::Stored(found)) => {
                            observer.end_answered(found.task.state());
                            return into_reply(*found, &ask.context);
                        }
                        Err(error) => {
                            observer.end_failed(&error);
                            return Err(error);
                        }
                    }
                }
            };
            let asking = async {
                match platform.deliver(&ask, expected, deadline, &mut observer).await? {
                    Response::Task(found) => {
                        let follower = platform.follower(&ask.context, deadline);
                        if follower.is_to_be_followed(&found.task) {
                            Box::pin(follower.follow_to_end(found)).await
                        } else {
                            Ok(found)
                        }
                    }
                    Response::Events(_) => {
                        Err(Error::unexpected_stream().with_task_id(&ask.context.task_id))
                    }
                }
            };
            let result = asking.instrument(span).await;
            if let Some(sending) = sending {
                Box::pin(sending.settle(result.as_ref())).await;
            }
            match result {
                Ok(found) => {
                    observer.end_answered(found.task.state());
                    into_reply(found, &ask.context)
                }
                Err(error) => {
                    observer.end_failed(&error);
                    Err(error)
                }
            }
        })
    }

    /// Asks, and returns the answer as a stream of events.
    ///
    /// An HTTP error or a JSON-RPC error at set-up is the `Err` of this future, not the stream's
    /// first item.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// use futures::StreamExt;
    /// use payman_sdk::Event;
    ///
    /// let mut events = client.ask_stream("List all payees").await?;
    /// while let Some(event) = events.next().await {
    ///     match event? {
    ///         Event::Status(update) => eprintln!("{}", update.state()),
    ///         Event::Artifact(update) => print!("{}", update.text()),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ask_stream(&self, ask: impl Into<Ask>) -> BoxFuture<'static, Result<AskStream>> {
        self.open_stream(ask.into(), AskStream::new)
    }

    /// Asks, and returns the answer as a stream of raw JSON-RPC responses.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// use futures::StreamExt;
    ///
    /// let mut responses = client.ask_stream_raw("List all payees").await?;
    /// while let Some(response) = responses.next().await {
    ///     println!("{}", response?.json());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ask_stream_raw(&self, ask: impl Into<Ask>) -> BoxFuture<'static, Result<RawStream>> {
        self.open_stream(ask.into(), RawStream::new)
    }

    fn open_stream<S: Send + 'static>(
        &self,
        ask: Ask,
        into_stream: fn(Driver) -> S,
    ) -> BoxFuture<'static, Result<S>> {
        let platform = Arc::clone(self.platform());
        let keyed = match journal::keyed(&ask, self.0.journal.as_ref(), method::SEND_SUBSCRIBE) {
            Ok(keyed) => keyed,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let mut ask = match ask.prepare(method::SEND_SUBSCRIBE, &self.0.session, &platform.limits) {
            Ok(ask) => ask,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        Box::pin(async move {
            let hook = platform.on_ask_completed.as_ref();
            let mut observer = AskObserver::begin(AskKind::Stream, &ask.context, hook);
            let span = observer.span();
            let deadline = ask.context.limits.deadline.map(instant_after);
            let setup = platform.setup_deadline(deadline);
            let sending = match keyed {
                None => None,
                Some(keyed) => {
                    let begin = keyed.begin(&platform, &mut ask, setup);
                    match Box::pin(begin).instrument(span.clone()).await {
                        Ok(Begun::Send(sending)) => Some(sending),
                        Ok(Begun::Stored(found)) => {
                            let (ask, stored) = (ask.context, Response::Task(*found));
                            let driver = Driver::new(platform, ask, stored, deadline, observer);
                            return Ok(into_stream(driver));
                        }
                        Err(error) => {
                            observer.end_failed(&error);
                            return Err(error);
                        }
                    }
                }
            };
            let delivering = platform.deliver(&ask, ExpectedResponse::Events, setup, &mut observer);
            match delivering.instrument(span).await {
                Ok(response) => {
                    let ask = ask.context;
                    let driver = Driver::new(platform, ask, response, deadline, observer);
                    Ok(into_stream(driver.recorded_by(sending)))
                }
                Err(error) => {
                    if let Some(sending) = sending {
                        Box::pin(sending.settle_error(&error)).await;
                    }
                    observer.end_failed(&error);
                    Err(error)
                }
            }
        })
    }

    /// Looks a task up: after a crash, or after an error whose outcome is unknown.
    ///
    /// It keeps the client's limits, and repeats a lookup that failed for up to
    /// [`RetryPolicy::recovery_timeout`](crate::RetryPolicy::recovery_timeout).
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let task = client.get_task("tsk-6b7a…").await?;
    /// println!("{}", task.state());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TaskNotFound`](crate::ErrorKind::TaskNotFound) where the server knows no such task;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where it offers no lookups;
    /// [`Protocol`](crate::ErrorKind::Protocol) where it answers with another task.
    pub fn get_task(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<Task>> {
        let (platform, ask) = self.existing_task(id.into());
        Box::pin(async move { platform.get_persistently(&ask?).await.map(|found| found.task) })
    }

    /// Follows an existing task until it no longer runs: a stream of snapshots, one whenever the
    /// task changed. [`into_reply`](AskStream::into_reply) returns the answer.
    ///
    /// After a restart, a program follows the asks that it had stored the ids of. A task that has
    /// ended is a stream of one snapshot.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let reply = client.follow("tsk-6b7a…").await?.into_reply().await?;
    /// println!("{reply}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_task`](Self::get_task). The stream ends in an error of kind
    /// [`Timeout`](crate::ErrorKind::Timeout) at the client's deadline, or when the task makes no
    /// progress for the idle limit.
    pub fn follow(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<AskStream>> {
        let (platform, ask) = self.existing_task(id.into());
        Box::pin(async move {
            let ask = ask?;
            let hook = platform.on_ask_completed.as_ref();
            let mut observer = AskObserver::begin(AskKind::Follow, &ask, hook);
            let deadline = ask.limits.deadline.map(instant_after);
            match platform.get_persistently(&ask).instrument(observer.span()).await {
                Ok(found) => {
                    let response = Response::Task(found);
                    let driver = Driver::new(platform, ask, response, deadline, observer);
                    Ok(AskStream::new(driver))
                }
                Err(error) => {
                    observer.end_failed(&error);
                    Err(error)
                }
            }
        })
    }

    /// Cancels a task. What the agent has done by then is done.
    ///
    /// It keeps the client's limits, as [`get_task`](Self::get_task) does.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
    /// let task = client.cancel_task("tsk-6b7a…").await?;
    /// println!("{}", task.state());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TaskNotFound`](crate::ErrorKind::TaskNotFound) where the server knows no such task;
    /// [`Rpc`](crate::ErrorKind::Rpc) with code -32002 where there is nothing left to cancel;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where it cannot be asked;
    /// [`Protocol`](crate::ErrorKind::Protocol) where it answers with another task.
    pub fn cancel_task(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<Task>> {
        let (platform, ask) = self.existing_task(id.into());
        Box::pin(async move { platform.cancel(&ask?).await.map(|found| found.task) })
    }

    fn existing_task(&self, id: TaskId) -> (Arc<Platform>, Result<AskContext>) {
        let platform = Arc::clone(self.platform());
        let ask = match id.is_blank() {
            true => Err(Error::invalid_input("the task id is blank")),
            false => {
                let limits = Arc::clone(&platform.limits);
                Ok(AskContext::of_task(id, self.0.session.clone(), limits))
            }
        };
        (platform, ask)
    }
}

/// Sessions.
impl Client {
    /// Returns the session of this handle.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let session = client.session_id(); // store it
    /// let resumed = client.with_session(session);
    /// # let _ = resumed;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.0.session.clone()
    }

    /// Returns a handle in another session, which it resumes. It shares the token and the
    /// connections.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let alice = client.with_session("ses-alice");
    /// assert_eq!(alice.session_id(), "ses-alice");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_session(&self, id: impl Into<SessionId>) -> Self {
        Self(Arc::new(ClientInner {
            platform: Arc::clone(self.platform()),
            name: self.0.name.clone(),
            session: id.into(),
            journal: self.0.journal.clone(),
        }))
    }

    /// Returns a handle in a new session. It shares the token and the connections.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let visitor = client.new_session();
    /// assert_ne!(visitor.session_id(), client.session_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new_session(&self) -> Self {
        self.with_session(SessionId::new())
    }

    /// Returns the name given in the [`Config`].
    ///
    /// ```
    /// use payman_sdk::{Client, Config};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let config = Config::new("client-id").client_secret("client-secret").name("payouts");
    /// assert_eq!(Client::with_credentials(config)?.name(), Some("payouts"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }
}

/// Tokens.
impl Client {
    /// Returns a valid access token, and renews it first where necessary.
    ///
    /// A service that wants its first token before its first ask calls this once at its start.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let token = client.access_token().await?;
    /// assert!(token.expires_in() > std::time::Duration::from_secs(60));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error where there is no valid token and none could be obtained; its source says
    /// why.
    pub fn access_token(&self) -> BoxFuture<'static, Result<AccessToken>> {
        let platform = Arc::clone(self.platform());
        Box::pin(async move {
            if Handle::try_current().is_err() {
                return Err(Error::no_runtime());
            }
            platform.access_token().await
        })
    }

    /// Returns the present refresh token, if there is one.
    ///
    /// ```
    /// use payman_sdk::{Client, Config, TokenInfo};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let token = TokenInfo::refresh_only("refresh-token");
    /// let client = Client::with_token(Config::new("id"), token)?;
    /// assert!(client.refresh_token().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn refresh_token(&self) -> Option<SecretString> {
        self.platform().tokens.refresh_token()
    }

    /// Returns true when there is no valid access token right now; the next call obtains one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// assert!(client.is_access_token_expired()); // none yet: the next call obtains one
    /// client.access_token().await?;
    /// assert!(!client.is_access_token_expired());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_access_token_expired(&self) -> bool {
        self.platform().tokens.is_expired()
    }

    /// Signs the user out: forgets their tokens in this client, its clones and the
    /// [`TokenStore`](crate::TokenStore). They have to connect again.
    ///
    /// Once this returns `Ok`, no token of an earlier sign-in is stored again, by any process. The
    /// platform is not told, because no request for that is known: another process may use an
    /// access token until it expires.
    ///
    /// ```
    /// use payman_sdk::{Client, Config, Scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # let code = payman.issue_code([Scope::ReadBalance]);
    /// let config = Config::new("client-id").client_secret("secret").base_url(payman.base_url());
    /// let user = Client::with_auth_code(config, code).await?;
    /// user.sign_out().await?;
    /// assert!(user.access_token().await.unwrap_err().is_reauthorization_required());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`TokenStore`](crate::ErrorKind::TokenStore) where the store fails: the user is not
    /// signed out. Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) for a client of the app
    /// itself ([`with_credentials`](Self::with_credentials)), and outside a tokio runtime.
    pub fn sign_out(&self) -> BoxFuture<'static, Result<()>> {
        let platform = Arc::clone(self.platform());
        Box::pin(async move { platform.tokens.sign_out().await })
    }

    /// Returns the state of the token, for a health endpoint. It holds no secret.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// client.access_token().await?;
    /// assert!(client.token_status().is_usable());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn token_status(&self) -> TokenStatus {
        self.platform().tokens.status()
    }

    /// Waits for a refresh in progress and for tokens that are not stored yet, at most 35 seconds.
    /// Call this before the process ends.
    ///
    /// A process that ends during a refresh may take the only copy of a rotated refresh token with
    /// it. Other processes then wait for 90 seconds, and the user may have to connect again. A
    /// client that is closed still works, but no longer refreshes its token in the background.
    /// Closing again is harmless, and clones share the token.
    ///
    /// A server closes its clients after it has served its last request:
    ///
    /// ```
    /// # use std::io::Result;
    /// # async fn f(
    /// #     client: payman_sdk::Client, server: impl Future<Output = Result<()>>,
    /// # ) -> Result<()> {
    /// // axum: `axum::serve(listener, app).with_graceful_shutdown(signal)`
    /// // actix: `HttpServer::new(…).bind(…)?.run()`, which ends on Ctrl-C and SIGTERM
    /// server.await?;
    /// client.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) -> BoxFuture<'static, ()> {
        let platform = Arc::clone(self.platform());
        Box::pin(async move { platform.tokens.close().await })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.0.name)
            .field("session", &self.0.session)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "reading a raw reply may fail")]
fn into_reply(found: TaskSnapshot, ask: &AskContext) -> Result<Reply> {
    Ok(Reply::new(found.task, ask.request, &ask.session_id))
}

impl JournalWorker {
    /// Creates a worker that asks with this client, and shares its journal.
    pub fn new(client: Client) -> Self {
        let platform = Arc::clone(client.platform());
        let journal = client.0.journal.clone();
        let ask = move |ask, keyed| client.ask_with_key(ask, Some(keyed), into_reply);
        Self::with_parts(platform, journal, Arc::new(ask))
    }
}

impl Config {
    /// Uses the connections and the retry budget of another client: one pool for the clients of
    /// many users.
    ///
    /// The other client's connect timeout and HTTP settings apply, not those of this config. Share
    /// only among clients that are used on the same runtime: see [`Client`](Client#runtimes).
    ///
    /// ```
    /// use payman_sdk::{Client, Config, TokenInfo};
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let app = Client::with_credentials(Config::new("client-id").client_secret("secret"))?;
    /// let user = Client::with_token(
    ///     Config::new("client-id").client_secret("secret").share_connections(&app),
    ///     TokenInfo::refresh_only("refresh-token"),
    /// )?;
    /// # let _ = user;
    /// # Ok(())
    /// # }
    /// ```
    pub fn share_connections(mut self, other: &Client) -> Self {
        self.shared = Some(other.http().clone());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static_assertions::assert_impl_all!(Client: Clone, Send, Sync);
    static_assertions::assert_impl_all!(AskStream: Send, Unpin);
    static_assertions::assert_impl_all!(RawStream: Send, Unpin);

    fn from(vars: &[(&str, &str)]) -> Result<Client> {
        Client::from_vars(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn missing_variables_are_named() {
        let text = from(&[]).unwrap_err().to_string();
        assert!(
            text.contains("PAYMAN_CLIENT_ID") && text.contains("PAYMAN_CLIENT_SECRET"),
            "{text}"
        );
        let text = from(&[("PAYMAN_CLIENT_ID", "id"), ("PAYMAN_CLIENT_SECRET", " ")])
            .unwrap_err()
            .to_string();
        assert!(!text.contains("CLIENT_ID") && text.contains("PAYMAN_CLIENT_SECRET"), "{text}");
        let text = from(&[("PAYMAN_CLIENT_ID", "id"), ("PAYMAN_ACCESS_TOKEN", "a")])
            .unwrap_err()
            .to_string();
        assert!(text.contains("PAYMAN_EXPIRES_IN"), "{text}");
    }

    #[test]
    fn every_variable_counts() -> Result<()> {
        let client = from(&[
            ("PAYMAN_CLIENT_ID", "id"),
            ("PAYMAN_REFRESH_TOKEN", "r"),
            ("PAYMAN_BASE_URL", "http://localhost:1"),
            ("PAYMAN_SESSION_ID", "ses-1"),
            ("PAYMAN_CLIENT_NAME", "me"),
        ])?;
        assert_eq!(client.session_id(), "ses-1");
        assert_eq!(client.name(), Some("me"));
        assert!(client.refresh_token().is_some());
        assert!(
            from(&[
                ("PAYMAN_CLIENT_ID", "id"),
                ("PAYMAN_CLIENT_SECRET", "s"),
                ("PAYMAN_ENVIRONMENT", "moon")
            ])
            .is_err()
        );
        Ok(())
    }
}
