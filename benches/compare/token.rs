//! Reading a fresh token from 64 tasks while it is replaced every millisecond: the 99.9th percentile of a read.
//!
//! A read is all that an ask does to get a token to send: ours through `decode::request_token`, the other side by no more than
//! an atomic pointer load. Both look at the clock for whether the token has expired, and take the header that it is sent
//! in, for that is what it is read for. The tasks share two threads, and a third replaces the token on both sides.
//!
//! Reads are timed four at a time, for the clock's own cost would hide a single one; the ratio is that of the
//! four. What the operating system takes a thread away for is in both sides alike.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, join_all};
use payman_sdk::{
    Claim, Claimed, Client, Committed, Config, StoreError, StoredToken, TokenInfo, TokenKey,
    TokenStore, decode,
};
use reqwest::header::HeaderValue;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::row::{Measured, Row};

const TASKS: usize = 64;
const PAIRS: usize = 31;
const TURN: Duration = Duration::from_millis(100);
const READS: u32 = 4;
/// So many are timed before a task lets the next one run.
const SAMPLES: usize = 64;
const EVERY: Duration = Duration::from_millis(1);

pub fn rows() -> Vec<Row> {
    vec![Row::new("token/read", 2.0, measure)]
}

fn measure() -> Measured {
    let readers =
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let renewed = Renewed::start();
    let ours = || {
        percentile(&readers, || {
            let (client, deadline) = (renewed.client.clone(), far_off());
            move || {
                let lent = pin!(decode::request_token(&client, deadline))
                    .poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(black_box(lent), Poll::Ready(Ok(_))), "the token is fresh");
            }
        })
    };
    let other = || {
        percentile(&readers, || {
            let token = Arc::clone(&renewed.pointer);
            move || {
                let held = token.load();
                assert!(Instant::now() < held.expires, "the token is fresh");
                black_box((held.header.clone(), held.generation));
            }
        })
    };
    let pairs: Vec<_> = (0..PAIRS).map(|_| (ours(), other())).collect();
    let renewals = renewed.stop();
    assert!(renewals > PAIRS as u64 * 50, "the token was replaced all the time");
    if let Some((ours, other)) = pairs.get(PAIRS / 2) {
        println!(
            "four reads, 99.9th percentile: about {ours:.0} against {other:.0} ns; {renewals} renewals"
        );
    }
    Measured { pairs, bytes: None }
}

fn far_off() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(60)
}

/// A client whose token is renewed every millisecond, on a thread of its own, and beside it the pointer that each new
/// token is put behind too: what renewing takes of the machine, it takes while either side reads.
struct Renewed {
    client: Client,
    pointer: Arc<ArcSwap<Held>>,
    renewals: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    keeper: JoinHandle<()>,
}

impl Renewed {
    fn start() -> Self {
        let renewals = Arc::new(AtomicU64::new(0));
        let pointer = Arc::new(ArcSwap::from_pointee(Held::new(0)));
        let store = Renewing { renewals: Arc::clone(&renewals), pointer: Arc::clone(&pointer) };
        let config = Config::new("client-id")
            .subject("alice")
            .base_url("http://127.0.0.1:1")
            .token_store(store);
        let client = Client::with_token(config, TokenInfo::stored()).expect("a valid config");
        // Whoever comes first gives the token's own task its runtime: this one.
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let keeper = {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let runtime =
                    Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    decode::request_token(&client, far_off()).await.expect("a token");
                    ready.send(()).expect("someone waits");
                    while !stop.load(Ordering::Relaxed) {
                        tokio::time::sleep(EVERY * 5).await;
                    }
                });
            })
        };
        is_ready.recv().expect("the first token");
        Self { client, pointer, renewals, stop, keeper }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.keeper.join().expect("the keeper's thread");
        self.renewals.load(Ordering::Relaxed)
    }
}

struct Held {
    header: HeaderValue,
    expires: Instant,
    generation: u64,
}

impl Held {
    fn new(generation: u64) -> Self {
        let header =
            HeaderValue::from_str(&format!("access-token-{generation}")).expect("a header's value");
        Self { header, expires: Instant::now() + Duration::from_secs(60), generation }
    }
}

/// Of what four reads take, in nanoseconds, over all tasks.
fn percentile<Read: FnMut() + Send + 'static>(readers: &Runtime, read: impl Fn() -> Read) -> f64 {
    let until = Instant::now() + TURN;
    let tasks: Vec<_> = (0..TASKS).map(|_| readers.spawn(time_reads(read(), until))).collect();
    let times = readers
        .block_on(join_all(tasks))
        .into_iter()
        .flat_map(|times| times.expect("a task that ends"));
    let mut times: Vec<u32> = times.collect();
    let at = times.len() * 999 / 1000;
    f64::from(*times.select_nth_unstable(at).1)
}

async fn time_reads(mut read: impl FnMut(), until: Instant) -> Vec<u32> {
    let mut times = Vec::with_capacity(1 << 16);
    while Instant::now() < until {
        for _ in 0..SAMPLES {
            let started = Instant::now();
            for _ in 0..READS {
                read();
            }
            times.push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        tokio::task::yield_now().await;
    }
    times
}

/// A store that always knows of a newer token, a millisecond after it was asked: a replica renews it all the time.
struct Renewing {
    renewals: Arc<AtomicU64>,
    pointer: Arc<ArcSwap<Held>>,
}

impl Renewing {
    /// It is time to renew it, and it is valid for most of a second.
    fn token(generation: u64) -> StoredToken {
        let now = SystemTime::now();
        let millis = |at: SystemTime| {
            u64::try_from(at.duration_since(UNIX_EPOCH).expect("today").as_millis()).expect("today")
        };
        let token = json!({
            "generation": generation,
            "access_token": format!("access-token-{generation}"),
            "issued_at": millis(now - Duration::from_millis(9_200)),
            "expires_at": millis(now + Duration::from_millis(800)),
            "refresh_token": "a-refresh-token",
        });
        StoredToken::from_json(&token.to_string()).expect("a stored token")
    }
}

impl TokenStore for Renewing {
    fn load<'a>(
        &'a self,
        _: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async { Ok((self.renewals.load(Ordering::Relaxed) == 0).then(|| Self::token(1))) })
    }

    fn claim<'a>(
        &'a self,
        _: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            // Blocking: the thread has nothing else to do, and timers are no finer than this.
            thread::sleep(EVERY);
            self.renewals.fetch_add(1, Ordering::Relaxed);
            self.pointer.store(Arc::new(Held::new(generation + 1)));
            Ok(Claimed::Newer(Self::token(generation + 1)))
        })
    }

    fn commit<'a>(
        &'a self,
        _: &'a Claim,
        _: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        Box::pin(async { Ok(Committed::Saved) })
    }
}
