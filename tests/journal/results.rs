//! `payman batch --results`: what is known outlives a batch that is killed.

use std::path::Path;
use std::process::{Command, Stdio};

use payman_sdk::emulator::{Fault, Operation};

use crate::command::*;
use crate::support::*;

/// Returns the keys and the outcomes of a file of results.
fn rows(path: &Path) -> Vec<(String, String)> {
    let Ok(text) = std::fs::read(path) else { return Vec::new() };
    let mut reader = csv::Reader::from_reader(text.as_slice());
    reader
        .records()
        .map(|record| record.unwrap())
        .map(|record| (record[0].to_owned(), record[1].to_owned()))
        .collect()
}

fn completed(keys: &[&str]) -> Vec<(String, String)> {
    keys.iter().map(|key| ((*key).to_owned(), "completed".to_owned())).collect()
}

const ASKS: &str = "idempotency_key,text\na,Pay Tyllen $1\nb,Pay Tyllen $2\nc,Pay Tyllen $3\n";
const BATCH: [&str; 6] = ["batch", "a.csv", "--results", "out.csv", "--concurrency", "1"];

#[tokio::test]
async fn a_batch_that_is_killed_loses_no_result() {
    let program = Program::new().await;
    let (results, partial) = (program.path("out.csv"), program.path("out.csv.partial"));
    program.write("a.csv", ASKS);
    program.write("out.csv", "the results of last week\n");
    // Two rows are answered; the third one is paid, and its answer does not come.
    program.payman.fault(Fault::stall().on(Operation::Send).after_acting().skip(2));
    let mut running = program.command(&BATCH).stderr(Stdio::null()).spawn().unwrap();
    until("the third row is paid", async || payments(&program.payman) == 3).await;
    running.kill().await.unwrap();
    assert_eq!(rows(&partial), completed(&["a", "b"]));
    let old = std::fs::read_to_string(&results).unwrap();
    assert_eq!(old, "the results of last week\n");

    // Killed within a write, which leaves a part of a row.
    let known = std::fs::read_to_string(&partial).unwrap();
    std::fs::write(&partial, format!("{known}c,compl")).unwrap();
    program.write("b.csv", "idempotency_key,text\nd,Pay Tyllen $4\ne,Pay Tyllen $5\n");
    program.payman.fault(Fault::stall().on(Operation::Send).after_acting().skip(1));
    let batch = ["batch", "b.csv", "--results", "out.csv", "--concurrency", "1"];
    let mut running = program.command(&batch).stderr(Stdio::null()).spawn().unwrap();
    until("the fifth row is paid", async || payments(&program.payman) == 5).await;
    running.kill().await.unwrap();
    let text = std::fs::read_to_string(&partial).unwrap();
    assert!(text.starts_with(&known), "{text}");
    assert!(text.contains("\nc,compl\nd,completed,"), "{text}");

    let ran = program.run(&BATCH).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(rows(&results), completed(&["a", "b", "c"]));
    assert!(!partial.exists());
    let left = std::fs::read_dir(program.home.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".tmp")), "{left:?}");
    assert_eq!(payments(&program.payman), 5);
}

#[cfg(unix)]
#[tokio::test]
async fn an_interruption_names_the_file_with_the_rows_that_have_ended() {
    let program = Program::new().await;
    program.write("a.csv", ASKS);
    program.payman.fault(Fault::stall().on(Operation::Send).after_acting().skip(1));
    let mut running = program.command(&BATCH);
    let running = running.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until("the second row is paid", async || payments(&program.payman) == 2).await;
    let id = running.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = running.wait_with_output().await.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{err}");
    assert!(err.contains("out.csv.partial"), "{err}");
    assert_eq!(rows(&program.path("out.csv.partial")), completed(&["a"]));
    assert!(!program.path("out.csv").exists());
}

/// A rename would put a plain file in the place of a pipe or a link.
#[cfg(unix)]
#[tokio::test]
async fn a_pipe_and_a_link_stay_what_they_are() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let program = Program::new().await;
    program.write("a.csv", ASKS);
    let pipe = program.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
    let ran = program.run(&["batch", "a.csv", "--results", "pipe"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert!(!program.path("pipe.partial").exists());
    let read = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
    let lines: Vec<_> = read.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(lines, ["idempotency_key", "a", "b", "c"], "{read}");

    program.write("there.csv", "old\n");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(program.path("there.csv"), mode).unwrap();
    std::os::unix::fs::symlink("there.csv", program.path("link.csv")).unwrap();
    let ran = program.run(&["batch", "a.csv", "--results", "link.csv"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(program.path("link.csv").is_symlink());
    assert_eq!(rows(&program.path("there.csv")), completed(&["a", "b", "c"]));
    let mode = std::fs::metadata(program.path("there.csv")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn results_do_not_overwrite_the_asks() {
    let program = Program::new().await;
    for (asks, results) in [("a.csv", "./a.csv"), ("out.csv.partial", "out.csv")] {
        program.write(asks, ASKS);
        let ran = program.run(&["batch", asks, "--results", results]).await;
        assert_eq!(ran.status, Some(2), "{ran:?}");
        assert_eq!(std::fs::read_to_string(program.path(asks)).unwrap(), ASKS);
    }
    assert_eq!(program.run(&["batch", "a.csv", "--results", "no/out.csv"]).await.status, Some(2));
    assert_eq!(payments(&program.payman), 0);
}
