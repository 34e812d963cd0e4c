//! Models in a few words, for tests and the benchmark.

use std::time::Duration;

use fairway_types::model::{
    Access, Bfd, DefaultSessionTypes, DeniedResponse, Interface, InterfaceAddress, InterfaceKind, Limits,
    MidFlow, Peer, PeerPath, Quotas, RouteTarget, RouterModel, SecurityPolicy, Service, ServiceRoute,
    SessionType, Tenant, Transport, UdpTransform,
};
use fairway_types::{
    InterfaceId, PeerId, PortRange, Protocol, SecurityId, ServiceId, SessionTypeId, TenantId,
};

/// A model without tenants, services or peers.
pub fn empty() -> RouterModel {
    let session_type = |name: &str, seconds| SessionType {
        name: name.to_owned(),
        idle: Duration::from_secs(seconds),
        initial: Duration::from_secs(10),
    };
    RouterModel {
        authority: "test".to_owned(),
        router: "here".to_owned(),
        tenants: Vec::new(),
        memberships: Vec::new(),
        services: Vec::new(),
        security: vec![SecurityPolicy {
            name: "internal".to_owned(),
            encrypt_metadata: true,
            payload: None,
            adaptive: false,
            origin: "/security[name='internal']".to_owned(),
        }],
        session_types: vec![
            session_type("tcp", 1900),
            session_type("udp", 180),
            session_type("dns", 5),
            session_type("icmp", 10),
            session_type("other", 60),
        ],
        default_session_types: DefaultSessionTypes {
            tcp: SessionTypeId(0),
            udp: SessionTypeId(1),
            dns: SessionTypeId(2),
            icmp: SessionTypeId(3),
            other: SessionTypeId(4),
        },
        interfaces: Vec::new(),
        peers: Vec::new(),
        paths: Vec::new(),
        routes: Vec::new(),
        limits: Limits { sessions: 1, half_open: 1, session_rate: 1, first_packets: 1, answers: 1 },
        quotas: Quotas::default(),
    }
}

/// Adds a tenant; its parent, if there is one, was added before.
pub fn tenant(model: &mut RouterModel, name: &str) -> TenantId {
    let parent = name.split_once('.').and_then(|(_, parent)| model.tenant_named(parent));
    let origin = format!("/tenant[name='{name}']");
    model.tenants.push(Tenant { name: name.to_owned(), parent, origin });
    TenantId(u16::try_from(model.tenants.len() - 1).unwrap())
}

/// Adds a service with prefixes, separated by spaces, and transports such as `tcp:443,8000-8099`.
pub fn service(model: &mut RouterModel, name: &str, prefixes: &str, transports: &str) -> ServiceId {
    let origin = format!("/service[name='{name}']");
    model.services.push(Service {
        name: name.to_owned(),
        parent: None,
        prefixes: prefixes.split_whitespace().map(|prefix| prefix.parse().unwrap()).collect(),
        transports: transports.split_whitespace().map(transport).collect(),
        access: Vec::new(),
        public: false,
        security: SecurityId(0),
        session_type: None,
        mid_flow: MidFlow::Allow,
        origin,
    });
    ServiceId(u32::try_from(model.services.len() - 1).unwrap())
}

/// `tcp`, `udp:53`, `tcp:80,8000-8099`, or a protocol number.
pub fn transport(text: &str) -> Transport {
    let (protocol, ports) = text.split_once(':').unwrap_or((text, ""));
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        PortRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    };
    Transport {
        protocol: protocol_named(protocol),
        ports: ports.split(',').filter(|text| !text.is_empty()).map(range).collect(),
    }
}

/// `tcp`, `udp`, `icmp`, or a number.
pub fn protocol_named(name: &str) -> Protocol {
    match name {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "icmp" => Protocol::ICMP,
        number => Protocol(number.parse().unwrap()),
    }
}

/// Sets the access-policy of the last service: lines such as `+corp`, `-eng.corp@10.0.0.0/8`, `+@::/0`
/// or `-*`; also `public`, and `<parent` for the parent service.
pub fn access(model: &mut RouterModel, lines: &str) {
    let mut parsed = Vec::new();
    let (mut public, mut parent) = (false, None);
    for text in lines.split_whitespace() {
        if text == "public" {
            public = true;
        } else if let Some(name) = text.strip_prefix('<') {
            let found = model.services.iter().position(|service| service.name == name).unwrap();
            parent = Some(ServiceId(u32::try_from(found).unwrap()));
        } else {
            let permit = text.starts_with('+');
            let (tenant, prefix) = text[1..].split_once('@').unwrap_or((&text[1..], ""));
            let tenant = Some(tenant).filter(|name| !["", "*"].contains(name));
            parsed.push(Access {
                tenant: tenant.map(|name| model.tenant_named(name).unwrap()),
                prefix: (!prefix.is_empty()).then(|| prefix.parse().unwrap()),
                permit,
                origin: format!("line {text}"),
            });
        }
    }
    let service = model.services.last_mut().unwrap();
    service.access = parsed;
    service.public = public;
    service.parent = parent;
}

/// Adds an interface with addresses such as `10.0.0.1/24`.
pub fn interface(
    model: &mut RouterModel,
    name: &str,
    tenant: Option<TenantId>,
    addresses: &str,
) -> InterfaceId {
    let addresses = addresses.split_whitespace().map(|text| text.parse().unwrap());
    model.interfaces.push(Interface {
        name: name.to_owned(),
        device: name.to_owned(),
        vlan: 0,
        kind: InterfaceKind::Shared,
        tenant,
        addresses: addresses.map(|address| InterfaceAddress { address, gateway: None }).collect(),
        mtu: None,
        source_nat: false,
        host_ports: Vec::new(),
        denied: DeniedResponse::Silent,
        origin: format!("/interface[name='{name}']"),
    });
    InterfaceId(u16::try_from(model.interfaces.len() - 1).unwrap())
}

/// Adds a peer that may claim these tenants.
pub fn peer(model: &mut RouterModel, name: &str, tenants: Option<Vec<TenantId>>) -> PeerId {
    let origin = format!("/peer[name='{name}']");
    model.peers.push(Peer { name: name.to_owned(), key_file: "key".into(), tenants, origin });
    PeerId(u16::try_from(model.peers.len() - 1).unwrap())
}

/// Adds a path to a peer from the first interface.
pub fn path(model: &mut RouterModel, peer: PeerId, local: &str, remote: &str, cost: u32) {
    model.paths.push(PeerPath {
        peer,
        interface: InterfaceId(0),
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        cost,
        local_ports: None,
        remote_ports: None,
        max_waypoints: 50_000,
        security: SecurityId(0),
        udp_transform: UdpTransform::Encrypted,
        pathway: format!("{local}-{remote}"),
        bfd: Bfd {
            desired_tx: Duration::from_secs(1),
            required_rx: Duration::from_millis(500),
            multiplier: 3,
            hold_down: Duration::from_secs(5),
        },
        origin: format!("/path[remote='{remote}']"),
    });
}

/// Adds a service-route.
pub fn route(model: &mut RouterModel, name: &str, service: ServiceId, target: RouteTarget, cost: u32) {
    let origin = format!("/service-route[name='{name}']");
    model.routes.push(ServiceRoute { name: name.to_owned(), service, target, cost, origin });
}
