//! Tests replies, errors and streams as responses of axum and actix-web, over sockets.

#![cfg(test)]

mod common;

/// The modules of this test program, in `tests/web/`.
mod web {
    mod page;
    mod problems;
    mod replies;
    mod shutdown;
    mod streams;
    mod support;
}
