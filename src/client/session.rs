//! The session of a client, and handles in other sessions.

use std::sync::Arc;

use super::{Client, ClientInner};
use crate::ids::SessionId;

/// Sessions and handles.
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

    /// Returns the name given in the [`Config`](crate::Config).
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
