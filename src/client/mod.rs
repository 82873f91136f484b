//! The client: the public entry point. Each file has one group of its methods.

// The order of the modules is the order of the sections in the documentation.
mod construct;

mod env;

mod ask;

mod tasks;

mod session;

mod tokens;

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::delivery::Platform;
use crate::ids::SessionId;
use crate::journal::ClientJournal;
use crate::transport::Http;

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
/// A client needs a tokio runtime when its futures are polled, not when it is created. Connections
/// are served by the runtime on which they were opened. A client that is used on several runtimes
/// works, but while one of them is blocked, or after it has ended, an ask that would have used its
/// connections waits for its time limit or fails; the error then states that nothing was sent. So
/// give each runtime a client of its own, without [`Config::share_connections`], or run all asks on
/// one runtime.
///
/// # Dropping the future of an ask
///
/// An ask whose future is dropped has an unknown outcome: it may have been received, and then the
/// agent goes on. This includes a time limit of your own around the future (`tokio::time::timeout`,
/// an axum `TimeoutLayer`), and a handler that a web framework drops because the browser
/// disconnected. Do one of these instead:
///
/// * set [`Ask::deadline`](crate::Ask::deadline), which ends in an error with the
///   [task id](crate::Error::task_id);
/// * store [`Ask::task_id`](crate::Ask::task_id) before you ask, and look the task up with
///   [`Client::get_task`];
/// * `tokio::spawn` the ask, so that it outlives the handler.
#[derive(Clone)]
pub struct Client(Arc<ClientInner>);

/// One identity in one session. It never changes.
struct ClientInner {
    platform: Arc<Platform>,
    name: Option<Arc<str>>,
    session: SessionId,
    journal: Option<ClientJournal>,
}

impl Client {
    pub(crate) fn platform(&self) -> &Arc<Platform> {
        &self.0.platform
    }

    pub(crate) fn http(&self) -> &Http {
        &self.platform().http
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
    use crate::stream::{AskStream, RawStream};

    static_assertions::assert_impl_all!(Client: Clone, Send, Sync);
    static_assertions::assert_impl_all!(AskStream: Send, Unpin);
    static_assertions::assert_impl_all!(RawStream: Send, Unpin);
}
