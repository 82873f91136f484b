//! Streams an answer: as events, as text only, and as raw JSON-RPC responses.
//!
//! ```sh
//! cargo run --example streaming
//! ```

mod support;

use std::io::Write;

use futures::StreamExt;
use payman_sdk::Event;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payman = support::Payman::start().await?;
    let client = payman.client()?;

    // An error at set-up is returned here; a later error is an item of the stream.
    let mut events = client.ask_stream("How much money do I have in my wallet?").await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Status(update) => println!("[{}]", update.state()),
            Event::Artifact(update) => println!("  {:?}", update.text()),
            // A snapshot after a cut: it replaces the text shown so far.
            Event::Task(task) => println!("as of now: {}", task.text()),
            _ => {}
        }
    }

    // Only the text, for a page or a terminal.
    let mut text = client.ask_stream("List all wallets").await?.text();
    while let Some(chunk) = text.next().await {
        print!("{}", chunk?);
        std::io::stdout().flush()?;
    }
    println!("\n");

    // The same reply as from `ask`.
    let reply = client.ask_stream("List all payees").await?.into_reply().await?;
    println!("{} ({})\n", reply, reply.state());

    // The JSON-RPC responses as the server wrote them.
    let mut raw = client.ask_stream_raw("List all payees").await?;
    while let Some(response) = raw.next().await {
        println!("{}", response?.json());
    }
    Ok(())
}
