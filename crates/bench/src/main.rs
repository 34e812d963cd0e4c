//! `fairway-bench`: Fairway beside the kernel's own forwarding and other tunnels, in one run on one
//! machine.
//!
//! Absolute figures of a virtual machine move from hour to hour; ratios within one run hold. So a
//! cell is measured in rounds in which every contender has its turn, and what is reported first is
//! how many times as good Fairway was as another in the same round. Nothing is reported that was not
//! seen to flow: bytes are compared before, and counted by the devices while it is measured.
//!
//! `cells` says what is measured, `contender` who takes part, `line` raises one, `load` makes traffic,
//! `measure` measures once, `rounds` again and again, `report` and `page` tell.
#![allow(clippy::print_stdout, reason = "a command that prints what it measured")]
#![allow(clippy::disallowed_methods, reason = "a stopwatch reads the clock")]

mod cells;
mod child;
mod contender;
mod line;
mod load;
mod measure;
mod page;
mod report;
mod rounds;
mod stats;
mod usage;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use clap::Parser;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};

use cells::Cell;
use contender::Tools;
use line::Scratch;
use rounds::{Lines, Outcome, Plan};

/// One run at a time: two would measure each other.
const LOCK: &str = "/run/fairway-bench.lock";

/// How many sessions are a million in a quick run.
const QUICK_MILLION: u32 = 30_000;

/// Measures Fairway beside other ways to carry the same traffic. Needs root.
#[derive(Debug, Parser)]
#[command(name = "fairway-bench")]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// The `fairway` command to measure.
    #[arg(long, default_value = "target/release/fairway")]
    fairway: PathBuf,
    /// Where `make bench-peers` installed what is in no package.
    #[arg(long, default_value = "target/bench/peers")]
    peers: PathBuf,
    /// Where the report is written.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Two short pairs of each cell instead of five, without tunnels that decide nothing.
    #[arg(long)]
    quick: bool,
    /// Measure only this cell; may be given several times.
    #[arg(long = "only", value_name = "CELL")]
    only: Vec<String>,
    /// How many pairs of each cell.
    #[arg(long)]
    pairs: Option<usize>,
    /// How long each measurement takes, in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// How many workers Fairway's routers have.
    #[arg(long)]
    workers: Option<u8>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the cells.
    List,
    /// Make or take traffic inside a host of a line; started by the harness itself.
    #[command(hide = true)]
    Load {
        #[command(subcommand)]
        load: load::Load,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.command {
        Some(Command::Load { load }) => load::run(load),
        Some(Command::List) => {
            cells::EVERY.iter().for_each(|cell| println!("{:<16} {}", cell.name, cell.what));
            Ok(())
        }
        None => compare(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fairway-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> anyhow::Result<()> {
    let chosen = chosen(&options.only, options.quick)?;
    listen_for_signals()?;
    line::own_command()?;
    let _turn = take_turn()?;
    line::remove_left_behind()?;
    let plan = Plan {
        pairs: options.pairs.unwrap_or(if options.quick { 2 } else { 5 }).max(1),
        seconds: options.seconds.unwrap_or(if options.quick { 0.6 } else { 3.0 }).max(0.2),
        quick: options.quick,
    };
    let tools = Tools {
        fairway: std::path::absolute(&options.fairway)?,
        peers: std::path::absolute(&options.peers)?,
        workers: options.workers,
        million: if options.quick { QUICK_MILLION } else { 1_000_000 },
    };
    let scratch = Scratch::new()?;
    let machine = report::machine(plan);
    let mut lines = Lines::new(&tools, &scratch);
    let mut outcomes: Vec<Outcome> = Vec::new();
    println!("{}", report::heading());
    for (at, cell) in chosen.iter().enumerate() {
        let later = chosen.get(at + 1..).unwrap_or_default();
        let outcome = rounds::measure(cell, later, plan, &mut lines)?;
        print!("{}", report::lines(&outcome));
        outcomes.push(outcome);
        // After each cell, so that a run that is stopped has told what it knows.
        let document = report::document(&machine, &outcomes, &tools);
        report::write(&options.out.join("report.json"), &format!("{document:#}\n"))?;
        report::write(&options.out.join("report.html"), &page::page(&document))?;
    }
    println!("{} and report.html beside it have all of it", options.out.join("report.json").display());
    Ok(())
}

fn chosen(only: &[String], quick: bool) -> anyhow::Result<Vec<Cell>> {
    let all = cells::EVERY;
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|cell| cell.name == **name)) {
        let names: Vec<&str> = all.iter().map(|cell| cell.name).collect();
        bail!("there is no cell {unknown}; there are {}", names.join(", "));
    }
    let wanted = |cell: &Cell| match only {
        [] => !(quick && cell.by_xdp),
        _ => only.iter().any(|name| name == cell.name),
    };
    Ok(all.iter().filter(|cell| wanted(cell)).cloned().collect())
}

/// From now on, being asked to end sets [`child::STOPPED`], and everything is removed in order.
fn listen_for_signals() -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block().context("blocking signals")?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            child::STOPPED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Waits until no other run is under way.
fn take_turn() -> anyhow::Result<Flock<File>> {
    let open = || File::create(LOCK).with_context(|| format!("opening {LOCK}: this needs root"));
    let mut file = open()?;
    let mut told = false;
    loop {
        child::go_on()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
            Err((_, error)) => bail!("{LOCK}: {error}"),
        }
        if !told {
            eprintln!("another run is under way; this one waits for it");
            told = true;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}
