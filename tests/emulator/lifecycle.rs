//! Starting and stopping.

use std::time::Duration;

use payman_sdk::{Emulator, ErrorKind, TaskId};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn a_drop_closes_the_port_and_what_is_open() {
    let peer = peer_of(Emulator::builder().agent_delay(Duration::from_secs(600))).await;
    let response = peer.subscribe(&TaskId::new(), "What's my balance?").await;
    let address = peer.emulator.base_url().strip_prefix("http://").unwrap().to_owned();
    drop(peer);
    assert!(response.text().await.is_err());
    let closed = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the port stays open");
}

#[test]
fn it_may_be_dropped_outside_its_runtime_and_after_it() {
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
async fn a_port_that_is_taken_is_an_error() {
    let first = Emulator::start().await.unwrap();
    let port = first.base_url().rsplit(':').next().unwrap().parse().unwrap();
    let error = Emulator::builder().port(port).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn http_2_with_prior_knowledge_on_the_same_port() {
    let mut peer = peer_of(Emulator::builder().agent_delay(Duration::from_millis(100))).await;
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).http2_prior_knowledge();
    peer.http = http.build().unwrap();
    let ids: Vec<_> = (0..300).map(|_| TaskId::new()).collect();
    let started = std::time::Instant::now();
    let streams = ids.iter().map(|id| async {
        let response = peer.subscribe(id, "What's my balance?").await;
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        events(&response.text().await.unwrap()).len()
    });
    let counts = futures::future::join_all(streams).await;
    assert!(counts.iter().all(|count| *count > 3));
    assert!(started.elapsed() < PATIENCE);

    // Faults break the connection there too.
    peer.emulator.fault(payman_sdk::emulator::Fault::close());
    assert!(
        peer.request("send", peer.params(&TaskId::new(), "What's my balance?"))
            .send()
            .await
            .is_err()
    );
    peer.emulator.fault(payman_sdk::emulator::Fault::cut(50));
    assert!(peer.subscribe(&TaskId::new(), "What's my balance?").await.text().await.is_err());
    assert!(peer.ask("What's my balance?").await.contains('$'));
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let builder = Emulator::builder().credentials("id", "hush");
    assert!(!format!("{builder:?}").contains("hush"));
    let emulator = builder.start().await.unwrap();
    assert!(!format!("{emulator:?}").contains("hush"));
}
