//! The answer as it comes: event by event, only the words, or raw.
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

    // An error at set-up is the `?` here; one in mid-answer is an item of the stream.
    let mut events = client.ask_stream("How much money do I have in my wallet?").await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Status(update) => println!("[{}]", update.state()),
            Event::Artifact(update) => println!("  {:?}", update.text()),
            Event::Task(task) => println!("as of now: {}", task.text()), // after a cut: redraw
            _ => {}
        }
    }

    // Only the words, for a page or a terminal.
    let mut words = client.ask_stream("List all wallets").await?.text();
    while let Some(word) = words.next().await {
        print!("{}", word?);
        std::io::stdout().flush()?;
    }
    println!("\n");

    // The same reply that `ask` gives, from a stream.
    let reply = client.ask_stream("List all payees").await?.into_reply().await?;
    println!("{} ({})\n", reply, reply.state());

    // The JSON-RPC responses, exactly as the server wrote them.
    let mut raw = client.ask_stream_raw("List all payees").await?;
    while let Some(response) = raw.next().await {
        println!("{}", response?.json());
    }
    Ok(())
}
