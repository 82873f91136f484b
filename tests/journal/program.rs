//! `payman ask --idempotency-key`, `payman batch`, `payman journal`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use payman_sdk::Emulator;
use payman_sdk::emulator::{Decimal, Fault, Operation};
use serde_json::Value;

use crate::command::*;
use crate::support::*;

#[tokio::test]
async fn the_same_key_prints_the_same_answer() {
    let program = Program::new().await;
    let ask = ["ask", "--idempotency-key", "order-1", PAY];
    let first = program.run(&ask).await;
    assert_eq!(first.status, Some(0), "{first:?}");
    assert!(first.out.contains("Paid $50.00 to Tyllen"));
    let state = program.path(".local/state/payman/journal.db");
    assert!(!cfg!(target_os = "linux") || state.exists(), "{}", state.display());
    for options in [&[][..], &["--stream"], &["--output", "json"], &["--output", "events"]] {
        let again = program.run(&[&ask[..], options].concat()).await;
        assert_eq!(again.status, Some(0), "{again:?}");
        assert!(again.out.contains("Paid $50.00 to Tyllen"), "{again:?}");
    }
    let other = program.run(&["ask", "--idempotency-key", "order-1", "Pay Tyllen $60"]).await;
    assert_eq!(other.status, Some(2), "{other:?}");
    assert!(other.err.contains("payman journal show"), "{other:?}");
    assert_eq!(payments(&program.payman), 1);
}

#[tokio::test]
async fn an_emulator_of_the_commands_own_needs_no_journal_that_stays() {
    let program = Program::new().await;
    for _ in 0..2 {
        let args = ["ask", "--emulator", "--idempotency-key", "k", "List all wallets"];
        let ran = program.run(&args).await;
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
}

#[tokio::test]
async fn the_journal_is_shown_released_and_forgotten() {
    let program = Program::new().await;
    program.payman.fault(Fault::close().on(Operation::Send));
    let url = format!("sqlite://{}", program.path("j.db").display());
    let ask = ["ask", "--journal", &url, "--idempotency-key", "order-1", PAY, "--timeout", "20s"];
    let unknown = program.run(&ask).await;
    assert_eq!(unknown.status, Some(6), "{unknown:?}");
    assert!(unknown.err.contains("payman task get tsk-"), "{unknown:?}");
    let again = program.run(&ask).await;
    assert_eq!(again.status, Some(6), "{again:?}");
    assert!(again.err.contains("does not know"), "{again:?}");

    let journal = ["journal", "--journal", &url];
    let run = async |args: &[&str]| program.run(&[&journal[..], args].concat()).await;
    let list = run(&["list", "--state", "sending", "--output", "json"]).await;
    let entry: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(entry["idempotencyKey"], "order-1");
    assert_eq!(run(&["list", "--state", "settled"]).await.out, "");
    assert_eq!(run(&["list", "--older-than", "1h"]).await.out, "");
    assert_eq!(run(&["release", "order-1"]).await.status, Some(2));
    assert_eq!(run(&["release", "order-2", "--reason", "x"]).await.status, Some(1));
    let released = run(&["release", "order-1", "--reason", "not in the wallet"]).await;
    assert_eq!(released.status, Some(0), "{released:?}");
    assert_eq!(program.run(&ask).await.status, Some(0));
    let shown = run(&["show", "order-1"]).await;
    for says in ["settled", PAY, "Paid $50.00 to Tyllen", "not in the wallet", "attempts:   2"] {
        assert!(shown.out.contains(says), "{says}: {shown:?}");
    }
    assert_eq!(run(&["show", "order-2"]).await.status, Some(1));
    assert_eq!(run(&["forget", "--before", "2020-01-01"]).await.status, Some(0));
    assert_eq!(run(&["show", "order-1"]).await.status, Some(0));
    assert_eq!(run(&["forget", "--before", "0s"]).await.status, Some(0));
    assert_eq!(run(&["show", "order-1"]).await.status, Some(1));
    assert_eq!(payments(&program.payman), 1);
}

#[tokio::test]
async fn a_task_id_that_a_key_does_not_use_is_said() {
    let program = Program::new().await;
    let ask = |id: &'static str, amount: &'static str| {
        ["ask", "--idempotency-key", "order-1", "--task-id", id, amount]
    };
    let first = program.run(&ask("tsk-mine", PAY)).await;
    assert_eq!(first.status, Some(0), "{first:?}");
    assert!(!first.err.contains("--task-id"), "{first:?}");
    let same = program.run(&ask("tsk-mine", PAY)).await;
    assert!(same.status == Some(0) && !same.err.contains("--task-id"), "{same:?}");
    let other = program.run(&ask("tsk-other", PAY)).await;
    assert_eq!(other.status, Some(0), "{other:?}");
    assert_eq!(other.out, first.out);
    for says in ["--task-id tsk-other was not used", "order-1", "tsk-mine"] {
        assert!(other.err.contains(says), "{says}: {other:?}");
    }
    let conflict = program.run(&ask("tsk-other", "Pay Tyllen $60")).await;
    assert_eq!(conflict.status, Some(2), "{conflict:?}");
    assert!(conflict.err.contains("tsk-mine"), "{conflict:?}");
    assert_eq!(payments(&program.payman), 1);
}

#[tokio::test]
async fn a_task_id_is_used_for_what_was_surely_not_done() {
    let program = Program::new().await;
    program.payman.fault(Fault::status(400).on(Operation::Send));
    for (id, status) in [("tsk-1", 1), ("tsk-2", 0)] {
        let ask = ["ask", "--idempotency-key", "order-1", "--task-id", id, PAY];
        let ran = program.run(&ask).await;
        assert_eq!(ran.status, Some(status), "{ran:?}");
        assert!(!ran.err.contains("--task-id"), "{ran:?}");
    }
    let shown = program.run(&["journal", "show", "order-1"]).await;
    assert!(shown.out.contains("tsk-2"), "{shown:?}");
}

/// The task of an earlier run is the one to look up. The id of this run was never sent: "the
/// platform does not know it" would look like "not paid".
#[cfg(unix)]
#[tokio::test]
async fn an_interruption_names_the_task_that_the_key_was_sent_with() {
    let program = Program::new().await;
    program.write("a.csv", &format!("idempotency_key,text\norder-2,{PAY}\n"));
    let ask = ["ask", "--idempotency-key", "order-1", PAY];
    let batch = ["batch", "a.csv"];
    for (place, (args, key)) in [(&ask[..], "order-1"), (&batch, "order-2")].iter().enumerate() {
        program.payman.fault(Fault::stall().on(Operation::Send).after_acting());
        let mut killed = program.command(args).stderr(Stdio::null()).spawn().unwrap();
        until("paid", async || payments(&program.payman) == place + 1).await;
        killed.kill().await.unwrap();
        let shown = program.run(&["journal", "show", key, "--output", "json"]).await;
        let entry: Value = serde_json::from_str(&shown.out).unwrap();
        let task = entry["taskId"].as_str().unwrap();

        program.payman.fault(Fault::stall().on(Operation::Get).always());
        let mut waiting = program.command(args);
        let waiting = waiting.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let looks = || program.payman.state().requests.get(&Operation::Get).copied();
        let before = looks();
        until("it looks the task up", async || looks() > before).await;
        let id = waiting.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let output = waiting.wait_with_output().await.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{err}");
        assert!(err.contains(&format!("payman task get {task}")), "{task}: {err}");
        program.payman.clear_faults();
    }
}

#[tokio::test]
async fn a_key_that_looks_like_an_option_is_shown_and_released() {
    let program = Program::new().await;
    program.write("a.csv", &format!("idempotency_key,text\n-7,{PAY}\n"));
    assert_eq!(program.run(&["batch", "a.csv"]).await.status, Some(0));
    let shown = program.run(&["journal", "show", "-7", "--output", "json"]).await;
    assert_eq!(shown.status, Some(0), "{shown:?}");
    let released = program.run(&["journal", "release", "-7", "--reason", "once more"]).await;
    assert_eq!(released.status, Some(0), "{released:?}");
}

#[tokio::test]
async fn the_release_of_a_completed_ask_warns_that_it_is_done_again() {
    let program = Program::new().await;
    let url = format!("sqlite://{}", program.path("j.db").display());
    let ask = ["ask", "--journal", &url, "--idempotency-key", "order-1", PAY];
    assert_eq!(program.run(&ask).await.status, Some(0));
    let shown = program.run(&["journal", "--journal", &url, "show", "order-1"]).await;
    assert!(shown.out.contains("task state: completed"), "{shown:?}");
    let release = ["journal", "--journal", &url, "release", "order-1", "--reason", "no payment"];
    let released = program.run(&release).await;
    assert_eq!(released.status, Some(0), "{released:?}");
    for says in ["HAD COMPLETED", "Paid $50.00 to Tyllen"] {
        assert!(released.err.contains(says), "{says}: {released:?}");
    }
}

#[tokio::test]
async fn a_file_with_problems_is_refused_before_anything_is_sent() {
    let program = Program::new().await;
    program.write("bad.csv", "idempotency_key,text\na,Pay Tyllen $1\na,Pay Tyllen $2\n,x\nb,\n");
    let ran = program.run(&["batch", "bad.csv"]).await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    for line in ["line 3", "line 2", "line 4", "line 5", "Nothing was sent"] {
        assert!(ran.err.contains(line), "{line}: {ran:?}");
    }
    program.write("columns.csv", "idempotency_key,payee\na,Tyllen\n");
    let template = ["batch", "columns.csv", "--template", "Pay {payee} {amount}"];
    let ran = program.run(&template).await;
    assert!(ran.status == Some(2) && ran.err.contains("amount"), "{ran:?}");
    assert_eq!(program.run(&["batch", "missing.csv"]).await.status, Some(2));
    assert_eq!(program.payman.state().sends.len(), 1);
}

#[tokio::test]
async fn a_dry_run_needs_no_account() {
    let program = Program::new().await;
    program.write("a.csv", "idempotency_key,payee,amount,currency,note\nk,Tyllen,5,USD,\n");
    let template = "Pay {payee} {amount} {currency}";
    let mut command = program.command(&["batch", "a.csv", "--dry-run", "--template", template]);
    let output = command.env_remove("PAYMAN_CLIENT_ID").output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "k\tPay Tyllen 5 USD\n");
    assert_eq!(program.payman.state().sends.len(), 1);
}

#[tokio::test]
async fn a_batch_tells_what_became_of_each_row() {
    let program = Program::new().await;
    program.write("a.csv", "idempotency_key,text\na,Pay Tyllen $1\nb,Pay Tyllen $2\n");
    let ran = program.run(&["batch", "a.csv", "--results", "out.csv"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.err.contains("2 completed"), "{ran:?}");
    let results = std::fs::read_to_string(program.path("out.csv")).unwrap();
    let mut results = csv::Reader::from_reader(results.as_bytes());
    let rows: Vec<_> = results.records().map(Result::unwrap).collect();
    assert_eq!((&rows[0][0], &rows[1][0], &rows[0][1]), ("a", "b", "completed"));
    assert!(rows[1][4].contains("Paid $2.00 to Tyllen"));

    program.write("b.csv", "idempotency_key,text\na,Pay Tyllen $1\nc,Pay Tyllen $9999999\n");
    let ran = program.run(&["batch", "b.csv", "--output", "jsonl"]).await;
    assert_eq!(ran.status, Some(3), "{ran:?}");
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: BTreeMap<_, _> = lines
        .iter()
        .map(|line| (line["idempotencyKey"].as_str().unwrap(), line["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, BTreeMap::from([("a", "completed"), ("c", "failed")]));

    program.write("c.csv", "idempotency_key,text\nd,Pay Nobody $1\na,Pay Tyllen $1\n");
    assert_eq!(program.run(&["batch", "c.csv"]).await.status, Some(4));

    program.write("d.csv", "idempotency_key,text\ne,Pay Tyllen $5\nd,Pay Nobody $1\n");
    program.payman.fault(Fault::close().on(Operation::Send));
    let ran = program.run(&["batch", "d.csv"]).await;
    assert_eq!(ran.status, Some(6), "{ran:?}");
    assert!(ran.err.contains("payman task get tsk-"), "{ran:?}");
    assert!(ran.err.contains("payman journal release e"), "{ran:?}");
    assert_eq!(payments(&program.payman), 2);

    program.write("e.csv", "idempotency_key,text\nf,Pay Tyllen $6\n");
    program.payman.fault(Fault::status(400).on(Operation::Send));
    let ran = program.run(&["batch", "e.csv"]).await;
    assert_eq!(ran.status, Some(3), "{ran:?}");
    assert_eq!(program.run(&["batch", "e.csv"]).await.status, Some(0));
    assert_eq!(payments(&program.payman), 3);
}

/// The key may have paid with the other text, so the row is not simply "not done".
#[tokio::test]
async fn a_row_whose_key_belongs_to_another_text_is_a_conflict() {
    let program = Program::new().await;
    program.write("a.csv", "idempotency_key,text\na,Pay Tyllen $1\n");
    assert_eq!(program.run(&["batch", "a.csv"]).await.status, Some(0));
    program.write("b.csv", "idempotency_key,text\na,Pay Tyllen $2\n");
    let ran = program.run(&["batch", "b.csv", "--output", "jsonl"]).await;
    assert_eq!(ran.status, Some(3), "{ran:?}");
    let row: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(row["outcome"], "conflict", "{ran:?}");
    assert!(ran.err.contains("payman journal show a"), "{ran:?}");
    assert_eq!(payments(&program.payman), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_batch_that_is_interrupted_says_how_to_go_on() {
    let program = Program::new().await;
    program.payman.fault(Fault::stall().on(Operation::Send).after_acting());
    program.write("a.csv", "idempotency_key,text\na,Pay Tyllen $1\nb,Pay Tyllen $2\n");
    let batch = ["batch", "a.csv", "--concurrency", "1"];
    let mut running = program.command(&batch);
    let running = running.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until("paid", async || payments(&program.payman) == 1).await;
    let id = running.id().unwrap().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(killed.success());
    let output = running.wait_with_output().await.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{err}");
    assert!(err.contains("run the same command again"), "{err}");
    let ran = program.run(&batch).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(payments(&program.payman), 2);
}

#[tokio::test]
async fn credentials_that_do_not_work_fail_once() {
    let program = Program::new().await;
    program.write("a.csv", "idempotency_key,text\na,Pay Tyllen $1\nb,Pay Tyllen $2\n");
    program.payman.fault(Fault::status(401).on(Operation::Token).always());
    let ran = program.run(&["batch", "a.csv"]).await;
    assert_eq!(ran.status, Some(5), "{ran:?}");
    assert!(!ran.err.contains("line 2"), "{ran:?}");
}

fn amounts(payman: &Emulator) -> BTreeMap<Decimal, usize> {
    let mut amounts = BTreeMap::new();
    for payment in payman.state().payments {
        *amounts.entry(payment.amount).or_default() += 1;
    }
    amounts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_killed_three_times_pays_each_amount_exactly_once() {
    const ROWS: usize = 60;
    let program = Program::new().await;
    program.payman.configure(|settings| settings.agent_delay = Duration::from_millis(150));
    let rows: String = (1..=ROWS).map(|row| format!("order-{row},Tyllen,{row}.00\n")).collect();
    program.write("payouts.csv", &format!("idempotency_key,payee,amount\n{rows}"));
    let batch = ["batch", "payouts.csv", "--template", "Pay {payee} ${amount}"];
    let sent = || program.payman.state().sends.len();
    for kill in 1..=3 {
        let mut running = program
            .command(&batch)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let enough = kill * ROWS / 5;
        until("enough was sent", async || sent() > enough).await;
        running.kill().await.unwrap();
    }
    assert!(sent() < ROWS, "it was never stopped");
    let ran = program.run(&batch).await;
    // A process that dies between the record and the first byte leaves a key to a person.
    let unknown: Vec<_> = ran
        .err
        .lines()
        .filter_map(|line| line.split("payman journal release ").nth(1)?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(ran.status, Some(if unknown.is_empty() { 0 } else { 6 }), "{ran:?}");
    let paid = amounts(&program.payman);
    assert!(paid.values().all(|times| *times == 1), "{paid:?}");
    assert_eq!(paid.len() + unknown.len(), ROWS, "{ran:?}");
    println!("{} paid once, {} for a person: {unknown:?}", paid.len(), unknown.len());
    for key in unknown {
        let amount: u32 = key.strip_prefix("order-").unwrap().parse().unwrap();
        assert!(!paid.contains_key(&Decimal::from(amount)), "{key}");
        let reason = ["journal", "release", &key, "--reason", "not in the ledger"];
        assert_eq!(program.run(&reason).await.status, Some(0));
    }
    let ran = program.run(&batch).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let paid = amounts(&program.payman);
    assert_eq!(paid.len(), ROWS);
    assert!(paid.values().all(|times| *times == 1), "{paid:?}");
    assert!(program.payman.state().sends.values().all(|sends| *sends == 1));
}

#[tokio::test]
async fn a_rate_limit_counts_only_what_is_sent() {
    let program = Program::new().await;
    let rows: String = (1..=4).map(|row| format!("k{row},Pay Tyllen ${row}\n")).collect();
    program.write("a.csv", &format!("idempotency_key,text\n{rows}"));
    let began = std::time::Instant::now();
    // One in 200 ms.
    assert_eq!(program.run(&["batch", "a.csv", "--per-minute", "300"]).await.status, Some(0));
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    // One a minute: nothing is left to be sent.
    assert_eq!(program.run(&["batch", "a.csv", "--per-minute", "1"]).await.status, Some(0));
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(payments(&program.payman), 4);
}

#[tokio::test]
async fn another_kind_of_url_is_refused() {
    let program = Program::new().await;
    let ran = program.run(&["journal", "--journal", "mysql://h/d", "list"]).await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(Path::new(program.home.path()).exists());
}
