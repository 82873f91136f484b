//! The handle that people hold.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use secrecy::SecretString;
use tokio::time::Instant;
use tracing::{Instrument, Span, info_span};

use crate::ask::{Ask, PreparedAsk};
use crate::auth::connect::AuthCode;
use crate::auth::manager::TokenManager;
use crate::auth::token::{AccessToken, TokenInfo, TokenStatus};
use crate::auth::{for_auth_code, for_credentials, for_token};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::delivery::{Delivered, ExpectedResponse, Platform, TaskSnapshot};
use crate::endpoint::BaseUrl;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::{SessionId, TaskId};
use crate::reply::{RawReply, Reply};
use crate::stream::{AskStream, Driver, RawStream};
use crate::time::{instant_after, millis_since};
use crate::transport::Http;
use crate::wire::request::method;
use crate::wire::task::Task;

/// A client of the Payman platform: one identity, one connection pool, one session.
///
/// Cheap to clone; clones are the same client. A client's session never changes, so that one client in a web
/// server's state is safe to share: give each visitor a handle with a session of their own by
/// [`with_session`](Self::with_session) or [`new_session`](Self::new_session).
///
/// The futures and streams that it returns borrow nothing and are `Send`: `tokio::spawn(client.ask("…"))` works.
#[derive(Clone)]
pub struct Client(Arc<Conversation>);

/// Making one.
impl Client {
    /// A client for the app itself, by the client id and secret. No network yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: an empty client id, a missing secret, or another bad setting.
    pub fn with_credentials(config: Config) -> Result<Self> {
        let base = config.check()?;
        config.require_secret()?;
        let http = Http::for_config(&config, &base)?;
        let keeper = for_credentials(&config, &base, &http)?;
        Ok(Self::assemble(config, &base, http, keeper))
    }

    /// A client for the user who just consented, by the code that the browser brought back.
    ///
    /// The code is exchanged at once, and never sent twice: codes are short-lived and work once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] before any network: as [`with_credentials`](Self::with_credentials), and a blank code.
    /// Then whatever became of the exchange: [`is_reauthorization_required`](Error::is_reauthorization_required) where the code was refused, or its reply lost.
    pub async fn with_auth_code(config: Config, code: impl Into<AuthCode>) -> Result<Self> {
        let code = code.into();
        let base = config.check()?;
        config.require_secret()?;
        let http = Http::for_config(&config, &base)?;
        let keeper = for_auth_code(&config, &base, &http, code).await?;
        Ok(Self::assemble(config, &base, http, keeper))
    }

    /// A client for whoever the token belongs to: an access token, a refresh token, or both. No network yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: an empty client id, a blank token, or another bad setting.
    pub fn with_token(config: Config, token: TokenInfo) -> Result<Self> {
        let base = config.check()?;
        let http = Http::for_config(&config, &base)?;
        let keeper = for_token(&config, &base, &http, token)?;
        Ok(Self::assemble(config, &base, http, keeper))
    }

    /// A client as the environment's variables say. A `.env` file is not read.
    ///
    /// `PAYMAN_CLIENT_ID` and `PAYMAN_CLIENT_SECRET`; optionally `PAYMAN_ENVIRONMENT` (`live` or `test`) or `PAYMAN_BASE_URL`,
    /// `PAYMAN_SESSION_ID`, `PAYMAN_CLIENT_NAME`. With `PAYMAN_ACCESS_TOKEN` and `PAYMAN_EXPIRES_IN` (seconds), or
    /// `PAYMAN_REFRESH_TOKEN`, or both, it is a client [with that token](Self::with_token).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], naming the variables that are missing or not understood.
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

    fn assemble(config: Config, base: &BaseUrl, http: Http, keeper: TokenManager) -> Self {
        Self(Arc::new(Conversation {
            platform: Arc::new(Platform::new(http, keeper, config.limits, config.retry, base)),
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
/// **Dropping the future of an ask leaves its outcome unknown**: so does a time limit of your own around it
/// (`tokio::time::timeout`, an axum `TimeoutLayer`), and a web framework that drops a handler because the browser
/// went away. The ask may have been received, and the agent goes on. Use [`Ask::deadline`] instead, which ends in an error
/// with the [task id](Error::task_id); or keep [`Ask::task_id`] before you ask, and look with [`Client::get_task`]; or
/// `tokio::spawn` the ask, so that it outlives the handler.
impl Client {
    /// Asks, and waits for the full reply.
    ///
    /// A task that failed is an `Ok` reply with that state: see [`Reply::into_completed`]. A task that is still submitted
    /// or working when the server replies is followed until it ends.
    ///
    /// **Dropping this future leaves the outcome unknown**, and so does a time limit of your own around it: the agent may
    /// go on, and pay. See [above](Client#impl-Client-1).
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
    /// See [`Error`]: before anything else, look at [`is_outcome_unknown`](Error::is_outcome_unknown).
    pub fn ask(&self, ask: impl Into<Ask>) -> BoxFuture<'static, Result<Reply>> {
        self.ask_for_task(ask.into(), |found, ask| {
            Ok(Reply::new(found.task, ask.request, &ask.session_id))
        })
    }

    /// Asks, and gives the server's JSON-RPC response as it is, byte for byte.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask); a JSON-RPC error is an `Err` here too, with the response as its [body](Error::body).
    pub fn ask_raw(&self, ask: impl Into<Ask>) -> BoxFuture<'static, Result<RawReply>> {
        self.ask_for_task(ask.into(), |found, ask| {
            RawReply::read(&found.response).ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    Outcome::Unknown,
                    "the platform's answer is not JSON",
                )
                .with_task_id(&ask.task_id)
            })
        })
    }

    fn ask_for_task<T: Send + 'static>(
        &self,
        ask: Ask,
        into_reply: fn(TaskSnapshot, &PreparedAsk) -> Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        let platform = Arc::clone(self.platform());
        let ask = match ask.prepare(method::SEND, &self.0.session, platform.limits) {
            Ok(ask) => ask,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        Box::pin(async move {
            let span = ask_span(&ask);
            let started = Instant::now();
            let deadline = platform.reply_deadline(&ask.limits);
            let result = async {
                match platform.deliver(&ask, ExpectedResponse::Reply, deadline).await? {
                    Delivered::Task(found) if platform.is_to_be_followed(&ask, &found) => {
                        Box::pin(platform.follow(&ask, found, deadline)).await
                    }
                    Delivered::Task(found) => Ok(found),
                    Delivered::Events(_) => Err(Error::new(
                        ErrorKind::Protocol,
                        Outcome::Unknown,
                        "the platform answered an ask for a whole reply with a stream",
                    )),
                }
            }
            .instrument(span.clone())
            .await;
            record_end(&span, started, &result);
            into_reply(result?, &ask)
        })
    }

    /// Asks, and gives the answer as it comes.
    ///
    /// An HTTP error or a JSON-RPC error at set-up is the `Err` of this future, not the stream's first item.
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
        self.drive(ask.into(), AskStream::new)
    }

    /// Asks, and gives the answer as raw JSON-RPC responses as they come.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ask_stream_raw(&self, ask: impl Into<Ask>) -> BoxFuture<'static, Result<RawStream>> {
        self.drive(ask.into(), RawStream::new)
    }

    fn drive<S: Send + 'static>(
        &self,
        ask: Ask,
        into_stream: fn(Driver) -> S,
    ) -> BoxFuture<'static, Result<S>> {
        let conversation = Arc::clone(&self.0);
        let ask = match ask.prepare(
            method::SEND_SUBSCRIBE,
            &conversation.session,
            conversation.platform.limits,
        ) {
            Ok(ask) => ask,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let span = stream_span(&ask);
        let driver = async move {
            let platform = &conversation.platform;
            let deadline = ask.limits.deadline.map(instant_after);
            let delivered = platform
                .deliver(&ask, ExpectedResponse::Events, platform.setup_deadline(deadline))
                .await?;
            Ok(into_stream(Driver::new(conversation, ask, delivered, deadline)))
        };
        Box::pin(driver.instrument(span))
    }

    /// Looks at a task: after a crash, or an error whose outcome is unknown.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TaskNotFound`] where the server knows no such task; [`ErrorKind::Unsupported`] where it cannot be asked.
    pub fn get_task(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<Task>> {
        let platform = Arc::clone(self.platform());
        let id = id.into();
        Box::pin(async move { platform.get_persistently(&id).await.map(|found| found.task) })
    }

    /// Cancels a task. What the agent has done by then is done.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TaskNotFound`] where the server knows no such task; [`ErrorKind::Rpc`] with code -32002 where there is
    /// nothing left to cancel; [`ErrorKind::Unsupported`] where it cannot be asked.
    pub fn cancel_task(&self, id: impl Into<TaskId>) -> BoxFuture<'static, Result<Task>> {
        let platform = Arc::clone(self.platform());
        let id = id.into();
        Box::pin(async move { platform.cancel(&id).await.map(|found| found.task) })
    }
}

/// Sessions.
impl Client {
    /// The session of this handle.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.0.session.clone()
    }

    /// A handle in another session: resumes it. Shares the token and the connections.
    #[must_use]
    pub fn with_session(&self, id: impl Into<SessionId>) -> Self {
        Self(Arc::new(self.0.in_session(id.into())))
    }

    /// A handle in a session of its own. Shares the token and the connections.
    #[must_use]
    pub fn new_session(&self) -> Self {
        self.with_session(SessionId::new())
    }

    /// The name given in the [`Config`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }
}

/// Tokens.
impl Client {
    /// A valid access token, renewed first where need be.
    ///
    /// # Errors
    ///
    /// Where there is no valid token and none could be had; the source says why.
    pub fn access_token(&self) -> BoxFuture<'static, Result<AccessToken>> {
        let platform = Arc::clone(self.platform());
        Box::pin(async move { platform.tokens.access_token().await })
    }

    /// The refresh token in hand, if any.
    #[must_use]
    pub fn refresh_token(&self) -> Option<SecretString> {
        self.platform().tokens.refresh_token()
    }

    /// True when there is no valid access token in hand right now; the next call obtains one.
    #[must_use]
    pub fn is_access_token_expired(&self) -> bool {
        self.platform().tokens.is_expired()
    }

    /// Signs the user out: forgets their tokens, in this client and its clones and in the
    /// [`TokenStore`](crate::TokenStore). They have to connect again.
    ///
    /// The platform is not told: no request for that is known. Another process, or another client of the same subject,
    /// may use an access token that it holds until that expires; no one can renew it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TokenStore`] where the store fails: the user is not signed out, try again.
    /// [`ErrorKind::InvalidInput`] for a client of the app itself ([`with_credentials`](Self::with_credentials)).
    pub fn sign_out(&self) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let platform = Arc::clone(self.platform());
        async move { platform.tokens.sign_out().await }
    }

    /// How the token stands, for a health endpoint. Holds no secret.
    #[must_use]
    pub fn token_status(&self) -> TokenStatus {
        self.platform().tokens.status()
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

impl Config {
    /// Uses the connections and the retry budget of another client: one pool for the clients of many users.
    ///
    /// The other client's connect timeout and HTTP settings apply, not those of this config.
    pub fn share_connections(mut self, other: &Client) -> Self {
        self.shared = Some(other.http().clone());
        self
    }
}

macro_rules! span_of {
    ($name:literal, $ask:expr) => {
        info_span!(
            $name,
            task_id = %$ask.task_id,
            session_id = %$ask.session_id,
            request_id = %$ask.request,
            state = tracing::field::Empty,
            duration_ms = tracing::field::Empty,
        )
    };
}

fn ask_span(ask: &PreparedAsk) -> Span {
    span_of!("ask", ask)
}

fn stream_span(ask: &PreparedAsk) -> Span {
    span_of!("stream", ask)
}

fn record_end(span: &Span, started: Instant, result: &Result<TaskSnapshot>) {
    if span.is_disabled() {
        return;
    }
    let state = result.as_ref().map_or("error", |found| found.task.state().as_str());
    span.record("state", state);
    span.record("duration_ms", millis_since(started));
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
