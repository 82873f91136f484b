//! Accepts and serves connections, and closes them where a fault requires it.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Lets a request handler close the connection that its request came over.
#[derive(Clone, Default)]
pub(super) struct ConnectionHandle(Arc<Notify>);

impl ConnectionHandle {
    /// Closes the connection, with all requests in progress on it.
    pub(super) fn close(&self) {
        self.0.notify_one();
    }
}

/// The wait after a failed `accept`, which fails repeatedly while file descriptors are exhausted.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Serves HTTP/1 and HTTP/2 (prior knowledge). Dropping the future closes all connections.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    // Nagle's algorithm would hold back the small chunks of a stream.
    let _ = stream.set_nodelay(true);
    let handle = ConnectionHandle::default();
    let service = TowerToHyperService::new(router.layer(Extension(handle.clone())));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(None);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error here means that the client disconnected, which it may do at any time.
        _ = connection => {}
        () = handle.0.notified() => {}
    }
}
