//! The faults, and what the table of what may be sent again says of each.

use std::time::Duration;

use payman_sdk::ErrorKind::{self, Auth, Http, ReauthorizationRequired, Rpc, Timeout, Unsupported};

use super::group::{Case, Expect, Fault, Reference, Target};
use crate::common::proxy::{RequestAction, Script, find};
use crate::common::replies::{self, ErrorBody};

/// Makes the cases of one target.
pub struct Maker<'a> {
    pub target: Target,
    pub can_look_up: bool,
    /// The distance in bytes between the places where replies are broken; with 1, the request is
    /// broken at every 16th.
    pub stride: usize,
    pub every_status: bool,
    pub reference: &'a Reference,
}

/// The fate of the request, as the server sees it.
#[derive(Clone, Copy, PartialEq)]
enum Was {
    /// It was acted on, and the answer was lost.
    Acted,
    /// It never arrived.
    Missed,
}

impl Maker<'_> {
    fn is_ask(&self) -> bool {
        matches!(self.target, Target::Ask | Target::Stream(_))
    }

    /// No usable answer, and a byte may have left.
    fn lost(&self, was: Was) -> Expect {
        match (self.is_ask(), was, self.can_look_up) {
            (true, Was::Acted, true) => Expect::Whole,
            (true, ..) => Expect::Unknown,
            // A token request, or a lookup, is made again.
            (false, ..) => Expect::Whole,
        }
    }

    fn case(
        &self,
        row: &'static str,
        name: impl Into<String>,
        fault: Fault,
        expect: Expect,
    ) -> Case {
        Case { row, name: name.into(), target: self.target, fault, expect, stalls: false }
    }

    fn after(
        &self,
        row: &'static str,
        name: impl Into<String>,
        script: Script,
        expect: Expect,
    ) -> Case {
        self.case(row, name, Fault::Reply(RequestAction::RewriteReply(script)), expect)
    }

    fn stalled(&self, name: impl Into<String>, script: Script, expect: Expect) -> Case {
        // The token endpoint has its own limit, of 30 s: what ends is the ask, by its deadline.
        let expect =
            if self.target == Target::Token { Expect::Refused(vec![Timeout]) } else { expect };
        Case { stalls: true, ..self.after("stall", name, script, expect) }
    }

    /// After how many bytes of the reply there is nothing left to be lost.
    fn enough(&self) -> usize {
        let reply = &self.reference.reply;
        if !matches!(self.target, Target::Stream(_)) {
            return reply.len();
        }
        let last = reply.windows(2).rposition(|pair| pair == b"\n\n");
        last.map_or(reply.len(), |at| at + 2)
    }

    /// Every byte, or every so many with all that are special.
    fn positions(&self) -> Vec<usize> {
        let (reply, stride) = (&self.reference.reply, self.stride);
        let head = find(reply, b"\r\n\r\n").unwrap_or(0) + 4;
        let mut positions: Vec<usize> = (0..=reply.len()).step_by(stride).collect();
        let mut special = vec![1, head, reply.len(), self.enough()];
        if stride == 1 {
            special.clear();
        } else {
            special.extend(
                reply
                    .windows(2)
                    .enumerate()
                    .filter(|(_, pair)| pair == b"\n\n")
                    .map(|(at, _)| at + 2),
            );
        }
        for at in special {
            positions
                .extend([at.saturating_sub(1), at, at + 1].iter().filter(|at| **at <= reply.len()));
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// The reply cut, and the reply reset, after so many bytes.
    pub fn cuts(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for at in self.positions() {
            let name = format!("{at} bytes");
            let cut = if at >= self.enough() { Expect::Whole } else { self.lost(Was::Acted) };
            // What was said just before a reset may be heard or not.
            let reset = match self.lost(Was::Acted) {
                Expect::Unknown if at >= self.enough() => Expect::WholeOrUnknown,
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
                // A connection that is reset before it is used was never made: then the ask is sent
                // again.
                let expect = if at == 0 && self.is_ask() {
                    Expect::WholeOrUnknown
                } else {
                    self.lost(Was::Missed)
                };
                self.case("request reset", format!("{at} bytes"), Fault::Request(at), expect)
            })
            .collect();
        let all = match self.lost(Was::Acted) {
            Expect::Whole if self.is_ask() => Expect::WholeOrUnknown,
            other => other,
        };
        cases.push(self.case("request reset", "all bytes", Fault::Request(length), all));
        cases
    }

    pub fn timing(&self) -> Vec<Case> {
        let lost = self.lost(Was::Acted);
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
        cases.push(self.after("dribble", "byte by byte", replies::byte_by_byte(), Expect::Whole));
        let pause = replies::paused_halfway(Duration::from_millis(150));
        cases.push(self.after("dribble", "a pause in the middle", pause, Expect::Whole));
        cases
    }

    pub fn framing(&self) -> Vec<Case> {
        let lost = self.lost(Was::Acted);
        // The final event is the end, whatever the framing says of more.
        let ended =
            if matches!(self.target, Target::Stream(_)) { Expect::Whole } else { lost.clone() };
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
            let expect = if streams { lost.clone() } else { Expect::Whole };
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
            let expect =
                if if streams { stream } else { reply } { Expect::Whole } else { lost.clone() };
            cases.push(self.after(
                "wrong content type",
                content_type,
                replies::with_type(content_type),
                expect,
            ));
        }
        let none = if streams { lost.clone() } else { Expect::Whole };
        cases.push(self.after("wrong content type", "none", replies::without_type(), none));

        for more in [1, 2, 1000, 1 << 40] {
            // A length that is over the limit is an error of its own, before anything is read.
            let expect = match (more > 1 << 30, self.is_ask(), streams) {
                (true, true, false) => Expect::Unknown,
                (true, ..) if self.target == Target::Task => {
                    Expect::Settled(vec![ErrorKind::TooLarge])
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
            // The last byte of a stream is no part of the last event's data.
            let expect = if streams && less == 1 { Expect::WholeOrUnknown } else { lost.clone() };
            let expect = if expect == Expect::WholeOrUnknown && self.can_look_up {
                Expect::Whole
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
        cases.push(self.after("wrong length", "none", replies::until_close(), Expect::Whole));
        cases.push(self.after(
            "wrong length",
            "a second reply",
            replies::followed_by(b"HTTP/1.1 200 OK\r\n\r\n"),
            Expect::Whole,
        ));

        for size in [1, 7, 1 << 20] {
            cases.push(self.after(
                "chunks",
                format!("of {size}"),
                replies::chunked(size, b"0\r\n\r\n", false),
                Expect::Whole,
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
            Expect::Whole,
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
            cases.push(self.after("1xx first", name, replies::preceded_by(before), Expect::Whole));
        }
        let lost = self.lost(Was::Acted);
        let alone = replies::raw_bytes("HTTP/1.1 100 Continue\r\n\r\n");
        cases.push(self.after("1xx first", "100 alone", alone, lost.clone()));
        let switching = replies::raw_bytes(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        );
        cases.push(self.after(
            "1xx first",
            "101",
            switching,
            self.answered(101, ErrorBody::Empty, Was::Acted),
        ));
        for status in [204, 205, 202, 206, 226] {
            let headers = format!("HTTP/1.1 {status} Whatever\r\nconnection: close\r\n\r\n");
            // Any 2xx of the token endpoint is a reply; one that cannot be read is lost.
            let expect = match self.target {
                Target::Token => self.lost(Was::Acted),
                _ => self.answered(status, ErrorBody::Empty, Was::Acted),
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
                let expect = self.answered(status, ErrorBody::Html, Was::Acted);
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
        let missed = self.answered(status, body, Was::Missed);
        let mut cases = vec![self.case(
            row,
            format!("{name}, before acting"),
            Fault::Reply(RequestAction::Intercept(script.clone())),
            missed.clone(),
        )];
        // A server that refuses what it then does is beyond help.
        if !matches!(missed, Expect::Refused(_)) {
            let expect = self.answered(status, body, Was::Acted);
            cases.push(self.after(row, format!("{name}, after acting"), script, expect));
        }
        cases
    }

    /// The rest of a cut error is unknown, and so is what it would have proven.
    fn status_cut(&self, status: u16, body: ErrorBody, at: usize) -> Option<Case> {
        let script = replies::status_cut(status, body, at);
        let name = format!("{status} {body:?} cut at {at}");
        let expect = self.lost(Was::Acted);
        let is_cut = at < body.text().1.len();
        ((self.is_ask() || self.target == Target::Token) && is_cut)
            .then(|| self.after("error cut", name, script, expect))
    }

    /// Returns the expected outcome of an answer of this kind.
    fn answered(&self, status: u16, body: ErrorBody, was: Was) -> Expect {
        let code = if let ErrorBody::Rpc(code) = body { Some(code) } else { None };
        match self.target {
            Target::Ask | Target::Stream(_) => self.ask_answered(status, code, was),
            Target::Token => token_answered(status),
            Target::Task => task_answered(status, code),
            Target::Lookup => lookup_answered(status, code),
        }
    }

    fn ask_answered(&self, status: u16, code: Option<i64>, was: Was) -> Expect {
        let refused = |kind| Expect::Refused(vec![kind]);
        match (status, code) {
            (401, _) => Expect::Refused(vec![Auth, ReauthorizationRequired]),
            // The server is busy: it is looked up, and sent again only where it says that it does
            // not know the task.
            (429, _) if self.can_look_up => Expect::Whole,
            (429, _) => Expect::Unknown,
            (403, Some(-32700 | -32600 | -32601 | -32602 | -32004 | -32005)) => refused(Auth),
            (_, Some(-32601 | -32004)) => refused(Unsupported),
            (_, Some(-32700 | -32600 | -32602 | -32005)) => refused(Rpc),
            // A server of this kind may answer 406 after it acted, and 424 after it acted in part;
            // a gateway may answer the others.
            (406 | 408 | 424 | 460 | 499, _) | (_, Some(_)) => self.lost(was),
            (403, None) => refused(Auth),
            (404 | 405 | 501, None) => refused(Unsupported),
            (400..=499, None) => refused(Http),
            _ => self.lost(was),
        }
    }
}

/// A token request is made again where that can help: the fault meets only the first.
fn token_answered(status: u16) -> Expect {
    match status {
        400 | 401 | 403 => Expect::Refused(vec![Auth, Http]),
        408 | 429 | 500..=599 | 200 => Expect::Whole,
        _ => Expect::Refused(vec![Http]),
    }
}

/// `Client::get_task` is repeated where that can help.
fn task_answered(status: u16, code: Option<i64>) -> Expect {
    let settled = |kind: ErrorKind| Expect::Settled(vec![kind]);
    match (status, code) {
        (501, None) => settled(Unsupported),
        (501, Some(_)) => settled(Rpc),
        (204..300, None) | (408 | 429 | 500..=599, _) => Expect::Whole,
        (202, None) => Expect::Whole,
        (401, _) => Expect::Settled(vec![Auth, ReauthorizationRequired]),
        (403, _) => settled(Auth),
        (_, Some(-32001)) => settled(ErrorKind::TaskNotFound),
        (_, Some(-32601 | -32004)) => settled(Unsupported),
        (_, Some(_)) => settled(Rpc),
        (404 | 405, None) => settled(Unsupported),
        _ => settled(Http),
    }
}

/// A lookup of a lost answer: another follows, unless the server said that it offers none.
fn lookup_answered(status: u16, code: Option<i64>) -> Expect {
    match (status, code) {
        // A stray 401 does not end a token that nothing can replace: the next lookup is sent.
        (401 | 403, _) => Expect::Whole,
        // A 404 may come from a gateway whose server restarts.
        (405 | 501, None) | (_, Some(-32601 | -32004)) => Expect::Unknown,
        _ => Expect::Whole,
    }
}
