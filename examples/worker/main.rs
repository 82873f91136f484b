//! A payout service: an HTTP route writes an order and reserves its ask in one transaction; workers
//! send.
//!
//! ```sh
//! cargo run --example worker                   # emulator, SQLite, port 8080 (PORT for another)
//! curl -H 'content-type: application/json' localhost:8080/payouts \
//!     -d '{"id":"4711","payee":"Tyllen","amount":"50.00"}'
//! curl localhost:8080/payouts/4711
//! curl 'localhost:8080/payouts?state=sending'  # outcomes that are unknown
//!
//! # The platform: real money.
//! DATABASE_URL=postgres://user@localhost/payouts cargo run --example worker -- --live
//! ```
//!
//! The same order again, a crash at any moment, or more of these processes on one database: each
//! order is paid once. Where the platform does not know an order's task after a crash, a person
//! looks at the wallet and decides: `payman journal release KEY --reason TEXT`.

mod database;
mod routes;
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::io;

use payman_sdk::{Client, JournalWorker};
use tokio::net::TcpListener;
use tokio::sync::watch;

use database::Database;

/// The maximum number of asks in progress.
const CONCURRENCY: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let payman = support::Payman::start().await?;
    // The emulator's data is lost when it ends, so its journal may be in memory too.
    let scratch = tempfile::tempdir()?;
    let fallback = match payman.emulator() {
        Some(_) => format!("sqlite://{}", scratch.path().join("payouts.db").display()),
        None => "sqlite://payouts.db".to_owned(),
    };
    let url = std::env::var("DATABASE_URL").unwrap_or(fallback);
    let (database, journal) = Database::open(&url).await?;
    let client = Client::with_credentials(payman.config()?.journal(journal.clone()))?;
    if payman.emulator().is_some() {
        client.ask("Create payee Tyllen").await?;
    }

    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let (stop, stopped) = watch::channel(false);
    let signal = stop_signal()?;
    tokio::spawn(async move {
        signal.await;
        stop.send_replace(true);
    });
    let worker = JournalWorker::new(client.clone()).concurrency(CONCURRENCY);
    let working = tokio::spawn(worker.run(stop_of(stopped.clone())));
    axum::serve(listener, routes::router(database, journal))
        .with_graceful_shutdown(stop_of(stopped))
        .await?;
    // Asks in progress end first; what does not is looked up after the next start.
    working.await??;
    client.close().await; // no token is lost
    Ok(())
}

async fn stop_of(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender was dropped, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Waits for Ctrl-C, or for the signal of a service manager.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}
