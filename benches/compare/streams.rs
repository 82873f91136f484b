//! Streams: how soon the first event is there, and what an open one costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use payman_sdk::{AskStream, Client, Config};
use reqwest::ClientBuilder;

use super::ask::client;
use super::row::{Measured, Row};
use super::server::{Server, runtime};

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("stream/first-event", 1.1, first_event),
        Row::new("stream/memory-h2", 1.2, || memory(10_000, true)),
        Row::new("stream/memory-h1", 1.2, || memory(4_000, false)),
    ]
}

const PAIRS: usize = 5;
const BODY: &str = r#"{"jsonrpc":"2.0","id":"req-1","method":"tasks/sendSubscribe","params":{"id":"tsk-1","sessionId":"ses-1","message":{"role":"user","parts":[{"type":"text","text":"List all payees"}]}}}"#;

type Chunks = BoxStream<'static, reqwest::Result<bytes::Bytes>>;

/// A stream as one gets it from reqwest, with the head and the body's first chunk read.
async fn raw(http: &reqwest::Client, server: &Server) -> Chunks {
    let request = http
        .post(format!("{}/api/a2a/tasks/sendSubscribe", server.url))
        .header("content-type", "application/json")
        .header("accept", "text/event-stream")
        .header("x-payman-access-token", "an-access-token")
        .body(BODY);
    let mut chunks = request.send().await.expect("an answer").bytes_stream().boxed();
    chunks.try_next().await.expect("a chunk").expect("an event");
    chunks
}

async fn ours(client: &Client) -> AskStream {
    let mut events = client.ask_stream("List all payees").await.expect("a stream");
    events.try_next().await.expect("an event").expect("an event");
    events
}

/// From the server's write to the event in hand; the server is a thread of this process, and has the same clock.
fn first_event() -> Measured {
    const STREAMS: usize = 200;
    let server = Server::start();
    let runtime = runtime();
    let client = client(Config::new("bench").base_url(&server.url));
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let (mut our_times, mut raw_times) = (Vec::new(), Vec::new());
        runtime.block_on(async {
            for _ in 0..STREAMS {
                let events = ours(&client).await;
                our_times.push(server.since_written());
                drop(events);
                let chunks = raw(&http, &server).await;
                raw_times.push(server.since_written());
                drop(chunks);
            }
        });
        pairs.push((median(our_times), median(raw_times)));
    }
    Measured { pairs, bytes: None }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_nanos() as f64
}

/// What is allocated and not yet freed, in bytes, by this whole process: the server has one of its own.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count(bytes: usize, sign: isize) {
    ALLOCATED.fetch_add(sign * isize::try_from(bytes).unwrap_or(isize::MAX), Ordering::Relaxed);
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// As the SDK sets it up, so that both sides hold the same windows.
fn like_ours(http: ClientBuilder, h2: bool) -> ClientBuilder {
    let http = http.no_proxy().retry(reqwest::retry::never());
    if !h2 {
        return http;
    }
    http.http2_prior_knowledge()
        .http2_adaptive_window(false)
        .http2_initial_stream_window_size(128 * 1024)
        .http2_initial_connection_window_size(1 << 30)
}

/// The bytes that one open stream holds on the heap after its first event, connection and all.
fn memory(streams: usize, h2: bool) -> Measured {
    allow_open_files();
    let server = Server::start_alone();
    let mut pairs = Vec::new();
    for pair in 0..PAIRS {
        let our_bytes = || {
            let mut config = Config::new("bench").base_url(&server.url);
            if h2 {
                config = config.configure_http(|http| http.http2_prior_knowledge());
            }
            let client = client(config);
            held_by(streams, || Box::pin(ours(&client)))
        };
        let raw_bytes = || {
            let http = like_ours(reqwest::Client::builder(), h2).build().expect("a client");
            held_by(streams, || Box::pin(raw(&http, &server)))
        };
        if pair % 2 == 0 {
            let first = our_bytes();
            pairs.push((first, raw_bytes()));
        } else {
            let first = raw_bytes();
            pairs.push((our_bytes(), first));
        }
    }
    let of = |side: fn(&(f64, f64)) -> f64| pairs.iter().map(side).sum::<f64>() / PAIRS as f64;
    println!("BYTES {streams} streams: {:.0} each, raw {:.0}", of(|pair| pair.0), of(|pair| pair.1));
    Measured { pairs, bytes: None }
}

fn held_by<'a, S>(streams: usize, open: impl Fn() -> std::pin::Pin<Box<dyn Future<Output = S> + 'a>>) -> f64 {
    const AT_ONCE: usize = 64;
    let runtime = runtime();
    runtime.block_on(async {
        let first = open().await;
        let mut held = Vec::with_capacity(streams);
        let before = ALLOCATED.load(Ordering::Relaxed);
        let mut opening = stream::iter(0..streams).map(|_| open()).buffer_unordered(AT_ONCE);
        while let Some(one) = opening.next().await {
            held.push(one);
        }
        drop(opening);
        // What is in flight between client and server comes to rest.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let after = ALLOCATED.load(Ordering::Relaxed);
        let inline = streams * size_of::<S>();
        drop((held, first));
        ((after - before) as f64 + inline as f64) / streams as f64
    })
}

/// Thousands of connections need as many files.
fn allow_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
        let allowed = getrlimit(Resource::Nofile).current;
        assert!(allowed.is_none_or(|files| files > 5_000), "the row needs 5,000 open files, the limit is {allowed:?}");
    }
}
