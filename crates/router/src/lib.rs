//! The router daemon: workers, configuration, API and wiring.
//!
//! [`run`] is the whole of it. The main thread loads the configuration, answers signals and the
//! service manager; one worker thread owns the engine and the interfaces; API threads turn requests
//! into commands, which the worker answers between two batches. No decision about a packet is made
//! here.

pub mod api;
mod clock;
mod interfaces;
mod load;
mod logs;
mod notify;
mod options;

pub use options::{LogFormat, LogLevel, Options};

/// Runs a router until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, or made its worker end.
pub fn run(_options: Options) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet")
}
