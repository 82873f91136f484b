//! Sending asks: whole replies and streams.

use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use tracing::Instrument;

use super::Client;
use crate::ask::{Ask, AskContext};
use crate::delivery::{ExpectedResponse, Response, TaskSnapshot};
use crate::error::{Error, Result};
use crate::journal::{self, Begun, JournalWorker, KeyedCall};
use crate::observe::{AskKind, AskObserver};
use crate::reply::{RawReply, Reply};
use crate::stream::{AskStream, Driver, RawStream};
use crate::time::instant_after;
use crate::wire::request::method;

/// Sending asks.
impl Client {
    /// Asks, and waits for the full reply.
    ///
    /// A task that failed is an `Ok` reply with that state: see [`Reply::into_completed`]. A task
    /// that is still submitted or working when the server replies is followed until it ends.
    ///
    /// **Dropping this future leaves the outcome unknown**, and so does a time limit of your own
    /// around it: the agent may go on, and pay. See
    /// [`Client`](Client#dropping-the-future-of-an-ask).
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

    /// Asks; `keyed` is the journal's record of an ask with an idempotency key.
    fn ask_with_key<T: Send + 'static>(
        &self,
        ask: Ask,
        keyed: Option<KeyedCall>,
        into_reply: fn(TaskSnapshot, &AskContext) -> Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        let platform = Arc::clone(self.platform());
        let defaults = &platform.ask_defaults;
        let mut ask = match ask.prepare(method::SEND, &self.0.session, defaults) {
            Ok(ask) => ask,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        Box::pin(async move {
            let hook = platform.on_ask_completed.as_ref();
            let mut observer = AskObserver::begin(AskKind::Ask, &ask.context, hook);
            let span = observer.span();
            let deadline = platform.reply_deadline(ask.context.limits());
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
        let defaults = &platform.ask_defaults;
        let mut ask = match ask.prepare(method::SEND_SUBSCRIBE, &self.0.session, defaults) {
            Ok(ask) => ask,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        Box::pin(async move {
            let hook = platform.on_ask_completed.as_ref();
            let mut observer = AskObserver::begin(AskKind::Stream, &ask.context, hook);
            let span = observer.span();
            let deadline = ask.context.limits().deadline.map(instant_after);
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
                    let driver = Driver::new(platform, ask.context, response, deadline, observer);
                    Ok(into_stream(driver.with_sent_flag(ask.sent).recorded_by(sending)))
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
}

#[expect(clippy::unnecessary_wraps, reason = "reading a raw reply may fail")]
fn into_reply(found: TaskSnapshot, ask: &AskContext) -> Result<Reply> {
    Ok(Reply::new(found.task, ask.request, &ask.session_id))
}

impl JournalWorker {
    /// Creates a worker that asks with this client, and shares its journal.
    ///
    /// ```
    /// # use payman_sdk::{Config, MemoryJournal};
    /// # fn f(config: Config) -> payman_sdk::Result<()> {
    /// use payman_sdk::{Client, JournalWorker};
    ///
    /// let client = Client::with_credentials(config.journal(MemoryJournal::new()))?;
    /// let worker = JournalWorker::new(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(client: Client) -> Self {
        let platform = Arc::clone(client.platform());
        let journal = client.0.journal.clone();
        let ask = move |ask, keyed| client.ask_with_key(ask, Some(keyed), into_reply);
        Self::with_parts(platform, journal, Arc::new(ask))
    }
}
