//! A chat page: each visitor talks with the Payman agent, and sees the answer grow.
//!
//! ```sh
//! cargo run --example axum_chat                # with play money, on the emulator
//! cargo run --example axum_chat -- --live      # as the environment (or .env) says: PAYMAN_CLIENT_ID, PAYMAN_CLIENT_SECRET
//! cargo run --example axum_chat -- --port 8080 # or PORT=8080; 0 for a free one
//! ```
//!
//! * `visitors.rs`: who is who, each with a conversation; bounded
//! * `conversation.rs`: what was said, and how each answer stands
//! * `answering.rs`: an answer on its way to the page, and into the conversation
//! * `routes.rs`: the page and what it asks of the server
//! * `page/`: the page; no build step

mod answering;
mod conversation;
mod routes;
#[cfg(test)]
mod tests;
mod visitors;

use std::env;
use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use payman_sdk::{Client, Emulator};
use tokio::net::TcpListener;

const USAGE: &str = "usage: axum_chat [--live] [--port PORT]";

struct Options {
    live: bool,
    port: u16,
}

impl Options {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut options = Self { live: false, port: 3000 };
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
    println!(
        "Chat with {} on http://{}",
        if options.live { "Payman" } else { "the emulator" },
        listener.local_addr()?
    );
    axum::serve(listener, routes::router(client)).await?;
    Ok(())
}

fn live() -> payman_sdk::Result<Client> {
    // No .env file is no error: the variables may be set already.
    let _ = dotenvy::dotenv();
    Client::from_env()
}

/// An agent who thinks and speaks at a pace that one can watch.
async fn emulated() -> payman_sdk::Result<(Client, Option<Emulator>)> {
    let payman = Emulator::builder()
        .agent_delay(Duration::from_millis(600))
        .chunk_chars(6)
        .chunk_delay(Duration::from_millis(50))
        .start()
        .await?;
    Ok((payman.client(), Some(payman)))
}
