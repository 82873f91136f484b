use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use payman_sdk::{Client, Config, Emulator, TokenInfo};
use tokio::task::JoinHandle;

use super::*;

/// The service on a free port, as it runs in `main`.
struct Running {
    address: String,
    server: JoinHandle<()>,
}

impl Running {
    async fn start(emulator: &Emulator, store: Arc<dyn TokenStore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = Service::new(Payman::at(emulator.base_url()), store, &address).unwrap();
        let server =
            tokio::spawn(async move { axum::serve(listener, router(service)).await.unwrap() });
        Self { address, server }
    }

    async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

/// A browser: it keeps cookies, with their paths, and follows redirects when it is told to.
#[derive(Default)]
struct Browser {
    cookies: BTreeMap<String, (String, String)>,
}

struct Page {
    status: u16,
    location: Option<String>,
    text: String,
}

impl Browser {
    async fn go(&mut self, url: &str, form: Option<&str>) -> Page {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let http = http.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut request = match form {
            Some(form) => http
                .post(url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.to_owned()),
            None => http.get(url),
        };
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

    /// To the consent page and, having decided there, to the address that the browser is sent back to.
    async fn consent(&mut self, at: &Running, decision: &str) -> String {
        let connect = self.go(&format!("{}/connect", at.address), None).await;
        let consent = connect.location.unwrap();
        assert!(connect.status == 303 && consent.contains("state="), "{consent}");
        assert!(self.go(&consent, None).await.text.contains("Connect to Payman"));
        // The parameters are in the query; the page's hidden fields say the same.
        let answered = Browser::default().go(&consent, Some(&format!("decision={decision}"))).await;
        answered.location.unwrap()
    }

    async fn connect(&mut self, at: &Running) {
        let back = self.consent(at, "allow").await;
        assert!(back.starts_with(&format!("{}/callback?", at.address)), "{back}");
        let home = self.go(&back, None).await;
        assert_eq!((home.status, home.location.as_deref()), (303, Some("/")));
    }

    async fn ask(&mut self, at: &Running, text: &str) -> Page {
        self.go(&format!("{}/ask", at.address), Some(&format!("text={}", text.replace(' ', "+"))))
            .await
    }

    async fn home(&mut self, at: &Running) -> String {
        self.go(&at.address, None).await.text
    }
}

const BALANCE: &str = "How much money do I have";

#[tokio::test]
async fn a_user_connects_asks_and_disconnects() {
    let emulator = Emulator::start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    let mut alice = Browser::default();
    assert!(alice.home(&service).await.contains("not connected"));
    let early = alice.ask(&service, BALANCE).await;
    assert_eq!((early.status, early.location.as_deref()), (303, Some("/connect")));

    alice.connect(&service).await;
    assert!(!alice.cookies.contains_key(STATE), "the state is used up");
    assert!(alice.home(&service).await.contains("Disconnect"));
    assert!(alice.ask(&service, BALANCE).await.text.contains("$1,000,000.00"));

    // Another browser is another user.
    let mut bob = Browser::default();
    assert!(bob.home(&service).await.contains("not connected"));

    let gone = alice.go(&format!("{}/disconnect", service.address), Some("")).await;
    assert_eq!(gone.location.as_deref(), Some("/"));
    assert!(alice.home(&service).await.contains("not connected"));
    assert_eq!(alice.ask(&service, BALANCE).await.location.as_deref(), Some("/connect"));
    alice.connect(&service).await;
    assert!(alice.ask(&service, BALANCE).await.text.contains("$1,000,000.00"));
    service.stop().await;
}

#[tokio::test]
async fn a_redirect_is_good_only_in_the_browser_that_began() {
    let emulator = Emulator::start().await.unwrap();
    let service = Running::start(&emulator, Arc::new(MemoryTokenStore::new())).await;
    let (mut mallory, mut alice) = (Browser::default(), Browser::default());
    let mallorys = mallory.consent(&service, "allow").await;
    // Alice is lured to an address that would connect her to Mallory's account.
    alice.go(&format!("{}/connect", service.address), None).await;
    for _ in 0..2 {
        let refused = alice.go(&mallorys, None).await;
        assert!(
            refused.status == 400 && refused.text.contains("state"),
            "{} {}",
            refused.status,
            refused.text
        );
        alice = Browser::default();
    }
    assert_eq!(emulator.state().token_requests, 0, "no code was spent");
    assert!(mallory.go(&mallorys, None).await.location.is_some());

    let mut shy = Browser::default();
    let denied = shy.consent(&service, "deny").await;
    let page = shy.go(&denied, None).await;
    assert!(
        page.status == 400 && page.text.contains("access_denied"),
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
    alice.go(&format!("{}/disconnect", second.address), Some("")).await;
    second.stop().await;

    let kept = std::fs::read_to_string(&path).unwrap();
    let cookie = &alice.cookies["user"].0;
    assert!(!kept.contains(cookie.as_str()), "the store holds what would let its reader in");
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
    assert_eq!((asked.status, asked.location.as_deref()), (303, Some("/connect")));
    assert!(emulator.state().payees.is_empty());
    alice.connect(&service).await;
    let created = alice.ask(&service, "Create payee <b>Tyllen</b>").await.text;
    assert!(created.contains("b&gt;Tyllen&lt;/b") && !created.contains("</b."), "{created}");
    let blank = alice.ask(&service, "").await;
    assert_eq!(blank.status, 400);
    service.stop().await;
}

/// A proxy that counts: with asks one after the other, users who share a pool need one connection.
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
async fn only_so_many_clients_are_kept_the_last_used() {
    let client = |name| {
        let token = TokenInfo::refresh_only("r");
        Client::with_token(Config::new("id").base_url("http://127.0.0.1:1").name(name), token)
            .unwrap()
    };
    let [a, b, c] = [User::new(), User::new(), User::new()];
    let mut ready = users::Ready::new(2);
    ready.put(&a, client("a"));
    ready.put(&b, client("b"));
    assert_eq!(ready.put(&a, client("another")).name(), Some("a"), "the first is kept");
    ready.put(&c, client("c"));
    assert!(ready.get(&a).is_some() && ready.get(&b).is_none() && ready.get(&c).is_some());
}
