//! Sessions and their flows.

use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

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
    /// Why not in the kernel, if the kernel was asked to and refused.
    #[serde(default)]
    pub kernel_refused: Option<String>,
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

/// Sessions were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many.
    pub sessions: u64,
}
