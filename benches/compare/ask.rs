//! One ask, and the same by hand: the processor time of the client's thread.
//!
//! The client has this thread, with a runtime of its own, for all that it does: the connection's task too. The server
//! has another. Both sides send the same request over a connection that is kept open, with a time limit, and read the
//! same reply into a `Task`. By hand, the request is put together with `json!`.

use std::hint::black_box;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::by_hand::{ByHand, TEXT, our_client};
use super::plain;
use super::row::{Measured, Row, thread_time};

const ASKS: u32 = 200;
const PAIRS: usize = 41;

pub fn rows() -> Vec<Row> {
    vec![Row::new("ask/cpu", 1.05, measure)]
}

fn measure() -> Measured {
    let base_url = plain::start(answer);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ours = our_client(&base_url, |http| http);
    let other = ByHand::new(&base_url, |http| http);
    let ours = || turn(&runtime, async || drop(black_box(ours.ask(TEXT).await.expect("a reply"))));
    let other = || turn(&runtime, async || drop(black_box(other.ask().await)));
    ours();
    other();
    let mut turns = Vec::with_capacity(PAIRS);
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            let first = ours();
            turns.push((first, other()));
        } else {
            let first = other();
            turns.push((ours(), first));
        }
    }
    let median = |of: fn(&(Cost, Cost)) -> Duration| {
        let mut all: Vec<f64> =
            turns.iter().map(|turn| of(turn).as_secs_f64() * 1e6 / f64::from(ASKS)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (cpu, wall) = (
        (median(|turn| turn.0.cpu), median(|turn| turn.1.cpu)),
        (median(|turn| turn.0.wall), median(|turn| turn.1.wall)),
    );
    println!(
        "ask: {:.1} against {:.1} µs of processor time, {:.1} against {:.1} µs in all",
        cpu.0, cpu.1, wall.0, wall.1
    );
    let pairs = turns
        .iter()
        .map(|(ours, other)| (ours.cpu.as_secs_f64(), other.cpu.as_secs_f64()))
        .collect();
    Measured { pairs, bytes: None }
}

#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    wall: Duration,
}

fn turn(runtime: &Runtime, ask: impl AsyncFn()) -> Cost {
    let (cpu, wall) = (thread_time(), Instant::now());
    runtime.block_on(async {
        for _ in 0..ASKS {
            ask().await;
        }
    });
    Cost { cpu: thread_time() - cpu, wall: wall.elapsed() }
}

fn answer(to: &mut TcpStream, _: &[u8]) -> io::Result<()> {
    static ANSWER: OnceLock<String> = OnceLock::new();
    let answer = ANSWER.get_or_init(|| {
        let reply = plain::reply();
        let date = "date: Fri, 27 Jun 2025 16:31:41 GMT";
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{date}\r\ncontent-length: {}\r\n\r\n{reply}",
            reply.len()
        )
    });
    to.write_all(answer.as_bytes())
}
