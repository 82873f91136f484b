//! Streams: how soon the first event is there, and what an open one costs.

use std::future::Future;
use std::io::{self, Write};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use payman_sdk::decode;
use reqwest::ClientBuilder;
use tokio::runtime::{Builder, Runtime};

use super::by_hand::{ByHand, TEXT, our_client};
use super::row::{Measured, Row};
use super::server::Apart;
use super::{memory, plain};

const H2_STREAMS: usize = 10_000;
const H1_STREAMS: usize = 4_000;
/// So many are being opened at a time.
const OPENING: usize = 100;

pub fn rows() -> Vec<Row> {
    let h2: fn(ClientBuilder) -> ClientBuilder = |http| http.http2_prior_knowledge();
    vec![
        Row::new("stream/first-event", 1.1, || first_event(false)),
        // With the other side reading its bytes into the same event.
        Row::untargeted("stream/first-event-read", || first_event(true)),
        Row::new("stream/memory-h2", 1.2, move || memory_of(H2_STREAMS, h2)),
        Row::new("stream/memory-h1", 1.2, || memory_of(H1_STREAMS, |http| http)),
    ]
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

// The first event: from just before the server writes it until the client has it in hand, as an `Event` or as
// bytes. The client was waiting for it by then.

const TURNS: usize = 11;
const STREAMS_A_TURN: usize = 150;
/// The client surely waits by then.
const LEAD: Duration = Duration::from_micros(500);

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// When the server wrote the last first event, in nanoseconds since the beginning.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_nanos()).expect("less than centuries")
}

fn first_event(reads: bool) -> Measured {
    let base_url = plain::start(answer);
    let runtime = runtime();
    let (ours, other) = (our_client(&base_url, |http| http), ByHand::new(&base_url, |http| http));
    let ours = || {
        runtime.block_on(async {
            let mut events = ours.ask_stream(TEXT).await.expect("a stream");
            let event = events.next().await.expect("an event").expect("a valid event");
            let after = now() - WRITTEN.load(Ordering::Acquire);
            drop(event);
            while events.next().await.is_some() {}
            after
        })
    };
    let other = || {
        runtime.block_on(async {
            let mut chunks = pin!(other.stream().await.bytes_stream());
            let chunk = chunks.next().await.expect("a chunk").expect("a whole chunk");
            let event = reads.then(|| {
                let data = chunk.strip_prefix(b"data: ").expect("an event");
                decode::event(data).expect("a valid event")
            });
            let after = now() - WRITTEN.load(Ordering::Acquire);
            drop((chunk, event));
            while chunks.next().await.is_some() {}
            after
        })
    };
    let median = |mut all: Vec<u64>| {
        all.sort_unstable();
        all[all.len() / 2] as f64
    };
    let turn = || {
        let (ours, other): (Vec<u64>, Vec<u64>) =
            (0..STREAMS_A_TURN).map(|_| (ours(), other())).unzip();
        (median(ours), median(other))
    };
    turn();
    let pairs: Vec<_> = (0..TURNS).map(|_| turn()).collect();
    if let Some((ours, other)) = pairs.get(TURNS / 2) {
        println!("first event: about {:.1} against {:.1} µs", ours / 1e3, other / 1e3);
    }
    Measured { pairs, bytes: None }
}

fn answer(to: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    let (first, last) =
        (plain::status_event(request, "WORKING"), plain::status_event(request, "COMPLETED"));
    to.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    thread::sleep(LEAD);
    WRITTEN.store(now(), Ordering::Release);
    plain::write_chunk(to, &first)?;
    thread::sleep(LEAD);
    plain::write_chunk(to, &last)?;
    to.write_all(b"0\r\n\r\n")
}

// Memory: what this process has allocated more with so many streams open, each in a task that has read the first
// event and waits for the next. The server is another process.

const MEMORY_PAIRS: usize = 5;

#[expect(clippy::async_yields_async, reason = "the rest of a stream is read in its own task")]
fn memory_of(streams: usize, http: fn(ClientBuilder) -> ClientBuilder) -> Measured {
    allow_open_files(streams as u64 + 500);
    let server = Apart::start();
    memory::set_counting(true);
    let ours = || {
        let client = our_client(&server.base_url, http);
        grown_by(streams, async || {
            let mut events = client.ask_stream(TEXT).await.expect("a stream");
            events.next().await.expect("an event").expect("a valid event");
            async move { while events.next().await.is_some() {} }
        })
    };
    let other = || {
        let client = ByHand::new(&server.base_url, http);
        grown_by(streams, async || {
            let mut chunks = client.stream().await.bytes_stream();
            chunks.next().await.expect("a chunk").expect("a whole chunk");
            async move { while chunks.next().await.is_some() {} }
        })
    };
    let pairs: Vec<_> = (0..MEMORY_PAIRS).map(|_| (ours(), other())).collect();
    memory::set_counting(false);
    if let Some((ours, other)) = pairs.last() {
        println!("an open stream: {ours:.0} against {other:.0} bytes");
    }
    Measured { pairs, bytes: None }
}

/// Bytes a stream.
fn grown_by<Rest>(streams: usize, open: impl AsyncFn() -> Rest) -> f64
where
    Rest: Future<Output = ()> + Send + 'static,
{
    let runtime = runtime();
    runtime.block_on(async {
        // A connection's own buffers are no stream's.
        tokio::spawn(open().await);
        let before = memory::allocated();
        let mut opened = pin!(stream::iter(0..streams).map(|_| open()).buffer_unordered(OPENING));
        while let Some(rest) = opened.next().await {
            tokio::spawn(rest);
        }
        // Each task has its turn, and waits.
        tokio::time::sleep(Duration::from_millis(100)).await;
        (memory::allocated() - before) as f64 / streams as f64
    })
}

#[cfg(unix)]
fn allow_open_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let now = getrlimit(Resource::Nofile).current;
    assert!(
        now.is_none_or(|now| now >= wanted),
        "{wanted} open files are needed and {now:?} allowed, whatever this program asks for: see `ulimit -Hn`"
    );
}

#[cfg(not(unix))]
fn allow_open_files(_: u64) {}
