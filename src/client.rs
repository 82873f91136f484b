//! The handle that people hold.

use std::sync::Arc;

use crate::ids::SessionId;
use crate::transport::Http;

/// A client of the Payman platform.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    session: SessionId,
}

#[derive(Debug)]
struct Inner {
    http: Http,
}

impl Client {
    pub(crate) fn http(&self) -> &Http {
        &self.inner.http
    }
}
