//! The contract of token stores, tested on each of them.

use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret;

use super::slot::{Decision, Slot};
use super::*;
use crate::auth::clock::LeaseTime;

fn key(subject: &str) -> TokenKey {
    TokenKey::new(Owner::User, "client-id", "http://127.0.0.1:1", subject)
}

fn token(generation: u64, refresh: &str) -> StoredToken {
    let now = SystemTime::now();
    StoredToken {
        sign_in: 0,
        generation,
        access: Some(format!("access of {refresh}").into()),
        issued_at: now,
        expires_at: now + Duration::from_secs(60),
        refresh: Some(refresh.to_owned().into()),
        scope: None,
        seed: Some("seed".to_owned()),
        known: KnownTokens::default(),
        ended: false,
        refused: false,
    }
}

fn granted(claimed: Claimed) -> Claim {
    match claimed {
        Claimed::Granted(claim) => claim,
        other => panic!("not granted: {other:?}"),
    }
}

/// Checks the contract; `store` and `other` are two holders' handles of one store.
pub(super) async fn check_contract(store: &dyn TokenStore, other: &dyn TokenStore) {
    let (alice, bob) = (key("alice"), key("bob"));
    assert!(store.load(&alice).await.unwrap().is_none());

    // One holder at a time may spend.
    let claim = granted(store.claim(&alice, 0).await.unwrap());
    assert_eq!((claim.generation(), claim.abandoned(), claim.key()), (0, 0, &alice));
    let Claimed::Held(left) = other.claim(&alice, 0).await.unwrap() else {
        panic!("granted twice")
    };
    assert!(left <= Claim::LEASE && left > Claim::LEASE / 2, "{left:?}");
    granted(other.claim(&bob, 0).await.unwrap());

    // A commit ends the claim; repeated, it changes nothing.
    let first = token(1, "first");
    assert!(matches!(store.commit(&claim, &first).await.unwrap(), Committed::Saved));
    assert!(matches!(store.commit(&claim, &first).await.unwrap(), Committed::Saved));
    let loaded = other.load(&alice).await.unwrap().unwrap();
    assert_eq!(loaded.to_json().expose_secret(), first.to_json().expose_secret());
    assert!(other.load(&bob).await.unwrap().is_none());

    // A holder with an older generation gets the newer token and no claim; one with the newest
    // generation gets a claim.
    let Claimed::Newer(newer) = other.claim(&alice, 0).await.unwrap() else {
        panic!("an old generation was granted")
    };
    assert_eq!(newer.generation(), 1);
    let second = granted(other.claim(&alice, 1).await.unwrap());
    assert!(second.fence() > claim.fence());

    // A released claim is free at once; releasing a past claim has no effect.
    store.release(&claim).await.unwrap();
    assert!(matches!(store.claim(&alice, 1).await.unwrap(), Claimed::Held(_)));
    other.release(&second).await.unwrap();
    let third = granted(store.claim(&alice, 1).await.unwrap());
    assert_eq!(third.abandoned(), 0);

    // The newest generation wins; a late holder gets the stored token.
    assert!(matches!(store.commit(&third, &token(2, "third")).await.unwrap(), Committed::Saved));
    let Committed::Superseded(held) = other.commit(&second, &token(2, "second")).await.unwrap()
    else {
        panic!("a commit of the past was saved")
    };
    assert_eq!(held.refresh.unwrap().expose_secret(), "third");
    let Committed::Superseded(_) = other.commit(&claim, &token(1, "x")).await.unwrap() else {
        panic!("went back")
    };

    // Sign-ins have an order of their own: a newer one wins with a lower generation, and ends the
    // claims before.
    let early = granted(store.claim(&alice, 2).await.unwrap());
    let second_sign_in =
        |generation, refresh| StoredToken { sign_in: 5, ..token(generation, refresh) };
    let unclaimed = Claim::new(alice.clone(), 0, 0, 0);
    let newer = second_sign_in(1, "newer");
    assert!(matches!(other.commit(&unclaimed, &newer).await.unwrap(), Committed::Saved));
    assert_eq!(store.load(&alice).await.unwrap().unwrap().sign_in(), 5);
    let free = granted(other.claim(&alice, 1).await.unwrap());
    let Committed::Superseded(held) = store.commit(&early, &token(3, "early")).await.unwrap()
    else {
        panic!("an earlier sign-in came back")
    };
    assert_eq!(held.refresh.unwrap().expose_secret(), "newer");
    assert!(matches!(store.claim(&alice, 1).await.unwrap(), Claimed::Held(_)));
    other.release(&free).await.unwrap();
    // A late holder's commit releases its claim.
    let late = granted(store.claim(&alice, 9).await.unwrap());
    assert!(matches!(
        store.commit(&late, &token(10, "late")).await.unwrap(),
        Committed::Superseded(_)
    ));
    granted(store.claim(&alice, 1).await.unwrap());
    let next = StoredToken { sign_in: 6, ..token(2, "next") };
    assert!(matches!(store.commit(&unclaimed, &next).await.unwrap(), Committed::Saved));
    let token = |generation, refresh| StoredToken { sign_in: 6, ..token(generation, refresh) };

    // A holder whose commits failed for a while is ahead of the store.
    let ahead = granted(store.claim(&alice, 7).await.unwrap());
    assert!(matches!(other.claim(&alice, 2).await.unwrap(), Claimed::Held(_)));
    assert!(matches!(store.commit(&ahead, &token(8, "eighth")).await.unwrap(), Committed::Saved));
    assert_eq!(other.load(&alice).await.unwrap().unwrap().generation(), 8);
}

#[tokio::test]
async fn memory() {
    let store = crate::MemoryTokenStore::new();
    check_contract(&store, &store.clone()).await;
}

#[tokio::test]
async fn file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    check_contract(&crate::FileTokenStore::new(&path), &crate::FileTokenStore::new(&path)).await;
}

#[test]
fn an_expired_lease_is_reported_to_the_successor() {
    let lease = u64::try_from(Claim::LEASE.as_millis()).unwrap();
    let (mut slot, key) = (Slot::default(), key("alice"));
    let first = granted(slot.claim(&key, 0, 1000).answer);
    assert!(matches!(
        slot.claim(&key, 0, 1000 + lease - 1).answer,
        Claimed::Held(left) if left == Duration::from_millis(1)
    ));
    let second = granted(slot.claim(&key, 0, 1000 + lease).answer);
    assert_eq!((first.abandoned(), second.abandoned()), (0, 1));
    let third = granted(slot.claim(&key, 0, 1000 + 2 * lease).answer);
    assert_eq!(third.abandoned(), 2);
    // The earlier holder commits its token after all, which is the newest.
    assert!(matches!(slot.commit(&first, &token(1, "late")).answer, Committed::Saved));
    let fresh = granted(slot.claim(&key, 1, 1000 + 2 * lease).answer);
    assert_eq!(fresh.abandoned(), 0, "another generation, another count");
    // A clock that is set back extends no lease: the lease is dated again, and ends after its full
    // duration.
    let seen = slot.claim(&key, 1, 0);
    assert!(matches!(seen.answer, Claimed::Held(left) if left == Claim::LEASE) && seen.changed);
    assert!(matches!(slot.claim(&key, 1, lease - 1).answer, Claimed::Held(_)));
    assert_eq!(granted(slot.claim(&key, 1, lease).answer).abandoned(), 1);
}

#[test]
fn a_step_of_the_wall_clock_lets_no_second_holder_in() {
    let lease = u64::try_from(Claim::LEASE.as_millis()).unwrap();
    let (hour, key) = (60 * 60 * 1000, key("alice"));
    let is_held = |claimed: Decision<Claimed>| matches!(claimed.answer, Claimed::Held(_));
    // The time in a process that was running before the clock was set forward by an hour.
    let stepped = |since: u64| LeaseTime {
        wall: from_millis(hour + 1000 + since),
        steady: from_millis(1000 + since),
    };

    let mut slot = Slot::default();
    granted(slot.claim(&key, 0, 1000).answer);
    assert!(is_held(slot.claim_at(&key, 0, stepped(lease - 1))), "granted before the step");
    granted(slot.claim_at(&key, 0, stepped(lease)).answer);

    // A process that started after the step knows the wall clock only.
    let mut slot = Slot::default();
    granted(slot.claim_at(&key, 0, stepped(10)).answer);
    assert!(is_held(slot.claim(&key, 0, hour + 1000 + lease)), "granted after the step");
    assert!(is_held(slot.claim_at(&key, 0, stepped(20))));
    granted(slot.claim(&key, 0, hour + 1010 + lease).answer);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_private_and_replaced_atomically() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    let store = crate::FileTokenStore::new(&path);
    // A leftover of a crash does not prevent a write, and its mode is not taken over.
    std::fs::write(directory.path().join("tokens.json.new"), "half a fi").unwrap();
    let claim = granted(store.claim(&key("alice"), 0).await.unwrap());
    let before = std::fs::metadata(&path).unwrap().ino();
    store.commit(&claim, &token(1, "hush")).await.unwrap();
    assert_ne!(std::fs::metadata(&path).unwrap().ino(), before, "replaced, not written in place");
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        assert!(!entry.file_name().to_string_lossy().contains("hush"));
    }
    assert!(!directory.path().join("tokens.json.new").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_links_share_one_file_and_lock_and_owner_and_mode_stay() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("real")).unwrap();
    let (real, link) = (at("real/tokens.json"), at("link.json"));
    symlink("real/tokens.json", &link).unwrap();
    symlink("real", at("folder")).unwrap();
    let stores = [&link, &real, &at("folder/tokens.json"), &at("real/../link.json")]
        .map(crate::FileTokenStore::new);
    // All paths name the same file, before and after it exists.
    let claim = granted(stores[0].claim(&key("alice"), 0).await.unwrap());
    for store in &stores {
        assert!(matches!(store.claim(&key("alice"), 0).await.unwrap(), Claimed::Held(_)));
    }
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = std::os::unix::fs::chown(&real, Some(12345), Some(23456)).is_ok();
    stores[0].commit(&claim, &token(1, "first")).await.unwrap();
    for store in &stores {
        assert_eq!(store.load(&key("alice")).await.unwrap().unwrap().generation(), 1);
    }
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink(), "it stays a link");
    let metadata = std::fs::metadata(&real).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    if is_root {
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 23456));
        let lock = std::fs::metadata(at("real/tokens.json.lock")).unwrap();
        assert_eq!(lock.uid(), 12345, "its owner can lock it");
    }
    let mut names: Vec<_> = std::fs::read_dir(at("real"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["tokens.json", "tokens.json.lock"]);
    symlink("loop.json", at("loop.json")).unwrap();
    let looped = crate::FileTokenStore::new(at("loop.json"));
    assert!(looped.load(&key("alice")).await.is_err());
    assert!(crate::FileTokenStore::new("relative.json").path().is_absolute());
}

#[tokio::test]
async fn refused_sign_ins_do_not_fill_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = crate::FileTokenStore::new(directory.path().join("tokens.json"));
    for n in 0..300 {
        let key = key(&format!("user {n}"));
        let claim = granted(store.claim(&key, 0).await.unwrap());
        let ended = StoredToken {
            access: None,
            refresh: None,
            ended: true,
            refused: true,
            ..token(1, "x")
        };
        store.commit(&claim, &ended).await.unwrap();
        let released = granted(store.claim(&self::key("alice"), n).await.unwrap());
        store.release(&released).await.unwrap();
    }
    let text = std::fs::read_to_string(store.path()).unwrap();
    assert!(text.matches("refused").count() <= 128, "{}", text.matches("refused").count());
    assert!(!text.contains("alice"));
}

#[tokio::test]
async fn a_file_with_other_contents_is_an_error_and_is_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    let store = crate::FileTokenStore::new(&path);
    for text in [
        "hush",
        "{}",
        "[]",
        r#"{"version":2,"tokens":{}}"#,
        r#"{"version":1,"tokens":{"[\"user\",\"client-id\",\"http://127.0.0.1:1\",\"alice\"]":{"token":"hush"}}}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        let errors = [
            store.load(&key("alice")).await.unwrap_err(),
            store.claim(&key("alice"), 0).await.unwrap_err(),
            store.commit(&Claim::new(key("alice"), 0, 1, 0), &token(1, "x")).await.unwrap_err(),
        ];
        for error in errors {
            assert!(!format!("{error} {error:?}").contains("hush"));
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    std::fs::write(&path, "\n").unwrap();
    assert!(store.load(&key("alice")).await.unwrap().is_none(), "an empty file is an empty store");
    let nowhere = crate::FileTokenStore::new(directory.path().join("no/such/tokens.json"));
    assert!(nowhere.load(&key("alice")).await.is_err(), "nobody knows what it holds");
    assert!(nowhere.claim(&key("alice"), 0).await.is_err());
}

#[tokio::test]
async fn a_lock_that_is_never_released_does_not_block_others_forever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    let lock = std::fs::File::create(directory.path().join("tokens.json.lock")).unwrap();
    lock.lock().unwrap();
    let store = crate::FileTokenStore::new(&path);
    assert!(store.load(&key("alice")).await.unwrap().is_none(), "reading needs no lock");
    let waiting = tokio::spawn(async move { store.claim(&key("alice"), 0).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    drop(lock);
    granted(waiting.await.unwrap().unwrap());
}

#[tokio::test]
async fn slots_that_cannot_be_renewed_are_removed_after_the_retention() {
    let directory = tempfile::tempdir().unwrap();
    let store = crate::FileTokenStore::new(directory.path().join("tokens.json"));
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    let dead = StoredToken { refresh: None, expires_at: long_ago, ..token(1, "x") };
    store.commit(&Claim::new(key("dead"), 0, 1, 0), &dead).await.unwrap();
    let old = StoredToken { expires_at: long_ago, ..token(1, "y") };
    store.commit(&Claim::new(key("old"), 0, 1, 0), &old).await.unwrap();
    store.commit(&Claim::new(key("alice"), 0, 1, 0), &token(0, "z")).await.unwrap();
    // One write in 256, chosen at random, removes slots. It may have been one of those above.
    let mut writes = 0;
    while store.load(&key("dead")).await.unwrap().is_some() {
        writes += 1;
        assert!(writes < 10_000, "the slot is not removed");
        store.commit(&Claim::new(key("alice"), 0, 1, 0), &token(writes, "z")).await.unwrap();
    }
    assert!(
        store.load(&key("old")).await.unwrap().is_some(),
        "its refresh token may be good for years"
    );
    assert!(store.load(&key("alice")).await.unwrap().is_some());
}

/// `tests/redis/run` runs this test with its own server.
#[cfg(feature = "redis")]
#[tokio::test]
async fn redis() {
    let Ok(url) = std::env::var("PAYMAN_TEST_REDIS_URL") else {
        eprintln!("skipped: PAYMAN_TEST_REDIS_URL is not set; tests/redis/run sets it");
        return;
    };
    let run = uuid::Uuid::new_v4();
    let (one, other) =
        (crate::RedisTokenStore::new(&url).unwrap(), crate::RedisTokenStore::new(&url).unwrap());
    check_contract(&Prefixed(one.clone(), run), &Prefixed(other, run)).await;

    // Keys hold no secret.
    let mut connection =
        ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS")
        .arg(format!("payman:token:*{run}*"))
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(
        !keys.is_empty()
            && keys.iter().all(|key| key.contains("client-id") && !key.contains("third")),
        "{keys:?}"
    );

    // A lease that ran out, on the server's clock: set back here, as no test waits for it.
    let key = key(&format!("lease {run}"));
    granted(one.claim(&key, 0).await.unwrap());
    let _: i64 = ::redis::cmd("HSET")
        .arg(format!("payman:token:{key}"))
        .arg("until")
        .arg(1)
        .query_async(&mut connection)
        .await
        .unwrap();
    let claim = granted(one.claim(&key, 0).await.unwrap());
    assert_eq!(claim.abandoned(), 1);
    // A lease that a clock ahead has dated: honored for one lease from now, and no longer.
    let _: i64 = ::redis::cmd("HSET")
        .arg(format!("payman:token:{key}"))
        .arg("until")
        .arg("99999999999999")
        .query_async(&mut connection)
        .await
        .unwrap();
    let held = one.claim(&key, 0).await.unwrap();
    assert!(matches!(held, Claimed::Held(left) if left <= Claim::LEASE), "{held:?}");
    let until: String = ::redis::cmd("HGET")
        .arg(format!("payman:token:{key}"))
        .arg("until")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(until.parse::<u64>().unwrap() < millis(SystemTime::now()) + 95_000);

    // A primary that is demoted, and promoted again.
    let replica_of = async |host: &str, port: &str| {
        let mut connection = ::redis::Client::open(std::env::var("PAYMAN_TEST_REDIS_URL").unwrap())
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .unwrap();
        let mut command = ::redis::cmd("REPLICAOF");
        let _: String = command.arg(host).arg(port).query_async(&mut connection).await.unwrap();
    };
    replica_of("127.0.0.1", "1").await;
    let error = one.commit(&claim, &token(1, "late")).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("read"), "{error}");
    replica_of("NO", "ONE").await;
    assert!(matches!(one.commit(&claim, &token(1, "late")).await.unwrap(), Committed::Saved));
}

/// Prefixes the keys of this run, so that earlier contents of the server do not matter.
#[cfg(feature = "redis")]
struct Prefixed(crate::RedisTokenStore, uuid::Uuid);

#[cfg(feature = "redis")]
impl Prefixed {
    fn key(&self, key: &TokenKey) -> TokenKey {
        TokenKey(format!("{key} {}", self.1).into())
    }

    fn claim_of(&self, claim: &Claim) -> Claim {
        Claim::new(self.key(claim.key()), claim.generation(), claim.fence(), claim.abandoned())
    }
}

#[cfg(feature = "redis")]
impl TokenStore for Prefixed {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async move { self.0.load(&self.key(key)).await })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            Ok(match self.0.claim(&self.key(key), generation).await? {
                Claimed::Granted(claim) => Claimed::Granted(Claim::new(
                    key.clone(),
                    claim.generation(),
                    claim.fence(),
                    claim.abandoned(),
                )),
                other => other,
            })
        })
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        Box::pin(async move { self.0.commit(&self.claim_of(claim), token).await })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.0.release(&self.claim_of(claim)).await })
    }
}

#[test]
fn keys_differ_in_every_part_and_cannot_be_forged() {
    let key = |owner, client: &str, base: &str, subject: &str| {
        TokenKey::new(owner, client, base, subject)
    };
    let all = [
        key(Owner::User, "a", "b", "c"),
        key(Owner::App, "a", "b", "c"),
        key(Owner::User, "x", "b", "c"),
        key(Owner::User, "a", "x", "c"),
        key(Owner::User, "a", "b", "x"),
        key(Owner::User, "a", "b", ""),
        key(Owner::User, "a\",\"b", "c", ""),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(key(Owner::User, "a", "b", "c").as_str(), r#"["user","a","b","c"]"#);
}

#[test]
fn a_stored_token_survives_its_json() {
    let json = r#"{"generation":3,"access_token":"a","issued_at":1000,"expires_at":2000,"refresh_token":"r","scope":"s","seed":"f"}"#;
    let token = StoredToken::from_json(json).unwrap();
    assert_eq!(token.to_json().expose_secret(), json);
    let newer = StoredToken::from_json(
        r#"{"sign_in":7,"generation":3,"issued_at":1,"expires_at":2,"ended":true,"new":1}"#,
    );
    assert!(newer.unwrap().is_ended());
    let error = StoredToken::from_json(r#"{"generation":"hush"}"#).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"));
}
