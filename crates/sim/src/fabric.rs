//! Models of whole fabrics: routers, the links between them, and the hosts beside them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use fairway_types::model::{
    Access, Bfd, DefaultSessionTypes, DeniedResponse, Interface, InterfaceAddress, InterfaceKind, Limits,
    MidFlow, Peer, PeerPath, Quotas, RouteTarget, RouterModel, SecurityPolicy, Service, ServiceRoute,
    SessionType, Tenant, UdpTransform,
};
use fairway_types::{InterfaceId, IpNet, PeerId, SecurityId, ServiceId, SessionTypeId, Suite, TenantId};

/// A chain of routers: clients on the first, servers on the last.
///
/// Router `n` is called `r<n>`. Its interface 0 is the LAN, interface 1 leads to the previous router
/// and interface 2 to the next. Tenant `corp` may reach service `all` (10.2.0.0/16 and fd00:2::/64);
/// tenant `guest` may not.
#[derive(Clone, Debug)]
pub struct Fabric {
    /// How many routers.
    pub routers: u8,
    /// Whether waypoints are IPv6.
    pub ipv6_waypoints: bool,
    /// Whether metadata is encrypted.
    pub encrypt: bool,
    /// How payload is protected.
    pub payload: Option<Suite>,
    /// Whether payload that is encrypted already is left as it is.
    pub adaptive: bool,
    /// Which TCP sessions travel as UDP.
    pub udp_transform: UdpTransform,
    /// Whether sessions leave the fabric under the address of the last router.
    pub source_nat: bool,
    /// Limits of every router.
    pub limits: Limits,
}

/// The LAN of clients: tenant corp.
pub const LAN: InterfaceId = InterfaceId(0);
/// The side of the previous router.
pub const BACK: InterfaceId = InterfaceId(1);
/// The side of the next router.
pub const NEXT: InterfaceId = InterfaceId(2);
/// The second LAN of the first router: tenant guest.
pub const GUEST: InterfaceId = InterfaceId(3);

impl Default for Fabric {
    fn default() -> Self {
        Self {
            routers: 2,
            ipv6_waypoints: false,
            encrypt: true,
            payload: None,
            adaptive: false,
            udp_transform: UdpTransform::Encrypted,
            source_nat: false,
            limits: Limits {
                sessions: 4096,
                half_open: 1024,
                session_rate: 100_000,
                first_packets: 100_000,
                answers: 1000,
            },
        }
    }
}

impl Fabric {
    /// The name of a router.
    #[must_use]
    pub fn name(router: u8) -> String {
        format!("r{router}")
    }

    /// The address of a router on the link between `left` and the router after it.
    #[must_use]
    pub fn waypoint(&self, left: u8, of_left: bool) -> IpAddr {
        let host = if of_left { 1 } else { 2 };
        if self.ipv6_waypoints {
            IpAddr::from([0x2001, 0xdb8, u16::from(left), 0, 0, 0, 0, host])
        } else {
            IpAddr::from([192, 0, left, host as u8])
        }
    }

    fn interfaces(&self, router: u8) -> Vec<Interface> {
        let last = router + 1 == self.routers;
        let site: u8 = if last { 2 } else { 1 };
        let lan = vec![
            address(IpAddr::from([10, site, 0, 1]), 16),
            address(IpAddr::from([0xfd00, u16::from(site), 0, 0, 0, 0, 0, 1]), 64),
        ];
        let length = if self.ipv6_waypoints { 64 } else { 24 };
        let wan = |wanted: bool, left: u8, of_left: bool| {
            if wanted { vec![address(self.waypoint(left, of_left), length)] } else { Vec::new() }
        };
        let edge = router == 0 || last;
        let guest = vec![address(IpAddr::from([10, 1, 0, 1]), 16)];
        let lan =
            interface("lan", InterfaceKind::External, Some(TenantId(0)), if edge { lan } else { Vec::new() });
        vec![
            Interface { source_nat: self.source_nat && last, ..lan },
            interface("back", InterfaceKind::Fabric, None, wan(router > 0, router.wrapping_sub(1), false)),
            interface("next", InterfaceKind::Fabric, None, wan(!last, router, true)),
            interface(
                "guest",
                InterfaceKind::External,
                Some(TenantId(1)),
                if router == 0 { guest } else { Vec::new() },
            ),
        ]
    }

    /// The model of one router.
    #[must_use]
    pub fn model(&self, router: u8) -> RouterModel {
        let (peers, paths) = self.neighbors(router);
        let last = router + 1 == self.routers;
        // The next router is the last neighbour.
        let next = (!last).then(|| PeerId(peers.len() as u16 - 1));
        RouterModel {
            authority: "sim".into(),
            router: Self::name(router),
            tenants: ["corp", "guest"]
                .map(|name| Tenant { name: name.into(), parent: None, origin: String::new() })
                .into(),
            memberships: Vec::new(),
            services: vec![service()],
            security: vec![SecurityPolicy {
                name: "default".into(),
                encrypt_metadata: self.encrypt,
                payload: self.payload,
                adaptive: self.adaptive,
                origin: String::new(),
            }],
            session_types: session_types(),
            default_session_types: DefaultSessionTypes {
                tcp: SessionTypeId(0),
                udp: SessionTypeId(1),
                dns: SessionTypeId(1),
                icmp: SessionTypeId(2),
                other: SessionTypeId(1),
            },
            interfaces: self.interfaces(router),
            peers,
            paths,
            routes: vec![ServiceRoute {
                name: "all".into(),
                service: ServiceId(0),
                target: next.map_or(RouteTarget::Local, RouteTarget::Peer),
                cost: 0,
                origin: "service-route[all]".into(),
            }],
            limits: self.limits,
            quotas: Quotas::default(),
        }
    }

    /// The routers before and after one, and the paths to them.
    fn neighbors(&self, router: u8) -> (Vec<Peer>, Vec<PeerPath>) {
        let mut peers = Vec::new();
        let mut paths = Vec::new();
        let mut connect = |other: u8, left: u8, own_is_left: bool, interface: InterfaceId| {
            let peer = PeerId(peers.len() as u16);
            peers.push(Peer {
                name: Self::name(other),
                key_file: PathBuf::new(),
                tenants: None,
                origin: format!("peer[{other}]"),
            });
            paths.push(PeerPath {
                peer,
                interface,
                local: self.waypoint(left, own_is_left),
                remote: self.waypoint(left, !own_is_left),
                cost: 10,
                local_ports: None,
                remote_ports: None,
                max_waypoints: 50_000,
                security: SecurityId(0),
                udp_transform: self.udp_transform,
                pathway: format!("path-{left}"),
                bfd: Bfd {
                    desired_tx: Duration::from_secs(1),
                    required_rx: Duration::from_millis(500),
                    multiplier: 3,
                    hold_down: Duration::from_secs(5),
                },
                origin: format!("adjacency[{other}]"),
            });
        };
        if router > 0 {
            connect(router - 1, router - 1, false, BACK);
        }
        if router + 1 < self.routers {
            connect(router + 1, router, true, NEXT);
        }
        (peers, paths)
    }
}

fn address(address: IpAddr, length: u8) -> InterfaceAddress {
    // The lengths above fit their families.
    let address = IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address));
    InterfaceAddress { address, gateway: None }
}

fn interface(
    name: &str,
    kind: InterfaceKind,
    tenant: Option<TenantId>,
    addresses: Vec<InterfaceAddress>,
) -> Interface {
    Interface {
        name: name.into(),
        device: name.into(),
        vlan: 0,
        kind,
        tenant,
        addresses,
        mtu: None,
        source_nat: false,
        host_ports: Vec::new(),
        denied: DeniedResponse::Silent,
        origin: format!("interface[{name}]"),
    }
}

fn service() -> Service {
    let net = |a: [u8; 4], length| IpNet::new(IpAddr::from(a), length).ok();
    let v6 = IpNet::new(IpAddr::from([0xfd00, 2, 0, 0, 0, 0, 0, 0]), 64).ok();
    Service {
        name: "all".into(),
        parent: None,
        prefixes: [net([10, 2, 0, 0], 16), v6].into_iter().flatten().collect(),
        transports: Vec::new(),
        access: vec![Access { tenant: Some(TenantId(0)), prefix: None, permit: true, origin: "corp".into() }],
        public: false,
        security: SecurityId(0),
        session_type: None,
        mid_flow: MidFlow::Allow,
        origin: "service[all]".into(),
    }
}

fn session_types() -> Vec<SessionType> {
    [("tcp", 1900, 10), ("udp", 180, 180), ("icmp", 10, 10)]
        .map(|(name, idle, initial)| SessionType {
            name: name.into(),
            idle: Duration::from_secs(idle),
            initial: Duration::from_secs(initial),
        })
        .into()
}
