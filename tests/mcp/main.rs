//! Tests `payman mcp` as a process, with JSON-RPC over its stdin and stdout.

#![cfg(test)]

mod basics;
mod confirmation;
mod repeats;
mod support;
