//! Streams an answer to the page and records it in the conversation.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use payman_sdk::web::{Problem, ServerEvent, Shutdown};
use payman_sdk::{AskStream, Error, TaskId};
use serde_json::json;

use crate::conversation::Ticket;

/// The response to an ask. It begins at once with the event `turn`, long before the first text of
/// the agent.
///
/// It is dropped when the page disconnects: the connection to the platform is closed, and the
/// answer so far is kept in the conversation.
pub struct AnswerStream {
    stage: Stage,
    ticket: Ticket,
    task_id: TaskId,
    shutdown: BoxFuture<'static, ()>,
}

enum Stage {
    New(BoxFuture<'static, Result<AskStream, Error>>),
    Connecting(BoxFuture<'static, Result<AskStream, Error>>),
    Streaming(AskStream),
    Over,
}

impl AnswerStream {
    pub fn new(
        answer: impl Future<Output = Result<AskStream, Error>> + Send + 'static,
        ticket: Ticket,
        task_id: TaskId,
        shutdown: &Shutdown,
    ) -> Self {
        let shutdown = shutdown.begun().boxed();
        Self { stage: Stage::New(answer.boxed()), ticket, task_id, shutdown }
    }

    /// Polls for the next event of the answer; the flag is true for the last.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<(ServerEvent, bool)> {
        loop {
            match &mut self.stage {
                Stage::New(answer) | Stage::Connecting(answer) => {
                    match ready!(answer.poll_unpin(cx)) {
                        Ok(events) => self.stage = Stage::Streaming(events),
                        Err(error) => {
                            self.ticket.fail(&error);
                            let problem = Problem::from(error);
                            return Poll::Ready((ServerEvent::problem(&problem), true));
                        }
                    }
                }
                Stage::Streaming(events) => match ready!(events.poll_next_unpin(cx)) {
                    Some(Ok(event)) => {
                        if let Some(event) = ServerEvent::of(&event) {
                            return Poll::Ready((event, false));
                        }
                    }
                    Some(Err(error)) => {
                        self.ticket.note(&events.reply_so_far());
                        self.ticket.fail(&error);
                        let problem = Problem::from(error);
                        return Poll::Ready((ServerEvent::problem(&problem), true));
                    }
                    None => {
                        let reply = events.reply_so_far();
                        self.ticket.note(&reply);
                        return Poll::Ready((ServerEvent::done(&reply), true));
                    }
                },
                Stage::Over => return Poll::Pending,
            }
        }
    }

    /// Records the answer so far, without an end.
    fn leave(&mut self) {
        if let Stage::Streaming(events) = &self.stage {
            self.ticket.note(&events.reply_so_far());
        }
        self.stage = Stage::Over;
    }
}

impl Stream for AnswerStream {
    type Item = ServerEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let this = &mut *self;
        match std::mem::replace(&mut this.stage, Stage::Over) {
            Stage::Over => return Poll::Ready(None),
            Stage::New(answer) => {
                this.stage = Stage::Connecting(answer);
                let turn = json!({ "id": this.ticket.turn() });
                return Poll::Ready(Some(ServerEvent::new("turn", &turn)));
            }
            stage => this.stage = stage,
        }
        let shuts_down = this.shutdown.poll_unpin(cx).is_ready();
        match this.poll_answer(cx) {
            Poll::Ready((last, true)) => {
                this.stage = Stage::Over;
                Poll::Ready(Some(last))
            }
            // The agent continues, and the page looks for its answer when the server is back.
            _ if shuts_down => {
                this.leave();
                let problem = Problem::shutting_down().with_task_id(&this.task_id);
                Poll::Ready(Some(ServerEvent::problem(&problem)))
            }
            Poll::Ready((event, false)) => Poll::Ready(Some(event)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        self.leave();
    }
}
