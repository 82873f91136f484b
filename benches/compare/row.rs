//! A row of the comparison: a measurement, its goal and its result.

use std::time::{Duration, Instant};

/// The number of measurements of each side.
const PAIRS: usize = 9;
/// The shortest duration of one measurement.
const MEASUREMENT: Duration = Duration::from_millis(30);

/// A comparison that can be run.
pub struct Row {
    pub name: String,
    /// The highest acceptable ratio; `None` for a row without a goal.
    pub goal: Option<f64>,
    pub measure: Box<dyn FnOnce() -> Measured>,
}

/// The costs of both sides, in a unit that both share.
pub struct Measured {
    /// The costs of this crate and of the baseline.
    pub pairs: Vec<(f64, f64)>,
    /// The number of bytes processed at that cost, in nanoseconds; `None` if throughput is not
    /// meaningful.
    pub bytes: Option<f64>,
}

/// The result of a row.
pub struct Outcome {
    pub name: String,
    pub goal: Option<f64>,
    pub median: f64,
    /// Megabytes per second, of this crate and of the baseline.
    pub throughput: Option<(f64, f64)>,
}

impl Row {
    /// Creates a row with a goal.
    pub fn new(
        name: impl Into<String>,
        goal: f64,
        measure: impl FnOnce() -> Measured + 'static,
    ) -> Self {
        Self { name: name.into(), goal: Some(goal), measure: Box::new(measure) }
    }

    /// Creates a row without a goal.
    pub fn without_goal(
        name: impl Into<String>,
        measure: impl FnOnce() -> Measured + 'static,
    ) -> Self {
        Self { name: name.into(), goal: None, measure: Box::new(measure) }
    }

    /// Runs the measurement and prints its result.
    pub fn run(self) -> Outcome {
        let measured = (self.measure)();
        assert!(measured.pairs.len() >= 5, "{}: too few pairs", self.name);
        let ratios: Vec<f64> =
            measured.pairs.iter().map(|(ours, baseline)| ours / baseline).collect();
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

/// Returns the minimum, median and maximum.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// Measures both sides alternately, and swaps their order each time.
pub fn alternate<T>(
    pairs: usize,
    mut ours: impl FnMut() -> T,
    mut baseline: impl FnMut() -> T,
) -> Vec<(T, T)> {
    let pair = |number: usize| {
        if number.is_multiple_of(2) {
            let first = ours();
            (first, baseline())
        } else {
            let first = baseline();
            (ours(), first)
        }
    };
    (0..pairs).map(pair).collect()
}

/// Measures the processor time of both sides in nanoseconds per run, after a warm-up.
///
/// A measurement has the same number of runs on both sides, enough to last a while.
pub fn time_alternately(mut ours: impl FnMut(), mut baseline: impl FnMut()) -> Vec<(f64, f64)> {
    let runs = runs_per_measurement(&mut ours).max(runs_per_measurement(&mut baseline));
    alternate(PAIRS, || cost(runs, &mut ours), || cost(runs, &mut baseline))
}

fn runs_per_measurement(side: &mut impl FnMut()) -> u32 {
    side();
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < MEASUREMENT {
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

/// Returns the processor time of this thread, which does not include that of other programs.
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

/// Runs on one core, together with the threads that `act` starts.
#[cfg(target_os = "linux")]
pub fn on_one_core<T>(act: impl FnOnce() -> T) -> T {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let all = sched_getaffinity(None).expect("the cores of this thread");
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).expect("a core"));
    sched_setaffinity(None, &one).expect("one core");
    let result = act();
    sched_setaffinity(None, &all).expect("all cores");
    result
}

#[cfg(not(target_os = "linux"))]
pub fn on_one_core<T>(act: impl FnOnce() -> T) -> T {
    act()
}

/// Prints the results as a table.
pub fn print_table(outcomes: &[Outcome]) {
    println!(
        "\n{:<34} {:>7} {:>6}      {:>10} {:>10}",
        "row", "ratio", "goal", "ours MB/s", "base MB/s"
    );
    for outcome in outcomes {
        let goal = outcome.goal.map_or_else(|| "-".to_owned(), |goal| format!("{goal:.2}"));
        let over = if outcome.goal.is_some_and(|goal| outcome.median > goal) { "OVER" } else { "" };
        let (ours, base) = outcome.throughput.map_or_else(Default::default, |(ours, base)| {
            (format!("{ours:.0}"), format!("{base:.0}"))
        });
        println!(
            "{:<34} {:>7.3} {goal:>6} {over:<4} {ours:>10} {base:>10}",
            outcome.name, outcome.median
        );
    }
}
