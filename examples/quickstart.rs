//! Ask, and read the answer: for a person, as JSON, and exactly as the server wrote it.
//!
//! ```sh
//! cargo run --example quickstart              # asks the emulator
//! cargo run --example quickstart -- --live    # asks the platform; PAYMAN_CLIENT_ID and PAYMAN_CLIENT_SECRET in .env
//! ```

mod support;

use payman_sdk::TaskState;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payman = support::Payman::start().await?;
    // In a program of your own:
    // Client::with_credentials(Config::new("your-client-id").client_secret("your-client-secret"))?
    let client = payman.client()?;

    let reply = client.ask("How much money do I have in my wallet?").await?;
    println!("{reply}\n");

    // The formatted reply: ids, state, artifacts, metadata.
    println!("{}\n", serde_json::to_string_pretty(&reply)?);

    // The JSON-RPC response, byte for byte.
    let raw = client.ask_raw("How much money do I have in my wallet?").await?;
    println!("{}\n", raw.json());

    // What follows pays: only with the emulator's play money.
    if payman.emulator().is_none() {
        return Ok(());
    }

    // The agent may ask back. The answer goes to the same task.
    let mut reply = client.ask("Pay Tyllen $50").await?;
    println!("{reply}");
    if reply.state() == &TaskState::InputRequired {
        reply = client.ask(reply.answer("yes, create them")).await?;
        println!("{reply}");
    }

    // A task that failed is a reply too, until you ask for one that completed.
    reply.into_completed()?;
    Ok(())
}
