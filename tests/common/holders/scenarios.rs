//! The scenarios, each with a name.

use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};

use super::clock::{self, WallClock};
use super::ledger::{Gate, Interception};
use super::process::{Activity, Holder, Order};
use super::stage::{Expected, Stage};
use super::stores::SharedStore;
use super::{is_full, turn};

struct Scenario {
    name: &'static str,
    users: usize,
    /// At most, in the short form and in the long one.
    rounds: [usize; 2],
    /// In the long form.
    least_refreshes: usize,
    run: fn(&mut Stage, usize) -> BoxFuture<'_, ()>,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "kills",
        users: 60,
        rounds: [2, 16],
        least_refreshes: 300,
        run: |stage, rounds| Box::pin(kills(stage, rounds)),
    },
    Scenario {
        name: "stalls",
        users: 24,
        rounds: [1, 10],
        least_refreshes: 300,
        run: |stage, rounds| Box::pin(stalls(stage, rounds)),
    },
    Scenario {
        name: "clock steps",
        users: 24,
        rounds: [2, 24],
        least_refreshes: 300,
        run: |stage, rounds| Box::pin(clock_steps(stage, rounds)),
    },
    Scenario {
        name: "outages",
        users: 32,
        rounds: [2, 28],
        least_refreshes: 300,
        run: |stage, rounds| Box::pin(outages(stage, rounds)),
    },
    Scenario {
        name: "sign-ins",
        users: 32,
        rounds: [2, 24],
        least_refreshes: 300,
        run: |stage, rounds| Box::pin(sign_ins(stage, rounds)),
    },
    Scenario {
        name: "sign-ins during outages",
        users: 24,
        rounds: [2, 16],
        least_refreshes: 300,
        run: |stage, rounds| Box::pin(sign_ins_during_outages(stage, rounds)),
    },
];

/// Runs a scenario in the form that the environment asks for, and checks the invariants.
pub async fn run(name: &str, store: impl Future<Output = SharedStore>) {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
    let needs_clock = ["stalls", "clock steps"].contains(&name);
    if needs_clock && !clock::is_installed() {
        assert!(!is_full(), "libfaketime is not installed (apt-get install faketime)");
        eprintln!("{name}: left out, because libfaketime is not installed");
        return;
    }
    let _turn = turn().await;
    let began = Instant::now();
    let mut stage = Stage::new(scenario.name, store.await, scenario.users).await;
    stage.sign_in_all().await;
    let rounds = scenario.rounds[usize::from(is_full())];
    (scenario.run)(&mut stage, rounds).await;
    stage.finish(scenario.least_refreshes).await;
    eprintln!("{name}: at most {rounds} rounds, in {:?}", began.elapsed());
}

/// Signs users in again who had to connect again.
async fn connect_again(stage: &mut Stage, holder: &Holder, users: Vec<usize>) {
    for user in users {
        let order = stage.new_code(user);
        holder.carry_out(order).await.unwrap();
    }
}

/// Closes three of six holders at random instants, then kills three.
async fn kills(stage: &mut Stage, rounds: usize) {
    let mut must_connect = Vec::new();
    for round in 0..rounds {
        if round > 0 && stage.is_out_of_time() {
            break;
        }
        let mut holders = Vec::new();
        for _ in 0..6 {
            holders.push(stage.start_of_all().await);
        }
        connect_again(stage, &holders[0], std::mem::take(&mut must_connect)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.random.shuffle(&mut holders);
        // Before the first kill: a holder that waits for the claim of a killed one closes slowly.
        let mut closing = Vec::new();
        for holder in holders.split_off(3) {
            stage.pause(0..400).await;
            closing.push(tokio::spawn(holder.close()));
        }
        for closed in closing {
            stage.add(closed.await.unwrap());
        }
        for holder in holders {
            stage.pause(0..700).await;
            stage.kill(holder).await;
        }
        must_connect = stage.check().await;
    }
}

/// A holder that was stopped in the middle of a refresh of its only user.
struct Stopped {
    user: usize,
    holder: Holder,
    gate: Gate,
    stall: Stall,
    clock: WallClock,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stall {
    /// Before the second try of a request that the server did not get. Another holder takes over.
    Refused,
    Lost,
    /// The reply waits in the socket, and no other holder needs the token.
    ReplyPending,
    /// The reply waits in the socket, and another holder takes over: the sign-in cannot be saved,
    /// because nobody but the stopped holder can know the new token.
    ReplyPendingTakenOver,
}

impl Stall {
    fn interception(self) -> Interception {
        match self {
            Self::Refused => Interception::Unavailable,
            Self::Lost => Interception::Lost,
            Self::ReplyPending | Self::ReplyPendingTakenOver => Interception::HoldReply,
        }
    }
}

/// Holders are stopped in the middle of a refresh for longer than a lease, while another holder
/// needs the same tokens.
async fn stalls(stage: &mut Stage, rounds: usize) {
    let kinds = [Stall::Refused, Stall::Lost, Stall::ReplyPending, Stall::ReplyPendingTakenOver];
    let mut must_connect = Vec::new();
    for round in 0..rounds {
        if round > 0 && stage.is_out_of_time() {
            break;
        }
        let holder = stage.start_of_all().await;
        connect_again(stage, &holder, std::mem::take(&mut must_connect)).await;
        stage.pause(1_000..1_500).await;
        stage.close(holder).await;

        let mut users: Vec<_> = (0..stage.users.len()).collect();
        stage.random.shuffle(&mut users);
        let mut stopping = Vec::new();
        for (place, user) in users.iter().copied().take(8).enumerate() {
            let stall = kinds[place % kinds.len()];
            let clock = stage.clock(&format!("{round}-{place}"), 0);
            let gate = stage.intercept_next(stall.interception());
            let holder = stage.start([user], Activity::Busy, Some(&clock)).await;
            stopping.push(async move {
                tokio::time::timeout(Duration::from_secs(20), gate.reached()).await.unwrap();
                holder.stop();
                Stopped { user, holder, gate, stall, clock, at: Instant::now() }
            });
        }
        let stopped = join_all(stopping).await;
        stage.stops += stopped.len();

        // A lease passes. The others go on.
        stage.store.end_leases().await;
        for stopped in stopped.iter().filter(|stopped| stopped.stall != Stall::ReplyPending) {
            stage.ledger.stopped(&stopped.holder.name);
        }
        let alone = |user: usize| {
            stopped.iter().any(|other| other.user == user && other.stall == Stall::ReplyPending)
        };
        let others: Vec<_> = users.iter().copied().filter(|user| !alone(*user)).collect();
        let successor = stage.start(others, Activity::Busy, None).await;
        for stopped in stopped.iter().filter(|stopped| stopped.stall != Stall::ReplyPending) {
            until("the token is taken over", || {
                stage.ledger.was_taken_over(stopped.user, &stopped.holder.name, stopped.at)
            })
            .await;
        }

        // The stopped holders go on. What they see: the time has passed.
        for stopped in &stopped {
            stopped.clock.set_ahead(100);
            stopped.gate.open();
        }
        // The replies arrive in the sockets.
        tokio::time::sleep(Duration::from_millis(150)).await;
        for stopped in &stopped {
            stopped.holder.resume();
        }
        stage.pause(1_500..2_000).await;
        for stopped in stopped {
            stage.close(stopped.holder).await;
        }
        stage.close(successor).await;
        must_connect = stage.check().await;
        let lost = |user: &usize| {
            users
                .iter()
                .take(8)
                .position(|other| other == user)
                .is_some_and(|place| kinds[place % kinds.len()] == Stall::ReplyPendingTakenOver)
        };
        assert!(must_connect.iter().all(lost), "{must_connect:?} of {users:?}");
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}: it takes too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const DAY: i64 = 24 * 60 * 60;

/// Sets wall clocks a day ahead and a day behind, and lets them step. The holders of a file run on
/// one machine and have one clock; those of a Redis server have a clock each.
async fn clock_steps(stage: &mut Stage, rounds: usize) {
    let is_one_machine = matches!(stage.store, SharedStore::File { .. });
    let steps = [DAY, -DAY, 100, -100, 3_600, 0];
    let clocks: Vec<_> = if is_one_machine {
        vec![stage.clock("machine", 0)]
    } else {
        vec![stage.clock("ahead", DAY), stage.clock("behind", -DAY), stage.clock("stepping", 0)]
    };
    let users = 0..stage.users.len();
    let mut holders = Vec::new();
    for place in 0..3 {
        let clock = &clocks[place % clocks.len()];
        holders.push(stage.start(users.clone(), Activity::Busy, Some(clock)).await);
    }
    let stepping = clocks.last().unwrap();
    stage.pause(1_000..1_500).await;
    for round in 0..rounds {
        if round > 0 && stage.is_out_of_time() {
            break;
        }
        let step = steps[stage.random.usize(..steps.len())];
        stepping.set_ahead(step);
        // A holder that starts now counts on claims that were made before the step: for a file they
        // are over.
        stage.pause(800..1_000).await;
        let holder = stage.start(users.clone(), Activity::Busy, Some(stepping)).await;
        stage.pause(1_500..2_500).await;
        stage.close(holder).await;
    }
    for holder in holders {
        stage.close(holder).await;
    }
    let must_connect = stage.check().await;
    assert!(must_connect.is_empty());
    assert_eq!(stage.reauthorizations(), 0, "a step of a clock was reported as a lost sign-in");
}

/// Makes the store unavailable for a while.
async fn outages(stage: &mut Stage, rounds: usize) {
    let mut holders = Vec::new();
    for _ in 0..4 {
        holders.push(stage.start_of_all().await);
    }
    stage.pause(1_000..1_500).await;
    for round in 0..rounds {
        if round > 0 && stage.is_out_of_time() {
            break;
        }
        let kinds = stage.store.outages();
        let outage = kinds[round % kinds.len()];
        stage.store.fail(outage).await;
        // A holder that starts now knows only that the store fails.
        let holder = stage.start_of_all().await;
        stage.pause(500..1_500).await;
        stage.store.recover(outage).await;
        stage.pause(1_000..2_000).await;
        stage.close(holder).await;
    }
    for holder in holders {
        stage.close(holder).await;
    }
    let must_connect = stage.check().await;
    assert!(must_connect.is_empty());
    assert_eq!(stage.reauthorizations(), 0, "an outage was reported as a lost sign-in");
}

/// Users sign in and out at any of the holders.
async fn sign_ins(stage: &mut Stage, rounds: usize) {
    let mut holders = Vec::new();
    for _ in 0..4 {
        holders.push(stage.start_of_all().await);
    }
    stage.pause(500..1_000).await;
    for round in 0..rounds {
        if round > 0 && stage.is_out_of_time() {
            break;
        }
        // One change for each of half of the users, all at once.
        let mut changes = Vec::new();
        for user in 0..stage.users.len() {
            let holder = &holders[stage.random.usize(..holders.len())];
            let wait = Duration::from_millis(stage.random.u64(0..800));
            let (order, at) = match stage.random.u8(..8) {
                0..2 => (stage.new_code(user), vec![holder]),
                2 => {
                    stage.users[user].expected = Expected::SignedOut;
                    (Order::SignOut { user }, vec![holder])
                }
                // A new configuration is rolled out: several holders get the same token.
                3 => (stage.new_token(user), holders.iter().skip(1).collect()),
                _ => continue,
            };
            changes.push(async move {
                tokio::time::sleep(wait).await;
                let done = join_all(at.iter().map(|holder| holder.carry_out(order.clone()))).await;
                for result in done {
                    result.unwrap_or_else(|error| panic!("user {user}: {error}"));
                }
            });
        }
        join_all(changes).await;
        // Longer than an access token is valid.
        stage.pause(2_000..2_500).await;
        agree(stage, &holders).await;
    }
    for holder in holders {
        stage.close(holder).await;
    }
    let must_connect = stage.check().await;
    assert!(must_connect.is_empty());
}

/// Checks that all holders have the newest sign-in of each user.
async fn agree(stage: &mut Stage, holders: &[Holder]) {
    let states = join_all(holders.iter().map(|holder| holder.carry_out(Order::Check))).await;
    for states in states {
        let must_connect = stage.check_states(&states.unwrap());
        assert!(must_connect.is_empty(), "lost: {must_connect:?}");
    }
}

/// Users sign in and out while the store is not available.
async fn sign_ins_during_outages(stage: &mut Stage, rounds: usize) {
    let mut holders = Vec::new();
    for _ in 0..4 {
        holders.push(stage.start_of_all().await);
    }
    stage.pause(1_000..1_500).await;
    for round in 0..rounds {
        if round > 0 && stage.is_out_of_time() {
            break;
        }
        let kinds = stage.store.outages();
        let outage = kinds[round % kinds.len()];
        stage.store.fail(outage).await;
        let mut changes = Vec::new();
        for user in 0..stage.users.len() {
            let holder = &holders[stage.random.usize(..holders.len())];
            let order = match stage.random.u8(..6) {
                0..2 => stage.new_code(user),
                2 => Order::SignOut { user },
                _ => continue,
            };
            changes.push(async move { (user, order.clone(), holder.carry_out(order).await) });
        }
        for (user, order, result) in join_all(changes).await {
            let user = &mut stage.users[user];
            match (order, result) {
                (Order::SignOut { .. }, Ok(_)) => user.expected = Expected::SignedOut,
                (Order::SignOut { .. }, Err(_)) if user.expected == Expected::SignedIn => {
                    user.expected = Expected::Either;
                }
                (Order::SignOut { .. }, Err(_)) => {}
                (_, result) => drop(result.unwrap()),
            }
        }
        stage.pause(0..500).await;
        stage.store.recover(outage).await;
        stage.pause(2_500..3_000).await;
        agree(stage, &holders).await;
    }
    for holder in holders {
        stage.close(holder).await;
    }
    let must_connect = stage.check().await;
    assert!(must_connect.is_empty());
}
