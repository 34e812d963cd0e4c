//! What a run says: a table on the terminal, and `report.json` for other programs.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::contender::{Contender, Tools};
use crate::measure::Sample;
use crate::rounds::{Outcome, Plan, Reached};
use crate::stats::{least, median, most};

/// Where and how a run was made.
pub(crate) fn machine(plan: Plan) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processor": model.trim_start_matches([' ', '\t', ':']),
        "processors": processors,
        "load_before": read("/proc/loadavg").split_whitespace().next(),
        "pairs": plan.pairs,
        "seconds": plan.seconds,
    })
}

/// The whole report.
pub(crate) fn document(machine: &Value, outcomes: &[Outcome], tools: &Tools) -> Value {
    let mut versions = Map::new();
    for contender in outcomes.iter().flat_map(|outcome| outcome.samples.keys()) {
        if !contender.is_fairway() || *contender == Contender::FairwayPlain {
            versions.entry(contender.name()).or_insert_with(|| contender.version(tools).into());
        }
    }
    let cells: Vec<Value> = outcomes.iter().map(cell).collect();
    json!({ "cells": cells, "machine": machine, "versions": versions })
}

fn cell(outcome: &Outcome) -> Value {
    let cell = &outcome.cell;
    let figures = |contender: Contender| outcome.samples.get(&contender).map(|samples| figures(samples));
    let mut peers = Map::new();
    for peer in cell.peers {
        if let Some(figures) = figures(*peer) {
            peers.insert(peer.name().to_owned(), figures);
        }
    }
    let reached = outcome.reached();
    let goals: Vec<Value> = reached.iter().map(goal).collect();
    let faults = outcome.faults.iter().map(|(who, why)| (who.name().to_owned(), why.clone().into()));
    let changed = outcome.changed.iter().filter(|(_, changed)| !changed.is_empty());
    let changed = changed.map(|(who, changed)| (who.name().to_owned(), json!(changed)));
    json!({
        "name": cell.name,
        "what": cell.what,
        "unit": cell.traffic.unit(),
        "better": if cell.less_is_better() { "less" } else { "more" },
        "fairway": figures(cell.fairway),
        "peers": peers,
        "goal": goals.first(),
        "goals": goals,
        "ratio": reached.first().map(Reached::ratio),
        "left_out": faults.collect::<Map<_, _>>(),
        "changed_settings": changed.collect::<Map<_, _>>(),
        "foreign_cpu_share": outcome.foreign(),
    })
}

fn figures(samples: &[Sample]) -> Value {
    let of = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<f64>>();
    let values = of(&|sample| sample.value);
    let mut programs = Map::new();
    let mut beside = Map::new();
    for name in samples.iter().flat_map(|sample| sample.programs_ns.keys()) {
        let all = of(&|sample| sample.programs_ns.get(name).copied().unwrap_or_default());
        programs.entry(name.clone()).or_insert_with(|| median(&all).into());
    }
    for name in samples.iter().flat_map(|sample| sample.beside.keys()) {
        let all = of(&|sample| sample.beside.get(name).copied().unwrap_or_default());
        // What stands still once, or fails once, must be seen.
        let of_all: fn(&[f64]) -> f64 = match *name {
            "failed" => |all| all.iter().sum(),
            name if name.starts_with("longest") => most,
            _ => median,
        };
        beside.entry(*name).or_insert_with(|| of_all(&all).into());
    }
    json!({
        "median": median(&values),
        "min": least(&values),
        "max": most(&values),
        "cpu_ns_per_packet": median(&of(&|sample| sample.cpu_ns)),
        "programs_ns_per_packet": programs,
        "beside": beside,
        "rounds": values,
    })
}

fn goal(reached: &Reached) -> Value {
    json!({
        "against": reached.against.name(),
        "ratio": reached.goal.ratio,
        "allowance": reached.goal.allowance,
        "reached": reached.ratio(),
        "lower_quartile": reached.quartile(),
        "rounds": reached.ratios,
        "verdict": reached.verdict(),
    })
}

/// The heading of the table.
pub(crate) fn heading() -> String {
    format!(
        "{:<14} {:<14} {:>8} {:>17} {:>9}  {:<22} {}",
        "CELL", "", "MEDIAN", "LEAST – MOST", "CPU ns", "FAIRWAY : THIS (GOAL)", ""
    )
}

/// The lines of the table for one cell, at most 100 columns wide.
pub(crate) fn lines(outcome: &Outcome) -> String {
    let cell = &outcome.cell;
    let reached = outcome.reached();
    let mut text = String::new();
    for contender in [cell.fairway].iter().chain(cell.peers) {
        let own = *contender == cell.fairway;
        let label = if own && !cell.by_xdp { "fairway" } else { contender.name() };
        let name = if own { cell.name } else { "" };
        let Some(samples) = outcome.samples.get(contender) else {
            let _ = writeln!(text, "{name:<14} {label:<14} {:>8}", "–");
            continue;
        };
        let values = outcome.values(*contender);
        let cpu: Vec<f64> = samples.iter().map(|sample| sample.cpu_ns).collect();
        let spread = format!("{} – {}", short(least(&values)), short(most(&values)));
        let figures = format!("{:>8} {spread:>17} {:>9.0}", short(median(&values)), median(&cpu));
        let verdict = reached.iter().find(|reached| reached.against == *contender).map_or_else(
            || if own { cell.traffic.unit().to_owned() } else { String::new() },
            |reached| format!("{:.2} ({}) {}", reached.ratio(), reached.goal.ratio, reached.verdict()),
        );
        let line = format!("{name:<14} {label:<14} {figures}  {verdict}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if outcome.foreign() > 0.05 {
        let _ = writeln!(
            text,
            "  other programs used up to {:.0} % of the processors",
            outcome.foreign() * 100.0
        );
    }
    text
}

/// A figure with three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Writes a file, and the folder it is in.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}
