//! The program `payman`, run as people and scripts run it.

#![cfg(test)]

mod answers;
mod ends;
mod options;
mod sign_in;
mod support;
#[cfg(unix)]
mod terminal;
