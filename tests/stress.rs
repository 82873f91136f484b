//! Hundreds of asks and streams at once, through a proxy that breaks exchanges at random, with
//! tokens that expire all the time. At the end the ledger is audited. `PAYMAN_SEED` chooses the
//! faults.

#![cfg(test)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::proxy::{Act, Afterwards, Director, Proxy};
use common::replies::{self, Body};
use futures::StreamExt;
use futures::future::join_all;
use payman_sdk::emulator::Decimal;
use payman_sdk::{Ask, Client, Config, Emulator, Error, RetryPolicy, TaskId, TaskState};
use tokio::time::{Instant, timeout};

const ASKS: i64 = 400;
const DEADLINE: Duration = Duration::from_secs(20);
/// On top of the deadline: what a machine that is busy with other things may take.
const SLACK: Duration = Duration::from_secs(20);

/// Breaks about every second exchange.
struct Chance {
    rng: Mutex<fastrand::Rng>,
    faults: Mutex<BTreeMap<&'static str, usize>>,
}

impl Chance {
    fn note<T>(&self, fault: &'static str, what: T) -> T {
        *self.faults.lock().unwrap().entry(fault).or_default() += 1;
        what
    }
}

impl Director for Arc<Chance> {
    fn reset_request_after(&self, _: usize) -> Option<usize> {
        let bytes = {
            let mut rng = self.rng.lock().unwrap();
            (rng.u32(..100) < 6).then(|| rng.usize(..180))
        };
        bytes.map(|bytes| self.note("request reset", bytes))
    }

    fn act(&self, path: &str) -> Act {
        let mut rng = self.rng.lock().unwrap();
        let (roll, at, wait) =
            (rng.u32(..100), rng.usize(..2500), Duration::from_millis(rng.u64(..300)));
        let failing = [500, 502, 503, 504, 408, 599][rng.usize(..6)];
        let refusing = [400, 401, 403, 404, 409, 422, 429, 429, 429][rng.usize(..9)];
        let body = [Body::Empty, Body::Html, Body::Json, Body::Rpc(-32603)][rng.usize(..4)];
        drop(rng);
        // Everybody waits for the one token: it is lost now and then, and never refused or held for
        // long.
        let roll = match path {
            "/api/oauth2/token" if (70..73).contains(&roll) || roll >= 93 || at % 2 == 0 => 0,
            _ => roll,
        };
        match roll {
            0..50 => Act::Pass,
            50..60 => self.note("reply cut", Act::After(replies::cut_after(at))),
            60..70 => self.note("reply reset", Act::After(replies::reset_after(at))),
            70..73 => self.note("stall", Act::After(replies::stall_at_quarter(at % 4))),
            73..77 => self.note("dribble", Act::After(replies::dribbled())),
            77..81 => self.note("pause", Act::After(replies::hesitating(wait))),
            81..84 => self.note("garbage", Act::After(replies::raw("SSH-2.0-OpenSSH_9.6\r\n"))),
            84..87 => {
                self.note("wrong length", Act::After(replies::length_off_by(at as i64 - 1250)))
            }
            87..90 => self.note("chunks without end", Act::After(replies::chunked(50, b"", false))),
            90..93 => {
                self.note("fails after acting", Act::After(replies::status(failing, body, "")))
            }
            93..96 => {
                self.note("fails before acting", Act::Instead(replies::status(failing, body, "")))
            }
            // Without acting: a server that refuses what it then does is beyond help.
            _ => self.note(
                "refuses",
                Act::Instead(replies::status(refusing, body, "retry-after: 0\r\n")),
            ),
        }
    }

    fn afterwards(&self) -> Afterwards {
        let mut rng = self.rng.lock().unwrap();
        let wait = Duration::from_micros(rng.u64(..20_000));
        match rng.u32(..10) {
            0 => Afterwards::CloseIdle(wait),
            1 => Afterwards::ResetIdle(wait),
            2 => Afterwards::ResetNext,
            3..5 => Afterwards::Close,
            _ => Afterwards::Keep,
        }
    }
}

/// The outcome of one ask.
enum Came {
    Done(String),
    Failed {
        safe: bool,
        why: String,
    },
    /// The caller left before the end.
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

async fn one(client: Client, number: i64, leaves: Option<Duration>) -> (TaskId, Came) {
    let text = format!("Pay Tyllen ${}", amount(number));
    let what = Ask::new(text);
    let id = what.task_id().clone();
    let started = Instant::now();
    let asked = ask(client, what, number);
    let came = match leaves {
        Some(patience) => timeout(patience, asked).await.ok(),
        None => Some(timeout(DEADLINE + SLACK, asked).await.expect("it did not end")),
    };
    assert!(started.elapsed() < DEADLINE + SLACK / 2, "it overran its deadline");
    let came = match came {
        None => Came::Dropped,
        Some(Ok((text, state))) => {
            assert!(state.is_none_or(|state| state == TaskState::Completed));
            Came::Done(text)
        }
        Some(Err(error)) => {
            let (safe, unknown) = (error.is_safe_to_ask_again(), error.is_outcome_unknown());
            assert!(safe != unknown, "an ask that failed is either: {error:?}");
            assert_eq!(error.task_id(), Some(&id));
            Came::Failed { safe, why: error.to_string() }
        }
    };
    (id, came)
}

fn amount(number: i64) -> Decimal {
    Decimal::new(10_000 + number, 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_is_paid_twice_and_no_success_is_made_up() {
    let seed = std::env::var("PAYMAN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("PAYMAN_SEED={seed}, {ASKS} asks");
    let emulator =
        Emulator::builder().token_lifetime(Duration::from_secs(2)).start().await.unwrap();
    emulator.client().ask("Create a payee named Tyllen").await.unwrap();
    let chance = Arc::new(Chance {
        rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        faults: Mutex::default(),
    });
    let proxy = Proxy::start(emulator.base_url(), Arc::clone(&chance)).await;
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
        let leaves = (rng.u32(..20) == 0).then(|| Duration::from_millis(rng.u64(..200)));
        tokio::spawn(async move {
            tokio::time::sleep(start).await;
            one(client, number, leaves).await
        })
    });
    let asks: Vec<_> = asks.collect();
    // Refused tokens on top of expired ones.
    let revoking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await;
            emulator.expire_access_tokens();
        }
    };
    let came = tokio::select! {
        came = join_all(asks) => came,
        () = revoking => unreachable!(),
    };
    let came: Vec<(TaskId, Came)> = came.into_iter().map(|one| one.expect("no panic")).collect();
    audit(&emulator, &chance, &came);
}

fn audit(emulator: &Emulator, chance: &Chance, came: &[(TaskId, Came)]) {
    let state = emulator.state();
    let mut paid: HashMap<Decimal, usize> = HashMap::new();
    for payment in &state.payments {
        *paid.entry(payment.amount).or_default() += 1;
    }
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = |what| *totals.entry(what).or_default() += 1;
    for (number, (id, came)) in came.iter().enumerate() {
        let times = paid.get(&amount(number as i64)).copied().unwrap_or(0);
        assert!(times <= 1, "paid {times} times");
        assert!(
            state.sends.get(id).copied().unwrap_or(0) <= 1,
            "it reached the agent more than once"
        );
        match came {
            Came::Done(text) => {
                assert_eq!(times, 1, "called done, and not paid");
                assert_eq!(state.task(id).map(|task| task.text()).as_ref(), Some(text));
                count("done, paid once");
            }
            Came::Failed { safe: true, .. } => {
                assert_eq!(times, 0, "called safe to ask again, and paid");
                count("refused, not paid");
            }
            Came::Failed { why, .. } => {
                *reasons.entry(why).or_default() += 1;
                count(if times == 1 { "unknown, paid once" } else { "unknown, not paid" });
            }
            Came::Dropped => {
                count(if times == 1 { "dropped, paid once" } else { "dropped, not paid" })
            }
        }
    }
    println!("faults: {:?}", chance.faults.lock().unwrap());
    println!("token requests: {}, payments: {}", state.token_requests, state.payments.len());
    println!("unknown: {reasons:?}");
    println!("asks: {totals:?}");
    assert!(totals.contains_key("done, paid once"), "some must get through");
}
