use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use payman_sdk::{Client, Config, Emulator, TokenInfo};
use tokio::task::JoinHandle;

use super::*;

/// The service on a free port, as it runs in `main`.
struct Running {
    address: String,
    server: JoinHandle<()>,
    shutdown: Shutdown,
}

impl Running {
    async fn start(emulator: &Emulator, store: Arc<dyn TokenStore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let site = Site::new(listener.local_addr().unwrap().port(), None);
        let service = Service::new(Payman::at(emulator.base_url()), store, site).unwrap();
        let router = router(Arc::new(service));
        let shutdown = Shutdown::new();
        let signal = shutdown.clone();
        let server = tokio::spawn(async move {
            serving::serve(listener, router, signal).await.unwrap();
        });
        Self { address, server, shutdown }
    }

    async fn stop(self) {
        self.shutdown.begin();
        self.server.await.unwrap();
    }
}

/// A browser that keeps cookies with their paths, and follows redirects when it is told to.
#[derive(Default)]
struct Browser {
    cookies: BTreeMap<String, (String, String)>,
}

struct Page {
    status: u16,
    location: Option<String>,
    text: String,
}

impl Page {
    /// Returns true if the answer leads the page to `/connect`.
    fn must_connect(&self) -> bool {
        self.status == 403 && self.text.contains("\"connect-again\"")
    }
}

impl Browser {
    fn http() -> reqwest::Client {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        http.redirect(reqwest::redirect::Policy::none()).build().unwrap()
    }

    async fn get(&mut self, url: &str) -> Page {
        self.send(url, Self::http().get(url)).await
    }

    async fn post(&mut self, url: &str, content_type: &str, body: &str) -> Page {
        let request = Self::http().post(url).header("content-type", content_type);
        self.send(url, request.body(body.to_owned())).await
    }

    async fn send(&mut self, url: &str, mut request: reqwest::RequestBuilder) -> Page {
        let path = url::Url::parse(url).unwrap().path().to_owned();
        let sent = self.cookies.iter().filter(|(_, (_, scope))| path.starts_with(scope.as_str()));
        let sent: Vec<_> = sent.map(|(name, (value, _))| format!("{name}={value}")).collect();
        if !sent.is_empty() {
            request = request.header("cookie", sent.join("; "));
        }
        let response = request.send().await.unwrap();
        for line in response.headers().get_all("set-cookie") {
            let line = line.to_str().unwrap();
            assert!(line.contains("HttpOnly") && line.contains("SameSite=Lax"), "{line}");
            let (name, rest) = line.split_once('=').unwrap();
            let (value, attributes) = rest.split_once("; Path=").unwrap();
            let scope = attributes.split(';').next().unwrap();
            self.cookies.insert(name.to_owned(), (value.to_owned(), scope.to_owned()));
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            }
        }
        Page {
            status: response.status().as_u16(),
            location: response.headers().get("location").map(|to| to.to_str().unwrap().to_owned()),
            text: response.text().await.unwrap(),
        }
    }

    /// Visits the consent page, decides there, and returns the address that it redirects to.
    async fn consent(&mut self, at: &Running, decision: &str) -> String {
        let connect = self.get(&format!("{}/connect", at.address)).await;
        let consent = connect.location.unwrap();
        assert!(connect.status == 303 && consent.contains("state="), "{consent}");
        assert!(self.get(&consent).await.text.contains("Connect to Payman"));
        // The parameters are in the query; the page's hidden fields say the same.
        let answered =
            Browser::default().post(&consent, FORM, &format!("decision={decision}")).await;
        answered.location.unwrap()
    }

    async fn connect(&mut self, at: &Running) {
        let back = self.consent(at, "allow").await;
        assert!(back.starts_with(&format!("{}/callback?", at.address)), "{back}");
        let home = self.get(&back).await;
        assert_eq!((home.status, home.location.as_deref()), (303, Some("/")));
    }

    async fn ask(&mut self, at: &Running, text: &str) -> Page {
        let question = json!({ "text": text }).to_string();
        self.post(&format!("{}/ask", at.address), JSON, &question).await
    }

    async fn home(&mut self, at: &Running) -> String {
        self.get(&at.address).await.text
    }
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const BALANCE: &str = "How much money do I have";

#[tokio::test]
async fn a_user_connects_asks_and_disconnects() {
    let emulator = Emulator::start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    let mut alice = Browser::default();
    assert!(alice.home(&service).await.contains("not connected"));
    let early = alice.ask(&service, BALANCE).await;
    assert!(early.must_connect(), "{}", early.text);

    alice.connect(&service).await;
    assert!(!alice.cookies.contains_key(STATE), "the state is removed");
    assert!(alice.home(&service).await.contains("Disconnect"));
    assert!(alice.ask(&service, BALANCE).await.text.contains("$1,000,000.00"));

    // Another browser is another user.
    let mut bob = Browser::default();
    assert!(bob.home(&service).await.contains("not connected"));

    let gone = alice.post(&format!("{}/disconnect", service.address), JSON, "{}").await;
    assert_eq!(gone.status, 200);
    assert!(alice.home(&service).await.contains("not connected"));
    assert!(alice.ask(&service, BALANCE).await.must_connect());
    alice.connect(&service).await;
    assert!(alice.ask(&service, BALANCE).await.text.contains("$1,000,000.00"));
    service.stop().await;
}

#[tokio::test]
async fn a_redirect_is_valid_only_in_the_browser_that_began() {
    let emulator = Emulator::start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    let (mut mallory, mut alice) = (Browser::default(), Browser::default());
    let mallorys = mallory.consent(&service, "allow").await;
    // An attacker makes Alice open an address that would connect her to Mallory's account.
    alice.get(&format!("{}/connect", service.address)).await;
    for _ in 0..2 {
        let refused = alice.get(&mallorys).await;
        assert!(
            refused.status == 400 && refused.text.contains("not belong"),
            "{} {}",
            refused.status,
            refused.text
        );
        alice = Browser::default();
    }
    assert_eq!(emulator.state().token_requests, 0, "no code was spent");
    assert!(mallory.get(&mallorys).await.location.is_some());

    let mut shy = Browser::default();
    let denied = shy.consent(&service, "deny").await;
    let page = shy.get(&denied).await;
    assert!(
        page.status == 403 && page.text.contains("not allowed"),
        "{} {}",
        page.status,
        page.text
    );
    service.stop().await;
}

#[tokio::test]
async fn sign_ins_survive_a_restart_and_a_sign_out_does_too() {
    let emulator = Emulator::builder().rotate_refresh_tokens().start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    let store = || Arc::new(FileTokenStore::new(&path));
    let (mut alice, mut bob) = (Browser::default(), Browser::default());
    let first = Running::start(&emulator, store()).await;
    alice.connect(&first).await;
    bob.connect(&first).await;
    first.stop().await;

    emulator.expire_access_tokens();
    let second = Running::start(&emulator, store()).await;
    assert!(
        alice.ask(&second, BALANCE).await.text.contains("$1,000,000.00"),
        "renewed from the store"
    );
    alice.post(&format!("{}/disconnect", second.address), JSON, "{}").await;
    second.stop().await;

    let kept = std::fs::read_to_string(&path).unwrap();
    let cookie = &alice.cookies["user"].0;
    assert!(!kept.contains(cookie.as_str()), "the store reveals the cookie");
    let third = Running::start(&emulator, store()).await;
    assert!(alice.home(&third).await.contains("not connected"));
    assert!(bob.ask(&third, BALANCE).await.text.contains("$1,000,000.00"));
    assert_eq!(emulator.state().refresh_reuses, 0);
    third.stop().await;
}

#[tokio::test]
async fn a_sign_in_that_the_platform_ended_leads_to_connect_again() {
    let emulator = Emulator::start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    let mut alice = Browser::default();
    alice.connect(&service).await;
    emulator.revoke_all();
    let asked = alice.ask(&service, "Create payee Tyllen").await;
    assert!(asked.must_connect(), "{}", asked.text);
    assert!(emulator.state().payees.is_empty());
    alice.connect(&service).await;
    let created = alice.ask(&service, "Create payee <b>Tyllen</b>").await.text;
    assert!(created.contains("b>Tyllen</b") && !created.contains("ses-"), "{created}");
    let blank = alice.ask(&service, "").await;
    assert_eq!(blank.status, 400);
    service.stop().await;
}

/// Counts connections in a proxy: users who share a pool and ask one after the other need only one.
#[tokio::test]
async fn all_users_share_one_connection_pool() {
    let emulator = Emulator::start().await.unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (base, to) = (
        format!("http://{}", listener.local_addr().unwrap()),
        emulator.base_url().trim_start_matches("http://").to_owned(),
    );
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut to = tokio::net::TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    let users = Users::new(
        Config::new("id").client_secret("s").base_url(base),
        Arc::new(MemoryTokenStore::new()),
    )
    .unwrap();
    for _ in 0..10 {
        let user = User::new();
        users.sign_in(&user, emulator.issue_code(["read_balance"]).into()).await.unwrap();
        users.client(&user).unwrap().ask("How much money do I have in my wallet?").await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_number_of_kept_clients_is_bounded_by_last_use() {
    let client = |name| {
        let token = TokenInfo::refresh_only("r");
        Client::with_token(Config::new("id").base_url("http://127.0.0.1:1").name(name), token)
            .unwrap()
    };
    let [a, b, c] = [User::new(), User::new(), User::new()];
    let mut ready = users::ClientCache::new(2);
    ready.put(&a, client("a"));
    ready.put(&b, client("b"));
    assert_eq!(ready.put(&a, client("another")).name(), Some("a"), "the first is kept");
    ready.put(&c, client("c"));
    assert!(ready.get(&a).is_some() && ready.get(&b).is_none() && ready.get(&c).is_some());
}

/// An attacker plants their own cookie in Alice's browser, before she connects or while she is
/// connected.
#[tokio::test]
async fn a_planted_cookie_gives_no_access_to_the_account() {
    let emulator = Emulator::start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    for mallory_connects in [false, true] {
        let (mut mallory, mut alice) = (Browser::default(), Browser::default());
        mallory.home(&service).await;
        if mallory_connects {
            mallory.connect(&service).await;
        }
        alice.cookies.insert("user".to_owned(), mallory.cookies["user"].clone());
        alice.connect(&service).await;
        assert_ne!(alice.cookies["user"], mallory.cookies["user"]);
        assert!(alice.home(&service).await.contains("Disconnect"));
        assert!(mallory.ask(&service, BALANCE).await.must_connect(), "{mallory_connects}");
        assert!(mallory.home(&service).await.contains("not connected"));
    }
    service.stop().await;
}

#[tokio::test]
async fn requests_of_other_sites_are_refused() {
    let emulator = Emulator::start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    let mut alice = Browser::default();
    alice.connect(&service).await;
    for path in ["/ask", "/disconnect"] {
        let url = format!("{}{path}", service.address);
        let request = || Browser::http().post(&url).header("content-type", JSON);
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("host", "evil.example"),
        ] {
            let body = json!({"text": "Create payee Mallory"}).to_string();
            let refused = alice.send(&url, request().header(name, value).body(body)).await;
            assert_eq!(refused.status, 403, "{path} {name}: {}", refused.text);
        }
        for kind in [FORM, "text/plain"] {
            assert_eq!(alice.post(&url, kind, "text=Create+payee+Mallory").await.status, 415);
        }
    }
    for path in ["/", "/connect", "/callback?code=c&state=s"] {
        let url = format!("{}{path}", service.address);
        let refused = alice.send(&url, Browser::http().get(&url).header("host", "evil.example"));
        assert_eq!(refused.await.status, 403, "{path}");
    }
    assert!(emulator.state().payees.is_empty());
    assert!(alice.ask(&service, BALANCE).await.text.contains("$1,000,000.00"), "still connected");
    service.stop().await;
}

/// Asks that were sent before the signal are answered before the server ends.
#[tokio::test]
async fn a_shutdown_waits_for_asks_in_progress() {
    let delay = std::time::Duration::from_millis(300);
    let emulator = Emulator::builder().agent_delay(delay).start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    let mut alice = Browser::default();
    alice.connect(&service).await;
    let asked = async {
        let sent = async {
            while emulator.state().sends.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            service.shutdown.begin();
        };
        tokio::join!(alice.ask(&service, BALANCE), sent).0
    };
    assert!(asked.await.text.contains("$1,000,000.00"));
    service.stop().await;
}
