//! One attempt to have an ask answered.

use futures::StreamExt;
use payman_sdk::{Ask, Client, Error, Reply};
use tokio::time::{Instant, interval_at};

use super::call::ToolCall;
use super::progress::ProgressReporter;

/// The result of an attempt to have an ask answered.
pub(super) enum CallAttempt {
    Replied(Box<Reply>),
    Failed(Error),
    /// The host abandoned the call.
    Abandoned,
}

/// Sends an ask, or looks it up, and reads its answer until the host abandons the call.
pub(super) async fn attempt(
    client: &Client,
    ask: Ask,
    call: &ToolCall,
    progress: &mut ProgressReporter,
) -> CallAttempt {
    tokio::select! {
        // Dropping the other branch closes the stream.
        () = call.context.ct.cancelled() => CallAttempt::Abandoned,
        answered = answer(client, ask, progress) => match answered {
            Ok(reply) => CallAttempt::Replied(Box::new(reply)),
            Err(error) => CallAttempt::Failed(error),
        },
    }
}

async fn answer(
    client: &Client,
    ask: Ask,
    progress: &mut ProgressReporter,
) -> Result<Reply, Error> {
    let mut heartbeat =
        interval_at(Instant::now() + ProgressReporter::HEARTBEAT, ProgressReporter::HEARTBEAT);
    let started = client.ask_stream(ask);
    tokio::pin!(started);
    let mut stream = loop {
        tokio::select! {
            stream = &mut started => break stream?,
            _ = heartbeat.tick() => progress.heartbeat().await,
        }
    };
    loop {
        tokio::select! {
            event = stream.next() => match event {
                Some(event) => {
                    progress.event(&event?).await;
                    heartbeat.reset();
                }
                None => return Ok(stream.reply_so_far()),
            },
            _ = heartbeat.tick() => progress.heartbeat().await,
        }
    }
}
