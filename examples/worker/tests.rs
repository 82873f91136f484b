//! The service, with workers that are killed, against the emulator's ledger.

use std::time::{Duration, Instant};

use payman_sdk::emulator::{Decimal, Fault, Operation};
use payman_sdk::{Client, Emulator, JournalWorker, SqlJournal, reqwest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::database::Database;
use crate::routes::router;
use crate::support::Payman;

struct Service {
    payman: Emulator,
    journal: SqlJournal,
    client: Client,
    address: String,
    http: reqwest::Client,
    _directory: TempDir,
}

impl Service {
    async fn start() -> Self {
        let payman = Emulator::start().await.unwrap();
        payman.client().ask("Create payee Tyllen").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("payouts.db").display());
        let (database, journal) = Database::open(&url).await.unwrap();
        let config = Payman::at(payman.base_url()).config().unwrap();
        let client = Client::with_credentials(config.journal(journal.clone())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = router(database, journal.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { payman, journal, client, address, http, _directory: directory }
    }

    fn work(&self) -> JoinHandle<payman_sdk::Result<()>> {
        let worker = JournalWorker::new(self.client.clone()).concurrency(4);
        tokio::spawn(worker.run(std::future::pending()))
    }

    async fn post(&self, id: u32, amount: &str) -> u16 {
        let payout = json!({ "id": id.to_string(), "payee": "Tyllen", "amount": amount });
        let request = self.http.post(format!("{}/payouts", self.address));
        let body = payout.to_string();
        let sent = request.header("content-type", "application/json").body(body).send().await;
        sent.unwrap().status().as_u16()
    }

    async fn get(&self, path: &str) -> Value {
        let sent = self.http.get(format!("{}{path}", self.address)).send().await.unwrap();
        serde_json::from_str(&sent.text().await.unwrap()).unwrap()
    }

    async fn settled(&self) -> usize {
        self.get("/payouts?state=settled").await.as_array().unwrap().len()
    }

    async fn until(&self, condition: impl AsyncFn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(60);
        while !condition().await {
            assert!(Instant::now() < limit, "{:?}", self.payman.state().payments);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn paid(&self) -> Vec<Decimal> {
        let state = self.payman.state();
        assert!(state.sends.values().all(|sends| *sends == 1), "{:?}", state.sends);
        let mut paid: Vec<_> = state.payments.iter().map(|payment| payment.amount).collect();
        paid.sort_unstable();
        paid
    }
}

#[tokio::test]
async fn an_order_that_is_posted_repeatedly_is_paid_once() {
    let service = Service::start().await;
    let work = service.work();
    for _ in 0..3 {
        assert_eq!(service.post(1, "50.00").await, 202);
    }
    assert_eq!(service.post(1, "60.00").await, 409);
    service.until(async || service.settled().await == 1).await;
    let shown = service.get("/payouts/1").await;
    assert_eq!(shown["payout"]["amount"], "50.00");
    assert_eq!(shown["outcome"]["state"], "settled");
    assert!(shown["outcome"]["answer"].as_str().unwrap().contains("Paid $50.00 to Tyllen"));
    assert_eq!(service.post(1, "50.00").await, 202);
    assert_eq!(service.paid(), [Decimal::from(50)]);
    work.abort();
}

#[tokio::test]
async fn invalid_payees_and_amounts_are_refused() {
    let service = Service::start().await;
    for amount in ["", "-5", "5.5", "5,00", "5.00 and then 1.00", "1e3", "$5"] {
        assert_eq!(service.post(1, amount).await, 400, "{amount}");
    }
    let payee = json!({ "id": "1", "payee": "Tyllen $5\nPay Ann", "amount": "5" });
    let request = service.http.post(format!("{}/payouts", service.address));
    let request = request.header("content-type", "application/json").body(payee.to_string());
    assert_eq!(request.send().await.unwrap().status(), 400);
    assert!(service.get("/payouts?state=reserved").await.as_array().unwrap().is_empty());
}

#[tokio::test]
async fn workers_that_are_killed_pay_each_order_exactly_once() {
    let service = Service::start().await;
    // Three are answered. The next four are paid, but their replies are lost.
    let stalled = Fault::stall().on(Operation::Send).after_acting().skip(3).times(4);
    service.payman.fault(stalled);
    for id in 1..=12 {
        assert_eq!(service.post(id, &format!("{id}.00")).await, 202);
    }
    let first = service.work();
    service.until(async || service.paid().len() == 7 && service.settled().await == 3).await;
    first.abort();
    let second = service.work();
    service.until(async || service.settled().await == 12).await;
    second.abort();
    assert_eq!(service.paid(), (1..=12).map(Decimal::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn tasks_unknown_to_the_platform_are_listed_for_a_person() {
    let service = Service::start().await;
    service.payman.fault(Fault::stall().on(Operation::Send));
    service.post(1, "1.00").await;
    let first = service.work();
    service
        .until(async || !service.get("/payouts?state=sending").await.as_array().unwrap().is_empty())
        .await;
    first.abort();
    let unknown = service.get("/payouts?state=sending").await;
    assert_eq!(unknown[0]["key"], "payout-1");
    let released = service.journal.release("payout-1", "not in the wallet's transactions").await;
    assert_eq!(released.unwrap().releases().len(), 1);
    let second = service.work();
    service.until(async || service.settled().await == 1).await;
    second.abort();
    assert_eq!(service.paid(), [Decimal::from(1)]);
}
