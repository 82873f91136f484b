use std::time::{Duration, SystemTime};

use super::lifetime::UNSTATED;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn share(lifetime: Duration) -> Option<(f64, Duration)> {
    let now = Moment::now();
    let lifetime = Lifetime::new(now, lifetime);
    let at = lifetime.refresh_at()?;
    let share = (at - now.monotonic).as_secs_f64() / lifetime.length().as_secs_f64();
    Some((share, lifetime.expires.monotonic - at))
}

#[test]
fn refresh_comes_at_80_to_90_percent_and_a_minute_before_the_end() {
    for seconds in [1, 2, 7, 60, 299, 300, 301, 400, 600, 3600, 86_400, u64::MAX] {
        for _ in 0..200 {
            let (share, left) = share(Duration::from_secs(seconds)).unwrap();
            assert!((0.799..=0.901).contains(&share), "{seconds} s: {share}");
            assert!(
                seconds < 300 || left >= 59 * SECOND + SECOND.mul_f64(0.99),
                "{seconds} s: {left:?} left"
            );
        }
    }
}

#[test]
fn the_refresh_time_has_jitter() {
    let drawn: std::collections::HashSet<_> =
        (0..50).map(|_| (share(3600 * SECOND).unwrap().0 * 1e6) as u64).collect();
    assert!(drawn.len() > 40, "{}", drawn.len());
}

#[test]
fn odd_lifetimes_are_harmless() {
    let now = Moment::now();
    for seconds in [Some(0), Some(-1), Some(i64::MIN)] {
        let lifetime = Lifetime::of_seconds(now, seconds);
        assert_eq!((lifetime.length(), lifetime.refresh_at()), (Duration::ZERO, None));
    }
    assert_eq!(Lifetime::of_seconds(now, Some(i64::MAX)).length(), LONGEST);
    assert_eq!(Lifetime::of_seconds(now, None).length(), UNSTATED);
    let far = TokenInfo::access_until("t", SystemTime::now() + Duration::from_secs(1 << 40))
        .into_token()
        .unwrap();
    assert!(far.access.unwrap().lifetime() <= LONGEST);
    let past = TokenInfo::access_until("t", SystemTime::UNIX_EPOCH).into_token().unwrap();
    assert!(past.usable(Moment::now()).is_none());
}

#[test]
fn blank_and_unsendable_tokens_are_refused() {
    let hour = 3600 * SECOND;
    for bad in [
        TokenInfo::access("", hour),
        TokenInfo::access(" \t", hour),
        TokenInfo::access("a\nb", hour),
        TokenInfo::access("é", hour),
        TokenInfo::access("a", hour).refresh(" "),
        TokenInfo::refresh_only(""),
    ] {
        assert!(bad.into_token().is_err_and(|error| error.is_invalid_input()));
    }
}

#[test]
fn debug_shows_no_secret() {
    let info = TokenInfo::access("hush", SECOND).refresh("hush");
    let debug = format!("{info:?}");
    let token = info.into_token().unwrap();
    let access = token.access.as_ref().unwrap();
    let all = format!(
        "{debug}{token:?}{:?}{:?}{:?}",
        access.request_token(),
        access.to_public(),
        token.to_stored()
    );
    assert!(!all.contains("hush"), "{all}");
}
