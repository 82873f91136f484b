//! Plots throughput by event size as SVG, with a line for each chunk size and side.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use super::decode::{CHUNKS, EVENTS};
use super::row::Outcome;

const COLORS: [&str; 4] = ["#c0392b", "#d68910", "#2471a3", "#1e8449"];
const LEFT: f64 = 70.0;
const TOP: f64 = 50.0;
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 360.0;
/// The range of the throughput axis, in powers of ten of megabytes per second.
const LOWEST: f64 = 1.0;
const HIGHEST: f64 = 4.0;

/// Draws the plot, unless no row of that kind was run.
pub fn draw(outcomes: &[Outcome]) {
    let known: BTreeMap<&str, (f64, f64)> = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome.name.as_str(), outcome.throughput?)))
        .collect();
    if !known.keys().any(|name| name.starts_with("decode/")) {
        return;
    }
    let mut svg = frame();
    for ((chunk, _, _), color) in CHUNKS.iter().zip(COLORS) {
        for (side, dash) in [(0, ""), (1, " stroke-dasharray=\"5 4\"")] {
            let points: Vec<String> = EVENTS
                .iter()
                .enumerate()
                .filter_map(|(at, (event, _))| {
                    let (ours, baseline) = known.get(format!("decode/{event}/{chunk}").as_str())?;
                    Some(format!(
                        "{:.1},{:.1}",
                        x(at),
                        y(if side == 0 { *ours } else { *baseline })
                    ))
                })
                .collect();
            let points = points.join(" ");
            let _ = writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" \
                 stroke-width=\"2\"{dash}/>"
            );
        }
    }
    svg.push_str("</svg>\n");
    let path = target().join("compare-decode.svg");
    match fs::write(&path, svg) {
        Ok(()) => println!("\nplot: {}", path.display()),
        Err(error) => println!("\nno plot: {error}"),
    }
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target").into(), PathBuf::from)
}

fn x(at: usize) -> f64 {
    LEFT + WIDTH * at as f64 / (EVENTS.len() - 1) as f64
}

fn y(megabytes: f64) -> f64 {
    let share = (megabytes.log10() - LOWEST) / (HIGHEST - LOWEST);
    TOP + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
}

fn frame() -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 460\" \
         font-family=\"sans-serif\" font-size=\"12\">\n <rect width=\"820\" height=\"460\" \
         fill=\"white\"/>\n <text x=\"70\" y=\"28\" font-size=\"15\">Bytes to typed events, MB/s \
         by event size (solid: this crate, dashed: simple loop)</text>\n",
    );
    for megabytes in [10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0] {
        let y = y(megabytes);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#ddd\"/>\
             <text x=\"62\" y=\"{:.1}\" text-anchor=\"end\">{megabytes}</text>",
            y + 4.0
        );
    }
    for (at, (event, _)) in EVENTS.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"432\" text-anchor=\"middle\">{event}</text>",
            x(at)
        );
    }
    for (at, ((chunk, _, _), color)) in CHUNKS.iter().zip(COLORS).enumerate() {
        let y = TOP + 20.0 * at as f64;
        let _ = writeln!(
            svg,
            "<path d=\"M690 {y}h24\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"720\" y=\"{}\">{chunk} chunks</text>",
            y + 4.0
        );
    }
    svg
}
