//! The program `payman`, run as people and scripts run it.

#[path = "cli/answers.rs"]
mod answers;
#[path = "cli/ends.rs"]
mod ends;
#[path = "cli/options.rs"]
mod options;
#[path = "cli/sign_in.rs"]
mod sign_in;
#[path = "cli/support.rs"]
mod support;
#[cfg(unix)]
#[path = "cli/terminal.rs"]
mod terminal;
