//! A backend on actix-web: one client for all workers, answers whole and streamed.
//!
//! ```sh
//! cargo run --example actix_backend             # PORT=8080; on the emulator
//! cargo run --example actix_backend -- --live   # on the platform
//!
//! curl -s 127.0.0.1:8080/ask -H 'content-type: application/json' -d '{"text":"List all wallets"}'
//! curl -sN 127.0.0.1:8080/stream -H 'content-type: application/json' -d '{"text":"List all wallets"}'
//! curl -s 127.0.0.1:8080/health
//! ```

#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;

use actix_web::error::ErrorInternalServerError;
use actix_web::{App, HttpResponse, HttpServer, get, post, web};
use payman_sdk::{Ask, AskStream, Client, Error, Reply};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Question {
    text: String,
    /// Goes on with a conversation: the `sessionId` of an earlier reply. Without it a new one begins. Whoever knows
    /// a session can read it: keep it where only its visitor gets at it.
    session: Option<String>,
}

impl From<Question> for Ask {
    fn from(question: Question) -> Self {
        let new = Ask::new(question.text);
        match question.session {
            Some(session) => new.session(session),
            None => new.new_session(),
        }
    }
}

/// The whole answer, as JSON; an error becomes a status and a problem as JSON.
#[post("/ask")]
async fn ask(client: web::Data<Client>, question: web::Json<Question>) -> actix_web::Result<Reply> {
    // In a task of its own: a visitor who leaves drops the handler, and a dropped ask has an unknown outcome.
    let asking = tokio::spawn(client.ask(question.into_inner()));
    Ok(asking.await.map_err(ErrorInternalServerError)??)
}

/// The answer as it comes, as server-sent events. A POST, for a page's `fetch`: an `EventSource` comes back by itself
/// after every end, and would ask again.
#[post("/stream")]
async fn stream(
    client: web::Data<Client>,
    question: web::Json<Question>,
) -> Result<AskStream, Error> {
    client.ask_stream(question.into_inner()).await
}

#[get("/health")]
async fn health(client: web::Data<Client>) -> HttpResponse {
    let token = client.token_status();
    let failure = token.last_failure().map(|failure| failure.error().to_string());
    HttpResponse::Ok().json(
        json!({ "token": token.is_usable(), "generation": token.generation(), "failure": failure }),
    )
}

fn routes(config: &mut web::ServiceConfig) {
    config.service(ask).service(stream).service(health);
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payman = support::Payman::start().await?;
    let port: u16 = std::env::var("PORT").ok().map_or(Ok(8080), |port| port.parse())?;

    // Made once, and shared: all workers have one token and one connection pool.
    let client = web::Data::new(payman.client()?);
    let server = HttpServer::new(move || App::new().app_data(client.clone()).configure(routes))
        .workers(4)
        .shutdown_timeout(30) // Ctrl-C and SIGTERM: what was asked is answered first
        .bind(("127.0.0.1", port))?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    Ok(())
}
