//! The validated elements of a configuration, in the shape of `yang/`.
//!
//! Field names are the YANG names in snake case, lists in the plural. Defaults are filled in. Values
//! come from [`Authority::parse`] only, so references point to something, and ranges hold.

use core::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// One administrative domain: everything its routers share, and the routers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Authority {
    /// The authority's name.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who uses services.
    #[serde(rename = "tenant", default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Tenant>,
    /// How packets are protected.
    #[serde(rename = "security", default, skip_serializing_if = "Vec::is_empty")]
    pub security: Vec<Security>,
    /// Idle timeouts.
    #[serde(rename = "session-type", default, skip_serializing_if = "Vec::is_empty")]
    pub session_types: Vec<SessionType>,
    /// What tenants reach.
    #[serde(rename = "service", default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// The routers.
    #[serde(rename = "router", default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<Router>,
    #[serde(skip)]
    pub(crate) warnings: Vec<Fault>,
}

/// A tenant; `child.parent` is a child of `parent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tenant {
    /// The dotted name.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Sources that belong to the tenant by their prefix.
    #[serde(rename = "member", default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<TenantMember>,
    /// How much of each router it may have.
    pub limits: Quota,
}

/// Source prefixes that belong to a tenant on the interfaces of one neighborhood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TenantMember {
    /// The neighborhood.
    pub neighborhood: String,
    /// The source prefixes.
    #[serde(rename = "address", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
}

/// A security policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Security {
    /// The name.
    pub name: String,
    /// Whether metadata is encrypted; it is always signed.
    pub encrypt_metadata: bool,
    /// Whether payload is encrypted.
    pub encrypt: bool,
    /// How payload is encrypted.
    pub encryption_cipher: Cipher,
    /// Whether payload that is encrypted already is left as it is.
    pub adaptive_encryption: bool,
    /// What becomes of payload that is not to be encrypted.
    pub hmac_mode: HmacMode,
}

/// How payload is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-128-CBC with HMAC-SHA256-128.
    #[serde(rename = "aes-cbc-128")]
    Aes128Cbc,
    /// AES-256-CBC with HMAC-SHA256-128.
    #[serde(rename = "aes-cbc-256")]
    Aes256Cbc,
    /// AES-256-GCM.
    #[serde(rename = "aes-gcm-256")]
    Aes256Gcm,
}

/// What becomes of payload that is not to be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HmacMode {
    /// It travels as it is.
    Disabled,
    /// It is guarded against change and replay.
    Regular,
}

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

/// A session-type: idle timeouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SessionType {
    /// The name.
    pub name: String,
    /// Seconds a session may be idle.
    pub timeout: u32,
    /// Seconds a session may wait for its first answer, or a TCP session for its handshake.
    pub initial_timeout: u32,
}

/// A service; `child.parent` is a child of `parent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// The name.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether sources without a tenant reach it.
    pub scope: Scope,
    /// Destination prefixes; empty inherits those of the parent.
    #[serde(rename = "address", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Protocols and ports; empty inherits those of the parent.
    #[serde(rename = "transport", default, skip_serializing_if = "Vec::is_empty")]
    pub transports: Vec<Transport>,
    /// Who may reach it.
    #[serde(rename = "access-policy", default, skip_serializing_if = "Vec::is_empty")]
    pub access_policy: Vec<AccessPolicy>,
    /// The security policy; `None` inherits the parent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// The session-type; `None` inherits the parent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_type: Option<String>,
    /// What becomes of TCP packets in mid-flow that have no session.
    pub transport_state_enforcement: TransportStateEnforcement,
    /// Whether service-routes are generated for it.
    pub share_service_routes: bool,
}

/// Who reaches a service without a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Only sources that `access-policy` allows.
    Private,
    /// Sources without a tenant too.
    Public,
}

/// What a TCP packet without SYN and without session meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportStateEnforcement {
    /// It makes a session.
    Allow,
    /// It is dropped.
    Block,
    /// It is dropped and answered with a reset.
    Reset,
}

/// A protocol and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Transport {
    /// The protocol.
    pub protocol: Protocol,
    /// Destination ports; empty means all.
    #[serde(rename = "port-range", default, skip_serializing_if = "Vec::is_empty")]
    pub port_ranges: Vec<PortRange>,
}

/// A protocol, by name where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Protocol {
    /// By its IP protocol number.
    Number(u8),
    /// By name: tcp, udp, icmp, icmp6, gre, esp or sctp.
    Name(String),
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PortRange {
    /// The lowest port.
    pub start_port: u16,
    /// The highest port; `None` means the lowest only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

/// One line of an access-policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AccessPolicy {
    /// `tenant`, `prefix` or `tenant@prefix`.
    pub source: String,
    /// Whether it may.
    pub permission: Permission,
}

/// Whether a source may reach a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// A router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Router {
    /// The name it finds itself by.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The machines it consists of; at most one.
    #[serde(rename = "node", default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// TUN devices by which the router's own host enters the fabric.
    #[serde(rename = "host-interface", default, skip_serializing_if = "Vec::is_empty")]
    pub host_interfaces: Vec<HostInterface>,
    /// The routers it shares keys with.
    #[serde(rename = "peer", default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Where sessions of services go.
    #[serde(rename = "service-route", default, skip_serializing_if = "Vec::is_empty")]
    pub service_routes: Vec<ServiceRoute>,
    /// Limits and rates.
    pub limits: Limits,
}

/// A machine of a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Node {
    /// The name.
    pub name: String,
    /// Its devices.
    #[serde(rename = "device-interface", default, skip_serializing_if = "Vec::is_empty")]
    pub device_interfaces: Vec<DeviceInterface>,
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

/// A TUN device by which the router's own host enters the fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostInterface {
    /// The name, unique among all interfaces of the router.
    pub name: String,
    /// The Linux name; `None` means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The tenant of what the host sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The host's addresses on it.
    #[serde(rename = "address", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<HostAddress>,
    /// What the host gets to see when it is denied.
    pub denied_response: DeniedResponse,
}

/// One address of a host-interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostAddress {
    /// The address.
    pub ip_address: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix_length: u8,
}

/// Another router that this one shares a key with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    /// Its router name.
    pub name: String,
    /// Whether a neighborhood made it.
    pub generated: bool,
    /// The file that holds the key, relative to the document; `None` means the default of
    /// [`Peer::default_key_file`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// The tenants it may claim, children included; empty means all.
    #[serde(rename = "allowed-tenant", default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_tenants: Vec<String>,
    /// How much of this router the sessions that it brings may have.
    pub limits: Quota,
}

impl Peer {
    /// The key file of two routers, relative to the document: `keys/<a>--<b>.key`, the names in
    /// alphabetical order, so that both routers find the same file.
    #[must_use]
    pub fn default_key_file(one: &str, other: &str) -> String {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        format!("keys/{first}--{second}.key")
    }
}

/// Where sessions of a service go from a router. Exactly one of `peer`, `next_hop` and `local` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServiceRoute {
    /// The name.
    pub name: String,
    /// The service.
    pub service_name: String,
    /// Whether it was generated from the service-route of an egress router.
    pub generated: bool,
    /// To a peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Out of an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHop>,
    /// To a destination on the prefix of one of the router's interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// Lower is better.
    pub cost: u32,
    /// The configuration line it was generated from.
    #[serde(skip)]
    pub(crate) origin: Option<String>,
}

/// The next hop of a service-route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NextHop {
    /// The network-interface.
    pub interface: String,
    /// The gateway; `None` when destinations are on the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// Marks a service-route to destinations on the router's own prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {}

/// Limits and rates of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Sessions held at once.
    pub sessions: u32,
    /// TCP sessions that wait for their handshake.
    pub half_open: u32,
    /// Sessions that hosts may begin a second.
    pub session_rate: u32,
    /// First packets with metadata verified a second.
    pub first_packet_rate: u32,
    /// Answers a second.
    pub answer_rate: u32,
    /// How much of it each tenant may have.
    pub per_tenant: Quota,
    /// How much of it each source may have.
    pub per_source: Quota,
    /// How much of it the sessions that each peer brings may have.
    pub per_peer: Quota,
}

/// How much of a router one tenant, source or peer may have; `None` leaves it to the next more
/// general place: the router's quotas, and then its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quota {
    /// Sessions held at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// TCP sessions that wait for their handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_open: Option<u32>,
    /// Sessions begun a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_rate: Option<u32>,
}

impl Authority {
    /// What is accepted but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The router of that name.
    #[must_use]
    pub fn router(&self, name: &str) -> Option<&Router> {
        self.routers.iter().find(|router| router.name == name)
    }
}

impl Router {
    /// All network-interfaces with the node and the device they are on.
    pub fn network_interfaces(
        &self,
    ) -> impl Iterator<Item = (&Node, &DeviceInterface, &NetworkInterface)> + '_ {
        self.nodes.iter().flat_map(|node| {
            node.device_interfaces.iter().flat_map(move |device| {
                device.network_interfaces.iter().map(move |interface| (node, device, interface))
            })
        })
    }
}

impl DeviceInterface {
    /// The Linux name.
    #[must_use]
    pub fn linux_name(&self) -> &str {
        self.device.as_deref().unwrap_or(&self.name)
    }
}

impl HostInterface {
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

impl PortRange {
    /// The range as the engine knows it; `None` when it is empty.
    #[must_use]
    pub fn range(self) -> Option<fairway_types::PortRange> {
        fairway_types::PortRange::new(self.start_port, self.end_port.unwrap_or(self.start_port))
    }
}

impl WaypointRange {
    /// The range as the engine knows it; `None` when it is empty.
    #[must_use]
    pub fn range(self) -> Option<fairway_types::PortRange> {
        fairway_types::PortRange::new(self.start_port, self.end_port)
    }
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub fn protocol(&self) -> Option<fairway_types::Protocol> {
        match self {
            Self::Number(number) => Some(fairway_types::Protocol(*number)),
            Self::Name(name) => crate::names::protocol(name),
        }
    }
}
