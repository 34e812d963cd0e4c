//! Attacks on protected payload: whatever is done to it, nothing is delivered, the session goes on,
//! and the counter that says so is the only one that moves.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use fairway_crypto::HopKeys;
use fairway_sim::fabric::NEXT;
use fairway_sim::network::shared_key;
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, NodeId, Topology};
use fairway_types::model::UdpTransform;
use fairway_types::{DropReason, Suite};
use fairway_wire::ip;
use fairway_wire::svr::{self, Header, HeaderTlvs, PayloadTlvs};

use crate::scene::{CLIENT, SERVER, Scene, is_bfd, payload, with_payload};

const FORGED: DropReason = DropReason::PayloadForged;
const REPLAYED: DropReason = DropReason::PayloadReplayed;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const RST: u8 = 0x04;
const SYN: u8 = 0x02;
const FIN: u8 = 0x01;

fn scene(suite: Suite) -> Scene {
    Scene::with(Topology::chain(&Fabric { payload: Some(suite), ..Fabric::default() }))
}

/// A TCP connection that is open, its handshake over.
fn connect(scene: &mut Scene, port: u16) {
    assert_eq!(scene.forward(&scene.segment(port, (SYN, 100, 0), &[])).len(), 1);
    let answer =
        Packet::tcp(SocketAddr::new(SERVER, 80), SocketAddr::new(CLIENT, port), (SYN | ACK, 500, 101), &[]);
    assert_eq!(scene.reverse(&answer).len(), 1);
    assert_eq!(scene.forward(&scene.segment(port, (ACK, 101, 501), &[])).len(), 1);
    assert_eq!(scene.forward(&scene.segment(port, (ACK | PSH, 101, 501), b"data")).len(), 1);
}

fn flip(packet: &[u8], bit: usize) -> Vec<u8> {
    let mut content = payload(packet);
    content[bit / 8] ^= 1 << (bit % 8);
    with_payload(packet, &content)
}

/// Injects a packet with each of its payload's bits flipped, and the genuine one after each.
fn every_flip_is_refused(scene: &mut Scene, suite: Suite, next: impl Fn(&Scene, u32) -> Packet) {
    let bits = payload(&scene.intercept(&next(scene, 0))).len() * 8;
    for bit in 0..bits {
        let packet = next(scene, bit as u32 + 1);
        let sealed = scene.intercept(&packet);
        let forged = flip(&sealed, bit);
        let before = scene.network.books(NodeId(1));
        scene.inject(forged);
        let moved = scene.network.books(NodeId(1)).dropped_since(&before);
        // Which one depends on the bit: counter, header, or the metadata of a packet that has some.
        assert!(matches!(&moved[..], [(_, 1)]), "{suite:?} {bit}: {moved:?}");
        assert_eq!(scene.network.receive(scene.server).len(), 0, "{suite:?} bit {bit}");
        scene.expect(&[], |scene| scene.inject(sealed));
        assert_eq!(scene.network.receive(scene.server).len(), 1, "{suite:?} {bit}: the genuine one");
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_datagram_is_refused() {
    for suite in Suite::ALL {
        let mut scene = scene(suite);
        scene.establish(5000);
        every_flip_is_refused(&mut scene, suite, |scene, _| scene.request(5000));
        scene.assert_alive(5000);
    }
}

/// All of the carried header but ports and lengths is authenticated: flags, numbers, window, options.
#[test]
fn every_flipped_bit_of_a_carried_segment_is_refused() {
    for suite in Suite::ALL {
        let mut scene = scene(suite);
        connect(&mut scene, 5000);
        let next = |scene: &Scene, number: u32| {
            scene.segment(5000, (ACK | PSH, 105 + 9 * number, 501), b"more data")
        };
        every_flip_is_refused(&mut scene, suite, next);
    }
}

#[test]
fn what_was_received_once_is_refused_at_any_time() {
    for suite in Suite::ALL {
        let mut scene = scene(suite);
        scene.establish(5000);
        let sealed: Vec<_> = (0..5).map(|_| scene.intercept(&scene.request(5000))).collect();
        // In any order, each once.
        for number in [3, 0, 4, 1, 2] {
            scene.expect(&[], |scene| scene.inject(sealed[number].clone()));
            assert_eq!(scene.network.receive(scene.server).len(), 1);
        }
        for wait in [0, 100, 5000, 60_000] {
            scene.network.run(wait);
            scene.assert_alive(5000);
            for packet in &sealed {
                scene.expect_nothing_but(&[(1, REPLAYED, 1)], |scene| scene.inject(packet.clone()));
            }
        }
    }
}

/// An egress router that restarted has no memory of what it received; the keys are new ones.
#[test]
fn a_restart_of_the_egress_makes_nothing_old_new() {
    for suite in Suite::ALL {
        let mut scene = scene(suite);
        scene.establish(5000);
        let sealed: Vec<_> = (0..3).map(|_| scene.intercept(&scene.request(5000))).collect();
        scene.network.restart(NodeId(1));
        scene.network.run(12_000);
        scene.assert_alive(5000);
        for packet in &sealed {
            scene.expect_nothing_but(&[(1, FORGED, 1)], |scene| scene.inject(packet.clone()));
        }
        scene.assert_alive(5000);
    }
}

#[test]
fn payload_of_another_session_or_direction_is_refused() {
    for suite in Suite::ALL {
        let mut scene = scene(suite);
        scene.establish(5000);
        scene.establish(5001);
        let [one, other] = [5000, 5001].map(|port| scene.intercept(&scene.request(port)));
        let pasted = with_payload(&one, &payload(&other));
        scene.expect_nothing_but(&[(1, FORGED, 1)], |scene| scene.inject(pasted));
        // What the ingress sealed, back at the ingress as if it came from the egress.
        let reflected = Packet::read(&one).unwrap().answer(&payload(&one)).bytes();
        scene.expect_nothing_but(&[(0, FORGED, 1)], |scene| {
            scene.network.inject(NodeId(0), NEXT, reflected);
        });
        scene.assert_alive(5000);
        scene.assert_alive(5001);
    }
}

#[test]
fn a_stranger_can_neither_end_a_carried_connection_nor_write_into_it() {
    for suite in Suite::ALL {
        let mut scene = scene(suite);
        connect(&mut scene, 5000);
        let sealed = scene.intercept(&scene.segment(5000, (ACK | PSH, 105, 501), b"more"));
        let carried = payload(&sealed);
        for flags in [RST, RST | ACK, FIN | ACK, SYN, ACK, ACK | PSH] {
            for content in [&b""[..], b"injected"] {
                // In the window, as somebody sees it who watches the link.
                let mut segment = carried[..12].to_vec();
                segment[5] = flags;
                segment.extend_from_slice(content);
                let forged = with_payload(&sealed, &segment);
                let refused = [(1, FORGED, 1)];
                scene.expect_nothing_but(&refused, |scene| scene.inject(forged));
            }
        }
        scene.expect(&[], |scene| scene.inject(sealed));
        assert_eq!(scene.network.receive(scene.server).len(), 1);
        assert_eq!(scene.forward(&scene.segment(5000, (ACK | PSH, 109, 501), b"end")).len(), 1);
    }
}

/// A segment on native TCP: only what has payload is sealed; a reset still has to be in the window.
#[test]
fn native_tcp_is_protected_where_it_has_payload() {
    let fabric =
        Fabric { payload: Some(Suite::Aes256Gcm), udp_transform: UdpTransform::Never, ..Fabric::default() };
    let mut scene = Scene::with(Topology::chain(&fabric));
    connect(&mut scene, 5000);
    let sealed = scene.intercept(&scene.segment(5000, (ACK | PSH, 105, 501), b"more"));
    let packet = Packet::read(&sealed).unwrap();
    let tcp = packet.tcp;
    for (number, forged) in [
        Packet { payload: b"injected payload of some length".to_vec(), ..packet.clone() },
        Packet { tcp: (tcp.0, tcp.1 + 1, tcp.2), ..packet.clone() },
        Packet { tcp: (tcp.0, tcp.1, tcp.2 + 1), ..packet.clone() },
        Packet { tcp: (tcp.0 | FIN, tcp.1, tcp.2), ..packet.clone() },
    ]
    .into_iter()
    .enumerate()
    {
        scene.expect_nothing_but(&[(1, FORGED, 1)], |scene| scene.inject(forged.bytes()));
        assert_eq!(scene.sessions()[1], 1, "{number}");
    }
    let reset = Packet { tcp: (RST, tcp.1.wrapping_add(1 << 30), 0), payload: Vec::new(), ..packet };
    let outside = [(1, DropReason::TcpResetOutsideWindow, 1)];
    scene.expect_nothing_but(&outside, |scene| scene.inject(reset.bytes()));
    scene.expect(&[], |scene| scene.inject(sealed));
    assert_eq!(scene.network.receive(scene.server).len(), 1);
}

/// Payload that is not sealed is not delivered, whatever was negotiated before.
#[test]
fn a_sealed_direction_never_becomes_clear_again() {
    for adaptive in [false, true] {
        let fabric = Fabric { payload: Some(Suite::Aes256Gcm), adaptive, ..Fabric::default() };
        let mut scene = Scene::with(Topology::chain(&fabric));
        scene.establish(5000);
        let sealed = scene.intercept(&scene.request(5000));
        for content in [&b"plain"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], &[], &[0; 24]] {
            let forged = with_payload(&sealed, content);
            scene.expect_nothing_but(&[(1, FORGED, 1)], |scene| scene.inject(forged));
        }
        scene.assert_alive(5000);
    }
}

/// Secret, sender salt, direction and counter: what must never come twice.
type Nonce = (Vec<u8>, [u8; 16], bool, [u8; 8]);

/// Reads what a router says in metadata, as its peer would.
struct Reader {
    /// By flow: secret and sender salt.
    keys: HashMap<(SocketAddr, SocketAddr), (Vec<u8>, [u8; 16])>,
    /// Secrets by UUID: the way back does not repeat them.
    secrets: HashMap<[u8; 16], Vec<u8>>,
    used: HashSet<Nonce>,
}

impl Reader {
    /// Holds that no router ever uses a nonce twice under one key.
    fn see(&mut self, node: NodeId, packet: &[u8]) {
        if is_bfd(packet) {
            return;
        }
        let parsed = ip::parse(packet).unwrap();
        let flow = (
            SocketAddr::new(parsed.source, parsed.source_port),
            SocketAddr::new(parsed.destination, parsed.destination_port),
        );
        let mut content = parsed.payload(packet).to_vec();
        if svr::starts_with_cookie(&content) {
            let (sealed, is_control) = self.read(node, flow, &content);
            if is_control {
                return;
            }
            content = sealed;
        }
        let Some((secret, salt)) = self.keys.get(&flow) else { return };
        let counter: [u8; 8] = content[..8].try_into().unwrap();
        let fresh = self.used.insert((secret.clone(), *salt, node == NodeId(0), counter));
        assert!(fresh, "{node:?} used {counter:02x?} twice under {salt:02x?}");
    }

    fn read(&mut self, node: NodeId, flow: (SocketAddr, SocketAddr), content: &[u8]) -> (Vec<u8>, bool) {
        let view = Header::parse(content).unwrap();
        let header = HeaderTlvs::parse(view.header_tlvs()).unwrap();
        let names = if node == NodeId(0) { ("r0", "r1") } else { ("r1", "r0") };
        let keys =
            HopKeys::derive(&shared_key("r0", "r1"), &header.key_salt.unwrap(), names.0, names.1).unwrap();
        let mut section = view.payload_section().to_vec();
        if header.metadata_encrypted {
            let (iv, sealed) = view.payload_section().split_first_chunk().unwrap();
            section = sealed.to_vec();
            let length = keys.decrypt_metadata(iv, &mut section).unwrap();
            section.truncate(length);
        }
        let tlvs = PayloadTlvs::parse(&section).unwrap();
        if let (Some(uuid), Some(key)) = (tlvs.uuid, tlvs.session_key) {
            self.secrets.insert(uuid, key.to_vec());
        }
        let secret = tlvs.uuid.and_then(|uuid| self.secrets.get(&uuid)).cloned();
        if let (Some(secret), Some(salt)) = (secret, tlvs.sender_salt) {
            self.keys.insert(flow, (secret, salt));
        }
        let rest = view.rest();
        (rest[..rest.len() - svr::TAG_LEN].to_vec(), header.control.is_some())
    }
}

#[test]
fn no_nonce_is_used_twice_over_a_hundred_restarts() {
    let mut scene = scene(Suite::Aes256Gcm);
    let reader = std::rc::Rc::new(std::cell::RefCell::new(Reader {
        keys: HashMap::new(),
        secrets: HashMap::new(),
        used: HashSet::new(),
    }));
    let tap = std::rc::Rc::clone(&reader);
    scene.network.set_tap(Box::new(move |node, packet| tap.borrow_mut().see(node, packet)));
    for round in 0..100u16 {
        for port in [5000, 5001, 6000 + round] {
            let request = scene.request(port);
            for _ in 0..3 {
                scene.forward(&request);
                scene.reverse(&request.answer(&[0x82; 60]));
            }
        }
        scene.network.restart(NodeId(usize::from(round % 2)));
        // Sometimes long enough for everything to be told again, sometimes not.
        scene.network.run(if round % 3 == 0 { 8000 } else { 500 });
    }
    let used = reader.borrow().used.len();
    assert!(used > 500, "{used} sealed packets were seen");
}
