//! One ask of a conversation, its answer, and its cancellation.

use payman_sdk::{Ask, Reply, TaskId, TaskState};

use super::{Chat, LineOutcome};
use crate::account::AskFailure;
use crate::command_failure::CommandFailure;
use crate::exit_status::ExitStatus;
use crate::output::note;
use crate::spinner::Spinner;
use crate::stream_printer::StreamPrinter;
use crate::task::NOT_CANCELABLE;

impl Chat<'_> {
    pub(super) async fn ask(&mut self, text: &str) -> Result<LineOutcome, CommandFailure> {
        let question = self.question.take();
        let ask = match &question {
            Some(question) => question.answer(text),
            None => Ask::new(text),
        };
        let id = ask.task_id().clone();
        self.last = Some(id.clone());
        let account = self.account;
        let _in_flight = account.track(&id);
        match self.answer(ask, &id).await {
            Ok(Some(reply)) => {
                self.status = account.report_reply(&reply);
                self.question =
                    Some(reply).filter(|reply| *reply.state() == TaskState::InputRequired);
                Ok(LineOutcome::Continue)
            }
            Ok(None) => Ok(LineOutcome::Stopped),
            Err(failure) => {
                // An answer that was not delivered can be given again to the same question.
                let is_safe =
                    matches!(&failure, AskFailure::Sdk(error) if error.is_safe_to_ask_again());
                self.question = question.filter(|_| is_safe);
                Err(account.ask_failure(failure, &id))
            }
        }
    }

    /// Prints an answer as it arrives. Returns `None` if the user stopped it.
    async fn answer(&mut self, ask: Ask, id: &TaskId) -> Result<Option<Reply>, AskFailure> {
        let mut progress = Spinner::start();
        let started = tokio::select! {
            started = self.client.ask_stream(ask) => Some(started?),
            () = self.interrupts.next() => None,
        };
        let Some(stream) = started else {
            progress.end();
            self.cancel(id).await;
            return Ok(None);
        };
        let mut printer = StreamPrinter::new(stream.text(), progress);
        loop {
            tokio::select! {
                printed = printer.print_all() => break printed?,
                () = self.interrupts.next() => {
                    printer.end_line()?;
                    if self.cancel(id).await == Cancellation::Stopped {
                        return Ok(None);
                    }
                }
            }
        }
        self.reader = printer.reader();
        Ok(Some(printer.reply()))
    }

    async fn cancel(&mut self, id: &TaskId) -> Cancellation {
        self.status = ExitStatus::OutcomeUnknown;
        let canceled = tokio::select! {
            canceled = self.client.cancel_task(id) => canceled,
            () = self.interrupts.next() => {
                let failure = CommandFailure::new(
                    ExitStatus::OutcomeUnknown,
                    "stopped before the answer: the outcome is unknown",
                );
                self.account.with_lookup(failure, id).print();
                return Cancellation::Stopped;
            }
        };
        match canceled {
            Ok(task) if *task.state() == TaskState::Canceled => {
                self.status = ExitStatus::NotCompleted;
                note("(Canceled. What the agent had done by then stays done.)");
            }
            Ok(task) => {
                self.status = self.account.report_state(task.state(), id, None);
            }
            Err(error) if error.rpc_code() == Some(NOT_CANCELABLE) => return Cancellation::TooLate,
            Err(error) => {
                let failure = CommandFailure::new(
                    ExitStatus::OutcomeUnknown,
                    "the task could not be canceled",
                )
                .because(&error);
                self.account.with_lookup(failure, id).print();
            }
        }
        Cancellation::Stopped
    }
}

/// The result of a cancellation.
#[derive(PartialEq, Eq)]
enum Cancellation {
    /// The program no longer waits for the answer.
    Stopped,
    /// The task had already ended, so that its answer can be read.
    TooLate,
}
