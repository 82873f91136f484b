//! Benchmarks of the separate steps of decoding.

#![expect(
    clippy::expect_used,
    clippy::string_slice,
    reason = "a benchmark that cannot run ends with a panic"
)]

use std::convert::Infallible;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{FutureExt, StreamExt, stream};
use payman_sdk::decode;

use compare::events;

/// The events are those of the benchmark `compare`.
mod compare {
    pub mod events;
}

criterion_group!(benches, json, event_data);
criterion_main!(benches);

/// Decodes an event's JSON to the typed event.
fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json");
    for (name, data) in [
        ("150B", events::event_of(150)),
        ("2KiB", events::event_of(2 << 10)),
        ("1MiB", events::event_of(1 << 20)),
        ("status", events::status()),
        ("task-1MiB", events::many_lines_of(1 << 20)),
    ] {
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode::event(black_box(data.as_bytes())))
        });
    }
}

/// Splits bytes to the data of events, by this crate and by `eventsource-stream`.
fn event_data(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event-data");
    for (name, event) in [
        ("150B", events::on_one_line(&events::event_of(150))),
        ("2KiB", events::on_one_line(&events::event_of(2 << 10))),
        ("1MiB", events::on_one_line(&events::event_of(1 << 20))),
        ("lines-1MiB", events::on_many_lines(&events::many_lines_of(1 << 20))),
    ] {
        let bytes = event.repeat((1 << 20) / event.len() + 1);
        let chunks: Vec<Bytes> =
            bytes.as_bytes().chunks(16 << 10).map(Bytes::copy_from_slice).collect();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let source = || stream::iter(chunks.iter().cloned().map(Ok::<_, Infallible>));
        group.bench_function(format!("own/{name}"), |bencher| {
            bencher.iter(|| decode::event_data(source(), 1 << 24).count().now_or_never());
        });
        group.bench_function(format!("eventsource-stream/{name}"), |bencher| {
            bencher
                .iter(|| decode::event_data_by_library(source(), 1 << 24).count().now_or_never());
        });
    }
}
