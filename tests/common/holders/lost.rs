//! Requests or replies that are lost: 5 % of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Client, Config, Emulator, ErrorKind, TaskId, TokenInfo, TokenStore};
use serde::{Deserialize, Serialize};

use super::{is_full, random, scopes_of};

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
    /// Returns the long form where the environment asks for it, else the short one.
    pub fn from_env() -> Self {
        if is_full() {
            Self { sign_ins: 64, holders: 8, seconds: 40 }
        } else {
            Self { sign_ins: 16, holders: 4, seconds: 6 }
        }
    }
}

/// The settings of one holder.
#[derive(Clone, Serialize, Deserialize)]
pub struct HolderPlan {
    pub base_url: String,
    pub refresh_tokens: Vec<String>,
    pub seconds: u64,
    /// The number of seconds to continue once nothing is lost anymore: longer than a token lives.
    pub calm_seconds: u64,
}

/// The end of a sign-in, for one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInEnd {
    SignedIn,
    ConnectAgain,
    /// Neither of them, with the error.
    Wrong(String),
}

/// The observations of one holder: the end of each sign-in, and violations.
#[derive(Debug, Serialize, Deserialize)]
pub struct LostReport {
    pub ended: Vec<SignInEnd>,
    pub violations: Vec<String>,
    pub calls: u64,
}

pub struct Faults {
    payman: Emulator,
    pub plan: HolderPlan,
    lost: Lost,
    size: Size,
}

impl Faults {
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
        let plan = HolderPlan {
            base_url: payman.base_url().to_owned(),
            refresh_tokens,
            seconds: size.seconds,
            calm_seconds: 4,
        };
        Self { payman, plan, lost, size }
    }

    /// Loses 5 % of the requests or replies while the plan lasts. Tokens are valid for one or two
    /// seconds.
    pub async fn inject(&self) {
        let mut random = random("the faults");
        let fault = Fault::close().on(Operation::Token);
        let fault = if let Lost::Replies = self.lost { fault.after_acting() } else { fault };
        // Independent of each other: a repeated request is as likely to be lost as any other.
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
        // On a busy machine a refresh may take longer than such a token is valid.
        self.payman.configure(|settings| settings.token_lifetime = Duration::from_secs(60));
    }

    /// Checks the reports of all holders.
    pub fn check_reports(&self, reports: &[LostReport]) {
        let state = self.payman.state();
        let (sign_ins, holders) = (self.size.sign_ins, self.size.holders);
        assert_eq!(reports.len(), holders);
        let mut sums = BTreeMap::<&str, usize>::new();
        for sign_in in 0..sign_ins {
            let ended: Vec<_> = reports.iter().map(|report| &report.ended[sign_in]).collect();
            for (holder, end) in ended.iter().enumerate() {
                assert!(
                    !matches!(end, SignInEnd::Wrong(_)),
                    "sign-in {sign_in}, holder {holder}: {end:?}"
                );
            }
            assert!(
                ended.iter().all(|end| end == &ended[0]),
                "sign-in {sign_in}: the holders disagree: {ended:?}"
            );
            *sums
                .entry(if *ended[0] == SignInEnd::SignedIn { "signed in" } else { "connect again" })
                .or_default() += 1;
        }
        let calls: u64 = reports.iter().map(|report| report.calls).sum();
        eprintln!(
            "{:?} lost; {sign_ins} sign-ins with {holders} holders each: {} token requests, {calls} calls, {} reuses; {sums:?}",
            self.lost, state.token_requests, state.refresh_reuses,
        );
        for report in reports {
            assert!(report.violations.is_empty(), "{:#?}", report.violations);
        }
        // A refresh every 0.8 to 1.8 s until the sign-in ends; far fewer on a busy machine.
        let least = sign_ins as u64 * self.size.seconds / 8;
        match self.lost {
            Lost::Requests => {
                assert_eq!(state.refresh_reuses, 0, "a refresh token was spent twice");
                assert_eq!(sums.get("signed in"), Some(&sign_ins), "a sign-in was lost");
                assert!(
                    state.token_requests > least,
                    "{} token requests are too few",
                    state.token_requests
                );
            }
            Lost::Replies => {
                assert!(sums.contains_key("connect again"), "no reply was lost");
                // No request loop: one request for each refresh, and one or two more for each that
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

/// Runs one holder of every sign-in.
pub async fn hold(plan: &HolderPlan, store: impl Fn(usize) -> Arc<dyn TokenStore>) -> LostReport {
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
    let mut report = LostReport { ended: Vec::new(), violations: Vec::new(), calls: 0 };
    for running in running {
        let (ended, violations, calls) = running.await.unwrap();
        report.ended.push(ended);
        report.violations.extend(violations);
        report.calls += calls;
    }
    report
}

async fn use_until(
    client: Client,
    sign_in: usize,
    until: Instant,
) -> (SignInEnd, Vec<String>, u64) {
    let (scopes, mut violations, mut calls) = (scopes_of(sign_in), Vec::new(), 0);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..250))).await;
        calls += 1;
        match client.access_token().await {
            Ok(_) => {
                let held: BTreeSet<_> =
                    client.token_status().scopes().iter().map(ToString::to_string).collect();
                if held != scopes {
                    violations.push(format!(
                        "sign-in {sign_in} has another identity's token: {held:?}, not {scopes:?}"
                    ));
                }
            }
            Err(error) if error.is_reauthorization_required() => {}
            // All requests of a refresh were lost until the token expired.
            Err(error) if error.is_safe_to_ask_again() => {}
            Err(error) => violations.push(format!("sign-in {sign_in}: {error:?}")),
        }
    }
    (end_of(&client).await, violations, calls)
}

/// Returns the end of a sign-in, by sending a request that needs it.
async fn end_of(client: &Client) -> SignInEnd {
    let limit = Instant::now() + Duration::from_secs(15);
    loop {
        match client.get_task(TaskId::new()).await {
            Err(error) if error.kind() == ErrorKind::TaskNotFound => return SignInEnd::SignedIn,
            Err(error) if error.is_reauthorization_required() => return SignInEnd::ConnectAgain,
            // Temporary: the store is busy, or the token expired on its way to the server.
            Err(error)
                if (error.is_auth() || error.is_safe_to_ask_again()) && Instant::now() < limit => {}
            Err(error) => return SignInEnd::Wrong(format!("{error:?}")),
            Ok(task) => return SignInEnd::Wrong(format!("an unknown task is known: {task:?}")),
        }
    }
}
