//! Connections: accepting them, serving them, and breaking them on purpose.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// One connection, as a handler sees it.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Notify>);

impl Line {
    /// Closes the connection, whatever is under way on it.
    pub(super) fn close(&self) {
        self.0.notify_one();
    }
}

/// How long the emulator waits after it could not accept a connection: for want of file descriptors, say.
const BREATH: Duration = Duration::from_millis(20);

/// Serves HTTP/1 and HTTP/2 (with prior knowledge) until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut lines = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    lines.spawn(serve_line(stream, router.clone()));
                }
                Err(_) => tokio::time::sleep(BREATH).await,
            },
            Some(_) = lines.join_next() => {}
        }
    }
}

async fn serve_line(stream: TcpStream, router: Router) {
    // Small chunks are the point of a stream: none waits for the next.
    let _ = stream.set_nodelay(true);
    let line = Line::default();
    let service = TowerToHyperService::new(router.layer(Extension(line.clone())));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(None);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Whoever is at the other end may leave at any time: that is no error here.
        _ = connection => {}
        () = line.0.notified() => {}
    }
}
