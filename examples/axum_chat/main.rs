//! A chat page: each visitor talks with the Payman agent and sees the answer grow.
//!
//! ```sh
//! cargo run --example axum_chat                # with play money, on the emulator
//! cargo run --example axum_chat -- --live      # PAYMAN_CLIENT_ID, PAYMAN_CLIENT_SECRET from .env
//! cargo run --example axum_chat -- --port 8080 # or PORT=8080; 0 for a free one
//! cargo run --example axum_chat -- --origin https://chat.example # its address behind a proxy
//! ```
//!
//! * `visitors.rs`: a bounded table of visitors and their conversations
//! * `conversation.rs`: the exchanges of a conversation, and the state of each answer
//! * `answering.rs`: streams an answer to the page and records it in the conversation
//! * `routes.rs`: the page and its requests
//! * `page/`: the page; no build step
//! * `../support/site.rs`, `serving.rs`: request checks and graceful shutdown

mod answering;
mod conversation;
mod routes;
#[path = "../support/serving.rs"]
mod serving;
#[path = "../support/site.rs"]
mod site;
#[cfg(test)]
mod tests;
mod visitors;

use std::env;
use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use payman_sdk::web::Shutdown;
use payman_sdk::{Client, Emulator};
use tokio::net::TcpListener;

use site::Site;

const USAGE: &str = "usage: axum_chat [--live] [--port PORT] [--origin ORIGIN]";

struct Options {
    live: bool,
    port: u16,
    origin: Option<String>,
}

impl Options {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut options = Self { live: false, port: 3000, origin: None };
        if let Ok(port) = env::var("PORT") {
            options.port = port.parse().map_err(|_| format!("PORT is no port: {port:?}"))?;
        }
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--live" => options.live = true,
                "--port" => {
                    options.port =
                        arguments.next().and_then(|port| port.parse().ok()).ok_or(USAGE)?
                }
                "--origin" => options.origin = Some(arguments.next().ok_or(USAGE)?),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
        .init();
    let options = Options::read()?;
    // Kept until the end: an emulator stops when it is dropped.
    let (client, _emulator) = if options.live { (live()?, None) } else { emulated().await? };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    let address = listener.local_addr()?;
    let with = if options.live { "Payman" } else { "the emulator" };
    println!("Chat with {with} on http://{address}");

    // Ctrl-C and SIGTERM end open streams with an `error` event.
    let (site, shutdown) = (Site::new(address.port(), options.origin), Shutdown::new());
    let router = routes::router(client.clone(), site, shutdown.clone());
    serving::serve(listener, router, shutdown).await?;
    client.close().await; // no token is lost
    Ok(())
}

fn live() -> payman_sdk::Result<Client> {
    // A missing .env file is no error: the variables may be set already.
    let _ = dotenvy::dotenv();
    Client::from_env()
}

/// Starts an emulator whose answers are slow enough to be watched.
async fn emulated() -> payman_sdk::Result<(Client, Option<Emulator>)> {
    let payman = Emulator::builder()
        .agent_delay(Duration::from_millis(600))
        .chunk_chars(6)
        .chunk_delay(Duration::from_millis(50))
        .start()
        .await?;
    eprintln!("the emulator is at {}", payman.base_url());
    Ok((payman.client(), Some(payman)))
}
