//! Asks, and prints the reply as text, as JSON, and as the server wrote it.
//!
//! ```sh
//! cargo run --example quickstart              # asks the emulator
//! cargo run --example quickstart -- --live    # asks the platform; credentials in the environment
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

    // The JSON-RPC response as received, byte for byte.
    let raw = client.ask_raw("How much money do I have in my wallet?").await?;
    println!("{}\n", raw.json());

    // The rest pays, so it runs only with the emulator's play money.
    if payman.emulator().is_none() {
        return Ok(());
    }

    // The agent may need input. The answer continues the same task.
    let mut reply = client.ask("Pay Tyllen $50").await?;
    println!("{reply}");
    if reply.state() == &TaskState::InputRequired {
        reply = client.ask(reply.answer("yes, create them")).await?;
        println!("{reply}");
    }

    // A failed task is an `Ok` reply; `into_completed` turns it into an error.
    reply.into_completed()?;
    Ok(())
}
