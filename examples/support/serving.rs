//! Request checks and graceful shutdown of the axum examples.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use payman_sdk::web::{Problem, Shutdown};
use tokio::net::TcpListener;

use crate::site::{RequestFacts, Site, stop_signal};

/// The time limit of a shutdown for answers in progress.
const GRACE: Duration = Duration::from_secs(30);

/// Refuses requests on any route that do not come from this site.
pub fn guarded(router: Router, site: Site) -> Router {
    router.layer(from_fn_with_state(site, guard))
}

async fn guard(
    State(site): State<Site>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    site.check(&RequestFacts {
        is_write: !matches!(*request.method(), Method::GET | Method::HEAD),
        // HTTP/2 has the authority instead of the header.
        host: text(headers, header::HOST)
            .or_else(|| request.uri().authority().map(|authority| authority.as_str())),
        origin: text(headers, header::ORIGIN),
        fetch_site: text(headers, HeaderName::from_static("sec-fetch-site")),
        content_type: text(headers, header::CONTENT_TYPE),
    })?;
    Ok(next.run(request).await)
}

/// Returns a header as text. A value that is not text is treated as an unknown one.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// Returns the values of the `Cookie` headers.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok())
}

/// Serves until Ctrl-C or SIGTERM, then ends open streams and waits for answers in progress.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> io::Result<()> {
    let limit = {
        let begun = shutdown.begun();
        async move {
            begun.await;
            tokio::time::sleep(GRACE).await;
        }
    };
    let stop = async move {
        tokio::select! {
            () = stop_signal() => shutdown.begin(),
            () = shutdown.begun() => {}
        }
    };
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(stop).into_future() => served,
        () = limit => Ok(()),
    }
}
