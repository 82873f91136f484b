//! A TCP proxy between the SDK and the emulator that injects faults at exact byte positions.

use std::io::{Error, Result};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Returns the steps that replace a reply.
pub type Script = Arc<dyn Fn(&[u8]) -> Vec<Step> + Send + Sync>;

/// One action of the proxy on the client's connection.
#[derive(Clone)]
pub enum Step {
    /// Sends bytes.
    Say(Vec<u8>),
    /// Sends bytes one by one, each in its own segment.
    Dribble(Vec<u8>),
    /// Pauses.
    Wait(Duration),
    /// Sends nothing more, and keeps the connection open until the client disconnects.
    Stall,
    /// Resets the connection.
    Reset,
}

/// The treatment of a request.
#[derive(Clone)]
pub enum Act {
    /// Forwards the request and its reply.
    Pass,
    /// Forwards the request, and replaces its reply.
    After(Script),
    /// Does not forward the request; the script gets an empty reply.
    Instead(Script),
}

/// Decides how connections and requests are treated.
pub trait Director: Send + Sync + 'static {
    /// Returns the number of bytes of the connection's first request that are forwarded before a
    /// reset; `None` for no reset.
    fn reset_request_after(&self, connection: usize) -> Option<usize>;
    /// Returns the treatment of a request to this path.
    fn act(&self, path: &str) -> Act;
    /// Returns the treatment of the connection after a forwarded reply.
    fn afterwards(&self) -> Afterwards {
        Afterwards::Close
    }
}

/// The treatment of a connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Afterwards {
    /// Closes it, as the reply announces.
    Close,
    /// Keeps it for the next request.
    Keep,
    /// Closes it after this idle time.
    CloseIdle(Duration),
    /// Resets it after this idle time.
    ResetIdle(Duration),
    /// Resets it when the next request arrives.
    ResetNext,
}

/// A complete request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub request_bytes: usize,
    /// The emulator's reply, if it is recorded; empty if the request was not forwarded.
    pub reply: Vec<u8>,
}

/// A running proxy. It stops, and closes all connections, when it is dropped.
pub struct Proxy {
    pub url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    to: String,
    director: Arc<dyn Director>,
    seen: Mutex<Vec<Seen>>,
    keep_replies: bool,
}

impl Proxy {
    /// Starts a proxy in front of an emulator.
    pub async fn start(to: &str, director: impl Director) -> Self {
        Self::with(to, Arc::new(director), false).await
    }

    /// Starts a proxy that records the emulator's replies.
    pub async fn recording(to: &str, director: impl Director) -> Self {
        Self::with(to, Arc::new(director), true).await
    }

    async fn with(to: &str, director: Arc<dyn Director>, keep_replies: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let to = to.trim_start_matches("http://").to_owned();
        let shared = Arc::new(Shared { to, director, seen: Mutex::default(), keep_replies });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Self { url, shared, listening }
    }

    /// Returns the complete requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _ = socket.set_nodelay(true);
                    let _ = serve(socket, number, &shared).await;
                });
                number += 1;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut socket: TcpStream, connection: usize, shared: &Shared) -> Result<()> {
    if let Some(bytes) = shared.director.reset_request_after(connection) {
        return reset_request(socket, bytes, shared).await;
    }
    let mut waiting = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut waiting).await? {
        let path = path_of(&request);
        let act = shared.director.act(&path);
        let afterwards =
            if matches!(act, Act::Pass) { shared.director.afterwards() } else { Afterwards::Close };
        let reply = match &act {
            Act::Instead(_) => Vec::new(),
            Act::Pass | Act::After(_) => forward(&request, shared).await?,
        };
        let keep = if shared.keep_replies { reply.clone() } else { Vec::new() };
        shared.seen.lock().unwrap().push(Seen { path, request_bytes: request.len(), reply: keep });
        let stays = afterwards != Afterwards::Close;
        let reply = if stays { without(&reply, "connection: close\r\n") } else { reply };
        let steps = match act {
            Act::Pass => vec![Step::Say(reply)],
            Act::After(script) | Act::Instead(script) => script(&reply),
        };
        for step in steps {
            if perform(&mut socket, step).await?.is_none() {
                socket.set_zero_linger()?;
                return Ok(());
            }
        }
        match afterwards {
            Afterwards::Keep => {}
            Afterwards::Close => break,
            Afterwards::CloseIdle(after) => {
                tokio::time::sleep(after).await;
                break;
            }
            Afterwards::ResetIdle(after) => {
                tokio::time::sleep(after).await;
                return socket.set_zero_linger();
            }
            Afterwards::ResetNext => {
                socket.readable().await?;
                return socket.set_zero_linger();
            }
        }
    }
    socket.shutdown().await
}

/// Performs a step; `None` means that the connection is to be reset.
async fn perform(socket: &mut TcpStream, step: Step) -> Result<Option<()>> {
    match step {
        Step::Say(bytes) => socket.write_all(&bytes).await?,
        Step::Dribble(bytes) => {
            for byte in bytes {
                socket.write_all(&[byte]).await?;
                tokio::task::yield_now().await;
            }
        }
        Step::Wait(time) => tokio::time::sleep(time).await,
        Step::Stall => {
            let mut rest = [0; 64];
            while !matches!(socket.read(&mut rest).await, Ok(0) | Err(_)) {}
        }
        Step::Reset => return Ok(None),
    }
    Ok(Some(()))
}

async fn reset_request(mut socket: TcpStream, bytes: usize, shared: &Shared) -> Result<()> {
    let mut start = vec![0; bytes];
    socket.read_exact(&mut start).await?;
    if bytes > 0 {
        let mut emulator = TcpStream::connect(&shared.to).await?;
        emulator.write_all(&start).await?;
        // A reset could overtake the bytes, a close cannot.
        emulator.shutdown().await?;
    }
    socket.set_zero_linger()
}

/// Forwards a request to the emulator, and reads its whole reply.
async fn forward(request: &[u8], shared: &Shared) -> Result<Vec<u8>> {
    let mut emulator = TcpStream::connect(&shared.to).await?;
    emulator.set_nodelay(true)?;
    let at = find(request, b"\r\n").ok_or_else(|| Error::other("no request line"))? + 2;
    let whole = [&request[..at], b"connection: close\r\n", &request[at..]].concat();
    emulator.write_all(&whole).await?;
    let mut reply = Vec::new();
    emulator.read_to_end(&mut reply).await?;
    // Thousands of cases would otherwise exhaust the ports (TIME_WAIT).
    emulator.set_zero_linger()?;
    Ok(reply)
}

/// Reads the next request, head and body; `waiting` keeps the start of the one after it.
async fn read_request(socket: &mut TcpStream, waiting: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(head) = find(waiting, b"\r\n\r\n") {
            let end = head + 4 + body_length(&waiting[..head]);
            if waiting.len() >= end {
                let rest = waiting.split_off(end);
                return Ok(Some(std::mem::replace(waiting, rest)));
            }
        }
        waiting.reserve(4096);
        if socket.read_buf(waiting).await? == 0 {
            return Ok(None);
        }
    }
}

fn body_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0)
}

fn path_of(request: &[u8]) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let target = String::from_utf8_lossy(line);
    target
        .split(' ')
        .nth(1)
        .and_then(|target| target.split('?').next())
        .unwrap_or_default()
        .to_owned()
}

/// Returns the position of some bytes in others.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn without(bytes: &[u8], wanted: &str) -> Vec<u8> {
    match find(bytes, wanted.as_bytes()) {
        Some(at) => [&bytes[..at], &bytes[at + wanted.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
