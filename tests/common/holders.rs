//! Many sign-ins, each held by several clients at once, against a server that rotates refresh
//! tokens on every use, revokes a sign-in whose old refresh token comes back, and loses 5 % of the
//! requests or of the replies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Client, Config, Emulator, ErrorKind, Scope, TaskId, TokenInfo, TokenStore};
use serde::{Deserialize, Serialize};

const SCOPES: [Scope; 7] = [
    Scope::ReadBalance,
    Scope::ReadListWallets,
    Scope::ReadListPayees,
    Scope::ReadListTransactions,
    Scope::WriteCreatePayee,
    Scope::WriteSendPayment,
    Scope::WriteCreateWallet,
];

/// Each sign-in has a set of scopes of its own: a token tells whose it is. The app's own has all of
/// them.
fn scopes_of(sign_in: usize) -> BTreeSet<String> {
    let bits = sign_in + 1;
    assert!(bits < 127, "more sign-ins than sets of scopes");
    let names = SCOPES.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
    names.map(|(_, scope)| scope.to_string()).collect()
}

#[derive(Clone, Copy, Debug)]
pub enum Lost {
    /// 5 % of the token requests are cut before the server acts.
    Requests,
    /// 5 % of the token replies are cut after it acted.
    Replies,
}

#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub sign_ins: usize,
    pub holders: usize,
    pub seconds: u64,
}

impl Size {
    /// In full where the environment says so, smaller else.
    pub fn from_env() -> Self {
        if std::env::var("PAYMAN_TOKEN_STORE").is_ok_and(|size| size == "full") {
            Self { sign_ins: 64, holders: 8, seconds: 40 }
        } else {
            Self { sign_ins: 16, holders: 4, seconds: 6 }
        }
    }
}

/// The settings of a holder.
#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    pub base_url: String,
    pub refresh_tokens: Vec<String>,
    pub seconds: u64,
    /// The time to go on once nothing is lost any more, in seconds: longer than a token lives.
    pub calm_seconds: u64,
}

/// The end of a sign-in, for one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    Saved,
    ConnectAgain,
    /// Neither: what went wrong.
    Wrong(String),
}

/// The observations of one holder: the end of each sign-in, and anything that should never happen.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub ended: Vec<Ended>,
    pub odd: Vec<String>,
    pub calls: u64,
}

pub struct Server {
    payman: Emulator,
    pub plan: Plan,
    lost: Lost,
    size: Size,
}

impl Server {
    pub async fn start(lost: Lost, size: Size) -> Self {
        let payman = Emulator::builder()
            .rotate_refresh_tokens()
            .token_lifetime(Duration::from_secs(2))
            .start()
            .await
            .unwrap();
        let refresh_tokens = (0..size.sign_ins)
            .map(|sign_in| payman.issue_refresh_token(scopes_of(sign_in)))
            .collect();
        let plan = Plan {
            base_url: payman.base_url().to_owned(),
            refresh_tokens,
            seconds: size.seconds,
            calm_seconds: 4,
        };
        Self { payman, plan, lost, size }
    }

    /// Loses 5 % of what there is to lose, with tokens that live for a second or two for as long as
    /// the plan says.
    pub async fn misbehave(&self) {
        let mut random = random("the faults");
        let fault = Fault::close().on(Operation::Token);
        let fault = if let Lost::Replies = self.lost { fault.after_acting() } else { fault };
        // Each request by its own luck: a request that is sent again is as likely to be lost as any
        // other.
        let losses =
            (0..10_000).filter(|_| random.f64() < 0.05).map(|place| fault.clone().skip(place));
        self.payman.faults(losses);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(self.size.seconds) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.payman.configure(|settings| {
                settings.token_lifetime = Duration::from_secs(random.u64(1..=2))
            });
        }
        // A machine with much else to do may need longer for a refresh than such a token lives.
        self.payman.configure(|settings| settings.token_lifetime = Duration::from_secs(60));
    }

    /// Judges what the holders saw.
    pub fn check_reports(&self, reports: &[Report]) {
        let state = self.payman.state();
        let (sign_ins, holders) = (self.size.sign_ins, self.size.holders);
        assert_eq!(reports.len(), holders);
        let mut sums = BTreeMap::<&str, usize>::new();
        for sign_in in 0..sign_ins {
            let ended: Vec<_> = reports.iter().map(|report| &report.ended[sign_in]).collect();
            for (holder, end) in ended.iter().enumerate() {
                assert!(
                    !matches!(end, Ended::Wrong(_)),
                    "sign-in {sign_in}, holder {holder}: {end:?}"
                );
            }
            assert!(
                ended.iter().all(|end| end == &ended[0]),
                "sign-in {sign_in}: the holders disagree: {ended:?}"
            );
            *sums
                .entry(if *ended[0] == Ended::Saved { "saved" } else { "connect again" })
                .or_default() += 1;
        }
        let calls: u64 = reports.iter().map(|report| report.calls).sum();
        eprintln!(
            "{:?} lost; {sign_ins} sign-ins with {holders} holders each: {} token requests, {calls} calls, {} reuses; {sums:?}",
            self.lost, state.token_requests, state.refresh_reuses,
        );
        for report in reports {
            assert!(report.odd.is_empty(), "{:#?}", report.odd);
        }
        // A refresh in 0.8 to 1.8 s, while the sign-in lives; a busy machine makes far fewer of
        // them.
        let least = sign_ins as u64 * self.size.seconds / 8;
        match self.lost {
            Lost::Requests => {
                assert_eq!(state.refresh_reuses, 0, "a refresh token was spent twice");
                assert_eq!(sums.get("saved"), Some(&sign_ins), "a sign-in was lost");
                assert!(
                    state.token_requests > least,
                    "{} token requests are too few to tell",
                    state.token_requests
                );
            }
            Lost::Replies => {
                assert!(sums.contains_key("connect again"), "no reply was lost");
                // Never in a loop: one request for each refresh, and one or two more for each that
                // was lost.
                let most =
                    sign_ins as u64 * (self.size.seconds + self.plan.calm_seconds + 3) * 5 / 2;
                assert!(
                    state.token_requests < most,
                    "{} token requests are a loop",
                    state.token_requests
                );
            }
        }
    }
}

fn random(what: &str) -> fastrand::Rng {
    let seed = std::env::var("PAYMAN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed of {what}: {seed} (PAYMAN_SEED sets it)");
    fastrand::Rng::with_seed(seed)
}

/// One holder of every sign-in.
pub async fn hold(plan: &Plan, store: impl Fn(usize) -> Arc<dyn TokenStore>) -> Report {
    let until = Instant::now() + Duration::from_secs(plan.seconds + plan.calm_seconds);
    let mut first: Option<Client> = None;
    let mut running = Vec::new();
    for (sign_in, refresh_token) in plan.refresh_tokens.iter().enumerate() {
        let mut config = Config::new("client-id")
            .client_secret("client-secret")
            .base_url(&plan.base_url)
            .subject(format!("user {sign_in}"))
            .token_store(store(sign_in));
        if let Some(first) = &first {
            config = config.share_connections(first);
        }
        let client = Client::with_token(config, TokenInfo::refresh_only(refresh_token)).unwrap();
        first.get_or_insert_with(|| client.clone());
        running.push(tokio::spawn(use_until(client, sign_in, until)));
    }
    let mut report = Report { ended: Vec::new(), odd: Vec::new(), calls: 0 };
    for running in running {
        let (ended, odd, calls) = running.await.unwrap();
        report.ended.push(ended);
        report.odd.extend(odd);
        report.calls += calls;
    }
    report
}

async fn use_until(client: Client, sign_in: usize, until: Instant) -> (Ended, Vec<String>, u64) {
    let (scopes, mut odd, mut calls) = (scopes_of(sign_in), Vec::new(), 0);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..250))).await;
        calls += 1;
        match client.access_token().await {
            Ok(_) => {
                let held: BTreeSet<_> =
                    client.token_status().scopes().iter().map(ToString::to_string).collect();
                if held != scopes {
                    odd.push(format!(
                        "sign-in {sign_in} has another identity's token: {held:?}, not {scopes:?}"
                    ));
                }
            }
            Err(error) if error.is_reauthorization_required() => {}
            // A refresh whose requests were lost one after the other, for longer than the token
            // lived.
            Err(error) if error.is_safe_to_ask_again() => {}
            Err(error) => odd.push(format!("sign-in {sign_in}: {error:?}")),
        }
    }
    (end_of(&client).await, odd, calls)
}

/// Whether the sign-in works, by asking the server for something that needs it.
async fn end_of(client: &Client) -> Ended {
    let limit = Instant::now() + Duration::from_secs(15);
    loop {
        match client.get_task(TaskId::new()).await {
            Err(error) if error.kind() == ErrorKind::TaskNotFound => return Ended::Saved,
            Err(error) if error.is_reauthorization_required() => return Ended::ConnectAgain,
            // A store that is busy for a moment is no end, nor is a token that expires on its way
            // to the server.
            Err(error)
                if (error.is_auth() || error.is_safe_to_ask_again()) && Instant::now() < limit => {}
            Err(error) => return Ended::Wrong(format!("{error:?}")),
            Ok(task) => return Ended::Wrong(format!("an unknown task is known: {task:?}")),
        }
    }
}
