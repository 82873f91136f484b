//! A queue worker that pays: bounded concurrency, no payment twice, a clean end on Ctrl-C and SIGTERM.
//!
//! ```sh
//! cargo run --example worker                                   # ten payments on the emulator
//! echo 'Pay Tyllen $5' | cargo run --example worker -- queue.jsonl      # your own, one ask a line
//!
//! # Kill it in the middle and start it again: the queue and the emulator both stay.
//! cargo run --features cli -- emulator --port 4020 &
//! export PAYMAN_BASE_URL=http://127.0.0.1:4020 PAYMAN_CLIENT_ID=any PAYMAN_CLIENT_SECRET=any
//! cargo run --example worker -- --live queue.jsonl
//! ```
//!
//! A job's task id is on the disk before the job is asked. After a crash, what may have been asked is looked up
//! and never asked again; where the platform does not know the task, the job stays `unclear`, for a person.

mod journal;
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;
mod worker;

use std::error::Error;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use journal::Journal;
use worker::{End, Worker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let payman = support::Payman::start().await?;
    let given =
        std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let demo = payman.emulator().is_some() && given.is_none();
    let path = given.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("queue-{}.jsonl", std::process::id()))
    });
    eprintln!("the queue is {}", path.display());
    let journal = Arc::new(Journal::open(path)?);
    if payman.emulator().is_some() {
        payman.client()?.ask("Create payee Tyllen").await?;
        payman.client()?.ask("Create payee Ann").await?;
    }

    let worker = Worker {
        client: payman.client()?,
        journal: Arc::clone(&journal),
        concurrency: 8,
        drain: Duration::from_secs(30),
        patience: Duration::from_secs(30),
    };
    let work = worker.run(stop_signal()?);
    let end = tokio::select! {
        end = work => end?,
        error = take_in(&journal, demo) => return Err(error.into()),
    };
    if end == End::LeftSome {
        eprintln!("not all was settled in time; the next start looks it up");
    }
    Ok(())
}

/// Takes jobs in until there are no more, and then waits: only the worker ends the program.
async fn take_in(journal: &Journal, demo: bool) -> io::Error {
    let taken = if demo { take_in_demo(journal).await } else { take_in_lines(journal).await };
    match taken {
        Ok(()) => journal.close(),
        Err(error) => return error,
    }
    std::future::pending().await
}

async fn take_in_demo(journal: &Journal) -> io::Result<()> {
    for dollars in 1..=10 {
        journal
            .add(format!("Pay {} ${dollars}", if dollars % 2 == 0 { "Ann" } else { "Tyllen" }))
            .await?;
    }
    Ok(())
}

/// Standard input, one ask a line.
async fn take_in_lines(journal: &Journal) -> io::Result<()> {
    let (sender, mut lines) = mpsc::channel(64);
    // A thread of its own: one that waits for input would keep the runtime, and so the program, from ending.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let line = line?;
        if !line.trim().is_empty() {
            journal.add(line).await?;
        }
    }
    Ok(())
}

/// Ctrl-C, or what a service manager sends.
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
