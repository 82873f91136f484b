//! `Retry-After` of lookups and asks: in seconds or as a date, in the past, and huge.

#![cfg(test)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use common::raw::{RawRequest, RawServer, Step, json_reply, serve};
use common::{GET, SEND, client_with, config, task};
use payman_sdk::{Client, ErrorKind, RetryPolicy};
use serde_json::json;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PAST: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const FAR: &str = "Fri, 31 Dec 9999 23:59:59 GMT";

fn status(status: &str, retry_after: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status}\r\nretry-after: {retry_after}\r\ncontent-length: 0\r\n\
         connection: close\r\n\r\n"
    );
    vec![Step::Send(head.into_bytes())]
}

/// Returns a date that is two to three seconds away, since dates have whole seconds.
fn soon() -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3))
}

fn result(id: &str, state: &str) -> Vec<Step> {
    vec![json_reply(&json!({"result": task(id, state, "found")}))]
}

struct Server {
    raw: RawServer,
    gets: Arc<Mutex<Vec<Instant>>>,
}

impl Server {
    /// Returns the time between the lookups.
    fn waits(&self) -> Vec<Duration> {
        let gets = self.gets.lock().unwrap();
        gets.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn client(&self, recovery: Duration) -> Client {
        let policy = RetryPolicy::default().recovery_timeout(recovery);
        client_with(config(&self.raw.url).retry(policy))
    }
}

/// Starts a server that notes when it was asked for a task.
async fn server(
    send: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    get: impl Fn(usize, &str) -> Vec<Step> + Send + Sync + 'static,
) -> Server {
    let gets: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = Arc::clone(&gets);
    let raw = serve(move |asked: RawRequest| match asked.path.as_str() {
        GET => {
            let number = {
                let mut noted = noted.lock().unwrap();
                noted.push(Instant::now());
                noted.len() - 1
            };
            get(number, asked.task_id())
        }
        SEND => send(asked.task_id()),
        _ => common::raw::not_found(),
    })
    .await;
    Server { raw, gets }
}

fn lost(_: &str) -> Vec<Step> {
    vec![]
}

#[tokio::test]
async fn a_lookup_waits_for_as_long_as_it_was_told() {
    let seconds = Duration::from_secs_f64;
    type Case = (&'static str, &'static str, fn() -> String, Duration, Duration);
    let cases: [Case; 8] = [
        ("429, seconds", "429 Slow Down", || "2".into(), seconds(1.99), seconds(3.0)),
        ("429, date", "429 Slow Down", soon, seconds(1.9), seconds(4.0)),
        ("503, seconds", "503 Busy", || "2".into(), seconds(1.99), seconds(3.0)),
        ("503, date", "503 Busy", soon, seconds(1.9), seconds(4.0)),
        // As after any other failure: at once would be too soon.
        ("429, past", "429 Slow Down", || PAST.into(), seconds(0.045), seconds(1.0)),
        ("503, past", "503 Busy", || PAST.into(), seconds(0.045), seconds(1.0)),
        ("429, zero", "429 Slow Down", || "0".into(), seconds(0.045), seconds(1.0)),
        ("429, unreadable", "429 Slow Down", || "soon".into(), seconds(0.045), seconds(1.0)),
    ];
    let runs = cases.into_iter().flat_map(|case| [(case, false), (case, true)]);
    let runs = runs.map(|((name, line, retry_after, least, most), is_running)| async move {
        // The wait comes at the first lookup of a lost answer, or at the second of a running task.
        let send = move |id: &str| match is_running {
            true => result(id, "SUBMITTED"),
            false => Vec::new(),
        };
        let get = move |number, id: &str| match (number, is_running) {
            (0, true) => result(id, "WORKING"),
            (0, false) | (1, true) => status(line, &retry_after()),
            _ => result(id, "COMPLETED"),
        };
        let server = server(send, get).await;
        // Shorter than the wait: what the server asked for does not count.
        let reply = server.client(Duration::from_millis(500)).ask("hi").await;
        let reply = reply.unwrap_or_else(|error| panic!("{name}, {is_running}: {error:?}"));
        assert_eq!(reply.text(), "found", "{name}, {is_running}");
        let wait = *server.waits().last().unwrap();
        assert!(wait >= least && wait <= most, "{name}, {is_running}: {wait:?}");
    });
    futures::future::join_all(runs).await;
}

/// A server that always says "now" is not asked without a pause.
#[tokio::test]
async fn a_wait_that_is_over_already_keeps_the_usual_distance() {
    for (name, retry_after) in [("past", PAST), ("zero", "0")] {
        let server = server(lost, move |_, _| status("429 Slow Down", retry_after)).await;
        let started = Instant::now();
        let client = server.client(Duration::from_secs(2));
        let error = client.ask("hi").await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{name}: {error:?}");
        let waits = server.waits();
        assert!(waits.len() < 12, "{name}: {} lookups", waits.len());
        assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(45)), "{name}: {waits:?}");
        assert!(started.elapsed() < Duration::from_secs(4), "{name}: {:?}", started.elapsed());

        let before = server.waits().len();
        let error = client.get_task("tsk-1").await.unwrap_err();
        assert!(error.is_rate_limited(), "{name}: {error:?}");
        let waits = &server.waits()[before + 1..];
        assert!(!waits.is_empty() && waits.len() < 12, "{name}: {} repetitions", waits.len());
        assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(45)), "{name}: {waits:?}");
    }
}

/// A wait beyond all limits is capped, and not waited for.
#[tokio::test]
async fn a_huge_wait_is_capped_and_lookups_end_with_their_time() {
    for (name, line, retry_after) in [
        ("429, seconds", "429 Slow Down", "99999999999999999999"),
        ("429, date", "429 Slow Down", FAR),
        ("503, seconds", "503 Busy", "99999999999999999999"),
        ("503, date", "503 Busy", FAR),
    ] {
        let server = server(lost, move |_, _| status(line, retry_after)).await;
        let client = server.client(Duration::from_secs(1));
        let started = Instant::now();
        let error = client.ask("hi").await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{name}: {error:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{name}: {:?}", started.elapsed());
        // The last lookup is at the end of the recovery time.
        let last = server.gets.lock().unwrap().last().unwrap().duration_since(started);
        assert!(last > Duration::from_millis(900), "{name}: {last:?}");

        // A call of the user's own is not repeated in vain.
        let started = Instant::now();
        let error = client.get_task("tsk-1").await.unwrap_err();
        assert_eq!(error.retry_after(), Some(DAY), "{name}");
        assert!(started.elapsed() < Duration::from_millis(900), "{name}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_huge_wait_of_the_ask_itself_is_capped_and_not_waited_for() {
    for (name, line, retry_after, kind) in [
        ("429, seconds", "429 Slow Down", "99999999999999999999", ErrorKind::RateLimited),
        ("429, date", "429 Slow Down", FAR, ErrorKind::RateLimited),
        ("503, date", "503 Busy", FAR, ErrorKind::RateLimited),
    ] {
        let server = server(
            move |_| status(line, retry_after),
            |_, _| vec![json_reply(&common::rpc_error(-32601))],
        )
        .await;
        let started = Instant::now();
        let error = server.client(Duration::from_secs(1)).ask("hi").await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (kind, Some(DAY)), "{name}: {error:?}");
        assert!(error.is_outcome_unknown(), "{name}: {error:?}");
        assert!(started.elapsed() < Duration::from_secs(1), "{name}: {:?}", started.elapsed());
    }
}

/// A date is waited for by the ask too, and then the task is looked up.
#[tokio::test]
async fn an_ask_waits_until_the_date_and_then_looks_the_task_up() {
    for (name, retry_after, least) in
        [("date", soon(), Duration::from_millis(1900)), ("past", PAST.to_owned(), Duration::ZERO)]
    {
        let server =
            server(move |_| status("429 Slow Down", &retry_after), |_, id| result(id, "COMPLETED"))
                .await;
        let started = Instant::now();
        let reply = server.client(Duration::from_secs(1)).ask("hi").await.unwrap();
        let took = started.elapsed();
        assert_eq!(reply.text(), "found", "{name}");
        assert!(took >= least && took < least + Duration::from_secs(2), "{name}: {took:?}");
    }
}
