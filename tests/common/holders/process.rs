//! A holder in a process of its own: this test program, started again.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use payman_sdk::{Client, Config, ErrorKind, TokenInfo, TokenStore};
use reqwest::header::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;

use super::clock::WallClock;
use super::ledger::{HOLDER, task_of_user};
use super::stores::StoreLocation;

/// Tells a process that it is a holder.
const IS_HOLDER: &str = "PAYMAN_TEST_HOLDER";
const MARK: &str = "from the holder: ";
/// The time limit of an order. A holder that waits for a claim waits for up to two leases.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first line that a holder reads.
#[derive(Clone, Serialize, Deserialize)]
pub struct HolderSetup {
    pub name: String,
    pub base_url: String,
    pub store: StoreLocation,
    /// The users, and the refresh token of each that is given in code.
    pub users: Vec<(usize, Option<String>)>,
    pub activity: Activity,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Uses the tokens of its users all the time.
    Busy,
    /// Does what it is told.
    Idle,
}

#[derive(Clone, Serialize, Deserialize)]
pub enum Order {
    /// Exchanges an auth code for a new sign-in.
    SignIn {
        user: usize,
        code: String,
    },
    /// Uses a refresh token from now on that was obtained elsewhere.
    Give {
        user: usize,
        token: String,
    },
    SignOut {
        user: usize,
    },
    /// Finds out whether the users are signed in.
    Check,
}

#[derive(Serialize, Deserialize)]
struct Numbered {
    number: u32,
    order: Order,
}

/// A line that a holder writes.
#[derive(Serialize, Deserialize)]
enum Message {
    Done { number: u32, result: Result<Vec<(usize, UserState)>, String> },
    Closed(HolderReport),
}

/// The state of a user for one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserState {
    SignedIn {
        access_token: String,
    },
    ConnectAgain,
    /// Neither of them, with the error.
    Unclear(String),
}

/// The observations of a holder that was closed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HolderReport {
    pub calls: u64,
    /// The number of times that a user had to connect again.
    pub reauthorizations: u64,
    /// Temporary errors.
    pub failures: u64,
    pub violations: Vec<String>,
}

pub fn signal(process: &Child, name: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match name {
        "TERM" => Signal::TERM,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        _ => panic!("an unknown signal: {name}"),
    };
    let id = process.id().expect("the process is running").cast_signed();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Result<Vec<(usize, UserState)>, String>>>>>;

/// The test's end of a holder.
pub struct Holder {
    pub name: String,
    process: Child,
    orders: AsyncMutex<ChildStdin>,
    waiting: Waiting,
    last_number: AtomicU32,
    reading: JoinHandle<Option<HolderReport>>,
}

impl Holder {
    pub async fn start(setup: &HolderSetup, clock: Option<&WallClock>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "holder_process", "--nocapture"]).env(IS_HOLDER, "1");
        if let Some(clock) = clock {
            clock.apply(&mut command);
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let waiting = Waiting::default();
        let output = BufReader::new(process.stdout.take().unwrap());
        let reading = tokio::spawn(read(output, Arc::clone(&waiting)));
        let orders = AsyncMutex::new(process.stdin.take().unwrap());
        let name = setup.name.clone();
        let holder = Self { name, process, orders, waiting, last_number: 0.into(), reading };
        // Through the pipe, because tokens belong in no environment and no command line.
        holder.write(&serde_json::to_string(setup).unwrap()).await;
        holder
    }

    async fn write(&self, line: &str) {
        let mut orders = self.orders.lock().await;
        orders.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        orders.flush().await.unwrap();
    }

    /// Carries out an order, and returns the error of the SDK.
    pub async fn carry_out(&self, order: Order) -> Result<Vec<(usize, UserState)>, String> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        self.waiting.lock().unwrap().insert(number, sender);
        self.write(&serde_json::to_string(&Numbered { number, order }).unwrap()).await;
        let done = tokio::time::timeout(PATIENCE, done).await;
        done.unwrap_or_else(|_| panic!("holder {}: an order takes too long", self.name))
            .unwrap_or_else(|_| panic!("holder {} ended", self.name))
    }

    /// Kills the process by its id.
    pub async fn kill(mut self) {
        signal(&self.process, "KILL");
        self.process.wait().await.unwrap();
    }

    /// Stops the process until it is continued.
    pub fn stop(&self) {
        signal(&self.process, "STOP");
        let stat = format!("/proc/{}/stat", self.process.id().unwrap());
        // Until the kernel says so: the signal is handled a little later.
        while !std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn resume(&self) {
        signal(&self.process, "CONT");
    }

    /// Lets the holder close its clients and end.
    pub async fn close(mut self) -> HolderReport {
        drop(self.orders);
        let ended = async {
            let report = self.reading.await.unwrap();
            self.process.wait().await.unwrap();
            report
        };
        let report = tokio::time::timeout(PATIENCE, ended).await;
        let report = report.unwrap_or_else(|_| panic!("holder {} does not end", self.name));
        report.unwrap_or_else(|| panic!("holder {} wrote no report", self.name))
    }
}

async fn read(
    output: BufReader<tokio::process::ChildStdout>,
    waiting: Waiting,
) -> Option<HolderReport> {
    let (mut lines, mut report) = (output.lines(), None);
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((_, message)) = line.split_once(MARK) else { continue };
        match serde_json::from_str(message).unwrap() {
            Message::Done { number, result } => {
                let sender = waiting.lock().unwrap().remove(&number).unwrap();
                let _ = sender.send(result);
            }
            Message::Closed(closed) => report = Some(closed),
        }
    }
    // Callers that wait for an order get an error.
    waiting.lock().unwrap().clear();
    report
}

/// The clients of this process, one for each user.
struct Clients {
    setup: HolderSetup,
    store: Arc<dyn TokenStore>,
    first: Client,
    of_users: HashMap<usize, Mutex<Client>>,
    calls: AtomicU64,
    reauthorizations: AtomicU64,
    failures: AtomicU64,
    violations: Mutex<Vec<String>>,
}

/// Runs a holder, where this process was started as one.
pub async fn run_holder() {
    if std::env::var_os(IS_HOLDER).is_none() {
        return;
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let setup = lines.next_line().await.unwrap().expect("the setup of the holder");
    let clients = Arc::new(Clients::new(serde_json::from_str(&setup).unwrap()));
    let mut working = Vec::new();
    if clients.setup.activity == Activity::Busy {
        for user in clients.of_users.keys().copied() {
            working.push(tokio::spawn(Arc::clone(&clients).work(user)));
        }
    }
    let mut orders = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let Numbered { number, order } = serde_json::from_str(&line).unwrap();
        let clients = Arc::clone(&clients);
        orders.push(tokio::spawn(async move {
            let result = clients.carry_out(order).await;
            write(&Message::Done { number, result });
        }));
    }
    for order in orders {
        order.await.unwrap();
    }
    working.iter().for_each(JoinHandle::abort);
    let of_users: Vec<_> = clients.of_users.keys().map(|user| clients.of(*user)).collect();
    futures::future::join_all(of_users.iter().map(Client::close)).await;
    write(&Message::Closed(HolderReport {
        calls: clients.calls.load(Ordering::Relaxed),
        reauthorizations: clients.reauthorizations.load(Ordering::Relaxed),
        failures: clients.failures.load(Ordering::Relaxed),
        violations: std::mem::take(&mut *clients.violations.lock().unwrap()),
    }));
}

fn write(message: &Message) {
    println!("{MARK}{}", serde_json::to_string(message).unwrap());
}

fn config_of(setup: &HolderSetup, store: &Arc<dyn TokenStore>, user: usize) -> Config {
    let mut headers = HeaderMap::new();
    headers.insert(HOLDER, HeaderValue::from_str(&setup.name).unwrap());
    Config::new("client-id")
        .client_secret("client-secret")
        .base_url(&setup.base_url)
        .subject(format!("user {user}"))
        .token_store(Arc::clone(store))
        .configure_http(move |http| http.default_headers(headers.clone()))
}

impl Clients {
    fn new(setup: HolderSetup) -> Self {
        let store = setup.store.open();
        // Its user does not exist: it is there to share its connections.
        let first = config_of(&setup, &store, usize::MAX);
        let first = Client::with_token(first, TokenInfo::stored()).unwrap();
        let of_users = setup.users.iter().map(|(user, given)| {
            let token = given.as_ref().map_or_else(TokenInfo::stored, TokenInfo::refresh_only);
            let config = config_of(&setup, &store, *user).share_connections(&first);
            (*user, Mutex::new(Client::with_token(config, token).unwrap()))
        });
        Self {
            of_users: of_users.collect(),
            first,
            store,
            calls: 0.into(),
            reauthorizations: 0.into(),
            failures: 0.into(),
            violations: Mutex::default(),
            setup,
        }
    }

    fn config(&self, user: usize) -> Config {
        config_of(&self.setup, &self.store, user).share_connections(&self.first)
    }

    fn of(&self, user: usize) -> Client {
        self.of_users[&user].lock().unwrap().clone()
    }

    /// Uses the token of a user, now and then for a request.
    async fn work(self: Arc<Self>, user: usize) {
        loop {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..250))).await;
            self.calls.fetch_add(1, Ordering::Relaxed);
            let client = self.of(user);
            let error = if fastrand::u8(..8) == 0 {
                match client.get_task(task_of_user(user)).await {
                    Err(error) if error.kind() == ErrorKind::TaskNotFound => continue,
                    Err(error) => error,
                    Ok(task) => panic!("an unknown task is known: {task:?}"),
                }
            } else {
                match client.access_token().await {
                    Ok(_) => continue,
                    Err(error) => error,
                }
            };
            if error.is_reauthorization_required() {
                self.reauthorizations.fetch_add(1, Ordering::Relaxed);
            } else if is_temporary(&error) {
                self.failures.fetch_add(1, Ordering::Relaxed);
            } else {
                let violation = format!("{}, user {user}: {error:?}", self.setup.name);
                self.violations.lock().unwrap().push(violation);
            }
        }
    }

    async fn carry_out(&self, order: Order) -> Result<Vec<(usize, UserState)>, String> {
        let replace = |user: usize, client: Client| {
            *self.of_users[&user].lock().unwrap() = client;
            Ok(Vec::new())
        };
        let describe = |error: payman_sdk::Error| format!("{error:?}");
        match order {
            Order::SignIn { user, code } => {
                let signed_in = Client::with_auth_code(self.config(user), code).await;
                replace(user, signed_in.map_err(describe)?)
            }
            Order::Give { user, token } => {
                let token = TokenInfo::refresh_only(token);
                replace(user, Client::with_token(self.config(user), token).map_err(describe)?)
            }
            Order::SignOut { user } => {
                self.of(user).sign_out().await.map_err(describe)?;
                Ok(Vec::new())
            }
            Order::Check => {
                let states = self
                    .of_users
                    .keys()
                    .map(async |user| (*user, state_of(&self.of(*user), *user).await));
                Ok(futures::future::join_all(states).await)
            }
        }
    }
}

/// Returns true for the errors of a store that is not available, of a busy machine, and of a token
/// that expired on its way to the server. A claim that nobody has any more, because its reply was
/// lost in an outage, is a timeout, too.
fn is_temporary(error: &payman_sdk::Error) -> bool {
    error.is_safe_to_ask_again()
        || error.is_auth()
        || [ErrorKind::Timeout, ErrorKind::TokenStore].contains(&error.kind())
}

/// Returns the state of a user, by sending a request that needs their token.
async fn state_of(client: &Client, user: usize) -> UserState {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        match client.get_task(task_of_user(user)).await {
            Err(error) if error.kind() == ErrorKind::TaskNotFound => {}
            Err(error) if error.is_reauthorization_required() => return UserState::ConnectAgain,
            Err(error) if is_temporary(&error) && Instant::now() < limit => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return UserState::Unclear(format!("{error:?}")),
            Ok(task) => return UserState::Unclear(format!("an unknown task is known: {task:?}")),
        }
        if let Ok(token) = client.access_token().await {
            return UserState::SignedIn { access_token: token.expose_secret().to_owned() };
        }
    }
}
