//! Reading a fresh token while it is renewed all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use payman_sdk::decode::TokenReader;
use reqwest::header::HeaderValue;

use super::row::{Measured, Row};

pub fn rows() -> Vec<Row> {
    vec![Row::new("token/read", 2.0, read)]
}

const TASKS: usize = 64;
const READS: usize = 4_000;
const PAIRS: usize = 7;

/// The 99.9th percentile of single reads by 64 tasks on two threads; each gives the header that a request carries.
/// Ours is what an ask does to borrow a token, the other one an atomic pointer's load.
fn read() -> Measured {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let tokens = Arc::new(TokenReader::new());
    let pointer = Arc::new(ArcSwap::from_pointee(HeaderValue::from_static("token")));
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let ours = {
            let (reader, writer) = (Arc::clone(&tokens), Arc::clone(&tokens));
            runtime.block_on(tail(move || reader.read(), move || writer.renew()))
        };
        let other = {
            let (reader, writer) = (Arc::clone(&pointer), Arc::clone(&pointer));
            let renew = move || writer.store(Arc::new(HeaderValue::from_static("token")));
            runtime.block_on(tail(move || Some(HeaderValue::clone(&reader.load())), renew))
        };
        pairs.push((ours, other));
    }
    Measured { pairs, bytes: None }
}

async fn tail<R>(read: R, renew: impl Fn() + Send + 'static) -> f64
where
    R: Fn() -> Option<HeaderValue> + Clone + Send + 'static,
{
    let done = Arc::new(AtomicBool::new(false));
    let renewing = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                renew();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let read = read.clone();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(READS);
                for turn in 0..READS {
                    let start = Instant::now();
                    let token = std::hint::black_box(read());
                    times.push(start.elapsed());
                    assert!(token.is_some());
                    if turn % 50 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                times
            })
        })
        .collect();
    let mut times = Vec::with_capacity(TASKS * READS);
    for task in tasks {
        times.extend(task.await.expect("no panic"));
    }
    done.store(true, Ordering::Relaxed);
    renewing.join().expect("no panic");
    times.sort();
    times[times.len() * 999 / 1000].as_nanos() as f64
}
