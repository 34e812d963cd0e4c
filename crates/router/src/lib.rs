//! The router daemon: workers, configuration, API and wiring.
//!
//! [`run`] is the whole of it. The main thread loads the configuration, answers signals and the
//! service manager; one worker thread owns the engine and the interfaces; API threads turn requests
//! into commands, which the worker answers between two batches. No decision about a packet is made
//! here.

pub mod api;
mod clock;
mod command;
mod control;
mod daemon;
mod interfaces;
mod load;
mod logs;
mod metrics;
mod notify;
mod options;
mod session_log;
mod stop;
mod views;
mod worker;

pub use daemon::run;
pub use fairway_io::{Released, release};
pub use options::{LogFormat, LogLevel, Options};
