//! Tests pooled connections that are closed just before they are reused, and servers that refuse
//! connections.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use payman_sdk::emulator::Decimal;
use payman_sdk::{Ask, Client, Config, Emulator, ErrorKind, RetryPolicy, TokenInfo};

use crate::common::proxy::{AfterReply, FaultPolicy, Proxy, RequestAction};

/// The first connection ends as configured; later connections serve one request.
struct FirstConnection(AfterReply, AtomicUsize);

impl FaultPolicy for FirstConnection {
    fn reset_request_after(&self, _: usize) -> Option<usize> {
        None
    }

    fn request_action(&self, _: &str) -> RequestAction {
        RequestAction::Forward
    }

    fn after_reply(&self) -> AfterReply {
        if self.1.fetch_add(1, Ordering::SeqCst) == 0 { self.0 } else { AfterReply::Close }
    }
}

fn client(url: &str) -> Client {
    let config = Config::new("client-id")
        .base_url(url)
        .deadline(Duration::from_secs(20))
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_millis(500)));
    Client::with_token(config, TokenInfo::access("access-token", Duration::from_secs(3600)))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_connection_that_closes_before_its_reuse_causes_no_double_payment() {
    let emulator = Emulator::builder().accept_any_token().start().await.unwrap();
    emulator.client().ask("Create a payee named Tyllen").await.unwrap();
    let totals: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let mut cents = 10_000;
    for round in 0..30u64 {
        let wait = Duration::from_micros(100 * round);
        for after_reply in
            [AfterReply::CloseIdle(wait), AfterReply::ResetIdle(wait), AfterReply::ResetNext]
        {
            for streamed in [false, true] {
                cents += 1;
                let proxy = Proxy::start(
                    emulator.base_url(),
                    FirstConnection(after_reply, AtomicUsize::new(0)),
                )
                .await;
                let client = client(&proxy.url);
                client.ask("List all payees").await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
                let ask = Ask::new(format!("Pay Tyllen ${}", Decimal::new(cents, 2)));
                let id = ask.task_id().clone();
                let result = match streamed {
                    true => async { client.ask_stream(ask).await?.into_reply().await }.await,
                    false => client.ask(ask).await,
                };
                let state = emulator.state();
                let mut paid: HashMap<_, usize> = HashMap::new();
                for payment in
                    state.payments.iter().filter(|payment| payment.amount == Decimal::new(cents, 2))
                {
                    *paid.entry(payment.task_id.clone()).or_default() += 1;
                }
                let times: usize = paid.values().sum();
                let outcome = match result {
                    Ok(_) => {
                        assert_eq!(times, 1);
                        "complete"
                    }
                    Err(error) => {
                        assert!(
                            error.is_outcome_unknown() && error.task_id() == Some(&id),
                            "{error:?}"
                        );
                        assert_eq!(times, 0, "the ask reached the emulator");
                        "unknown"
                    }
                };
                let kind = format!("{after_reply:?}").split('(').next().unwrap().to_owned();
                *totals.lock().unwrap().entry(format!("{kind}: {outcome}")).or_default() += 1;
            }
        }
    }
    println!("{:?}", totals.lock().unwrap());
}

#[tokio::test]
async fn a_refused_connection_is_safe_to_ask_again() {
    // A bound socket that does not listen refuses connections, and reserves the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let client = client(&url);
    for error in [client.ask("hi").await.unwrap_err(), client.ask_stream("hi").await.err().unwrap()]
    {
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(
            error.is_safe_to_ask_again()
                && !error.is_outcome_unknown()
                && error.task_id().is_some()
        );
    }
}
