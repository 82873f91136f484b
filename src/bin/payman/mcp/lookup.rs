//! Looks up an ask that was sent before. Nothing here sends.

use payman_sdk::{ErrorKind, SessionId};
use rmcp::model::CallToolResponse;

use super::attempt::{CallAttempt, attempt};
use super::call::ToolCall;
use super::connection::McpPlatform;
use super::progress::ProgressReporter;
use super::repeats::Unresolved;
use super::result::{self, TaskResult};
use super::shared::McpCore;

/// The result of looking up an earlier ask.
pub(super) enum LookUp {
    /// The outcome is known.
    Known(TaskResult),
    /// The outcome is still unknown, which this result reports.
    Unknown(TaskResult),
    /// The ask was surely not done.
    NotDone,
    /// The key belongs to another ask or account.
    Foreign,
}

impl McpCore {
    /// Looks up an ask whose outcome is unknown. Returns `None` if it was surely not done.
    pub(super) async fn look_up(
        &self,
        earlier: &Unresolved,
        call: &ToolCall,
    ) -> Option<CallToolResponse> {
        let platform = match self.platform().await {
            Ok(platform) => platform,
            Err(problem) => {
                let why = format!("it could not be looked up ({problem})");
                return Some(unresolved(earlier, &why).into_ask_result().into());
            }
        };
        let result = match self.look_up_on(&platform, earlier, call).await {
            LookUp::Known(result) => {
                self.repeats.settle(&earlier.task, &result);
                result.repeated(None)
            }
            LookUp::Unknown(result) => result,
            LookUp::NotDone => return None,
            LookUp::Foreign => TaskResult::foreign_key(),
        };
        Some(result.into_ask_result().into())
    }

    /// Waits for the end of an ask that was sent before, and looks it up. Never sends, because the
    /// journal does not allow its key.
    pub(super) async fn look_up_on(
        &self,
        platform: &McpPlatform,
        earlier: &Unresolved,
        call: &ToolCall,
    ) -> LookUp {
        if platform.journal.is_free(&earlier.key).await {
            return LookUp::NotDone;
        }
        let ask = self.ask_of(&earlier.sent, &earlier.key);
        let mut progress = ProgressReporter::of(&call.context);
        let error = match attempt(&platform.client, ask, call, &mut progress).await {
            CallAttempt::Replied(reply) => {
                self.remember_question(&reply);
                let result = TaskResult::of_reply(&reply);
                return match result.outcome_unknown {
                    true => LookUp::Unknown(result.repeated(None)),
                    false => LookUp::Known(result),
                };
            }
            CallAttempt::Failed(error) => error,
            CallAttempt::Abandoned => {
                let why = "the lookup was canceled by the host";
                return LookUp::Unknown(unresolved(earlier, why));
            }
        };
        if error.kind() == ErrorKind::IdempotencyConflict {
            return LookUp::Foreign;
        }
        // Only the journal proves that: the error may be one of the lookup alone.
        if error.is_safe_to_ask_again() && platform.journal.is_free(&earlier.key).await {
            return LookUp::NotDone;
        }
        let why = format!("it was looked up, and {}", result::sentence(&error));
        LookUp::Unknown(unresolved(earlier, &why))
    }
}

fn unresolved(earlier: &Unresolved, why: &str) -> TaskResult {
    let session: Option<&SessionId> = earlier.session.as_ref();
    let why = format!("nothing was sent now, as the same was asked before; {why}");
    TaskResult { repeated: true, ..TaskResult::unknown(&earlier.task, session, &why) }
}
