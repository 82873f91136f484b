//! Handles errors where money moves: three questions decide what to do.
//!
//! ```sh
//! cargo run --example errors
//! ```

mod support;

use std::time::Duration;

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Ask, Client, Error, Reply, RetryPolicy};

/// Handles a result as a program that moves money should.
fn handle(result: Result<Reply, Error>) {
    match result {
        // It MAY have been done. Never ask again: keep the task id, and look it up later.
        Err(error) if error.is_outcome_unknown() => {
            println!("look later at {:?}: {error}", error.task_id())
        }
        // The user's sign-in ended. Nothing was done.
        Err(error) if error.is_reauthorization_required() => println!("connect again: {error}"),
        // Surely not done.
        Err(error) if error.is_safe_to_ask_again() => {
            println!(
                "not done, wait {:?}: {error} (status {:?})",
                error.retry_after(),
                error.status()
            );
            println!("  the server said: {:?}", error.body_json());
        }
        Err(error) => println!("{error} (JSON-RPC {:?}, {:?})", error.rpc_code(), error.body()),
        Ok(reply) => println!("{reply} ({})", reply.state()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let payman = support::Payman::start().await?;
    let client = payman.client()?;
    handle(client.ask("   ").await); // refused before anything is sent
    handle(client.ask("What's the weather?").await);

    let Some(emulator) = payman.emulator() else { return Ok(()) };
    emulator.fault(
        Fault::status(400)
            .body(r#"{"error":"bad request"}"#, "application/json")
            .on(Operation::Send),
    );
    handle(client.ask("List all payees").await);

    // The agent pays and the connection closes before the reply: the SDK looks the task up.
    client.ask("Create payee Tyllen").await?;
    emulator.fault(Fault::close().on(Operation::Send).after_acting());
    handle(client.ask("Pay Tyllen $50").await);

    // The lookups fail too. With the task id, it can be looked up later.
    emulator.faults([
        Fault::close().on(Operation::Send).after_acting(),
        Fault::close().on(Operation::Get).always(),
    ]);
    let policy = RetryPolicy::default().recovery_timeout(Duration::from_secs(1));
    let client = Client::with_credentials(payman.config()?.retry(policy))?;
    let ask = Ask::new("Pay Tyllen $60");
    let task_id = ask.task_id().clone(); // save it before you ask
    handle(client.ask(ask).await);
    emulator.clear_faults();
    handle(client.get_task(&task_id).await.map(Reply::from));

    let user =
        Client::with_auth_code(payman.config()?, emulator.issue_code(["read_balance"])).await?;
    emulator.revoke_all();
    handle(user.ask("How much money do I have in my wallet?").await);
    Ok(())
}
