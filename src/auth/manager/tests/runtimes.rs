use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Hangs for ever the first time.
fn hangs_once() -> Arc<Script> {
    Script::new(|number, _| {
        Box::pin(async move {
            if number == 1 {
                std::future::pending::<()>().await;
            }
            rotated(number, 100)
        })
    })
}

#[test]
fn the_next_callers_runtime_takes_over_the_background_task() {
    let script = Script::at_once(|number| rotated(number, 1000));
    let manager = app(&script);
    let first = runtime();
    first.block_on(obtained(&manager));
    drop(first);
    let second = runtime();
    second.block_on(async {
        assert_eq!(obtained(&manager).await, "access-1");
        sleep(950 * SECOND).await;
        assert_eq!(script.count(), 2, "refreshed ahead of time, by the second runtime");
        assert_eq!(obtained(&manager).await, "access-2");
    });
}

#[test]
fn a_stalled_runtime_is_taken_over() {
    let script = Script::at_once(|number| rotated(number, 1000));
    let manager = app(&script);
    let first = runtime();
    first.block_on(obtained(&manager));
    // The runtime is not dropped, but no longer driven.
    let second = runtime();
    second.block_on(async {
        obtained(&manager).await;
        sleep(910 * SECOND).await;
        assert_eq!(script.count(), 1);
        obtained(&manager).await;
        sleep(SECOND).await;
        assert_eq!(script.count(), 2, "a caller saw that the refresh is late");
    });
    drop(first);
}

#[test]
fn an_exchange_whose_runtime_ends_does_not_block_later_callers() {
    let script = hangs_once();
    let manager = app(&script);
    let first = runtime();
    first.block_on(async {
        assert!(tokio::time::timeout(SECOND, manager.request_token()).await.is_err());
    });
    drop(first);
    runtime().block_on(async {
        let asked = Instant::now();
        assert_eq!(obtained(&manager).await, "access-2");
        assert_eq!(asked.elapsed(), Duration::ZERO);
    });
}

#[test]
fn waiters_start_another_refresh_when_its_runtime_ends() {
    let script = hangs_once();
    let manager = app(&script);
    let first = runtime();
    let started =
        first.block_on(async { tokio::time::timeout(SECOND, manager.request_token()).await });
    assert!(started.is_err());
    let second = runtime();
    let waiting = {
        let manager = manager.clone();
        second.spawn(async move { obtained(&manager).await })
    };
    second.block_on(async { sleep(SECOND).await });
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(second.block_on(waiting).unwrap(), "access-2");
}

#[test]
fn an_exchange_on_a_stalled_runtime_is_abandoned() {
    let script = hangs_once();
    let manager = app(&script);
    let first = runtime();
    let _ = first.block_on(async { tokio::time::timeout(SECOND, manager.request_token()).await });
    runtime().block_on(async {
        let asked = Instant::now();
        assert_eq!(obtained(&manager).await, "access-2");
        assert!(asked.elapsed() < 100 * SECOND);
    });
    drop(first);
}

#[test]
fn a_refresh_token_counts_as_spent_after_its_runtime_ended() {
    for (retry, answer) in [(true, Some("access-2")), (false, None)] {
        let script = hangs_once();
        let token = TokenInfo::refresh_only("refresh-0").into_token().unwrap();
        let manager = manager(&script, MemoryTokenStore::new(), Owner::User, token, retry);
        let first = runtime();
        let _ =
            first.block_on(async { tokio::time::timeout(SECOND, manager.request_token()).await });
        drop(first);
        runtime().block_on(async {
            match answer {
                Some(token) => assert_eq!(obtained(&manager).await, token),
                None => assert!(refused(&manager).await.is_reauthorization_required()),
            }
        });
    }
}

#[test]
fn a_token_obtained_as_the_runtime_ended_is_not_lost() {
    /// Never answers a commit on the first runtime.
    struct Slow(MemoryTokenStore, AtomicBool);
    impl TokenStore for Slow {
        fn load<'a>(
            &'a self,
            key: &'a TokenKey,
        ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
            self.0.load(key)
        }
        fn claim<'a>(
            &'a self,
            key: &'a TokenKey,
            generation: u64,
        ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
            self.0.claim(key, generation)
        }
        fn commit<'a>(
            &'a self,
            claim: &'a Claim,
            token: &'a StoredToken,
        ) -> BoxFuture<'a, Result<Committed, StoreError>> {
            if !self.1.swap(true, Ordering::Relaxed) {
                return Box::pin(std::future::pending());
            }
            self.0.commit(claim, token)
        }
    }
    let script = Script::at_once(|number| rotated(number, 1000));
    let store = MemoryTokenStore::new();
    let manager = user_on(
        &script,
        Slow(store.clone(), AtomicBool::new(false)),
        TokenInfo::refresh_only("refresh-0"),
    );
    let first = runtime();
    let _ = first.block_on(async { tokio::time::timeout(SECOND, manager.request_token()).await });
    drop(first);
    runtime().block_on(async {
        assert_eq!(obtained(&manager).await, "access-1");
        assert_eq!(script.count(), 1, "nothing was spent twice");
        let stored = store.load(&key(Owner::User)).await.unwrap().unwrap();
        assert_eq!(stored.refresh.unwrap().expose_secret(), "refresh-1");
    });
}
