//! The program `payman`, run as people and scripts run it.

mod answers;
mod ends;
mod options;
mod sign_in;
mod support;
#[cfg(unix)]
mod terminal;
