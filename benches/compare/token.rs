//! The 99.9th percentile of reading a fresh token from 64 tasks while it is replaced every
//! millisecond.
//!
//! A read is what an ask does to obtain its token: `decode::request_token` in this crate, an atomic
//! pointer load in the baseline. Both check the expiry against the clock, and take the header in
//! which the token is sent. The tasks share two threads, and a third replaces the token on both
//! sides.
//!
//! Reads are timed in groups of four, since the clock's own cost would hide a single one.
//! Preemption by the operating system affects both sides alike.

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
const ROUND: Duration = Duration::from_millis(100);
const READS: u32 = 4;
/// The number of samples that a task takes before it yields.
const SAMPLES: usize = 64;
const REPLACEMENT_INTERVAL: Duration = Duration::from_millis(1);

pub fn rows() -> Vec<Row> {
    vec![Row::new("token/read", 2.0, measure)]
}

fn measure() -> Measured {
    let readers =
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let refreshed = RefreshedToken::start();
    let ours = || {
        percentile(&readers, || {
            let (client, deadline) = (refreshed.client.clone(), far_off());
            move || {
                let token = pin!(decode::request_token(&client, deadline))
                    .poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(black_box(token), Poll::Ready(Ok(_))), "the token is fresh");
            }
        })
    };
    let baseline = || {
        percentile(&readers, || {
            let token = Arc::clone(&refreshed.pointer);
            move || {
                let token = token.load();
                assert!(Instant::now() < token.expires, "the token is fresh");
                black_box((token.header.clone(), token.generation));
            }
        })
    };
    let pairs: Vec<_> = (0..PAIRS).map(|_| (ours(), baseline())).collect();
    let replacements = refreshed.stop();
    assert!(replacements > PAIRS as u64 * 50, "the token was replaced all the time");
    if let Some((ours, baseline)) = pairs.get(PAIRS / 2) {
        println!(
            "four reads, 99.9th percentile: about {ours:.0} against {baseline:.0} ns; \
             {replacements} replacements"
        );
    }
    Measured { pairs, bytes: None }
}

fn far_off() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(60)
}

/// A client whose token is refreshed every millisecond on its own thread, and the baseline's
/// pointer, which is replaced at the same time: the cost of refreshing affects both sides.
struct RefreshedToken {
    client: Client,
    pointer: Arc<ArcSwap<BaselineToken>>,
    replacements: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl RefreshedToken {
    fn start() -> Self {
        let replacements = Arc::new(AtomicU64::new(0));
        let pointer = Arc::new(ArcSwap::from_pointee(BaselineToken::new(0)));
        let store = RefreshingStore {
            replacements: Arc::clone(&replacements),
            pointer: Arc::clone(&pointer),
        };
        let config = Config::new("client-id")
            .subject("alice")
            .base_url("http://127.0.0.1:1")
            .token_store(store);
        let client = Client::with_token(config, TokenInfo::stored()).expect("a valid config");
        // The background task runs in the runtime of the first request: this thread's.
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let runtime =
                    Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    decode::request_token(&client, far_off()).await.expect("a token");
                    ready.send(()).expect("someone waits");
                    while !stop.load(Ordering::Relaxed) {
                        tokio::time::sleep(REPLACEMENT_INTERVAL * 5).await;
                    }
                });
            })
        };
        is_ready.recv().expect("the first token");
        Self { client, pointer, replacements, stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread does not panic");
        self.replacements.load(Ordering::Relaxed)
    }
}

struct BaselineToken {
    header: HeaderValue,
    expires: Instant,
    generation: u64,
}

impl BaselineToken {
    fn new(generation: u64) -> Self {
        let header =
            HeaderValue::from_str(&format!("access-token-{generation}")).expect("a header's value");
        Self { header, expires: Instant::now() + Duration::from_secs(60), generation }
    }
}

/// Returns the percentile of four reads over all tasks, in nanoseconds.
fn percentile<Read: FnMut() + Send + 'static>(readers: &Runtime, read: impl Fn() -> Read) -> f64 {
    let until = Instant::now() + ROUND;
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

/// A store that returns a newer token a millisecond after each claim, as if a replica refreshed it.
struct RefreshingStore {
    replacements: Arc<AtomicU64>,
    pointer: Arc<ArcSwap<BaselineToken>>,
}

impl RefreshingStore {
    /// Returns a token that is due for a refresh, but still valid.
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

impl TokenStore for RefreshingStore {
    fn load<'a>(
        &'a self,
        _: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async {
            Ok((self.replacements.load(Ordering::Relaxed) == 0).then(|| Self::token(1)))
        })
    }

    fn claim<'a>(
        &'a self,
        _: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            // The thread has nothing else to do, and tokio's timers are no finer.
            thread::sleep(REPLACEMENT_INTERVAL);
            self.replacements.fetch_add(1, Ordering::Relaxed);
            self.pointer.store(Arc::new(BaselineToken::new(generation + 1)));
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
