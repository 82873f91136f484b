//! Stress test: hundreds of concurrent asks and streams through a proxy that injects random faults,
//! with short-lived tokens. The ledger is audited at the end. `PAYMAN_SEED` repeats a run.

#![cfg(test)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::proxy::{AfterReply, FaultPolicy, Proxy, RequestAction};
use common::replies::{self, ErrorBody};
use futures::StreamExt;
use futures::future::join_all;
use payman_sdk::emulator::Decimal;
use payman_sdk::{Ask, Client, Config, Emulator, Error, RetryPolicy, TaskId, TaskState};
use tokio::time::{Instant, timeout};

const ASKS: i64 = 400;
const DEADLINE: Duration = Duration::from_secs(20);
/// The time allowed beyond the deadline, for machines under load.
const SLACK: Duration = Duration::from_secs(20);

/// Injects a fault into about every second exchange.
struct RandomFaults {
    rng: Mutex<fastrand::Rng>,
    faults: Mutex<BTreeMap<&'static str, usize>>,
}

impl RandomFaults {
    fn record<T>(&self, fault: &'static str, what: T) -> T {
        *self.faults.lock().unwrap().entry(fault).or_default() += 1;
        what
    }
}

impl FaultPolicy for Arc<RandomFaults> {
    fn reset_request_after(&self, _: usize) -> Option<usize> {
        let bytes = {
            let mut rng = self.rng.lock().unwrap();
            (rng.u32(..100) < 6).then(|| rng.usize(..180))
        };
        bytes.map(|bytes| self.record("request reset", bytes))
    }

    fn request_action(&self, path: &str) -> RequestAction {
        let mut rng = self.rng.lock().unwrap();
        let (roll, at, wait) =
            (rng.u32(..100), rng.usize(..2500), Duration::from_millis(rng.u64(..300)));
        let failing = [500, 502, 503, 504, 408, 599][rng.usize(..6)];
        let refusing = [400, 401, 403, 404, 409, 422, 429, 429, 429][rng.usize(..9)];
        let body = [ErrorBody::Empty, ErrorBody::Html, ErrorBody::Json, ErrorBody::Rpc(-32603)]
            [rng.usize(..4)];
        drop(rng);
        // All asks wait for the same token, so token replies may be lost, but are never refused or
        // stalled.
        let roll = match path {
            "/api/oauth2/token" if (70..73).contains(&roll) || roll >= 93 || at % 2 == 0 => 0,
            _ => roll,
        };
        match roll {
            0..50 => RequestAction::Forward,
            50..60 => self.record("reply cut", RequestAction::RewriteReply(replies::cut_after(at))),
            60..70 => {
                self.record("reply reset", RequestAction::RewriteReply(replies::reset_after(at)))
            }
            70..73 => {
                self.record("stall", RequestAction::RewriteReply(replies::stall_at_quarter(at % 4)))
            }
            73..77 => self.record("dribble", RequestAction::RewriteReply(replies::byte_by_byte())),
            77..81 => {
                self.record("pause", RequestAction::RewriteReply(replies::paused_halfway(wait)))
            }
            81..84 => self.record(
                "garbage",
                RequestAction::RewriteReply(replies::raw_bytes("SSH-2.0-OpenSSH_9.6\r\n")),
            ),
            84..87 => self.record(
                "wrong length",
                RequestAction::RewriteReply(replies::length_off_by(at as i64 - 1250)),
            ),
            87..90 => self.record(
                "chunks without end",
                RequestAction::RewriteReply(replies::chunked(50, b"", false)),
            ),
            90..93 => self.record(
                "fails after acting",
                RequestAction::RewriteReply(replies::status(failing, body, "")),
            ),
            93..96 => self.record(
                "fails before acting",
                RequestAction::Intercept(replies::status(failing, body, "")),
            ),
            // The request is not forwarded: a refusal of an ask that is done cannot be detected.
            _ => self.record(
                "refuses",
                RequestAction::Intercept(replies::status(refusing, body, "retry-after: 0\r\n")),
            ),
        }
    }

    fn after_reply(&self) -> AfterReply {
        let mut rng = self.rng.lock().unwrap();
        let wait = Duration::from_micros(rng.u64(..20_000));
        match rng.u32(..10) {
            0 => AfterReply::CloseIdle(wait),
            1 => AfterReply::ResetIdle(wait),
            2 => AfterReply::ResetNext,
            3..5 => AfterReply::Close,
            _ => AfterReply::Keep,
        }
    }
}

/// The outcome of one ask.
enum ObservedOutcome {
    Done(String),
    Failed {
        safe: bool,
        why: String,
    },
    /// The caller dropped the ask before its end.
    Dropped,
}

async fn ask(client: Client, ask: Ask, number: i64) -> Result<(String, Option<TaskState>), Error> {
    match number % 4 {
        0 | 1 => client.ask(ask).await.map(|reply| (reply.text(), Some(reply.state().clone()))),
        2 => {
            let reply = client.ask_stream(ask).await?.into_reply().await?;
            Ok((reply.text(), Some(reply.state().clone())))
        }
        _ => {
            let pieces: Vec<Result<String, Error>> =
                client.ask_stream(ask).await?.text().collect().await;
            pieces.into_iter().collect::<Result<String, Error>>().map(|text| (text, None))
        }
    }
}

async fn run_ask(
    client: Client,
    number: i64,
    dropped_after: Option<Duration>,
) -> (TaskId, ObservedOutcome) {
    let text = format!("Pay Tyllen ${}", amount(number));
    let what = Ask::new(text);
    let id = what.task_id().clone();
    let started = Instant::now();
    let asked = ask(client, what, number);
    let outcome = match dropped_after {
        Some(patience) => timeout(patience, asked).await.ok(),
        None => Some(timeout(DEADLINE + SLACK, asked).await.expect("the ask did not end")),
    };
    assert!(started.elapsed() < DEADLINE + SLACK / 2, "the ask overran its deadline");
    let outcome = match outcome {
        None => ObservedOutcome::Dropped,
        Some(Ok((text, state))) => {
            assert!(state.is_none_or(|state| state == TaskState::Completed));
            ObservedOutcome::Done(text)
        }
        Some(Err(error)) => {
            let (safe, unknown) = (error.is_safe_to_ask_again(), error.is_outcome_unknown());
            assert!(safe != unknown, "a failed ask is either safe or unknown: {error:?}");
            assert_eq!(error.task_id(), Some(&id));
            ObservedOutcome::Failed { safe, why: error.to_string() }
        }
    };
    (id, outcome)
}

fn amount(number: i64) -> Decimal {
    Decimal::new(10_000 + number, 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_cause_no_double_payment_and_no_false_success() {
    let seed = std::env::var("PAYMAN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("PAYMAN_SEED={seed}, {ASKS} asks");
    let emulator =
        Emulator::builder().token_lifetime(Duration::from_secs(2)).start().await.unwrap();
    emulator.client().ask("Create a payee named Tyllen").await.unwrap();
    let faults = Arc::new(RandomFaults {
        rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        faults: Mutex::default(),
    });
    let proxy = Proxy::start(emulator.base_url(), Arc::clone(&faults)).await;
    let config = Config::new("client-id")
        .client_secret("client-secret")
        .base_url(&proxy.url)
        .reply_timeout(Duration::from_secs(2))
        .idle_timeout(Duration::from_secs(2))
        .deadline(DEADLINE)
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_secs(6)));
    let client = Client::with_credentials(config).unwrap();

    let mut rng = fastrand::Rng::with_seed(seed ^ 1);
    let asks = (0..ASKS).map(|number| {
        let (client, start) = (client.new_session(), Duration::from_millis(rng.u64(..3000)));
        let dropped_after = (rng.u32(..20) == 0).then(|| Duration::from_millis(rng.u64(..200)));
        tokio::spawn(async move {
            tokio::time::sleep(start).await;
            run_ask(client, number, dropped_after).await
        })
    });
    let asks: Vec<_> = asks.collect();
    // Some tokens are rejected before they expire.
    let revoking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await;
            emulator.expire_access_tokens();
        }
    };
    let outcomes = tokio::select! {
        outcomes = join_all(asks) => outcomes,
        () = revoking => unreachable!(),
    };
    let outcomes: Vec<(TaskId, ObservedOutcome)> =
        outcomes.into_iter().map(|outcome| outcome.expect("no panic")).collect();
    audit(&emulator, &faults, &outcomes);
}

fn audit(emulator: &Emulator, proxy_faults: &RandomFaults, outcomes: &[(TaskId, ObservedOutcome)]) {
    let state = emulator.state();
    let mut paid: HashMap<Decimal, usize> = HashMap::new();
    for payment in &state.payments {
        *paid.entry(payment.amount).or_default() += 1;
    }
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = |what| *totals.entry(what).or_default() += 1;
    for (number, (id, outcome)) in outcomes.iter().enumerate() {
        let times = paid.get(&amount(number as i64)).copied().unwrap_or(0);
        assert!(times <= 1, "paid {times} times");
        assert!(
            state.sends.get(id).copied().unwrap_or(0) <= 1,
            "the ask reached the agent more than once"
        );
        match outcome {
            ObservedOutcome::Done(text) => {
                assert_eq!(times, 1, "reported as done, but not paid");
                assert_eq!(state.task(id).map(|task| task.text()).as_ref(), Some(text));
                count("done, paid once");
            }
            ObservedOutcome::Failed { safe: true, .. } => {
                assert_eq!(times, 0, "reported as safe to ask again, but paid");
                count("refused, not paid");
            }
            ObservedOutcome::Failed { why, .. } => {
                *reasons.entry(why).or_default() += 1;
                count(if times == 1 { "unknown, paid once" } else { "unknown, not paid" });
            }
            ObservedOutcome::Dropped => {
                count(if times == 1 { "dropped, paid once" } else { "dropped, not paid" })
            }
        }
    }
    println!("faults: {:?}", proxy_faults.faults.lock().unwrap());
    println!("token requests: {}, payments: {}", state.token_requests, state.payments.len());
    println!("unknown: {reasons:?}");
    println!("asks: {totals:?}");
    assert!(totals.contains_key("done, paid once"), "no ask succeeded");
}
