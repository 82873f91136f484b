//! The visitors: each has a cookie with a random id, under which the server keeps a conversation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::HeaderMap;
use uuid::Uuid;

use crate::conversation::Conversation;
use crate::serving::cookies;
use crate::site::Site;

/// The maximum number of known visitors. Beyond it, the least recently seen one is removed.
const MAX_VISITORS: usize = 500;
const COOKIE: &str = "visitor";
const WEEK: u32 = 7 * 24 * 60 * 60;

struct Visitor {
    conversation: Conversation,
    seen: Instant,
}

/// The visitors that the server knows. Clones share them.
#[derive(Clone)]
pub struct Visitors {
    site: Site,
    all: Arc<Mutex<HashMap<Uuid, Visitor>>>,
    limit: usize,
}

impl Visitors {
    pub fn new(site: Site) -> Self {
        Self::with_limit(site, MAX_VISITORS)
    }

    pub fn with_limit(site: Site, limit: usize) -> Self {
        Self { site, all: Arc::default(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Visitor>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the conversation by the request's cookie; `None` for an unknown visitor.
    pub fn find(&self, headers: &HeaderMap) -> Option<Conversation> {
        let id = self.id_in(headers)?;
        let mut all = self.lock();
        let visitor = all.get_mut(&id)?;
        visitor.seen = Instant::now();
        Some(visitor.conversation.clone())
    }

    /// Adds a new visitor and returns the cookie to set. `None` while there is no room because
    /// the agent is working for every known visitor.
    ///
    /// The id is always created here. An unknown one that a browser sends is never adopted.
    pub fn add(&self) -> Option<String> {
        let mut all = self.lock();
        if all.len() >= self.limit {
            let idle = all.iter().filter(|(_, visitor)| !visitor.conversation.is_running());
            // Visitors without a message are removed first.
            let leaver =
                idle.min_by_key(|(_, visitor)| (!visitor.conversation.is_empty(), visitor.seen))?;
            let leaver = *leaver.0;
            all.remove(&leaver);
        }
        let id = Uuid::new_v4();
        all.insert(id, Visitor { conversation: Conversation::new(), seen: Instant::now() });
        Some(self.cookie(id))
    }

    /// Gives a known visitor a new id and returns the cookie to set. The old id becomes invalid.
    pub fn rotate(&self, headers: &HeaderMap) -> Option<String> {
        let old = self.id_in(headers)?;
        let mut all = self.lock();
        let visitor = all.remove(&old)?;
        let id = Uuid::new_v4();
        all.insert(id, visitor);
        Some(self.cookie(id))
    }

    fn cookie(&self, id: Uuid) -> String {
        self.site.set_cookie(COOKIE, &id.to_string(), WEEK)
    }

    fn id_in(&self, headers: &HeaderMap) -> Option<Uuid> {
        self.site.cookie(cookies(headers), COOKIE)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header;

    fn with_cookie(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, format!("other=1; {pair}").parse().unwrap())])
    }

    #[test]
    fn the_least_recently_seen_visitor_is_removed() {
        let visitors = Visitors::with_limit(Site::new(1, None), 2);
        let (first, second) = (visitors.add().unwrap(), visitors.add().unwrap());
        let (_, ticket) = visitors.find(&with_cookie(&first)).unwrap().begin("hi").unwrap();
        let third = visitors.add().unwrap();
        assert!(visitors.find(&with_cookie(&second)).is_none(), "had said nothing");
        let (_, other) = visitors.find(&with_cookie(&third)).unwrap().begin("hi").unwrap();
        assert!(visitors.add().is_none(), "everyone's agent is at work");
        drop((ticket, other));
    }

    #[test]
    fn an_unknown_id_from_a_browser_is_not_adopted() {
        let visitors = Visitors::new(Site::new(1, None));
        let foreign = format!("visitor={}", Uuid::new_v4());
        assert!(visitors.find(&with_cookie(&foreign)).is_none());
        let cookie = visitors.add().unwrap();
        assert!(!cookie.contains(&foreign));
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"));
    }

    #[test]
    fn a_replaced_id_is_invalid() {
        let visitors = Visitors::new(Site::new(1, None));
        let old = visitors.add().unwrap();
        let new = visitors.rotate(&with_cookie(&old)).unwrap();
        assert!(visitors.find(&with_cookie(&old)).is_none());
        assert!(visitors.find(&with_cookie(&new)).is_some());
        assert!(visitors.rotate(&with_cookie(&old)).is_none());
    }
}
