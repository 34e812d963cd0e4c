//! The programs that make and take traffic: this command, started again inside a host of a line.
//!
//! What runs for as long as a line is up is [`serve`]; the others run once for each measurement and
//! say on standard output what they saw: `begin` when their window opens, then one line of JSON.

mod check;
mod connect;
mod flood;
mod rtt;
mod serve;
mod udp;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// UDP echo.
pub(crate) const ECHO_PORT: u16 = 9001;
/// TCP echo.
pub(crate) const STREAM_PORT: u16 = 9002;
/// The port that the sink of datagrams is bound to.
pub(crate) const SINK_PORT: u16 = 9000;
/// The first of the ports that answer one byte with one byte.
pub(crate) const CONNECT_PORT: u16 = 7000;
/// How many connections are under way at once, each to a port of its own.
pub(crate) const CONNECTIONS: u16 = 8;

/// What a program of the load does.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Load {
    /// Answer: datagrams, streams, connections.
    Serve,
    /// Send bytes both ways over TCP and UDP and compare what comes back.
    Check {
        /// The server.
        to: IpAddr,
    },
    /// Send datagrams as fast as the kernel takes them.
    Send {
        /// The sink.
        to: IpAddr,
        /// Bytes of payload in each.
        #[arg(long)]
        size: usize,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
    /// Count datagrams.
    Sink {
        /// How long to count, from a moment after the first one.
        #[arg(long)]
        seconds: f64,
    },
    /// Send datagrams of many sessions from within the kernel.
    Flood(flood::FloodOptions),
    /// Count them within the kernel.
    Tally(flood::TallyOptions),
    /// Ask and be answered, one datagram at a time.
    Rtt {
        /// The server.
        to: IpAddr,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
    /// Connect, send a byte, receive a byte, close, and again.
    Connect {
        /// The server.
        to: IpAddr,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
}

/// What a program of the load saw.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// What was counted: datagrams, answers, connections.
    pub(crate) count: u64,
    /// How long it was counted.
    pub(crate) seconds: f64,
    /// What was lost or failed.
    pub(crate) failed: u64,
    /// The median time of an answer, in microseconds.
    #[serde(default)]
    pub(crate) p50_us: f64,
    /// The time that 99 of 100 answers took at most.
    #[serde(default)]
    pub(crate) p99_us: f64,
    /// The longest that it took until one was connected, and then until it was answered, in milliseconds.
    #[serde(default)]
    pub(crate) longest_ms: [f64; 2],
}

/// Does it, to the end.
pub(crate) fn run(load: &Load) -> anyhow::Result<()> {
    match *load {
        Load::Flood(ref options) => flood::flood(options),
        Load::Tally(ref options) => flood::tally(options),
        Load::Serve => serve::serve(),
        Load::Check { to } => check::check(to),
        Load::Send { to, size, seconds } => udp::send(to, size, Duration::from_secs_f64(seconds)),
        Load::Sink { seconds } => udp::sink(Duration::from_secs_f64(seconds)),
        Load::Rtt { to, seconds } => rtt::ask(to, Duration::from_secs_f64(seconds)),
        Load::Connect { to, seconds } => connect::connect(to, Duration::from_secs_f64(seconds)),
    }
}

/// Says that the window is open.
fn begin() {
    println!("begin");
}

/// Says what was seen.
fn end(seen: &Seen) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(seen)?);
    Ok(())
}

/// The time now.
fn now() -> Instant {
    Instant::now()
}

/// Bytes that are what they are by their place alone.
fn pattern(length: usize, salt: u64) -> Vec<u8> {
    let mut state = salt | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
