//! Two routers with one link between them, for benchmarks and tests that count what engines cost.
//!
//! Hosts of tenant `corp` are on the LAN of the first router, the ingress; servers on the LAN of the
//! second, the egress. Flow `n` is a host, a server and a port that are a function of `n` alone.

pub mod heap;
pub mod packets;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairway_crypto::{Keyring, KeyringEntry, PeerKey};
use fairway_policy::Snapshot;
use fairway_session::{Engine, Shard, Shared};
use fairway_types::model::{
    Access, Bfd, DefaultSessionTypes, DeniedResponse, Interface, InterfaceAddress, InterfaceKind, Limits,
    MidFlow, Peer, PeerPath, Quotas, RouteTarget, RouterModel, SecurityPolicy, Service, ServiceRoute,
    SessionType, Tenant, UdpTransform,
};
use fairway_types::{
    Batch, Checksum, InterfaceId, IpNet, Now, PeerId, SecurityId, ServiceId, SessionTypeId, Slot, Suite,
    TenantId, Time, Verdict, WorkerId,
};

use packets::Template;

/// The interface of hosts, on either router.
pub const LAN: InterfaceId = InterfaceId(0);
/// The interface of the link between the routers, on either router.
pub const WAN: InterfaceId = InterfaceId(1);
/// How many packets are processed together.
pub const BATCH: usize = 64;

/// Both routers.
pub struct Pair {
    /// Where sessions begin.
    pub ingress: Engine,
    /// Where they leave the fabric.
    pub egress: Engine,
    /// The clock of both.
    pub now: Now,
    /// What is processed next.
    pub batch: Batch,
    /// Heap bytes that the ingress holds.
    pub ingress_heap: i64,
}

impl Pair {
    /// Two routers without sessions, for up to `sessions` of them.
    pub fn new(sessions: u32, encrypt: bool) -> Self {
        Self::with(sessions, encrypt, None)
    }

    /// The same, with payload that is protected from one to the other.
    pub fn with(sessions: u32, encrypt: bool, payload: Option<Suite>) -> Self {
        let now = Now { mono: Time::from_secs(1000), unix: 1_800_000_000 };
        let before = heap::live();
        let ingress = engine(sessions, encrypt, payload, 0, now);
        let ingress_heap = heap::live() - before;
        let egress = engine(sessions, encrypt, payload, 1, now);
        Self { ingress, egress, now, batch: Batch::new(BATCH, BATCH, 2048), ingress_heap }
    }

    /// The same without protection, where TCP travels as UDP all the same.
    pub fn carried(sessions: u32) -> Self {
        let now = Now { mono: Time::from_secs(1000), unix: 1_800_000_000 };
        let engine = |router| {
            let mut model = model(sessions, true, None, router);
            model.paths[0].udp_transform = UdpTransform::Always;
            engine_of(model, router, now)
        };
        let batch = Batch::new(BATCH, BATCH, 2048);
        Self { ingress: engine(0), egress: engine(1), now, batch, ingress_heap: 0 }
    }

    /// Both routers as so many workers have them: a pair for each.
    pub fn of_workers(workers: u8, sessions: u32, payload: Option<Suite>) -> Vec<Self> {
        let now = Now { mono: Time::from_secs(1000), unix: 1_800_000_000 };
        let mut sides = [0, 1].map(|router| {
            let snapshot = Arc::new(Snapshot::compile(model(sessions, true, payload, router)).unwrap());
            let shared = Shared::new(snapshot.model(), keyring(router, now), 7);
            (0..workers)
                .map(|number| {
                    let shard = Shard::new(WorkerId(number), workers).unwrap();
                    let seed = [router * 100 + number; 32];
                    Engine::of_several(
                        Arc::clone(&snapshot),
                        shared.clone(),
                        shard,
                        seed,
                        u64::from(router),
                        now,
                    )
                })
                .collect::<Vec<_>>()
                .into_iter()
        });
        let [ingresses, egresses] = &mut sides;
        ingresses
            .zip(egresses)
            .map(|(ingress, egress)| Self {
                ingress,
                egress,
                now,
                batch: Batch::new(BATCH, BATCH, 2048),
                ingress_heap: 0,
            })
            .collect()
    }

    /// Makes the sessions of these templates, and exchanges packets until neither router attaches
    /// metadata.
    pub fn establish(&mut self, templates: &[Template], payload: &[u8]) {
        for chunk in templates.chunks(BATCH) {
            for _ in 0..2 {
                let packets: Vec<_> = chunk.iter().map(|template| template.packet(payload)).collect();
                let crossing = self.at_ingress(LAN, &packets);
                self.at_egress(WAN, &crossing);
                let answers: Vec<_> =
                    chunk.iter().map(|template| template.answer().packet(payload)).collect();
                let crossing = self.at_egress(LAN, &answers);
                self.at_ingress(WAN, &crossing);
            }
        }
    }

    /// The packets that answer these templates, as the ingress receives them from the link.
    pub fn answers(&mut self, templates: &[Template], payload: &[u8]) -> Vec<Template> {
        let mut answers = Vec::with_capacity(templates.len());
        for chunk in templates.chunks(BATCH) {
            let packets: Vec<_> = chunk.iter().map(|template| template.answer().packet(payload)).collect();
            let crossing = self.at_egress(LAN, &packets);
            answers.extend(crossing.iter().map(|packet| Template::read(packet)));
        }
        answers
    }

    /// Lets the ingress process up to a batch of packets; answers what it forwarded.
    pub fn at_ingress(&mut self, interface: InterfaceId, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let before = heap::live();
        fill(&mut self.batch, interface, packets);
        self.ingress.process(self.now, &mut self.batch);
        self.ingress_heap += heap::live() - before;
        forwarded(&self.batch)
    }

    /// Lets the egress process up to a batch of packets; answers what it forwarded.
    pub fn at_egress(&mut self, interface: InterfaceId, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        fill(&mut self.batch, interface, packets);
        self.egress.process(self.now, &mut self.batch);
        forwarded(&self.batch)
    }
}

/// Replaces the content of a batch.
pub fn fill(batch: &mut Batch, interface: InterfaceId, packets: &[Vec<u8>]) {
    batch.clear();
    for packet in packets {
        let slot = batch.receive().unwrap();
        assert!(slot.packet.fill(packet));
        slot.interface = interface;
        slot.checksum = Checksum::Unverified;
    }
}

/// The packets of a batch, all of which were forwarded.
pub fn forwarded(batch: &Batch) -> Vec<Vec<u8>> {
    let packet = |slot: &Slot| {
        assert!(is_forwarded(slot), "{:?}", slot.verdict);
        slot.packet.bytes().to_vec()
    };
    batch.received().iter().map(packet).collect()
}

/// Whether a packet is to be sent on.
pub fn is_forwarded(slot: &Slot) -> bool {
    matches!(slot.verdict, Verdict::Forward(_))
}

/// The configuration of a router: 0 is the ingress, 1 the egress.
pub fn snapshot(sessions: u32, encrypt: bool, router: u8) -> Arc<Snapshot> {
    Arc::new(Snapshot::compile(model(sessions, encrypt, None, router)).unwrap())
}

/// The keys of a router.
pub fn keys(router: u8) -> Vec<KeyringEntry> {
    let peer = name(1 - router);
    vec![KeyringEntry {
        peer: PeerId(0),
        name: peer,
        key: PeerKey::from_bytes([7; 32]),
        sender_salt: [router; 16],
    }]
}

fn engine(sessions: u32, encrypt: bool, payload: Option<Suite>, router: u8, now: Now) -> Engine {
    engine_of(model(sessions, encrypt, payload, router), router, now)
}

/// An ingress of its own, whose sources, tenants and peers have quotas.
pub fn engine_with(sessions: u32, quotas: Quotas, now: Now) -> Engine {
    engine_of(RouterModel { quotas, ..model(sessions, true, None, 0) }, 0, now)
}

fn engine_of(model: RouterModel, router: u8, now: Now) -> Engine {
    let snapshot = Arc::new(Snapshot::compile(model).unwrap());
    Engine::new(snapshot, keyring(router, now), [router; 32], u64::from(router), now)
}

fn keyring(router: u8, now: Now) -> Keyring {
    let mut keyring = Keyring::new();
    // What was signed in the time slot in which a router starts is not believed.
    keyring.replace(&name(router), keys(router), now.unix - 3600).unwrap();
    keyring
}

fn name(router: u8) -> String {
    format!("router-{router}")
}

/// What [`snapshot`] is made of.
pub fn model(sessions: u32, encrypt: bool, payload: Option<Suite>, router: u8) -> RouterModel {
    let far = router == 1;
    let waypoints = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
    let (local, remote) = (waypoints[usize::from(router)], waypoints[usize::from(1 - router)]);
    let security = SecurityPolicy {
        name: "default".into(),
        encrypt_metadata: encrypt,
        payload,
        adaptive: false,
        origin: String::new(),
    };
    let target = if far { RouteTarget::Local } else { RouteTarget::Peer(PeerId(0)) };
    let kinds = [("tcp", 1900), ("udp", 180)];
    RouterModel {
        authority: "bench".into(),
        router: name(router),
        tenants: vec![Tenant { name: "corp".into(), parent: None, origin: String::new() }],
        memberships: Vec::new(),
        services: vec![service()],
        security: vec![security],
        session_types: kinds.map(|(name, idle)| session_type(name, idle)).into(),
        default_session_types: DefaultSessionTypes {
            tcp: SessionTypeId(0),
            udp: SessionTypeId(1),
            dns: SessionTypeId(1),
            icmp: SessionTypeId(1),
            other: SessionTypeId(1),
        },
        interfaces: vec![
            interface("lan", Some(TenantId(0)), IpAddr::from([10, 1 + router, 0, 1]), 16),
            interface("wan", None, local, 24),
        ],
        peers: vec![Peer {
            name: name(1 - router),
            key_file: PathBuf::new(),
            tenants: None,
            origin: String::new(),
        }],
        paths: vec![path(local, remote)],
        routes: vec![ServiceRoute {
            name: "all".into(),
            service: ServiceId(0),
            target,
            cost: 0,
            origin: String::new(),
        }],
        limits: Limits {
            sessions,
            half_open: sessions,
            session_rate: u32::MAX,
            first_packets: u32::MAX,
            answers: 1000,
        },
        quotas: Quotas::default(),
    }
}

/// A path to the peer.
pub fn path(local: IpAddr, remote: IpAddr) -> PeerPath {
    PeerPath {
        peer: PeerId(0),
        interface: WAN,
        local,
        remote,
        cost: 10,
        local_ports: None,
        remote_ports: None,
        max_waypoints: 4_000_000,
        security: SecurityId(0),
        udp_transform: UdpTransform::Encrypted,
        pathway: "internet".into(),
        bfd: Bfd {
            desired_tx: Duration::from_secs(1),
            required_rx: Duration::from_millis(500),
            multiplier: 3,
            hold_down: Duration::from_secs(5),
        },
        origin: String::new(),
    }
}

fn interface(name: &str, tenant: Option<TenantId>, address: IpAddr, length: u8) -> Interface {
    let kind = if tenant.is_some() { InterfaceKind::External } else { InterfaceKind::Fabric };
    Interface {
        name: name.into(),
        device: name.into(),
        vlan: 0,
        kind,
        tenant,
        addresses: vec![InterfaceAddress { address: IpNet::new(address, length).unwrap(), gateway: None }],
        mtu: None,
        source_nat: false,
        host_ports: Vec::new(),
        denied: DeniedResponse::Silent,
        origin: String::new(),
    }
}

fn service() -> Service {
    let access = Access { tenant: Some(TenantId(0)), prefix: None, permit: true, origin: String::new() };
    Service {
        name: "servers".into(),
        parent: None,
        prefixes: vec![IpNet::new(IpAddr::from([10, 2, 0, 0]), 16).unwrap()],
        transports: Vec::new(),
        access: vec![access],
        public: false,
        security: SecurityId(0),
        session_type: None,
        mid_flow: MidFlow::Allow,
        origin: String::new(),
    }
}

fn session_type(name: &str, idle: u64) -> SessionType {
    let idle = Duration::from_secs(idle);
    SessionType { name: name.into(), idle, initial: idle }
}
