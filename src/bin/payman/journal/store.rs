//! The journal that a command uses: its option, and opening it.

use std::sync::Arc;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use payman_sdk::Journal;

use crate::command_failure::CommandFailure;

/// The journal of idempotency keys.
#[derive(Args, Clone, Debug)]
pub(crate) struct JournalOption {
    /// The journal of idempotency keys: sqlite://FILE or postgres://… [default: a SQLite file in
    /// your state folder]
    #[arg(long, env = "PAYMAN_JOURNAL", hide_env_values = true, value_name = "URL",
        value_parser = NonEmptyStringValueParser::new())]
    pub(crate) journal: Option<String>,
}

/// Opens the journal that the option names; the user's own without one.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) async fn open(option: &JournalOption) -> Result<Arc<dyn Journal>, CommandFailure> {
    let url = match &option.journal {
        Some(url) => url.clone(),
        None => default_url()?,
    };
    match payman_sdk::SqlJournal::connect(&url).await {
        Ok(journal) => Ok(Arc::new(journal)),
        Err(error) => {
            let failure = CommandFailure::from(&error);
            let failure = if error.is_invalid_input() {
                failure.next(
                    "Nothing was sent. --journal takes sqlite://FILE or postgres://USER@HOST/NAME.",
                )
            } else {
                failure.next("Nothing was sent. Check the journal: --journal, PAYMAN_JOURNAL.")
            };
            Err(failure)
        }
    }
}

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
pub(crate) async fn open(_: &JournalOption) -> Result<Arc<dyn Journal>, CommandFailure> {
    Err(CommandFailure::usage(
        "this `payman` was built without a journal, which idempotency keys and batches need",
    )
    .next("Build it with the feature `sqlite` or `postgres`, for example in its checkout:")
    .next("  cargo install --path . --features cli,sqlite"))
}

#[cfg(feature = "sqlite")]
fn default_url() -> Result<String, CommandFailure> {
    let Some(file) = crate::folder::state_file("journal.db") else {
        return Err(CommandFailure::usage("this system names no home folder for the journal")
            .next("Name one: --journal sqlite://FILE"));
    };
    crate::folder::create_for(&file)?;
    Ok(format!("sqlite://{}", file.display()))
}

#[cfg(all(feature = "postgres", not(feature = "sqlite")))]
fn default_url() -> Result<String, CommandFailure> {
    Err(CommandFailure::usage(
        "this `payman` was built without SQLite, so a journal has to be named",
    )
    .next("Name one: --journal postgres://USER@HOST/NAME"))
}
