use super::*;

fn hour() -> Arc<Script> {
    Script::at_once(|number| Ok(granted(number, 3600, None)))
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_causes_no_exchange_and_no_copy() {
    let script = hour();
    let manager = app(&script);
    let first = manager.request_token().await.unwrap();
    for _ in 0..1000 {
        let again = manager.request_token().await.unwrap();
        assert_eq!(
            again.header.as_bytes().as_ptr(),
            first.header.as_bytes().as_ptr(),
            "the header is shared"
        );
        assert!(again.header.is_sensitive());
    }
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_at_expiry_cause_one_exchange() {
    // Only the first token needs no refresh ahead of time, so that all are there when it expires.
    let script = Script::new(|number, _| {
        Box::pin(async move {
            sleep(SECOND).await;
            if number == 2 {
                sleep(20 * SECOND).await;
            }
            Ok(granted(number, 60, None))
        })
    });
    let manager = app(&script);
    assert_eq!(obtained(&manager).await, "access-1");
    // The background refresh began at 48 to 54 s and is still in progress at 60 s.
    sleep(60 * SECOND).await;
    let tokens =
        concurrently(&manager, 10_000, |manager| async move { obtained(&manager).await }).await;
    assert_eq!(tokens.iter().find(|token| *token != "access-2"), None);
    assert_eq!(script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_first_callers_cause_one_exchange() {
    let script = Script::after(SECOND, |number| Ok(granted(number, 3600, None)));
    let manager = app(&script);
    let tokens =
        concurrently(&manager, 10_000, |manager| async move { obtained(&manager).await }).await;
    assert_eq!(tokens.iter().find(|token| *token != "access-1"), None);
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_background_task_refreshes_in_time() {
    for (lifetime, earliest, latest) in
        [(3600, 2880, 3240), (600, 480, 540), (300, 240, 240), (100, 80, 90), (4, 3, 4)]
    {
        let script = Script::at_once(move |number| Ok(granted(number, lifetime, None)));
        let manager = app(&script);
        let began = Instant::now();
        obtained(&manager).await;
        sleep(Duration::from_secs(lifetime as u64) - SECOND / 100).await;
        let asked = script.asked();
        assert_eq!(asked.len(), 2, "lifetime {lifetime}");
        let at = asked[1].at - began;
        let margin = Duration::from_millis(20);
        assert!(
            at + margin >= Duration::from_secs(earliest)
                && at <= Duration::from_secs(latest) + margin,
            "{lifetime}: {at:?}"
        );
        assert_eq!(obtained(&manager).await, "access-2");
    }
}

#[tokio::test(start_paused = true)]
async fn all_callers_use_the_old_token_during_a_refresh() {
    let script = Script::new(|number, _| {
        Box::pin(async move {
            sleep(if number == 1 { Duration::ZERO } else { 25 * SECOND }).await;
            Ok(granted(number, 100, None))
        })
    });
    let manager = app(&script);
    obtained(&manager).await;
    sleep(91 * SECOND).await;
    assert_eq!(script.count(), 2, "the refresh is in progress");
    let asked = Instant::now();
    assert_eq!(obtained(&manager).await, "access-1");
    assert_eq!(asked.elapsed(), Duration::ZERO, "callers do not wait");
    sleep(10 * SECOND).await;
    assert_eq!(obtained(&manager).await, "access-2", "at expiry, callers wait for it");
    assert_eq!(script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn odd_lifetimes_cause_no_busy_loop() {
    for seconds in [0, -1, i64::MIN] {
        let script = Script::at_once(move |number| Ok(granted(number, seconds, None)));
        let manager = app(&script);
        assert_eq!(obtained(&manager).await, "access-1", "callers that waited for it get it");
        assert!(manager.is_expired());
        sleep(3600 * SECOND).await;
        assert_eq!(script.count(), 1, "no further request without a caller");
        assert_eq!(obtained(&manager).await, "access-2");
        assert_eq!(script.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn absurdly_long_lifetimes_are_capped() {
    let script = Script::at_once(|number| Ok(granted(number, i64::MAX, None)));
    let manager = app(&script);
    obtained(&manager).await;
    assert!(
        manager.access_token().await.unwrap().expires_in()
            > Duration::from_secs(9 * 365 * 24 * 3600)
    );
    assert!(manager.status().expires_at().is_some());
    sleep(365 * 24 * 3600 * SECOND).await;
    assert_eq!(obtained(&manager).await, "access-1");
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn tokens_with_lifetimes_of_seconds_are_kept_fresh() {
    let script = Script::at_once(|number| Ok(granted(number, 2, None)));
    let manager = app(&script);
    let began = Instant::now();
    while began.elapsed() < 60 * SECOND {
        let asked = Instant::now();
        obtained(&manager).await;
        assert_eq!(asked.elapsed(), Duration::ZERO);
        sleep(SECOND / 10).await;
    }
    // One in 1.6 to 1.8 s.
    assert!((33..=39).contains(&script.count()), "{}", script.count());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_caller_does_not_stop_the_refresh() {
    let script = Script::after(10 * SECOND, |number| Ok(granted(number, 3600, None)));
    let manager = app(&script);
    let caller = tokio::time::timeout(SECOND, manager.request_token()).await;
    assert!(caller.is_err(), "the caller was dropped");
    sleep(10 * SECOND).await;
    assert!(!manager.is_expired());
    assert_eq!(obtained(&manager).await, "access-1");
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_client_loses_nothing() {
    let script = Script::after(10 * SECOND, |number| rotated(number, 3600));
    let store = MemoryTokenStore::new();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    let _ = tokio::time::timeout(SECOND, manager.request_token()).await;
    drop(manager);
    sleep(10 * SECOND).await;
    let stored = store.load(&key(Owner::User)).await.unwrap().expect("it is stored");
    assert_eq!(stored.refresh.unwrap().expose_secret(), "refresh-1");
}

#[tokio::test(start_paused = true)]
async fn the_background_task_ends_with_the_last_client() {
    let script = hour();
    let manager = app(&script);
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    obtained(&manager).await;
    sleep(SECOND).await;
    assert_eq!(alive(), 1);
    let clone = manager.clone();
    drop(manager);
    sleep(SECOND).await;
    assert_eq!(alive(), 1);
    drop(clone);
    sleep(SECOND).await;
    assert_eq!(alive(), 0);
    sleep(2 * 3600 * SECOND).await;
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_lifetime_counts_from_the_start_of_the_request() {
    let script = Script::after(8 * SECOND, |number| Ok(granted(number, 100, None)));
    let manager = app(&script);
    let token = manager.access_token().await.unwrap();
    assert_eq!(token.expires_in(), 92 * SECOND);
    // The wall clock is not paused: it has hardly moved.
    assert!(token.expires_at() <= std::time::SystemTime::now() + 100 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_only_for_the_token_that_was_sent() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let manager = user(&script, TokenInfo::access("given", 3600 * SECOND).refresh("refresh-0"));
    let first = manager.request_token().await.unwrap();
    manager.refuse(first.generation);
    assert!(manager.is_expired());
    let second = manager.request_token().await.unwrap();
    assert_eq!(second.header, "access-1");
    // Others who sent the first one come back late.
    for _ in 0..100 {
        manager.refuse(first.generation);
        assert_eq!(obtained(&manager).await, "access-1");
    }
    assert_eq!(script.count(), 1);
    manager.refuse(second.generation);
    assert_eq!(obtained(&manager).await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn many_refused_callers_cause_one_refresh() {
    let script = Script::after(SECOND, |number| rotated(number, 3600));
    let manager = user(&script, TokenInfo::access("given", 3600 * SECOND).refresh("refresh-0"));
    let headers = concurrently(&manager, 1000, |manager| async move {
        let token = manager.request_token().await.unwrap();
        tokio::task::yield_now().await;
        manager.refuse(token.generation);
        manager.request_token().await.unwrap().header
    })
    .await;
    assert_eq!(headers.iter().find(|header| *header != "access-1"), None);
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_status_reports_validity_source_and_failures() {
    let script = hour();
    let manager = app(&script);
    let status = manager.status();
    assert!(!status.is_usable() && status.expires_at().is_none() && status.generation() == 0);
    obtained(&manager).await;
    let status = manager.status();
    assert!(
        status.is_usable() && !status.is_store_behind() && !status.is_reauthorization_required()
    );
    assert_eq!((status.generation(), status.source()), (1, TokenSource::ClientCredentials));
    let scopes: Vec<_> = status.scopes().iter().map(ToString::to_string).collect();
    assert_eq!(scopes, ["read_balance", "new_scope"]);
    assert!(status.last_failure().is_none());
    let left = status.expires_at().unwrap().duration_since(std::time::SystemTime::now()).unwrap();
    assert!(left > 3590 * SECOND && left <= 3600 * SECOND, "{left:?}");
}
