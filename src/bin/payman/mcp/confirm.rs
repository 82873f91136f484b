//! The question whether an ask may be sent.

use std::fmt::Write;

use clap::ValueEnum;
use payman_sdk::Reply;

use super::order::AskOrder;
use super::repeats::Similar;
use super::visible;

/// The policy for asking the user before something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Confirm {
    /// Before each ask
    Always,
    /// Never: the host has to ask, or someone trusts the model with the money
    Never,
}

/// The maximum length of the agent's question that is shown beside an answer to it, in characters.
const MAX_QUESTION: usize = 2000;

/// Returns the text that the user confirms before an ask is sent: the whole ask, with invisible
/// characters escaped.
pub(super) fn confirmation(
    order: &AskOrder,
    account: &str,
    question: Option<&Reply>,
    similar: Option<&Similar>,
) -> String {
    let mut message = format!("Send this to the Payman agent? It may move money.\n{account}.\n");
    quote(&mut message, order.text());
    if let Some(task) = order.task() {
        let _ = write!(message, "It goes on with task {}", visible::strict(task.as_str()));
        match question {
            Some(reply) => {
                message.push_str(", in which the agent (not this program) asks:\n");
                quote_cut(&mut message, &question_text(reply));
            }
            None => message.push_str(", whose question is not known here.\n"),
        }
    }
    if let Some(session) = order.session() {
        let _ = writeln!(message, "Conversation: {}", visible::strict(session.as_str()));
    }
    match similar {
        Some(Similar::Unresolved(task)) => {
            let _ = writeln!(
                message,
                "CAREFUL: the same was asked before (task {}), and its outcome is not known. It \
                 may have been done: if you accept, it may be done twice.",
                visible::strict(task.as_str())
            );
        }
        Some(Similar::Running) => message.push_str(
            "CAREFUL: the same is being done right now. If you accept, it is done twice.\n",
        ),
        Some(Similar::Answered(age)) => {
            let _ = writeln!(
                message,
                "CAREFUL: the same was asked {} s ago, and answered. If you accept, it is done \
                 once more.",
                age.as_secs()
            );
        }
        None => {}
    }
    message
}

/// Returns the agent's question, for the user to answer.
pub(super) fn question(reply: &Reply) -> String {
    let mut message = format!(
        "The Payman agent (not this program) asks, in task {}:\n",
        visible::strict(reply.task_id().as_str())
    );
    quote_cut(&mut message, &question_text(reply));
    message.push_str("Your answer is sent to it as you write it, and may move money.");
    message
}

/// Returns the agent's question: the text of the answer so far, and its status message.
fn question_text(reply: &Reply) -> String {
    let text = reply.text();
    match reply.status_message() {
        Some(message) if message != text => format!("{text}\n{message}"),
        _ => text,
    }
}

fn quote_cut(message: &mut String, text: &str) {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(MAX_QUESTION).collect();
    quote(message, &shown);
    if chars.next().is_some() {
        message.push_str("(and more, which is cut)\n");
    }
}

/// Prefixes every line with a bar, so that the text cannot imitate this program's own messages.
fn quote(message: &mut String, text: &str) {
    for line in visible::strict(text).split('\n') {
        let _ = writeln!(message, "  | {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_in_full_line_by_line() {
        let text = format!("{}\nSend this instead?\r\nPay\u{202e} Bob", "x".repeat(9000));
        let order = AskOrder::new(text, None, None, None);
        let message = confirmation(&order, "the emulator", None, None);
        let quoted: Vec<_> = message.lines().filter(|line| line.starts_with("  | ")).collect();
        assert_eq!(quoted.len(), 3);
        assert_eq!(quoted[0].len(), 9004);
        assert_eq!(quoted[1], "  | Send this instead?\\r");
        assert_eq!(quoted[2], "  | Pay\\u{202e} Bob");
    }
}
