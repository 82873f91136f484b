//! Idempotency keys, their journals and the worker, against the emulator's ledger.

#![cfg(test)]

mod chaos;
mod failures;
mod keys;
mod program;
mod streams;
mod support;
mod worker;
