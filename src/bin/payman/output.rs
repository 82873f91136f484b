//! What is written where: answers to stdout, everything else to stderr. A reader who left is no error.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::status::Failure;

/// Writes to stdout, at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other("the answer could not be written").because(&error))
        }
        _ => Ok(()),
    }
}

/// Writes a line to stdout, at once.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Words of the agent, as they are; on a terminal without what would steer it.
pub(crate) fn print_words(text: &str) -> Result<(), Failure> {
    if io::stdout().is_terminal() { print(&harmless(text)) } else { print(text) }
}

/// Writes a line to stderr.
pub(crate) fn note(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// True where a person sits at both ends.
pub(crate) fn is_interactive() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// The text on one line, without control characters.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Logs the SDK's doings to stderr: its steps with `-v`, all with `-vv`. Neither holds a secret or what is asked.
pub(crate) fn start_log(verbose: u8) {
    let filter = match verbose {
        0 => return,
        1 => "payman_sdk=debug",
        _ => "payman_sdk=trace",
    };
    let logger = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let _ = logger.try_init();
}
