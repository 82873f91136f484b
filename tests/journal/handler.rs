//! The documentation's axum handlers that pay an order exactly once, under double clicks, visitors
//! who leave, crashes at any point, and replicas.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use payman_sdk::emulator::Decimal;
use payman_sdk::{
    Ask, Client, Emulator, ErrorKind, Journal, JournalFilter, JournalState, JournalWorker, Result,
    SqlJournal, reqwest,
};

use crate::support::*;

/// Polls a future so many times, and drops it when it is woken again: a process that dies, or a
/// visitor who leaves, at that point.
async fn dies_after<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

fn text(dollars: u32) -> String {
    format!("Pay Tyllen ${dollars}")
}

fn key(order: u32) -> String {
    format!("order-{order}")
}

/// Counts the payments of each amount, and asserts that no task was sent twice.
fn paid(payman: &Emulator) -> BTreeMap<Decimal, usize> {
    payments(payman);
    let mut paid = BTreeMap::new();
    for payment in payman.state().payments {
        *paid.entry(payment.amount).or_default() += 1;
    }
    paid
}

/// Pays an order, and responds with the answer.
async fn pay_now(
    State(client): State<Client>,
    Path((order, dollars)): Path<(u32, u32)>,
) -> Result<Json<String>> {
    let ask = Ask::new(text(dollars)).idempotency_key(key(order));
    Ok(Json(client.ask(ask).await?.text()))
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn replica(payman: &Emulator, journal: &Arc<dyn Journal>) -> String {
    let router = Router::new().route("/orders/{order}/pay/{dollars}", post(pay_now));
    serve(router.with_state(client(payman, journal))).await
}

fn browser() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn double_clicks_on_two_replicas_get_one_answer() {
    for kept in journals().await {
        let payman = emulator().await;
        payman.configure(|settings| settings.agent_delay = Duration::from_millis(200));
        let replicas =
            [replica(&payman, &kept.journal).await, replica(&payman, &kept.journal).await];
        let browser = browser();
        let clicks = (0..8).map(|click| {
            let url = format!("{}/orders/4711/pay/50", replicas[click % 2]);
            let click = browser.post(url).send();
            async move {
                let answer = click.await.unwrap();
                (answer.status(), answer.text().await.unwrap())
            }
        });
        let answers = futures::future::join_all(clicks).await;
        assert!(answers[0].1.contains("Paid $50.00 to Tyllen"), "{}: {answers:?}", kept.name);
        for answer in &answers {
            assert_eq!(answer, &(reqwest::StatusCode::OK, answers[0].1.clone()), "{}", kept.name);
        }
        let other = format!("{}/orders/4711/pay/60", replicas[0]);
        let conflict = browser.post(other).send().await.unwrap();
        assert_eq!(conflict.status(), 409, "{}", kept.name);
        assert_eq!(payments(&payman), 1, "{}", kept.name);
    }
}

#[tokio::test]
async fn a_visitor_who_leaves_and_comes_back_pays_once() {
    let payman = emulator().await;
    payman.configure(|settings| settings.agent_delay = Duration::from_millis(500));
    let kept = sqlite().await;
    let replica = replica(&payman, &kept.journal).await;
    let click = || browser().post(format!("{replica}/orders/4711/pay/50"));
    let left = tokio::spawn(click().send());
    until("it was sent", async || payman.state().sends.len() == 2).await;
    left.abort();
    let answer = click().send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("Paid $50.00 to Tyllen"));
    assert_eq!(payments(&payman), 1);
}

/// The process dies at each point where the handler waits, one after the other; the visitor clicks
/// again, on another replica.
#[tokio::test]
async fn a_handler_that_dies_at_any_point_pays_at_most_once() {
    for kept in [Some(sqlite().await), postgres().await].into_iter().flatten() {
        let payman = emulator().await;
        let (first, second) = (client(&payman, &kept.journal), client(&payman, &kept.journal));
        let (mut not_recorded, mut unknown, mut found) = (0, 0, 0);
        for order in 1.. {
            let at = format!("{}, after {order} polls", kept.name);
            let click = |client: &Client| pay_now(State(client.clone()), Path((order, order)));
            if let Some(answer) = dies_after(order, click(&first)).await {
                assert!(answer.is_ok(), "{at}");
                break;
            }
            let amount = Decimal::from(order);
            let is_recorded = kept.journal.get(&key(order)).await.unwrap().is_some();
            match click(&second).await {
                Ok(_) if is_recorded => found += 1,
                Ok(_) => not_recorded += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TaskNotFound, "{at}: {error:?}");
                    assert!(error.is_outcome_unknown(), "{at}");
                    assert_eq!(paid(&payman).get(&amount), None, "{at}");
                    kept.journal.release(&key(order), "not in the wallet").await.unwrap();
                    assert!(click(&second).await.is_ok(), "{at}");
                    unknown += 1;
                }
            }
            assert_eq!(paid(&payman).get(&amount), Some(&1), "{at}");
        }
        println!(
            "{}: {not_recorded} not recorded, {unknown} recorded and not sent, {found} found",
            kept.name
        );
        // The first wait is for a token, the last one for the record of the reply. Between them, it
        // depends on the database whether the process can die just before the first byte:
        // `a_process_that_dies_at_any_write_pays_at_most_once` does so on purpose.
        assert!(not_recorded > 0 && found > 0);
        assert!(paid(&payman).values().all(|times| *times == 1));
    }
}

/// The handler with an outbox, on either database: `sqlx` has a type of pool for each.
macro_rules! shop {
    ($module:ident, $pool:ty, $url:expr) => {
        mod $module {
            use super::*;

            #[derive(Clone)]
            struct Shop {
                pool: $pool,
                journal: SqlJournal,
            }

            async fn pay(
                State(shop): State<Shop>,
                Path((id, dollars)): Path<(u32, u32)>,
            ) -> Result<StatusCode, StatusCode> {
                let failed = |_| StatusCode::SERVICE_UNAVAILABLE;
                let mut tx = shop.pool.begin().await.map_err(failed)?;
                let order = "INSERT INTO orders (id, dollars) VALUES ($1, $2) \
                             ON CONFLICT DO NOTHING";
                sqlx::query(order)
                    .bind(i64::from(id))
                    .bind(i64::from(dollars))
                    .execute(&mut *tx)
                    .await
                    .map_err(failed)?;
                let ask = Ask::new(text(dollars)).idempotency_key(key(id));
                match shop.journal.reserve(&mut tx, ask).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::IdempotencyConflict => {
                        return Err(StatusCode::CONFLICT);
                    }
                    Err(_) => return Err(StatusCode::SERVICE_UNAVAILABLE),
                }
                tx.commit().await.map_err(failed)?;
                Ok(StatusCode::ACCEPTED)
            }

            /// Opens a replica, which has a pool of its own.
            async fn open(url: &str) -> Shop {
                let pool = <$pool>::connect(url).await.unwrap();
                let table = "CREATE TABLE IF NOT EXISTS orders \
                             (id BIGINT PRIMARY KEY, dollars BIGINT)";
                sqlx::query(table).execute(&pool).await.unwrap();
                let journal = SqlJournal::with_pool(pool.clone()).await.unwrap();
                Shop { pool, journal }
            }

            async fn orders(shop: &Shop) -> Vec<String> {
                let ids = "SELECT id FROM orders ORDER BY id";
                let ids: Vec<i64> = sqlx::query_scalar(ids).fetch_all(&shop.pool).await.unwrap();
                ids.iter().map(|id| format!("order-{id}")).collect()
            }

            async fn keys(shop: &Shop) -> Vec<String> {
                let entries = shop.journal.list(JournalFilter::new()).await.unwrap();
                entries.iter().map(|entry| entry.key().to_owned()).collect()
            }

            /// Runs a worker of each replica until every order is settled.
            async fn work(payman: &Emulator, shops: &[&Shop]) {
                let workers: Vec<_> = shops
                    .iter()
                    .map(|shop| {
                        let config = config(payman).journal(shop.journal.clone());
                        let client = Client::with_credentials(config).unwrap();
                        tokio::spawn(JournalWorker::new(client).run(std::future::pending()))
                    })
                    .collect();
                until("all orders are paid", async || {
                    let entries = shops[0].journal.list(JournalFilter::new()).await.unwrap();
                    entries.iter().all(|entry| entry.state() == JournalState::Settled)
                })
                .await;
                workers.iter().for_each(|worker| worker.abort());
            }

            #[tokio::test]
            async fn clicks_on_two_replicas_leave_one_order_and_one_payment() {
                let Some((url, _directory)) = $url.await else { return };
                let payman = emulator().await;
                let shops = [open(&url).await, open(&url).await];
                let mut replicas = Vec::new();
                for shop in &shops {
                    let router = Router::new().route("/orders/{id}/pay/{dollars}", post(pay));
                    replicas.push(serve(router.with_state(shop.clone())).await);
                }
                let browser = browser();
                let click = async |replica: &String, dollars: u32| {
                    let url = format!("{replica}/orders/4711/pay/{dollars}");
                    browser.post(url).send().await.unwrap().status().as_u16()
                };
                let clicks = (0..8).map(|place| click(&replicas[place % 2], 50));
                assert_eq!(futures::future::join_all(clicks).await, [202; 8]);
                assert_eq!(click(&replicas[1], 60).await, 409);
                work(&payman, &[&shops[0], &shops[1]]).await;
                assert_eq!(click(&replicas[0], 50).await, 202);
                assert_eq!(orders(&shops[1]).await, ["order-4711"]);
                assert_eq!(paid(&payman), BTreeMap::from([(Decimal::from(50), 1)]));
            }

            #[tokio::test]
            async fn a_crash_between_any_two_lines_leaves_both_writes_or_none() {
                let Some((url, _directory)) = $url.await else { return };
                let payman = emulator().await;
                let (first, second) = (open(&url).await, open(&url).await);
                let (mut none, mut both) = (0, 0);
                for id in 1.. {
                    let click = |shop: &Shop| pay(State(shop.clone()), Path((id, id)));
                    let answer = dies_after(id, click(&first)).await;
                    // A commit that was on its way may arrive.
                    until("the order and its ask agree", async || {
                        let (mut orders, mut keys) = (orders(&second).await, keys(&second).await);
                        orders.sort();
                        keys.sort();
                        orders == keys
                    })
                    .await;
                    let is_written = orders(&second).await.contains(&key(id));
                    if let Some(answer) = answer {
                        assert_eq!(answer, Ok(StatusCode::ACCEPTED));
                        assert!(is_written);
                        both += 1;
                        break;
                    }
                    none += u32::from(!is_written);
                    both += u32::from(is_written);
                    assert_eq!(click(&second).await, Ok(StatusCode::ACCEPTED), "{id} polls");
                }
                // How many of each there are depends on how the database's replies arrive.
                println!("{none} without order and ask, {both} with both");
                work(&payman, &[&first, &second]).await;
                let paid = paid(&payman);
                assert_eq!(paid.len(), orders(&first).await.len());
                assert!(paid.values().all(|times| *times == 1), "{paid:?}");
            }
        }
    };
}

async fn sqlite_file() -> Option<(String, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    Some((format!("{}?mode=rwc", sqlite_url(&directory)), Some(directory)))
}

async fn postgres_schema() -> Option<(String, Option<tempfile::TempDir>)> {
    Some((postgres_url().await?, None))
}

shop!(shop_on_sqlite, sqlx::SqlitePool, sqlite_file());
shop!(shop_on_postgres, sqlx::PgPool, postgres_schema());
