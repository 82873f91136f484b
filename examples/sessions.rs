//! Resumes a session with another client, with a token, and on the same client.
//!
//! ```sh
//! cargo run --example sessions
//! ```

mod support;

use payman_sdk::{Client, TokenInfo};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payman = support::Payman::start().await?;

    // A client has one session. Store its id.
    let first = Client::with_credentials(payman.config()?)?;
    println!("{}", first.ask("How much money do I have in my wallet?").await?);
    let session = first.session_id();
    println!("the session is {session}\n");

    // Later, or in another process: resume it.
    let second = Client::with_credentials(payman.config()?.session_id(&session))?;
    println!("{}\n", second.ask("What did we talk about earlier?").await?);

    // The same with a token instead of credentials.
    let token = first.access_token().await?;
    let token = TokenInfo::access(token.expose_secret(), token.expires_in());
    let third = Client::with_token(payman.config()?.session_id(&session), token)?;
    println!("{}\n", third.ask("What did we talk about earlier?").await?);

    // In a backend: one client, and a handle for each visitor's session, which costs nothing.
    let (alice, bob) = (first.new_session(), first.new_session());
    alice.ask("List all payees").await?;
    bob.ask("List all wallets").await?;
    println!("Alice: {}\n", alice.ask("What did we talk about earlier?").await?);
    println!("Bob: {}", bob.ask("What did we talk about earlier?").await?);
    Ok(())
}
