//! A reverse proxy in front of the emulator that records who spends which refresh token.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::{Notify, watch};

/// The header that names a holder.
pub const HOLDER: &str = "x-test-holder";
/// A refresh of a holder on a busy machine, from the request until the token is stored.
const LONGEST_REFRESH: Duration = Duration::from_secs(10);
/// The largest request.
const MAX_BODY: usize = 1 << 20;

/// A user's sign-in, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignIn {
    pub user: usize,
    pub number: u32,
}

/// The treatment of a holder's token requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// HTTP 503, and the server does not get the request.
    Unavailable,
    /// The reply breaks off, and the server does not get the request.
    Lost,
    /// The server acts; its reply waits until the gate is opened.
    HoldReply,
}

/// An interception in progress, for one holder.
#[derive(Clone)]
pub struct Gate {
    interception: Interception,
    /// Notified by each request.
    reached: Arc<Notify>,
    opened: watch::Sender<bool>,
}

impl Gate {
    /// Waits for the first request.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets held replies and later requests pass.
    pub fn open(&self) {
        self.opened.send_replace(true);
    }
}

struct Spend {
    holder: String,
    at: Instant,
}

#[derive(Default)]
struct Records {
    refresh_tokens: HashMap<String, SignIn>,
    access_tokens: HashMap<String, SignIn>,
    codes: HashMap<String, SignIn>,
    /// The requests with each refresh token or code that the server received.
    spends: HashMap<String, Vec<Spend>>,
    successors: HashMap<String, String>,
    /// The times at which requests were sent that a killed or stopped holder could not complete.
    interrupted: HashMap<String, Range<Instant>>,
    gates: HashMap<String, Gate>,
    violations: Vec<String>,
    delays: fastrand::Rng,
}

/// The totals of a run.
pub struct SpendTotals {
    pub refreshes: usize,
    /// Spends of a token that an interrupted holder had spent before: unavoidable.
    pub excused: usize,
    pub violations: Vec<String>,
}

pub struct Ledger {
    base_url: String,
    target: String,
    http: reqwest::Client,
    longest_delay: Duration,
    records: Mutex<Records>,
}

impl Ledger {
    /// Starts the proxy. Token requests are delayed before and after the server acts.
    pub async fn start(target: &str, seed: u64, longest_delay: Duration) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ledger = Arc::new(Self {
            base_url: format!("http://{}", listener.local_addr().unwrap()),
            target: target.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            longest_delay,
            records: Mutex::new(Records {
                delays: fastrand::Rng::with_seed(seed),
                ..Records::default()
            }),
        });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&ledger));
        tokio::spawn(async move { axum::serve(listener, router).await });
        ledger
    }

    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap()
    }

    /// Registers the first refresh token of a sign-in.
    pub fn issued_token(&self, token: &str, sign_in: SignIn) {
        self.records().refresh_tokens.insert(token.to_owned(), sign_in);
    }

    /// Registers the auth code of a sign-in.
    pub fn issued_code(&self, code: &str, sign_in: SignIn) {
        self.records().codes.insert(code.to_owned(), sign_in);
    }

    /// Returns the sign-in of an access token.
    pub fn sign_in_of(&self, access_token: &str) -> Option<SignIn> {
        self.records().access_tokens.get(access_token).copied()
    }

    /// Intercepts the token requests of a holder from now on.
    pub fn intercept(&self, holder: &str, interception: Interception) -> Gate {
        let gate =
            Gate { interception, reached: Arc::default(), opened: watch::Sender::new(false) };
        self.records().gates.insert(holder.to_owned(), gate.clone());
        gate
    }

    /// Notes that a holder was stopped for longer than a lease: another one may repeat the requests
    /// that it sent just before.
    pub fn stopped(&self, holder: &str) {
        self.interrupted(holder, Duration::ZERO);
    }

    /// Notes that a holder was killed. What is in its sockets arrives a little later.
    pub fn killed(&self, holder: &str) {
        self.interrupted(holder, LONGEST_REFRESH);
    }

    fn interrupted(&self, holder: &str, later: Duration) {
        let now = Instant::now();
        let excused = now - LONGEST_REFRESH..now + later;
        self.records().interrupted.insert(holder.to_owned(), excused);
    }

    /// Returns true once another holder than this one spent the present token of a user.
    pub fn was_taken_over(&self, user: usize, from: &str, since: Instant) -> bool {
        let records = self.records();
        records.spends.iter().any(|(token, spends)| {
            records.refresh_tokens.get(token).is_some_and(|sign_in| sign_in.user == user)
                && spends.iter().any(|spend| spend.holder != from && spend.at > since)
        })
    }

    /// Returns the sign-ins that ended because a holder was killed or stopped between the rotation
    /// at the server and the write to the store. That is unavoidable.
    pub fn lost_with_holder(&self) -> HashSet<SignIn> {
        let records = self.records();
        let lost = records.spends.iter().filter(|(_, spends)| spends.len() > 1);
        let lost = lost.filter(|(token, spends)| records.is_excused(token, spends));
        lost.filter_map(|(token, _)| records.refresh_tokens.get(token).copied()).collect()
    }

    /// Returns the totals, and the tokens that were spent twice by holders that were both alive.
    pub fn totals(&self) -> SpendTotals {
        let records = self.records();
        let mut violations = records.violations.clone();
        let mut excused = 0;
        for (token, spends) in records.spends.iter().filter(|(_, spends)| spends.len() > 1) {
            if records.is_excused(token, spends) {
                excused += spends.len() - 1;
                continue;
            }
            let sign_in = records.refresh_tokens.get(token);
            let first = spends[0].at;
            let spends: Vec<_> = spends
                .iter()
                .map(|spend| format!("{} after {:?}", spend.holder, spend.at - first))
                .collect();
            violations.push(format!("{sign_in:?}: a refresh token was spent twice: {spends:?}"));
        }
        SpendTotals { refreshes: records.successors.len(), excused, violations }
    }
}

impl Records {
    /// Returns true where each spend but the last was made by a holder that was interrupted right
    /// afterwards, and that did not store the token's successor.
    fn is_excused(&self, token: &str, spends: &[Spend]) -> bool {
        let (_, earlier) = spends.split_last().unwrap();
        let is_stored =
            self.successors.get(token).is_some_and(|token| self.spends.contains_key(token));
        let is_interrupted = |spend: &Spend| {
            self.interrupted.get(&spend.holder).is_some_and(|sent| sent.contains(&spend.at))
        };
        !is_stored && earlier.iter().all(is_interrupted)
    }

    fn delay(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.delays.f64())
    }

    /// Notes a token reply: its tokens belong to the sign-in of the grant.
    fn note_reply(&mut self, grant: String, sign_in: SignIn, reply: &Value) {
        let text = |names: [&str; 2]| {
            names.iter().find_map(|name| reply.get(name)).and_then(Value::as_str).map(str::to_owned)
        };
        if let Some(access) = text(["accessToken", "access_token"]) {
            self.access_tokens.insert(access, sign_in);
        }
        if let Some(refresh) = text(["refreshToken", "refresh_token"]) {
            self.refresh_tokens.insert(refresh.clone(), sign_in);
            self.successors.insert(grant, refresh);
        }
    }

    /// Checks that a request is made in the name of the user that its task names.
    fn check_identity(&mut self, holder: &str, headers: &HeaderMap, body: &[u8]) {
        let token = headers.get("x-payman-access-token").and_then(|value| value.to_str().ok());
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let user = body["params"]["id"].as_str().and_then(user_of_task);
        let owner = self.access_tokens.get(token.unwrap_or_default());
        if user.is_none() || owner.map(|sign_in| sign_in.user) != user {
            self.violations.push(format!(
                "holder {holder}: a request for user {user:?} with a token of {owner:?}"
            ));
        }
    }
}

/// Returns the id of a task that nobody knows, for a request in the name of a user.
pub fn task_of_user(user: usize) -> String {
    format!("user-{user}-{}", fastrand::u64(..))
}

fn user_of_task(id: &str) -> Option<usize> {
    id.strip_prefix("user-")?.split('-').next()?.parse().ok()
}

async fn handle(State(ledger): State<Arc<Ledger>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let holder = parts.headers.get(HOLDER).and_then(|name| name.to_str().ok()).unwrap_or("?");
    let query = parts.uri.query().unwrap_or_default();
    let parameters: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
    if !parameters.contains_key("grant_type") {
        ledger.records().check_identity(holder, &parts.headers, &body);
        return ledger.forward(&parts, body).await.into_response();
    }
    let gate = ledger.records().gates.get(holder).filter(|gate| !*gate.opened.borrow()).cloned();
    match gate.as_ref().map(|gate| gate.interception) {
        Some(Interception::Unavailable) => {
            gate.unwrap().reached.notify_one();
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        Some(Interception::Lost) => {
            gate.unwrap().reached.notify_one();
            let broken = Err::<Bytes, _>(std::io::Error::other("cut"));
            return Body::from_stream(futures::stream::iter([broken])).into_response();
        }
        Some(Interception::HoldReply) | None => {}
    }
    let before = ledger.records().delay(ledger.longest_delay);
    tokio::time::sleep(before).await;
    let grant = parameters.get("refresh_token").or(parameters.get("code")).cloned();
    let grant = grant.unwrap_or_default().into_owned();
    // A task of its own: what the server began it completes, whether or not the holder still lives.
    let acting =
        tokio::spawn(Arc::clone(&ledger).exchange(holder.to_owned(), grant, parts.clone()));
    let forwarded = acting.await.unwrap();
    if let Some(gate) = gate {
        gate.reached.notify_one();
        let mut opened = gate.opened.subscribe();
        let _ = opened.wait_for(|opened| *opened).await;
    }
    let after = ledger.records().delay(ledger.longest_delay);
    tokio::time::sleep(after).await;
    forwarded.into_response()
}

/// A response of the emulator.
struct Forwarded {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl IntoResponse for Forwarded {
    fn into_response(self) -> Response {
        (self.status, self.headers, self.body).into_response()
    }
}

impl Ledger {
    /// Forwards a token request, and records what was spent and what was issued.
    async fn exchange(self: Arc<Self>, holder: String, grant: String, parts: Parts) -> Forwarded {
        let sign_in = {
            let mut records = self.records();
            match records.codes.get(&grant).or(records.refresh_tokens.get(&grant)).copied() {
                Some(sign_in) => {
                    let spend = Spend { holder, at: Instant::now() };
                    records.spends.entry(grant.clone()).or_default().push(spend);
                    Some(sign_in)
                }
                None => {
                    records.violations.push(format!("holder {holder}: an unknown grant"));
                    None
                }
            }
        };
        let forwarded = self.forward(&parts, Bytes::new()).await;
        if let Some(sign_in) = sign_in
            && forwarded.status.is_success()
        {
            let reply = serde_json::from_slice(&forwarded.body).unwrap_or_default();
            self.records().note_reply(grant, sign_in, &reply);
        }
        forwarded
    }

    async fn forward(&self, parts: &Parts, body: Bytes) -> Forwarded {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers.clone();
        for name in [header::HOST, header::CONTENT_LENGTH, header::CONNECTION] {
            headers.remove(name);
        }
        let request = self
            .http
            .request(parts.method.clone(), format!("{}{path}", self.target))
            .headers(headers)
            .body(body);
        let response = request.send().await.unwrap();
        let (status, mut headers) = (response.status(), response.headers().clone());
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
            headers.remove(name);
        }
        Forwarded { status, headers, body: response.bytes().await.unwrap() }
    }
}
