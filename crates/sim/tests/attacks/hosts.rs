//! What hosts send that they should not, and what they get to see of it.

use std::net::SocketAddr;

use fairway_sim::fabric::{GUEST, LAN};
use fairway_sim::packet::{IcmpError, Packet};
use fairway_sim::{Fabric, NodeId, Topology};
use fairway_types::model::{DeniedResponse, MidFlow};
use fairway_types::{Counter, DropReason};
use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::Version;

use crate::scene::{CLIENT, GUESTS, SERVER, Scene};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn guests_request(protocol: u8) -> Packet {
    let (from, to) = (SocketAddr::new(GUESTS, 5000), SocketAddr::new(SERVER, 80));
    match protocol {
        6 => Packet::tcp(from, to, (SYN, 7, 0), b""),
        17 => Packet::udp(from, to, b"x"),
        _ => Packet::echo(SocketAddr::new(GUESTS, 9), SocketAddr::new(SERVER, 9), b"x"),
    }
}

#[test]
fn a_denied_host_sees_what_its_interface_says() {
    for (setting, protocol, resets) in [
        (DeniedResponse::Silent, 6, None),
        (DeniedResponse::Silent, 17, None),
        (DeniedResponse::Reset, 6, Some(true)),
        (DeniedResponse::Reset, 17, Some(false)),
        (DeniedResponse::Prohibited, 6, Some(false)),
        (DeniedResponse::Prohibited, 17, Some(false)),
        (DeniedResponse::Prohibited, 1, Some(false)),
    ] {
        let mut topology = Topology::chain(&Fabric::default());
        topology.models[0].interfaces[GUEST.index()].denied = setting;
        let mut scene = Scene::with(topology);
        scene.expect(&[(0, DropReason::AccessDenied, 1)], |scene| {
            scene.network.send(scene.guest, guests_request(protocol).bytes());
        });
        let got = scene.network.receive(scene.guest);
        assert_eq!(got.len(), usize::from(resets.is_some()), "{setting:?} {protocol}");
        assert!(scene.network.receive(scene.server).is_empty());
        assert_eq!(scene.sessions(), [0, 0]);
        match resets {
            None => {}
            Some(true) => {
                let reset = Packet::read(&got[0]).unwrap();
                assert_eq!(reset.tcp, (RST | ACK, 0, 8));
                assert_eq!((reset.source.ip(), reset.destination.ip()), (SERVER, GUESTS));
                assert_eq!(scene.counter(0, Counter::TcpResetsSent), 1);
            }
            Some(false) => {
                let error = IcmpError::read(&got[0]).unwrap();
                assert!(error.is_prohibited(), "{error:?}");
                assert_eq!(error.quoted_source.ip(), GUESTS);
                assert_eq!(scene.counter(0, Counter::IcmpErrorsSent), 1);
            }
        }
    }
}

#[test]
fn answers_to_denied_hosts_are_limited() {
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[0].interfaces[GUEST.index()].denied = DeniedResponse::Prohibited;
    topology.models[0].limits.answers = 10;
    let mut scene = Scene::with(topology);
    scene.expect(&[(0, DropReason::AccessDenied, 100)], |scene| {
        (0..100).for_each(|_| scene.network.send(scene.guest, guests_request(17).bytes()));
    });
    let got = scene.network.receive(scene.guest).len() as u64;
    assert!((9..=12).contains(&got), "{got}");
    assert_eq!(scene.counter(0, Counter::AnswersLimited), 100 - got);
}

#[test]
fn martian_addresses_are_dropped() {
    let mut scene = Scene::new();
    let packet = |from: [u8; 4], to: [u8; 4]| {
        Packet::udp(SocketAddr::from((from, 5000)), SocketAddr::from((to, 53)), b"x").bytes()
    };
    for (from, to) in [
        ([127, 0, 0, 1], [10, 2, 0, 9]),
        ([0, 0, 0, 0], [10, 2, 0, 9]),
        ([224, 0, 0, 9], [10, 2, 0, 9]),
        ([255, 255, 255, 255], [10, 2, 0, 9]),
        ([10, 1, 0, 9], [127, 0, 0, 1]),
        ([10, 1, 0, 9], [239, 1, 1, 1]),
        ([10, 1, 0, 9], [255, 255, 255, 255]),
        ([10, 1, 0, 9], [0, 0, 0, 0]),
        ([240, 0, 0, 1], [10, 2, 0, 9]),
    ] {
        let packet = packet(from, to);
        scene.expect_nothing_but(&[(0, DropReason::MartianAddress, 1)], |scene| {
            scene.network.send(scene.client, packet);
        });
    }
    let v6 = |from: &str, to: &str| {
        let end = |text: &str, port| SocketAddr::new(text.parse().unwrap(), port);
        Packet::udp(end(from, 5000), end(to, 53), b"x").bytes()
    };
    for (from, to) in
        [("::1", "fd00:2::9"), ("::", "fd00:2::9"), ("fe80::9", "fd00:2::9"), ("fd00:1::9", "ff02::1")]
    {
        let packet = v6(from, to);
        scene.expect_nothing_but(&[(0, DropReason::MartianAddress, 1)], |scene| {
            scene.network.send(scene.client, packet);
        });
    }
}

#[test]
fn icmp_errors_about_no_session_are_dropped() {
    let mut scene = Scene::new();
    scene.establish(5000);
    let error = ErrorRepr::port_unreachable(Version::V4);
    // About a packet the server never got, and about one of a session, but from the wrong side.
    let strange = Packet::udp(SocketAddr::new(CLIENT, 4999), SocketAddr::new(SERVER, 53), b"x").bytes();
    let own = scene.request(5000).bytes();
    for (node, about) in [(1, &strange), (0, &strange), (0, &own)] {
        let packet = IcmpError::bytes(SERVER, about, &error);
        scene.expect_nothing_but(&[(node, DropReason::IcmpErrorUnmatched, 1)], |scene| {
            scene.network.inject(NodeId(node), LAN, packet);
        });
    }
    // About a packet of the session, from where it went: relayed.
    let packet = IcmpError::bytes(SERVER, &own, &error);
    scene.expect(&[], |scene| scene.network.inject(NodeId(1), LAN, packet));
    let got = scene.network.receive(scene.client);
    let relayed = IcmpError::read(&got[0]).unwrap();
    assert_eq!((relayed.source, relayed.quoted_source), (SERVER, SocketAddr::new(CLIENT, 5000)));
}

#[test]
fn a_host_without_service_or_tenant_gets_nothing() {
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[0].interfaces[GUEST.index()].tenant = None;
    let mut scene = Scene::with(topology);
    let nowhere = Packet::udp(SocketAddr::new(CLIENT, 5000), SocketAddr::from(([10, 77, 0, 1], 53)), b"x");
    scene.expect_nothing_but(&[(0, DropReason::NoService, 1)], |scene| {
        scene.network.send(scene.client, nowhere.bytes());
    });
    scene.expect_nothing_but(&[(0, DropReason::NoTenant, 1)], |scene| {
        scene.network.send(scene.guest, guests_request(17).bytes());
    });
}

#[test]
fn broken_packets_are_told_apart() {
    let mut scene = Scene::new();
    let good = scene.request(5000).bytes();
    let mut checksum = good.clone();
    checksum[10] ^= 1;
    let mut version = good.clone();
    version[0] = 0x35;
    let mut length = good.clone();
    length[24..26].copy_from_slice(&[0xff, 0xff]);
    for (packet, reason) in [
        (checksum, DropReason::MalformedIp),
        (version, DropReason::MalformedIp),
        (good[..19].to_vec(), DropReason::MalformedIp),
        (length, DropReason::MalformedTransport),
        (vec![], DropReason::MalformedIp),
    ] {
        scene.expect_nothing_but(&[(0, reason, 1)], |scene| scene.network.send(scene.client, packet));
    }
    let mut last = scene.request(5001);
    last.ttl = 1;
    scene.expect(&[(0, DropReason::TtlExpired, 1)], |scene| scene.network.send(scene.client, last.bytes()));
    assert_eq!(IcmpError::read(&scene.network.receive(scene.client)[0]).unwrap().error.message_type, 11);
    assert_eq!(scene.sessions(), [0, 0]);
}

/// An open TCP connection: the client's next number is 101, the server's 501, windows 65,535.
fn open(scene: &mut Scene, port: u16) {
    let syn = scene.segment(port, (SYN, 100, 0), b"");
    assert_eq!(scene.forward(&syn).len(), 1);
    let answer = Packet { tcp: (SYN | ACK, 500, 101), ..syn.answer(b"") };
    assert_eq!(scene.reverse(&answer).len(), 1);
    let ack = scene.segment(port, (ACK, 101, 501), b"");
    assert_eq!(scene.forward(&ack).len(), 1);
    let data = Packet { tcp: (ACK, 501, 101), ..syn.answer(b"hello") };
    assert_eq!(scene.reverse(&data).len(), 1);
}

#[test]
fn a_reset_outside_the_window_is_dropped_where_it_enters() {
    let mut scene = Scene::new();
    open(&mut scene, 5000);
    for sequence in [100u32, 99, 101 + 65_535, 0x8000_0000] {
        let reset = scene.segment(5000, (RST, sequence, 0), b"");
        scene.expect_nothing_but(&[(0, DropReason::TcpResetOutsideWindow, 1)], |scene| {
            scene.network.send(scene.client, reset.bytes());
        });
    }
    let from_server = scene.segment(5000, (0, 0, 0), b"").answer(b"");
    let blind = Packet { tcp: (RST, 500, 0), ..from_server.clone() };
    scene.expect_nothing_but(&[(1, DropReason::TcpResetOutsideWindow, 1)], |scene| {
        scene.network.send(scene.server, blind.bytes());
    });
    let genuine = Packet { tcp: (RST, 506, 0), ..from_server };
    assert_eq!(scene.reverse(&genuine).len(), 1);
    scene.network.run(10_000);
    assert_eq!(scene.sessions(), [0, 0]);
    assert_eq!(scene.counter(0, Counter::SessionsClosed), 1);
}

#[test]
fn packets_in_mid_flow_meet_the_services_policy() {
    for policy in [MidFlow::Allow, MidFlow::Block, MidFlow::Reset] {
        let mut topology = Topology::chain(&Fabric::default());
        topology.models.iter_mut().for_each(|model| model.services[0].mid_flow = policy);
        let mut scene = Scene::with(topology);
        let segment = scene.segment(5000, (ACK, 1000, 2000), b"data");
        match policy {
            MidFlow::Allow => {
                scene.expect(&[], |scene| scene.network.send(scene.client, segment.bytes()));
                assert_eq!(scene.network.receive(scene.server).len(), 1);
                assert_eq!(scene.sessions(), [1, 1]);
            }
            MidFlow::Block => scene.expect_nothing_but(&[(0, DropReason::TcpMidFlow, 1)], |scene| {
                scene.network.send(scene.client, segment.bytes());
            }),
            MidFlow::Reset => {
                scene.expect(&[(0, DropReason::TcpMidFlow, 1)], |scene| {
                    scene.network.send(scene.client, segment.bytes());
                });
                let reset = Packet::read(&scene.network.receive(scene.client)[0]).unwrap();
                assert_eq!(reset.tcp, (RST, 2000, 0));
                assert_eq!(scene.sessions(), [0, 0]);
            }
        }
        // A reset never begins a session.
        let reset = scene.segment(5001, (RST, 1000, 0), b"");
        scene.expect_nothing_but(&[(0, DropReason::TcpMidFlow, 1)], |scene| {
            scene.network.send(scene.client, reset.bytes());
        });
    }
}

#[test]
fn hosts_cannot_reach_into_the_fabric() {
    let mut scene = Scene::new();
    scene.establish(5000);
    // The waypoint address of its own router, and of the next one.
    let own = Packet::udp(SocketAddr::new(CLIENT, 20_000), SocketAddr::from(([192, 0, 0, 1], 30_001)), b"x");
    scene.expect_nothing_but(&[(0, DropReason::UnknownWaypoint, 1)], |scene| {
        scene.network.send(scene.client, own.bytes());
    });
    let next = Packet::udp(SocketAddr::new(CLIENT, 20_000), SocketAddr::from(([192, 0, 0, 2], 30_001)), b"x");
    scene.expect_nothing_but(&[(0, DropReason::NoService, 1)], |scene| {
        scene.network.send(scene.client, next.bytes());
    });
    // A host's packet on the fabric interface.
    let bare = scene.request(5002).bytes();
    scene.expect_nothing_but(&[(1, DropReason::NoTenant, 1)], |scene| scene.inject(bare));
}
