//! Packets of any size: whole, in fragments of their hosts, in pieces between routers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use fairway_session::DropRecord;
use fairway_sim::fabric::{LAN, NEXT};
use fairway_sim::fragments::{cut, join};
use fairway_sim::packet::{IcmpError, Packet};
use fairway_sim::{Fabric, HostId, Network, NodeId, Topology};
use fairway_types::model::UdpTransform;
use fairway_types::{Counter, DropReason, Suite};
use fairway_wire::ip;

const MTU: usize = 1500;
const GRE: u8 = 47;

struct Scene {
    network: Network,
    client: HostId,
    server: HostId,
    ipv6: bool,
    /// The longest packet between routers.
    longest: Rc<RefCell<usize>>,
    id: u32,
}

impl Scene {
    fn new(fabric: Fabric, ipv6: bool) -> Self {
        Self::with_workers(fabric, [1; 3], ipv6)
    }

    fn with_workers(fabric: Fabric, workers: [u8; 3], ipv6: bool) -> Self {
        let last = NodeId(usize::from(fabric.routers) - 1);
        let mut network = Network::with_workers(Topology::chain(&fabric), 1, |node| workers[node.0]);
        let client = network.add_host(NodeId(0), LAN, &[address(ipv6, 1)]);
        let server = network.add_host(last, LAN, &[address(ipv6, 2)]);
        let longest = Rc::new(RefCell::new(0));
        let seen = Rc::clone(&longest);
        network.set_tap(Box::new(move |_, packet| {
            let longest = packet.len().max(*seen.borrow());
            *seen.borrow_mut() = longest;
        }));
        network.run(12_000);
        Self { network, client, server, ipv6, longest, id: 0 }
    }

    fn ends(&self, protocol: u8) -> (SocketAddr, SocketAddr) {
        let (from, to) = match protocol {
            17 => (5000, 53),
            GRE => (0, 0),
            _ => (7, 7),
        };
        (SocketAddr::new(address(self.ipv6, 1), from), SocketAddr::new(address(self.ipv6, 2), to))
    }

    /// A packet of the client that is `length` bytes long.
    fn packet(&self, protocol: u8, length: usize) -> Packet {
        let (from, to) = self.ends(protocol);
        let packet = match protocol {
            17 => Packet::udp(from, to, &[]),
            GRE => Packet::portless(from.ip(), to.ip(), GRE, &[]),
            _ => Packet::echo(from, to, &[]),
        };
        let payload = (0..length - packet.bytes().len()).map(|at| (at * 7 + length) as u8).collect();
        Packet { payload, ..packet }
    }

    /// Sends a packet, in fragments if it does not fit, and gives what comes out as its receiver puts
    /// it together.
    fn send(&mut self, forward: bool, packet: &[u8]) -> Vec<Packet> {
        let (from, to) = if forward { (self.client, self.server) } else { (self.server, self.client) };
        self.id += 1;
        for fragment in cut(packet, MTU, self.id) {
            self.network.send(from, fragment);
        }
        self.network.run(50);
        let got = self.network.receive(to);
        assert!(got.iter().all(|packet| packet.len() <= MTU));
        join(&got).iter().map(|bytes| Packet::read(bytes).unwrap()).collect()
    }

    #[track_caller]
    fn crosses(&mut self, packet: &Packet, label: &str) {
        for forward in [true, false] {
            let packet = if forward { packet.clone() } else { packet.answer(&packet.payload) };
            let got = self.send(forward, &packet.bytes());
            assert_eq!(got.len(), 1, "{label} {forward}: {:?}", self.drops());
            assert_eq!(Packet { ttl: 64, ..got[0].clone() }, packet, "{label} {forward}");
        }
        assert!(*self.longest.borrow() <= MTU, "{label}: {}", self.longest.borrow());
    }

    /// What was dropped, apart from what all routers drop when they start at once.
    fn drops(&self) -> Vec<(usize, DropReason, u64)> {
        let nodes = self.network.routers();
        let all = nodes.flat_map(|node| {
            self.network.engines(node).iter().flat_map(|engine| engine.drops()).map(move |it| (node, it))
        });
        let counted = |it: &DropRecord| it.count > 0 && it.reason != DropReason::MetadataBeforeStart;
        all.filter(|(_, it)| counted(it)).map(|(node, it)| (node.0, it.reason, it.count)).collect()
    }

    fn counter(&self, node: usize, counter: Counter) -> u64 {
        self.network.books(NodeId(node)).counter(counter)
    }

    /// What a host is told of a packet that does not fit: the MTU.
    fn told(&mut self, host: HostId, packet: &[u8]) -> Vec<u16> {
        self.network.send(host, packet.to_vec());
        self.network.run(50);
        let errors = self.network.receive(host);
        errors
            .iter()
            .filter_map(|bytes| IcmpError::read(bytes))
            .map(|error| u16::from_be_bytes([error.error.rest[2], error.error.rest[3]]))
            .collect()
    }
}

fn address(ipv6: bool, site: u8) -> IpAddr {
    if ipv6 {
        IpAddr::from([0xfd00, u16::from(site), 0, 0, 0, 0, 0, 9])
    } else {
        IpAddr::from([10, site, 0, 9])
    }
}

fn fabrics() -> impl Iterator<Item = Fabric> {
    let payloads = [None, Some(Suite::Aes256Gcm), Some(Suite::Aes256Cbc)];
    payloads.into_iter().flat_map(|payload| {
        [false, true].map(|ipv6_waypoints| Fabric {
            routers: 3,
            payload,
            ipv6_waypoints,
            ..Fabric::default()
        })
    })
}

#[test]
fn packets_of_every_size_cross_every_fabric() {
    for fabric in fabrics() {
        for ipv6 in [false, true] {
            let mut scene = Scene::new(fabric.clone(), ipv6);
            for protocol in [17, if ipv6 { 58 } else { 1 }, GRE] {
                for length in [
                    100, 1300, 1400, 1450, 1468, 1470, 1476, 1477, 1490, 1499, 1500, 1501, 2960, 4000,
                    20_000, 65_400,
                ] {
                    // What is not cut by its host needs no more than the fabric's own pieces.
                    let packet = scene.packet(protocol, length);
                    scene.crosses(&packet, &format!("{:?} v6 {ipv6} {protocol} {length}", fabric.payload));
                }
            }
            assert_eq!(scene.drops(), []);
            assert!(scene.counter(0, Counter::PacketsReassembled) > 0);
            assert!(scene.counter(1, Counter::PacketsFragmented) > 0);
            let discarded = scene
                .network
                .routers()
                .map(|node| scene.network.books(node).counter(Counter::FragmentsDiscarded));
            assert_eq!(discarded.sum::<u64>(), 0);
        }
    }
}

/// Fragments go to a worker by addresses alone: what they make may be another worker's.
#[test]
fn fragments_find_the_worker_of_their_session() {
    for fabric in fabrics() {
        for translated in [false, true] {
            let mut scene = Scene::with_workers(fabric.clone(), [4, 3, 4], false);
            scene.network.translated = translated;
            for port in 5000..5020 {
                // Behind a NAT, what follows metadata that went ahead may come before the flow is placed.
                let first: &[usize] = if translated { &[100] } else { &[] };
                for length in first.iter().chain(&[4000, 20_000, 1500]) {
                    let packet = scene.packet(17, *length);
                    let source = SocketAddr::new(packet.source.ip(), port);
                    scene.crosses(&Packet { source, ..packet }, "worker");
                }
            }
            assert_eq!(scene.drops(), []);
            assert!(scene.counter(0, Counter::PacketsHandedOver) > 10);
        }
    }
}

#[test]
fn a_packet_that_is_as_long_as_packets_can_be_is_dropped_where_it_would_be_longer() {
    for (payload, arrives) in [(None, true), (Some(Suite::Aes256Gcm), false)] {
        let mut scene = Scene::new(Fabric { payload, ..Fabric::default() }, false);
        let packet = scene.packet(17, 65_535);
        assert_eq!(scene.send(true, &packet.bytes()).len(), usize::from(arrives));
        let expected = if arrives { vec![] } else { vec![(0, DropReason::TooBig, 1)] };
        assert_eq!(scene.drops(), expected);
    }
}

/// Metadata with every packet, as while nobody answers.
#[test]
fn packets_of_full_size_that_bear_metadata_cross() {
    for fabric in fabrics() {
        let mut scene = Scene::new(fabric, false);
        for protocol in [17, 1] {
            let packet = scene.packet(protocol, 1500);
            for _ in 0..8 {
                let got = scene.send(true, &packet.bytes());
                assert_eq!(got.len(), 1);
                assert_eq!(got[0].payload, packet.payload);
                scene.network.run(100);
            }
        }
        assert_eq!(scene.drops(), []);
        assert!(*scene.longest.borrow() <= MTU);
    }
}

/// Both hosts send nothing but packets in pieces: the handshake ends as with any others.
#[test]
fn the_handshake_ends_although_all_packets_are_in_pieces() {
    let mut scene = Scene::new(Fabric { payload: Some(Suite::Aes256Gcm), ..Fabric::default() }, false);
    let packet = scene.packet(1, 4000);
    for _ in 0..4 {
        scene.crosses(&packet, "ping");
    }
    let before = [0, 1].map(|node| scene.counter(node, Counter::MetadataSentAhead));
    for _ in 0..20 {
        scene.crosses(&packet, "ping");
        scene.network.run(400);
    }
    assert_eq!([0, 1].map(|node| scene.counter(node, Counter::MetadataSentAhead)), before);
    assert_eq!(scene.drops(), []);
}

#[test]
fn what_is_too_long_by_itself_is_answered_with_the_mtu_of_the_link() {
    for fabric in fabrics() {
        for ipv6 in [false, true] {
            let mut scene = Scene::new(fabric.clone(), ipv6);
            scene.network.engine_mut(NodeId(1)).set_mtu(NEXT, 1400);
            for protocol in [17, if ipv6 { 58 } else { 1 }] {
                // The handshake is over.
                let small = scene.packet(protocol, 100);
                (0..3).for_each(|_| scene.crosses(&small, "small"));
                let packet = scene.packet(protocol, 1500).bytes();
                assert_eq!(scene.told(scene.client, &packet), [1400], "{fabric:?} {ipv6} {protocol}");
                assert!(scene.network.receive(scene.server).is_empty());
                let fits = scene.packet(protocol, 1400);
                scene.crosses(&fits, "1400");
            }
            assert_eq!(scene.drops(), [(1, DropReason::TooBig, 2)]);
        }
    }
}

/// The network between two routers carries less than their links: it says so, and is believed.
#[test]
fn a_path_that_carries_less_than_its_links_is_learnt() {
    for fabric in fabrics() {
        for ipv6 in [false, true] {
            let mut scene = Scene::new(fabric.clone(), ipv6);
            let small = scene.packet(17, 100);
            (0..3).for_each(|_| scene.crosses(&small, "small"));
            scene.network.set_narrow(1, 1350);
            // Each way learns by a packet that is lost.
            let long = scene.packet(17, 4000);
            for forward in [true, false] {
                let lost = if forward { long.clone() } else { long.answer(&long.payload) };
                assert_eq!(scene.send(forward, &lost.bytes()).len(), 0);
            }
            for length in [1300, 1350, 4000, 20_000] {
                let packet = scene.packet(17, length);
                scene.crosses(&packet, &format!("{:?} v6 {ipv6} {length}", fabric.payload));
            }
            let too_long = scene.packet(17, 1400).bytes();
            assert_eq!(scene.told(scene.client, &too_long), [1350], "{fabric:?} {ipv6}");
            assert_eq!(
                (scene.counter(1, Counter::PathMtusLowered), scene.counter(2, Counter::PathMtusLowered)),
                (1, 1)
            );
            // Ten minutes later it is tried again.
            scene.network.run(600_000);
            for forward in [true, false] {
                let lost = if forward { long.clone() } else { long.answer(&long.payload) };
                assert_eq!(scene.send(forward, &lost.bytes()).len(), 0);
            }
            scene.crosses(&long, "learnt again");
            let drops = scene.drops();
            let expected = |&(node, reason, _): &(usize, DropReason, u64)| {
                reason == DropReason::FragmentTimeout || (node, reason) == (1, DropReason::TooBig)
            };
            assert!(drops.iter().all(expected), "{drops:?}");
        }
    }
}

/// One whose sender does not let it be cut is told at once.
#[test]
fn a_sender_is_told_what_the_network_between_routers_carries() {
    for fabric in fabrics() {
        for ipv6 in [false, true] {
            let mut scene = Scene::new(fabric.clone(), ipv6);
            let small = scene.packet(17, 100);
            (0..3).for_each(|_| scene.crosses(&small, "small"));
            scene.network.set_narrow(1, 1350);
            let packet = scene.packet(17, 1400);
            assert_eq!(scene.told(scene.client, &packet.bytes()), [1350], "{fabric:?} {ipv6}");
            let fits = scene.packet(17, 1350);
            scene.network.send(scene.server, fits.answer(&fits.payload).bytes());
            scene.network.run(50);
            let _ = [scene.client, scene.server].map(|host| scene.network.receive(host));
            scene.crosses(&fits, "1350");
        }
    }
}

#[test]
fn what_may_be_cut_is_cut_for_a_narrow_link_to_a_host() {
    for payload in [None, Some(Suite::Aes256Gcm)] {
        for routers in [2, 3] {
            let mut scene = Scene::new(Fabric { payload, routers, ..Fabric::default() }, false);
            let last = NodeId(usize::from(routers) - 1);
            scene.network.engine_mut(last).set_mtu(LAN, 1000);
            let whole = scene.packet(17, 1400).bytes();
            scene.network.send(scene.client, without_df(&whole));
            scene.network.run(50);
            let got = scene.network.receive(scene.server);
            assert_eq!(got.len(), 2);
            assert!(got.iter().all(|packet| packet.len() <= 1000));
            let ids = got.iter().map(|packet| packet[4..6].to_vec());
            assert!(ids.clone().all(|id| id == [0, 1]), "the identification is the source's");
            assert_eq!(Packet::read(&join(&got)[0]).unwrap().payload, scene.packet(17, 1400).payload);
            assert_eq!(scene.told(scene.client, &whole), [1000]);
            for length in [1400, 4000] {
                let packet = scene.packet(17, length).bytes();
                for fragment in cut(&packet, 1300, 77) {
                    scene.network.send(scene.client, fragment);
                }
                scene.network.run(50);
                let got = scene.network.receive(scene.server);
                assert!(got.iter().all(|packet| packet.len() <= 1000));
                assert_eq!(Packet::read(&join(&got)[0]).unwrap().bytes(), mended(&packet, routers));
            }
        }
    }
}

/// An IPv4 packet that its sender lets be cut.
fn without_df(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[6..8].copy_from_slice(&[0, 0]);
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = !fairway_wire::checksum::fold(fairway_wire::checksum::sum(&packet[..20]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What may be cut is cut by routers between waypoints, too: the next one puts it together.
#[test]
fn what_the_network_between_routers_cuts_is_put_together() {
    for payload in [None, Some(Suite::Aes256Gcm)] {
        for workers in [[1; 3], [2, 3, 4]] {
            let fabric = Fabric { payload, routers: 3, ..Fabric::default() };
            let mut scene = Scene::with_workers(fabric, workers, false);
            scene.network.set_narrow(0, 1000);
            for number in 0..10 {
                let packet = scene.packet(17, 1300 + number);
                for forward in [true, false] {
                    let packet = if forward { packet.clone() } else { packet.answer(&packet.payload) };
                    let got = scene.send(forward, &without_df(&packet.bytes()));
                    assert_eq!(got.len(), 1, "{number} {forward}: {:?}", scene.drops());
                    assert_eq!(got[0].payload, packet.payload);
                }
            }
            assert_eq!(scene.drops(), []);
            assert!([0, 1].iter().all(|&node| scene.counter(node, Counter::PacketsReassembled) >= 10));
        }
    }
}

/// The packet as it arrives behind so many routers.
fn mended(packet: &[u8], routers: u8) -> Vec<u8> {
    let packet = Packet::read(packet).unwrap();
    Packet { ttl: packet.ttl - routers, ..packet }.bytes()
}

/// A first link with jumbo frames: only pieces tell the next router that a packet may be cut.
#[test]
fn a_packet_that_came_in_fragments_may_be_cut_further_on() {
    for fabric in fabrics() {
        for ipv6 in [false, true] {
            let mut scene = Scene::new(fabric.clone(), ipv6);
            scene.network.engine_mut(NodeId(0)).set_mtu(NEXT, 9000);
            for protocol in [17, if ipv6 { 58 } else { 1 }] {
                let packet = scene.packet(protocol, 4000);
                // The simulation's buffers hold less than a jumbo frame.
                let packet = Packet { payload: packet.payload[..1700].to_vec(), ..packet };
                let got = scene.send(true, &packet.bytes());
                assert_eq!(got.len(), 1, "{:?}", scene.drops());
                assert_eq!(got[0].payload, packet.payload);
            }
            assert_eq!(scene.drops(), []);
        }
    }
}

/// A TCP sender that was never told a segment size.
#[test]
fn tcp_segments_of_full_size_cross_in_pieces() {
    for (udp_transform, payload) in [
        (UdpTransform::Encrypted, Some(Suite::Aes256Gcm)),
        (UdpTransform::Never, Some(Suite::Aes256Gcm)),
        (UdpTransform::Always, None),
    ] {
        for ipv6_waypoints in [false, true] {
            let fabric = Fabric { routers: 3, payload, udp_transform, ipv6_waypoints, ..Fabric::default() };
            let mut scene = Scene::new(fabric, false);
            let ends = (SocketAddr::new(address(false, 1), 5000), SocketAddr::new(address(false, 2), 80));
            let segment = |tcp, payload: &[u8]| Packet::tcp(ends.0, ends.1, tcp, payload);
            assert_eq!(scene.send(true, &segment((2, 100, 0), &[]).bytes()).len(), 1);
            let answer = Packet { tcp: (0x12, 500, 101), ..segment((0, 0, 0), &[]).answer(&[]) };
            assert_eq!(scene.send(false, &answer.bytes()).len(), 1);
            let data: Vec<u8> = (0..1460u32).map(|at| at as u8).collect();
            for number in 0..5 {
                let packet = segment((0x10, 101 + 1460 * number, 501), &data);
                let got = scene.send(true, &packet.bytes());
                assert_eq!(got.len(), 1, "{:?}", scene.drops());
                assert_eq!((&got[0].payload, got[0].tcp), (&data, packet.tcp));
            }
            assert_eq!(scene.drops(), []);
            assert!(*scene.longest.borrow() <= MTU);
        }
    }
}

/// Congestion that a router between waypoints marks on one piece is told to the host.
#[test]
fn fragments_keep_their_header() {
    let mut scene = Scene::new(Fabric::default(), false);
    let packet = Packet { traffic_class: 0xb9, ..scene.packet(17, 4000) };
    let got = scene.send(true, &packet.bytes());
    assert_eq!(got[0].traffic_class, 0xb9);
    scene.id += 1;
    for (number, mut fragment) in cut(&packet.bytes(), MTU, scene.id).into_iter().enumerate() {
        if number == 1 {
            fragment[1] = 0xbb;
            fragment[10..12].copy_from_slice(&[0, 0]);
            let sum = !fairway_wire::checksum::fold(fairway_wire::checksum::sum(&fragment[..20]));
            fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        assert!(ip::parse(&fragment).is_ok());
        scene.network.send(scene.client, fragment);
    }
    scene.network.run(50);
    let got = scene.network.receive(scene.server);
    assert_eq!(Packet::read(&join(&got)[0]).unwrap().traffic_class, 0xbb);
}
