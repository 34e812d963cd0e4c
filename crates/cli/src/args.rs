//! What can be typed. The texts here are the help, and with `docs/cli.md` the reference.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::completion::Shell;

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

/// `fairway config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration and name every fault: path, value, reason and fix.
    Validate {
        /// The configuration, a JSON document.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Print the faults as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration with its defaults, as JSON.
    Show(ConfigShow),
}

/// `fairway config show`.
#[derive(Debug, Args)]
pub struct ConfigShow {
    /// The configuration, a JSON document.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Also what neighborhoods generate: peers, adjacencies and service-routes, marked as generated.
    #[arg(long)]
    pub generated: bool,
    /// Only this router, and what all routers share.
    #[arg(long, value_name = "NAME")]
    pub router: Option<String>,
}

/// `fairway key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make random keys: on standard output, in FILEs, or all that a configuration needs.
    ///
    /// Files have mode 0600. A key that exists is never overwritten.
    Generate(KeyGenerate),
}

/// `fairway key generate`.
#[derive(Debug, Args)]
pub struct KeyGenerate {
    /// Files to make, each with a key of its own.
    #[arg(value_hint = ValueHint::FilePath, conflicts_with = "configuration")]
    pub files: Vec<PathBuf>,
    /// Make the missing key files of all pairs of peers in this configuration.
    #[arg(long = "for", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub configuration: Option<PathBuf>,
    /// Where they are made [default: `keys` beside the configuration].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "configuration")]
    pub dir: Option<PathBuf>,
}

/// `fairway show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// What to show.
    #[command(subcommand)]
    pub object: ShowObject,
}

/// What `fairway show` shows.
#[derive(Debug, Subcommand)]
pub enum ShowObject {
    /// Sessions with their service, tenant, addresses, path and bytes.
    Sessions(ShowSessions),
    /// Both flows of each session: what is matched, and what it is rewritten to.
    Flows(ShowSessions),
    /// Services by destination, with who may reach them and where they go.
    Fib(ShowFib),
    /// Peer routers and the paths to them.
    Peers(ShowPlain),
    /// Network interfaces.
    Interfaces(ShowPlain),
    /// Waypoint ports in use on each path.
    Waypoints(ShowPlain),
    /// Ports of source NAT in use on each address.
    Nat(ShowPlain),
    /// Workers: sessions and packets of each, and what they hand to each other.
    Workers(ShowPlain),
    /// Limits by how near they are to being reached, with what they refused.
    Limits(ShowLimits),
    /// Everything that is counted, except drops.
    Counters(ShowCounters),
    /// Dropped packets by reason, with the last example of each.
    Drops(ShowDrops),
    /// The router itself: version, configuration, uptime, table sizes.
    Status(ShowPlain),
}

/// What all objects of `show` have in common.
#[derive(Debug, Args)]
pub struct ShowPlain {
    /// The router.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
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

/// `fairway show sessions` and `flows`.
#[derive(Debug, Args)]
pub struct ShowSessions {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Which sessions.
    #[command(flatten)]
    pub filter: SessionFilter,
    /// Show at most so many.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub limit: usize,
    /// What comes first. Among more than 50000 sessions, only those are looked at.
    #[arg(long, value_enum, default_value_t = SessionOrder::Bytes)]
    pub sort: SessionOrder,
}

/// In which order sessions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionOrder {
    /// Most bytes first.
    Bytes,
    /// Youngest first.
    Age,
    /// Most recently used first.
    Idle,
    /// By service, tenant and addresses.
    Service,
    /// By tenant, service and addresses.
    Tenant,
}

/// `fairway show fib`.
#[derive(Debug, Args)]
pub struct ShowFib {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Only this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only rows about this tenant.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only this protocol: tcp, udp, icmp, icmp6, gre, esp, sctp or a number.
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<u8>,
    /// Only prefixes that hold this address or prefix.
    #[arg(long, value_name = "ADDRESS", value_parser = prefix)]
    pub address: Option<ipnet::IpNet>,
    /// Only rows that hold this destination port.
    #[arg(long)]
    pub port: Option<u16>,
    /// Show at most so many.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: usize,
}

/// `fairway show counters`.
#[derive(Debug, Args)]
pub struct ShowCounters {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Also those that are zero.
    #[arg(long)]
    pub all: bool,
    /// Say what each counter counts.
    #[arg(long)]
    pub explain: bool,
}

/// `fairway show limits`.
#[derive(Debug, Args)]
pub struct ShowLimits {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Also those of tenants, peers and paths that never had anything.
    #[arg(long)]
    pub all: bool,
}

/// `fairway show drops`.
#[derive(Debug, Args)]
pub struct ShowDrops {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Also reasons that never occurred.
    #[arg(long)]
    pub all: bool,
    /// Say what each reason means.
    #[arg(long)]
    pub explain: bool,
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

/// `fairway trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The sender: `ADDRESS`, `tenant:NAME`, or `ROUTER/INTERFACE[:ADDRESS]`.
    pub from: String,
    /// The destination: `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT`, or `service:NAME`.
    pub to: String,
    /// tcp, udp, icmp, icmp6, gre, esp, sctp or a number [default: tcp with a port, else icmp].
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<u8>,
    /// The destination port.
    #[arg(long)]
    pub port: Option<u16>,
    /// The configuration [default: that of the running router].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// The router that the packet enters, when several could be meant.
    #[arg(long, value_name = "NAME")]
    pub router: Option<String>,
    /// The interface that the packet enters, when several could be meant.
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// A running router, whose paths that are down are passed over.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// `fairway capture`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CaptureArgs {
    /// Decode instead.
    #[command(subcommand)]
    pub command: Option<CaptureCommand>,
    /// The router.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Only this network-interface; may be given more than once.
    #[arg(long = "interface", value_name = "NAME")]
    pub interfaces: Vec<String>,
    /// Only packets that this describes, such as `tcp and port 443`, `host 10.0.0.1 and not udp` or
    /// `metadata`.
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Stop after so many packets.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// The pcapng file to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub write: Option<PathBuf>,
    /// Keys that verify and decrypt metadata.
    #[command(flatten)]
    pub keys: KeyArgs,
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

/// The keys of a fabric.
#[derive(Clone, Debug, Default, Args)]
pub struct KeyArgs {
    /// The directory with the key files: metadata is verified, decrypted and explained in comments.
    #[arg(long, value_name = "DIR", requires = "config", value_hint = ValueHint::DirPath)]
    pub keys: Option<PathBuf>,
    /// The configuration that names the routers and their keys.
    #[arg(long, value_name = "FILE", requires = "keys", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Write packets between routers as their hosts sent them: payload decrypted, with the original
    /// addresses. The capture must have the beginning of their session, or of its last change.
    #[arg(long, requires = "keys")]
    pub decrypt: bool,
}

/// `fairway capture decode`.
#[derive(Debug, Subcommand)]
pub enum CaptureCommand {
    /// Print the metadata in a pcap or pcapng file.
    Decode(CaptureDecode),
}

/// `fairway capture decode`.
#[derive(Debug, Args)]
pub struct CaptureDecode {
    /// The pcap or pcapng file.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Keys that verify and decrypt metadata.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Also write a pcapng file with the metadata as comments; only from pcapng.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
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
