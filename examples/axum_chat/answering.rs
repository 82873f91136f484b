//! An answer on its way to the page, and into the conversation.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};
use payman_sdk::AskStream;
use payman_sdk::web::ServerEvent;
use serde_json::json;

use crate::conversation::Ticket;

/// The page leaves by dropping this: the connection to the platform is closed with it, and what came so far is kept.
pub struct Answering {
    /// `None` after the end.
    events: Option<AskStream>,
    ticket: Ticket,
    begun: bool,
}

impl Answering {
    pub fn new(events: AskStream, ticket: Ticket) -> Self {
        Self { events: Some(events), ticket, begun: false }
    }
}

impl Stream for Answering {
    type Item = ServerEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        if !self.begun {
            self.begun = true;
            return Poll::Ready(Some(ServerEvent::new(
                "turn",
                &json!({ "id": self.ticket.turn() }),
            )));
        }
        let this = &mut *self;
        let Some(events) = &mut this.events else {
            return Poll::Ready(None);
        };
        loop {
            let last = match ready!(events.poll_next_unpin(cx)) {
                Some(Ok(event)) => match ServerEvent::of(&event) {
                    Some(event) => return Poll::Ready(Some(event)),
                    None => continue,
                },
                Some(Err(error)) => {
                    tracing::warn!(?error, "an answer failed on its way");
                    this.ticket.note(&events.reply_so_far());
                    this.ticket.fail(&error);
                    ServerEvent::error(&error)
                }
                None => {
                    let reply = events.reply_so_far();
                    this.ticket.note(&reply);
                    ServerEvent::done(&reply)
                }
            };
            this.events = None;
            return Poll::Ready(Some(last));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(events) = &self.events {
            self.ticket.note(&events.reply_so_far());
        }
    }
}
