//! Where tokens outlive the process.

/// Where tokens outlive the process, and are shared with its replicas.
pub trait TokenStore: Send + Sync + 'static {}
