//! Idempotency keys, their journals and the worker, against the emulator's ledger.

#![cfg(test)]

mod batch_files;
mod chaos;
mod command;
mod failures;
mod handler;
mod keys;
mod postgres_program;
mod program;
mod results;
mod streams;
mod support;
mod worker;
