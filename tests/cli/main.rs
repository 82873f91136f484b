//! Tests of the program `payman`, which is run as a process.

#![cfg(test)]

mod answers;
mod dot_env;
mod exit_status;
mod identity;
mod options;
mod scripted;
mod sign_in;
mod support;
#[cfg(unix)]
mod terminal;
mod untrusted;
