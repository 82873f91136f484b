//! The program with a journal on PostgreSQL, where `tests/postgres/run` started a server.

use payman_sdk::emulator::{Fault, Operation};
use serde_json::Value;

use crate::command::*;
use crate::support::*;

#[tokio::test]
async fn an_ask_with_a_key_pays_once() {
    let Some(url) = postgres_url().await else { return };
    let program = Program::new().await;
    let ask = ["ask", "--journal", &url, "--idempotency-key", "order-1", PAY];
    for _ in 0..2 {
        let ran = program.run(&ask).await;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(ran.out.contains("Paid $50.00 to Tyllen"), "{ran:?}");
    }
    // The variable names the journal as well.
    let mut command = program.command(&["ask", "--idempotency-key", "order-1", PAY]);
    let output = command.env("PAYMAN_JOURNAL", &url).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!program.path(".local/state/payman/journal.db").exists());
    assert_eq!(payments(&program.payman), 1);
}

#[tokio::test]
async fn a_batch_pays_each_row_once() {
    let Some(url) = postgres_url().await else { return };
    let program = Program::new().await;
    let rows: String = (1..=20).map(|row| format!("order-{row},Pay Tyllen ${row}\n")).collect();
    program.write("a.csv", &format!("idempotency_key,text\n{rows}"));
    let batch = ["batch", "a.csv", "--journal", &url, "--results", "out.csv"];
    // Two at the same time, and one more.
    let (first, second) = tokio::join!(program.run(&batch), program.run(&batch[..4]));
    for ran in [first, second, program.run(&batch).await] {
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(ran.err.contains("20 completed"), "{ran:?}");
    }
    assert_eq!(payments(&program.payman), 20);
}

#[tokio::test]
async fn entries_are_listed_shown_released_and_forgotten() {
    let Some(url) = postgres_url().await else { return };
    let program = Program::new().await;
    let journal = async |args: &[&str]| {
        program.run(&[&["journal", "--journal", url.as_str()], args].concat()).await
    };
    let ask = ["ask", "--journal", &url, "--idempotency-key", "order-1", PAY, "--timeout", "20s"];
    program.payman.fault(Fault::close().on(Operation::Send));
    let unknown = program.run(&ask).await;
    assert_eq!(unknown.status, Some(6), "{unknown:?}");
    let list = journal(&["list", "--state", "sending", "--output", "json"]).await;
    let entry: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(entry["idempotencyKey"], "order-1");
    let released = journal(&["release", "order-1", "--reason", "not in the wallet"]).await;
    assert_eq!(released.status, Some(0), "{released:?}");
    let paid = program.run(&ask).await;
    assert_eq!(paid.status, Some(0), "{paid:?}");
    let shown = journal(&["show", "order-1"]).await;
    for says in ["settled", PAY, "Paid $50.00 to Tyllen", "not in the wallet", "attempts:   2"] {
        assert!(shown.out.contains(says), "{says}: {shown:?}");
    }
    assert_eq!(journal(&["forget", "--before", "2020-01-01"]).await.status, Some(0));
    assert_eq!(journal(&["list"]).await.out.lines().count(), 1);
    assert_eq!(journal(&["forget", "--before", "0s"]).await.status, Some(0));
    assert_eq!(journal(&["list"]).await.out, "");
    assert_eq!(journal(&["show", "order-1"]).await.status, Some(1));
    assert_eq!(payments(&program.payman), 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_named_and_nothing_is_sent() {
    let program = Program::new().await;
    let secret = "postgres://payman:hush-password@127.0.0.1:1/postgres";
    let ran = program.run(&["ask", "--journal", secret, "--idempotency-key", "a", PAY]).await;
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.err.contains("Nothing was sent"), "{ran:?}");
    assert!(!ran.err.contains("hush-password"), "{ran:?}");
    assert_eq!(payments(&program.payman), 0);
}
