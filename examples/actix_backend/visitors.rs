//! A session per visitor: a cookie with a random id, and behind it, on the server, the session's
//! id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use payman_sdk::SessionId;
use uuid::Uuid;

use crate::site::Site;

/// The maximum number of known visitors. Beyond it, the least recently seen one is removed.
const MAX_VISITORS: usize = 10_000;
const COOKIE: &str = "visitor";
const WEEK: u32 = 7 * 24 * 60 * 60;

/// A visitor, and the cookie that their browser keeps.
pub struct Visitor {
    pub session: SessionId,
    pub cookie: String,
}

/// The visitors that the server knows. Clones share them.
#[derive(Clone)]
pub struct Visitors {
    site: Site,
    sessions: Arc<Mutex<HashMap<Uuid, (SessionId, Instant)>>>,
    limit: usize,
}

impl Visitors {
    pub fn new(site: Site) -> Self {
        Self { site, sessions: Arc::default(), limit: MAX_VISITORS }
    }

    /// Finds the visitor by the values of the request's `Cookie` headers, or adds a new one.
    ///
    /// An id is always created here. An unknown one that a browser sends is never adopted.
    pub fn find_or_add<'a>(&self, cookies: impl Iterator<Item = &'a str>) -> Visitor {
        let sent = self.site.cookie(cookies, COOKIE).and_then(|id| id.parse::<Uuid>().ok());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, (session, seen))) = sent.and_then(|id| Some((id, sessions.get_mut(&id)?)))
        {
            *seen = Instant::now();
            return Visitor { session: session.clone(), cookie: self.cookie(id) };
        }
        if sessions.len() >= self.limit {
            let oldest = sessions.iter().min_by_key(|(_, (_, seen))| *seen).map(|(id, _)| *id);
            oldest.map(|id| sessions.remove(&id));
        }
        let (id, session) = (Uuid::new_v4(), SessionId::new());
        sessions.insert(id, (session.clone(), Instant::now()));
        Visitor { session, cookie: self.cookie(id) }
    }

    fn cookie(&self, id: Uuid) -> String {
        self.site.set_cookie(COOKIE, &id.to_string(), WEEK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_known_by_their_cookie_and_bounded() {
        let visitors = Visitors { limit: 2, ..Visitors::new(Site::new(1, None)) };
        let first = visitors.find_or_add(std::iter::empty());
        let again = visitors.find_or_add(std::iter::once(first.cookie.as_str()));
        assert_eq!((&first.session, &first.cookie), (&again.session, &again.cookie));
        let foreign = format!("visitor={}", Uuid::new_v4());
        let second = visitors.find_or_add(std::iter::once(foreign.as_str()));
        assert!(second.session != first.session && !second.cookie.starts_with(&foreign));
        visitors.find_or_add(std::iter::empty());
        let back = visitors.find_or_add(std::iter::once(first.cookie.as_str()));
        assert_ne!(back.session, first.session, "the oldest was removed");
    }
}
