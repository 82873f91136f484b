//! Writes answers to stdout and everything else to stderr. No other module writes to either.
//!
//! Text for a terminal is escaped here, because answers, ids, states and error texts come from a
//! server. Text for a pipe or a file is written unchanged.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use payman_sdk::escape::{escape_json, escape_line, escape_text};
use tracing_subscriber::EnvFilter;

/// The state of stdout's reader. A closed pipe, as `head` leaves it, is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StdoutReader {
    Present,
    Gone,
}

/// Prints text to stdout and flushes it.
pub(crate) fn print_text(text: &str) -> io::Result<StdoutReader> {
    if io::stdout().is_terminal() { write_out(&escape_text(text)) } else { write_out(text) }
}

/// Prints text and a line end to stdout.
pub(crate) fn print_line(text: &str) -> io::Result<StdoutReader> {
    print_text(&format!("{text}\n"))
}

/// Prints JSON and a line end to stdout, with control characters as JSON escapes.
pub(crate) fn print_json(json: &str) -> io::Result<StdoutReader> {
    write_out(&format!("{}\n", escape_json(json)))
}

/// Prints a server's JSON and a line end to stdout: byte for byte, except at a terminal.
pub(crate) fn print_server_json(json: &str) -> io::Result<StdoutReader> {
    if io::stdout().is_terminal() { print_json(json) } else { write_out(&format!("{json}\n")) }
}

fn write_out(text: &str) -> io::Result<StdoutReader> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(StdoutReader::Present),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(StdoutReader::Gone),
        Err(error) => Err(error),
    }
}

/// Writes one line to stderr. Errors are ignored: there is no other place to report them.
pub(crate) fn note(line: impl fmt::Display) {
    let line = line.to_string();
    let _ = writeln!(io::stderr().lock(), "{}", escape_line(&line));
}

/// Writes a text of several lines to stderr.
pub(crate) fn note_lines(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape_text(text));
}

/// Returns true where a person reads stderr.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns true where a person reads both stdout and stderr.
pub(crate) fn is_interactive() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Returns true for a terminal that understands neither colors nor cursor movement.
pub(crate) fn is_dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Starts the SDK's log on stderr: its steps with `-v`, everything with `-vv`. The log contains
/// neither secrets nor the text of an ask.
pub(crate) fn start_log(verbose: u8) {
    let filter = match verbose {
        0 => return,
        1 => "payman_sdk=debug",
        _ => "payman_sdk=trace",
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logger = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(stderr_is_terminal() && !no_color && !is_dumb_terminal());
    let _ = logger.try_init();
}
