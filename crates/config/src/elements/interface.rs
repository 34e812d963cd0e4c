//! The interfaces of a router, and what they are joined to.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which TCP sessions travel as UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UdpTransform {
    /// Those whose payload is protected.
    Encrypted,
    /// All.
    Always,
    /// None.
    Never,
}

/// A Linux network device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceInterface {
    /// The name in the configuration.
    pub name: String,
    /// The Linux name; `None` means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What it carries.
    #[serde(rename = "network-interface", default, skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<NetworkInterface>,
}

/// A network-interface: one VLAN of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkInterface {
    /// The name, unique on the router.
    pub name: String,
    /// 802.1Q tag; 0 means untagged.
    pub vlan: u16,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: InterfaceType,
    /// The tenant of everything that arrives without metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Its addresses.
    #[serde(rename = "address", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<InterfaceAddress>,
    /// The neighborhoods it belongs to.
    #[serde(rename = "neighborhood", default, skip_serializing_if = "Vec::is_empty")]
    pub neighborhoods: Vec<Neighborhood>,
    /// Waypoints of peers that are reached from here.
    #[serde(rename = "adjacency", default, skip_serializing_if = "Vec::is_empty")]
    pub adjacencies: Vec<Adjacency>,
    /// Whether sessions that leave the fabric here take its address.
    pub source_nat: bool,
    /// What a denied source gets to see.
    pub denied_response: DeniedResponse,
    /// The longest packet it may send, in bytes; `None` means the device's MTU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

/// What a network-interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceType {
    /// Hosts only.
    External,
    /// Peers only.
    Fabric,
    /// Both.
    Shared,
}

/// What a denied source gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeniedResponse {
    /// Nothing.
    Silent,
    /// A TCP reset, or ICMP prohibited.
    Reset,
    /// ICMP prohibited.
    Prohibited,
}

/// One address of a network-interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InterfaceAddress {
    /// The address.
    pub ip_address: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix_length: u8,
    /// Where packets for other prefixes go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A neighborhood an interface belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Neighborhood {
    /// The name that the other interfaces share.
    pub name: String,
    /// Which of the others become peers.
    pub topology: Topology,
    /// Lower is better.
    pub cost: u32,
    /// The ports that peers choose this router's waypoints from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range: Option<WaypointRange>,
    /// Waypoint pairs in use at once on each path.
    pub max_way_points: u32,
    /// The security policy of metadata sent from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// Which TCP sessions travel as UDP.
    pub udp_transform: UdpTransform,
    /// Liveness detection.
    pub bfd: Bfd,
}

/// Which interfaces of a neighborhood become peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// All that are mesh or hub.
    Mesh,
    /// All that are spoke or mesh.
    Hub,
    /// All that are hub.
    Spoke,
}

impl Topology {
    /// Whether two interfaces of these kinds become peers.
    #[must_use]
    pub const fn pairs_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Mesh, Self::Mesh | Self::Hub) | (Self::Hub, Self::Mesh | Self::Spoke) => true,
            (Self::Spoke, Self::Hub) => true,
            (Self::Hub, Self::Hub) | (Self::Mesh | Self::Spoke, Self::Spoke) | (Self::Spoke, Self::Mesh) => {
                false
            }
        }
    }
}

/// An inclusive range of waypoint ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WaypointRange {
    /// The lowest port.
    pub start_port: u16,
    /// The highest port.
    pub end_port: u16,
}

/// BFD timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bfd {
    /// Desired min TX interval, in milliseconds.
    pub desired_tx_interval: u32,
    /// Required min RX interval, in milliseconds.
    pub required_min_rx_interval: u32,
    /// Detect multiplier.
    pub multiplier: u8,
    /// Seconds a path stays down after it came back.
    pub hold_down_time: u32,
}

/// A waypoint of a peer, reached from one interface: one peer path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adjacency {
    /// The peer's router name.
    pub peer: String,
    /// The peer's waypoint.
    pub ip_address: IpAddr,
    /// Whether a neighborhood made it.
    pub generated: bool,
    /// Lower is better.
    pub cost: u32,
    /// The ports that the peer wants its waypoints chosen from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range: Option<WaypointRange>,
    /// Waypoint pairs in use at once.
    pub max_way_points: u32,
    /// The security policy of metadata sent here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// Which TCP sessions travel as UDP.
    pub udp_transform: UdpTransform,
    /// Liveness detection.
    pub bfd: Bfd,
}

impl DeviceInterface {
    /// The Linux name.
    #[must_use]
    pub fn linux_name(&self) -> &str {
        self.device.as_deref().unwrap_or(&self.name)
    }
}

impl NetworkInterface {
    /// The waypoints: the first address of each family.
    #[must_use]
    pub fn waypoints(&self) -> [Option<IpAddr>; 2] {
        let first = |v6: bool| self.addresses.iter().map(|a| a.ip_address).find(|a| a.is_ipv6() == v6);
        [first(false), first(true)]
    }
}

impl WaypointRange {
    /// The range as the engine knows it; `None` when it is empty.
    #[must_use]
    pub fn range(self) -> Option<fairway_types::PortRange> {
        fairway_types::PortRange::new(self.start_port, self.end_port)
    }
}
