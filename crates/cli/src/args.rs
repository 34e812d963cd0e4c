//! What can be typed. The texts here are the help, and with `docs/cli.md` the reference.

mod files;
mod packets;
mod router;
mod show;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::completion::Shell;

pub use files::{ConfigCommand, ConfigShow, KeyCommand, KeyGenerate};
pub use packets::{CaptureArgs, CaptureCommand, CaptureDecode, KeyArgs, TraceArgs};
pub use router::{IoMode, LogFormat, LogLevel, Offload, OffloadArgs, Reload, RouterArgs, ServeFiles, Switch};
pub use show::{
    SessionOrder, ShowArgs, ShowCounters, ShowDrops, ShowFib, ShowLimits, ShowObject, ShowPlain, ShowSessions,
};

/// The exit codes, shown under the help of the command.
const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 refused, denied, not found or faulty; 2 the command line is wrong.";

/// An open Session Smart Router.
#[derive(Debug, Parser)]
#[command(name = "fairway", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a router of a configuration, in the foreground.
    Router(RouterArgs),
    /// Validate and show configurations.
    Config {
        /// Which of the two.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Make the keys that neighbouring routers share.
    Key {
        /// What to do with keys.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Show what a running router does.
    Show(ShowArgs),
    /// Delete sessions of a running router.
    Delete {
        /// What to delete.
        #[command(subcommand)]
        command: DeleteCommand,
    },
    /// Make a running router read its configuration again.
    ///
    /// Sessions that are still allowed are not touched. A broken configuration changes nothing.
    Reload(Reload),
    /// Let established plain sessions of a running router stay in the kernel, or take them back.
    ///
    /// This lasts until the router is started again. One that was started with `--offload off` has
    /// nothing in the kernel that could forward sessions.
    Offload(OffloadArgs),
    /// Give the traffic of this host back to its kernel after a router has stopped.
    ///
    /// A router leaves its classifier at work when it ends, so that sessions survive a restart: until
    /// then the kernel answers nothing that was the router's. This takes the classifier off, in the
    /// present network namespace. Refused while a router runs.
    Release {
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Open files for a router that is not root any more; a router starts this itself.
    #[command(name = "serve-files", hide = true)]
    ServeFiles(ServeFiles),
    /// Explain, router by router, what would happen to a packet and which configuration line decides.
    Trace(TraceArgs),
    /// Write the packets of a running router to a pcapng file, or decode metadata in one.
    Capture(CaptureArgs),
    /// Collect what somebody needs who is to help, in one file: no keys, no packets.
    SupportBundle(SupportBundle),
    /// Raise and use laboratories in network namespaces.
    Lab {
        /// What to do.
        #[command(subcommand)]
        command: crate::lab::LabCommand,
    },
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print the version.
    Version,
}

/// How the running router is found.
#[derive(Clone, Debug, Default, Args)]
pub struct SocketArgs {
    /// The API socket of the router. Default: the environment variable FAIRWAY_SOCKET, else the only
    /// socket in /run/fairway.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
}

/// Which sessions are meant. All that are given must hold.
#[derive(Clone, Debug, Default, Args)]
pub struct SessionFilter {
    /// Of this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Of this tenant or one of its children.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Of this protocol: tcp, udp, icmp, icmp6, gre, esp, sctp or a number.
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<u8>,
    /// From this address or prefix.
    #[arg(long, value_name = "ADDRESS", value_parser = prefix)]
    pub source: Option<ipnet::IpNet>,
    /// To this address or prefix.
    #[arg(long, value_name = "ADDRESS", value_parser = prefix)]
    pub destination: Option<ipnet::IpNet>,
    /// From or to this address or prefix.
    #[arg(long, value_name = "ADDRESS", value_parser = prefix, conflicts_with_all = ["source", "destination"])]
    pub address: Option<ipnet::IpNet>,
    /// To this port.
    #[arg(long)]
    pub port: Option<u16>,
    /// From or to this peer router.
    #[arg(long, value_name = "ROUTER")]
    pub peer: Option<String>,
    /// Over this network-interface.
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// With this UUID, or one that begins so.
    #[arg(long)]
    pub uuid: Option<String>,
}

/// `fairway delete`.
#[derive(Debug, Subcommand)]
pub enum DeleteCommand {
    /// Delete the sessions that the options describe. Asks first, unless --yes or --uuid is given.
    #[command(alias = "sessions")]
    Session(DeleteSession),
}

/// `fairway delete session`.
#[derive(Debug, Args)]
pub struct DeleteSession {
    /// The router.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Which sessions.
    #[command(flatten)]
    pub filter: SessionFilter,
    /// All sessions; only together with --yes.
    #[arg(long)]
    pub all: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `fairway support-bundle`.
#[derive(Debug, Args)]
pub struct SupportBundle {
    /// The router; one that is down leaves its part out.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// The file to write, a tar archive compressed with gzip.
    #[arg(short, long, value_name = "FILE", default_value = "fairway-support.tar.gz", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// A configuration to put in; without it, the one the router says it runs on.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Leave out sessions and flows, which name hosts.
    #[arg(long)]
    pub no_sessions: bool,
}

/// A protocol by name or number.
pub fn protocol(text: &str) -> Result<u8, String> {
    let named = (0..=u8::MAX).find(|&number| fairway_types::Protocol(number).name() == Some(text));
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        "not a protocol: use tcp, udp, icmp, icmp6, gre, esp, sctp or a number from 0 to 255".to_owned()
    })
}

/// A prefix, or an address as the prefix that holds only it.
fn prefix(text: &str) -> Result<ipnet::IpNet, String> {
    let whole = || text.parse::<IpAddr>().ok().map(ipnet::IpNet::from);
    text.parse().ok().or_else(whole).ok_or_else(|| "not an IP address or prefix".to_owned())
}
