//! How a router is: at a glance, in numbers, and what became of its configuration.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Whether established plain sessions stay in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffloadState {
    /// Whether they do. They never do in a router that was started so.
    pub enabled: bool,
    /// How many do now.
    pub sessions: u64,
}

/// A count with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCount {
    /// The name.
    pub name: String,
    /// The count.
    pub count: u64,
}

/// One limit, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Whose: `router`, `tenant`, `peer`, `path`, `nat`, or `source` for each source.
    pub scope: String,
    /// The tenant or the peer; the path and its protocol on the wire; the busiest source, as `ADDRESS on
    /// INTERFACE`. Absent for the router, for sources without a tenant together, and when no source has
    /// anything.
    pub name: Option<String>,
    /// What is limited: `sessions`, `half-open`, `session-rate`, `first-packet-rate`,
    /// `peer-message-rate`, `answer-rate`, `retell-rate`, `max-way-points` or `nat-ports`.
    pub limit: String,
    /// What the numbers count: `sessions`, `sessions/s`, `packets/s` or `endpoints`.
    pub unit: String,
    /// The most there may be; absent when only the router's own limit holds.
    pub most: Option<u32>,
    /// How much there is now, or was in the last whole second; for sources, what the busiest has.
    pub now: Option<u32>,
    /// The most there was since the start, if it is known.
    pub peak: Option<u32>,
    /// How many were let through.
    pub allowed: u64,
    /// How many packets were refused.
    pub refused: u64,
    /// How many sessions without an answer gave way to new ones.
    pub evicted: u64,
}

/// What the workers of a router do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workers {
    /// Each of them.
    pub workers: Vec<Worker>,
    /// Flows that the kernel brings to another worker than their tuple says.
    pub steered_flows: u64,
    /// Flows that the kernel could not be told of; their packets are handed over one by one.
    pub steering_refused: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub worker: u8,
    /// Sessions it holds.
    pub sessions: u64,
    /// Sessions it can hold.
    pub session_capacity: u64,
    /// Packets that came to it.
    pub received: u64,
    /// Packets it forwarded.
    pub forwarded: u64,
    /// Packets it handed over to the worker that owns their flow.
    pub handed_over: u64,
    /// Packets it took over from other workers.
    pub taken_over: u64,
    /// Packets it held back to keep the order of a flow while that was placed.
    pub held_for_order: u64,
    /// Packets that the kernel could not queue for it because it was too slow.
    pub receive_overruns: u64,
    /// How long it has looked for packets instead of sleeping (`--busy-poll`), in milliseconds: processor time
    /// that is not work.
    #[serde(default)]
    pub busy_polled_milliseconds: u64,
    /// Whether the device is gone by which packets come to it, and could not be made again. Until it can, which
    /// is tried each second, it receives nothing.
    #[serde(default)]
    pub without_door: bool,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// What it counts.
    pub help: String,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// The reason.
    pub reason: String,
    /// On whose side the cause lies: `packet`, `policy`, `peer`, `state` or `resource`.
    pub culprit: String,
    /// How many.
    pub count: u64,
    /// What the reason means.
    pub help: String,
    /// The last of them, as far as it was looked at.
    pub last: Option<DropExample>,
}

/// The last packet dropped for a reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropExample {
    /// How long ago.
    pub age_seconds: f64,
    /// The interface it came in on; absent when that no longer exists.
    pub interface: Option<String>,
    /// The protocol, when it could be read.
    pub protocol: Option<String>,
    /// The source, when it could be read.
    pub source: Option<SocketAddr>,
    /// The destination, when it could be read.
    pub destination: Option<SocketAddr>,
    /// Its length from the IP header on.
    pub length_bytes: u32,
}

/// A router at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The router's name.
    pub router: String,
    /// The authority's name.
    pub authority: String,
    /// The version of the program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// Workers that share its sessions.
    pub workers: usize,
    /// Sessions held now.
    pub sessions: u64,
    /// Sessions that can be held at once.
    pub session_capacity: u64,
    /// Interfaces that are up.
    pub interfaces_up: usize,
    /// Interfaces configured.
    pub interfaces: usize,
    /// Peer paths that are up.
    pub paths_up: usize,
    /// Peer paths configured.
    pub paths: usize,
    /// The configuration in force.
    pub configuration: ConfigurationStatus,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// The file it was read from.
    pub file: String,
    /// When it was applied, in seconds since the Unix epoch.
    pub applied_unix_seconds: u64,
    /// How often a configuration was applied since the start.
    pub reloads: u64,
    /// Why the last reload was refused; absent when it was not.
    pub refused: Option<Refused>,
}

/// A configuration was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Sessions that go on.
    pub sessions_kept: u64,
    /// Sessions that are no longer allowed, or lost their way.
    pub sessions_removed: u64,
    /// What is accepted but probably not what was meant.
    pub warnings: Vec<Fault>,
}

/// A configuration was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, errors first.
    pub faults: Vec<Fault>,
    /// How many more there are than are listed.
    pub more: u64,
}

/// A fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// `error` or `warning`.
    pub severity: String,
    /// The instance path (RFC 7951, section 6.11), or the file.
    pub path: String,
    /// What is written there.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}
