//! What a router answers.

use core::net::{IpAddr, SocketAddr};

use fairway_types::IpNet;
use serde::{Deserialize, Serialize};

use super::packets::{Captured, Capturing, Packet};

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// To `show status`.
    Status(Box<Status>),
    /// To `show sessions`.
    Sessions(Page<Session>),
    /// To `show flows`.
    Flows(Page<Flow>),
    /// To `show fib`.
    Fib(Page<FibRow>),
    /// To `show peers`.
    Peers(Vec<Peer>),
    /// To `show interfaces`.
    Interfaces(Vec<Interface>),
    /// To `show waypoints`.
    Waypoints(Vec<Waypoints>),
    /// What each worker does.
    Workers(Workers),
    /// To `show nat`.
    Nat(Vec<NatPorts>),
    /// To `show limits`.
    Limits(Vec<Limit>),
    /// To `show counters`.
    Counters(Vec<Counter>),
    /// To `show drops`: reasons with a count.
    Drops(Vec<Drop>),
    /// To `show lookup`.
    Lookup(Box<Lookup>),
    /// To `delete`.
    Deleted(Deleted),
    /// To `offload`.
    Offload(OffloadState),
    /// To `reload`, when the configuration was applied.
    Reloaded(Reloaded),
    /// To `reload`, when the configuration was refused: the old one goes on working.
    Refused(Refused),
    /// The first line of a capture.
    Capturing(Capturing),
    /// One packet of a capture.
    Packet(Packet),
    /// The last line of a capture.
    Captured(Captured),
    /// The request could not be answered.
    Error(ErrorBody),
}

/// Whether established plain sessions stay in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffloadState {
    /// Whether they do. They never do in a router that was started so.
    pub enabled: bool,
    /// How many do now.
    pub sessions: u64,
}

/// Why a request could not be answered, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl ErrorBody {
    /// An error.
    pub fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { message: message.into(), fix: fix.into() }
    }
}

/// Part of a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Packets and bytes, from the IP header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The UUID, constant across routers and path moves.
    pub uuid: String,
    /// The tenant; absent for sources without one.
    pub tenant: Option<String>,
    /// The service.
    pub service: String,
    /// The original protocol.
    pub protocol: String,
    /// The original source. ICMP echo has its identifier as both ports.
    pub source: SocketAddr,
    /// The original destination.
    pub destination: SocketAddr,
    /// What this router is to it: `ingress`, `transit`, `egress` or `local`.
    pub role: String,
    /// The state of the connection: `syn-sent`, `syn-received`, `open`, `half-closed`, `closing` or
    /// `reset` for TCP; `unanswered` or `open` for everything else.
    pub state: String,
    /// Where it is forwarded: by a `worker`, or in the `kernel`.
    #[serde(default)]
    pub forwarded_by: String,
    /// The service-route it took.
    pub route: Option<String>,
    /// The router it entered the fabric by.
    pub ingress_router: Option<String>,
    /// How its payload is protected between ingress and egress; absent when it is not.
    #[serde(default)]
    pub protection: Option<Protection>,
    /// The leg toward the source.
    pub initiator: Leg,
    /// The leg toward the destination.
    pub responder: Leg,
    /// From source to destination.
    pub forward: Traffic,
    /// From destination to source.
    pub reverse: Traffic,
    /// How long ago it was created.
    pub age_seconds: f64,
    /// How long ago it last carried a packet.
    pub idle_seconds: f64,
    /// In how long it ends if nothing more comes.
    pub remaining_seconds: f64,
}

/// How the payload of a session is protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// `aes-gcm-256`, `aes-cbc-256`, `aes-cbc-128` or `hmac-sha256-128`.
    pub cipher: String,
    /// What becomes of what the source sends: `sealed`, `clear` because it is encrypted already, or
    /// `undecided` before the first payload.
    pub forward: String,
    /// The same of what the destination sends.
    pub reverse: String,
}

/// One side of a session, as its packets look on the wire there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The network-interface.
    pub interface: String,
    /// The peer router; absent when the leg leads to a host.
    pub peer: Option<String>,
    /// The peer path; absent when the leg leads to a host.
    pub path: Option<String>,
    /// The protocol on this leg.
    pub protocol: String,
    /// This router's end, or what stands for it: what packets sent on this leg have as source.
    pub local: SocketAddr,
    /// The other end: what packets sent on this leg have as destination.
    pub remote: SocketAddr,
    /// Whose link address sent packets carry.
    pub next_hop: Option<IpAddr>,
    /// The state of the metadata handshake: `sending` or `established`; absent when the leg leads to
    /// a host.
    pub handshake: Option<String>,
}

/// One direction of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The session's UUID.
    pub session: String,
    /// `forward` from the initiator, `reverse` to it.
    pub direction: String,
    /// The tenant.
    pub tenant: Option<String>,
    /// The service.
    pub service: String,
    /// Where its packets come in.
    pub ingress: FlowEnd,
    /// Where they leave.
    pub egress: FlowEnd,
    /// What it carried.
    pub traffic: Traffic,
}

/// A flow on one interface, as its packets look there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEnd {
    /// The network-interface.
    pub interface: String,
    /// The peer router; absent when hosts are on that side.
    pub peer: Option<String>,
    /// The protocol.
    pub protocol: String,
    /// The source.
    pub source: SocketAddr,
    /// The destination.
    pub destination: SocketAddr,
}

/// A row of the FIB: a destination, a transport, a service and one line of its access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FibRow {
    /// The destination prefix.
    pub prefix: IpNet,
    /// The protocol; absent for every protocol.
    pub protocol: Option<String>,
    /// The first destination port.
    pub first_port: u16,
    /// The last destination port.
    pub last_port: u16,
    /// The tenant the line is about, `any`, or `public`.
    pub tenant: String,
    /// The sources the line is about; absent for all of the tenant.
    pub source: Option<IpNet>,
    /// The service.
    pub service: String,
    /// Whether the line permits.
    pub permit: bool,
    /// The best way from this router; absent when the service has no service-route here.
    pub route: Option<Way>,
}

/// One way a session may go from a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The service-route.
    pub route: String,
    /// The cost of service-route and path together.
    pub cost: u32,
    /// The peer router, when it leads over a path.
    pub peer: Option<String>,
    /// The peer path, when it leads over one.
    pub path: Option<String>,
    /// The interface it leaves by; absent for local destinations.
    pub interface: Option<String>,
    /// The gateway, when the service-route names one.
    pub gateway: Option<IpAddr>,
    /// Whether it can be taken now; absent where that was not looked at.
    pub up: Option<bool>,
    /// Where the service-route is configured; absent where that was not asked.
    pub origin: Option<String>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its router name.
    pub name: String,
    /// The tenants it may claim, children included; absent for all.
    pub tenants: Option<Vec<String>>,
    /// Whether at least one path is up.
    pub up: bool,
    /// The paths.
    pub paths: Vec<Path>,
}

/// A peer path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// The name of the path.
    pub name: String,
    /// The interface of the local waypoint.
    pub interface: String,
    /// The local waypoint.
    pub local: IpAddr,
    /// The peer's waypoint.
    pub remote: IpAddr,
    /// Its cost.
    pub cost: u32,
    /// Whether sessions may use it.
    pub up: bool,
    /// The state of its BFD session: `up`, `init`, `down` or `admin-down`.
    pub state: String,
    /// The state the peer says it is in; `down` while it is not heard.
    pub remote_state: String,
    /// How long its BFD session has been in this state.
    pub since_seconds: f64,
    /// In how long sessions may use it, while it is alive but held down.
    pub held_down_seconds: Option<f64>,
    /// Why its BFD session last went down; absent while it is up.
    pub diagnostic: Option<String>,
    /// Liveness messages sent.
    pub packets_sent: u64,
    /// Genuine liveness messages received.
    pub packets_received: u64,
}

/// A network-interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the configuration.
    pub name: String,
    /// The Linux device.
    pub device: String,
    /// 802.1Q tag; 0 for untagged.
    pub vlan: u16,
    /// Whether the router reads and writes the tag itself, since the kernel has no VLAN device for it.
    pub tagged: bool,
    /// How frames are exchanged with the kernel: `packet`, `xdp-native`, `xdp-generic` or `tun`; nothing
    /// while the device is gone.
    pub io: Option<String>,
    /// `external`, `fabric`, `shared` or `host`.
    pub kind: String,
    /// The tenant of what arrives without metadata.
    pub tenant: Option<String>,
    /// Whether it can send and receive.
    pub up: bool,
    /// The longest packet it may send; 0 while the device is gone.
    pub mtu_bytes: u32,
    /// The link address.
    pub mac: String,
    /// The addresses in the configuration.
    pub addresses: Vec<IpNet>,
    /// Those of them that the device does not have.
    pub missing_addresses: Vec<IpNet>,
    /// What was received.
    pub received: Traffic,
    /// What was sent.
    pub sent: Traffic,
    /// Packets the kernel could not queue because the router was too slow.
    pub receive_overruns: u64,
    /// Packets that could not be received whole.
    pub receive_unusable: u64,
    /// Packets handed to the host.
    pub punted: u64,
    /// Packets for the host that there was no way to hand over.
    pub punts_discarded: u64,
    /// Packets that wait, or waited, for their next hop's link address.
    pub held: u64,
    /// What the router does on the link in the kernel's place, where it reads the tag itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link: Option<Link>,
    /// Packets dropped on their way out.
    pub drops: Vec<NamedCount>,
}

/// ARP, neighbour discovery and pings on an interface whose tag the router reads itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Questions for a next hop that were sent.
    pub asked: u64,
    /// Questions that could not be sent: no address of the family, or too many next hops.
    pub unasked: u64,
    /// Questions for an address of the interface that were answered.
    pub answered: u64,
    /// Pings of an address of the interface that were answered.
    pub pings: u64,
    /// Messages that are malformed, or about somebody who was not asked for.
    pub ignored: u64,
    /// Messages that claim an address of the interface for somebody else.
    pub conflicts: u64,
}

/// A count with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCount {
    /// The name.
    pub name: String,
    /// The count.
    pub count: u64,
}

/// The waypoint ports of one path and one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waypoints {
    /// The peer.
    pub peer: String,
    /// The path.
    pub path: String,
    /// The interface of the local waypoint.
    pub interface: String,
    /// The local waypoint.
    pub local: IpAddr,
    /// The peer's waypoint.
    pub remote: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Pairs of ports in use.
    pub used: u64,
    /// Released pairs that may not be used again yet.
    pub resting: u64,
    /// Pairs that may be in use at once.
    pub capacity: u64,
    /// Sessions refused because no pair was free.
    pub exhausted: u64,
}

/// The ports that source NAT has of one address for one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatPorts {
    /// The interface.
    pub interface: String,
    /// The address that sessions take.
    pub address: IpAddr,
    /// `tcp`, `udp`, `icmp` or `icmp6`.
    pub protocol: String,
    /// Ports, or echo identifiers, in use.
    pub used: u64,
    /// Those that were given back and may not be given to others yet.
    pub resting: u64,
    /// How many there are.
    pub capacity: u64,
    /// The most that were in use, or rested, at once since the start.
    pub peak: u64,
    /// Sessions that got one.
    pub given: u64,
    /// Sessions refused because none was free.
    pub refused: u64,
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
    /// `peer-message-rate`, `answer-rate`, `max-way-points` or `nat-ports`.
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

/// What would become of a new session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// Whether it may be made, and there is a way for it now.
    pub permit: bool,
    /// The drop reason, when it may not be made or has no way.
    pub reason: Option<String>,
    /// The tenant it has.
    pub tenant: Option<String>,
    /// The service that decides; absent when none matches.
    pub matched: Option<Matched>,
    /// The line of the access-policy that decides; absent when none speaks about the source.
    pub line: Option<Line>,
    /// Services that hold the destination but do not decide, most specific first.
    pub passed_over: Vec<PassedOver>,
    /// How many more were passed over than are listed.
    pub passed_over_more: u64,
    /// The ways, best first.
    pub ways: Vec<Way>,
    /// Which of the ways it would take, counted from 0; absent when none is up.
    pub taken: Option<usize>,
}

/// A service and the row of the FIB it was considered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The service.
    pub service: String,
    /// Where it is configured.
    pub origin: String,
    /// The destination prefix.
    pub prefix: IpNet,
    /// The protocol; absent for every protocol.
    pub protocol: Option<String>,
    /// The first destination port.
    pub first_port: u16,
    /// The last destination port.
    pub last_port: u16,
}

/// A line of an access-policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Whether it permits.
    pub permit: bool,
    /// The service that holds it.
    pub service: String,
    /// Where it is configured.
    pub origin: String,
}

/// A service that did not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// The service.
    pub service: Matched,
    /// Why not.
    pub why: String,
}

/// Sessions were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many.
    pub sessions: u64,
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
