//! End to end, in network namespaces: laboratories with programs nobody here wrote.
//!
//! The test program is its own `fairway`: called with `lab …` it does what the command does, so
//! that wires run from the same build. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may fail, and say what they measured"
)]

mod commands;
mod links;
mod support;

use std::process::ExitCode;

use clap::Parser;
use fairway_lab::LabCommand;
use libtest_mimic::{Arguments, Trial};

#[derive(Parser)]
enum Fairway {
    #[command(subcommand)]
    Lab(LabCommand),
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("lab") {
        let Fairway::Lab(command) = Fairway::parse();
        return fairway_lab::run(command).unwrap_or_else(|error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        });
    }
    let mut arguments = Arguments::from_args();
    // Two cores: what is measured must not be disturbed.
    arguments.test_threads = Some(1);
    let trial = |(name, test): (&'static str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let tests = commands::TESTS.iter().chain(links::TESTS).copied().map(trial).collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}
