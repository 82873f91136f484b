//! Servers that accept no connection, or answer nothing on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use payman_sdk::{RedisTokenStore, TokenInfo};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, pause, sleep, timeout};

use crate::resp::{Answer, RespServer, ok};
use crate::{assert_store_failed, client, client_with};

/// The time limit of connecting, with the inaccuracy of the timer.
const CONNECT_LIMIT: Duration = Duration::from_millis(3100);

/// Returns a server that closes its connections and answers nothing any more once it hangs.
async fn server_that_hangs() -> (RespServer, Arc<AtomicBool>) {
    let hangs = Arc::new(AtomicBool::new(false));
    let is_hanging = Arc::clone(&hangs);
    let server = RespServer::start(None, move |command| {
        match (is_hanging.load(Ordering::SeqCst), command.is_script()) {
            (true, true) => Answer::Close,
            (true, false) => Answer::Silence,
            (false, true) => Answer::token("stored"),
            (false, false) => ok(),
        }
    })
    .await;
    (server, hangs)
}

#[tokio::test]
async fn a_server_that_hangs_blocks_nobody_who_has_a_token() {
    let (server, hangs) = server_that_hangs().await;
    let store = RedisTokenStore::new(server.url()).unwrap();
    let (alice, bob) = (client(&store, "alice"), client(&store, "bob"));
    alice.access_token().await.unwrap();
    hangs.store(true, Ordering::SeqCst);

    let asking = tokio::spawn({
        let bob = bob.clone();
        async move { bob.access_token().await }
    });
    let connecting = async {
        while server.connections() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), connecting).await.expect("bob does not connect anew");
    // The clock is paused, so waits for the server do not end.
    pause();
    let asked = Instant::now();
    let token = timeout(Duration::ZERO, alice.access_token()).await.expect("it is blocked");
    assert_eq!(token.unwrap().expose_secret(), "stored");
    assert!(alice.token_status().is_usable() && !bob.token_status().is_usable());
    assert!(bob.is_access_token_expired() && bob.refresh_token().is_none());
    assert_eq!(asked.elapsed(), Duration::ZERO);

    let failed = asking.await.unwrap().unwrap_err();
    assert_store_failed(&failed, "bob");
    assert!(asked.elapsed() <= CONNECT_LIMIT, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn many_subjects_wait_for_one_attempt_and_no_longer_than_it_lasts() {
    let (server, hangs) = server_that_hangs().await;
    hangs.store(true, Ordering::SeqCst);
    let store = RedisTokenStore::new(server.url()).unwrap();
    let mut clients: Vec<_> = (0..100).map(|n| client(&store, &format!("user {n}"))).collect();
    // One that has a refresh token claims after it could not read.
    clients.push(client_with(&store, "carol", TokenInfo::refresh_only("refresh")));
    pause();
    let asked = Instant::now();
    for failed in join_all(clients.iter().map(|client| client.access_token())).await {
        assert_store_failed(&failed.unwrap_err(), "hangs");
    }
    assert!(asked.elapsed() <= CONNECT_LIMIT, "{:?}", asked.elapsed());
    assert_eq!(server.connections(), 1);

    // A canceled caller neither cancels the others nor restarts the attempt.
    let first = tokio::spawn({
        let client = clients[0].clone();
        async move { client.access_token().await }
    });
    sleep(Duration::from_secs(1)).await;
    first.abort();
    let asked = Instant::now();
    assert_store_failed(&clients[1].access_token().await.unwrap_err(), "after one who left");
    assert!(asked.elapsed() <= CONNECT_LIMIT, "{:?}", asked.elapsed());
    sleep(Duration::from_secs(1)).await;
    tokio::time::resume();

    hangs.store(false, Ordering::SeqCst);
    for token in join_all(clients.iter().map(|client| client.access_token())).await {
        assert_eq!(token.unwrap().expose_secret(), "stored");
    }
}

/// The listener's queue is full, so the client's SYN is not answered.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_accepts_nothing_is_given_up_at_the_connect_limit() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(accepted) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        queue.push(accepted.unwrap());
        assert!(queue.len() < 1000, "the queue of the listener does not fill up");
    }
    let store = RedisTokenStore::new(format!("redis://{address}/")).unwrap();
    let clients: Vec<_> = (0..20).map(|n| client(&store, &format!("user {n}"))).collect();
    pause();
    let asked = Instant::now();
    for failed in join_all(clients.iter().map(|client| client.access_token())).await {
        assert_store_failed(&failed.unwrap_err(), "no SYN is answered");
    }
    assert!(asked.elapsed() <= CONNECT_LIMIT, "{:?}", asked.elapsed());
}

/// An attempt belongs to the runtime that drives it.
#[test]
fn an_attempt_on_a_runtime_that_stands_still_is_not_waited_for() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (servers, first, second) = (runtime(), runtime(), runtime());
    let server = servers.block_on(RespServer::start(None, |command| {
        match (command.connection, command.is_script()) {
            (1, _) => Answer::Silence,
            (_, true) => Answer::token("stored"),
            (_, false) => ok(),
        }
    }));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || servers.block_on(ended));
    let store = RedisTokenStore::new(server.url()).unwrap();
    let (alice, bob) = (client(&store, "alice"), client(&store, "bob"));
    first.block_on(async {
        let asking = timeout(Duration::from_millis(200), alice.access_token());
        assert!(asking.await.is_err(), "the first connection is answered");
    });
    // Nobody drives the first runtime any more.
    let token = second.block_on(async {
        timeout(Duration::from_secs(2), bob.access_token()).await.expect("it waits")
    });
    assert_eq!(token.unwrap().expose_secret(), "stored");
    drop((first, end));
    serving.join().unwrap().unwrap_err();
}
