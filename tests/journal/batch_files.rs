//! Files as people have them, through `payman batch`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::command::*;
use crate::support::*;

/// Runs the program with a text on standard input.
async fn run_with_input(program: &Program, args: &[&str], input: &str) -> Ran {
    let mut command = program.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = running.wait_with_output().await.unwrap();
    Ran {
        status: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn standard_input_is_a_file_of_asks() {
    let program = Program::new().await;
    let asks = "idempotency_key,text\na,Pay Tyllen $1\nb,Pay Tyllen $2\n";
    for _ in 0..2 {
        let args = ["batch", "-", "--results", "out.csv"];
        let ran = run_with_input(&program, &args, asks).await;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(ran.err.contains("2 completed"), "{ran:?}");
    }
    assert_eq!(payments(&program.payman), 2);
    let ran = run_with_input(&program, &["batch", "-"], "idempotency_key,text\na,\n").await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("line 2"), "{ran:?}");
    let ran = run_with_input(&program, &["batch", "-"], "").await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
}

/// The file is as a spreadsheet on Windows writes it.
#[tokio::test]
async fn a_file_of_a_spreadsheet_pays_what_it_says() {
    let program = Program::new().await;
    program.write(
        "a.csv",
        "\u{feff}\"Idempotency_Key\",\"Payee\",\"Amount\",\"Note\"\r\n\
         order-1,\"Tyllen\", 5.00 ,\"rent, May\"\r\n\
         order-2,Tyllen,6,\r\n,,,\r\n,,,\r\n",
    );
    let batch = ["batch", "a.csv", "--template", "Pay {payee} ${amount}"];
    let dry = program.run(&[&batch[..], &["--dry-run"]].concat()).await;
    assert_eq!(dry.out, "order-1\tPay Tyllen $5.00\norder-2\tPay Tyllen $6\n", "{dry:?}");
    let ran = program.run(&batch).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(payments(&program.payman), 2);
}

/// The reader would take the rows after an open quote into one text: one ask with two payments.
#[tokio::test]
async fn a_file_with_an_open_quote_is_refused() {
    let program = Program::new().await;
    program.write("a.csv", "idempotency_key,text\na,\"Pay Tyllen $1\nb,Pay Tyllen $2\n");
    let ran = program.run(&["batch", "a.csv"]).await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("line 2"), "{ran:?}");
    assert_eq!(payments(&program.payman), 0);
}

#[tokio::test]
async fn an_amount_that_can_be_misread_is_refused() {
    let program = Program::new().await;
    program.write(
        "a.csv",
        "idempotency_key,payee,amount\na,Tyllen,\"1,50\"\nb,Tyllen,-5\nc,Tyllen,0\nd,Tyllen,1e3\n",
    );
    let ran = program.run(&["batch", "a.csv", "--template", "Pay {payee} ${amount}"]).await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    for says in ["line 2", "1,50", "line 3", "-5", "line 4", "line 5", "1e3", "Nothing was sent"] {
        assert!(ran.err.contains(says), "{says}: {ran:?}");
    }
    assert_eq!(payments(&program.payman), 0);
}

#[tokio::test]
async fn ten_thousand_rows_are_checked_at_once() {
    let program = Program::new().await;
    let rows: String = (1..=10_000).map(|row| format!("order-{row},Tyllen,{row}.00\n")).collect();
    let file = format!("idempotency_key,payee,amount\n{rows}");
    program.write("a.csv", &file);
    program.write("b.csv", &format!("{file}order-1,Tyllen,5\n"));
    let template = "Pay {payee} ${amount}";
    let began = Instant::now();
    let ran = program.run(&["batch", "a.csv", "--dry-run", "--template", template]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 10_000);
    let ran = program.run(&["batch", "b.csv", "--template", template]).await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("line 10002") && ran.err.contains("line 2 "), "{ran:?}");
    // Far more than it takes; comparing each row with each other would take longer.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(payments(&program.payman), 0);
}
