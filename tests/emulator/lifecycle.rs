//! Tests the start and the end of an emulator.

use std::time::Duration;

use payman_sdk::{Emulator, ErrorKind, TaskId};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn dropping_closes_the_port_and_open_connections() {
    let client = start_with(Emulator::builder().agent_delay(Duration::from_secs(600))).await;
    let response = client.subscribe(&TaskId::new(), "What's my balance?").await;
    let address = client.emulator.base_url().strip_prefix("http://").unwrap().to_owned();
    drop(client);
    assert!(response.text().await.is_err());
    let closed = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, closed).await.expect("the port stays open");
}

#[test]
fn dropping_works_outside_the_runtime_and_after_it() {
    for keep_runtime in [true, false] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let emulator = runtime.block_on(Emulator::start()).unwrap();
        if keep_runtime {
            drop(emulator);
            drop(runtime);
        } else {
            drop(runtime);
            drop(emulator);
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let first = Emulator::start().await.unwrap();
    let port = first.base_url().rsplit(':').next().unwrap().parse().unwrap();
    let error = Emulator::builder().port(port).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn http_2_with_prior_knowledge_works_on_the_same_port() {
    let mut client = start_with(Emulator::builder().agent_delay(Duration::from_millis(100))).await;
    let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).http2_prior_knowledge();
    client.http = http.build().unwrap();
    let ids: Vec<_> = (0..300).map(|_| TaskId::new()).collect();
    let started = std::time::Instant::now();
    let streams = ids.iter().map(|id| async {
        let response = client.subscribe(id, "What's my balance?").await;
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        events(&response.text().await.unwrap()).len()
    });
    let counts = futures::future::join_all(streams).await;
    assert!(counts.iter().all(|count| *count > 3));
    assert!(started.elapsed() < TIMEOUT);

    // Faults apply to HTTP/2 connections too.
    client.emulator.fault(payman_sdk::emulator::Fault::close());
    assert!(
        client
            .request("send", client.params(&TaskId::new(), "What's my balance?"))
            .send()
            .await
            .is_err()
    );
    client.emulator.fault(payman_sdk::emulator::Fault::cut(50));
    assert!(client.subscribe(&TaskId::new(), "What's my balance?").await.text().await.is_err());
    assert!(client.ask("What's my balance?").await.contains('$'));
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let builder = Emulator::builder().credentials("id", "hush");
    assert!(!format!("{builder:?}").contains("hush"));
    let emulator = builder.start().await.unwrap();
    assert!(!format!("{emulator:?}").contains("hush"));
}
