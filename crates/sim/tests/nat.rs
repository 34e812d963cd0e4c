//! Source NAT where sessions leave the fabric: TCP, UDP and echo, over one to three routers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use fairway_sim::fabric::{GUEST, LAN};
use fairway_sim::packet::{IcmpError, Packet};
use fairway_sim::{Fabric, HostId, Network, NodeId, Topology};
use fairway_types::{Counter, DropReason, PortRange, Protocol, Suite, TenantId};
use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::Version;

struct Scene {
    network: Network,
    clients: [HostId; 2],
    server: HostId,
    last: NodeId,
    ipv6: bool,
}

fn host(ipv6: bool, site: u16, number: u16) -> IpAddr {
    if ipv6 {
        IpAddr::from([0xfd00, site, 0, 0, 0, 0, 0, number])
    } else {
        IpAddr::from([10, site as u8, 0, number as u8])
    }
}

impl Scene {
    fn new(routers: u8, ipv6: bool, payload: Option<Suite>) -> Self {
        let fabric = Fabric { routers, source_nat: true, payload, ipv6_waypoints: ipv6, ..Fabric::default() };
        let last = NodeId(usize::from(routers) - 1);
        let mut network = Network::new(fabric, 1);
        // With one router, its LAN is that of the servers.
        let clients = [9, 8].map(|number| network.add_host(NodeId(0), LAN, &[host(ipv6, 1, number)]));
        let server = network.add_host(last, LAN, &[host(ipv6, 2, 9)]);
        network.run(10_000);
        Self { network, clients, server, last, ipv6 }
    }

    fn from(&self, number: u16, port: u16) -> SocketAddr {
        SocketAddr::new(host(self.ipv6, 1, number), port)
    }

    fn to(&self, port: u16) -> SocketAddr {
        SocketAddr::new(host(self.ipv6, 2, 9), port)
    }

    /// The address that the server sees.
    fn outside(&self) -> IpAddr {
        host(self.ipv6, 2, 1)
    }

    fn forward(&mut self, client: usize, packet: &Packet) -> Vec<Packet> {
        self.network.send(self.clients[client], packet.bytes());
        self.network.run(80);
        self.network.receive(self.server).iter().map(|bytes| Packet::read(bytes).unwrap()).collect()
    }

    fn reverse(&mut self, client: usize, packet: &Packet) -> Vec<Vec<u8>> {
        self.network.send(self.server, packet.bytes());
        self.network.run(80);
        self.network.receive(self.clients[client])
    }
}

fn every_shape(test: impl Fn(Scene)) {
    for routers in 2..=3 {
        for ipv6 in [false, true] {
            for payload in [None, Some(Suite::Aes256Gcm)] {
                test(Scene::new(routers, ipv6, payload));
            }
        }
    }
}

#[test]
fn the_server_sees_the_router_and_the_client_its_answers() {
    every_shape(|mut scene| {
        let (syn, syn_ack) = ((0x02, 100, 0), (0x12, 500, 101));
        for round in 0..3 {
            let requests = [
                Packet::udp(scene.from(9, 40_000), scene.to(53), b"question"),
                Packet::tcp(scene.from(9, 40_000), scene.to(80), syn, &[]),
                Packet::echo(scene.from(9, 77), scene.to(77), b"ping"),
            ];
            for request in requests {
                let got = scene.forward(0, &request);
                let [seen] = &got[..] else { panic!("{request:?}: {got:?}") };
                assert_eq!(seen.source.ip(), scene.outside(), "{request:?}");
                assert_eq!(
                    (seen.destination.ip(), &seen.payload),
                    (request.destination.ip(), &request.payload)
                );
                let mut answer = seen.answer(b"answer");
                if request.protocol == 6 {
                    (answer.tcp, answer.payload) = (syn_ack, Vec::new());
                }
                let got = scene.reverse(0, &answer);
                let got: Vec<_> = got.iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
                let [heard] = &got[..] else { panic!("round {round}: {answer:?}: {got:?}") };
                assert_eq!((heard.source, heard.destination), (request.destination, request.source));
                assert_eq!(heard.payload, answer.payload);
            }
        }
    });
}

#[test]
fn an_endpoint_has_one_port_and_no_two_share_one() {
    let mut scene = Scene::new(2, false, None);
    let mut seen = HashSet::new();
    for client in [0, 1] {
        for port in [30_000, 30_001, 500] {
            let number = [9, 8][client];
            let ports: HashSet<u16> = (0..4u16)
                .map(|other| {
                    let packet = Packet::udp(scene.from(number, port), scene.to(1000 + other), b"x");
                    scene.forward(client, &packet)[0].source.port()
                })
                .collect();
            assert_eq!(ports.len(), 1, "whatever it talks to");
            let outside = ports.into_iter().next().unwrap();
            assert!(PortRange::SOURCE_NAT.contains(outside));
            assert!(seen.insert(outside), "{outside} belongs to somebody else");
        }
    }
    assert!(seen.contains(&30_000) && seen.contains(&30_001), "numbers are kept where they can be");
    // Only whom it talks to can answer.
    let before = scene.network.books(scene.last);
    let stranger = Packet::udp(scene.to(9), SocketAddr::new(scene.outside(), 30_000), b"hello?");
    assert!(scene.reverse(0, &stranger).is_empty());
    assert_eq!(scene.network.books(scene.last).dropped_since(&before), [(DropReason::UnknownWaypoint, 1)]);
}

#[test]
fn errors_find_their_way_in_both_directions() {
    every_shape(|mut scene| {
        let version = if scene.ipv6 { Version::V6 } else { Version::V4 };
        let requests = [
            Packet::udp(scene.from(9, 40_000), scene.to(53), b"question"),
            Packet::echo(scene.from(9, 77), scene.to(77), b"ping"),
        ];
        for request in requests {
            let seen = scene.forward(0, &request)[0].clone();
            // The server, about what the client sent.
            let error =
                IcmpError::bytes(scene.to(0).ip(), &seen.bytes(), &ErrorRepr::port_unreachable(version));
            scene.network.send(scene.server, error);
            scene.network.run(80);
            let got = scene.network.receive(scene.clients[0]);
            assert_eq!(got.len(), 1, "{request:?}");
            let error = IcmpError::read(&got[0]).unwrap();
            assert_eq!(
                (error.quoted_source, error.quoted_destination),
                (request.source, request.destination)
            );
        }
        // The client, about what the server sent: the world does not hear who it is.
        let request = Packet::udp(scene.from(9, 40_000), scene.to(53), b"question");
        let seen = scene.forward(0, &request)[0].clone();
        let answer = seen.answer(b"answer");
        let heard = scene.reverse(0, &answer);
        let error = IcmpError::bytes(request.source.ip(), &heard[0], &ErrorRepr::port_unreachable(version));
        scene.network.send(scene.clients[0], error);
        scene.network.run(80);
        let got = scene.network.receive(scene.server);
        let error = IcmpError::read(&got[0]).unwrap();
        assert_eq!(error.source, scene.outside());
        assert_eq!((error.quoted_source, error.quoted_destination), (answer.source, answer.destination));
    });
}

#[test]
fn identifiers_of_echoes_run_out_visibly_and_come_back() {
    let mut scene = Scene::new(2, false, None);
    let capacity = PortRange::ECHO_NAT.count();
    let used = |scene: &Scene| {
        let usage: Vec<_> = scene.network.engine(scene.last).nat_usage();
        *usage.iter().find(|usage| usage.protocol.is_icmp() && usage.address.is_ipv4()).unwrap()
    };
    for number in 0..capacity as u16 + 10 {
        let packet = Packet::echo(scene.from(9, number), scene.to(number), b"ping");
        scene.network.send(scene.clients[0], packet.bytes());
        scene.network.run(2);
    }
    scene.network.run(50);
    let usage = used(&scene);
    assert_eq!((usage.used, usage.refused), (capacity, 10));
    let events = scene.network.take_events();
    let named = |name| events.iter().filter(|(_, event)| event.name() == name).count();
    assert_eq!(named("nat-ports-scarce"), 1, "before it bites");
    assert!(named("nat-ports-exhausted") >= 1);
    // Unanswered pings are forgotten after ten seconds, and their identifiers rest for five.
    scene.network.run(20_000);
    scene.network.receive(scene.server);
    let packet = Packet::echo(scene.from(9, 5000), scene.to(5000), b"ping");
    assert_eq!(scene.forward(0, &packet).len(), 1);
    assert_eq!(used(&scene).used, 1);
}

/// What was somebody's a moment ago is not given to another because a configuration was read again.
#[test]
fn a_reload_forgets_no_port_that_rests() {
    let mut scene = Scene::new(2, false, None);
    let first = scene.forward(0, &Packet::echo(scene.from(9, 65_000), scene.to(65_000), b"ping"));
    assert_eq!(first[0].source.port(), 65_000);
    // Unanswered, it ends after ten seconds, and its identifier rests for five.
    scene.network.run(14_500);
    let fabric = Fabric { source_nat: true, ..Fabric::default() };
    scene.network.reload(scene.last, fabric.model(1));
    let other = scene.forward(1, &Packet::echo(scene.from(8, 65_000), scene.to(65_000), b"ping"));
    assert_ne!(other[0].source.port(), 65_000);
}

#[test]
fn protocols_that_cannot_share_an_address_are_refused() {
    let mut scene = Scene::new(2, false, None);
    let before = scene.network.books(scene.last);
    let gre = Packet::portless(host(false, 1, 9), host(false, 2, 9), 47, b"tunnel");
    assert!(scene.forward(0, &gre).is_empty());
    assert_eq!(scene.network.books(scene.last).dropped_since(&before), [(DropReason::NatProtocol, 1)]);
}

#[test]
fn switching_it_ends_the_sessions_that_it_changes() {
    let mut scene = Scene::new(2, false, None);
    let request = Packet::udp(scene.from(9, 40_000), scene.to(53), b"question");
    assert_eq!(scene.forward(0, &request)[0].source.ip(), scene.outside());
    for nat in [true, false] {
        let fabric = Fabric { source_nat: nat, ..Fabric::default() };
        let applied = scene.network.reload(scene.last, fabric.model(1));
        assert_eq!((applied.kept, applied.removed), if nat { (1, 0) } else { (0, 1) });
    }
    scene.network.run(100);
    let seen = scene.forward(0, &request);
    assert_eq!(seen[0].source, request.source);
}

fn one(packets: Vec<Vec<u8>>) -> Packet {
    assert_eq!(packets.len(), 1);
    Packet::read(&packets[0]).unwrap()
}

impl Scene {
    /// A datagram from one client to the outside endpoint of the other, which has the same port.
    fn punch(&mut self, from: usize, to: u16) -> Vec<Vec<u8>> {
        let ports = [40_000, 40_001];
        let packet = Packet::udp(
            self.from([9, 8][from], ports[from]),
            SocketAddr::new(self.outside(), to),
            &[from as u8],
        );
        self.network.send(self.clients[from], packet.bytes());
        self.network.run(80);
        self.network.receive(self.clients[1 - from])
    }
}

#[test]
fn inside_hosts_meet_by_their_outside_addresses() {
    every_shape(|mut scene| {
        // As from outside: who was not talked to is not let in.
        let before = scene.network.books(scene.last);
        assert!(scene.punch(0, 40_001).is_empty());
        assert_eq!(
            scene.network.books(scene.last).dropped_since(&before),
            [(DropReason::UnknownWaypoint, 1)]
        );
        for _ in 0..3 {
            let heard = one(scene.punch(1, 40_000));
            assert_eq!(heard.source, SocketAddr::new(scene.outside(), 40_001), "not who it is inside");
            assert_eq!((heard.destination, &heard.payload[..]), (scene.from(9, 40_000), &[1][..]));
            let heard = one(scene.punch(0, 40_001));
            assert_eq!(heard.source, SocketAddr::new(scene.outside(), 40_000));
            assert_eq!((heard.destination, &heard.payload[..]), (scene.from(8, 40_001), &[0][..]));
        }
        assert!(scene.network.receive(scene.server).is_empty(), "nothing of it goes out");
        // An error about it finds the sender.
        let version = if scene.ipv6 { Version::V6 } else { Version::V4 };
        let heard = scene.punch(1, 40_000);
        let issuer = scene.from(9, 0).ip();
        let error = IcmpError::bytes(issuer, &heard[0], &ErrorRepr::port_unreachable(version));
        scene.network.send(scene.clients[0], error);
        scene.network.run(80);
        let error = IcmpError::read(&scene.network.receive(scene.clients[1])[0]).unwrap();
        assert_ne!(error.source, issuer);
        assert_eq!(
            (error.quoted_source, error.quoted_destination),
            (scene.from(8, 40_001), SocketAddr::new(scene.outside(), 40_000))
        );
    });
}

/// The flows of two hosts that meet may belong to different workers.
#[test]
fn workers_hand_over_what_comes_back() {
    let mut handed_over = 0;
    for seed in 0..20 {
        let mut scene = Scene::new(2, false, Some(Suite::Aes256Gcm));
        let fabric = Fabric { source_nat: true, payload: Some(Suite::Aes256Gcm), ..Fabric::default() };
        let mut network = Network::with_workers(Topology::chain(&fabric), seed, |_| 3);
        scene.clients = [9, 8].map(|number| network.add_host(NodeId(0), LAN, &[host(false, 1, number)]));
        scene.server = network.add_host(scene.last, LAN, &[host(false, 2, 9)]);
        network.run(10_000);
        scene.network = network;
        assert!(scene.punch(0, 40_001).is_empty());
        for _ in 0..3 {
            assert_eq!(one(scene.punch(1, 40_000)).source, SocketAddr::new(scene.outside(), 40_001));
            assert_eq!(one(scene.punch(0, 40_001)).source, SocketAddr::new(scene.outside(), 40_000));
        }
        let engines = scene.network.engines(scene.last).iter();
        handed_over += engines.map(|e| e.counters().value(Counter::PacketsHandedOver)).sum::<u64>();
    }
    assert!(handed_over > 0);
}

#[test]
fn nobody_outside_can_pretend_to_be_an_inside_host() {
    let mut scene = Scene::new(2, false, None);
    scene.punch(0, 40_001);
    scene.punch(1, 40_000);
    let outside = scene.outside();
    let forged = Packet::udp(SocketAddr::new(outside, 40_001), SocketAddr::new(outside, 40_000), b"me");
    assert!(scene.reverse(0, &forged).is_empty());
    assert!(scene.network.receive(scene.clients[1]).is_empty());
    // Nor is it a way to loop.
    let own = Packet::udp(scene.from(9, 40_000), SocketAddr::new(outside, 40_000), b"me");
    scene.network.send(scene.clients[0], own.bytes());
    scene.network.run(80);
    let heard = one(scene.network.receive(scene.clients[0]));
    assert_eq!((heard.source, heard.destination), (SocketAddr::new(outside, 40_000), scene.from(9, 40_000)));
}

#[test]
fn a_reload_keeps_hairpins_and_ends_them_with_the_address() {
    let mut scene = Scene::new(2, false, None);
    scene.punch(0, 40_001);
    assert_eq!(scene.punch(1, 40_000).len(), 1);
    for nat in [true, false] {
        let fabric = Fabric { source_nat: nat, ..Fabric::default() };
        let applied = scene.network.reload(scene.last, fabric.model(1));
        assert_eq!((applied.kept, applied.removed), if nat { (2, 0) } else { (0, 2) });
        if nat {
            assert_eq!(scene.punch(0, 40_001).len(), 1);
        }
    }
}

#[test]
fn a_reload_gives_the_host_the_ports_that_it_has_bound() {
    let mut scene = Scene::new(2, false, None);
    let request = |port| Packet::udp(scene.from(9, port), scene.to(53), b"question");
    let (taken, other) = (request(51_820), request(51_821));
    for request in [&taken, &other] {
        assert_eq!(scene.forward(0, request)[0].source.port(), request.source.port());
    }
    let mut model = Fabric { source_nat: true, ..Fabric::default() }.model(1);
    model.interfaces[LAN.index()].host_ports = vec![(Protocol::UDP, 51_820)];
    let applied = scene.network.reload(scene.last, model);
    assert_eq!((applied.kept, applied.removed), (1, 1));
    scene.network.run(100);
    assert_eq!(scene.forward(0, &other)[0].source.port(), 51_821);
    assert_ne!(scene.forward(0, &taken)[0].source.port(), 51_820);
}

/// A breakout router whose hosts are on another interface of its own.
#[test]
fn hosts_on_the_router_itself_meet_by_its_outside_address() {
    let fabric = Fabric { routers: 1, source_nat: true, ..Fabric::default() };
    let mut model = fabric.model(0);
    let guest = model.services[0].access[0].clone();
    model.services[0].access.push(fairway_types::model::Access { tenant: Some(TenantId(1)), ..guest });
    let mut network = Network::new(fabric, 1);
    network.reload(NodeId(0), model);
    let clients = [9, 8].map(|number| network.add_host(NodeId(0), GUEST, &[host(false, 1, number)]));
    let server = network.add_host(NodeId(0), LAN, &[host(false, 2, 9)]);
    network.run(10_000);
    let mut scene = Scene { network, clients, server, last: NodeId(0), ipv6: false };
    assert!(scene.punch(0, 40_001).is_empty());
    assert_eq!(one(scene.punch(1, 40_000)).source, SocketAddr::new(scene.outside(), 40_001));
    assert_eq!(one(scene.punch(0, 40_001)).source, SocketAddr::new(scene.outside(), 40_000));
    // Ports that are not of source NAT are the router's own.
    let before = scene.network.books(NodeId(0));
    assert!(scene.punch(0, 80).is_empty());
    assert_eq!(scene.network.books(NodeId(0)).dropped_since(&before), [(DropReason::UnknownWaypoint, 1)]);
}
