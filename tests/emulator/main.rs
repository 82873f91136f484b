//! Tests the emulator's HTTP interface with a plain HTTP client.

#![cfg(test)]

mod agent;
mod consent;
mod dialect;
mod faults;
mod lifecycle;
mod oauth;
mod support;
mod tasks;
