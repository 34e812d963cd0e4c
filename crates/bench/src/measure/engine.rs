//! The engine alone: a benchmark of `fairway-session`, whose rounds are taken over.

use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::Sample;
use crate::child::go_on;
use crate::line::Scratch;

/// The figure that counts.
const FIGURE: &str = "UDP 64 B";

/// A figure of the benchmark, in packets a second of both threads together.
#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    together: Vec<f64>,
    alone: Vec<f64>,
}

/// Rounds of two workers of one router, and of two routers that know nothing of each other.
pub(crate) fn measure(quick: bool, scratch: &Scratch) -> anyhow::Result<[Vec<Sample>; 2]> {
    go_on()?;
    let file = scratch.0.join("workers.json");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "bench",
        "--quiet",
        "--locked",
        "-p",
        "fairway-session",
        "--bench",
        "workers",
        "--",
        "--json",
    ]);
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
    if quick {
        command.env("QUICK", "1");
    }
    let status = command.status().context("running cargo bench")?;
    go_on()?;
    ensure!(status.success(), "the benchmark of workers failed");
    let figures: Vec<Figure> = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let figure = figures.into_iter().find(|figure| figure.name == FIGURE);
    let figure = figure.with_context(|| format!("the benchmark says nothing of {FIGURE}"))?;
    let samples = |rates: &[f64]| {
        rates.iter().map(|rate| Sample { value: rate / 1e6, ..Sample::default() }).collect::<Vec<_>>()
    };
    Ok([samples(&figure.together), samples(&figure.alone)])
}
