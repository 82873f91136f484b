//! `payman mcp` as a host sees it: JSON-RPC over stdin and stdout, and nothing else.

#![cfg(test)]

mod basics;
mod confirmation;
mod repeats;
mod support;
