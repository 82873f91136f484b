//! `payman journal`: shows and maintains the journal of idempotency keys.

mod store;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use payman_sdk::{
    Error, Journal, JournalEntry, JournalFilter, JournalState, MemoryJournal, Reply, TaskId,
    TaskState, Timestamp,
};
use serde_json::{Value, json};

use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::options::{GlobalOptions, parse_duration};
use crate::output::{note, note_lines, print_json, print_line};
pub(crate) use store::{JournalOption, open};

/// Show and maintain the journal of idempotency keys
///
/// `payman ask --idempotency-key` and `payman batch` keep one entry per key, so that nothing is
/// asked twice. An entry is `reserved` (not sent, or surely not done), `sending` (it may have been
/// done), `settled` (the reply is stored) or `awaiting_input` (the agent asks back).
#[derive(Args)]
pub(crate) struct JournalArgs {
    #[command(subcommand)]
    action: JournalAction,
    #[command(flatten)]
    journal: JournalOption,
}

#[derive(Subcommand)]
enum JournalAction {
    /// List entries, those written longest ago first
    List {
        /// Only entries in this state: reserved, sending, settled or awaiting_input
        #[arg(long, value_name = "STATE")]
        state: Vec<JournalState>,
        /// Only entries last written at least this long ago: 90s, 10m, 12h
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        older_than: Option<Duration>,
        /// The maximum number of entries
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: u32,
        /// The output format
        #[arg(short, long, value_enum, default_value_t = JournalOutput::Text)]
        output: JournalOutput,
    },
    /// Show one entry, with the ask and the reply
    Show {
        /// The idempotency key
        #[arg(value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
        key: String,
        /// The output format
        #[arg(short, long, value_enum, default_value_t = JournalOutput::Text)]
        output: JournalOutput,
    },
    /// Decide that a key may be asked again; the reason is recorded
    ///
    /// Use it for an ask whose outcome stays unknown, or that was surely not done. LOOK AT THE
    /// WALLET'S TRANSACTIONS FIRST: if it was done after all, asking again does it twice; that
    /// holds for a settled key too. Release no key that another process is still asking.
    Release {
        /// The idempotency key
        #[arg(value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
        key: String,
        /// The reason why it may be asked again, such as: checked by hand, not paid
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Delete settled entries; their keys are new again, so asking with one pays again
    Forget {
        /// Those last written before this: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 90d
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        before: SystemTime,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum JournalOutput {
    /// Text for a person
    Text,
    /// JSON; a list has one object per line
    Json,
}

/// Opens the journal of an ask. For an emulator that ends with the command it is in memory.
pub(crate) async fn journal_of(
    option: &JournalOption,
    options: &GlobalOptions,
) -> Result<Arc<dyn Journal>, CommandFailure> {
    if options.emulator && option.journal.is_none() {
        return Ok(Arc::new(MemoryJournal::new()));
    }
    open(option).await
}

/// Returns the task with which a key was asked before; `None` if an ask with it is to be sent, or
/// if the journal cannot be read.
pub(crate) async fn asked_task(journal: &dyn Journal, key: &str) -> Option<TaskId> {
    let entry = journal.get(key).await.ok()??;
    (entry.state() != JournalState::Reserved).then(|| entry.task_id().clone())
}

pub(crate) async fn run(args: JournalArgs) -> CommandResult {
    let journal = open(&args.journal).await?;
    match args.action {
        JournalAction::List { state, older_than, limit, output } => {
            let mut filter = JournalFilter::new().limit(limit);
            for state in state {
                filter = filter.state(state);
            }
            if let Some(age) = older_than {
                filter = filter.older_than(age);
            }
            let entries = journal.list(&filter).await.map_err(failure)?;
            for entry in &entries {
                match output {
                    JournalOutput::Text => print_line(&one_line(entry)),
                    JournalOutput::Json => print_json(&to_json(entry).to_string()),
                }
                .map_err(CommandFailure::output)?;
            }
            if entries.len() as u64 == u64::from(limit) {
                note(format_args!("(The first {limit}; --limit shows more.)"));
            }
        }
        JournalAction::Show { key, output } => {
            let Some(entry) = journal.get(&key).await.map_err(failure)? else {
                return Err(unknown_key());
            };
            match output {
                JournalOutput::Text => print_line(&described(&entry)),
                JournalOutput::Json => print_json(&format!("{:#}", to_json(&entry))),
            }
            .map_err(CommandFailure::output)?;
        }
        JournalAction::Release { key, reason } => {
            let Some(before) = journal.get(&key).await.map_err(failure)? else {
                return Err(unknown_key());
            };
            journal.release(&key, &reason).await.map_err(failure)?;
            note(format_args!(
                "Released: {key} was {} (task {}), and may be asked again.",
                before.state(),
                before.task_id()
            ));
            if before.task_state() == Some(TaskState::Completed) {
                note("ITS TASK HAD COMPLETED: to ask again does it again. What was answered:");
                note_lines(&before.reply().map(|reply| reply.text()).unwrap_or_default());
            }
        }
        JournalAction::Forget { before } => {
            let forgotten = journal.forget_before(before).await.map_err(failure)?;
            note(format_args!("Forgot {forgotten} settled entries."));
        }
    }
    Ok(ExitStatus::Completed)
}

fn unknown_key() -> CommandFailure {
    CommandFailure::other("the journal has no such idempotency key")
        .next("List its keys: payman journal list")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: Error) -> CommandFailure {
    CommandFailure::from(&error).next("Check the journal: --journal, PAYMAN_JOURNAL.")
}

fn one_line(entry: &JournalEntry) -> String {
    let task_state = entry.task_state().map(|state| format!(" {state}")).unwrap_or_default();
    format!(
        "{}  {}{task_state}  {}  {}",
        time_of(entry.updated_at()),
        entry.state(),
        entry.task_id(),
        entry.key()
    )
}

fn described(entry: &JournalEntry) -> String {
    let mut text = format!(
        "key:        {}\nstate:      {}\nasked:      {}\ntask:       {}\nattempts:   {}\n",
        entry.key(),
        entry.state(),
        entry.text(),
        entry.task_id(),
        entry.attempts()
    );
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("created:", &time_of(entry.created_at()));
    if let Some(at) = entry.started_at() {
        line("started:", &time_of(at));
    }
    line("updated:", &time_of(entry.updated_at()));
    if let Some(error) = entry.last_error() {
        line("not done:", error);
    }
    for release in entry.releases() {
        let at = time_of(release.at);
        line("released:", &format!("{at}, from {}: {}", release.from, release.reason));
    }
    if let Some(reply) = entry.reply() {
        line("task state:", reply.state().as_str());
        line("reply:", &reply.text());
    }
    text.truncate(text.trim_end().len());
    text
}

fn to_json(entry: &JournalEntry) -> Value {
    json!({
        "idempotencyKey": entry.key(),
        "state": entry.state(),
        "text": entry.text(),
        "taskId": entry.task_id(),
        "attempts": entry.attempts(),
        "createdAt": time_of(entry.created_at()),
        "startedAt": entry.started_at().map(time_of),
        "updatedAt": time_of(entry.updated_at()),
        "lastError": entry.last_error(),
        "releases": entry.releases().iter().map(|release| json!({
            "at": time_of(release.at),
            "reason": release.reason,
            "from": release.from,
            "taskId": release.task_id,
        })).collect::<Vec<_>>(),
        "reply": entry.reply().as_ref().map(reply_json),
    })
}

fn reply_json(reply: &Reply) -> Value {
    serde_json::to_value(reply).unwrap_or_default()
}

/// Returns the time in UTC, to the second.
fn time_of(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(
        |_| "?".to_owned(),
        |at| format!("{:.0}", at.round(jiff::Unit::Second).unwrap_or(at)),
    )
}

/// Reads a date, a time, or an age in days or smaller units.
fn parse_time(text: &str) -> Result<SystemTime, String> {
    let text = text.trim();
    let midnight = format!("{text}T00:00:00Z");
    for candidate in [text, midnight.as_str()] {
        if let Some(time) = Timestamp::from(candidate).to_system_time() {
            return Ok(time);
        }
    }
    let age = match text.strip_suffix('d').map(|days| days.trim().parse::<u64>()) {
        Some(Ok(days)) => Ok(Duration::from_secs(days.saturating_mul(24 * 60 * 60))),
        _ => parse_duration(text),
    };
    age.ok()
        .and_then(|age| SystemTime::now().checked_sub(age))
        .ok_or_else(|| "a time is 2026-01-31, 2026-01-31T12:00:00Z, or an age: 90d, 12h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages_are_read() {
        let time = parse_time("2026-01-31").unwrap();
        assert_eq!(time_of(time), "2026-01-31T00:00:00Z");
        assert_eq!(parse_time("2026-01-31T00:00:00Z"), Ok(time));
        let day = Duration::from_secs(24 * 60 * 60);
        let time = parse_time("90d").unwrap();
        let ago = SystemTime::now().duration_since(time).unwrap();
        assert!(ago >= 90 * day && ago < 91 * day);
        for text in ["", "yesterday", "-1d", "2026-13-01"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
