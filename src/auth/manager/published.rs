//! The token in hand: decided over under a lock, read without one.
//!
//! Nearly every caller wants no more than the access token that can be sent. That is published beside the lock by
//! each write, before the lock is free again: readers wait for no writer, and one that was put to sleep holds up none.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::{ArcSwapOption, Guard};

use super::super::token::{Access, Token};

pub(super) struct PublishedToken {
    token: Arc<RwLock<Token>>,
    /// [`Token::sendable`], as of the last write.
    sendable: ArcSwapOption<Access>,
}

impl PublishedToken {
    pub(super) fn new(token: Token) -> Self {
        let sendable = ArcSwapOption::new(token.sendable().cloned());
        Self { token: Arc::new(RwLock::new(token)), sendable }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Token> {
        self.token.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> Writing<'_> {
        Writing {
            token: self.token.write().unwrap_or_else(PoisonError::into_inner),
            sendable: &self.sendable,
        }
    }

    /// The access token, where nothing but its age speaks against sending it.
    pub(super) fn sendable(&self) -> Guard<Option<Arc<Access>>> {
        self.sendable.load()
    }
}

/// The right to change the token. What came of it is published at the end.
pub(super) struct Writing<'a> {
    token: RwLockWriteGuard<'a, Token>,
    sendable: &'a ArcSwapOption<Access>,
}

impl Deref for Writing<'_> {
    type Target = Token;

    fn deref(&self) -> &Token {
        &self.token
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.sendable.store(self.token.sendable().cloned());
    }
}
