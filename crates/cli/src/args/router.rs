//! Running a router, and telling a running one what to do.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::SocketArgs;

/// `fairway router`.
#[derive(Debug, Args)]
pub struct RouterArgs {
    /// The configuration of the whole authority, a JSON document.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// The name of this router in the configuration.
    #[arg(long)]
    pub name: String,
    /// Where the API socket is made [default: /run/fairway/NAME.sock].
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Write the beginning and end of each session to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub session_log: Option<PathBuf>,
    /// Serve Prometheus metrics over HTTP on this address and port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<std::net::SocketAddr>,
    /// How many workers share the sessions, 1 to 64 [default: one for each processor, at most 8].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: Option<u8>,
    /// How many microseconds a worker looks for the next packet before it sleeps, where packets follow one another
    /// that closely and nobody else wants the processor; 0 for not at all.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = fairway_router::Options::USUAL_BUSY_POLL,
          value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub busy_poll: u16,
    /// Whether established sessions that need nothing but other addresses and ports stay in the kernel:
    /// where it can, or never.
    #[arg(long, value_enum, default_value_t = Offload::Auto)]
    pub offload: Offload,
    /// How interfaces exchange frames with the kernel: `auto`, `packet` or `xdp`, or INTERFACE=MODE for one of
    /// them; may be given several times [default: auto].
    ///
    /// `auto` is AF_XDP where the driver itself reads and writes the frames, and packet sockets elsewhere.
    /// `xdp` is AF_XDP, in the driver or else before the network stack, wherever the device allows it.
    #[arg(long, value_name = "MODE", value_parser = io_mode)]
    pub io: Vec<(Option<String>, IoMode)>,
    /// Whom the router goes on as once it has attached to its interfaces, when root starts it
    /// [default: fairway, or nobody where there is no such user].
    #[arg(long)]
    pub user: Option<String>,
    /// Do not limit the system calls of the running router to those it needs.
    #[arg(long)]
    pub any_system_call: bool,
    /// How log lines are written to standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
    /// How much is logged.
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// `fairway serve-files`.
#[derive(Debug, Args)]
pub struct ServeFiles {
    /// The configuration.
    #[arg(long)]
    pub config: PathBuf,
    /// The name of the router in it.
    #[arg(long)]
    pub name: String,
    /// The API socket.
    #[arg(long)]
    pub socket: PathBuf,
    /// The session log.
    #[arg(long)]
    pub session_log: Option<PathBuf>,
}

/// Whether sessions stay in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Offload {
    /// Where it can.
    Auto,
    /// Never.
    Off,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// What needs an operator.
    Warning,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
}

/// How an interface exchanges frames with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IoMode {
    /// AF_XDP where the driver itself reads and writes the frames.
    Auto,
    /// Packet sockets.
    Packet,
    /// AF_XDP wherever the device allows it.
    Xdp,
}

/// `MODE` or `INTERFACE=MODE`.
fn io_mode(text: &str) -> Result<(Option<String>, IoMode), String> {
    let (interface, mode) = match text.rsplit_once('=') {
        Some((interface, mode)) => (Some(interface.to_owned()), mode),
        None => (None, text),
    };
    let known = IoMode::from_str(mode, false);
    known.map(|mode| (interface, mode)).map_err(|_| "it is auto, packet or xdp".to_owned())
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `fairway reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// The router.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `fairway offload`.
#[derive(Debug, Args)]
pub struct OffloadArgs {
    /// What is to be.
    #[arg(value_enum)]
    pub state: Switch,
    /// The router.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// They stay in the kernel where it can.
    On,
    /// Workers forward everything.
    Off,
}
