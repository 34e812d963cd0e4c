//! The same bytes again, now or later, and bytes of another time.

use std::net::SocketAddr;

use fairway_session::SessionFilter;
use fairway_sim::NodeId;
use fairway_sim::fabric::BACK;
use fairway_sim::forge::Forger;
use fairway_sim::network::shared_key;
use fairway_types::{Batch, Counter, DropReason};
use fairway_wire::svr::Context;

use crate::scene::{CLIENT, EPOCH, SERVER, Scene, forward_tlvs};

const PORTS: (u16, u16) = (20_000, 30_001);

fn delete_all(scene: &mut Scene, node: usize) {
    let now = scene.network.clock();
    let mut batch = Batch::new(1, 64, 2048);
    let deleted = scene.network.engine_mut(NodeId(node)).delete(now, &SessionFilter::default(), &mut batch);
    assert!(deleted > 0);
}

#[test]
fn a_first_packet_is_accepted_once() {
    let mut scene = Scene::new();
    let request = scene.request(5000);
    let first = scene.intercept(&request);
    scene.expect(&[], |scene| scene.inject(first.clone()));
    assert_eq!(scene.network.receive(scene.server).len(), 1);
    let replayed = [(1, DropReason::MetadataReplayed, 1)];
    scene.expect_nothing_but(&replayed, |scene| scene.inject(first.clone()));
    // The session is gone; the packet is as old as before.
    delete_all(&mut scene, 1);
    scene.expect_nothing_but(&replayed, |scene| scene.inject(first.clone()));
    // Its time slot is over.
    scene.network.run(10_000);
    scene.expect_nothing_but(&[(1, DropReason::BadTag, 1)], |scene| scene.inject(first));
}

#[test]
fn a_restart_does_not_make_old_packets_new() {
    let mut scene = Scene::new();
    // The first half of a time slot, so that both packets fall into it.
    while scene.network.clock().mono.as_millis() % 2000 > 200 {
        scene.network.run(100);
    }
    let first = scene.intercept(&scene.request(5000));
    scene.expect(&[], |scene| scene.inject(first.clone()));
    scene.network.receive(scene.server);
    // What the peer itself says meanwhile would be counted, too.
    scene.network.set_cut(0, true);
    scene.network.restart(NodeId(1));
    scene.expect_nothing_but(&[(1, DropReason::MetadataBeforeStart, 1)], |scene| scene.inject(first.clone()));
    scene.network.set_cut(0, false);
    scene.network.run(12_000);
    scene.expect_nothing_but(&[(1, DropReason::BadTag, 1)], |scene| scene.inject(first));
    scene.assert_alive(5000);
}

#[test]
fn packets_of_a_salt_from_before_the_peers_restart_are_refused() {
    let mut scene = Scene::new();
    let first = scene.intercept(&scene.request(5000));
    scene.network.restart(NodeId(0));
    // The new salt is signed later than the old one's packets.
    scene.network.run(2500);
    let before = scene.sessions();
    scene.inject(first);
    assert_eq!(scene.sessions()[1], before[1] + 1, "late, but genuine and new");
}

#[test]
fn a_path_moves_once_and_only_forward() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect(&[], |scene| scene.inject(offer));
    scene.network.receive(scene.server);
    // The same session, later, on other ports: it moves.
    let moved = scene.offer((20_002, 30_003), |_, tlvs| tlvs.epoch = Some(EPOCH + 1));
    scene.expect(&[], |scene| scene.inject(moved.clone()));
    assert_eq!(scene.network.receive(scene.server).len(), 1);
    assert_eq!(scene.counter(1, Counter::SessionsMoved), 1);
    assert_eq!(scene.sessions(), [0, 1]);
    scene.expect_nothing_but(&[(1, DropReason::MetadataReplayed, 1)], |scene| scene.inject(moved));
    // Fresh messages, but epochs that are not higher.
    for epoch in [EPOCH, EPOCH + 1] {
        let stale = scene.offer((20_004, 30_005), |_, tlvs| tlvs.epoch = Some(epoch));
        scene.expect_nothing_but(&[(1, DropReason::StaleEpoch, 1)], |scene| scene.inject(stale));
    }
    assert_eq!(scene.counter(1, Counter::SessionsMoved), 1);
    // What is sent to the old ports belongs to nobody.
    let old = scene.carry(PORTS, b"plain");
    scene.expect_nothing_but(&[(1, DropReason::UnknownWaypoint, 1)], |scene| scene.inject(old));
    let plain = scene.carry((20_002, 30_003), b"plain");
    scene.expect(&[], |scene| scene.inject(plain));
    assert_eq!(scene.network.receive(scene.server).len(), 1);
}

#[test]
fn a_move_cannot_change_whose_session_it_is() {
    let mut scene = Scene::new();
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect(&[], |scene| scene.inject(offer));
    scene.network.receive(scene.server);
    let other = Context {
        source: SocketAddr::new(CLIENT, 6001),
        destination: SocketAddr::new(SERVER, 53),
        protocol: 17,
    };
    let context = scene.offer((20_002, 30_003), |_, tlvs| {
        (tlvs.epoch, tlvs.forward) = (Some(EPOCH + 1), Some(other));
    });
    scene.expect_nothing_but(&[(1, DropReason::TlvValue, 1)], |scene| scene.inject(context));
    let tenant = scene.offer((20_002, 30_003), |_, tlvs| {
        (tlvs.epoch, tlvs.tenant) = (Some(EPOCH + 1), Some("guest"));
    });
    scene.expect_nothing_but(&[(1, DropReason::TlvValue, 1)], |scene| scene.inject(tenant));
    assert_eq!(scene.counter(1, Counter::SessionsMoved), 0);
}

#[test]
fn metadata_signed_before_the_start_is_refused() {
    let mut scene = Scene::new();
    while scene.network.clock().mono.as_millis() % 2000 > 200 {
        scene.network.run(100);
    }
    // What the peer itself says meanwhile would be counted, too.
    scene.network.set_cut(0, true);
    scene.network.restart(NodeId(1));
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect_nothing_but(&[(1, DropReason::MetadataBeforeStart, 1)], |scene| scene.inject(offer));
    scene.network.set_cut(0, false);
    scene.network.run(2000);
    let offer = scene.offer(PORTS, |_, _| ());
    scene.expect(&[], |scene| scene.inject(offer));
    assert_eq!(scene.sessions()[1], 1);
}

#[test]
fn sequence_numbers_may_come_in_any_order_but_once() {
    let mut scene = Scene::new();
    let mut forger = Forger::new(&shared_key("r0", "r1"), "r0", "r1", [8; 16]);
    let unix = scene.unix();
    let mut packets: Vec<Vec<u8>> = (0..40u16)
        .map(|n| {
            let mut tlvs = forward_tlvs();
            tlvs.uuid = Some([n as u8; 16]);
            let source = SocketAddr::new(CLIENT, 7000 + n);
            tlvs.forward = tlvs.forward.map(|context| Context { source, ..context });
            let header = forger.header();
            scene.carry((20_000 + 2 * n, 30_001), &forger.seal(&header, &tlvs, &[1], unix))
        })
        .collect();
    packets.reverse();
    scene.expect(&[], |scene| {
        packets.iter().for_each(|packet| scene.network.inject(NodeId(1), BACK, packet.clone()));
    });
    assert_eq!(scene.sessions()[1], 40);
    scene.network.receive(scene.server);
    scene.expect_nothing_but(&[(1, DropReason::MetadataReplayed, 40)], |scene| {
        packets.into_iter().for_each(|packet| scene.network.inject(NodeId(1), BACK, packet));
    });
}
