//! The faults, and the expected outcome of each according to the retry table.

use std::time::Duration;

use payman_sdk::ErrorKind::{self, Auth, Http, ReauthorizationRequired, Rpc, Timeout, Unsupported};

use super::group::{Case, Expected, Fault, Reference, Target};
use crate::common::proxy::{RequestAction, Script, find};
use crate::common::replies::{self, ErrorBody};

/// Generates the cases of one target.
pub struct CaseGenerator<'a> {
    pub target: Target,
    pub can_look_up: bool,
    /// The distance in bytes between the positions at which replies are cut. With 1, requests are
    /// cut at every 16th byte.
    pub stride: usize,
    pub every_status: bool,
    pub reference: &'a Reference,
}

/// The effect of the request on the server.
#[derive(Clone, Copy, PartialEq)]
enum RequestEffect {
    /// The server acted on it, and the answer was lost.
    Processed,
    /// The server did not receive it.
    NotReceived,
}

impl CaseGenerator<'_> {
    fn is_ask(&self) -> bool {
        matches!(self.target, Target::Ask | Target::Stream(_))
    }

    /// Returns the expected outcome without a usable answer, after a byte may have been sent.
    fn lost(&self, effect: RequestEffect) -> Expected {
        match (self.is_ask(), effect, self.can_look_up) {
            (true, RequestEffect::Processed, true) => Expected::Complete,
            (true, ..) => Expected::Unknown,
            // Token requests and lookups are retried.
            (false, ..) => Expected::Complete,
        }
    }

    fn case(
        &self,
        row: &'static str,
        name: impl Into<String>,
        fault: Fault,
        expect: Expected,
    ) -> Case {
        Case { row, name: name.into(), target: self.target, fault, expect, stalls: false }
    }

    fn after(
        &self,
        row: &'static str,
        name: impl Into<String>,
        script: Script,
        expect: Expected,
    ) -> Case {
        self.case(row, name, Fault::Reply(RequestAction::RewriteReply(script)), expect)
    }

    fn stalled(&self, name: impl Into<String>, script: Script, expect: Expected) -> Case {
        // The token endpoint has a limit of 30 s, so the deadline of the ask ends it first.
        let expect =
            if self.target == Target::Token { Expected::NotDone(vec![Timeout]) } else { expect };
        Case { stalls: true, ..self.after("stall", name, script, expect) }
    }

    /// Returns the number of bytes that contain the whole content of the reply.
    fn content_length(&self) -> usize {
        let reply = &self.reference.reply;
        if !matches!(self.target, Target::Stream(_)) {
            return reply.len();
        }
        let last = reply.windows(2).rposition(|pair| pair == b"\n\n");
        last.map_or(reply.len(), |at| at + 2)
    }

    /// Returns the positions at which replies are cut: by stride, and around the boundaries.
    fn positions(&self) -> Vec<usize> {
        let (reply, stride) = (&self.reference.reply, self.stride);
        let head = find(reply, b"\r\n\r\n").unwrap_or(0) + 4;
        let mut positions: Vec<usize> = (0..=reply.len()).step_by(stride).collect();
        let mut boundaries = vec![1, head, reply.len(), self.content_length()];
        if stride == 1 {
            boundaries.clear();
        } else {
            boundaries.extend(
                reply
                    .windows(2)
                    .enumerate()
                    .filter(|(_, pair)| pair == b"\n\n")
                    .map(|(at, _)| at + 2),
            );
        }
        for at in boundaries {
            positions
                .extend([at.saturating_sub(1), at, at + 1].iter().filter(|at| **at <= reply.len()));
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// Returns the cases in which the reply is cut or reset.
    pub fn cuts(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for at in self.positions() {
            let name = format!("{at} bytes");
            let cut = if at >= self.content_length() {
                Expected::Complete
            } else {
                self.lost(RequestEffect::Processed)
            };
            // A reset may discard bytes that were sent just before it.
            let reset = match self.lost(RequestEffect::Processed) {
                Expected::Unknown if at >= self.content_length() => Expected::CompleteOrUnknown,
                other => other,
            };
            cases.push(self.after("reply cut", name.clone(), replies::cut_after(at), cut));
            cases.push(self.after("reply reset", name, replies::reset_after(at), reset));
        }
        cases
    }

    pub fn requests(&self) -> Vec<Case> {
        let length = self.reference.request_bytes;
        let stride = if self.stride == 1 { 16 } else { 64 };
        let mut cases: Vec<Case> = (0..length)
            .step_by(stride)
            .chain([1, length - 1])
            .map(|at| {
                // A connection that is reset before its first use counts as not established, so
                // the ask may be resent.
                let expect = if at == 0 && self.is_ask() {
                    Expected::CompleteOrUnknown
                } else {
                    self.lost(RequestEffect::NotReceived)
                };
                self.case("request reset", format!("{at} bytes"), Fault::Request(at), expect)
            })
            .collect();
        let all = match self.lost(RequestEffect::Processed) {
            Expected::Complete if self.is_ask() => Expected::CompleteOrUnknown,
            other => other,
        };
        cases.push(self.case("request reset", "all bytes", Fault::Request(length), all));
        cases
    }

    pub fn timing(&self) -> Vec<Case> {
        let lost = self.lost(RequestEffect::Processed);
        let mut cases = Vec::new();
        for quarter in 0..4 {
            cases.push(self.stalled(
                format!("{quarter}/4"),
                replies::stall_at_quarter(quarter),
                lost.clone(),
            ));
            cases.push(self.stalled(
                format!("{quarter}/4 of the body"),
                replies::stall_in_body(quarter),
                lost.clone(),
            ));
        }
        cases.push(self.after(
            "dribble",
            "byte by byte",
            replies::byte_by_byte(),
            Expected::Complete,
        ));
        let pause = replies::paused_halfway(Duration::from_millis(150));
        cases.push(self.after("dribble", "a pause in the middle", pause, Expected::Complete));
        cases
    }

    pub fn framing(&self) -> Vec<Case> {
        let lost = self.lost(RequestEffect::Processed);
        // The final event ends a stream, even if the framing announces more bytes.
        let ended = if matches!(self.target, Target::Stream(_)) {
            Expected::Complete
        } else {
            lost.clone()
        };
        let mut cases = Vec::new();
        for garbage in [
            &b""[..],
            b"\r\n\r\n",
            b"\0\0\0\0",
            b"\xff\xfe\xfd\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"220 mail.example ESMTP\r\n",
            b"<html><body>hello</body></html>",
            b"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32602}}",
            b"HTTP/1.1 \r\n\r\n",
            b"HTTP/1.1 999999 OK\r\n\r\n",
            b"HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nbad name\x01: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let name = format!("{:?}", String::from_utf8_lossy(garbage));
            cases.push(self.after("garbage", name, replies::raw_bytes(garbage), lost.clone()));
        }
        let headers: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
        let many = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\n{{}}");
        cases.push(self.after("garbage", "200 headers", replies::raw_bytes(many), lost.clone()));
        let long = format!(
            "HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\n{{}}",
            "y".repeat(1_000_000)
        );
        cases.push(self.after(
            "garbage",
            "a header of a megabyte",
            replies::raw_bytes(long),
            lost.clone(),
        ));
        for body in [
            "",
            " ",
            "null",
            "true",
            "7",
            "\"done\"",
            "[]",
            "{}",
            "[{}]",
            "{\"result\":null}",
            "{\"error\":null}",
        ] {
            let script = replies::json_text(body);
            cases.push(self.after("garbage", format!("200 with {body:?}"), script, lost.clone()));
        }

        let streams = matches!(self.target, Target::Stream(_));
        for content_type in [
            "text/html",
            "text/plain",
            "application/octet-stream",
            "nonsense",
            "",
            "application/json; charset=latin1",
        ] {
            let expect = if streams { lost.clone() } else { Expected::Complete };
            cases.push(self.after(
                "wrong content type",
                content_type,
                replies::with_type(content_type),
                expect,
            ));
        }
        for (content_type, stream, reply) in [
            ("text/event-stream", true, true),
            ("application/json", false, true),
            ("TEXT/EVENT-STREAM;x=y", true, true),
        ] {
            let expect = if if streams { stream } else { reply } {
                Expected::Complete
            } else {
                lost.clone()
            };
            cases.push(self.after(
                "wrong content type",
                content_type,
                replies::with_type(content_type),
                expect,
            ));
        }
        let none = if streams { lost.clone() } else { Expected::Complete };
        cases.push(self.after("wrong content type", "none", replies::without_type(), none));

        for more in [1, 2, 1000, 1 << 40] {
            // A length over the limit is an error before the body is read.
            let expect = match (more > 1 << 30, self.is_ask(), streams) {
                (true, true, false) => Expected::Unknown,
                (true, ..) if self.target == Target::Task => {
                    Expected::OtherError(vec![ErrorKind::TooLarge])
                }
                _ => ended.clone(),
            };
            cases.push(self.after(
                "wrong length",
                format!("+{more}"),
                replies::length_off_by(more),
                expect,
            ));
        }
        for less in [1, 2, 100, 1 << 40] {
            // The last byte of a stream is not part of the data of the last event.
            let expect =
                if streams && less == 1 { Expected::CompleteOrUnknown } else { lost.clone() };
            let expect = if expect == Expected::CompleteOrUnknown && self.can_look_up {
                Expected::Complete
            } else {
                expect
            };
            cases.push(self.after(
                "wrong length",
                format!("-{less}"),
                replies::length_off_by(-less),
                expect,
            ));
        }
        cases.push(self.after(
            "wrong length",
            "99999999999999999999999",
            replies::length_of("99999999999999999999999"),
            lost.clone(),
        ));
        cases.push(self.after("wrong length", "none", replies::until_close(), Expected::Complete));
        cases.push(self.after(
            "wrong length",
            "a second reply",
            replies::followed_by(b"HTTP/1.1 200 OK\r\n\r\n"),
            Expected::Complete,
        ));

        for size in [1, 7, 1 << 20] {
            cases.push(self.after(
                "chunks",
                format!("of {size}"),
                replies::chunked(size, b"0\r\n\r\n", false),
                Expected::Complete,
            ));
            cases.push(self.after(
                "chunks",
                format!("of {size}, no end"),
                replies::chunked(size, b"", false),
                ended.clone(),
            ));
            let stalls = self.stalled(
                format!("chunks of {size}, no end"),
                replies::chunked(size, b"", true),
                ended.clone(),
            );
            cases.push(Case { stalls: !streams, ..stalls });
        }
        for end in [
            &b"0"[..],
            b"0\r\n",
            b"zz\r\n",
            b"ffffffffffffffffff\r\n",
            b"5\r\nab",
            b"0\r\nx: y\r\n",
        ] {
            let name = format!("ending in {:?}", String::from_utf8_lossy(end));
            cases.push(self.after("chunks", name, replies::chunked(50, end, false), ended.clone()));
        }
        cases.push(self.after(
            "chunks",
            "ending in a trailer",
            replies::chunked(50, b"0\r\nx: y\r\n\r\n", false),
            Expected::Complete,
        ));
        cases
    }

    pub fn statuses(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for before in [
            &b"HTTP/1.1 100 Continue\r\n\r\n"[..],
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n",
        ] {
            let name = String::from_utf8_lossy(&before[9..12]).into_owned();
            cases.push(self.after(
                "1xx first",
                name,
                replies::preceded_by(before),
                Expected::Complete,
            ));
        }
        let lost = self.lost(RequestEffect::Processed);
        let alone = replies::raw_bytes("HTTP/1.1 100 Continue\r\n\r\n");
        cases.push(self.after("1xx first", "100 alone", alone, lost.clone()));
        let switching = replies::raw_bytes(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        );
        cases.push(self.after(
            "1xx first",
            "101",
            switching,
            self.answered(101, ErrorBody::Empty, RequestEffect::Processed),
        ));
        for status in [204, 205, 202, 206, 226] {
            let headers = format!("HTTP/1.1 {status} Whatever\r\nconnection: close\r\n\r\n");
            // Every 2xx of the token endpoint counts as a reply; an unreadable one as lost.
            let expect = match self.target {
                Target::Token => self.lost(RequestEffect::Processed),
                _ => self.answered(status, ErrorBody::Empty, RequestEffect::Processed),
            };
            cases.push(self.after(
                "2xx, empty",
                status.to_string(),
                replies::raw_bytes(headers),
                expect,
            ));
        }
        for status in 300..=308 {
            for location in ["", "location: /elsewhere\r\n", "location: /api/a2a/tasks/send\r\n"] {
                let script = replies::status(status, ErrorBody::Html, location);
                let expect = self.answered(status, ErrorBody::Html, RequestEffect::Processed);
                cases.push(self.after("3xx", format!("{status} {location}"), script, expect));
            }
        }
        let registered = [
            400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 418, 421, 422, 424, 425,
            426, 428, 429, 431, 451, 460, 499,
        ];
        let failing = [500, 501, 502, 503, 504, 507, 511, 520, 529, 599];
        let statuses: Vec<u16> = match self.every_status {
            true => (400..600).collect(),
            false => registered.into_iter().chain(failing).collect(),
        };
        for status in statuses {
            for body in [
                ErrorBody::Empty,
                ErrorBody::Html,
                ErrorBody::Json,
                ErrorBody::Rpc(-32603),
                ErrorBody::Rpc(-32602),
            ] {
                cases.extend(self.status(status, body));
            }
        }
        for (status, body) in [
            (400, ErrorBody::Rpc(-32603)),
            (400, ErrorBody::Rpc(-32602)),
            (404, ErrorBody::Html),
            (401, ErrorBody::Json),
            (500, ErrorBody::Rpc(-32602)),
        ] {
            for at in [0, 1, 30, 70] {
                cases.extend(self.status_cut(status, body, at));
            }
        }
        for code in [
            -32700, -32600, -32601, -32602, -32603, -32000, -32001, -32002, -32003, -32004, -32005,
            -32006, 0, 1, 429,
        ] {
            cases.extend(self.status(200, ErrorBody::Rpc(code)));
            cases.extend(self.status(400, ErrorBody::Rpc(code)));
        }
        cases
    }

    fn status(&self, status: u16, body: ErrorBody) -> Vec<Case> {
        let row = match status {
            200 => "JSON-RPC error",
            400..500 => "4xx",
            _ => "5xx",
        };
        let name = format!("{status} {body:?}");
        let script = replies::status(status, body, "");
        let missed = self.answered(status, body, RequestEffect::NotReceived);
        let mut cases = vec![self.case(
            row,
            format!("{name}, before acting"),
            Fault::Reply(RequestAction::Intercept(script.clone())),
            missed.clone(),
        )];
        // A refusal of an ask that is done cannot be detected, so there is no case for it.
        if !matches!(missed, Expected::NotDone(_)) {
            let expect = self.answered(status, body, RequestEffect::Processed);
            cases.push(self.after(row, format!("{name}, after acting"), script, expect));
        }
        cases
    }

    /// Returns the case of a truncated error body, which proves nothing.
    fn status_cut(&self, status: u16, body: ErrorBody, at: usize) -> Option<Case> {
        let script = replies::status_cut(status, body, at);
        let name = format!("{status} {body:?} cut at {at}");
        let expect = self.lost(RequestEffect::Processed);
        let is_cut = at < body.text().1.len();
        ((self.is_ask() || self.target == Target::Token) && is_cut)
            .then(|| self.after("error cut", name, script, expect))
    }

    /// Returns the expected outcome of an answer of this kind.
    fn answered(&self, status: u16, body: ErrorBody, effect: RequestEffect) -> Expected {
        let code = if let ErrorBody::Rpc(code) = body { Some(code) } else { None };
        match self.target {
            Target::Ask | Target::Stream(_) => self.ask_answered(status, code, effect),
            Target::Token => token_answered(status),
            Target::Task => task_answered(status, code),
            Target::Lookup => lookup_answered(status, code),
        }
    }

    fn ask_answered(&self, status: u16, code: Option<i64>, effect: RequestEffect) -> Expected {
        let refused = |kind| Expected::NotDone(vec![kind]);
        match (status, code) {
            (401, _) => Expected::NotDone(vec![Auth, ReauthorizationRequired]),
            // The ask is looked up, and resent only if the server does not know the task.
            (429, _) if self.can_look_up => Expected::Complete,
            (429, _) => Expected::Unknown,
            (403, Some(-32700 | -32600 | -32601 | -32602 | -32004 | -32005)) => refused(Auth),
            (_, Some(-32601 | -32004)) => refused(Unsupported),
            (_, Some(-32700 | -32600 | -32602 | -32005)) => refused(Rpc),
            // A server of this kind may answer 406 after it acted, and 424 after it acted in part;
            // a gateway may answer the others.
            (406 | 408 | 424 | 460 | 499, _) | (_, Some(_)) => self.lost(effect),
            (403, None) => refused(Auth),
            (404 | 405 | 501, None) => refused(Unsupported),
            (400..=499, None) => refused(Http),
            _ => self.lost(effect),
        }
    }
}

/// Returns the expected outcome of a token request. The fault affects only the first attempt.
fn token_answered(status: u16) -> Expected {
    match status {
        400 | 401 | 403 => Expected::NotDone(vec![Auth, Http]),
        408 | 429 | 500..=599 | 200 => Expected::Complete,
        _ => Expected::NotDone(vec![Http]),
    }
}

/// Returns the expected outcome of `Client::get_task`, which retries temporary errors.
fn task_answered(status: u16, code: Option<i64>) -> Expected {
    let settled = |kind: ErrorKind| Expected::OtherError(vec![kind]);
    match (status, code) {
        (501, None) => settled(Unsupported),
        (501, Some(_)) => settled(Rpc),
        (204..300, None) | (408 | 429 | 500..=599, _) => Expected::Complete,
        (202, None) => Expected::Complete,
        (401, _) => Expected::OtherError(vec![Auth, ReauthorizationRequired]),
        (403, _) => settled(Auth),
        (_, Some(-32001)) => settled(ErrorKind::TaskNotFound),
        (_, Some(-32601 | -32004)) => settled(Unsupported),
        (_, Some(_)) => settled(Rpc),
        (404 | 405, None) => settled(Unsupported),
        _ => settled(Http),
    }
}

/// Returns the expected outcome of a lookup. It is retried unless the server does not support it.
fn lookup_answered(status: u16, code: Option<i64>) -> Expected {
    match (status, code) {
        // A 401 does not invalidate a token that cannot be refreshed, so lookups continue.
        (401 | 403, _) => Expected::Complete,
        // A 404 is retried, because it may come from a gateway during a restart.
        (405 | 501, None) | (_, Some(-32601 | -32004)) => Expected::Unknown,
        _ => Expected::Complete,
    }
}
