//! Shows how tokens are obtained, renewed and inspected, and the ways to start with one.
//!
//! ```sh
//! cargo run --example tokens
//! ```

mod support;

use std::time::SystemTime;

use payman_sdk::{Client, TokenInfo};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payman = support::Payman::start().await?;
    let client = Client::with_credentials(payman.config()?.name("my-client"))?;

    // There is no token yet: the first ask obtains it.
    println!("{:?}: expired? {}", client.name(), client.is_access_token_expired());
    client.ask("List all wallets").await?;
    println!("{:?}: expired? {}", client.name(), client.is_access_token_expired());

    // For a call of your own. The only way to the token itself is `expose_secret()`; nothing prints
    // it.
    let token = client.access_token().await?;
    println!("{token:?} has {} characters", token.expose_secret().len());

    // For a health endpoint.
    let status = client.token_status();
    let left = status.expires_at().and_then(|at| at.duration_since(SystemTime::now()).ok());
    println!("{:?}, generation {}, {left:?} left", status.source(), status.generation());
    println!(
        "it may: {}",
        status.scopes().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );

    let Some(emulator) = payman.emulator() else { return Ok(()) };

    // A user who comes back from the consent page brings a code, which can be exchanged once.
    let code = emulator.issue_code(["read_balance", "write_send_payment"]);
    let user = Client::with_auth_code(payman.config()?, code).await?;
    println!("by auth code: {}", user.ask("How much money do I have in my wallet?").await?);
    println!("refresh token in hand: {}", user.refresh_token().is_some());

    // A refresh token alone is enough.
    let refresh_token = emulator.issue_refresh_token(["read_balance"]);
    let user = Client::with_token(payman.config()?, TokenInfo::refresh_only(refresh_token))?;
    println!("by refresh token: {}", user.ask("How much money do I have in my wallet?").await?);

    // The server forgets the access tokens: a new one is obtained, and the ask is sent again.
    emulator.expire_access_tokens();
    println!("renewed: {}", user.ask("How much money do I have in my wallet?").await?);
    println!("generation {}", user.token_status().generation());

    // Before a process ends: waits for a refresh in progress and for tokens that are not stored
    // yet.
    user.close().await;
    client.close().await;
    Ok(())
}
