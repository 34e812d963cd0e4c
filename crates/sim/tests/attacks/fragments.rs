//! Fragments of hosts and pieces of peers that contradict each other, never end, or come again: nothing
//! is delivered, no session suffers, and the counter that says so is the only one that moves.

use fairway_sim::fabric::NEXT;
use fairway_sim::forge::Forger;
use fairway_sim::fragments::{cut, join};
use fairway_sim::network::shared_key;
use fairway_sim::packet::{IcmpError, Packet};
use fairway_sim::{Fabric, NodeId, Topology};
use fairway_types::{Counter, DropReason, Suite};
use fairway_wire::checksum;
use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::Version;
use fairway_wire::svr::{Fragment, HeaderTlvs, PayloadTlvs};

use crate::scene::{Scene, is_bfd, payload, with_payload};

const OVERLAP: DropReason = DropReason::FragmentOverlap;
const MALFORMED: DropReason = DropReason::FragmentMalformed;
const TIMEOUT: DropReason = DropReason::FragmentTimeout;
const MTU: usize = 1500;
const STRANGER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 66));

/// A session, with a payload that is protected or not.
fn scene(payload: Option<Suite>) -> Scene {
    let mut scene = Scene::with(Topology::chain(&Fabric { payload, ..Fabric::default() }));
    scene.establish(5000);
    scene
}

/// A datagram of the session that is too long for one packet.
fn datagram(scene: &Scene, length: usize) -> Packet {
    Packet { payload: (0..length).map(|at| (at * 3) as u8).collect(), ..scene.request(5000) }
}

/// An IPv4 fragment: bytes of a packet from an offset behind its header.
fn fragment(packet: &[u8], id: u16, range: std::ops::Range<usize>, more: bool) -> Vec<u8> {
    let mut bytes = packet[..20].to_vec();
    let length = (20 + range.len()) as u16;
    let word = (range.start / 8) as u16 | u16::from(more) << 13;
    bytes.extend_from_slice(&packet[20..][range]);
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes[6..8].copy_from_slice(&word.to_be_bytes());
    mend(&mut bytes);
    bytes
}

fn mend(packet: &mut [u8]) {
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = !checksum::fold(checksum::sum(&packet[..20]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// A datagram in fragments crosses.
fn assert_datagram_crosses(scene: &mut Scene, id: u32) {
    let packet = datagram(scene, 4000);
    for fragment in cut(&packet.bytes(), MTU, id) {
        scene.network.send(scene.client, fragment);
    }
    scene.network.run(50);
    let got = join(&scene.network.receive(scene.server));
    assert_eq!(got.len(), 1);
    assert_eq!(Packet::read(&got[0]).unwrap().payload, packet.payload);
}

#[test]
fn fragments_that_overlap_are_refused() {
    let mut scene = scene(None);
    let packet = datagram(&scene, 3000).bytes();
    let other = datagram(&scene, 2999).bytes();
    // The end of the first again; a part within it; all of it, changed; with other ends.
    for (number, (start, end, more)) in
        [(792, 1600, true), (80, 160, true), (0, 800, true), (400, 500, false), (8, 3008, false)]
            .into_iter()
            .enumerate()
    {
        let id = 100 + number as u16;
        scene.expect_nothing_but(&[(0, OVERLAP, 3)], |scene| {
            scene.network.send(scene.client, fragment(&packet, id, 0..800, true));
            scene.network.send(scene.client, fragment(&other, id, start..end.min(other.len() - 20), more));
            // The genuine rest does not help.
            scene.network.send(scene.client, fragment(&packet, id, 800..packet.len() - 20, false));
        });
    }
    scene.assert_alive(5000);
    assert_datagram_crosses(&mut scene, 200);
    // When its time is over, the same name is another packet's.
    scene.network.run(15_000);
    assert_datagram_crosses(&mut scene, 100);
}

#[test]
fn a_copy_of_a_fragment_is_no_overlap() {
    let mut scene = scene(None);
    let packet = datagram(&scene, 4000);
    scene.expect(&[], |scene| {
        let fragments = cut(&packet.bytes(), MTU, 7);
        for fragment in fragments[1..].iter().rev().chain(&fragments[1..]).chain(&fragments[..1]) {
            scene.network.send(scene.client, fragment.clone());
        }
    });
    let got = join(&scene.network.receive(scene.server));
    assert_eq!(got.len(), 1);
    assert_eq!(Packet::read(&got[0]).unwrap().payload, packet.payload);
}

#[test]
fn fragments_that_never_end_are_dropped_when_their_time_is_over() {
    let mut scene = scene(None);
    let packet = datagram(&scene, 4000).bytes();
    let fragments = cut(&packet, MTU, 7);
    scene.expect_nothing_but(&[], |scene| {
        fragments[1..].iter().for_each(|fragment| scene.network.send(scene.client, fragment.clone()));
    });
    scene.assert_alive(5000);
    assert_datagram_crosses(&mut scene, 8);
    scene.expect_nothing_but(&[(0, TIMEOUT, 2)], |scene| scene.network.run(15_000));
    // The first comes too late to be of use.
    scene.expect_nothing_but(&[], |scene| scene.network.send(scene.client, fragments[0].clone()));
    scene.assert_alive(5000);
}

#[test]
fn a_flood_of_fragments_that_never_end_drives_out_itself_only() {
    let mut scene = scene(None);
    let packet = datagram(&scene, 4000).bytes();
    let victim = cut(&datagram(&scene, 4000).bytes(), MTU, 0xffff);
    let before = scene.network.books(NodeId(0));
    for id in 0..5000u16 {
        scene.network.send(scene.guest, fragment(&packet, id, 1480..2960, true));
        scene.network.send(scene.client, fragment(&packet, id, 1480..2960, true));
        if id % 100 == 0 {
            scene.network.run(1);
            victim.iter().for_each(|fragment| scene.network.send(scene.client, fragment.clone()));
        }
    }
    scene.network.run(50);
    assert_eq!(join(&scene.network.receive(scene.server)).len(), 50, "every datagram of the victim");
    let moved = scene.network.books(NodeId(0)).dropped_since(&before);
    let [(DropReason::FragmentEvicted, evicted)] = moved[..] else { panic!("{moved:?}") };
    scene.assert_alive(5000);
    scene.expect_nothing_but(&[(0, TIMEOUT, 10_000 - evicted)], |scene| scene.network.run(15_000));
    assert!(10_000 - evicted < 2 * (1 << 20) / 1480);
    assert!(scene.network.engine(NodeId(0)).poll_timeout().is_some());
}

#[test]
fn impossible_fragments_are_refused_alone() {
    let mut scene = scene(None);
    let packet = datagram(&scene, 4000).bytes();
    let mut beyond = fragment(&packet, 7, 0..800, false);
    beyond[6..8].copy_from_slice(&0x1fffu16.to_be_bytes());
    mend(&mut beyond);
    let odd = fragment(&packet, 7, 800..1601, true);
    let empty = fragment(&packet, 7, 800..800, false);
    for (bytes, reason) in [
        (beyond, MALFORMED),
        (odd, MALFORMED),
        (empty, MALFORMED),
        // So short that the transport header is not whole.
        (fragment(&packet, 7, 0..4, true), DropReason::MalformedTransport),
    ] {
        scene.expect_nothing_but(&[(0, reason, 1)], |scene| scene.network.send(scene.client, bytes));
    }
    assert_datagram_crosses(&mut scene, 7);
    // More than 64, in order.
    let long = datagram(&scene, 4000).bytes();
    scene.expect_nothing_but(&[(0, DropReason::FragmentLimit, 66)], |scene| {
        for number in 0..66 {
            let start = number * 16;
            scene.network.send(scene.client, fragment(&long, 9, start..start + 16, true));
        }
    });
    scene.assert_alive(5000);
}

#[test]
fn fragments_of_ipv6_fragments_are_refused() {
    let mut scene = scene(None);
    // A packet whose fragment header, once taken out, shows another one.
    let mut whole = vec![0x60, 0, 0, 0, 0, 0, 44, 64];
    whole.extend_from_slice(&[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    whole.extend_from_slice(&[0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    let part = |offset: u16, more: u16, data: &[u8]| {
        let mut packet = whole.clone();
        packet.extend_from_slice(&[44, 0]);
        packet.extend_from_slice(&(offset | more).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 7]);
        packet.extend_from_slice(data);
        let length = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet
    };
    let inner = [&[17, 0, 0, 1, 0, 0, 0, 8][..], &[0x13, 0x88, 0, 53, 0, 24, 0, 0]].concat();
    scene.expect_nothing_but(&[(0, MALFORMED, 1)], |scene| {
        scene.network.send(scene.client, part(0, 1, &inner));
        scene.network.send(scene.client, part(16, 0, &[1; 16]));
    });
}

/// The pieces of a long datagram as the first router sends them; they do not arrive.
fn intercept_pieces(scene: &mut Scene, port: u16, length: usize) -> Vec<Vec<u8>> {
    let packet = Packet { payload: vec![0x55; length], ..scene.request(port) };
    scene.network.set_cut(0, true);
    scene.seen.borrow_mut().clear();
    for fragment in cut(&packet.bytes(), MTU, u32::from(port) + length as u32) {
        scene.network.send(scene.client, fragment);
    }
    scene.network.run(2);
    scene.network.set_cut(0, false);
    let seen = scene.seen.borrow();
    let pieces = seen.iter().filter(|(node, packet)| *node == NodeId(0) && !is_bfd(packet));
    pieces.map(|(_, packet)| packet.clone()).collect()
}

fn delivered(scene: &mut Scene) -> usize {
    join(&scene.network.receive(scene.server)).len()
}

#[test]
fn pieces_are_of_use_once_whatever_their_order() {
    for suite in [None, Some(Suite::Aes256Gcm)] {
        let mut scene = scene(suite);
        let pieces = intercept_pieces(&mut scene, 5000, 4000);
        assert_eq!(pieces.len(), 3);
        scene.expect(&[], |scene| [2, 0, 1].into_iter().for_each(|at| scene.inject(pieces[at].clone())));
        assert_eq!(delivered(&mut scene), 1);
        for piece in &pieces {
            scene.expect_nothing_but(&[(1, DropReason::MetadataReplayed, 1)], |scene| {
                scene.inject(piece.clone());
            });
        }
        scene.assert_alive(5000);
    }
}

#[test]
fn every_flipped_bit_of_a_piece_is_refused_and_the_genuine_piece_is_not() {
    let mut scene = scene(Some(Suite::Aes256Gcm));
    let pieces = intercept_pieces(&mut scene, 5000, 1600);
    let [first, last] = &pieces[..] else { panic!("{} pieces", pieces.len()) };
    scene.expect_nothing_but(&[], |scene| scene.inject(first.clone()));
    let content = payload(last);
    for bit in (0..content.len() * 8).step_by(11) {
        let mut changed = content.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let before = scene.network.books(NodeId(1));
        scene.inject(with_payload(last, &changed));
        let moved = scene.network.books(NodeId(1)).dropped_since(&before);
        assert!(matches!(&moved[..], [(_, 1)]), "{bit}: {moved:?}");
        assert_eq!(delivered(&mut scene), 0, "{bit}");
    }
    scene.expect(&[], |scene| scene.inject(last.clone()));
    assert_eq!(delivered(&mut scene), 1);
    scene.assert_alive(5000);
}

/// The waypoint ports of a session.
fn ports(scene: &mut Scene, port: u16) -> (u16, u16) {
    let packet = scene.intercept(&scene.request(port));
    let packet = Packet::read(&packet).unwrap();
    (packet.source.port(), packet.destination.port())
}

/// A piece in the name of the first router.
fn forged(scene: &mut Scene, ports: (u16, u16), piece: Fragment, data: &[u8]) -> Vec<u8> {
    let header = HeaderTlvs { fragment: Some(piece), ..scene.forger.header() };
    let message = scene.forger.seal(&header, &PayloadTlvs::default(), data, scene.unix());
    scene.carry(ports, &message)
}

fn piece(id: u32, offset: usize, more: bool) -> Fragment {
    Fragment { extended_id: id, more_fragments: more, offset: (offset / 8) as u16, ..Fragment::default() }
}

#[test]
fn pieces_of_a_peer_that_overlap_or_never_end_harm_nobody() {
    let mut scene = scene(None);
    let ports = ports(&mut scene, 5000);
    for (id, (offset, more)) in [(8, true), (0, true), (0, false), (8, false)].into_iter().enumerate() {
        scene.expect_nothing_but(&[(1, OVERLAP, 3)], |scene| {
            let first = forged(scene, ports, piece(id as u32, 0, true), &[1; 16]);
            scene.inject(first);
            let overlap = forged(scene, ports, piece(id as u32, offset, more), &[2; 16]);
            scene.inject(overlap);
            let rest = forged(scene, ports, piece(id as u32, 16, false), &[3; 5]);
            scene.inject(rest);
        });
        scene.assert_alive(5000);
    }
    for (piece, data) in [
        (piece(20, 0, true), &[1; 7][..]),
        (piece(20, 8, false), &[]),
        (piece(20, 0x1fff * 8, false), &[1; 100]),
    ] {
        scene.expect_nothing_but(&[(1, MALFORMED, 1)], |scene| {
            let piece = forged(scene, ports, piece, data);
            scene.inject(piece);
        });
    }
    scene.expect_nothing_but(&[], |scene| {
        let first = forged(scene, ports, piece(30, 0, true), &[1; 16]);
        scene.inject(first);
    });
    scene.expect_nothing_but(&[(1, TIMEOUT, 1)], |scene| scene.network.run(15_000));
    scene.assert_alive(5000);
}

/// A peer that fills its share takes nothing from what hosts, or other peers, send.
#[test]
fn a_flood_of_pieces_drives_out_itself_only() {
    let mut scene = Scene::with(Topology::chain(&Fabric { routers: 3, ..Fabric::default() }));
    scene.establish(5000);
    let ports = ports(&mut scene, 5000);
    // A piece of the third router waits at the second.
    let mut back = Forger::new(&shared_key("r2", "r1"), "r2", "r1", [8; 16]);
    let header = HeaderTlvs { fragment: Some(piece(1, 0, true)), ..back.header() };
    let message = back.seal(&header, &PayloadTlvs::default(), &[1; 16], scene.unix());
    scene.seen.borrow_mut().clear();
    scene.assert_alive(5000);
    let answer = {
        let seen = scene.seen.borrow();
        let mut answers = seen.iter().filter(|(node, packet)| *node == NodeId(2) && !is_bfd(packet));
        Packet::read(&answers.next_back().unwrap().1).unwrap()
    };
    let waiting = Packet { payload: message, ..answer.clone() }.bytes();
    let before = scene.network.books(NodeId(1));
    scene.network.inject(NodeId(1), NEXT, waiting);
    for id in 0..2000 {
        let flood = forged(&mut scene, ports, piece(id, 0, true), &[1; 1368]);
        scene.inject(flood);
    }
    let moved = scene.network.books(NodeId(1)).dropped_since(&before);
    assert!(matches!(&moved[..], [(DropReason::FragmentEvicted, 1000..)]), "{moved:?}");
    let header = HeaderTlvs { fragment: Some(piece(1, 16, false)), ..back.header() };
    let message = back.seal(&header, &PayloadTlvs::default(), &[2; 16], scene.unix());
    let rest = Packet { payload: message, ..answer }.bytes();
    scene.network.inject(NodeId(1), NEXT, rest);
    scene.network.run(30);
    let got = scene.network.receive(scene.client);
    assert_eq!(got.len(), 1, "{:?}", scene.network.books(NodeId(1)).dropped_since(&before));
    assert_eq!(Packet::read(&got[0]).unwrap().payload, [[1; 16], [2; 16]].concat());
    scene.assert_alive(5000);
}

/// Outer ports are not signed: somebody on the way can send a piece as another session's.
#[test]
fn a_piece_of_one_session_completes_nothing_in_another() {
    for suite in [None, Some(Suite::Aes256Gcm)] {
        let mut scene = scene(suite);
        scene.establish(5001);
        let other = ports(&mut scene, 5001);
        let redirect = |piece: &[u8]| {
            let mut packet = Packet::read(piece).unwrap();
            packet.source.set_port(other.0);
            packet.destination.set_port(other.1);
            packet.bytes()
        };
        let pieces = intercept_pieces(&mut scene, 5000, 4000);
        let mine = intercept_pieces(&mut scene, 5001, 4008);
        assert_eq!((pieces.len(), mine.len()), (3, 3));
        scene.expect_nothing_but(&[], |scene| {
            scene.inject(redirect(&pieces[0]));
            scene.inject(pieces[1].clone());
            scene.inject(pieces[2].clone());
        });
        // The other session's own packet is not touched by what was put beside it.
        scene.expect(&[], |scene| mine.iter().for_each(|piece| scene.inject(piece.clone())));
        assert_eq!(delivered(&mut scene), 1);
        scene.expect_nothing_but(&[(1, TIMEOUT, 3)], |scene| scene.network.run(15_000));
        // All of them, in the other session: what is sealed does not open there.
        if suite.is_some() {
            scene.establish(5000);
            scene.establish(5001);
            let other = ports(&mut scene, 5001);
            let pieces = intercept_pieces(&mut scene, 5000, 4000);
            scene.expect_nothing_but(&[(1, DropReason::PayloadForged, 1)], |scene| {
                for piece in &pieces {
                    let mut packet = Packet::read(piece).unwrap();
                    packet.source.set_port(other.0);
                    packet.destination.set_port(other.1);
                    scene.inject(packet.bytes());
                }
            });
        }
        scene.assert_alive(5000);
        scene.assert_alive(5001);
    }
}

/// Somebody who sees a session between routers says that its packets are too big for anything.
#[test]
fn a_forged_mtu_costs_pieces_and_nothing_else() {
    for suite in [None, Some(Suite::Aes256Gcm)] {
        let mut scene = scene(suite);
        let seen = scene.intercept(&scene.request(5000));
        let strange = {
            let packet = Packet::read(&seen).unwrap();
            Packet { source: (packet.source.ip(), 1).into(), ..packet }.bytes()
        };
        let forge =
            |about: &[u8], mtu: u16| IcmpError::bytes(STRANGER, about, &ErrorRepr::too_big(Version::V4, mtu));
        scene.expect_nothing_but(&[(0, DropReason::IcmpErrorUnmatched, 1)], |scene| {
            scene.network.inject(NodeId(0), NEXT, forge(&strange, 100));
        });
        assert_eq!(scene.counter(0, Counter::PathMtusLowered), 0);
        for mtu in [0, 68, 100, 1200, 9000] {
            scene.expect(&[], |scene| scene.network.inject(NodeId(0), NEXT, forge(&seen, mtu)));
            scene.network.receive(scene.client);
            assert_datagram_crosses(&mut scene, 500 + u32::from(mtu));
            scene.assert_alive(5000);
        }
        assert_eq!(scene.counter(0, Counter::PathMtusLowered), 1);
        let seen = scene.seen.borrow();
        let longest =
            seen.iter().filter(|(node, _)| *node == NodeId(0)).map(|(_, packet)| packet.len()).max();
        assert!((570..=576).contains(&longest.unwrap()), "{longest:?}");
    }
}

/// A piece for ports that no session uses tells its sender so, and is not kept.
#[test]
fn a_piece_of_no_session_is_not_kept() {
    let mut scene = scene(None);
    let before = scene.counter(1, Counter::FragmentsHeld);
    scene.expect(&[(1, DropReason::UnknownWaypoint, 1)], |scene| {
        let stray = forged(scene, (40_000, 40_001), piece(1, 0, true), &[1; 16]);
        scene.inject(stray);
    });
    assert_eq!(scene.counter(1, Counter::FragmentsHeld), before);
    scene.assert_alive(5000);
}
