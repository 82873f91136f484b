//! The state of the manager under its one lock, and the access token that is published next to it.
//!
//! Most callers only need the access token that can be sent. Each write publishes it before it
//! releases the lock, so that readers wait for no writer.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::{ArcSwapOption, Guard};

use super::ManagedToken;
use crate::auth::token::Access;

/// The token, with a copy of its access token for lock-free readers.
pub(super) struct PublishedToken {
    token: Arc<RwLock<ManagedToken>>,
    /// [`Token::sendable`](crate::auth::token::Token::sendable), as of the last write.
    sendable: ArcSwapOption<Access>,
}

impl PublishedToken {
    pub(super) fn new(token: ManagedToken) -> Self {
        let sendable = ArcSwapOption::new(token.token.sendable().cloned());
        Self { token: Arc::new(RwLock::new(token)), sendable }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, ManagedToken> {
        self.token.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> TokenWriteGuard<'_> {
        TokenWriteGuard {
            token: self.token.write().unwrap_or_else(PoisonError::into_inner),
            published: &self.sendable,
        }
    }

    /// Returns the access token, unless there is another reason than its age not to send it.
    pub(super) fn sendable(&self) -> Guard<Option<Arc<Access>>> {
        self.sendable.load()
    }
}

/// Exclusive access to the state. The access token is published when it is dropped.
pub(super) struct TokenWriteGuard<'a> {
    token: RwLockWriteGuard<'a, ManagedToken>,
    published: &'a ArcSwapOption<Access>,
}

impl Deref for TokenWriteGuard<'_> {
    type Target = ManagedToken;

    fn deref(&self) -> &ManagedToken {
        &self.token
    }
}

impl DerefMut for TokenWriteGuard<'_> {
    fn deref_mut(&mut self) -> &mut ManagedToken {
        &mut self.token
    }
}

impl Drop for TokenWriteGuard<'_> {
    fn drop(&mut self) {
        let (published, sendable) = (self.published.load(), self.token.token.sendable());
        // Most writes change the state of the refresh only.
        if published.as_ref().map(Arc::as_ptr) != sendable.map(Arc::as_ptr) {
            self.published.store(sendable.cloned());
        }
    }
}
