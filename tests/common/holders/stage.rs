//! The parts that all scenarios share: the server, the store, the users, and the check of the
//! invariants.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use payman_sdk::Emulator;

use super::clock::WallClock;
use super::ledger::{Gate, Interception, Ledger, SignIn, SpendTotals};
use super::process::{Activity, Holder, HolderReport, HolderSetup, Order, UserState};
use super::stores::SharedStore;
use super::{is_full, random, scopes_of};

/// Of the access tokens. A holder renews one after about 1.5 s.
const LIFETIME: Duration = Duration::from_secs(2);
/// Of a token request, before and after the server acts.
const LONGEST_DELAY: Duration = Duration::from_millis(40);

/// The outcome that is due for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    SignedIn,
    SignedOut,
    /// A sign-out failed: it may have been stored.
    Either,
}

/// A user and their newest sign-in.
pub struct User {
    pub number: u32,
    /// The first refresh token of the first sign-in.
    pub first_token: String,
    pub expected: Expected,
}

pub struct Stage {
    name: &'static str,
    began: Instant,
    payman: Emulator,
    pub ledger: Arc<Ledger>,
    pub store: SharedStore,
    pub random: fastrand::Rng,
    pub users: Vec<User>,
    holders: u32,
    pub kills: usize,
    pub stops: usize,
    sum: HolderReport,
    /// Sign-ins that ended with a holder.
    connect_again: HashSet<SignIn>,
}

impl Stage {
    pub async fn new(name: &'static str, store: SharedStore, users: usize) -> Self {
        let mut random = random(name);
        let payman = Emulator::builder()
            .rotate_refresh_tokens()
            .token_lifetime(LIFETIME)
            .start()
            .await
            .unwrap();
        let ledger = Ledger::start(payman.base_url(), random.u64(..), LONGEST_DELAY).await;
        let users = (0..users).map(|user| {
            let first_token = payman.issue_refresh_token(scopes_of(user));
            ledger.issued_token(&first_token, SignIn { user, number: 1 });
            User { number: 1, first_token, expected: Expected::SignedIn }
        });
        let users = users.collect();
        Self {
            name,
            began: Instant::now(),
            payman,
            ledger,
            store,
            random,
            users,
            holders: 0,
            kills: 0,
            stops: 0,
            sum: HolderReport::default(),
            connect_again: HashSet::new(),
        }
    }

    /// Waits for a random part of the range, in milliseconds.
    pub async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        let wait = self.random.u64(milliseconds);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// Returns true where no other round is to begin: on a busy machine there are fewer.
    pub fn is_out_of_time(&self) -> bool {
        self.began.elapsed() > Duration::from_secs(if is_full() { 75 } else { 7 })
    }

    pub fn clock(&self, name: &str, ahead: i64) -> WallClock {
        WallClock::new(self.store.directory(), name, ahead)
    }

    /// Starts a holder of these users. Some holders are given the users' first refresh tokens in
    /// code, as a program is whose configuration never changes.
    pub async fn start(
        &mut self,
        users: impl IntoIterator<Item = usize>,
        activity: Activity,
        clock: Option<&WallClock>,
    ) -> Holder {
        self.holders += 1;
        let is_given = self.holders == 1 || (activity == Activity::Busy && self.random.bool());
        let given = |user: usize| is_given.then(|| self.users[user].first_token.clone());
        let setup = HolderSetup {
            name: self.holders.to_string(),
            base_url: self.ledger.base_url().to_owned(),
            store: self.store.location(),
            users: users.into_iter().map(|user| (user, given(user))).collect(),
            activity,
        };
        Holder::start(&setup, clock).await
    }

    /// Intercepts the token requests of the next holder.
    pub fn intercept_next(&self, interception: Interception) -> Gate {
        self.ledger.intercept(&(self.holders + 1).to_string(), interception)
    }

    pub async fn start_of_all(&mut self) -> Holder {
        self.start(0..self.users.len(), Activity::Busy, None).await
    }

    /// Returns the auth code of a new sign-in.
    pub fn new_code(&mut self, user: usize) -> Order {
        self.users[user].number += 1;
        self.users[user].expected = Expected::SignedIn;
        let code = self.payman.issue_code(scopes_of(user));
        self.ledger.issued_code(&code, SignIn { user, number: self.users[user].number });
        Order::SignIn { user, code }
    }

    /// Returns the refresh token of a new sign-in.
    pub fn new_token(&mut self, user: usize) -> Order {
        self.users[user].number += 1;
        self.users[user].expected = Expected::SignedIn;
        let token = self.payman.issue_refresh_token(scopes_of(user));
        self.ledger.issued_token(&token, SignIn { user, number: self.users[user].number });
        Order::Give { user, token }
    }

    pub async fn kill(&mut self, holder: Holder) {
        self.ledger.killed(&holder.name);
        self.kills += 1;
        holder.kill().await;
    }

    pub async fn close(&mut self, holder: Holder) {
        let report = holder.close().await;
        self.add(report);
    }

    pub fn add(&mut self, report: HolderReport) {
        self.sum.calls += report.calls;
        self.sum.reauthorizations += report.reauthorizations;
        self.sum.failures += report.failures;
        self.sum.violations.extend(report.violations);
    }

    pub fn reauthorizations(&self) -> u64 {
        self.sum.reauthorizations
    }

    /// Signs all users in. From now on the store knows them.
    pub async fn sign_in_all(&mut self) {
        let holder = self.start(0..self.users.len(), Activity::Idle, None).await;
        let states = holder.carry_out(Order::Check).await.unwrap();
        self.close(holder).await;
        assert_eq!(self.check_states(&states), Vec::<usize>::new(), "not signed in");
    }

    /// Checks the invariants, as a new holder sees them: nothing is lost, nothing was spent twice,
    /// no identity changed. Returns the users whose sign-in ended with a holder.
    pub async fn check(&mut self) -> Vec<usize> {
        // Claims of killed holders are over.
        self.store.end_leases().await;
        let holder = self.start(0..self.users.len(), Activity::Idle, None).await;
        let states = holder.carry_out(Order::Check).await.unwrap();
        self.close(holder).await;
        let must_connect = self.check_states(&states);
        for user in &must_connect {
            let number = self.users[*user].number;
            self.connect_again.insert(SignIn { user: *user, number });
        }
        must_connect
    }

    /// Checks what one holder says about the users.
    pub fn check_states(&mut self, states: &[(usize, UserState)]) -> Vec<usize> {
        let SpendTotals { mut violations, .. } = self.ledger.totals();
        violations.append(&mut self.sum.violations);
        let lost = self.ledger.lost_with_holder();
        let mut must_connect = Vec::new();
        for (user, state) in states {
            let User { number, expected, .. } = self.users[*user];
            let newest = SignIn { user: *user, number };
            match (state, expected) {
                (UserState::ConnectAgain, Expected::SignedOut | Expected::Either) => {}
                (UserState::ConnectAgain, Expected::SignedIn) if lost.contains(&newest) => {
                    must_connect.push(*user);
                }
                (UserState::SignedIn { access_token }, Expected::SignedIn | Expected::Either)
                    if self.ledger.sign_in_of(access_token) == Some(newest) => {}
                (UserState::SignedIn { access_token }, _) => {
                    let present = self.ledger.sign_in_of(access_token);
                    violations.push(format!("{present:?}, not {newest:?}: {expected:?}"));
                }
                (state, _) => violations.push(format!("{newest:?} is lost: {state:?}")),
            }
        }
        assert!(violations.is_empty(), "{}: {violations:#?}", self.name);
        must_connect
    }

    /// Checks the invariants at the end, and prints the totals.
    pub async fn finish(&mut self, least_refreshes: usize) -> SpendTotals {
        self.check().await;
        let (totals, state) = (self.ledger.totals(), self.payman.state());
        let signed_in =
            self.users.iter().filter(|user| user.expected == Expected::SignedIn).count();
        eprintln!(
            "{}: {} users, {} holders, {} calls, {} token requests, {} refreshes, {} reuses \
             ({} excused), {} kills, {} stops; signed in {signed_in}, connect again {}; \
             {} temporary errors, {} asked to connect",
            self.name,
            self.users.len(),
            self.holders,
            self.sum.calls,
            state.token_requests,
            totals.refreshes,
            state.refresh_reuses,
            totals.excused,
            self.kills,
            self.stops,
            self.connect_again.len(),
            self.sum.failures,
            self.sum.reauthorizations,
        );
        assert_eq!(state.refresh_reuses, totals.excused as u64, "a reuse without an excuse");
        let least = if is_full() { least_refreshes } else { least_refreshes / 20 };
        assert!(totals.refreshes >= least, "{} refreshes are too few", totals.refreshes);
        totals
    }
}
