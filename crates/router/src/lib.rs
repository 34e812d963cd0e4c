//! The router daemon: workers, configuration, API and wiring.
//!
//! [`run`] is the whole of it. The main thread loads the configuration, answers signals and the
//! service manager; each worker thread owns an engine and its sockets on the interfaces; API threads
//! turn requests into commands, which workers answer between two batches. No decision about a packet is made
//! here.

pub mod api;
mod clock;
mod command;
mod confined;
mod control;
mod crew;
mod daemon;
mod exchange;
mod facts;
mod files;
mod interfaces;
mod load;
mod logs;
mod merge;
mod metrics;
mod notify;
mod offload;
mod options;
mod ring;
mod session_log;
mod stop;
mod views;
mod worker;

pub use daemon::run;
pub use fairway_io::{IoChoice, Released, release};
pub use files::{FileServer, serve_files};
pub use options::{Confinement, IoOptions, LogFormat, LogLevel, Offload, Options};
