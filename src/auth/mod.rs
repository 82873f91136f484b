//! Authentication: obtaining tokens, and keeping them fresh.

pub(crate) mod clock;
pub(crate) mod connect;
pub(crate) mod grant;
pub(crate) mod manager;
mod redact;
pub(crate) mod sign_in;
pub(crate) mod store;
pub(crate) mod token;
