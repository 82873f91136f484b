//! Attaches metadata to the request, the message and its text part: any value that serializes.
//!
//! ```sh
//! cargo run --example metadata
//! ```

mod support;

use payman_sdk::Ask;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    number: u32,
    positions: Vec<&'static str>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payman = support::Payman::start().await?;
    let client = payman.client()?;

    let ask = Ask::new("How much money do I have in my wallet?")
        .metadata("source", "mobile-app")
        .metadata("userId", "user123")
        .metadata("order", Order { number: 7, positions: vec!["tea", "milk"] });
    println!("{}", client.ask(ask).await?);

    let ask = Ask::new("List all payees")
        .message_metadata("priority", "high")
        .message_metadata("category", "payees");
    println!("{}", client.ask(ask).await?);

    let ask = Ask::new("List all wallets")
        .part_metadata("currency", "USD")
        .part_metadata("format", "text");
    let reply = client.ask(ask).await?;
    println!("{reply}");

    // Metadata that the server attached.
    println!("{}", serde_json::to_string_pretty(reply.metadata())?);

    if let Some(emulator) = payman.emulator() {
        println!("The server saw:");
        for sent in
            emulator.state().request_metadata.values().flatten().filter(|sent| !sent.is_empty())
        {
            println!("{}", serde_json::to_string_pretty(sent)?);
        }
    }
    Ok(())
}
