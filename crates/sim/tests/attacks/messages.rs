//! Genuine-looking metadata from those who may not send it.

use std::net::{IpAddr, SocketAddr};

use fairway_sim::fabric::{BACK, LAN, NEXT};
use fairway_sim::forge::Forger;
use fairway_sim::network::shared_key;
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, NodeId, Topology};
use fairway_types::{Counter, DropReason, TenantId};
use fairway_wire::svr::{Context, Control, HeaderTlvs, PayloadTlvs};

use crate::scene::{CLIENT, SERVER, Scene, UUID, WAYPOINTS, carry_from, forward_tlvs};

const PORTS: (u16, u16) = (20_000, 30_001);

#[test]
fn a_forged_offer_with_the_right_key_is_what_the_attacks_start_from() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect(&[], |scene| scene.inject(offer));
    let got = scene.network.receive(scene.server);
    assert_eq!(got.len(), 1);
    let packet = Packet::read(&got[0]).unwrap();
    assert_eq!((packet.source, packet.destination.ip()), (SocketAddr::new(CLIENT, 6000), SERVER));
    assert_eq!(packet.payload, [0x83; 24]);
}

#[test]
fn a_good_key_from_an_unknown_address_is_refused() {
    let mut scene = Scene::new();
    let message = scene.forger.header();
    let message = scene.forger.seal(&message, &forward_tlvs(), &[1], scene.unix());
    let stranger = IpAddr::from([192, 0, 0, 77]);
    let packet = carry_from(stranger, PORTS, &message);
    scene.expect_nothing_but(&[(1, DropReason::PeerAddressMismatch, 1)], |scene| scene.inject(packet));
}

#[test]
fn a_peer_that_uses_the_address_of_another_is_refused() {
    let mut scene = Scene::with(Topology::chain(&Fabric { routers: 3, ..Fabric::default() }));
    let mut other = Forger::new(&shared_key("r2", "r1"), "r2", "r1", [3; 16]);
    let message = other.header();
    let message = other.seal(&message, &forward_tlvs(), &[1], scene.unix());
    let packet = carry_from(WAYPOINTS.0, PORTS, &message);
    scene.expect_nothing_but(&[(1, DropReason::PeerAddressMismatch, 1)], |scene| scene.inject(packet));
    // The right addresses on the wrong interface.
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect_nothing_but(&[(1, DropReason::PeerAddressMismatch, 1)], |scene| {
        scene.network.inject(NodeId(1), NEXT, offer);
    });
}

#[test]
fn an_unknown_security_id_is_refused() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |header, _| header.security_id = Some(0x0102_0304));
    scene.expect_nothing_but(&[(1, DropReason::UnknownSecurityId, 1)], |scene| scene.inject(offer));
}

#[test]
fn a_wrong_key_or_time_is_a_bad_tag() {
    let mut scene = Scene::new();
    let mut wrong = Forger::new(&shared_key("r0", "somebody"), "r0", "r1", [9; 16]);
    let header = wrong.header();
    let unix = scene.unix();
    let message = scene.carry(PORTS, &wrong.seal(&header, &forward_tlvs(), &[1], unix));
    scene.expect_nothing_but(&[(1, DropReason::BadTag, 1)], |scene| scene.inject(message));
    for time in [unix - 6, unix + 6] {
        let header = scene.forger.header();
        let message = scene.carry(PORTS, &scene.forger.seal(&header, &forward_tlvs(), &[1], time));
        scene.expect_nothing_but(&[(1, DropReason::BadTag, 1)], |scene| scene.inject(message));
    }
}

#[test]
fn unknown_salts_are_tried_only_so_often_and_genuine_ones_work_on() {
    let mut scene = Scene::new();
    scene.establish(5000);
    let packets: Vec<_> = (0..400u16)
        .map(|n| {
            let salt = [n as u8, (n >> 8) as u8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
            let mut wrong = Forger::new(&shared_key("r0", "somebody"), "r0", "r1", salt);
            let header = wrong.header();
            scene.carry(PORTS, &wrong.seal(&header, &forward_tlvs(), &[1], scene.unix()))
        })
        .collect();
    scene.expect_nothing_but(&[(1, DropReason::BadTag, 400)], |scene| {
        for packet in packets {
            scene.network.inject(NodeId(1), BACK, packet);
        }
    });
    scene.assert_alive(5000);
    scene.assert_alive(5001);
}

#[test]
fn a_peer_claims_only_tenants_it_may() {
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[1].peers[0].tenants = Some(vec![TenantId(0)]);
    let mut scene = Scene::with(topology);
    for (tenant, reason) in [
        (Some("guest"), DropReason::TenantNotAllowed),
        (Some("nobody"), DropReason::UnknownTenant),
        (None, DropReason::NoTenant),
    ] {
        let offer = scene.offer(PORTS, |_, tlvs| tlvs.tenant = tenant);
        scene.expect_nothing_but(&[(1, reason, 1)], |scene| scene.inject(offer));
    }
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect(&[], |scene| scene.inject(offer));
}

#[test]
fn the_egress_authorises_again() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |_, tlvs| tlvs.tenant = Some("guest"));
    scene.expect_nothing_but(&[(1, DropReason::AccessDenied, 1)], |scene| scene.inject(offer));
    let context = |source: [u8; 4], destination: [u8; 4], protocol| Context {
        source: SocketAddr::from((source, 6000)),
        destination: SocketAddr::from((destination, 53)),
        protocol,
    };
    for (context, reason) in [
        (context([10, 1, 0, 9], [10, 3, 0, 9], 17), DropReason::NoService),
        (context([10, 1, 0, 9], [224, 0, 0, 1], 17), DropReason::MartianAddress),
        (context([127, 0, 0, 1], [10, 2, 0, 9], 17), DropReason::MartianAddress),
        (context([10, 1, 0, 9], [10, 2, 0, 9], 6), DropReason::TlvValue),
    ] {
        let offer = scene.offer(PORTS, |_, tlvs| tlvs.forward = Some(context));
        scene.expect_nothing_but(&[(1, reason, 1)], |scene| scene.inject(offer));
    }
}

#[test]
fn a_peer_cannot_send_sessions_back_where_they_lead() {
    let mut scene = Scene::with(Topology::chain(&Fabric { routers: 3, ..Fabric::default() }));
    let mut last = Forger::new(&shared_key("r2", "r1"), "r2", "r1", [3; 16]);
    let header = last.header();
    let message = last.seal(&header, &forward_tlvs(), &[1], scene.unix());
    let (from, to) = (IpAddr::from([192, 0, 1, 2]), IpAddr::from([192, 0, 1, 1]));
    let packet = Packet::udp(SocketAddr::new(from, 20_000), SocketAddr::new(to, 30_001), &message);
    scene.expect_nothing_but(&[(1, DropReason::RouteLoop, 1)], |scene| {
        scene.network.inject(NodeId(1), NEXT, packet.bytes());
    });
}

#[test]
fn metadata_from_hosts_is_never_read() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect_nothing_but(&[(1, DropReason::MetadataUnexpected, 1)], |scene| {
        scene.network.inject(NodeId(1), LAN, offer);
    });
}

#[test]
fn a_tuple_of_another_session_is_not_taken_over() {
    let mut scene = Scene::with(Topology::chain(&Fabric { routers: 3, ..Fabric::default() }));
    scene.establish(6000);
    // The same addresses and ports, from another ingress router.
    let mut forger = Forger::new(&shared_key("r1", "r2"), "r1", "r2", [4; 16]);
    let header = forger.header();
    let tlvs = PayloadTlvs { source_router: Some("elsewhere"), ..forward_tlvs() };
    let message = forger.seal(&header, &tlvs, &[1], scene.unix());
    let (from, to) = (IpAddr::from([192, 0, 1, 1]), IpAddr::from([192, 0, 1, 2]));
    let packet = Packet::udp(SocketAddr::new(from, 20_000), SocketAddr::new(to, 30_001), &message);
    scene.expect_nothing_but(&[(2, DropReason::TupleInUse, 1)], |scene| {
        scene.network.inject(NodeId(2), BACK, packet.bytes());
    });
    scene.assert_alive(6000);
}

#[test]
fn reverse_metadata_for_a_session_of_the_other_direction_is_refused() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect(&[], |scene| scene.inject(offer));
    assert_eq!(scene.network.receive(scene.server).len(), 1);
    let reverse = scene.offer(PORTS, |_, tlvs| tlvs.reverse = tlvs.forward.take());
    scene.expect_nothing_but(&[(1, DropReason::WrongDirection, 1)], |scene| scene.inject(reverse));
}

#[test]
fn a_signed_message_about_nothing_known_is_answered_with_a_question() {
    let mut scene = Scene::new();
    let asked = scene.counter(1, Counter::ControlSent);
    let message = scene.offer(PORTS, |_, tlvs| {
        *tlvs = PayloadTlvs { uuid: Some(UUID), ..PayloadTlvs::default() };
    });
    scene.expect_nothing_but(&[(1, DropReason::UnknownWaypoint, 1)], |scene| scene.inject(message));
    assert_eq!(scene.counter(1, Counter::ControlSent), asked + 1);
}

#[test]
fn control_messages_end_only_the_session_they_name() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect(&[], |scene| scene.inject(offer));
    let delete = |uuid: [u8; 16]| {
        move |header: &mut HeaderTlvs, tlvs: &mut PayloadTlvs| {
            header.control = Some(Control::DeleteSession);
            *tlvs = PayloadTlvs { uuid: Some(uuid), ..PayloadTlvs::default() };
        }
    };
    let other = scene.offer(PORTS, delete([1; 16]));
    scene.expect(&[], |scene| scene.inject(other));
    assert_eq!(scene.sessions(), [0, 1]);
    let right = scene.offer(PORTS, delete(UUID));
    scene.expect(&[], |scene| scene.inject(right));
    assert_eq!(scene.sessions(), [0, 0]);
}

#[test]
fn a_scan_of_the_waypoint_range_finds_nothing() {
    let mut scene = Scene::new();
    scene.establish(5000);
    let emitted = scene.counter(1, Counter::ControlSent);
    let ports: Vec<u16> = (16_384..=65_534).step_by(61).collect();
    let count = ports.len() as u64 * 2;
    scene.expect_nothing_but(&[(1, DropReason::UnknownWaypoint, count)], |scene| {
        for port in ports {
            let (from, to) = (SocketAddr::new(WAYPOINTS.0, 40_000), SocketAddr::new(WAYPOINTS.1, port));
            scene.network.inject(NodeId(1), BACK, Packet::udp(from, to, b"hello").bytes());
            scene.network.inject(NodeId(1), BACK, Packet::tcp(from, to, (2, 1, 0), b"").bytes());
        }
    });
    assert_eq!(scene.counter(1, Counter::ControlSent), emitted);
    scene.assert_alive(5000);
}

#[test]
fn first_packets_are_verified_at_a_limited_rate() {
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[1].limits.first_packets = 100;
    let mut scene = Scene::with(topology);
    let offers: Vec<_> = (0..50u16)
        .map(|n| {
            scene.offer((20_000 + 2 * n, 30_001), |_, tlvs| {
                tlvs.uuid = Some([n as u8; 16]);
                let source = SocketAddr::new(CLIENT, 7000 + n);
                tlvs.forward = tlvs.forward.map(|context| Context { source, ..context });
            })
        })
        .collect();
    let before = scene.network.books(NodeId(1));
    for offer in offers {
        scene.network.inject(NodeId(1), BACK, offer);
    }
    scene.network.run(5);
    let dropped = scene.network.books(NodeId(1)).dropped_since(&before);
    let sessions = scene.sessions()[1] as u64;
    assert_eq!(dropped, [(DropReason::RateLimited, 50 - sessions)]);
    assert!((9..=11).contains(&sessions), "{sessions}");
}

#[test]
fn forged_peer_messages_change_nothing() {
    let mut scene = Scene::new();
    scene.seen.borrow_mut().clear();
    scene.network.run(2000);
    let seen = scene.seen.borrow().clone();
    let bfd = seen.iter().find(|(node, packet)| *node == NodeId(0) && crate::scene::is_bfd(packet));
    let bfd = bfd.unwrap().1.clone();
    let payload = crate::scene::payload(&bfd);
    let mut changed = payload.clone();
    *changed.last_mut().unwrap() ^= 1;
    let changed = crate::scene::with_payload(&bfd, &changed);
    scene.expect_nothing_but(&[(1, DropReason::BadTag, 1)], |scene| scene.inject(changed));
    let cut = crate::scene::with_payload(&bfd, &payload[..10]);
    scene.expect_nothing_but(&[(1, DropReason::MetadataTruncated, 1)], |scene| scene.inject(cut));
    scene.network.run(4000);
    assert!(scene.network.engine(NodeId(1)).peer_paths().all(|path| path.up));
}
