//! Attaches the `metrics` crate: a counter and a histogram for each ask that ended.
//!
//! Run it with `cargo run --example metrics`; it starts an emulator of its own.

use metrics_util::debugging::DebuggingRecorder;
use payman_sdk::{AskSummary, Client, Config, Emulator};

/// Counts asks and measures their duration, by kind of call and outcome.
fn observe(ask: &AskSummary) {
    let labels = [("kind", ask.kind.as_str()), ("outcome", ask.outcome.as_str())];
    metrics::counter!("payman_asks_total", &labels).increment(1);
    metrics::histogram!("payman_ask_seconds", &labels).record(ask.duration);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A program would install an exporter here.
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    recorder.install()?;

    let payman = Emulator::start().await?;
    let config = Config::new("client-id")
        .client_secret("client-secret")
        .base_url(payman.base_url())
        .on_ask_completed(observe);
    let client = Client::with_credentials(config)?;
    println!("{}", client.ask("How much money do I have in my wallet?").await?);
    println!("{}", client.ask_stream("List all payees").await?.into_reply().await?);

    for (key, _, _, value) in snapshots.snapshot().into_vec() {
        println!("{} {value:?}", key.key());
    }
    Ok(())
}
