use super::*;

#[tokio::test(start_paused = true)]
async fn a_users_token_without_refresh_token_is_never_replaced() {
    let script = Script::at_once(|number| Ok(granted(number, 3600, None)));
    let manager = user(&script, TokenInfo::access("given", 10 * SECOND));
    assert_eq!(obtained(&manager).await, "given");
    sleep(11 * SECOND).await;
    assert!(refused(&manager).await.is_reauthorization_required());
    let expired = user(&script, TokenInfo::access("given", Duration::ZERO));
    assert!(refused(&expired).await.is_reauthorization_required());
    let given = user(&script, TokenInfo::access("given", 10 * SECOND));
    given.refuse(given.request_token().await.unwrap().generation);
    assert!(refused(&given).await.is_reauthorization_required());
    assert_eq!(script.count(), 0, "the app's credentials were not tried");
}

#[tokio::test(start_paused = true)]
async fn a_users_refused_refresh_token_is_never_replaced_by_the_apps_credentials() {
    let script = Script::at_once(|_| fault(GrantFault::GrantDead));
    let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
    for _ in 0..10 {
        assert!(refused(&manager).await.is_reauthorization_required());
        sleep(5 * SECOND).await;
    }
    assert_eq!(
        script.asked().iter().map(|asked| asked.grant).collect::<Vec<_>>(),
        ["refresh_token"]
    );
    assert!(manager.refresh_token().is_none(), "the refused one is removed");
}

#[tokio::test(start_paused = true)]
async fn refused_app_credentials_do_not_end_a_users_sign_in() {
    let script = Script::at_once(|number| {
        if number == 1 { fault(GrantFault::Refused) } else { rotated(number, 3600) }
    });
    let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
    let error = refused(&manager).await;
    assert!(error.is_auth() && !error.is_reauthorization_required());
    sleep(2 * SECOND).await;
    assert_eq!(obtained(&manager).await, "access-2");
    assert_eq!(script.secrets(), ["refresh-0", "refresh-0"]);
}

#[tokio::test(start_paused = true)]
async fn an_app_renews_by_refresh_token_and_falls_back_to_its_credentials() {
    for refusal in [GrantFault::GrantDead, GrantFault::Refused] {
        let script = Script::at_once(move |number| match number {
            1 => Ok(granted(1, 3600, Some("app-refresh"))),
            2 => fault(refusal),
            _ => Ok(granted(number, 3600, None)),
        });
        let manager = app(&script);
        manager.refuse(manager.request_token().await.unwrap().generation);
        assert_eq!(obtained(&manager).await, "access-3");
        let grants: Vec<_> = script.asked().iter().map(|asked| asked.grant).collect();
        assert_eq!(grants, ["client_credentials", "refresh_token", "client_credentials"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_without_refresh_token_keeps_the_old_one_and_a_new_one_replaces_it() {
    let script = Script::at_once(|number| match number {
        1 => Ok(granted(1, 3600, None)),
        _ => rotated(number, 3600),
    });
    let manager = user(&script, TokenInfo::refresh_only("refresh-0"));
    let first = manager.request_token().await.unwrap();
    assert_eq!(manager.refresh_token().unwrap().expose_secret(), "refresh-0");
    manager.refuse(first.generation);
    let second = manager.request_token().await.unwrap();
    assert_eq!(manager.refresh_token().unwrap().expose_secret(), "refresh-2");
    manager.refuse(second.generation);
    obtained(&manager).await;
    assert_eq!(script.secrets(), ["refresh-0", "refresh-0", "refresh-2"]);
}

#[tokio::test(start_paused = true)]
async fn an_app_and_a_user_never_adopt_each_others_token() {
    let store = MemoryTokenStore::new();
    let apps = Script::at_once(|number| Ok(granted(number, 3600, Some("app-refresh"))));
    obtained(&app_on(&apps, store.clone())).await;
    let users = Script::at_once(|_| Ok(granted(77, 3600, Some("user-refresh"))));
    let manager = user_on(&users, store.clone(), TokenInfo::refresh_only("refresh-0"));
    assert_eq!(obtained(&manager).await, "access-77");
    assert_eq!(obtained(&app_on(&apps, store)).await, "access-1");
}

#[test]
fn debug_shows_no_secret() {
    let script = Script::at_once(|number| rotated(number, 3600));
    let manager = user(&script, TokenInfo::access("hush", SECOND).refresh("hush"));
    let debug = format!("{manager:?} {:?} {:?}", manager.status(), manager.refresh_token());
    assert!(!debug.contains("hush"), "{debug}");
}
