//! Looking at packets: those that might come, and those that did.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{SocketArgs, protocol};

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
