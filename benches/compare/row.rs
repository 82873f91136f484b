//! A row: what is measured against what, how often, and with which goal.

use std::time::{Duration, Instant};

/// At least so many times each side has its turn.
const PAIRS: usize = 9;
/// A turn takes at least so long.
const TURN: Duration = Duration::from_millis(30);

pub struct Row {
    pub name: String,
    /// The ratio that it should stay at or under; none where it is only told.
    pub goal: Option<f64>,
    pub measure: Box<dyn FnOnce() -> Measured>,
}

/// What each side cost, turn by turn, in any unit that both share.
pub struct Measured {
    /// Ours and the other's.
    pub pairs: Vec<(f64, f64)>,
    /// The bytes that one unit of cost stands for, where there is a throughput to speak of: then costs are
    /// nanoseconds for so many bytes.
    pub bytes: Option<f64>,
}

pub struct Outcome {
    pub name: String,
    pub goal: Option<f64>,
    pub median: f64,
    /// Megabytes a second, ours and the other's.
    pub throughput: Option<(f64, f64)>,
}

impl Row {
    pub fn new(
        name: impl Into<String>,
        goal: f64,
        measure: impl FnOnce() -> Measured + 'static,
    ) -> Self {
        Self { name: name.into(), goal: Some(goal), measure: Box::new(measure) }
    }

    /// A row that is only told.
    pub fn untargeted(
        name: impl Into<String>,
        measure: impl FnOnce() -> Measured + 'static,
    ) -> Self {
        Self { name: name.into(), goal: None, measure: Box::new(measure) }
    }

    pub fn run(self) -> Outcome {
        let measured = (self.measure)();
        assert!(measured.pairs.len() >= 5, "{}: too few pairs", self.name);
        let ratios: Vec<f64> = measured.pairs.iter().map(|(ours, other)| ours / other).collect();
        let (min, median, max) = spread(ratios);
        let goal = self.goal.map_or_else(|| "-".to_owned(), |goal| format!("{goal:.2}"));
        println!("RATIO {} {median:.3} {min:.3} {max:.3} {goal}", self.name);
        let throughput = measured.bytes.map(|bytes| {
            let of = |side: fn(&(f64, f64)) -> f64| {
                bytes * 1e3 / spread(measured.pairs.iter().map(side).collect()).1
            };
            (of(|pair| pair.0), of(|pair| pair.1))
        });
        Outcome { name: self.name, goal: self.goal, median, throughput }
    }
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// Both sides in turns, each time the other one first; one turn each before that counts for nothing.
///
/// A turn is as many runs as fill it, the same number for both sides; the costs are nanoseconds a run.
pub fn in_turns(mut ours: impl FnMut(), mut other: impl FnMut()) -> Vec<(f64, f64)> {
    let runs = runs_in_a_turn(&mut ours).max(runs_in_a_turn(&mut other));
    let mut pairs = Vec::with_capacity(PAIRS);
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            let first = cost(runs, &mut ours);
            pairs.push((first, cost(runs, &mut other)));
        } else {
            let first = cost(runs, &mut other);
            pairs.push((cost(runs, &mut ours), first));
        }
    }
    pairs
}

fn runs_in_a_turn(side: &mut impl FnMut()) -> u32 {
    side();
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < TURN {
        side();
        runs += 1;
    }
    runs
}

fn cost(runs: u32, side: &mut impl FnMut()) -> f64 {
    let start = thread_time();
    for _ in 0..runs {
        side();
    }
    (thread_time() - start).as_nanos() as f64 / f64::from(runs)
}

/// The processor time of this thread: what other programs take of the machine does not count.
#[cfg(unix)]
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.try_into().expect("under a second"))
}

#[cfg(not(unix))]
pub fn thread_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

/// The table for people.
pub fn print_table(outcomes: &[Outcome]) {
    println!(
        "\n{:<34} {:>7} {:>6}      {:>10} {:>10}",
        "row", "ratio", "goal", "ours MB/s", "other MB/s"
    );
    for outcome in outcomes {
        let goal = outcome.goal.map_or_else(|| "-".to_owned(), |goal| format!("{goal:.2}"));
        let verdict =
            if outcome.goal.is_some_and(|goal| outcome.median > goal) { "OVER" } else { "" };
        let (ours, other) = outcome.throughput.map_or_else(Default::default, |(ours, other)| {
            (format!("{ours:.0}"), format!("{other:.0}"))
        });
        println!(
            "{:<34} {:>7.3} {goal:>6} {verdict:<4} {ours:>10} {other:>10}",
            outcome.name, outcome.median
        );
    }
}
