//! Who is who: a cookie with a random id, and behind it, on the server, a conversation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, header};
use uuid::Uuid;

use crate::conversation::Conversation;

/// How many visitors are known at once; beyond that, whoever was away longest is forgotten.
const MAX_VISITORS: usize = 500;
const COOKIE: &str = "visitor";

struct Visitor {
    conversation: Conversation,
    seen: Instant,
}

/// Clones are the same.
#[derive(Clone)]
pub struct Visitors {
    all: Arc<Mutex<HashMap<Uuid, Visitor>>>,
    limit: usize,
}

impl Visitors {
    pub fn new() -> Self {
        Self::with_limit(MAX_VISITORS)
    }

    pub fn with_limit(limit: usize) -> Self {
        Self { all: Arc::default(), limit }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Visitor>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The conversation of whoever sent these headers; `None` for one who is not known (any more).
    pub fn find(&self, headers: &HeaderMap) -> Option<Conversation> {
        let id = id_in(headers)?;
        let mut all = self.all();
        let visitor = all.get_mut(&id)?;
        visitor.seen = Instant::now();
        Some(visitor.conversation.clone())
    }

    /// Welcomes somebody new: the cookie to set. `None` while there is no room: everyone's agent is at work.
    ///
    /// The id is always minted here. One that a browser brings along and that is not known is never taken over.
    pub fn welcome(&self) -> Option<String> {
        let mut all = self.all();
        if all.len() >= self.limit {
            let idle = all.iter().filter(|(_, visitor)| !visitor.conversation.is_running());
            // Whoever never said anything goes first.
            let leaver =
                idle.min_by_key(|(_, visitor)| (!visitor.conversation.is_empty(), visitor.seen))?;
            let leaver = *leaver.0;
            all.remove(&leaver);
        }
        let id = Uuid::new_v4();
        all.insert(id, Visitor { conversation: Conversation::new(), seen: Instant::now() });
        // Behind TLS, add `; Secure`.
        Some(format!("{COOKIE}={id}; HttpOnly; SameSite=Lax; Path=/; Max-Age=604800"))
    }
}

fn id_in(headers: &HeaderMap) -> Option<Uuid> {
    let cookies =
        headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cookie(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, format!("other=1; {pair}").parse().unwrap())])
    }

    #[test]
    fn the_longest_silent_visitor_makes_room() {
        let visitors = Visitors::with_limit(2);
        let (first, second) = (visitors.welcome().unwrap(), visitors.welcome().unwrap());
        let (_, ticket) = visitors.find(&with_cookie(&first)).unwrap().begin("hi").unwrap();
        let third = visitors.welcome().unwrap();
        assert!(visitors.find(&with_cookie(&second)).is_none(), "had said nothing");
        let (_, other) = visitors.find(&with_cookie(&third)).unwrap().begin("hi").unwrap();
        assert!(visitors.welcome().is_none(), "everyone's agent is at work");
        drop((ticket, other));
    }

    #[test]
    fn an_id_from_outside_is_not_taken_over() {
        let visitors = Visitors::new();
        let foreign = format!("visitor={}", Uuid::new_v4());
        assert!(visitors.find(&with_cookie(&foreign)).is_none());
        let cookie = visitors.welcome().unwrap();
        assert!(!cookie.contains(&foreign));
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"));
    }
}
