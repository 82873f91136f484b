//! Cases that share an emulator: how they are run, and the audit of its ledger at the end.

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

/// Which request meets the fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    Ask,
    Stream(Way),
    Token,
    /// `Client::get_task`.
    Task,
    /// The first lookup of an answer whose reply was lost before.
    Lookup,
}

/// The way a stream is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
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
    fn sends(self) -> &'static str {
        if matches!(self, Self::Stream(_)) { STREAM } else { SEND }
    }
}

#[derive(Clone)]
pub enum Fault {
    /// The request is reset after so many bytes.
    Request(usize),
    Reply(RequestAction),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    Whole,
    Unknown,
    WholeOrUnknown,
    /// An error, surely not done.
    Refused(Vec<ErrorKind>),
    /// An error of a call that is no ask: it says nothing of what was done.
    Settled(Vec<ErrorKind>),
}

#[derive(Clone)]
pub struct Case {
    pub row: &'static str,
    pub name: String,
    pub target: Target,
    pub fault: Fault,
    pub expect: Expect,
    /// Whether time has to run out before anything happens.
    pub stalls: bool,
}

#[derive(Debug)]
enum Outcome {
    Whole { text: String, state: Option<TaskState> },
    Failed(Failed),
    Overran,
    Panicked(String),
}

#[derive(Debug)]
struct Failed {
    kind: ErrorKind,
    unknown: bool,
    safe: bool,
    names_task: bool,
    debug: String,
}

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    Whole,
    Found,
    Again,
    Refused,
    Unknown,
    Bad,
}

pub struct Ran {
    case: Case,
    cents: i64,
    task_id: TaskId,
    outcome: Outcome,
    seen: Vec<ReceivedRequest>,
    took: Duration,
}

/// A clean exchange as it is on the wire.
pub struct Reference {
    pub request_bytes: usize,
    pub reply: Vec<u8>,
}

pub struct Group {
    emulator: Emulator,
    next_cents: AtomicI64,
}

/// Every amount is written with as many characters: $100.00 to $999.99.
const FIRST_CENTS: i64 = 10_000;
const LAST_CENTS: i64 = 99_999;
/// On top of the deadline: what a machine that is busy with other things may take.
const SLACK: Duration = Duration::from_secs(20);

/// Each act once, with the first request to its path.
struct Plan {
    request: Option<(usize, usize)>,
    acts: Mutex<VecDeque<(&'static str, RequestAction)>>,
}

impl FaultPolicy for Plan {
    fn reset_request_after(&self, connection: usize) -> Option<usize> {
        self.request.filter(|(number, _)| *number == connection).map(|(_, bytes)| bytes)
    }

    fn request_action(&self, path: &str) -> RequestAction {
        let mut acts = self.acts.lock().unwrap();
        match acts.front() {
            Some((meant, _)) if *meant == path => acts.pop_front().unwrap().1,
            _ => RequestAction::Forward,
        }
    }
}

impl Plan {
    fn of(case: &Case) -> Self {
        let mut acts = VecDeque::new();
        let mut connection = 0;
        if case.target == Target::Lookup {
            acts.push_back((SEND, RequestAction::RewriteReply(replies::reset_after(0))));
            connection = 1;
        }
        let request = match &case.fault {
            Fault::Request(bytes) => Some((connection, *bytes)),
            Fault::Reply(act) => {
                acts.push_back((case.target.path(), act.clone()));
                None
            }
        };
        Self { request, acts: Mutex::new(acts) }
    }
}

impl Group {
    pub async fn start(can_look_up: bool) -> Self {
        // Large and round, so that the balance in the answers never changes its length.
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

    /// The exchange without a fault.
    pub async fn reference(&self, target: Target) -> Reference {
        let plan = Plan { request: None, acts: Mutex::default() };
        let proxy = Proxy::recording(self.emulator.base_url(), plan).await;
        let case = Case {
            row: "",
            name: String::new(),
            target,
            fault: Fault::Request(0),
            expect: Expect::Whole,
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
        let seen = proxy.requests().into_iter().find(|seen| seen.path == target.path()).unwrap();
        Reference { request_bytes: seen.request_bytes, reply: seen.reply }
    }

    pub async fn run(&self, case: Case) -> Ran {
        let cents = self.cents();
        let proxy = Proxy::start(self.emulator.base_url(), Plan::of(&case)).await;
        let ask = Ask::new(format!("Pay Tyllen ${}", Decimal::new(cents, 2)));
        let task_id = ask.task_id().clone();
        let started = Instant::now();
        let guarded = std::panic::AssertUnwindSafe(self.exchange(&proxy, &case, ask));
        let guarded = futures::FutureExt::catch_unwind(guarded);
        let outcome = match timeout(deadline(&case) + SLACK, guarded).await {
            Err(_) => Outcome::Overran,
            Ok(Err(panic)) => Outcome::Panicked(
                panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()),
            ),
            Ok(Ok(Ok((text, state)))) => Outcome::Whole { text, state },
            Ok(Ok(Err(error))) => Outcome::Failed(Failed {
                kind: error.kind(),
                unknown: error.is_outcome_unknown(),
                safe: error.is_safe_to_ask_again(),
                names_task: error.task_id() == Some(&task_id),
                debug: format!("{error:?}"),
            }),
        };
        Ran { case, cents, task_id, outcome, seen: proxy.requests(), took: started.elapsed() }
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
                self.emulator.client().ask(ask).await.expect("asked without a fault");
                client.get_task(id).await.map(|task| (task.text(), Some(task.state().clone())))
            }
        }
    }

    /// Checks every case against what the emulator knows. Returns the column of each,
    /// and what is wrong.
    pub fn audit(&self, ran: &[Ran]) -> Vec<(Column, Vec<String>)> {
        let state = self.emulator.state();
        let mut payments: HashMap<Decimal, Vec<&TaskId>> = HashMap::new();
        for payment in &state.payments {
            payments.entry(payment.amount).or_default().push(&payment.task_id);
        }
        let texts: HashMap<_, _> = state.tasks.iter().map(|task| (&task.id, task.text())).collect();
        ran.iter()
            .map(|ran| {
                let paid = payments.get(&Decimal::new(ran.cents, 2)).map_or(&[][..], Vec::as_slice);
                let sends = state.sends.get(&ran.task_id).copied().unwrap_or(0);
                let mut wrong = ran.wrong(paid, sends);
                if let Outcome::Whole { text, .. } = &ran.outcome
                    && texts.get(&ran.task_id) != Some(text)
                {
                    wrong.push(format!("the reply is {text:?}, not {:?}", texts.get(&ran.task_id)));
                }
                (if wrong.is_empty() { ran.column() } else { Column::Bad }, wrong)
            })
            .collect()
    }
}

impl Ran {
    pub fn row(&self) -> &'static str {
        self.case.row
    }

    pub fn describe(&self) -> String {
        let paths: Vec<_> =
            self.seen.iter().map(|seen| seen.path.rsplit('/').next().unwrap_or_default()).collect();
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

    fn requests(&self, path: &str) -> usize {
        self.seen.iter().filter(|seen| seen.path == path).count()
    }

    fn column(&self) -> Column {
        let looked_up = self.requests(GET) > 0;
        let again = match self.case.target {
            Target::Token => self.requests(TOKEN) > 1 || self.case.row == "request reset",
            Target::Task => self.requests(GET) > 1 || self.case.row == "request reset",
            target => self.requests(target.sends()) > 1,
        };
        match &self.outcome {
            Outcome::Whole { .. } if again => Column::Again,
            Outcome::Whole { .. } if looked_up && self.case.target != Target::Task => Column::Found,
            Outcome::Whole { .. } => Column::Whole,
            Outcome::Failed(failed) if failed.unknown => Column::Unknown,
            Outcome::Failed(_) => Column::Refused,
            Outcome::Overran | Outcome::Panicked(_) => Column::Bad,
        }
    }

    /// `paid`: the tasks of the payments of this case's amount. `sends`: how often its message
    /// reached the agent.
    fn wrong(&self, paid: &[&TaskId], sends: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                wrong.push(what.to_owned());
            }
        };
        must(paid.len() <= 1, "it was paid more than once");
        must(sends <= 1, "it reached the agent more than once");
        must(paid.iter().all(|task| **task == self.task_id), "another task paid its amount");
        must(self.took <= deadline(&self.case) + SLACK / 2, "it overran its deadline");
        match &self.outcome {
            Outcome::Whole { state, .. } => {
                must(paid.len() == 1, "it is called done, and was not paid");
                must(
                    state.as_ref().is_none_or(|state| *state == TaskState::Completed),
                    "its state is not completed",
                );
            }
            Outcome::Failed(failed) => {
                must(!(failed.safe && failed.unknown), "it is both safe and unknown");
                must(
                    !failed.safe || paid.is_empty(),
                    "it is called safe to ask again, and was paid",
                );
                must(failed.names_task, "the error does not name the task");
                must(!failed.debug.contains("Tyllen"), "the error shows what was asked");
            }
            Outcome::Overran => must(false, "it did not end"),
            Outcome::Panicked(what) => must(false, what),
        }
        must(self.is_expected(), "it is not what the table says");
        wrong
    }

    fn is_expected(&self) -> bool {
        match (&self.case.expect, &self.outcome) {
            (Expect::Whole | Expect::WholeOrUnknown, Outcome::Whole { .. }) => true,
            (Expect::Unknown | Expect::WholeOrUnknown, Outcome::Failed(failed)) => failed.unknown,
            (Expect::Refused(kinds), Outcome::Failed(failed)) => {
                failed.safe && kinds.contains(&failed.kind)
            }
            (Expect::Settled(kinds), Outcome::Failed(failed)) => {
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
    // Where nothing can be found, lookups end early; where something can, a busy machine
    // has the time to.
    let recovery_timeout = match (&case.expect, case.target) {
        // The answer to the lookup decides, so a busy machine has the time to give it.
        (Expect::Unknown, Target::Lookup) => Duration::from_secs(3),
        (Expect::Unknown, _) => Duration::from_millis(300),
        _ => Duration::from_secs(6),
    };
    let patience = if case.stalls { Duration::from_millis(300) } else { Duration::from_secs(20) };
    let config = Config::new("client-id")
        .client_secret("client-secret")
        .base_url(&proxy.url)
        .reply_timeout(patience)
        .idle_timeout(patience)
        .deadline(deadline(case))
        .retry(RetryPolicy::default().recovery_timeout(recovery_timeout))
        .configure_http(|http| http.pool_max_idle_per_host(0));
    if case.target == Target::Token {
        return Client::with_credentials(config).unwrap();
    }
    Client::with_token(config, TokenInfo::access("access-token", Duration::from_secs(3600)))
        .unwrap()
}

async fn read(stream: AskStream, way: Way) -> Result<(String, Option<TaskState>), Error> {
    match way {
        Way::Reply => {
            stream.into_reply().await.map(|reply| (reply.text(), Some(reply.state().clone())))
        }
        Way::Text => {
            let pieces: Vec<Result<String, Error>> = stream.text().collect().await;
            pieces.into_iter().collect::<Result<String, Error>>().map(|text| (text, None))
        }
        Way::Events => read_events(stream).await,
    }
}

/// Puts the events together as an application would that knows of one artifact.
async fn read_events(mut stream: AskStream) -> Result<(String, Option<TaskState>), Error> {
    let (mut text, mut state, mut whole_tasks) = (String::new(), None, false);
    while let Some(event) = stream.next().await {
        match event? {
            Event::Artifact(update) => {
                assert!(!whole_tasks, "after a cut only whole tasks come");
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
            other => panic!("an event that nobody sent: {other:?}"),
        }
    }
    assert_eq!(stream.reply_so_far().text(), text, "the events and the accumulated text differ");
    assert!(stream.next().await.is_none(), "a stream that is over is over");
    Ok((text, state))
}
