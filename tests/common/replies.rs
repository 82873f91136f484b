//! Scripts for the proxy that damage replies in the ways that broken servers do.

use std::sync::Arc;
use std::time::Duration;

use super::proxy::{Script, Step, find};

/// A parsed reply; the body is without chunked framing.
pub struct Parsed {
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Parses a whole reply.
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

/// Sends the body with these headers in place of those for its type and length.
pub fn rewritten(headers: impl Fn(&Parsed) -> String + Send + Sync + 'static) -> Script {
    script(move |reply| {
        let parsed = parse(reply);
        let head = format!("HTTP/1.1 200 OK\r\n{}connection: close\r\n\r\n", headers(&parsed));
        vec![Step::Say([head.as_bytes(), &parsed.body].concat())]
    })
}

/// Sends so many bytes of the reply, then closes the connection.
pub fn cut_after(bytes: usize) -> Script {
    script(move |reply| vec![Step::Say(reply[..bytes.min(reply.len())].to_vec())])
}

/// Sends so many bytes of the reply, then resets the connection.
pub fn reset_after(bytes: usize) -> Script {
    script(move |reply| vec![Step::Say(reply[..bytes.min(reply.len())].to_vec()), Step::Reset])
}

/// Sends so many quarters of the reply, then nothing more.
pub fn stall_at_quarter(quarter: usize) -> Script {
    script(move |reply| vec![Step::Say(reply[..reply.len() * quarter / 4].to_vec()), Step::Stall])
}

/// Sends so many quarters of the body, then nothing more.
pub fn stall_in_body(quarter: usize) -> Script {
    script(move |reply| {
        let head = find(reply, b"\r\n\r\n").unwrap_or(0) + 4;
        vec![Step::Say(reply[..head + (reply.len() - head) * quarter / 4].to_vec()), Step::Stall]
    })
}

/// Sends the reply byte by byte.
pub fn dribbled() -> Script {
    script(|reply| vec![Step::Dribble(reply.to_vec())])
}

/// Sends half of the reply, and the rest after a pause.
pub fn hesitating(pause: Duration) -> Script {
    script(move |reply| {
        let (first, rest) = reply.split_at(reply.len() / 2);
        vec![Step::Say(first.to_vec()), Step::Wait(pause), Step::Say(rest.to_vec())]
    })
}

/// Sends these bytes.
pub fn raw(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    script(move |_| vec![Step::Say(bytes.clone())])
}

/// Sends bytes before the reply.
pub fn preceded_by(bytes: &'static [u8]) -> Script {
    script(move |reply| vec![Step::Say([bytes, reply].concat())])
}

/// Sends bytes after the reply.
pub fn followed_by(bytes: &'static [u8]) -> Script {
    script(move |reply| vec![Step::Say([reply, bytes].concat())])
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

/// Sends the reply with a `Content-Length` that is wrong by so much, then closes the connection.
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

/// Sends the body in chunks of so many bytes, then these bytes; then it closes the connection, or
/// stalls.
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
        let say = Step::Say(out);
        if stalls { vec![say, Step::Stall] } else { vec![say] }
    })
}

/// The body of an error response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Body {
    Empty,
    Html,
    Json,
    Rpc(i64),
}

impl Body {
    /// Returns the media type and the text.
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
            Self::Rpc(code) => ("application/json", super::rpc_error(code).to_string()),
        }
    }
}

/// Answers with a status, a body and more headers.
pub fn status(status: u16, body: Body, headers: &str) -> Script {
    let (content_type, text) = body.text();
    raw(format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         {headers}connection: close\r\n\r\n{text}",
        text.len()
    ))
}

/// Answers with status 200 and this body, as JSON.
pub fn says(body: &str) -> Script {
    raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// Answers with a status and a truncated body.
pub fn status_cut(status: u16, body: Body, at: usize) -> Script {
    let (content_type, text) = body.text();
    let at = at.min(text.len());
    raw(format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{}",
        text.len(),
        String::from_utf8_lossy(&text.as_bytes()[..at])
    ))
}
