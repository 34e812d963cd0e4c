//! Plots as SVG, inside the page.

use std::fmt::Write;

use crate::report::short;

/// One bar of a plot.
pub(super) struct Bar {
    /// Whose it is.
    pub(super) name: String,
    /// How long it is.
    pub(super) value: f64,
    /// Single measurements.
    pub(super) rounds: Vec<f64>,
    /// Whether it is Fairway's.
    pub(super) own: bool,
    /// What this one's figure asks of Fairway.
    pub(super) goal: Option<f64>,
}

const WIDTH: f64 = 560.0;
const LABELS: f64 = 104.0;
const VALUES: f64 = 92.0;
const ROW: f64 = 24.0;
const THICK: f64 = 14.0;
/// The room above the bars for the names of goals.
const ABOVE: f64 = 16.0;

/// Text as it may stand in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Bars from the left, one below the other, with a mark for each goal.
pub(super) fn bars(bars: &[Bar], unit: &str) -> String {
    let everything = bars.iter().flat_map(|bar| bar.rounds.iter().copied().chain([bar.value]));
    let most = everything.chain(bars.iter().filter_map(|bar| bar.goal)).fold(0.0, f64::max).max(1e-9);
    let across = |value: f64| LABELS + (WIDTH - LABELS - VALUES) * value / most;
    let goals: Vec<f64> = bars.iter().filter_map(|bar| bar.goal).collect();
    let above = if goals.is_empty() { 0.0 } else { ABOVE };
    let height = above + ROW * bars.len() as f64;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escape(
            &bars
                .iter()
                .map(|bar| format!("{} {} {unit}", bar.name, short(bar.value)))
                .collect::<Vec<_>>()
                .join(", ")
        )
    );
    for (number, bar) in bars.iter().enumerate() {
        let top = above + ROW * number as f64 + (ROW - THICK) / 2.0;
        let middle = top + THICK / 2.0;
        let class = if bar.own { "own" } else { "peer" };
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{THICK}\" rx=\"2\"/>",
            LABELS - 8.0,
            escape(&bar.name),
            (across(bar.value) - LABELS).max(1.0),
        );
        for round in &bar.rounds {
            let _ = write!(svg, "<circle cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"2.2\"/>", across(*round));
        }
        let furthest = bar.rounds.iter().copied().fold(bar.value, f64::max);
        let _ = writeln!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
            across(furthest) + 7.0,
            short(bar.value)
        );
    }
    for goal in goals {
        let x = across(goal);
        let _ = writeln!(
            svg,
            "<line class=\"goal\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{above:.0}\" y2=\"{height:.0}\"/>\
             <text class=\"goal\" x=\"{x:.1}\" y=\"{:.1}\">goal {}</text>",
            above - 4.0,
            short(goal)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A bar that is full when a goal is met.
pub(super) fn share(part: f64) -> String {
    let class = if part >= 1.0 { "met" } else { "short" };
    format!(
        "<svg class=\"share\" viewBox=\"0 0 140 10\"><rect class=\"rail\" width=\"140\" height=\"10\" rx=\"3\"/>\
         <rect class=\"{class}\" width=\"{:.1}\" height=\"10\" rx=\"3\"/></svg>",
        140.0 * part.clamp(0.0, 1.0)
    )
}
