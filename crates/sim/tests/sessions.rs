//! Sessions over one to four routers, without faults.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use fairway_session::SessionFilter;
use fairway_sim::fabric::{GUEST, LAN};
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, HostId, Network, NodeId};
use fairway_types::model::UdpTransform;
use fairway_types::{Counter, DropReason, Suite};

struct Scene {
    network: Network,
    client: HostId,
    server: HostId,
    ipv6: bool,
}

impl Scene {
    fn new(fabric: Fabric, ipv6: bool) -> Self {
        let last = NodeId(usize::from(fabric.routers) - 1);
        let mut network = Network::new(fabric, 1);
        let client = network.add_host(NodeId(0), LAN, &[address(ipv6, 1)]);
        let server = network.add_host(last, LAN, &[address(ipv6, 2)]);
        network.run(10_000);
        Self { network, client, server, ipv6 }
    }

    fn from(&self, port: u16) -> SocketAddr {
        SocketAddr::new(address(self.ipv6, 1), port)
    }

    fn to(&self, port: u16) -> SocketAddr {
        SocketAddr::new(address(self.ipv6, 2), port)
    }

    /// Sends a packet from the client and gives what the server received.
    fn forward(&mut self, packet: &Packet) -> Vec<Packet> {
        self.network.send(self.client, packet.bytes());
        self.network.run(50);
        self.network.receive(self.server).iter().map(|bytes| Packet::read(bytes).unwrap()).collect()
    }

    fn reverse(&mut self, packet: &Packet) -> Vec<Packet> {
        self.network.send(self.server, packet.bytes());
        self.network.run(50);
        self.network.receive(self.client).iter().map(|bytes| Packet::read(bytes).unwrap()).collect()
    }

    fn drops(&self) -> Vec<(usize, DropReason, u64)> {
        (0..4)
            .take_while(|&node| node < usize::from(self.routers()))
            .flat_map(|node| {
                self.network
                    .engine(NodeId(node))
                    .drops()
                    .filter(|record| record.count > 0 && record.reason != DropReason::MetadataBeforeStart)
                    .map(move |record| (node, record.reason, record.count))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn routers(&self) -> u8 {
        let mut count = 0;
        while self.network.engine_exists(NodeId(usize::from(count))) {
            count += 1;
        }
        count
    }
}

fn address(ipv6: bool, site: u16) -> IpAddr {
    if ipv6 { IpAddr::from([0xfd00, site, 0, 0, 0, 0, 0, 9]) } else { IpAddr::from([10, site as u8, 0, 9]) }
}

/// Every way to protect payload.
fn protections() -> impl Iterator<Item = (Option<Suite>, bool)> {
    let always = Suite::ALL.into_iter().map(|suite| (Some(suite), false));
    [(None, false), (Some(Suite::Aes256Gcm), true)].into_iter().chain(always)
}

fn every_shape(test: impl Fn(Scene)) {
    for routers in 1..=4 {
        for ipv6 in [false, true] {
            for ipv6_waypoints in [false, true] {
                for (payload, adaptive) in protections() {
                    for udp_transform in [UdpTransform::Encrypted, UdpTransform::Always, UdpTransform::Never]
                    {
                        let encrypt = payload.is_none();
                        let fabric = Fabric {
                            routers,
                            ipv6_waypoints,
                            encrypt,
                            payload,
                            adaptive,
                            udp_transform,
                            ..Fabric::default()
                        };
                        test(Scene::new(fabric, ipv6));
                    }
                }
            }
        }
    }
}

#[test]
fn udp_echo_and_icmp_cross_in_both_directions() {
    every_shape(|mut scene| {
        let hops = scene.routers();
        for protocol in ["udp", "icmp"] {
            let (from, to) = if protocol == "udp" {
                (scene.from(5000), scene.to(53))
            } else {
                (scene.from(77), scene.to(77))
            };
            for round in 0..3u8 {
                let mut request = match protocol {
                    "udp" => Packet::udp(from, to, &[round; 40]),
                    _ => Packet::echo(from, to, &[round; 40]),
                };
                request.traffic_class = 0xb9;
                let got = scene.forward(&request);
                let expected = Packet { ttl: 64 - hops, ..request.clone() };
                assert_eq!(got, [expected], "{protocol} request {round}, drops {:?}", scene.drops());
                let answer = request.answer(&[round + 100; 60]);
                let got = scene.reverse(&answer);
                let expected = Packet { ttl: 64 - hops, ..answer };
                assert_eq!(got, [expected], "{protocol} answer {round}, drops {:?}", scene.drops());
            }
        }
        assert_eq!(scene.drops(), []);
    });
}

#[test]
fn a_tcp_connection_opens_carries_data_and_closes() {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const FIN: u8 = 1;
    every_shape(|mut scene| {
        let (from, to) = (scene.from(40_000), scene.to(80));
        let segments = [
            (true, SYN, 100, 0, &b""[..]),
            (false, SYN | ACK, 500, 101, b""),
            (true, ACK, 101, 501, b""),
            (true, ACK, 101, 501, b"GET / HTTP/1.0"),
            (false, ACK, 501, 115, b"200 OK"),
            (true, ACK | FIN, 115, 507, b""),
            (false, ACK | FIN, 507, 116, b""),
            (true, ACK, 116, 508, b""),
        ];
        for (forward, flags, sequence, acknowledgement, payload) in segments {
            let numbers = (flags, sequence, acknowledgement);
            let (source, destination) = if forward { (from, to) } else { (to, from) };
            let packet = Packet::tcp(source, destination, numbers, payload);
            let got = if forward { scene.forward(&packet) } else { scene.reverse(&packet) };
            assert_eq!(got.len(), 1, "{numbers:?}, drops {:?}", scene.drops());
            assert_eq!((got[0].tcp, &got[0].payload[..]), (numbers, payload));
        }
        let now = scene.network.clock();
        let (sessions, _) = scene.network.engine(NodeId(0)).sessions(now, &SessionFilter::default(), 0, 10);
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].state, "closing");
        assert_eq!(sessions[0].tenant.as_deref(), Some("corp"));
        scene.network.run(10_000);
        for node in 0..scene.routers() {
            let engine = scene.network.engine(NodeId(usize::from(node)));
            assert_eq!(engine.session_count(), 0);
            assert_eq!(engine.counters().value(Counter::SessionsClosed), 1);
        }
        assert_eq!(scene.drops(), []);
    });
}

#[test]
fn after_the_handshake_packets_are_as_long_as_the_originals() {
    let mut scene = Scene::new(Fabric { routers: 3, ..Fabric::default() }, false);
    let request = Packet::udp(scene.from(5000), scene.to(53), &[1; 200]);
    scene.forward(&request);
    scene.reverse(&request.answer(&[2; 200]));
    scene.forward(&request);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    scene.network.set_tap(Box::new(move |_, packet| {
        if !packet.windows(8).any(|w| w == fairway_wire::svr::COOKIE) {
            log.borrow_mut().push(packet.len());
        }
    }));
    scene.forward(&request);
    scene.reverse(&request.answer(&[2; 200]));
    assert_eq!(*seen.borrow(), [228; 4]);
}

#[test]
fn a_tenant_without_access_gets_nothing() {
    let mut network = Network::new(Fabric::default(), 1);
    let guest = network.add_host(NodeId(0), GUEST, &[address(false, 1)]);
    let server = network.add_host(NodeId(1), LAN, &[address(false, 2)]);
    let from = SocketAddr::new(address(false, 1), 5000);
    network.send(guest, Packet::udp(from, SocketAddr::new(address(false, 2), 53), b"x").bytes());
    network.run(1000);
    assert!(network.receive(server).is_empty());
    let denied: Vec<_> = network
        .engine(NodeId(0))
        .drops()
        .filter(|record| record.count > 0 && record.reason != DropReason::MetadataBeforeStart)
        .collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].reason, DropReason::AccessDenied);
}

#[test]
fn a_restarted_transit_router_gets_its_sessions_back_without_host_traffic() {
    let mut scene = Scene::new(Fabric { routers: 3, ..Fabric::default() }, false);
    let request = Packet::udp(scene.from(5000), scene.to(53), &[1; 200]);
    scene.forward(&request);
    scene.reverse(&request.answer(&[2; 200]));
    scene.forward(&request);
    scene.network.restart(NodeId(1));
    assert_eq!(scene.network.engine(NodeId(1)).session_count(), 0);
    scene.network.run(4000);
    assert_eq!(scene.network.engine(NodeId(1)).session_count(), 1, "{:?}", scene.drops());
    // The server speaks first after the restart.
    let got = scene.reverse(&request.answer(&[3; 200]));
    assert_eq!(got.len(), 1, "{:?}", scene.drops());
    assert_eq!(scene.forward(&request).len(), 1);
}

#[test]
fn one_way_traffic_stops_carrying_metadata() {
    let mut scene = Scene::new(Fabric { routers: 3, ..Fabric::default() }, false);
    let packet = Packet::udp(scene.from(5000), scene.to(514), &[1; 100]);
    for _ in 0..10 {
        assert_eq!(scene.forward(&packet).len(), 1);
    }
    let before = scene.network.engine(NodeId(0)).counters().value(Counter::MetadataSent);
    for _ in 0..10 {
        assert_eq!(scene.forward(&packet).len(), 1);
    }
    assert_eq!(scene.network.engine(NodeId(0)).counters().value(Counter::MetadataSent), before);
}

#[test]
fn a_payload_that_looks_like_metadata_arrives_as_it_was_sent() {
    let mut scene = Scene::new(Fabric { routers: 3, ..Fabric::default() }, false);
    let mut payload = fairway_wire::svr::COOKIE.to_vec();
    payload.extend_from_slice(&[0x10, 12, 0, 0, 1, 2, 3]);
    for _ in 0..3 {
        let packet = Packet::udp(scene.from(5000), scene.to(53), &payload);
        let got = scene.forward(&packet);
        assert_eq!(got.len(), 1, "{:?}", scene.drops());
        assert_eq!(got[0].payload, payload);
        let got = scene.reverse(&packet.answer(&payload));
        assert_eq!(got.len(), 1, "{:?}", scene.drops());
        assert_eq!(got[0].payload, payload);
    }
    assert_eq!(scene.drops(), []);
}

#[test]
fn a_long_payload_that_looks_like_metadata_follows_the_metadata_it_has_no_room_for() {
    let mut scene = Scene::new(Fabric { routers: 3, ..Fabric::default() }, false);
    let mut payload = fairway_wire::svr::COOKIE.to_vec();
    payload.resize(1330, 7);
    let packet = Packet::udp(scene.from(5000), scene.to(53), &payload);
    for _ in 0..3 {
        let got = scene.forward(&packet);
        assert_eq!(got.len(), 1, "{:?}", scene.drops());
        assert_eq!(got[0].payload, payload);
    }
    assert!(scene.network.engine(NodeId(0)).counters().value(Counter::MetadataSentAhead) > 0);
    assert_eq!(scene.drops(), []);
}

#[test]
fn ttl_that_runs_out_on_any_router_is_reported_to_the_host() {
    for ipv6 in [false, true] {
        let mut scene = Scene::new(Fabric { routers: 3, ..Fabric::default() }, ipv6);
        for ttl in 1..=3 {
            let mut packet = Packet::udp(scene.from(5000), scene.to(33434), &[1; 20]);
            packet.ttl = 64;
            scene.forward(&packet);
            packet.ttl = ttl;
            scene.network.send(scene.client, packet.bytes());
            scene.network.run(100);
            let got = scene.network.receive(scene.client);
            assert_eq!(got.len(), 1, "ttl {ttl}, drops {:?}", scene.drops());
            let error = Packet::read(&got[0]).unwrap();
            assert_eq!(error.destination.ip(), packet.source.ip());
        }
    }
}
