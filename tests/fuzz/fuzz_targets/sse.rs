//! Parses arbitrary bytes as an event stream. Neither the size of the chunks nor the fast path may
//! change the result.
//!
//! The first byte selects the size of the chunks and the limit.
#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream};
use libfuzzer_sys::fuzz_target;
use payman_sdk::{Error, ErrorKind, decode};

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else {
        return;
    };
    let limit = if first & 1 == 0 { 1 << 20 } else { 64 };
    let chunk = usize::from(first >> 1) + 1;
    let whole = collect(decode::event_data(source(bytes, bytes.len().max(1)), limit));
    assert_eq!(collect(decode::event_data(source(bytes, chunk), limit)), whole);
    assert_eq!(collect(decode::event_data_by_library(source(bytes, chunk), limit)), whole);
    let events = decode::events(source(bytes, chunk), limit).count().now_or_never();
    assert!(events.is_some_and(|events| events <= whole.0.len() + usize::from(whole.1.is_some())));
});

fn source(bytes: &[u8], chunk: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    stream::iter(bytes.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))))
}

fn collect(events: impl Stream<Item = Result<Bytes, Error>>) -> (Vec<Bytes>, Option<ErrorKind>) {
    let mut outcome = (Vec::new(), None);
    for item in events.collect::<Vec<_>>().now_or_never().expect("the source never waits") {
        assert_eq!(outcome.1, None, "an item follows an error");
        match item {
            Ok(data) => outcome.0.push(data),
            Err(error) => outcome.1 = Some(error.kind()),
        }
    }
    outcome
}
