//! Runs cases that share an emulator, and audits its ledger at the end.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use payman_sdk::emulator::{Decimal, Operation};
use payman_sdk::{
    Ask, AskStream, Client, Config, Emulator, Error, ErrorKind, Event, RetryPolicy, TaskId,
    TaskState, TokenInfo,
};
use tokio::time::{Instant, timeout};

use crate::common::proxy::{FaultPolicy, Proxy, ReceivedRequest, RequestAction};
use crate::common::replies;

pub const SEND: &str = "/api/a2a/tasks/send";
pub const STREAM: &str = "/api/a2a/tasks/sendSubscribe";
pub const GET: &str = "/api/a2a/tasks/get";
pub const TOKEN: &str = "/api/oauth2/token";

/// The request that the fault affects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    Ask,
    Stream(StreamReader),
    Token,
    /// `Client::get_task`.
    Task,
    /// The first lookup of an answer whose reply was lost before.
    Lookup,
}

/// The way a stream is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StreamReader {
    Events,
    Reply,
    Text,
}

impl Target {
    pub fn path(self) -> &'static str {
        match self {
            Self::Ask => SEND,
            Self::Stream(_) => STREAM,
            Self::Token => TOKEN,
            Self::Task | Self::Lookup => GET,
        }
    }

    /// Returns the path of the request that carries out the payment.
    fn send_path(self) -> &'static str {
        if matches!(self, Self::Stream(_)) { STREAM } else { SEND }
    }
}

#[derive(Clone)]
pub enum Fault {
    /// Resets the request after this many bytes.
    Request(usize),
    Reply(RequestAction),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Complete,
    Unknown,
    CompleteOrUnknown,
    /// An error that proves that the ask was not done.
    NotDone(Vec<ErrorKind>),
    /// An error of a call that is not an ask, and proves nothing about one.
    OtherError(Vec<ErrorKind>),
}

#[derive(Clone)]
pub struct Case {
    pub row: &'static str,
    pub name: String,
    pub target: Target,
    pub fault: Fault,
    pub expect: Expected,
    /// `true` if the case ends by a timeout, which is short then.
    pub stalls: bool,
}

#[derive(Debug)]
enum Outcome {
    Complete { text: String, state: Option<TaskState> },
    Failed(Failure),
    TimedOut,
    Panicked(String),
}

#[derive(Debug)]
struct Failure {
    kind: ErrorKind,
    unknown: bool,
    safe: bool,
    names_task: bool,
    debug: String,
}

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    Complete,
    LookedUp,
    Retried,
    NotDone,
    Unknown,
    Wrong,
}

pub struct CaseResult {
    case: Case,
    cents: i64,
    task_id: TaskId,
    outcome: Outcome,
    requests: Vec<ReceivedRequest>,
    took: Duration,
}

/// The bytes of an exchange without a fault.
pub struct Reference {
    pub request_bytes: usize,
    pub reply: Vec<u8>,
}

pub struct CaseGroup {
    emulator: Emulator,
    next_cents: AtomicI64,
}

/// Amounts from $100.00 to $999.99 all have the same number of characters.
const FIRST_CENTS: i64 = 10_000;
const LAST_CENTS: i64 = 99_999;
/// The time allowed beyond the deadline, for machines under load.
const SLACK: Duration = Duration::from_secs(20);

/// Applies each action once, to the first request to its path.
struct CaseFaults {
    request: Option<(usize, usize)>,
    actions: Mutex<VecDeque<(&'static str, RequestAction)>>,
}

impl FaultPolicy for CaseFaults {
    fn reset_request_after(&self, connection: usize) -> Option<usize> {
        self.request.filter(|(number, _)| *number == connection).map(|(_, bytes)| bytes)
    }

    fn request_action(&self, path: &str) -> RequestAction {
        let mut actions = self.actions.lock().unwrap();
        match actions.front() {
            Some((action_path, _)) if *action_path == path => actions.pop_front().unwrap().1,
            _ => RequestAction::Forward,
        }
    }
}

impl CaseFaults {
    fn of(case: &Case) -> Self {
        let mut actions = VecDeque::new();
        let mut connection = 0;
        if case.target == Target::Lookup {
            actions.push_back((SEND, RequestAction::RewriteReply(replies::reset_after(0))));
            connection = 1;
        }
        let request = match &case.fault {
            Fault::Request(bytes) => Some((connection, *bytes)),
            Fault::Reply(action) => {
                actions.push_back((case.target.path(), action.clone()));
                None
            }
        };
        Self { request, actions: Mutex::new(actions) }
    }
}

impl CaseGroup {
    pub async fn start(can_look_up: bool) -> Self {
        // A large balance keeps the same number of digits in all answers.
        let builder = Emulator::builder()
            .opening_balance(Decimal::new(99_999_999_900, 2))
            .configure(|settings| settings.accept_any_token = true);
        let builder = if can_look_up {
            builder
        } else {
            builder
                .without(Operation::Get)
                .without(Operation::Resubscribe)
                .without(Operation::Cancel)
        };
        let emulator = builder.start().await.unwrap();
        emulator.client().ask("Create a payee named Tyllen").await.unwrap();
        Self { emulator, next_cents: AtomicI64::new(FIRST_CENTS) }
    }

    fn cents(&self) -> i64 {
        let cents = self.next_cents.fetch_add(1, Ordering::SeqCst);
        assert!(cents <= LAST_CENTS, "more cases than amounts");
        cents
    }

    /// Returns the exchange without a fault.
    pub async fn reference(&self, target: Target) -> Reference {
        let plan = CaseFaults { request: None, actions: Mutex::default() };
        let proxy = Proxy::recording(self.emulator.base_url(), plan).await;
        let case = Case {
            row: "",
            name: String::new(),
            target,
            fault: Fault::Request(0),
            expect: Expected::Complete,
            stalls: false,
        };
        let ask = Ask::new(format!("Pay Tyllen ${}", Decimal::new(self.cents(), 2)));
        let result = match target {
            Target::Lookup => {
                let task = self.emulator.client().ask("List all payees").await.unwrap();
                client(&proxy, &case)
                    .get_task(task.task_id().clone())
                    .await
                    .map(|task| (task.text(), None))
            }
            _ => self.exchange(&proxy, &case, ask).await,
        };
        result.unwrap();
        let request =
            proxy.requests().into_iter().find(|request| request.path == target.path()).unwrap();
        Reference { request_bytes: request.request_bytes, reply: request.reply }
    }

    pub async fn run(&self, case: Case) -> CaseResult {
        let cents = self.cents();
        let proxy = Proxy::start(self.emulator.base_url(), CaseFaults::of(&case)).await;
        let ask = Ask::new(format!("Pay Tyllen ${}", Decimal::new(cents, 2)));
        let task_id = ask.task_id().clone();
        let started = Instant::now();
        let guarded = std::panic::AssertUnwindSafe(self.exchange(&proxy, &case, ask));
        let guarded = futures::FutureExt::catch_unwind(guarded);
        let outcome = match timeout(deadline(&case) + SLACK, guarded).await {
            Err(_) => Outcome::TimedOut,
            Ok(Err(panic)) => Outcome::Panicked(
                panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()),
            ),
            Ok(Ok(Ok((text, state)))) => Outcome::Complete { text, state },
            Ok(Ok(Err(error))) => Outcome::Failed(Failure {
                kind: error.kind(),
                unknown: error.is_outcome_unknown(),
                safe: error.is_safe_to_ask_again(),
                names_task: error.task_id() == Some(&task_id),
                debug: format!("{error:?}"),
            }),
        };
        CaseResult {
            case,
            cents,
            task_id,
            outcome,
            requests: proxy.requests(),
            took: started.elapsed(),
        }
    }

    async fn exchange(
        &self,
        proxy: &Proxy,
        case: &Case,
        ask: Ask,
    ) -> Result<(String, Option<TaskState>), Error> {
        let client = client(proxy, case);
        match case.target {
            Target::Ask | Target::Token | Target::Lookup => {
                client.ask(ask).await.map(|reply| (reply.text(), Some(reply.state().clone())))
            }
            Target::Stream(way) => read(client.ask_stream(ask).await?, way).await,
            Target::Task => {
                let id = ask.task_id().clone();
                self.emulator.client().ask(ask).await.expect("the ask has no fault");
                client.get_task(id).await.map(|task| (task.text(), Some(task.state().clone())))
            }
        }
    }

    /// Checks every case against the state of the emulator. Returns its column, and a description
    /// of each violation.
    pub fn audit(&self, results: &[CaseResult]) -> Vec<(Column, Vec<String>)> {
        let state = self.emulator.state();
        let mut payments: HashMap<Decimal, Vec<&TaskId>> = HashMap::new();
        for payment in &state.payments {
            payments.entry(payment.amount).or_default().push(&payment.task_id);
        }
        let texts: HashMap<_, _> = state.tasks.iter().map(|task| (&task.id, task.text())).collect();
        results
            .iter()
            .map(|result| {
                let paid =
                    payments.get(&Decimal::new(result.cents, 2)).map_or(&[][..], Vec::as_slice);
                let sends = state.sends.get(&result.task_id).copied().unwrap_or(0);
                let mut violations = result.violations(paid, sends);
                if let Outcome::Complete { text, .. } = &result.outcome
                    && texts.get(&result.task_id) != Some(text)
                {
                    violations.push(format!(
                        "the reply is {text:?}, not {:?}",
                        texts.get(&result.task_id)
                    ));
                }
                (if violations.is_empty() { result.column() } else { Column::Wrong }, violations)
            })
            .collect()
    }
}

impl CaseResult {
    pub fn row(&self) -> &'static str {
        self.case.row
    }

    pub fn describe(&self) -> String {
        let paths: Vec<_> = self
            .requests
            .iter()
            .map(|request| request.path.rsplit('/').next().unwrap_or_default())
            .collect();
        format!(
            "{:?} {} [{}] expected {:?}, was {:?} after {:?}, requests {paths:?}",
            self.case.target,
            self.case.row,
            self.case.name,
            self.case.expect,
            self.outcome,
            self.took
        )
    }

    fn count_requests(&self, path: &str) -> usize {
        self.requests.iter().filter(|request| request.path == path).count()
    }

    fn column(&self) -> Column {
        let looked_up = self.count_requests(GET) > 0;
        let retried = match self.case.target {
            Target::Token => self.count_requests(TOKEN) > 1 || self.case.row == "request reset",
            Target::Task => self.count_requests(GET) > 1 || self.case.row == "request reset",
            target => self.count_requests(target.send_path()) > 1,
        };
        match &self.outcome {
            Outcome::Complete { .. } if retried => Column::Retried,
            Outcome::Complete { .. } if looked_up && self.case.target != Target::Task => {
                Column::LookedUp
            }
            Outcome::Complete { .. } => Column::Complete,
            Outcome::Failed(failed) if failed.unknown => Column::Unknown,
            Outcome::Failed(_) => Column::NotDone,
            Outcome::TimedOut | Outcome::Panicked(_) => Column::Wrong,
        }
    }

    /// Returns the violated requirements. `paid` has the tasks of the payments of this amount;
    /// `sends` is the number of times that the message reached the agent.
    fn violations(&self, paid: &[&TaskId], sends: u64) -> Vec<String> {
        let mut violations = Vec::new();
        let mut require = |holds: bool, what: &str| {
            if !holds {
                violations.push(what.to_owned());
            }
        };
        require(paid.len() <= 1, "the payment was made more than once");
        require(sends <= 1, "the ask reached the agent more than once");
        require(paid.iter().all(|task| **task == self.task_id), "another task paid this amount");
        require(self.took <= deadline(&self.case) + SLACK / 2, "the ask overran its deadline");
        match &self.outcome {
            Outcome::Complete { state, .. } => {
                require(paid.len() == 1, "reported as done, but not paid");
                require(
                    state.as_ref().is_none_or(|state| *state == TaskState::Completed),
                    "the state is not completed",
                );
            }
            Outcome::Failed(failed) => {
                require(!(failed.safe && failed.unknown), "the error is both safe and unknown");
                require(!failed.safe || paid.is_empty(), "reported as safe to ask again, but paid");
                require(failed.names_task, "the error does not name the task");
                require(!failed.debug.contains("Tyllen"), "the error quotes the ask");
            }
            Outcome::TimedOut => require(false, "the ask did not end"),
            Outcome::Panicked(what) => require(false, what),
        }
        require(self.is_expected(), "the outcome is not the expected one");
        violations
    }

    fn is_expected(&self) -> bool {
        match (&self.case.expect, &self.outcome) {
            (Expected::Complete | Expected::CompleteOrUnknown, Outcome::Complete { .. }) => true,
            (Expected::Unknown | Expected::CompleteOrUnknown, Outcome::Failed(failed)) => {
                failed.unknown
            }
            (Expected::NotDone(kinds), Outcome::Failed(failed)) => {
                failed.safe && kinds.contains(&failed.kind)
            }
            (Expected::OtherError(kinds), Outcome::Failed(failed)) => {
                !failed.safe && !failed.unknown && kinds.contains(&failed.kind)
            }
            _ => false,
        }
    }
}

fn deadline(case: &Case) -> Duration {
    if case.stalls { Duration::from_secs(8) } else { Duration::from_secs(30) }
}

fn client(proxy: &Proxy, case: &Case) -> Client {
    // Lookups end early if they cannot succeed, and otherwise allow for a machine under load.
    let recovery_timeout = match (&case.expect, case.target) {
        // The answer to the lookup matters, so the time allows for a machine under load.
        (Expected::Unknown, Target::Lookup) => Duration::from_secs(3),
        (Expected::Unknown, _) => Duration::from_millis(300),
        _ => Duration::from_secs(6),
    };
    let timeout_limit =
        if case.stalls { Duration::from_millis(300) } else { Duration::from_secs(20) };
    let config = Config::new("client-id")
        .client_secret("client-secret")
        .base_url(&proxy.url)
        .reply_timeout(timeout_limit)
        .idle_timeout(timeout_limit)
        .deadline(deadline(case))
        .retry(RetryPolicy::default().recovery_timeout(recovery_timeout))
        .configure_http(|http| http.pool_max_idle_per_host(0));
    if case.target == Target::Token {
        return Client::with_credentials(config).unwrap();
    }
    Client::with_token(config, TokenInfo::access("access-token", Duration::from_secs(3600)))
        .unwrap()
}

async fn read(stream: AskStream, way: StreamReader) -> Result<(String, Option<TaskState>), Error> {
    match way {
        StreamReader::Reply => {
            stream.into_reply().await.map(|reply| (reply.text(), Some(reply.state().clone())))
        }
        StreamReader::Text => {
            let pieces: Vec<Result<String, Error>> = stream.text().collect().await;
            pieces.into_iter().collect::<Result<String, Error>>().map(|text| (text, None))
        }
        StreamReader::Events => read_events(stream).await,
    }
}

/// Accumulates the events of a single artifact, as an application would.
async fn read_events(mut stream: AskStream) -> Result<(String, Option<TaskState>), Error> {
    let (mut text, mut state, mut whole_tasks) = (String::new(), None, false);
    while let Some(event) = stream.next().await {
        match event? {
            Event::Artifact(update) => {
                assert!(!whole_tasks, "only snapshots follow an interruption");
                if !update.artifact.append {
                    text.clear();
                }
                text.push_str(&update.text());
            }
            Event::Status(update) => state = Some(update.state().clone()),
            Event::Task(task) => {
                whole_tasks = true;
                text = task.text();
                state = Some(task.state().clone());
            }
            other => panic!("an unexpected event: {other:?}"),
        }
    }
    assert_eq!(stream.reply_so_far().text(), text, "the events and the accumulated text differ");
    assert!(stream.next().await.is_none(), "the stream yields an event after its end");
    Ok((text, state))
}
