//! Who is asking: a credential becomes a token, and the token is kept fresh.

pub(crate) mod store;
