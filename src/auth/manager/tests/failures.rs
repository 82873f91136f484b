use super::*;

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_backs_off_and_callers_get_no_error_while_the_token_is_valid() {
    let script = Script::at_once(|number| match number {
        1 => Ok(granted(number, 1000, None)),
        _ => fault(GrantFault::NotSent),
    });
    let manager = app(&script);
    obtained(&manager).await;
    sleep(999 * SECOND).await;
    assert_eq!(obtained(&manager).await, "access-1");
    let attempts = script.count();
    // At most 200 s of attempts, three in each refresh, with growing waits.
    assert!((6..=150).contains(&attempts), "{attempts}");
    assert!(
        manager.status().last_failure().is_some_and(|failure| failure.kind() == ErrorKind::Connect)
    );
    sleep(2 * SECOND).await;
    let error = refused(&manager).await;
    assert!(error.is_connect(), "{error:?}");
    assert!(error.to_string().contains("as the script says"), "the cause is told: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_is_repeated_later() {
    let script = Script::at_once(|number| match number {
        2..=9 => fault(GrantFault::Busy),
        _ => Ok(granted(number, 600, None)),
    });
    let manager = app(&script);
    obtained(&manager).await;
    sleep(598 * SECOND).await;
    assert_eq!(obtained(&manager).await, "access-10");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_sent_is_repeated() {
    let script = Script::at_once(|number| match number {
        1 | 2 => fault(GrantFault::NotSent),
        _ => rotated(number, 3600),
    });
    let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
    assert_eq!(obtained(&manager).await, "access-3");
    assert_eq!(script.secrets(), ["refresh-0"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ends_after_three_attempts_and_the_next_caller_starts_another() {
    let script = Script::at_once(|number| match number {
        1..=3 => fault(GrantFault::NotSent),
        _ => rotated(number, 3600),
    });
    let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
    assert!(refused(&manager).await.is_connect());
    assert_eq!(script.count(), 3);
    assert_eq!(obtained(&manager).await, "access-4");
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_gets_no_request_before_its_retry_after() {
    let script = Script::at_once(|number| match number {
        1 => busy_for(2 * SECOND),
        2 => busy_for(60 * SECOND),
        _ => Ok(granted(number, 3600, None)),
    });
    let manager = app(&script);
    let began = Instant::now();
    let error = refused(&manager).await;
    assert_eq!(began.elapsed(), 2 * SECOND, "a short wait is awaited, a long one is an error");
    assert!(error.is_rate_limited() && error.retry_after() == Some(60 * SECOND));
    for _ in 0..100 {
        assert!(refused(&manager).await.is_rate_limited());
    }
    assert_eq!(script.count(), 2);
    sleep(61 * SECOND).await;
    assert_eq!(obtained(&manager).await, "access-3");
}

#[tokio::test(start_paused = true)]
async fn client_credentials_are_sent_again_after_a_lost_reply() {
    let script = Script::at_once(|number| match number {
        1 | 2 => fault(GrantFault::Lost),
        _ => Ok(granted(number, 3600, None)),
    });
    assert_eq!(obtained(&app(&script)).await, "access-3");
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_reply_the_access_token_is_used_and_the_refresh_token_is_retried() {
    let script = Script::new(|number, _| {
        Box::pin(async move {
            match number {
                1 => fault(GrantFault::Lost),
                2 => {
                    sleep(20 * SECOND).await;
                    rotated(number, 1000)
                }
                _ => rotated(number, 1000),
            }
        })
    });
    let manager = user(&script, TokenInfo::access("given", 1000 * SECOND).refresh("refresh-0"));
    obtained(&manager).await;
    while script.count() < 2 {
        sleep(SECOND).await;
    }
    assert_eq!(script.secrets(), ["refresh-0", "refresh-0"]);
    assert_eq!(obtained(&manager).await, "given");
    sleep(20 * SECOND).await;
    assert_eq!(obtained(&manager).await, "access-2");
    assert_eq!(manager.refresh_token().unwrap().expose_secret(), "refresh-2");
}

#[tokio::test(start_paused = true)]
async fn invalid_grant_after_a_lost_reply_requires_a_new_sign_in() {
    let script = Script::at_once(|number| {
        fault(if number == 1 { GrantFault::Lost } else { GrantFault::GrantDead })
    });
    let manager = user(&script, TokenInfo::access("given", 1000 * SECOND).refresh("refresh-0"));
    obtained(&manager).await;
    sleep(990 * SECOND).await;
    assert_eq!(obtained(&manager).await, "given", "it is used until it expires");
    assert!(manager.status().is_reauthorization_required());
    sleep(20 * SECOND).await;
    for _ in 0..50 {
        assert!(refused(&manager).await.is_reauthorization_required());
        sleep(60 * SECOND).await;
    }
    assert_eq!(script.count(), 2, "no busy loop");
}

#[tokio::test(start_paused = true)]
async fn retries_of_a_lost_refresh_can_be_disabled() {
    let script = Script::at_once(|_| fault(GrantFault::Lost));
    let token = TokenInfo::refresh_only("refresh-0").into_token().unwrap();
    let manager = manager(&script, MemoryTokenStore::new(), Owner::User, token, false);
    let error = refused(&manager).await;
    assert!(error.is_reauthorization_required());
    let source = std::error::Error::source(&error).expect("the cause is told");
    assert!(source.to_string().contains("as the script says"), "{source}");
    assert!(refused(&manager).await.is_reauthorization_required());
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn lost_replies_end_no_sign_in_and_cause_no_busy_loop() {
    let script =
        Script::at_once(
            |number| if number < 5 { fault(GrantFault::Lost) } else { rotated(number, 3600) },
        );
    let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
    for go in 1..=2 {
        let error = refused(&manager).await;
        assert!(error.is_interrupted() && error.is_safe_to_ask_again(), "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(script.count(), 2 * go, "one retry per refresh");
    }
    assert_eq!(obtained(&manager).await, "access-5");
    assert_eq!(script.secrets(), ["refresh-0"; 5]);
}

#[tokio::test(start_paused = true)]
async fn retries_of_a_lost_refresh_can_be_increased() {
    for (retries, saved) in [(4, false), (5, true)] {
        let script = Script::at_once(|number| {
            if number < 6 { fault(GrantFault::Lost) } else { rotated(number, 3600) }
        });
        let options = options(Owner::User, retries);
        let token = TokenInfo::refresh_only("refresh-0").into_token().unwrap();
        let exchange: Arc<dyn Exchange> = Arc::<Script>::clone(&script);
        let manager = TokenManager::with_rate(
            options,
            exchange,
            Arc::new(MemoryTokenStore::new()),
            rate(key(Owner::User)),
            token,
        );
        assert_eq!(manager.request_token().await.is_ok(), saved);
        assert_eq!(script.count(), retries as usize + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_an_error_and_pause_further_requests() {
    let script = Script::at_once(|_| fault(GrantFault::Refused));
    let manager = app(&script);
    for _ in 0..1000 {
        let error = refused(&manager).await;
        assert!(error.is_auth() && !error.is_reauthorization_required());
    }
    assert_eq!(script.count(), 1);
    sleep(2 * SECOND).await;
    refused(&manager).await;
    assert_eq!(script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_no_valid_header_is_an_unreadable_reply() {
    let script = Script::at_once(|number| match number {
        1 => Ok(Granted { access: SecretString::from("a\nb"), ..granted(1, 3600, None) }),
        _ => Ok(granted(number, 3600, None)),
    });
    assert_eq!(obtained(&app(&script)).await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn an_auth_code_is_never_sent_twice() {
    for (failure, reauthorization) in [
        (GrantFault::Lost, true),
        (GrantFault::GrantDead, true),
        (GrantFault::Busy, false),
        (GrantFault::Refused, false),
    ] {
        let script = Script::at_once(move |_| fault(failure));
        let error = sign_in(&script, MemoryTokenStore::new())
            .run("code".to_owned().into())
            .await
            .unwrap_err();
        assert_eq!(error.is_reauthorization_required(), reauthorization, "{failure:?}");
        sleep(600 * SECOND).await;
        assert_eq!(script.count(), 1, "{failure:?}");
    }
    let script = Script::at_once(|number| {
        if number < 3 { fault(GrantFault::NotSent) } else { rotated(number, 3600) }
    });
    let manager =
        sign_in(&script, MemoryTokenStore::new()).run("code".to_owned().into()).await.unwrap();
    assert_eq!(obtained(&manager).await, "access-3");
    assert_eq!(script.secrets(), ["code"; 3]);
    assert_eq!(manager.status().source(), TokenSource::AuthCode);
}

#[tokio::test(start_paused = true)]
async fn a_new_sign_in_follows_the_stored_one_and_survives_a_dropped_caller() {
    let store = Flaky::default();
    let old = Script::at_once(|number| {
        if number == 1 { rotated(number, 3600) } else { fault(GrantFault::GrantDead) }
    });
    let before = user_on(&old, store.clone(), TokenInfo::refresh_only("old"));
    let generation = before.request_token().await.unwrap().generation;
    before.refuse(generation);
    assert!(refused(&before).await.is_reauthorization_required());

    let script = Script::new(|_, _| {
        Box::pin(async {
            sleep(SECOND).await;
            Ok(granted(100, 3600, Some("new")))
        })
    });
    let caller = sign_in(&script, store.clone()).run("code".to_owned().into());
    assert!(tokio::time::timeout(SECOND / 2, caller).await.is_err(), "the caller was dropped");
    sleep(SECOND).await;
    // A client that shared the old sign-in finds the new one.
    assert_eq!(obtained(&before).await, "access-100");
    assert_eq!(before.refresh_token().unwrap().expose_secret(), "new");
    assert!(!before.status().is_reauthorization_required());
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let manager = app(&script);
    let error = futures::executor::block_on(manager.request_token()).unwrap_err();
    assert!(error.is_invalid_input());
    assert_eq!(script.count(), 0);
    let given = user(&script, TokenInfo::access("given", SECOND));
    given.0.write().token.loaded = true;
    assert_eq!(futures::executor::block_on(given.request_token()).unwrap().header, "given");
}
