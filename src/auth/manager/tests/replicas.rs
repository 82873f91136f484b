use super::*;

fn rotating() -> Arc<Script> {
    Script::at_once(|number| rotated(number, 100))
}

#[tokio::test(start_paused = true)]
async fn the_newest_generation_replaces_a_token_given_in_code() {
    let store = MemoryTokenStore::new();
    let script = rotating();
    let one = user_on(
        &script,
        store.clone(),
        TokenInfo::access("given", 1000 * SECOND).refresh("refresh-0"),
    );
    one.refuse(one.request_token().await.unwrap().generation);
    assert_eq!(obtained(&one).await, "access-1");
    // A replica that starts late, with the token that was originally given in code.
    let other = user_on(
        &script,
        store.clone(),
        TokenInfo::access("given", 1000 * SECOND).refresh("refresh-0"),
    );
    assert_eq!(obtained(&other).await, "access-1");
    assert_eq!(other.refresh_token().unwrap().expose_secret(), "refresh-1");
    let third = user_on(&script, store, TokenInfo::stored());
    assert_eq!(obtained(&third).await, "access-1");
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn eight_holders_spend_each_refresh_token_once() {
    let store = MemoryTokenStore::new();
    let script = Script::new(|number, grant| {
        Box::pin(async move {
            sleep(Duration::from_millis(300)).await;
            let Grant::Refresh(spent) = grant else { panic!("users refresh") };
            assert_eq!(
                spent.expose_secret(),
                format!("refresh-{}", number - 1),
                "the newest, once"
            );
            rotated(number, 5)
        })
    });
    let holders: Vec<_> = (0..8)
        .map(|_| user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0")))
        .collect();
    let began = Instant::now();
    while began.elapsed() < 300 * SECOND {
        let tokens = futures::future::join_all(holders.iter().map(obtained)).await;
        assert_eq!(tokens.len(), 8);
        sleep(SECOND / 4).await;
    }
    // A new token every 4 to 4.5 s.
    assert!((60..=80).contains(&script.count()), "{}", script.count());
}

#[tokio::test(start_paused = true)]
async fn a_holder_waits_for_the_commit_of_another() {
    let store = MemoryTokenStore::new();
    let script = rotating();
    let Claimed::Granted(claim) = store.claim(&key(Owner::User), 0).await.unwrap() else {
        panic!("it is free")
    };
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { obtained(&manager).await }
    });
    sleep(20 * SECOND).await;
    assert!(!waiting.is_finished());
    let mut token =
        TokenInfo::access("theirs", 100 * SECOND).refresh("their-refresh").into_token().unwrap();
    token.generation = 1;
    token.seed = Some(crate::auth::store::fingerprint(&"refresh-0".to_owned().into()));
    store.commit(&claim, &token.to_stored()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "theirs");
    assert_eq!(script.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_expired_claim_is_taken_over_as_a_lost_reply() {
    for (retry, spends) in [(true, 1), (false, 0)] {
        let store = MemoryTokenStore::new();
        let script = rotating();
        let Claimed::Granted(_) = store.claim(&key(Owner::User), 0).await.unwrap() else {
            panic!("it is free")
        };
        let token = TokenInfo::refresh_only("refresh-0").into_token().unwrap();
        let manager = manager(&script, store, Owner::User, token, retry);
        let asked = Instant::now();
        let outcome = manager.request_token().await;
        assert!(asked.elapsed() >= Claim::LEASE, "{:?}", asked.elapsed());
        assert_eq!(outcome.is_ok(), retry);
        assert!(outcome.err().is_none_or(|error| error.is_reauthorization_required()));
        assert_eq!(script.count(), spends);
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_longer_than_two_exchanges() {
    assert!(Claim::LEASE > 2 * crate::auth::grant::EXCHANGE_LIMIT);
    // Replies that take their whole time limit, and are lost: no second holder gets in between.
    let store = MemoryTokenStore::new();
    let under_way = Arc::new(AtomicU32::new(0));
    let script = {
        let under_way = Arc::clone(&under_way);
        Script::new(move |number, _| {
            let under_way = Arc::clone(&under_way);
            Box::pin(async move {
                assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0, "concurrent spends");
                sleep(30 * SECOND).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                if number < 2 { fault(GrantFault::Lost) } else { rotated(number, 1000) }
            })
        })
    };
    let holders: Vec<_> = (0..3)
        .map(|_| user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0")))
        .collect();
    for outcome in futures::future::join_all(holders.iter().map(TokenManager::request_token)).await
    {
        assert_eq!(outcome.unwrap().header, "access-2");
    }
    assert_eq!(script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_token_is_not_spent_by_the_other_holders() {
    let store = MemoryTokenStore::new();
    let script = Script::at_once(|_| fault(GrantFault::GrantDead));
    for _ in 0..8 {
        let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
        assert!(refused(&manager).await.is_reauthorization_required());
    }
    assert_eq!(script.count(), 1);
    // The user connected again: the token given in code is of another sign-in.
    let script = rotating();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("new"));
    assert_eq!(obtained(&manager).await, "access-1");
    let other = user_on(&script, store, TokenInfo::refresh_only("refresh-0"));
    assert_eq!(obtained(&other).await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_stored_before_it_is_used() {
    let store = Flaky::default();
    let script = rotating();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    let used = obtained(&manager).await;
    let stored = store.store.load(&key(Owner::User)).await.unwrap().unwrap();
    assert_eq!(stored.access.unwrap().expose_secret(), used);
    assert_eq!(store.commits.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pending_commit_is_used_retried_and_reported() {
    let store = Flaky::default();
    store.commits_fail.store(true, Ordering::Relaxed);
    let script = rotating();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    assert_eq!(obtained(&manager).await, "access-1");
    let status = manager.status();
    assert!(status.is_store_behind());
    assert_eq!(status.last_failure().unwrap().kind(), ErrorKind::TokenStore);
    sleep(30 * SECOND).await;
    let attempts = store.commits.load(Ordering::Relaxed);
    assert!((4..100).contains(&attempts), "{attempts}");
    store.commits_fail.store(false, Ordering::Relaxed);
    sleep(31 * SECOND).await;
    assert!(!manager.status().is_store_behind());
    let stored = store.store.load(&key(Owner::User)).await.unwrap().unwrap();
    assert_eq!(stored.refresh.unwrap().expose_secret(), "refresh-1");
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pending_commit_is_retried_after_the_last_client_is_dropped() {
    let store = Flaky::default();
    store.commits_fail.store(true, Ordering::Relaxed);
    let manager = user_on(&rotating(), store.clone(), TokenInfo::refresh_only("refresh-0"));
    obtained(&manager).await;
    drop(manager);
    sleep(60 * SECOND).await;
    store.commits_fail.store(false, Ordering::Relaxed);
    sleep(31 * SECOND).await;
    assert!(store.store.load(&key(Owner::User)).await.unwrap().is_some());
    sleep(SECOND).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_claim_a_users_refresh_token_is_not_spent() {
    let store = Flaky::default();
    store.claims_fail.store(true, Ordering::Relaxed);
    store.loads_fail.store(true, Ordering::Relaxed);
    let script = rotating();
    let manager = user_on(
        &script,
        store.clone(),
        TokenInfo::access("given", 100 * SECOND).refresh("refresh-0"),
    );
    assert_eq!(
        obtained(&manager).await,
        "given",
        "a failed store does not invalidate a given token"
    );
    sleep(101 * SECOND).await;
    assert_eq!(refused(&manager).await.kind(), ErrorKind::TokenStore);
    assert_eq!(script.count(), 0);
    store.claims_fail.store(false, Ordering::Relaxed);
    assert_eq!(obtained(&manager).await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn an_app_works_while_its_store_fails() {
    let store = Flaky::default();
    for failing in [&store.claims_fail, &store.loads_fail, &store.commits_fail] {
        failing.store(true, Ordering::Relaxed);
    }
    let script = rotating();
    let manager = app_on(&script, store.clone());
    for _ in 0..50 {
        obtained(&manager).await;
        sleep(20 * SECOND).await;
    }
    assert!(manager.status().is_store_behind());
    assert!(script.asked().iter().all(|asked| asked.grant == "client_credentials"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_token_was_not_spent_is_released() {
    let store = MemoryTokenStore::new();
    let down = Script::at_once(|_| fault(GrantFault::NotSent));
    let manager = user_on(&down, store.clone(), TokenInfo::refresh_only("refresh-0"));
    assert!(refused(&manager).await.is_connect());
    let other = user_on(&rotating(), store, TokenInfo::refresh_only("refresh-0"));
    let asked = Instant::now();
    assert_eq!(obtained(&other).await, "access-1");
    assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_is_used_by_the_next_run() {
    let store = MemoryTokenStore::new();
    let script = rotating();
    obtained(&app_on(&script, store.clone())).await;
    let next = app_on(&script, store);
    assert_eq!(obtained(&next).await, "access-1");
    assert_eq!(next.status().source(), TokenSource::Store);
    assert_eq!(script.count(), 1);
}
