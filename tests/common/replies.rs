//! What a broken server makes of a reply: scripts for the proxy.

use std::sync::Arc;
use std::time::Duration;

use super::proxy::{Script, Step, find};

/// A reply taken apart. The body is what the framing held, without the framing.
pub struct Parsed {
    pub content_type: String,
    pub body: Vec<u8>,
}

pub fn parse(reply: &[u8]) -> Parsed {
    let end = find(reply, b"\r\n\r\n").map_or(reply.len(), |at| at + 4);
    let (head, rest) = reply.split_at(end);
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let content_type =
        text.lines().find_map(|line| line.strip_prefix("content-type:")).unwrap_or_default().trim();
    let chunked = text.contains("transfer-encoding: chunked");
    let body = if chunked { dechunked(rest) } else { rest.to_vec() };
    Parsed { content_type: content_type.to_owned(), body }
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

fn script(make: impl Fn(&[u8]) -> Vec<Step> + Send + Sync + 'static) -> Script {
    Arc::new(make)
}

/// The reply, written anew with these headers in place of type and framing.
pub fn rewritten(headers: impl Fn(&Parsed) -> String + Send + Sync + 'static) -> Script {
    script(move |reply| {
        let parsed = parse(reply);
        let head = format!("HTTP/1.1 200 OK\r\n{}connection: close\r\n\r\n", headers(&parsed));
        vec![Step::Say([head.as_bytes(), &parsed.body].concat())]
    })
}

pub fn cut_after(bytes: usize) -> Script {
    script(move |reply| vec![Step::Say(reply[..bytes.min(reply.len())].to_vec())])
}

pub fn reset_after(bytes: usize) -> Script {
    script(move |reply| vec![Step::Say(reply[..bytes.min(reply.len())].to_vec()), Step::Reset])
}

/// Silence after so many quarters of the reply.
pub fn stall_at_quarter(quarter: usize) -> Script {
    script(move |reply| vec![Step::Say(reply[..reply.len() * quarter / 4].to_vec()), Step::Stall])
}

/// Silence after so many quarters of the reply's body.
pub fn stall_in_body(quarter: usize) -> Script {
    script(move |reply| {
        let head = find(reply, b"\r\n\r\n").unwrap_or(0) + 4;
        vec![Step::Say(reply[..head + (reply.len() - head) * quarter / 4].to_vec()), Step::Stall]
    })
}

pub fn dribbled() -> Script {
    script(|reply| vec![Step::Dribble(reply.to_vec())])
}

/// Comes, but late: half, a pause, the rest.
pub fn hesitating(pause: Duration) -> Script {
    script(move |reply| {
        let (first, rest) = reply.split_at(reply.len() / 2);
        vec![Step::Say(first.to_vec()), Step::Wait(pause), Step::Say(rest.to_vec())]
    })
}

pub fn raw(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    script(move |_| vec![Step::Say(bytes.clone())])
}

pub fn preceded_by(bytes: &'static [u8]) -> Script {
    script(move |reply| vec![Step::Say([bytes, reply].concat())])
}

pub fn followed_by(bytes: &'static [u8]) -> Script {
    script(move |reply| vec![Step::Say([reply, bytes].concat())])
}

pub fn with_type(content_type: &'static str) -> Script {
    rewritten(move |parsed| {
        format!("content-type: {content_type}\r\ncontent-length: {}\r\n", parsed.body.len())
    })
}

pub fn without_type() -> Script {
    rewritten(|parsed| format!("content-length: {}\r\n", parsed.body.len()))
}

/// A `Content-Length` that is so much off, then the end of the connection.
pub fn length_off_by(bytes: i64) -> Script {
    rewritten(move |parsed| {
        let length = (parsed.body.len() as i64 + bytes).max(0);
        format!("content-type: {}\r\ncontent-length: {length}\r\n", parsed.content_type)
    })
}

pub fn length_of(length: &'static str) -> Script {
    rewritten(move |parsed| {
        format!("content-type: {}\r\ncontent-length: {length}\r\n", parsed.content_type)
    })
}

/// No length: the end of the connection is the end of the body.
pub fn until_close() -> Script {
    rewritten(|parsed| format!("content-type: {}\r\n", parsed.content_type))
}

/// Chunks of so many bytes, then these bytes, then the end of the connection, or silence.
pub fn chunked(size: usize, end: &'static [u8], stalls: bool) -> Script {
    script(move |reply| {
        let parsed = parse(reply);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            parsed.content_type
        );
        let mut out = head.into_bytes();
        for chunk in parsed.body.chunks(size) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(end);
        let say = Step::Say(out);
        if stalls { vec![say, Step::Stall] } else { vec![say] }
    })
}

/// What stands in the body of an error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Body {
    Empty,
    Html,
    Json,
    Rpc(i64),
}

impl Body {
    pub fn text(self) -> (&'static str, String) {
        match self {
            Self::Empty => ("text/plain", String::new()),
            Self::Html => {
                ("text/html", "<html><body><h1>An error</h1>{\"code\":1}</body></html>".to_owned())
            }
            Self::Json => (
                "application/json",
                r#"{"error":"odd","message":"as some gateway says it"}"#.to_owned(),
            ),
            Self::Rpc(code) => (
                "application/json",
                format!(
                    r#"{{"jsonrpc":"2.0","id":"x","error":{{"code":{code},"message":"as the server says"}}}}"#
                ),
            ),
        }
    }
}

pub fn status(status: u16, body: Body, headers: &str) -> Script {
    let (content_type, text) = body.text();
    raw(format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{text}",
        text.len()
    ))
}

/// HTTP 200 with a body that says nothing.
pub fn says(body: &str) -> Script {
    raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// An error whose body breaks off.
pub fn status_cut(status: u16, body: Body, at: usize) -> Script {
    let (content_type, text) = body.text();
    let at = at.min(text.len());
    raw(format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        text.len(),
        String::from_utf8_lossy(&text.as_bytes()[..at])
    ))
}
