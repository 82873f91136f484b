//! The processor time of one ask.
//!
//! The client runs on this thread, its connection's task included, and the server on another thread
//! of the same core: on two cores, waking the other one costs more than the ask, and now and then
//! nothing. Both sides send the same request over a connection that is kept alive, with a time
//! limit, and decode the same reply into a `Task`. The baseline builds its request with `json!`.

use std::hint::black_box;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::baseline::{BaselineClient, TEXT, our_client};
use super::minimal_server;
use super::row::{Measured, Row, alternate, on_one_core, thread_time};

const ASKS: u32 = 200;
const PAIRS: usize = 41;

pub fn rows() -> Vec<Row> {
    vec![Row::new("ask/cpu", 1.05, measure)]
}

fn measure() -> Measured {
    on_one_core(measure_asks)
}

fn measure_asks() -> Measured {
    let base_url = minimal_server::start(answer);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ours = our_client(&base_url, |http| http);
    let baseline = BaselineClient::new(&base_url, |http| http);
    let ours = || {
        ask_repeatedly(&runtime, async || drop(black_box(ours.ask(TEXT).await.expect("a reply"))))
    };
    let baseline = || ask_repeatedly(&runtime, async || drop(black_box(baseline.ask().await)));
    ours();
    baseline();
    let costs = alternate(PAIRS, ours, baseline);
    let median = |of: fn(&(Cost, Cost)) -> Duration| {
        let mut all: Vec<f64> =
            costs.iter().map(|pair| of(pair).as_secs_f64() * 1e6 / f64::from(ASKS)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (cpu, wall) = (
        (median(|pair| pair.0.cpu), median(|pair| pair.1.cpu)),
        (median(|pair| pair.0.wall), median(|pair| pair.1.wall)),
    );
    println!(
        "ask: {:.1} against {:.1} µs of processor time, {:.1} against {:.1} µs in all",
        cpu.0, cpu.1, wall.0, wall.1
    );
    let pairs = costs
        .iter()
        .map(|(ours, baseline)| (ours.cpu.as_secs_f64(), baseline.cpu.as_secs_f64()))
        .collect();
    Measured { pairs, bytes: None }
}

#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    wall: Duration,
}

fn ask_repeatedly(runtime: &Runtime, ask: impl AsyncFn()) -> Cost {
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
        let reply = minimal_server::reply();
        let date = "date: Fri, 27 Jun 2025 16:31:41 GMT";
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{date}\r\n\
             content-length: {}\r\n\r\n{reply}",
            reply.len()
        )
    });
    to.write_all(answer.as_bytes())
}
