//! Tests `ask_stream`: its events, its text, and streams that are interrupted.

#![cfg(test)]

mod common;

/// The modules of this test program, in `tests/stream/`.
mod stream {
    mod events;
    mod interruption;
    mod support;
    mod text;
}
