//! A backend on actix-web: one client for all workers, a session per visitor, answers whole and
//! streamed.
//!
//! ```sh
//! cargo run --example actix_backend             # PORT=8080; on the emulator
//! cargo run --example actix_backend -- --live   # on the platform
//!
//! curl -s -c jar -b jar 127.0.0.1:8080/ask -H 'content-type: application/json' \
//!   -d '{"text":"List all wallets"}'
//! curl -sN -c jar -b jar 127.0.0.1:8080/stream -H 'content-type: application/json' \
//!   -d '{"text":"What did we talk about earlier?"}'
//! curl -s 127.0.0.1:8080/health
//! ```

#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;
mod visitors;

use actix_web::body::BoxBody;
use actix_web::dev::{Server, ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN, SET_COOKIE};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, get, post, web};
use payman_sdk::web::{Problem, ServerEvents, Shutdown, detach};
use payman_sdk::{Ask, Client, Error};
use serde::Deserialize;
use serde_json::json;

use site::{RequestFacts, Site, stop_signal};
use visitors::{Visitor, Visitors};

/// The time limit of a shutdown for answers in progress, in seconds.
const GRACE: u64 = 30;

/// The state that all workers share. Clones share it too.
#[derive(Clone)]
struct Backend {
    client: Client,
    site: Site,
    visitors: Visitors,
    shutdown: Shutdown,
}

impl Backend {
    fn new(client: Client, site: Site, shutdown: Shutdown) -> Self {
        Self { client, visitors: Visitors::new(site.clone()), site, shutdown }
    }

    fn visitor(&self, request: &HttpRequest) -> Visitor {
        let cookies = request.headers().get_all(COOKIE);
        self.visitors.find_or_add(cookies.filter_map(|value| value.to_str().ok()))
    }
}

type Shared = web::Data<Backend>;

#[derive(Deserialize)]
struct Question {
    text: String,
}

/// Answers as a whole, as JSON. An error becomes a status and a problem as JSON.
#[post("/ask")]
async fn answer_whole(
    backend: Shared,
    request: HttpRequest,
    question: web::Json<Question>,
) -> Result<impl Responder, Error> {
    let visitor = backend.visitor(&request);
    let ask = Ask::new(question.into_inner().text).session(visitor.session);
    // Detached: a disconnect drops the handler, and a dropped ask has an unknown outcome.
    let reply = detach(backend.client.ask(ask)).await?;
    Ok(reply.customize().append_header((SET_COOKIE, visitor.cookie)))
}

/// Streams the answer as server-sent events. The response begins at once, and ends when the server
/// shuts down.
///
/// This is a POST, for a page's `fetch`: an `EventSource` reconnects by itself after every end, and
/// would ask again.
#[post("/stream")]
async fn answer_streamed(
    backend: Shared,
    request: HttpRequest,
    question: web::Json<Question>,
) -> impl Responder {
    let visitor = backend.visitor(&request);
    let ask = Ask::new(question.into_inner().text).session(visitor.session);
    let task_id = ask.task_id().clone();
    ServerEvents::from_future(backend.client.ask_stream(ask))
        .with_task_id(task_id)
        .until(backend.shutdown.begun())
        .customize()
        .append_header((SET_COOKIE, visitor.cookie))
}

#[get("/health")]
async fn health(backend: Shared) -> HttpResponse {
    let token = backend.client.token_status();
    let failure = token.last_failure().map(|failure| failure.error().to_string());
    HttpResponse::Ok().json(
        json!({ "token": token.is_usable(), "generation": token.generation(), "failure": failure }),
    )
}

/// Refuses requests on any route that do not come from this site.
async fn guard(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    // A value that is not text is like none that is known.
    let header =
        |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let facts = RequestFacts {
        is_write: !matches!(request.method().as_str(), "GET" | "HEAD"),
        // HTTP/2 has the authority instead of the header.
        host: header(HOST).or_else(|| request.uri().authority().map(|host| host.as_str())),
        origin: header(ORIGIN),
        fetch_site: header(HeaderName::from_static("sec-fetch-site")),
        content_type: header(CONTENT_TYPE),
    };
    let backend = request.app_data::<Shared>();
    match backend.map(|backend| backend.site.check(&facts)) {
        Some(Ok(())) => next.call(request).await,
        Some(Err(refused)) => {
            let response = refused.respond_to(request.request());
            Ok(request.into_response(response))
        }
        None => Err(actix_web::error::ErrorInternalServerError("the backend is not configured")),
    }
}

fn unreadable(error: &actix_web::error::JsonPayloadError, request: &HttpRequest) -> HttpResponse {
    let status = actix_web::ResponseError::status_code(error).as_u16();
    Problem::new(status, "unreadable", "Unreadable", error.to_string()).respond_to(request)
}

fn routes(config: &mut web::ServiceConfig) {
    let json = web::JsonConfig::default().limit(16 * 1024).error_handler(|error, request| {
        let response = unreadable(&error, request);
        actix_web::error::InternalError::from_response(error, response).into()
    });
    config.app_data(json).service(answer_whole).service(answer_streamed).service(health);
}

/// Serves on a listener. The signals are handled in `main`, not by actix-web.
fn server(
    listener: std::net::TcpListener,
    backend: Backend,
    workers: usize,
) -> std::io::Result<Server> {
    let backend = web::Data::new(backend);
    let app = move || App::new().app_data(backend.clone()).wrap(from_fn(guard)).configure(routes);
    Ok(HttpServer::new(app)
        .workers(workers)
        .disable_signals()
        .shutdown_timeout(GRACE)
        .h1_allow_half_closed(false) // notices at once that a visitor left
        .listen(listener)?
        .run())
}

/// Ends open streams with an `error` event, then waits for answers in progress.
async fn stop(shutdown: &Shutdown, server: &ServerHandle) {
    shutdown.begin();
    server.stop(true).await;
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payman = support::Payman::start().await?;
    let port: u16 = std::env::var("PORT").ok().map_or(Ok(8080), |port| port.parse())?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let address = listener.local_addr()?;

    // Created once and shared: all workers have one token and one connection pool.
    let client = payman.client()?;
    let (site, shutdown) = (Site::new(address.port(), None), Shutdown::new());
    let server = server(listener, Backend::new(client.clone(), site, shutdown.clone()), 4)?;
    println!("listening on http://{address}");

    let handle = server.handle();
    actix_web::rt::spawn(async move {
        stop_signal().await;
        stop(&shutdown, &handle).await;
    });
    server.await?;
    client.close().await; // no token is lost
    Ok(())
}
