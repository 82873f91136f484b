//! A DNS resolver that fails, and clients that use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use payman_sdk::{Client, Config, Environment, RetryPolicy};
use reqwest::dns::{Name, Resolve, Resolving};

/// A DNS resolver that fails every lookup and counts them.
#[derive(Clone, Default)]
pub struct FailingResolver(Arc<AtomicUsize>);

impl FailingResolver {
    /// Returns the number of lookups so far.
    pub fn lookups(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Resolve for FailingResolver {
    fn resolve(&self, _: Name) -> Resolving {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err("no such name".into()) })
    }
}

/// Returns a client that cannot resolve the name of its server, and its resolver.
pub fn unresolvable(connect_retries: u32) -> (Client, FailingResolver) {
    let resolver = FailingResolver::default();
    let used = resolver.clone();
    let config = Config::new("client-id")
        .environment(Environment::Test)
        .retry(RetryPolicy::default().connect_retries(connect_retries))
        .configure_http(move |http| http.no_proxy().dns_resolver(used.clone()));
    (super::client_with(config), resolver)
}
