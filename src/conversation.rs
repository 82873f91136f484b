//! One identity in one session.

use std::sync::Arc;

use crate::delivery::Platform;
use crate::ids::SessionId;

/// What a client is, and what its streams keep of it. It never changes.
pub(crate) struct Conversation {
    pub(crate) platform: Arc<Platform>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) session: SessionId,
}

impl Conversation {
    /// The same identity in another session.
    pub(crate) fn in_session(&self, session: SessionId) -> Self {
        Self { platform: Arc::clone(&self.platform), name: self.name.clone(), session }
    }
}
