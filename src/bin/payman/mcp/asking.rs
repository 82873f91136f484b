//! One call of `ask_payman`, from the check whether it was made before to its result.

use std::time::Duration;

use payman_sdk::{Client, Error, Reply, TaskId, TaskState};
use rmcp::model::CallToolResponse;
use tokio::time::timeout;

use super::attempt::{CallAttempt, attempt};
use super::call::ToolCall;
use super::confirm;
use super::connection::McpPlatform;
use super::consent::Consent;
use super::dialog::{self, Form, OpenDialog, UserAnswer, UserChannel};
use super::journal::JournalPlan;
use super::lookup::LookUp;
use super::order::{AskArguments, AskOrder};
use super::progress::ProgressReporter;
use super::repeats::{Admission, PendingAsk, Similar, Unresolved};
use super::result::{TaskResult, is_not_done, is_settled, is_small};
use super::shared::McpCore;

/// The maximum number of the agent's questions within one call.
const MAX_QUESTIONS: usize = 8;
/// The time limit of canceling a task after the host abandoned the call.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
impl McpCore {
    pub(super) async fn ask(&self, arguments: AskArguments, call: &ToolCall) -> CallToolResponse {
        let order = match arguments.check() {
            Ok(order) => order,
            Err(problem) => return not_sent(format!("Nothing was sent: {problem}.")),
        };
        let Ok(_slot) = self.slots.try_acquire() else {
            return not_sent("Nothing was sent: too many asks are in progress. Try again later.");
        };
        let question = call.state.as_deref().and_then(|handle| self.dialogs.question(handle));
        match (question, &call.state) {
            (Some(question), Some(handle)) => self.answer_question(&question, handle, call).await,
            _ => self.ask_once(order, call, Purpose::Order).await,
        }
    }

    /// Sends the user's answer to the agent's question, taken from a repeated call.
    async fn answer_question(
        &self,
        question: &Reply,
        handle: &str,
        call: &ToolCall,
    ) -> CallToolResponse {
        let UserAnswer::Accepted(Some(words)) = dialog::answer_in(call.responses.as_ref()) else {
            return unanswered(question);
        };
        let session = question.session_id().cloned();
        let order = AskOrder::of_answer(words, session, question.task_id().clone(), handle);
        self.ask_once(order, call, Purpose::Answer).await
    }

    /// Sends the order unless the same was asked before.
    async fn ask_once(
        &self,
        order: AskOrder,
        call: &ToolCall,
        purpose: Purpose,
    ) -> CallToolResponse {
        loop {
            match self.repeats.admit(&order) {
                Admission::New(pending) => {
                    return self.ask_confirmed(order, pending, call, purpose).await;
                }
                Admission::Running(mut earlier) => {
                    let result = tokio::select! {
                        () = call.context.ct.cancelled() => return abandoned(),
                        result = earlier.wait_for(Option::is_some) => {
                            result.ok().and_then(|result| result.clone())
                        }
                    };
                    // Without a result it came to nothing, or its outcome is unknown: looked at
                    // again.
                    if let Some(result) = result {
                        return result.repeated(None).into_ask_result().into();
                    }
                }
                Admission::Unresolved(earlier) => {
                    if let Some(response) = self.look_up(&earlier, call).await {
                        return response;
                    }
                    self.repeats.forget(&order);
                }
                Admission::Answered(result, age) => {
                    return result.repeated(Some(age)).into_ask_result().into();
                }
                Admission::Conflict => {
                    return not_sent(
                        "Nothing was sent: this idempotency key, or the question that is answered, \
                         was used with other words before.",
                    );
                }
                Admission::Full => {
                    return not_sent(
                        "Nothing was sent: too many earlier asks have an unknown outcome.",
                    );
                }
            }
        }
    }

    async fn ask_confirmed(
        &self,
        order: AskOrder,
        mut pending: PendingAsk,
        call: &ToolCall,
        purpose: Purpose,
    ) -> CallToolResponse {
        let platform = match self.platform().await {
            Ok(platform) => platform,
            Err(problem) => return finish(pending, TaskResult::not_sent(problem)),
        };
        if let Err(problem) = platform.check_access().await {
            return finish(pending, TaskResult::not_sent(format!("Nothing was sent: {problem}.")));
        }
        let question = order.task().and_then(|task| self.question_of(task));
        let sent = order.in_session_of(question.as_ref());
        let (key, similar) = loop {
            let (key, task) = match platform.journal.plan(&order, &call.context.id).await {
                Ok(JournalPlan::Send { key, similar }) => break (key, similar),
                Ok(JournalPlan::LookUp(key, task)) => (key, task),
                Err(error) => return finish(pending, journal_failed(&error)),
            };
            // It was sent before, by this process or another. A lookup needs no confirmation.
            let earlier = Unresolved { task, session: None, key, sent: sent.clone() };
            pending.sending(earlier.clone());
            match self.look_up_on(&platform, &earlier, call).await {
                LookUp::Known(result) => {
                    pending.answered(&result);
                    pending.finish(&result);
                    return result.repeated(None).into_ask_result().into();
                }
                LookUp::Unknown(result) => return finish(pending, result),
                LookUp::NotDone => pending.not_done(),
                LookUp::Foreign if order.key().is_none() => {
                    break (platform.journal.key_of(&order, &call.context.id), None);
                }
                LookUp::Foreign => {
                    pending.not_done();
                    return finish(pending, TaskResult::foreign_key());
                }
            }
        };
        let similar = self.repeats.similar(&order).or(similar.map(Similar::Unresolved));
        if purpose == Purpose::Order {
            match self.consent(&order, &platform.account, similar, call).await {
                Consent::Given => {}
                Consent::AskedFor(response) => return response,
                Consent::Refused(result) => return finish(pending, result),
            }
        }
        if call.context.ct.is_cancelled() {
            return abandoned();
        }
        self.send(&platform, sent, key, pending, call).await
    }

    /// Sends the order, forwards the agent's questions to the user, and records the outcome.
    async fn send(
        &self,
        platform: &McpPlatform,
        mut order: AskOrder,
        mut key: String,
        mut pending: PendingAsk,
        call: &ToolCall,
    ) -> CallToolResponse {
        let client = &platform.client;
        let channel = UserChannel::of(&call.context);
        let mut progress = ProgressReporter::of(&call.context);
        let mut asked_back = 0;
        loop {
            let ask = self.ask_of(&order, &key);
            let task = ask.task_id().clone();
            let session = order.session().cloned().unwrap_or_else(|| client.session_id());
            pending.sending(Unresolved {
                task: task.clone(),
                session: Some(session.clone()),
                key: key.clone(),
                sent: order.clone(),
            });
            let permission = platform.journal.allow(&key);
            let attempt = attempt(client, ask, call, &mut progress).await;
            drop(permission);
            let reply = match attempt {
                CallAttempt::Replied(reply) => reply,
                CallAttempt::Failed(error) => {
                    let result = TaskResult::of_ask_error(&error, &task, Some(&session));
                    if is_not_done(&error) {
                        pending.not_done();
                    }
                    return finish(pending, result);
                }
                CallAttempt::Abandoned => {
                    if let Some(result) = self.cancel_abandoned(client, &task).await {
                        pending.answered(&result);
                    }
                    return abandoned();
                }
            };
            let result = TaskResult::of_reply(&reply);
            if is_settled(reply.state()) {
                pending.answered(&result);
                self.repeats.settle(&task, &result);
            }
            if *reply.state() != TaskState::InputRequired {
                return finish(pending, result);
            }
            self.remember_question(&reply);
            asked_back += 1;
            let question = confirm::question(&reply);
            let answer = match &channel {
                _ if !is_small(&reply) => return finish(pending, result),
                UserChannel::Request(peer) if asked_back <= MAX_QUESTIONS => {
                    dialog::ask_user(peer, &Form::Words, question, call).await
                }
                UserChannel::RoundTrip => {
                    let handle = self.dialogs.open(OpenDialog::Question(reply.clone()));
                    let _ = finish(pending, result);
                    return dialog::ask_by_result(&Form::Words, question, handle);
                }
                _ => return finish(pending, result),
            };
            let UserAnswer::Accepted(Some(words)) = answer else {
                let _ = finish(pending, result);
                return unanswered(&reply);
            };
            order =
                AskOrder::of_answer(words, Some(session), task, &key).in_session_of(Some(&reply));
            key = platform.journal.key_of(&order, &call.context.id);
        }
    }

    /// Cancels the task of an abandoned call if `--cancel-tasks` is set.
    async fn cancel_abandoned(&self, client: &Client, task: &TaskId) -> Option<TaskResult> {
        if !self.cancel_tasks {
            return None;
        }
        let canceled = timeout(CANCEL_LIMIT, client.cancel_task(task)).await.ok()?.ok()?;
        let result = TaskResult::of_reply(&Reply::from(canceled));
        (!result.outcome_unknown).then_some(result)
    }
}

/// The author of the text that is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The host: the user has to confirm the text.
    Order,
    /// The user.
    Answer,
}

fn not_sent(notice: impl Into<String>) -> CallToolResponse {
    TaskResult::not_sent(notice).into_ask_result().into()
}

fn finish(pending: PendingAsk, result: TaskResult) -> CallToolResponse {
    pending.finish(&result);
    result.into_ask_result().into()
}

/// Returns the result of a call that the host abandoned. It is not delivered.
fn abandoned() -> CallToolResponse {
    not_sent("The call was canceled by the host.")
}

fn unanswered(question: &Reply) -> CallToolResponse {
    TaskResult::of_reply(question)
        .with_notice("The user was asked, and did not answer. No answer was sent.")
        .into_ask_result()
        .into()
}

fn journal_failed(error: &Error) -> TaskResult {
    TaskResult::not_sent(format!(
        "Nothing was sent: what is sent has to be recorded first, and {}. Start the server with \
         another --journal.",
        super::result::sentence(error)
    ))
}
