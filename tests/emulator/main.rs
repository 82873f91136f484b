//! The emulator as any HTTP client sees it.

#![cfg(test)]

mod agent;
mod consent;
mod dialect;
mod faults;
mod lifecycle;
mod oauth;
mod support;
mod tasks;
