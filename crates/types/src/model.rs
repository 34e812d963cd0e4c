//! The validated model of one router: what `config` produces and `policy` compiles.
//!
//! Lists are indexed by the ids in [`crate::ids`]; references are ids and always valid. Every element
//! that can decide about a packet knows its `origin`: the instance path (RFC 7951, section 6.11) of
//! the configuration line it comes from, for `fairway trace` and for errors.

use core::net::IpAddr;
use core::time::Duration;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::ids::{InterfaceId, PathId, PeerId, RouteId, SecurityId, ServiceId, SessionTypeId, TenantId};
use crate::net::{PortRange, Protocol};
use crate::suite::Suite;

/// Everything one router needs to know, from one version of the authority's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterModel {
    /// The authority's name.
    pub authority: String,
    /// This router's name.
    pub router: String,
    /// All tenants of the authority.
    pub tenants: Vec<Tenant>,
    /// Source prefixes that make a tenant, most specific first is not required.
    pub memberships: Vec<Membership>,
    /// All services of the authority.
    pub services: Vec<Service>,
    /// All security policies.
    pub security: Vec<SecurityPolicy>,
    /// All session-types, built-in ones included.
    pub session_types: Vec<SessionType>,
    /// Which session-type applies when a service names none.
    pub default_session_types: DefaultSessionTypes,
    /// This router's network-interfaces, by [`InterfaceId`].
    pub interfaces: Vec<Interface>,
    /// The routers this one has an adjacency with.
    pub peers: Vec<Peer>,
    /// All peer paths of this router.
    pub paths: Vec<PeerPath>,
    /// This router's service-routes.
    pub routes: Vec<ServiceRoute>,
    /// Limits and rates.
    pub limits: Limits,
    /// What parts of them one tenant, source or peer may have.
    pub quotas: Quotas,
}

/// A tenant. A child (`child.parent`) has its parent's access, never the reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The dotted name.
    pub name: String,
    /// The tenant whose name is what follows the first dot, if it exists.
    pub parent: Option<TenantId>,
    /// Where it is configured.
    pub origin: String,
}

/// Sources that belong to a tenant by their prefix, on interfaces without a tenant of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The interface it holds for.
    pub interface: InterfaceId,
    /// The sources.
    pub prefix: IpNet,
    /// The tenant.
    pub tenant: TenantId,
    /// Where it is configured.
    pub origin: String,
}

/// A service: where it is, how it is spoken, who may reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name; `child.parent` is a child of `parent`.
    pub name: String,
    /// The parent, whose access lines hold where this service's own say nothing about a source.
    pub parent: Option<ServiceId>,
    /// Destination prefixes.
    pub prefixes: Vec<IpNet>,
    /// Transports; empty means every protocol and port.
    pub transports: Vec<Transport>,
    /// Who may reach it.
    pub access: Vec<Access>,
    /// Whether sources without a tenant may reach it (scope public), if a line of `access` does not
    /// say otherwise.
    pub public: bool,
    /// How payload is protected, end to end.
    pub security: SecurityId,
    /// Idle timeouts, when not those of [`RouterModel::default_session_types`].
    pub session_type: Option<SessionTypeId>,
    /// What becomes of TCP packets in mid-flow that have no session.
    pub mid_flow: MidFlow,
    /// Where it is configured.
    pub origin: String,
}

/// A protocol and its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The protocol.
    pub protocol: Protocol,
    /// Destination ports; empty means every port. Always empty for protocols without ports.
    pub ports: Vec<PortRange>,
}

/// One line of an access-policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The tenant, children included; `None` means every source, even without tenant.
    pub tenant: Option<TenantId>,
    /// The sources within it; `None` means all.
    pub prefix: Option<IpNet>,
    /// Allowed or denied.
    pub permit: bool,
    /// Where it is configured.
    pub origin: String,
}

/// What a TCP packet without SYN and without session meets (transport-state-enforcement).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MidFlow {
    /// It makes a session, so that connections survive the loss of state.
    #[default]
    Allow,
    /// It is dropped.
    Block,
    /// It is dropped and answered with a reset.
    Reset,
}

/// How packets are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityPolicy {
    /// The name.
    pub name: String,
    /// Whether metadata is encrypted on paths that use this policy. It is always signed.
    pub encrypt_metadata: bool,
    /// How the payload of sessions of services that use this policy is protected, end to end.
    pub payload: Option<Suite>,
    /// Whether payload that is encrypted already is left as it is.
    pub adaptive: bool,
    /// Where it is configured.
    pub origin: String,
}

/// Idle timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionType {
    /// The name.
    pub name: String,
    /// How long a session may be idle.
    pub idle: Duration,
    /// How long a session may wait for its first answer, or a TCP session for its handshake.
    pub initial: Duration,
}

/// The session-types that apply where a service names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultSessionTypes {
    /// TCP.
    pub tcp: SessionTypeId,
    /// UDP, but not DNS.
    pub udp: SessionTypeId,
    /// UDP to port 53.
    pub dns: SessionTypeId,
    /// ICMP and ICMPv6.
    pub icmp: SessionTypeId,
    /// Everything else.
    pub other: SessionTypeId,
}

/// What an interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// Hosts only: metadata is never expected.
    External,
    /// Peers only: a first packet without metadata is never expected.
    Fabric,
    /// Both.
    Shared,
    /// The router's own host, by a TUN device.
    Host,
}

/// What a source that is denied on an interface gets to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeniedResponse {
    /// Nothing.
    #[default]
    Silent,
    /// TCP: a reset. Everything else: ICMP prohibited.
    Reset,
    /// ICMP "communication administratively prohibited" (RFC 1812, RFC 4443).
    Prohibited,
}

/// A network-interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name in the configuration, unique on the router.
    pub name: String,
    /// The Linux device.
    pub device: String,
    /// 802.1Q tag; 0 means untagged.
    pub vlan: u16,
    /// What it is for.
    pub kind: InterfaceKind,
    /// The tenant of everything that arrives without metadata.
    pub tenant: Option<TenantId>,
    /// Its addresses with their prefixes. The kernel owns them; these must be a subset.
    pub addresses: Vec<InterfaceAddress>,
    /// The longest packet it may send, when less than the device's MTU.
    pub mtu: Option<u16>,
    /// Whether sessions that leave the fabric here take its address.
    pub source_nat: bool,
    /// Ports that programs of the host had bound when the configuration was read: source NAT leaves
    /// them alone. No configuration says so.
    pub host_ports: Vec<(Protocol, u16)>,
    /// What a denied source gets to see here.
    pub denied: DeniedResponse,
    /// Where it is configured.
    pub origin: String,
}

impl Interface {
    /// The address of a family that source NAT gives to sessions, if there is any.
    #[must_use]
    pub fn nat_address(&self, ipv6: bool) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().map(|address| address.address.addr());
        addresses.find(|address| self.source_nat && address.is_ipv6() == ipv6)
    }

    /// The addresses that source NAT gives to sessions: at most one for each family.
    pub fn nat_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        [false, true].into_iter().filter_map(|ipv6| self.nat_address(ipv6))
    }
}

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address and the length of its prefix.
    pub address: IpNet,
    /// Where packets for other prefixes go; `None` leaves that to the kernel's routes.
    pub gateway: Option<IpAddr>,
}

/// Another router of the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its router name.
    pub name: String,
    /// The file that holds the key shared with it.
    pub key_file: PathBuf,
    /// The tenants (children included) it may claim; `None` means all.
    pub tenants: Option<Vec<TenantId>>,
    /// Where it is configured.
    pub origin: String,
}

/// One way to a peer: from one waypoint to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPath {
    /// The peer.
    pub peer: PeerId,
    /// The interface that holds the local waypoint.
    pub interface: InterfaceId,
    /// The local waypoint.
    pub local: IpAddr,
    /// The peer's waypoint.
    pub remote: IpAddr,
    /// Lower is better.
    pub cost: u32,
    /// The range this router asks its peer to choose ports from, when configured.
    pub local_ports: Option<PortRange>,
    /// The range the peer asks this router to choose ports from, when configured.
    pub remote_ports: Option<PortRange>,
    /// How many waypoint pairs may be in use at once.
    pub max_waypoints: u32,
    /// How metadata is protected.
    pub security: SecurityId,
    /// Which TCP sessions travel as UDP.
    pub udp_transform: UdpTransform,
    /// Opaque name of the path, sent in TLV 19: 1–255 bytes.
    pub pathway: String,
    /// Liveness detection.
    pub bfd: Bfd,
    /// Where it is configured.
    pub origin: String,
}

/// Which TCP sessions travel as UDP on a peer path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpTransform {
    /// Those whose payload is protected.
    #[default]
    Encrypted,
    /// All.
    Always,
    /// None.
    Never,
}

/// BFD timing on a peer path (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Desired min TX interval.
    pub desired_tx: Duration,
    /// Required min RX interval.
    pub required_rx: Duration,
    /// Detect multiplier: 3–50.
    pub multiplier: u8,
    /// How long a path stays down after it came back.
    pub hold_down: Duration,
}

/// Where sessions of a service go from this router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRoute {
    /// The name.
    pub name: String,
    /// The service.
    pub service: ServiceId,
    /// Where they go.
    pub target: RouteTarget,
    /// Lower is better. The cost of a peer's path is added.
    pub cost: u32,
    /// Where it is configured.
    pub origin: String,
}

/// The target of a service-route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// To a peer, over the best of its paths.
    Peer(PeerId),
    /// Out of an interface, to a gateway, or to the destination itself.
    NextHop {
        /// The interface.
        interface: InterfaceId,
        /// The next hop; `None` when the destination is on the link.
        gateway: Option<IpAddr>,
    },
    /// To a destination on the prefix of one of this router's interfaces, whichever holds it.
    Local,
}

/// Limits and rates of one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions held at once; the table is allocated at start.
    pub sessions: u32,
    /// TCP sessions that wait for their handshake.
    pub half_open: u32,
    /// Sessions that hosts may begin a second.
    pub session_rate: u32,
    /// First packets with metadata that are verified a second.
    pub first_packets: u32,
    /// Answers (ICMP errors, resets, control messages) a second.
    pub answers: u32,
}

/// How much of a router one tenant, source or peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Sessions held at once.
    pub sessions: u32,
    /// TCP sessions that wait for their handshake.
    pub half_open: u32,
    /// Sessions begun a second.
    pub session_rate: u32,
}

impl Quota {
    /// No limit but those of the router.
    pub const UNLIMITED: Self = Self { sessions: u32::MAX, half_open: u32::MAX, session_rate: u32::MAX };
}

impl Default for Quota {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// The quotas of all tenants and peers, and of each source. By default none is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of tenants, by [`TenantId`].
    pub tenants: Vec<Quota>,
    /// Of all sources without a tenant together.
    pub without_tenant: Quota,
    /// Of peers, by [`PeerId`]: for the sessions they bring.
    pub peers: Vec<Quota>,
    /// Of each source: an IPv4 address or an IPv6 prefix of 64 bits on an interface.
    pub source: Quota,
}

impl Quotas {
    /// The quota of a tenant, or of sources without one.
    #[must_use]
    pub fn tenant(&self, tenant: Option<TenantId>) -> Quota {
        tenant.map_or(self.without_tenant, |id| self.tenants.get(id.index()).copied().unwrap_or_default())
    }

    /// The quota of a peer.
    #[must_use]
    pub fn peer(&self, peer: PeerId) -> Quota {
        self.peers.get(peer.index()).copied().unwrap_or_default()
    }
}

impl RouterModel {
    /// The interface with that id.
    #[must_use]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(id.index())
    }

    /// The paths to a peer, with their ids.
    pub fn paths_to(&self, peer: PeerId) -> impl Iterator<Item = (PathId, &PeerPath)> + '_ {
        (0u16..).map(PathId).zip(&self.paths).filter(move |(_, path)| path.peer == peer)
    }

    /// The service-routes of a service, with their ids.
    pub fn routes_of(&self, service: ServiceId) -> impl Iterator<Item = (RouteId, &ServiceRoute)> + '_ {
        (0u32..).map(RouteId).zip(&self.routes).filter(move |(_, route)| route.service == service)
    }

    /// The path with that id.
    #[must_use]
    pub fn path(&self, id: PathId) -> Option<&PeerPath> {
        self.paths.get(id.index())
    }

    /// The peer with that id.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.index())
    }

    /// The tenant with that dotted name.
    #[must_use]
    pub fn tenant_named(&self, name: &str) -> Option<TenantId> {
        (0u16..).map(TenantId).zip(&self.tenants).find(|(_, tenant)| tenant.name == name).map(|(id, _)| id)
    }

    /// Whether `tenant` is `ancestor` or one of its children, at any depth.
    #[must_use]
    pub fn is_within(&self, tenant: TenantId, ancestor: TenantId) -> bool {
        let mut current = Some(tenant);
        // Validation refuses cycles; the bound keeps a mistake from becoming a hang.
        for _ in 0..=self.tenants.len() {
            match current {
                Some(id) if id == ancestor => return true,
                Some(id) => current = self.tenants.get(id.index()).and_then(|t| t.parent),
                None => return false,
            }
        }
        false
    }
}
