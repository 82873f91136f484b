//! Errors that a server answers.

use std::time::Duration;

use payman_sdk::RedisTokenStore;

use crate::resp::{Answer, RespServer, ok};
use crate::{assert_store_failed, chain, client};

/// Errors of a server that cannot serve, though another one at this address may.
const WRONG_SERVER: [&str; 9] = [
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOREPLICAS Not enough good replicas to write.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "ERR Error running script (call to f_a): @user_script:3: -READONLY You can't write",
    "ERR Error running script (call to f_a): @user_script: 3: -LOADING Redis is loading",
];
const CLUSTER: [&str; 5] = [
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "CLUSTERDOWN Hash slot not served",
    "CLUSTERDOWN The cluster is down",
    "CROSSSLOT Keys in request don't hash to the same slot",
];
/// Errors that a new connection does not change.
const REFUSED: [&str; 7] = [
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
    "NOPERM User default has no permissions to run the 'evalsha' command",
    "ERR unknown command 'EVALSHA'",
    "ERR Error running script (call to f_a): @user_script:3: -OOM command not allowed",
];

#[tokio::test]
async fn the_connection_to_a_server_that_cannot_serve_is_made_anew() {
    for error in WRONG_SERVER.iter().chain(&CLUSTER) {
        let server = RespServer::reads(move |connection| match connection {
            1 => Answer::error(error),
            _ => Answer::token("stored"),
        })
        .await;
        let store = RedisTokenStore::new(server.url()).unwrap();
        let token = client(&store, "alice").access_token().await;
        let token = token.unwrap_or_else(|failed| panic!("{error}: {failed:?}"));
        assert_eq!(token.expose_secret(), "stored", "{error}");
        assert_eq!(server.connections(), 2, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_stays_unable_is_an_error_that_quotes_it() {
    for error in WRONG_SERVER.iter().chain(&CLUSTER) {
        let server = RespServer::reads(move |_| Answer::error(error)).await;
        let store = RedisTokenStore::new(server.url()).unwrap();
        let failed = client(&store, "alice").access_token().await.unwrap_err();
        assert_store_failed(&failed, error);
        let text = chain(&failed);
        // The client of Redis may write the code in its own way; the rest is the server's.
        let rest = error.rsplit('-').next().unwrap().split_once(' ').unwrap().1;
        assert!(text.contains(rest), "{error}: {text}");
        assert_eq!(
            text.contains("part of a cluster, which is not supported"),
            CLUSTER.contains(error),
            "{error}: {text}"
        );
        // Each call of the store is repeated once.
        assert!(server.connections() <= 4, "{error}: {}", server.connections());
    }
}

#[tokio::test]
async fn a_refused_call_keeps_the_connection() {
    for error in REFUSED {
        let server = RespServer::reads(move |_| Answer::error(error)).await;
        let store = RedisTokenStore::new(server.url()).unwrap();
        client(&store, "bob").access_token().await.unwrap_err();
        let failed = client(&store, "alice").access_token().await.unwrap_err();
        assert_store_failed(&failed, error);
        let rest = error.split_once(' ').unwrap().1;
        assert!(chain(&failed).contains(rest), "{error}: {}", chain(&failed));
        assert_eq!(server.connections(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_closes_is_made_anew() {
    let server = RespServer::reads(|connection| match connection {
        1 => Answer::Close,
        _ => Answer::token("stored"),
    })
    .await;
    let store = RedisTokenStore::new(server.url()).unwrap();
    let token = client(&store, "alice").access_token().await.unwrap();
    assert_eq!((token.expose_secret(), server.connections()), ("stored", 2));
}

/// Servers that turn a client away say so to its first command, then close the connection.
#[tokio::test]
async fn a_client_that_is_turned_away_comes_back() {
    for error in [
        "ERR max number of clients reached",
        "DENIED Redis is running in protected mode because protected mode is enabled",
        "NOAUTH HELLO must be called with the client already authenticated",
        "LOADING Redis is loading the dataset in memory",
    ] {
        for path in ["", "1"] {
            let away = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
            let is_away = std::sync::Arc::clone(&away);
            let server = RespServer::start(None, move |command| {
                let is_away = is_away.load(std::sync::atomic::Ordering::SeqCst);
                match (is_away, command.is_script()) {
                    (true, false) => Answer::error(error),
                    (true, true) => Answer::Close,
                    (false, true) => Answer::token("stored"),
                    (false, false) => ok(),
                }
            })
            .await;
            let store = RedisTokenStore::new(format!("{}{path}", server.url())).unwrap();
            let client = client(&store, "alice");
            let failed = client.access_token().await.unwrap_err();
            assert_store_failed(&failed, error);
            away.store(false, std::sync::atomic::Ordering::SeqCst);
            // A failure stands for a moment.
            tokio::time::sleep(Duration::from_millis(600)).await;
            let token = client.access_token().await;
            let token = token.unwrap_or_else(|failed| panic!("{error}: {failed:?}"));
            assert_eq!(token.expose_secret(), "stored", "{error}");
        }
    }
}

/// The server is a real cluster node without a slot.
#[tokio::test]
async fn a_real_cluster_is_refused() {
    let Ok(url) = std::env::var("PAYMAN_TEST_REDIS_CLUSTER_URL") else {
        eprintln!("skipped: PAYMAN_TEST_REDIS_CLUSTER_URL is not set; tests/redis/run sets it");
        return;
    };
    let store = RedisTokenStore::new(url).unwrap();
    let failed = client(&store, "alice").access_token().await.unwrap_err();
    assert_store_failed(&failed, "cluster");
    let text = chain(&failed);
    assert!(text.contains("part of a cluster, which is not supported"), "{text}");
}
