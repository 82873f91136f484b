use super::*;

#[tokio::test(start_paused = true)]
async fn a_sign_out_removes_the_token_from_client_and_store() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let store = MemoryTokenStore::new();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    assert_eq!(obtained(&manager).await, "access-1");
    manager.sign_out().await.unwrap();
    assert!(refused(&manager).await.is_reauthorization_required());
    assert!(manager.refresh_token().is_none() && manager.is_expired());
    assert!(manager.status().is_reauthorization_required());

    let kept = store.load(&key(Owner::User)).await.unwrap().unwrap();
    let json = kept.to_json();
    assert!(
        kept.is_ended()
            && !json.expose_secret().contains("access-")
            && !json.expose_secret().contains("refresh-")
    );

    // Nor after a restart, nor by the tokens of the sign-in that is over.
    for info in [TokenInfo::stored(), TokenInfo::refresh_only("refresh-0")] {
        assert!(
            refused(&user_on(&script, store.clone(), info)).await.is_reauthorization_required()
        );
    }
    assert_eq!(script.count(), 1);
    sleep(7200 * SECOND).await;
    assert_eq!(script.count(), 1, "nothing is renewed any more");
}

#[tokio::test(start_paused = true)]
async fn a_user_can_connect_again_after_a_sign_out() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let store = MemoryTokenStore::new();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    obtained(&manager).await;
    manager.sign_out().await.unwrap();
    let again = user_on(&script, store, TokenInfo::refresh_only("another"));
    assert_eq!(obtained(&again).await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_under_way_does_not_undo_a_sign_out() {
    let script = Script::new(|number, _| {
        Box::pin(async move {
            sleep(if number == 1 { Duration::ZERO } else { 5 * SECOND }).await;
            rotated(number, 3600)
        })
    });
    let store = MemoryTokenStore::new();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    manager.refuse(manager.request_token().await.unwrap().generation);
    let renewing = tokio::spawn({
        let manager = manager.clone();
        async move { manager.request_token().await.map(|_| ()) }
    });
    sleep(SECOND).await;
    manager.sign_out().await.unwrap();
    assert!(renewing.await.unwrap().unwrap_err().is_reauthorization_required());
    assert!(refused(&manager).await.is_reauthorization_required());
    assert!(store.load(&key(Owner::User)).await.unwrap().unwrap().is_ended());
}

#[tokio::test(start_paused = true)]
async fn a_failed_store_ends_no_sign_in_and_is_reported() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let store = Flaky::default();
    let manager = user_on(&script, store.clone(), TokenInfo::refresh_only("refresh-0"));
    obtained(&manager).await;
    store.commits_fail.store(true, Ordering::Relaxed);
    let error = manager.sign_out().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenStore);
    assert_eq!(obtained(&manager).await, "access-1");
    store.commits_fail.store(false, Ordering::Relaxed);
    manager.sign_out().await.unwrap();
    assert!(refused(&manager).await.is_reauthorization_required());
}

#[tokio::test(start_paused = true)]
async fn signing_out_an_unknown_user_does_nothing_and_the_app_is_refused() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let store = MemoryTokenStore::new();
    user_on(&script, store.clone(), TokenInfo::stored()).sign_out().await.unwrap();
    assert!(store.load(&key(Owner::User)).await.unwrap().is_none());
    assert!(app(&script).sign_out().await.unwrap_err().is_invalid_input());
}
