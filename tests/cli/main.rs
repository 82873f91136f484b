//! The program `payman`, run as people and scripts run it.

#![cfg(test)]

mod answers;
mod dot_env;
mod ends;
mod identity;
mod options;
mod sign_in;
mod stub;
mod support;
#[cfg(unix)]
mod terminal;
mod untrusted;
