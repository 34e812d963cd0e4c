//! A million forged sources: memory stays bounded, sessions and those who had one go on, and so do
//! other tenants; only limits refuse packets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with a benchmark, which uses other parts of it")]
#[path = "../../session/benches/support/heap.rs"]
mod heap;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fairway_session::{Event, LimitKind, LimitScope};
use fairway_sim::fabric::{GUEST, LAN};
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, HostId, Network, NodeId, Topology};
use fairway_types::model::{Access, Limits, Quota};
use fairway_types::{Counter, DropReason, TenantId};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 9));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 9));
const SYN: u8 = 2;
const ACK: u8 = 16;
/// Forged packets in each millisecond.
const A_MILLISECOND: u32 = 100;
const SOURCES: u32 = 1_000_000;

const LIMITS: Limits =
    Limits { sessions: 20_000, half_open: 2000, session_rate: 10_000, first_packets: 100_000, answers: 1000 };

/// Two routers with the quotas that a configuration has by default; tenant guest may, too.
fn topology() -> Topology {
    let mut topology = Topology::chain(&Fabric { limits: LIMITS, ..Fabric::default() });
    for model in &mut topology.models {
        let guest = Access { tenant: Some(TenantId(1)), prefix: None, permit: true, origin: "guest".into() };
        model.services[0].access.push(guest);
        model.session_types[1].initial = Duration::from_secs(10);
        model.paths.iter_mut().for_each(|path| path.max_waypoints = 18_000);
        let most = Quota { sessions: 16_000, half_open: 1600, session_rate: 8000 };
        model.quotas.tenants = vec![most; 2];
        model.quotas.without_tenant = most;
        model.quotas.peers = vec![Quota { session_rate: 80_000, ..most }; model.peers.len()];
        model.quotas.source = Quota { sessions: 2000, half_open: 256, session_rate: 1000 };
    }
    topology
}

struct Scene {
    network: Network,
    client: HostId,
    guests: Vec<HostId>,
    server: HostId,
    forged: u32,
}

impl Scene {
    fn new() -> Self {
        let mut network = Network::with_topology(topology(), 1);
        let client = network.add_host(NodeId(0), LAN, &[CLIENT]);
        let guests = (0..100).map(|number| network.add_host(NodeId(0), GUEST, &[guest(number)])).collect();
        let server = network.add_host(NodeId(1), LAN, &[SERVER]);
        network.run(12_000);
        Self { network, client, guests, server, forged: 0 }
    }

    /// Whether the packet arrives, and its answer.
    fn exchange(&mut self, host: HostId, packet: &Packet, answer: &Packet) -> bool {
        self.network.receive(self.server);
        self.network.send(host, packet.bytes());
        self.flood(5);
        let arrived = |inbox: &[Vec<u8>], wanted: &Packet| {
            let is = |bytes: &Vec<u8>| {
                Packet::read(bytes).is_some_and(|p| {
                    p.payload == wanted.payload
                        && p.source == wanted.source
                        && p.destination == wanted.destination
                })
            };
            inbox.iter().any(is)
        };
        if !arrived(&self.network.receive(self.server), packet) {
            return false;
        }
        self.network.send(self.server, answer.bytes());
        self.flood(5);
        arrived(&self.network.receive(host), answer)
    }

    /// A request and its answer by UDP.
    fn ask(&mut self, host: HostId, from: SocketAddr) -> bool {
        let request = Packet::udp(from, SocketAddr::new(SERVER, 53), &[0x81; 40]);
        self.exchange(host, &request, &request.answer(&[0x82; 60]))
    }

    /// A TCP handshake.
    fn connect(&mut self, port: u16) -> bool {
        let (from, to) = (SocketAddr::new(CLIENT, port), SocketAddr::new(SERVER, 80));
        let syn = Packet::tcp(from, to, (SYN, 100, 0), b"");
        let accepted = Packet::tcp(to, from, (SYN | ACK, 500, 101), b"");
        let data = Packet::tcp(from, to, (ACK, 101, 501), b"request");
        let answer = Packet::tcp(to, from, (ACK, 501, 108), b"answer");
        self.exchange(self.client, &syn, &accepted) && self.exchange(self.client, &data, &answer)
    }

    /// Lets milliseconds pass, while forged sources send: half of them SYNs, half of them UDP.
    fn flood(&mut self, millis: u32) {
        for _ in 0..millis {
            for _ in 0..A_MILLISECOND {
                if self.forged < SOURCES {
                    self.network.inject(NodeId(0), LAN, forged(self.forged).bytes());
                    self.forged += 1;
                }
            }
            self.network.run(1);
        }
    }
}

fn guest(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 100 + number))
}

fn forged(number: u32) -> Packet {
    let source = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + number));
    if number.is_multiple_of(2) {
        Packet::tcp(SocketAddr::new(source, 7000), SocketAddr::new(SERVER, 80), (SYN, number, 0), b"")
    } else {
        Packet::udp(SocketAddr::new(source, 7000), SocketAddr::new(SERVER, 53), &[0x55; 30])
    }
}

#[test]
fn a_million_forged_sources() {
    let mut scene = Scene::new();
    scene.forged = SOURCES;
    let old = SocketAddr::new(CLIENT, 4000);
    for _ in 0..2 {
        assert!(scene.ask(scene.client, old));
    }
    assert!(scene.connect(4001));
    let before = scene.network.all_books();
    scene.network.take_events();
    scene.forged = 0;
    scene.flood(1000);
    let held = heap::live();
    let mut round = 0;
    while scene.forged < SOURCES {
        scene.flood(40);
        assert!(scene.ask(scene.client, old), "the session of before, in round {round}");
        assert!(scene.ask(scene.client, SocketAddr::new(CLIENT, 5000 + round)), "one who had a session");
        assert!(scene.connect(15_000 + round), "a connection of one who had a session, in round {round}");
        let new = SocketAddr::new(guest(round as u8), 6000);
        assert!(scene.ask(scene.guests[usize::from(round)], new), "a new source of another tenant");
        round += 1;
    }
    assert!(round >= 80, "{round}");
    // Nine hundred thousand sources later.
    let grown = heap::live() - held;
    assert!(grown < 1 << 20, "{grown} bytes more");
    for (node, before) in before.iter().enumerate() {
        let books = scene.network.books(NodeId(node));
        let drops = books.dropped_since(before);
        let limits = [DropReason::SessionLimit, DropReason::HalfOpenLimit, DropReason::SessionRateLimit];
        assert!(drops.iter().all(|(reason, _)| limits.contains(reason)), "{node}: {drops:?}");
        let engine = scene.network.engine(NodeId(node));
        assert!(engine.session_count() <= 16_200, "{node}: {}", engine.session_count());
        assert_eq!(engine.audit_limits(), Vec::<String>::new());
        for usage in engine.waypoints() {
            assert!(usage.used <= 18_000 && usage.resting <= 18_000, "{usage:?}");
        }
    }
    assert_what_was_limited(&mut scene);
}

fn assert_what_was_limited(scene: &mut Scene) {
    let engine = scene.network.engine(NodeId(0));
    let refused: u64 = engine.limits(scene.network.clock()).iter().map(|view| view.refused).sum();
    let limits = [DropReason::SessionLimit, DropReason::HalfOpenLimit, DropReason::SessionRateLimit];
    let drops: u64 =
        engine.drops().filter(|record| limits.contains(&record.reason)).map(|record| record.count).sum();
    assert_eq!(refused, drops, "each drop is counted by one limit");
    assert!(refused > 800_000, "{refused}");
    let evicted: u64 = engine.limits(scene.network.clock()).iter().map(|view| view.evicted).sum();
    let evicted = evicted + engine.waypoints().iter().map(|usage| usage.evicted).sum::<u64>();
    assert!(evicted > 1000, "{evicted}");
    assert_eq!(evicted, scene.network.books(NodeId(0)).counter(Counter::SessionsEvicted));
    let guilty = LimitScope::Tenant(TenantId(0));
    for view in engine.limits(scene.network.clock()) {
        assert!(view.refused == 0 || view.limit.scope == guilty, "{view:?}");
    }
    let events = scene.network.take_events();
    let told = |kind| {
        let is = |event: &Event| matches!(event, Event::LimitReached(limit) if limit.scope == guilty && limit.kind == kind);
        events.iter().filter(|(node, event)| node.0 == 0 && is(event)).count()
    };
    assert!((1..=2).contains(&told(LimitKind::SessionRate)), "an operator hears of it, not for each packet");
}
