//! The `fairway` command: the router itself, and everything an operator does with it.
//!
//! [`args`] says what can be typed; each other module is one command or a tool that several share.
//! Only [`output`] writes to the standard streams. A command returns its exit code, or a
//! [`failure::Failure`] that says what went wrong, where, and what to do about it.

mod args;
mod capture;
mod client;
mod completion;
mod config;
mod delete;
mod failure;
mod key;
mod lab;
mod output;
mod router;
mod show;
mod support;
mod table;
mod trace;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::failure::Outcome;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Router(args) => router::run(args),
        Command::Config { command } => config::run(command),
        Command::Key { command } => key::run(command),
        Command::Show(args) => show::run(args),
        Command::Delete { command } => delete::run(command),
        Command::Reload(args) => router::reload(&args),
        Command::Offload(args) => router::offload(&args),
        Command::ServeFiles(args) => router::serve_files(args),
        Command::Release { json } => router::release(json),
        Command::Trace(args) => trace::run(&args),
        Command::Capture(args) => capture::run(args),
        Command::SupportBundle(args) => support::run(&args),
        Command::Lab { command } => lab::run(command),
        Command::Completion { shell } => completion::run(shell),
        Command::Version => {
            output::text(concat!("fairway ", env!("CARGO_PKG_VERSION"), "\n"))?;
            Ok(failure::OK)
        }
    }
}
