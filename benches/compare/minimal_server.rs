//! A minimal HTTP/1 server with keep-alive: one thread per connection.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

/// Starts a server on loopback that runs until the process ends, and returns its base URL.
///
/// `answer` writes the response to a request with this body to the connection.
pub fn start(answer: fn(&mut TcpStream, &[u8]) -> io::Result<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || serve(&connection, answer));
        }
    });
    format!("http://{address}")
}

fn serve(
    connection: &TcpStream,
    answer: fn(&mut TcpStream, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut requests = BufReader::new(connection.try_clone()?);
    let mut answers = connection.try_clone()?;
    loop {
        let body = read_request(&mut requests)?;
        answer(&mut answers, &body)?;
    }
}

fn read_request(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}

/// Writes one chunk of a chunked body with one system call.
pub fn write_chunk(to: &mut TcpStream, bytes: &str) -> io::Result<()> {
    to.write_all(format!("{:x}\r\n{bytes}\r\n", bytes.len()).as_bytes())
}

/// Returns a reply in the platform's format.
pub fn reply() -> String {
    let text = "Here's a summary of your wallets:\n\n**Main wallet**: $1,204.33 available, $50.00 \
        pending\n**Savings**: $10,000.00 available\n\nIs there anything else that you would like \
        to know?";
    let artifact = json!({
        "name": "response",
        "description": "AI Assistant Response",
        "parts": [{"type": "text", "text": text}],
        "index": 0,
        "timestamp": "2025-06-27T16:31:41.584Z",
        "metadata": {},
    });
    let status = json!({
        "state": "COMPLETED",
        "message": "Processing completed successfully",
        "timestamp": "2025-06-27T16:31:41.510422505Z",
    });
    let metadata = json!({
        "timestamp": "2025-06-27T16:31:30.892Z",
        "agentId": "ai-5c3b1f9e",
        "orgId": "org-77a1d2c4",
    });
    let task = json!({
        "id": "tsk-3f0f7a52-53a5-4b4e-8a60-6f1c6d2f9c11",
        "sessionId": "ses-9f9a7c1e-2a47-4be8-b7d1-0d9e1a6b7c55",
        "status": status,
        "artifacts": [artifact],
        "metadata": metadata,
    });
    let id = "req-1b4e28ba-2fa1-41d2-883f-0016d3cca427";
    json!({"jsonrpc": "2.0", "id": id, "result": task}).to_string()
}

/// Returns a status event of the task that a request names.
pub fn status_event(request: &[u8], state: &str) -> String {
    let request: Value = serde_json::from_slice(request).expect("a request is JSON");
    let status = json!({
        "state": state,
        "message": "Looking up your wallets",
        "timestamp": "2025-06-27T16:31:41.510422505Z",
    });
    let result =
        json!({"id": request["params"]["id"], "status": status, "final": state != "WORKING"});
    format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
}
