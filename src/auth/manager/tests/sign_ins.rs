//! The order of sign-ins, and faulty stores.

use super::*;
use crate::auth::clock::test_clock;

async fn stored(store: &MemoryTokenStore) -> StoredToken {
    store.load(&key(Owner::User)).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_during_an_outage_replaces_the_stored_one() {
    let store = Flaky::default();
    let old = user_on(
        &Script::at_once(|number| Ok(granted(number, 3600, Some("old-refresh")))),
        store.clone(),
        TokenInfo::refresh_only("old-0"),
    );
    for _ in 0..5 {
        old.refuse(old.request_token().await.unwrap().generation);
    }
    obtained(&old).await;
    let generation = old.status().generation();
    for failing in [&store.loads_fail, &store.commits_fail, &store.claims_fail] {
        failing.store(true, Ordering::Relaxed);
    }
    let script = Script::at_once(|_| Ok(granted(100, 3600, Some("new-refresh"))));
    let new = sign_in(&script, store.clone()).run("code".to_owned().into()).await.unwrap();
    assert!(new.status().is_store_behind() && new.status().generation() < generation);
    for failing in [&store.loads_fail, &store.commits_fail, &store.claims_fail] {
        failing.store(false, Ordering::Relaxed);
    }
    sleep(31 * SECOND).await;
    assert_eq!(stored(&store.store).await.refresh.unwrap().expose_secret(), "new-refresh");
    old.refuse(old.request_token().await.unwrap().generation);
    assert_eq!(obtained(&old).await, "access-100");
    assert_eq!(obtained(&new).await, "access-100");
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_stored_late_follows_the_sign_in_before_it() {
    let store = Flaky::default();
    let script = Script::at_once(|number| rotated(number, 3600));
    let old = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    for _ in 0..5 {
        old.refuse(old.request_token().await.unwrap().generation);
    }
    obtained(&old).await;
    let generation = old.status().generation();
    for failing in [&store.loads_fail, &store.commits_fail] {
        failing.store(true, Ordering::Relaxed);
    }
    let script = Script::at_once(|_| Ok(granted(100, 3600, Some("new-refresh"))));
    let new = sign_in(&script, store.clone()).run("code".to_owned().into()).await.unwrap();
    for failing in [&store.loads_fail, &store.commits_fail] {
        failing.store(false, Ordering::Relaxed);
    }
    sleep(31 * SECOND).await;
    assert!(!new.status().is_store_behind());
    // A holder of the sign-in before gets no claim, by which it would end that of a new holder.
    let claimed = store.store.claim(&key(Owner::User), generation).await.unwrap();
    assert!(matches!(claimed, Claimed::Newer(_)), "{claimed:?}");
    // A program that is still configured with the first refresh token takes up the new sign-in.
    let given = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    assert_eq!(obtained(&given).await, "access-100");
}

#[tokio::test(start_paused = true)]
async fn a_sign_out_is_not_undone_by_a_late_commit() {
    let store = Flaky::default();
    let script = Script::at_once(|number| rotated(number, 3600));
    let late = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    obtained(&late).await;
    store.commits_fail.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        late.refuse(late.request_token().await.unwrap().generation);
    }
    obtained(&late).await;
    store.commits_fail.store(false, Ordering::Relaxed);
    user_on(&script, store.store.clone(), TokenInfo::stored()).sign_out().await.unwrap();
    sleep(60 * SECOND).await;
    assert!(stored(&store.store).await.is_ended());
    sleep(7200 * SECOND).await;
    assert!(refused(&late).await.is_reauthorization_required());
    assert!(stored(&store.store).await.is_ended());
}

#[tokio::test(start_paused = true)]
async fn a_new_pair_in_code_is_a_newer_sign_in_and_an_old_one_is_not() {
    let store = MemoryTokenStore::new();
    let script = Script::at_once(|number| rotated(number, 3600));
    let first = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    first.refuse(first.request_token().await.unwrap().generation);
    assert_eq!(obtained(&first).await, "access-2");
    // Every earlier refresh token of this subject is known.
    for old in ["refresh-0", "refresh-1"] {
        let given =
            user_on(&script, store.clone(), TokenInfo::access("stale", SECOND).refresh(old));
        assert_eq!(obtained(&given).await, "access-2", "{old}");
    }
    let pair = TokenInfo::access("given", 3600 * SECOND).refresh("connected anew");
    let new = user_on(&script, store.clone(), pair);
    assert_eq!(obtained(&new).await, "given");
    let kept = stored(&store).await;
    assert_eq!(kept.refresh.as_ref().unwrap().expose_secret(), "connected anew");
    assert!(kept.sign_in() > 0);
    assert_eq!(obtained(&user_on(&script, store.clone(), TokenInfo::stored())).await, "given");
    let behind = user_on(&script, store, TokenInfo::refresh_only("refresh-2"));
    assert_eq!(obtained(&behind).await, "given", "the sign-in before is known too");
    assert_eq!(script.count(), 2);
}

/// A store whose answers take a while. Each load advances the wall clock, so that no two sign-ins
/// have the same number.
#[derive(Clone)]
struct SlowLoads(MemoryTokenStore, Arc<AtomicU32>);

impl TokenStore for SlowLoads {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async {
            let stored = self.0.load(key).await;
            sleep(SECOND / 10).await;
            test_clock::set_ahead(self.1.fetch_add(1, Ordering::Relaxed).into());
            stored
        })
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
        self.0.commit(claim, token)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.release(claim)
    }
}

#[tokio::test(start_paused = true)]
async fn holders_that_are_given_the_same_new_sign_in_spend_it_once() {
    let store = MemoryTokenStore::new();
    let script = Script::at_once(|number| rotated(number, 3600));
    obtained(&user_on(&script, store.clone(), TokenInfo::refresh_only("before"))).await;
    let script = Script::new(|number, _| {
        Box::pin(async move {
            sleep(SECOND).await;
            rotated(number + 10, 3600)
        })
    });
    let store = SlowLoads(store, Arc::default());
    let holders: Vec<_> =
        (0..4).map(|_| user_on(&script, store.clone(), TokenInfo::refresh_only("new"))).collect();
    for token in futures::future::join_all(holders.iter().map(obtained)).await {
        assert_eq!(token, "access-11");
    }
    test_clock::set_ahead(0);
    assert_eq!(script.secrets(), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_sign_in_is_known_after_any_number_of_renewals() {
    let store = MemoryTokenStore::new();
    let script = Script::at_once(|number| rotated(number, 3600));
    let program = || user_on(&script, store.clone(), TokenInfo::refresh_only("configured"));
    obtained(&program()).await;
    let new = sign_in(&script, store.clone()).run("code".to_owned().into()).await.unwrap();
    for _ in 0..100 {
        new.refuse(new.request_token().await.unwrap().generation);
    }
    let newest = obtained(&new).await;
    assert_eq!(newest, "access-102");
    assert_eq!(obtained(&program()).await, newest, "a restart with an old configuration");
    assert_eq!(script.count(), 102);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_stored_token_gets_the_error_of_a_failed_store() {
    let store = Flaky::default();
    store.loads_fail.store(true, Ordering::Relaxed);
    let script = Script::at_once(|number| rotated(number, 3600));
    let manager = user_on(&script, store.clone(), TokenInfo::stored());
    for _ in 0..3 {
        let error = refused(&manager).await;
        assert_eq!(error.kind(), ErrorKind::TokenStore);
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("disk"));
        assert!(!manager.status().is_reauthorization_required());
    }
    store.loads_fail.store(false, Ordering::Relaxed);
    assert!(refused(&manager).await.is_reauthorization_required());
}

#[tokio::test(start_paused = true)]
async fn an_unusable_access_token_does_not_lose_the_refresh_token() {
    for odd in ["a\nb", "\u{feff}a", "é", ""] {
        let script = Script::at_once(move |number| match number {
            1 => Ok(Granted {
                access: SecretString::from(odd),
                ..granted(1, 3600, Some("refresh-1"))
            }),
            _ => rotated(number, 3600),
        });
        let store = MemoryTokenStore::new();
        let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
        assert_eq!(refused(&manager).await.kind(), ErrorKind::Protocol);
        assert_eq!(stored(&store).await.refresh.unwrap().expose_secret(), "refresh-1");
        assert_eq!(obtained(&manager).await, "access-2");
        assert_eq!(script.secrets(), ["refresh-0", "refresh-1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_failure_counts_as_a_lost_reply_without_retries() {
    let script = Script::at_once(|_| fault(GrantFault::Failed));
    let token = TokenInfo::refresh_only("refresh-0").into_token().unwrap();
    let once = manager(&script, MemoryTokenStore::new(), Owner::User, token, false);
    assert!(refused(&once).await.is_reauthorization_required());
    assert!(refused(&once).await.is_reauthorization_required());
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stray_refusal_does_not_end_a_token_that_nothing_can_replace() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let manager = user(&script, TokenInfo::access("given", 3600 * SECOND));
    let token = manager.request_token().await.unwrap();
    manager.refuse(token.generation);
    assert!(refused(&manager).await.is_auth());
    assert_eq!(obtained(&manager).await, "given");
    assert_eq!(script.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_token_requests_is_limited_after_any_failure() {
    for failing in
        [None, Some(GrantFault::NotSent), Some(GrantFault::Refused), Some(GrantFault::Lost)]
    {
        let script = Script::at_once(move |number| match failing {
            Some(failing) => fault(failing),
            None => rotated(number, 3600),
        });
        let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
        let until = Instant::now() + 60 * SECOND;
        let callers = (0..50).map(|_| async {
            while Instant::now() < until {
                if let Ok(token) = manager.request_token().await {
                    manager.refuse(token.generation);
                }
                sleep(SECOND / 100).await;
            }
        });
        futures::future::join_all(callers).await;
        assert!(script.count() <= 140, "{failing:?}: {} requests in 60 s", script.count());
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_a_refresh_and_a_pending_commit() {
    let store = Flaky::default();
    let script = Script::after(5 * SECOND, |number| rotated(number, 3600));
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    assert!(tokio::time::timeout(SECOND, manager.request_token()).await.is_err());
    store.commits_fail.store(true, Ordering::Relaxed);
    let failing = Arc::clone(&store.commits_fail);
    tokio::spawn(async move {
        sleep(10 * SECOND).await;
        failing.store(false, Ordering::Relaxed);
    });
    manager.close().await;
    assert_eq!(stored(&store.store).await.refresh.unwrap().expose_secret(), "refresh-1");
    let again = Instant::now();
    manager.close().await;
    assert_eq!(again.elapsed(), Duration::ZERO);
    assert_eq!(obtained(&manager).await, "access-1");
    sleep(3590 * SECOND).await;
    assert_eq!(script.count(), 1, "no refresh in the background after closing");
}

#[tokio::test(start_paused = true)]
async fn closing_is_bounded() {
    let script = Script::new(|_, _| Box::pin(std::future::pending()));
    let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
    assert!(tokio::time::timeout(SECOND, manager.request_token()).await.is_err());
    let began = Instant::now();
    manager.close().await;
    assert!(began.elapsed() <= 36 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_by_the_wall_clock_too() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let manager = user(&script, TokenInfo::access("given", 600 * SECOND).refresh("refresh-0"));
    assert_eq!(obtained(&manager).await, "given");
    test_clock::set_ahead(601);
    assert!(manager.is_expired());
    assert_eq!(obtained(&manager).await, "access-1");
    test_clock::set_ahead(0);
}

/// A store in front of which the wall clock steps as soon as a claim is granted.
struct Stepping(MemoryTokenStore);

impl TokenStore for Stepping {
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
        Box::pin(async move {
            let claimed = self.0.claim(key, generation).await;
            test_clock::set_ahead(24 * 60 * 60);
            claimed
        })
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        self.0.commit(claim, token)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.release(claim)
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_ends_by_a_step_of_the_wall_clock_is_released() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let store = Stepping(MemoryTokenStore::new());
    let manager = user_on(&script, store, TokenInfo::refresh_only("refresh-0"));
    let began = Instant::now();
    assert_eq!(obtained(&manager).await, "access-1");
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    assert_eq!(script.secrets(), ["refresh-0"]);
    test_clock::set_ahead(0);
}

/// A store that does what no store should.
struct Broken(MemoryTokenStore, &'static str);

impl TokenStore for Broken {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        if self.1 == "panics in load" {
            return Box::pin(async { panic!("as the test says") });
        }
        self.0.load(key)
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        let newer = |generation| {
            let json = format!(r#"{{"generation":{generation},"issued_at":1,"expires_at":2}}"#);
            let token = StoredToken::from_json(&json).unwrap();
            Box::pin(std::future::ready(Ok(Claimed::Newer(token))))
        };
        match self.1 {
            "panics in claim" => panic!("as the test says"),
            "older" => newer(0),
            "near the top" => newer(u64::MAX),
            "at the top of doubles" => newer(1 << 53),
            "holds for ever" => {
                Box::pin(std::future::ready(Ok(Claimed::Held(Duration::from_secs(1 << 40)))))
            }
            _ => self.0.claim(key, generation),
        }
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        self.0.commit(claim, token)
    }
}

#[tokio::test(start_paused = true)]
async fn inconsistent_answers_of_a_store_are_token_store_errors() {
    for fault in
        ["panics in load", "panics in claim", "older", "near the top", "at the top of doubles"]
    {
        let script = Script::at_once(|_| panic!("nothing may be spent"));
        let token = if fault == "panics in load" {
            TokenInfo::stored()
        } else {
            TokenInfo::refresh_only("refresh-0")
        };
        let manager = user_on(&script, Broken(MemoryTokenStore::new(), fault), token);
        let error = refused(&manager).await;
        assert_eq!(error.kind(), ErrorKind::TokenStore, "{fault}: {error:?}");
        assert!(error.to_string().contains("token store"), "{fault}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_another_holders_claim_ends_at_the_deadline() {
    let script = Script::at_once(|_| panic!("nothing may be spent"));
    let store = Broken(MemoryTokenStore::new(), "holds for ever");
    let manager = user_on(&script, store, TokenInfo::refresh_only("refresh-0"));
    let began = Instant::now();
    let error = refused(&manager).await;
    assert!(error.to_string().contains("another holder"), "{error}");
    assert!(began.elapsed() < 200 * SECOND, "{:?}", began.elapsed());
    let until = Instant::now() + 5 * SECOND;
    let error = manager.request_token_until(until).await.unwrap_err();
    assert!(error.to_string().contains("another holder"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn lookups_and_refusals_do_not_fill_the_store() {
    let store = MemoryTokenStore::new();
    let user_key = |n: usize| {
        TokenKey::new(Owner::User, "client-id", "http://127.0.0.1:1", &format!("user {n}"))
    };
    for n in 0..1000 {
        assert!(store.load(&user_key(n)).await.unwrap().is_none());
    }
    assert_eq!(store.len(), 0);
    let script = Script::at_once(|_| fault(GrantFault::GrantDead));
    for n in 0..400 {
        let exchange: Arc<dyn Exchange> = Arc::<Script>::clone(&script);
        let token = TokenInfo::refresh_only(format!("bad {n}")).into_token().unwrap();
        let store: Arc<dyn TokenStore> = Arc::new(store.clone());
        let options = options(Owner::User, 1);
        let manager = TokenManager::with_rate(options, exchange, store, rate(user_key(n)), token);
        assert!(refused(&manager).await.is_reauthorization_required());
    }
    assert!(store.len() <= 128, "{}", store.len());
}
