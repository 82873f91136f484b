//! Streams: the latency of the first event, and the memory of an open stream.

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

use super::baseline::{BaselineClient, TEXT, our_client};
use super::row::{Measured, Row};
use super::server::ServerProcess;
use super::{memory, minimal_server};

const H2_STREAMS: usize = 10_000;
const H1_STREAMS: usize = 4_000;
/// The number of streams that are opened concurrently.
const CONCURRENT_OPENS: usize = 100;

pub fn rows() -> Vec<Row> {
    let h2: fn(ClientBuilder) -> ClientBuilder = |http| http.http2_prior_knowledge();
    vec![
        Row::new("stream/first-event", 1.25, || first_event(false)),
        // The baseline decodes the event too.
        Row::without_goal("stream/first-event-read", || first_event(true)),
        Row::new("stream/memory-h2", 1.35, move || memory_of(H2_STREAMS, h2)),
        Row::new("stream/memory-h1", 1.2, || memory_of(H1_STREAMS, |http| http)),
    ]
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

// The latency of the first event: from just before the server writes it until the client has it, as
// an `Event` or as bytes. The client is waiting for it already.

const ROUNDS: usize = 11;
const STREAMS_PER_ROUND: usize = 150;
/// The server's pause before each event, so that the client is waiting for it.
const PAUSE: Duration = Duration::from_micros(500);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
/// The time at which the server wrote the latest first event, in nanoseconds since the start.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    u64::try_from(STARTED.elapsed().as_nanos()).expect("less than centuries")
}

fn first_event(decodes: bool) -> Measured {
    let base_url = minimal_server::start(answer);
    let runtime = runtime();
    let (ours, baseline) =
        (our_client(&base_url, |http| http), BaselineClient::new(&base_url, |http| http));
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
    let baseline = || {
        runtime.block_on(async {
            let mut chunks = pin!(baseline.stream().await.bytes_stream());
            let chunk = chunks.next().await.expect("a chunk").expect("a whole chunk");
            let event = decodes.then(|| {
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
    let round = || {
        let (ours, baseline): (Vec<u64>, Vec<u64>) =
            (0..STREAMS_PER_ROUND).map(|_| (ours(), baseline())).unzip();
        (median(ours), median(baseline))
    };
    round();
    let pairs: Vec<_> = (0..ROUNDS).map(|_| round()).collect();
    if let Some((ours, baseline)) = pairs.get(ROUNDS / 2) {
        println!("first event: about {:.1} against {:.1} µs", ours / 1e3, baseline / 1e3);
    }
    Measured { pairs, bytes: None }
}

fn answer(to: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    let (first, last) = (
        minimal_server::status_event(request, "WORKING"),
        minimal_server::status_event(request, "COMPLETED"),
    );
    to.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    thread::sleep(PAUSE);
    WRITTEN.store(now(), Ordering::Release);
    minimal_server::write_chunk(to, &first)?;
    thread::sleep(PAUSE);
    minimal_server::write_chunk(to, &last)?;
    to.write_all(b"0\r\n\r\n")
}

// The memory of an open stream: the bytes that this process has allocated for many streams, each in
// a task that has read the first event and waits for the next. The server is another process.

const MEMORY_PAIRS: usize = 5;

#[expect(clippy::async_yields_async, reason = "the rest of a stream is read in its own task")]
fn memory_of(streams: usize, http: fn(ClientBuilder) -> ClientBuilder) -> Measured {
    allow_open_files(streams as u64 + 500);
    let server = ServerProcess::start();
    memory::set_counting(true);
    let ours = || {
        let client = our_client(&server.base_url, http);
        bytes_per_stream(streams, async || {
            let mut events = client.ask_stream(TEXT).await.expect("a stream");
            events.next().await.expect("an event").expect("a valid event");
            async move { while events.next().await.is_some() {} }
        })
    };
    let baseline = || {
        let client = BaselineClient::new(&server.base_url, http);
        bytes_per_stream(streams, async || {
            let mut chunks = client.stream().await.bytes_stream();
            chunks.next().await.expect("a chunk").expect("a whole chunk");
            async move { while chunks.next().await.is_some() {} }
        })
    };
    let pairs: Vec<_> = (0..MEMORY_PAIRS).map(|_| (ours(), baseline())).collect();
    memory::set_counting(false);
    if let Some((ours, baseline)) = pairs.last() {
        println!("an open stream: {ours:.0} against {baseline:.0} bytes");
    }
    Measured { pairs, bytes: None }
}

/// Opens the streams, and returns the bytes per stream.
fn bytes_per_stream<Rest>(streams: usize, open: impl AsyncFn() -> Rest) -> f64
where
    Rest: Future<Output = ()> + Send + 'static,
{
    let runtime = runtime();
    runtime.block_on(async {
        // The connection's own buffers do not count.
        tokio::spawn(open().await);
        let before = memory::allocated();
        let mut opened =
            pin!(stream::iter(0..streams).map(|_| open()).buffer_unordered(CONCURRENT_OPENS));
        while let Some(rest) = opened.next().await {
            tokio::spawn(rest);
        }
        // All tasks run until they wait.
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
        "{wanted} open files are needed and {now:?} are allowed: see `ulimit -Hn`"
    );
}

#[cfg(not(unix))]
fn allow_open_files(_: u64) {}
