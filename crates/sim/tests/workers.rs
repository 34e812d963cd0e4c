//! Several workers in a router: both flows of a session on one of them, nothing lost, nothing out of
//! order, also while flows are placed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use fairway_session::SessionFilter;
use fairway_sim::fabric::LAN;
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, HostId, Network, NodeId, Topology};
use fairway_types::{Counter, Suite};

/// Ports of clients, one for each session.
const FLOWS: u16 = 40;
const ROUNDS: u16 = 20;

struct Scene {
    network: Network,
    client: HostId,
    server: HostId,
    ipv6: bool,
}

fn address(ipv6: bool, site: u16) -> IpAddr {
    if ipv6 { IpAddr::from([0xfd00, site, 0, 0, 0, 0, 0, 9]) } else { IpAddr::from([10, site as u8, 0, 9]) }
}

impl Scene {
    fn new(fabric: Fabric, workers: [u8; 3], ipv6: bool, seed: u64) -> Self {
        let last = NodeId(usize::from(fabric.routers) - 1);
        let topology = Topology::chain(&fabric);
        let mut network = Network::with_workers(topology, seed, |node| workers[node.0]);
        let client = network.add_host(NodeId(0), LAN, &[address(ipv6, 1)]);
        let server = network.add_host(last, LAN, &[address(ipv6, 2)]);
        network.run(10_000);
        Self { network, client, server, ipv6 }
    }

    fn question(&self, flow: u16, number: u16) -> Packet {
        let end = |site, port| SocketAddr::new(address(self.ipv6, site), port);
        Packet::udp(end(1, 40_000 + flow), end(2, 53), &number.to_be_bytes())
    }

    /// What a host received: the numbers of each flow, in their order.
    fn heard(&mut self, host: HostId, into: &mut HashMap<SocketAddr, Vec<u16>>) -> Vec<Packet> {
        let packets: Vec<_> = self
            .network
            .receive(host)
            .iter()
            .map(|bytes| Packet::read(bytes).unwrap_or_else(|| panic!("{bytes:02x?}")))
            .collect();
        for packet in &packets {
            let flow = if packet.source.port() == 53 { packet.destination } else { packet.source };
            into.entry(flow).or_default().push(u16::from_be_bytes(packet.payload[..2].try_into().unwrap()));
        }
        packets
    }

    /// Every flow says a number a few times each millisecond, and is answered.
    fn converse(&mut self) {
        let (mut asked, mut answered) = (HashMap::new(), HashMap::new());
        for round in 0..ROUNDS + 20 {
            if round < ROUNDS {
                for number in round * 4..round * 4 + 4 {
                    for flow in 0..FLOWS {
                        let question = self.question(flow, number);
                        self.network.send(self.client, question.bytes());
                    }
                }
            }
            self.network.run(1);
            for question in self.heard(self.server, &mut asked) {
                self.network.send(self.server, question.answer(&question.payload).bytes());
            }
            self.heard(self.client, &mut answered);
        }
        let expected: Vec<u16> = (0..ROUNDS * 4).collect();
        for heard in [&asked, &answered] {
            assert_eq!(heard.len(), usize::from(FLOWS));
            for (flow, numbers) in heard {
                assert_eq!(*numbers, expected, "seed {}: {flow}", self.network.seed);
            }
        }
    }

    fn sum(&self, counter: Counter) -> u64 {
        self.network.all_books().iter().map(|books| books.counter(counter)).sum()
    }

    /// How many sessions each worker of a router has; each session is with one worker only.
    fn sessions(&self, node: usize) -> Vec<usize> {
        let (now, filter) = (self.network.clock(), SessionFilter::default());
        let mut seen = HashSet::new();
        let each = |engine: &fairway_session::Engine| {
            let (sessions, _) = engine.sessions(now, &filter, 0, 1000);
            assert!(sessions.iter().all(|session| seen.insert(session.uuid)));
            sessions.len()
        };
        self.network.engines(NodeId(node)).iter().map(each).collect()
    }
}

fn shapes() -> impl Iterator<Item = (Fabric, [u8; 3], bool, u64)> {
    let workers = [[1, 2, 3], [2, 2, 2], [3, 2, 4]];
    let payloads = [None, Some(Suite::Aes256Gcm)];
    workers.into_iter().flat_map(move |workers| {
        payloads.into_iter().flat_map(move |payload| {
            [false, true].into_iter().flat_map(move |ipv6| {
                (1..=3).map(move |seed| {
                    let fabric = Fabric { routers: 3, payload, ipv6_waypoints: ipv6, ..Fabric::default() };
                    (fabric, workers, ipv6, seed)
                })
            })
        })
    })
}

#[test]
fn waypoint_ports_bring_both_flows_to_one_worker_at_every_router() {
    for (fabric, workers, ipv6, seed) in shapes() {
        let mut scene = Scene::new(fabric, workers, ipv6, seed);
        let before = scene.sum(Counter::PacketsHandedOver);
        scene.converse();
        assert_eq!(scene.sum(Counter::PacketsHandedOver), before, "nothing had to be handed over");
        for (node, workers) in workers.into_iter().enumerate() {
            let sessions = scene.sessions(node);
            assert_eq!(sessions.iter().sum::<usize>(), usize::from(FLOWS));
            let fair = usize::from(FLOWS) / usize::from(workers);
            assert!(sessions.iter().all(|&count| count > fair / 3), "router {node}: {sessions:?}");
        }
    }
}

#[test]
fn flows_that_arrive_elsewhere_are_placed_without_loss_or_reordering() {
    for (fabric, workers, ipv6, seed) in shapes() {
        let mut scene = Scene::new(fabric, workers, ipv6, seed);
        scene.network.translated = true;
        scene.converse();
        assert!(scene.sum(Counter::PacketsHandedOver) > 0);
        assert!(scene.sum(Counter::PacketsHeldForOrder) > 0);
        assert_eq!(scene.sum(Counter::OrderUncertain), 0);
        let exceptions = scene.network.engines(NodeId(1))[0].exceptions();
        assert!(exceptions > 0 && exceptions <= usize::from(FLOWS), "{exceptions}");
        // Once they are placed, nothing is handed over any more.
        let before = scene.sum(Counter::PacketsHandedOver);
        scene.converse();
        assert_eq!(scene.sum(Counter::PacketsHandedOver), before);
        scene.network.run(200_000);
        for node in 0..3 {
            assert_eq!(scene.network.engines(NodeId(node))[0].exceptions(), 0);
            assert!(scene.sessions(node).iter().all(|&count| count == 0));
        }
    }
}
