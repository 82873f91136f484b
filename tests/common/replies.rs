//! Scripts for the proxy that modify or replace replies.

use std::sync::Arc;
use std::time::Duration;

use super::proxy::{ReplyStep, Script, find};

/// A parsed reply. The body is decoded if it was chunked.
pub struct ParsedReply {
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Parses a whole reply.
pub fn parse(reply: &[u8]) -> ParsedReply {
    let end = find(reply, b"\r\n\r\n").map_or(reply.len(), |at| at + 4);
    let (head, rest) = reply.split_at(end);
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let content_type =
        text.lines().find_map(|line| line.strip_prefix("content-type:")).unwrap_or_default().trim();
    let chunked = text.contains("transfer-encoding: chunked");
    let body = if chunked { dechunked(rest) } else { rest.to_vec() };
    ParsedReply { content_type: content_type.to_owned(), body }
}

fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = find(rest, b"\r\n") {
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 2 + size + 2..];
    }
    body
}

fn script(make: impl Fn(&[u8]) -> Vec<ReplyStep> + Send + Sync + 'static) -> Script {
    Arc::new(make)
}

/// Sends the body, and replaces the headers for its type and length.
pub fn rewritten(headers: impl Fn(&ParsedReply) -> String + Send + Sync + 'static) -> Script {
    script(move |reply| {
        let parsed = parse(reply);
        let head = format!("HTTP/1.1 200 OK\r\n{}connection: close\r\n\r\n", headers(&parsed));
        vec![ReplyStep::Send([head.as_bytes(), &parsed.body].concat())]
    })
}

/// Sends this many bytes of the reply, then closes the connection.
pub fn cut_after(bytes: usize) -> Script {
    script(move |reply| vec![ReplyStep::Send(reply[..bytes.min(reply.len())].to_vec())])
}

/// Sends this many bytes of the reply, then resets the connection.
pub fn reset_after(bytes: usize) -> Script {
    script(move |reply| {
        vec![ReplyStep::Send(reply[..bytes.min(reply.len())].to_vec()), ReplyStep::Reset]
    })
}

/// Sends this many quarters of the reply, then nothing more.
pub fn stall_at_quarter(quarter: usize) -> Script {
    script(move |reply| {
        vec![ReplyStep::Send(reply[..reply.len() * quarter / 4].to_vec()), ReplyStep::Stall]
    })
}

/// Sends the head and this many quarters of the body, then nothing more.
pub fn stall_in_body(quarter: usize) -> Script {
    script(move |reply| {
        let head = find(reply, b"\r\n\r\n").unwrap_or(0) + 4;
        vec![
            ReplyStep::Send(reply[..head + (reply.len() - head) * quarter / 4].to_vec()),
            ReplyStep::Stall,
        ]
    })
}

/// Sends the reply byte by byte.
pub fn byte_by_byte() -> Script {
    script(|reply| vec![ReplyStep::SendByteByByte(reply.to_vec())])
}

/// Sends half of the reply, and the rest after a pause.
pub fn paused_halfway(pause: Duration) -> Script {
    script(move |reply| {
        let (first, rest) = reply.split_at(reply.len() / 2);
        vec![
            ReplyStep::Send(first.to_vec()),
            ReplyStep::Wait(pause),
            ReplyStep::Send(rest.to_vec()),
        ]
    })
}

/// Sends these bytes.
pub fn raw_bytes(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    script(move |_| vec![ReplyStep::Send(bytes.clone())])
}

/// Sends bytes before the reply.
pub fn preceded_by(bytes: &'static [u8]) -> Script {
    script(move |reply| vec![ReplyStep::Send([bytes, reply].concat())])
}

/// Sends bytes after the reply.
pub fn followed_by(bytes: &'static [u8]) -> Script {
    script(move |reply| vec![ReplyStep::Send([reply, bytes].concat())])
}

/// Sends the reply with this content type.
pub fn with_type(content_type: &'static str) -> Script {
    rewritten(move |parsed| {
        format!("content-type: {content_type}\r\ncontent-length: {}\r\n", parsed.body.len())
    })
}

/// Sends the reply without a content type.
pub fn without_type() -> Script {
    rewritten(|parsed| format!("content-length: {}\r\n", parsed.body.len()))
}

/// Sends the reply with a `Content-Length` that is off by this many bytes, then closes the
/// connection.
pub fn length_off_by(bytes: i64) -> Script {
    rewritten(move |parsed| {
        let length = (parsed.body.len() as i64 + bytes).max(0);
        format!("content-type: {}\r\ncontent-length: {length}\r\n", parsed.content_type)
    })
}

/// Sends the reply with this `Content-Length`.
pub fn length_of(length: &'static str) -> Script {
    rewritten(move |parsed| {
        format!("content-type: {}\r\ncontent-length: {length}\r\n", parsed.content_type)
    })
}

/// Sends the reply without a length: the body ends with the connection.
pub fn until_close() -> Script {
    rewritten(|parsed| format!("content-type: {}\r\n", parsed.content_type))
}

/// Sends the body in chunks of this many bytes, then `end`, then closes the connection or stalls.
pub fn chunked(size: usize, end: &'static [u8], stalls: bool) -> Script {
    script(move |reply| {
        let parsed = parse(reply);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\
             connection: close\r\n\r\n",
            parsed.content_type
        );
        let mut out = head.into_bytes();
        for chunk in parsed.body.chunks(size) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(end);
        let send = ReplyStep::Send(out);
        if stalls { vec![send, ReplyStep::Stall] } else { vec![send] }
    })
}

/// The body of an error response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ErrorBody {
    Empty,
    Html,
    Json,
    Rpc(i64),
}

impl ErrorBody {
    /// Returns the media type and the text.
    pub fn text(self) -> (&'static str, String) {
        match self {
            Self::Empty => ("text/plain", String::new()),
            Self::Html => {
                ("text/html", "<html><body><h1>An error</h1>{\"code\":1}</body></html>".to_owned())
            }
            Self::Json => (
                "application/json",
                r#"{"error":"odd","message":"an error of a gateway"}"#.to_owned(),
            ),
            Self::Rpc(code) => ("application/json", super::rpc_error(code).to_string()),
        }
    }
}

/// Answers with a status, a body and more headers.
pub fn status(status: u16, body: ErrorBody, headers: &str) -> Script {
    let (content_type, text) = body.text();
    raw_bytes(format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         {headers}connection: close\r\n\r\n{text}",
        text.len()
    ))
}

/// Answers with status 200 and this body, as JSON.
pub fn json_text(body: &str) -> Script {
    raw_bytes(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// Answers with a status and a truncated body.
pub fn status_cut(status: u16, body: ErrorBody, at: usize) -> Script {
    let (content_type, text) = body.text();
    let at = at.min(text.len());
    raw_bytes(format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{}",
        text.len(),
        String::from_utf8_lossy(&text.as_bytes()[..at])
    ))
}
