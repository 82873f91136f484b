//! Prints the SDK's tracing spans (`ask`, `stream`, `attempt`, `token`) with their ids, states and
//! durations. They hold no secret, no question and no answer.
//!
//! ```sh
//! cargo run --example tracing
//! RUST_LOG=payman_sdk=info cargo run --example tracing    # without the attempts
//! ```

mod support;

use payman_sdk::emulator::{Fault, Operation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("payman_sdk=debug"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .init();

    let payman = support::Payman::start().await?;
    let client = payman.client()?;

    // One token request, then one attempt.
    client.ask("How much money do I have in my wallet?").await?;

    // The span `stream` closes with its stream.
    client.ask_stream("List all payees").await?.into_reply().await?;

    if let Some(emulator) = payman.emulator() {
        // Two attempts: the first is answered 401.
        emulator.expire_access_tokens();
        client.ask("List all wallets").await?;

        // The reply is lost, and found by a lookup.
        emulator.fault(Fault::close().on(Operation::Send).after_acting());
        client.ask("Create payee Tyllen").await?;
    }
    Ok(())
}
