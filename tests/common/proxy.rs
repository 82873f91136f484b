//! A TCP proxy between the SDK and the emulator that injects faults at exact byte positions.

use std::io::{Error, Result};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Returns the steps that replace a reply.
pub type Script = Arc<dyn Fn(&[u8]) -> Vec<ReplyStep> + Send + Sync>;

/// One action of the proxy on the client's connection.
#[derive(Clone)]
pub enum ReplyStep {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes one by one, each in its own segment.
    SendByteByByte(Vec<u8>),
    /// Pauses.
    Wait(Duration),
    /// Sends nothing more, and keeps the connection open until the client disconnects.
    Stall,
    /// Resets the connection.
    Reset,
}

/// The action of the proxy for a request.
#[derive(Clone)]
pub enum RequestAction {
    /// Forwards the request and its reply.
    Forward,
    /// Forwards the request, and replaces its reply.
    RewriteReply(Script),
    /// Answers without forwarding the request. The script gets an empty reply.
    Intercept(Script),
}

/// Selects the faults of connections and requests.
pub trait FaultPolicy: Send + Sync + 'static {
    /// Returns the number of bytes of the connection's first request that are forwarded before a
    /// reset; `None` for no reset.
    fn reset_request_after(&self, connection: usize) -> Option<usize>;
    /// Returns the action for a request to this path.
    fn request_action(&self, path: &str) -> RequestAction;
    /// Returns the treatment of the connection after a forwarded reply.
    fn after_reply(&self) -> AfterReply {
        AfterReply::Close
    }
}

/// The treatment of a connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AfterReply {
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

/// A complete request that arrived at the proxy.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    pub path: String,
    pub request_bytes: usize,
    /// The emulator's reply, if replies are recorded. Empty if the request was not forwarded.
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
    policy: Arc<dyn FaultPolicy>,
    requests: Mutex<Vec<ReceivedRequest>>,
    keep_replies: bool,
}

impl Proxy {
    /// Starts a proxy in front of an emulator.
    pub async fn start(to: &str, policy: impl FaultPolicy) -> Self {
        Self::with(to, Arc::new(policy), false).await
    }

    /// Starts a proxy that records the emulator's replies.
    pub async fn recording(to: &str, policy: impl FaultPolicy) -> Self {
        Self::with(to, Arc::new(policy), true).await
    }

    async fn with(to: &str, policy: Arc<dyn FaultPolicy>, keep_replies: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let to = to.trim_start_matches("http://").to_owned();
        let shared = Arc::new(Shared { to, policy, requests: Mutex::default(), keep_replies });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Self { url, shared, listening }
    }

    /// Returns the complete requests so far, in order.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.requests.lock().unwrap().clone()
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
    if let Some(bytes) = shared.policy.reset_request_after(connection) {
        return reset_request(socket, bytes, shared).await;
    }
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut buffer).await? {
        let path = path_of(&request);
        let action = shared.policy.request_action(&path);
        let after_reply = if matches!(action, RequestAction::Forward) {
            shared.policy.after_reply()
        } else {
            AfterReply::Close
        };
        let reply = match &action {
            RequestAction::Intercept(_) => Vec::new(),
            RequestAction::Forward | RequestAction::RewriteReply(_) => {
                forward(&request, shared).await?
            }
        };
        let keep = if shared.keep_replies { reply.clone() } else { Vec::new() };
        shared.requests.lock().unwrap().push(ReceivedRequest {
            path,
            request_bytes: request.len(),
            reply: keep,
        });
        let stays = after_reply != AfterReply::Close;
        let reply = if stays { without(&reply, "connection: close\r\n") } else { reply };
        let steps = match action {
            RequestAction::Forward => vec![ReplyStep::Send(reply)],
            RequestAction::RewriteReply(script) | RequestAction::Intercept(script) => {
                script(&reply)
            }
        };
        for step in steps {
            if perform(&mut socket, step).await?.is_none() {
                socket.set_zero_linger()?;
                return Ok(());
            }
        }
        match after_reply {
            AfterReply::Keep => {}
            AfterReply::Close => break,
            AfterReply::CloseIdle(after) => {
                tokio::time::sleep(after).await;
                break;
            }
            AfterReply::ResetIdle(after) => {
                tokio::time::sleep(after).await;
                return socket.set_zero_linger();
            }
            AfterReply::ResetNext => {
                socket.readable().await?;
                return socket.set_zero_linger();
            }
        }
    }
    socket.shutdown().await
}

/// Performs a step; `None` means that the connection is to be reset.
async fn perform(socket: &mut TcpStream, step: ReplyStep) -> Result<Option<()>> {
    match step {
        ReplyStep::Send(bytes) => socket.write_all(&bytes).await?,
        ReplyStep::SendByteByByte(bytes) => {
            for byte in bytes {
                socket.write_all(&[byte]).await?;
                tokio::task::yield_now().await;
            }
        }
        ReplyStep::Wait(time) => tokio::time::sleep(time).await,
        ReplyStep::Stall => {
            let mut rest = [0; 64];
            while !matches!(socket.read(&mut rest).await, Ok(0) | Err(_)) {}
        }
        ReplyStep::Reset => return Ok(None),
    }
    Ok(Some(()))
}

async fn reset_request(mut socket: TcpStream, bytes: usize, shared: &Shared) -> Result<()> {
    let mut start = vec![0; bytes];
    socket.read_exact(&mut start).await?;
    if bytes > 0 {
        let mut emulator = TcpStream::connect(&shared.to).await?;
        emulator.write_all(&start).await?;
        // A reset could discard the bytes before they are read; a close does not.
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
    // Without it, thousands of cases would exhaust the ports with connections in TIME_WAIT.
    emulator.set_zero_linger()?;
    Ok(reply)
}

/// Reads the next request, head and body. `buffer` keeps the start of the one after it.
async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(head) = find(buffer, b"\r\n\r\n") {
            let end = head + 4 + body_length(&buffer[..head]);
            if buffer.len() >= end {
                let rest = buffer.split_off(end);
                return Ok(Some(std::mem::replace(buffer, rest)));
            }
        }
        buffer.reserve(4096);
        if socket.read_buf(buffer).await? == 0 {
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

/// Returns the position of a byte string in another.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn without(bytes: &[u8], wanted: &str) -> Vec<u8> {
    match find(bytes, wanted.as_bytes()) {
        Some(at) => [&bytes[..at], &bytes[at + wanted.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
