//! Tests lookups that fail for a while: the reply to a payment is lost, and `tasks/get` fails for
//! 0.5 to 10 s before it works. The answer has to be found, and nothing paid twice.

use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use payman_sdk::emulator::Decimal;
use payman_sdk::{Ask, Client, Config, Emulator, Reply, Result, TaskState, TokenInfo};
use tokio::time::Instant;

use super::group::{GET, SEND, STREAM};
use crate::common::proxy::{FaultPolicy, Proxy, RequestAction, Script};
use crate::common::replies::{self, ErrorBody};

/// Loses the reply to one send, then lets lookups fail for some time after the first one.
struct FailingLookups {
    lose: Mutex<Option<(&'static str, usize)>>,
    lookup: Script,
    duration: Duration,
    since: Mutex<Option<Instant>>,
}

impl FaultPolicy for FailingLookups {
    fn reset_request_after(&self, _: usize) -> Option<usize> {
        None
    }

    fn request_action(&self, path: &str) -> RequestAction {
        if path == GET {
            let since = *self.since.lock().unwrap().get_or_insert_with(Instant::now);
            return match since.elapsed() < self.duration {
                true => RequestAction::Intercept(self.lookup.clone()),
                false => RequestAction::Forward,
            };
        }
        let mut lose = self.lose.lock().unwrap();
        match &mut *lose {
            Some((at, before)) if *at == path && *before == 0 => {
                *lose = None;
                RequestAction::RewriteReply(replies::reset_after(0))
            }
            Some((at, before)) if *at == path => {
                *before -= 1;
                RequestAction::Forward
            }
            _ => RequestAction::Forward,
        }
    }
}

fn failures() -> Vec<(&'static str, Script)> {
    vec![
        ("502", replies::status(502, ErrorBody::Html, "")),
        ("404", replies::status(404, ErrorBody::Html, "")),
        ("429", replies::status(429, ErrorBody::Empty, "retry-after: 1\r\n")),
        ("close", replies::cut_after(0)),
        ("silence", replies::stall_at_quarter(0)),
    ]
}

fn client(url: &str) -> Client {
    // The reply timeout ends a silent lookup early enough for another one.
    let config = Config::new("client-id")
        .base_url(url)
        .reply_timeout(Duration::from_secs(3))
        .deadline(Duration::from_secs(60))
        .configure_http(|http| http.pool_max_idle_per_host(0));
    let token = TokenInfo::access("access-token", Duration::from_secs(3600));
    Client::with_token(config, token).unwrap()
}

async fn ask(client: &Client, ask: Ask, streamed: bool) -> Result<Reply> {
    match streamed {
        false => client.ask(ask).await,
        true => client.ask_stream(ask).await?.into_reply().await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_found_after_lookups_failed_for_ten_seconds() {
    let emulator =
        Emulator::builder().configure(|it| it.accept_any_token = true).start().await.unwrap();
    let owner = emulator.client();
    for name in ["Tyllen", "Ann Lee", "Ann Roy"] {
        owner.ask(format!("Create a payee named {name}")).await.unwrap();
    }
    let durations: &[u64] = &[500, 4_000, 10_000];
    let mut cases = Vec::new();
    for (name, lookup) in failures() {
        for duration in durations {
            for continued in [false, true] {
                for streamed in [false, true] {
                    cases.push((name, lookup.clone(), *duration, continued, streamed));
                }
            }
        }
    }
    let emulator = &emulator;
    let runs = cases.into_iter().enumerate().map(
        |(number, (name, lookup, duration, continued, streamed))| async move {
            let label = format!("{name} for {duration} ms, {continued} {streamed}");
            let failing = FailingLookups {
                lose: Mutex::new(Some(match streamed {
                    true => (STREAM, usize::from(continued)),
                    false => (SEND, usize::from(continued)),
                })),
                lookup,
                duration: Duration::from_millis(duration),
                since: Mutex::default(),
            };
            let proxy = Proxy::start(emulator.base_url(), failing).await;
            let client = client(&proxy.url).new_session();
            let cents = 10_000 + i64::try_from(number).unwrap();
            let amount = Decimal::new(cents, 2);
            let reply = if continued {
                let question = ask(&client, format!("Pay Ann ${amount}").into(), streamed).await;
                let question = question.unwrap();
                assert_eq!(question.state(), &TaskState::InputRequired, "{label}: {question}");
                ask(&client, question.answer("Ann Roy"), streamed).await
            } else {
                ask(&client, format!("Pay Tyllen ${amount}").into(), streamed).await
            };
            let reply = reply.unwrap_or_else(|error| panic!("{label}: {error:?}"));
            assert_eq!(reply.state(), &TaskState::Completed, "{label}: {reply}");
            let state = emulator.state();
            let paid: Vec<_> =
                state.payments.iter().filter(|payment| payment.amount == amount).collect();
            assert_eq!(paid.len(), 1, "{label}");
            assert_eq!(&paid[0].task_id, reply.task_id(), "{label}");
            assert_eq!(state.sends[reply.task_id()], 1 + u64::from(continued), "{label}");
            let task = state.tasks.iter().find(|task| &task.id == reply.task_id()).unwrap();
            assert_eq!(task.text(), reply.text(), "{label}");
        },
    );
    join_all(runs).await;
}
