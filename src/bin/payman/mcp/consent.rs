//! The user's consent to sending an ask.

use rmcp::model::CallToolResponse;

use super::call::ToolCall;
use super::confirm::{self, Confirm};
use super::dialog::{self, Form, OpenDialog, UserAnswer, UserChannel};
use super::order::AskOrder;
use super::repeats::Similar;
use super::result::TaskResult;
use super::shared::McpCore;
use super::visible;

/// The result of asking for consent.
pub(super) enum Consent {
    Given,
    /// The consent has to be requested by this result.
    AskedFor(CallToolResponse),
    Refused(TaskResult),
}

impl McpCore {
    /// Asks the user for consent, if it is required.
    pub(super) async fn consent(
        &self,
        order: &AskOrder,
        account: &str,
        similar: Option<Similar>,
        call: &ToolCall,
    ) -> Consent {
        if self.confirm == Confirm::Never {
            return match similar {
                Some(Similar::Unresolved(task)) => Consent::Refused(TaskResult::unknown(
                    &task,
                    None,
                    "nothing was sent now, but the same was asked before, and its outcome is not \
                     known",
                )),
                _ => Consent::Given,
            };
        }
        let question = order.task().and_then(|task| self.question_of(task));
        let message = || confirm::confirmation(order, account, question.as_ref(), similar.as_ref());
        let answer = match UserChannel::of(&call.context) {
            UserChannel::Unavailable => {
                return Consent::Refused(TaskResult::not_sent(
                    "Nothing was sent: each ask has to be confirmed by the user, and this host \
                     cannot ask them (it does not support elicitation). Use a host that can, or, \
                     where the host itself asks before each call, start the server with --confirm \
                     never.",
                ));
            }
            UserChannel::Request(peer) => {
                dialog::ask_user(&peer, &Form::Consent, message(), call).await
            }
            UserChannel::RoundTrip => match &call.state {
                None => {
                    let handle = self.dialogs.open(OpenDialog::Confirmation(order.content()));
                    return Consent::AskedFor(dialog::ask_by_result(
                        &Form::Consent,
                        message(),
                        handle,
                    ));
                }
                Some(handle) if self.dialogs.use_confirmation(handle, order.content()) => {
                    dialog::answer_in(call.responses.as_ref())
                }
                Some(_) => UserAnswer::Failed(
                    "the confirmation is not known, was used before, or is of another ask"
                        .to_owned(),
                ),
            },
        };
        match answer {
            UserAnswer::Accepted(_) => Consent::Given,
            UserAnswer::Declined => Consent::Refused(TaskResult::not_sent(
                "The user declined. Nothing was sent. Do not ask again unless the user wants it.",
            )),
            UserAnswer::Dismissed => Consent::Refused(TaskResult::not_sent(
                "The user did not confirm. Nothing was sent.",
            )),
            UserAnswer::Failed(why) => Consent::Refused(TaskResult::not_sent(format!(
                "Nothing was sent: the user could not be asked ({}).",
                visible::one_line(&why, 300)
            ))),
        }
    }
}
