//! `payman batch`: many asks from a file, each at most once.

mod quoting;
mod report;
mod results_file;
mod rows;
mod template;

use std::fs::File;
use std::io::{BufReader, Read};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::{StreamExt, stream};
use payman_sdk::Journal;
use tokio::time::{Instant, sleep_until};

use crate::account::{Account, AccountSetup};
use crate::command_failure::{CommandFailure, CommandResult};
use crate::journal::{JournalOption, asked_task, journal_of};
use crate::options::{GlobalOptions, quoted};
use crate::output::{note, print_json, print_line};
use report::{BatchProgress, RowOutcome, RowResult};
use results_file::{ResultsFile, partial_path};
use rows::{BatchRow, MAX_PROBLEMS, RowProblem};
use template::Template;

/// The largest file, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// The maximum number of a file's problems that are shown.
const PROBLEMS_SHOWN: usize = 20;

/// Ask for each row of a CSV file, at most once per key
///
/// The file has the columns `idempotency_key` and `text`; with --template any columns, of which the
/// text is made. The whole file is checked before anything is sent. Each row is asked in a session
/// of its own.
///
/// Columns are separated by commas; the text is UTF-8. Blanks around a field and lines without any
/// text are left out. A template's values are inserted as they are, and the agent reads them as
/// words: a value is refused if it has a line end or an invisible character, or a quotation mark
/// that would end the one that the template puts around it. A column named `amount` must be a
/// number above 0 such as 5 or 1250.00: no comma, sign, exponent or currency.
///
/// After an interruption, a crash or a failure, run the same command again: rows that have an
/// answer are not asked again, and those that may have been done are looked up.
///
/// Exit status 0: all completed. 3: some failed, or were surely not done. 4: the agent asks back
/// for some. 6: the outcome of some is unknown; they are listed, with the command that looks.
#[derive(Args)]
#[command(after_help = "\
Examples:
  payman batch payouts.csv --dry-run
  payman batch payouts.csv --template 'Pay {payee} {amount} {currency}'
  payman batch payouts.csv --results results.csv
  payman batch payouts.csv --concurrency 8 --per-minute 60 --output jsonl

Put a template in SINGLE quotes: in double quotes a shell turns $250 into 50.
Look at the output of --dry-run first.

COMPLETED means that the agent finished talking, not that a payment went
through: read the answers.")]
pub(crate) struct BatchArgs {
    /// The CSV file; `-` reads standard input
    file: PathBuf,

    /// The text of each ask, with columns in braces: 'Pay {payee} {amount} {currency}'
    #[arg(long, value_name = "TEXT")]
    template: Option<Template>,

    #[command(flatten)]
    journal: JournalOption,

    /// Check the file and print what would be asked; nothing is sent
    #[arg(long)]
    dry_run: bool,

    /// The maximum number of asks in progress
    #[arg(long, value_name = "N", default_value = "4")]
    concurrency: NonZeroUsize,

    /// The maximum number of asks sent per minute
    #[arg(long, value_name = "N")]
    per_minute: Option<NonZeroU32>,

    /// The output format
    #[arg(short, long, value_enum, default_value_t = BatchOutput::Text)]
    output: BatchOutput,

    /// Write the outcome of each row to this CSV file, once all rows have ended. Until then they
    /// are appended to FILE.partial, which stays after an interruption
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BatchOutput {
    /// A summary
    Text,
    /// One JSON object per row, as it ends
    Jsonl,
}

pub(crate) async fn run(args: BatchArgs, options: &GlobalOptions) -> CommandResult {
    let rows = read_rows(&args)?;
    if args.dry_run {
        return dry_run(&rows, args.output);
    }
    let journal = journal_of(&args.journal, options).await?;
    let configured = Arc::clone(&journal);
    AccountSetup::new(options)
        .configure(|config| config.journal(configured))
        .run(async |account| {
            // Credentials that do not work fail once, and not once per row.
            account.client.access_token().await.map_err(|error| account.failure(&error))?;
            ask_all(&args, rows, &*journal, account).await
        })
        .await
}

fn read_rows(args: &BatchArgs) -> Result<Vec<BatchRow>, CommandFailure> {
    let unreadable = |error: &std::io::Error| {
        CommandFailure::usage(format!("{} could not be read", args.file.display())).because(error)
    };
    let input: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(&args.file).map_err(|error| unreadable(&error))?)
    };
    let mut text = Vec::new();
    let read = BufReader::new(input).take(MAX_FILE + 1).read_to_end(&mut text);
    read.map_err(|error| unreadable(&error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(
            CommandFailure::usage("the file is larger than 64 MiB").next("Nothing was sent.")
        );
    }
    rows::read(&text, args.template.as_ref()).map_err(|problems| refused(&problems))
}

fn refused(problems: &[RowProblem]) -> CommandFailure {
    let mut failure = CommandFailure::usage(match problems.len() {
        1 => "the file has a problem".to_owned(),
        count if count >= MAX_PROBLEMS => format!("the file has {count} problems or more"),
        count => format!("the file has {count} problems"),
    });
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        failure = failure.next(match problem.line {
            0 => problem.message.clone(),
            line => format!("line {line}: {}", problem.message),
        });
    }
    if problems.len() > PROBLEMS_SHOWN {
        failure = failure.next("…");
    }
    failure.next("Nothing was sent.")
}

fn dry_run(rows: &[BatchRow], output: BatchOutput) -> CommandResult {
    for row in rows {
        match output {
            BatchOutput::Text => print_line(&format!("{}\t{}", row.key, row.text)),
            BatchOutput::Jsonl => print_json(
                &serde_json::json!({
                    "line": row.line, "idempotencyKey": row.key, "text": row.text,
                })
                .to_string(),
            ),
        }
        .map_err(CommandFailure::output)?;
    }
    note(format_args!("{} asks; nothing was sent.", rows.len()));
    Ok(crate::exit_status::ExitStatus::Completed)
}

async fn ask_all(
    args: &BatchArgs,
    rows: Vec<BatchRow>,
    journal: &dyn Journal,
    account: &Account,
) -> CommandResult {
    let mut file =
        args.results.as_deref().map(|path| results_file(path, &args.file)).transpose()?;
    let partial = file.as_ref().and_then(ResultsFile::partial).map(Path::to_owned);
    let mut progress = BatchProgress::start(rows.len());
    let mut interruption = InterruptionHint { is_over: false, partial };
    let pace = args.per_minute.map(Pace::new);
    let pace = pace.as_ref();
    let asks = rows.into_iter().map(|row| ask_row(row, journal, account, pace));
    let mut asks = stream::iter(asks).buffer_unordered(args.concurrency.get());
    let mut results = Vec::new();
    let (mut unprinted, mut unwritten) = (None, None);
    while let Some(result) = asks.next().await {
        progress.count(result.outcome);
        if args.output == BatchOutput::Jsonl
            && let Err(error) = print_json(&result.to_json())
        {
            unprinted.get_or_insert(error);
        }
        if let Some(Err(error)) = file.as_mut().map(|file| file.append(&result)) {
            unwritten.get_or_insert(error);
        }
        results.push(result);
    }
    drop(asks);
    interruption.is_over = true;
    progress.end();
    note(format_args!("{}.", progress.summary()));
    list_open_rows(&results, account);
    let failed = |what: &str, error: &std::io::Error| {
        CommandFailure::other(format!("the results could not be {what}"))
            .because(error)
            .next("Every row's outcome is in the journal: run the same command again.")
    };
    if let Some(file) = file {
        // Rows that could not be appended matter only if this fails too.
        file.finish(&mut results)
            .map_err(|error| failed("written", unwritten.as_ref().unwrap_or(&error)))?;
    }
    if let Some(error) = unprinted {
        return Err(failed("printed", &error));
    }
    Ok(progress.worst().exit_status())
}

/// Opens the file of results. Refuses one that would overwrite the asks.
fn results_file(path: &Path, asks: &Path) -> Result<ResultsFile, CommandFailure> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if is_same_file(&target, asks) || is_same_file(&partial_path(&target), asks) {
        return Err(CommandFailure::usage("--results names the file of asks itself")
            .next("Nothing was sent. Name another file."));
    }
    ResultsFile::create(path).map_err(|error| {
        CommandFailure::usage(format!("{} could not be created", path.display()))
            .because(&error)
            .next("Nothing was sent.")
    })
}

async fn ask_row(
    row: BatchRow,
    journal: &dyn Journal,
    account: &Account,
    pace: Option<&Pace>,
) -> RowResult {
    let ask = row.to_ask();
    let asked_before = asked_task(journal, &row.key).await;
    // Rows that have an answer, or are only looked up, do not count.
    if let (Some(pace), None) = (pace, &asked_before) {
        pace.wait().await;
    }
    // An interruption names the task to look up, and the new id is not sent then.
    let _in_flight = account.track(asked_before.as_ref().unwrap_or(ask.task_id()));
    let result = account.client.ask(ask).await;
    RowResult::new(row, &result)
}

/// Lists the rows that need a decision by a person, with advice.
fn list_open_rows(results: &[RowResult], account: &Account) {
    let spelled = account.spelled();
    for result in results {
        let key = quoted(&result.row.key);
        let at = format!("line {}, {key}", result.row.line);
        match (result.outcome, result.task_id()) {
            (RowOutcome::Unknown, Some(task)) => {
                note(format_args!("{at}: IT MAY HAVE BEEN DONE. To look:"));
                note(format_args!("  payman task get {}{spelled}", quoted(task.as_str())));
                note(format_args!(
                    "  and if it was surely not done: payman journal release {key} --reason TEXT"
                ));
            }
            (RowOutcome::NeedsInput, Some(task)) => {
                note(format_args!("{at}: the agent asks back (task {task})."));
            }
            (RowOutcome::Conflict, _) => {
                let why = result.error.as_deref().unwrap_or("the key belongs to another text");
                note(format_args!("{at}: {why}. To see what it was asked:"));
                note(format_args!("  payman journal show {key}"));
            }
            (RowOutcome::NotDone | RowOutcome::Unknown, _) => {
                let why = result.error.as_deref().unwrap_or("not done");
                note(format_args!("{at}: {why}."));
            }
            _ => {}
        }
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Prints how to continue when a signal or the time limit ends the batch.
struct InterruptionHint {
    is_over: bool,
    /// The file with the results of the rows that have ended.
    partial: Option<PathBuf>,
}

impl Drop for InterruptionHint {
    fn drop(&mut self) {
        if !self.is_over {
            note("To go on, run the same command again: what may have been done is looked up.");
            if let Some(partial) = &self.partial {
                note(format_args!("The rows that have ended are in {}.", partial.display()));
            }
        }
    }
}

/// Spaces asks evenly in time.
struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(per_minute: NonZeroU32) -> Self {
        let interval = Duration::from_secs(60) / per_minute.get();
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    async fn wait(&self) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + self.interval;
            at
        };
        sleep_until(at).await;
    }
}
