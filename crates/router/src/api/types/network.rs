//! What a router is joined to: peers, interfaces, and the ports it has there.

use core::net::IpAddr;

use fairway_types::IpNet;
use serde::{Deserialize, Serialize};

use super::sessions::Traffic;
use super::state::NamedCount;

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
