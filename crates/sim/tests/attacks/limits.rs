//! Limits: what is beyond them is refused, counted and reported, and harms nobody else.

use fairway_session::{Event, Limit, LimitKind, LimitScope};
use fairway_sim::{Fabric, NodeId, Topology};
use fairway_types::{DropReason, PathId, PortRange, Protocol};

use crate::scene::Scene;

const SYN: u8 = 2;

fn events(scene: &mut Scene, wanted: impl Fn(&Event) -> bool) -> Vec<usize> {
    let events = scene.network.take_events();
    events.into_iter().filter(|(_, event)| wanted(event)).map(|(node, _)| node.0).collect()
}

fn is_reached(event: &Event, scope: LimitScope, kind: LimitKind) -> bool {
    *event == Event::LimitReached(Limit { scope, kind })
}

#[test]
fn half_open_connections_are_limited_and_others_unharmed() {
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[0].limits.half_open = 3;
    let mut scene = Scene::with(topology);
    scene.establish(4000);
    scene.network.take_events();
    scene.expect(&[(0, DropReason::HalfOpenLimit, 5)], |scene| {
        for port in 5000..5008 {
            let syn = scene.segment(port, (SYN, 100, 0), b"");
            scene.network.send(scene.client, syn.bytes());
        }
    });
    assert_eq!(scene.network.receive(scene.server).len(), 3);
    assert_eq!(scene.network.engine(NodeId(0)).half_open_count(), 3);
    let reported = events(&mut scene, |event| is_reached(event, LimitScope::Router, LimitKind::HalfOpen));
    assert!(!reported.is_empty() && reported.iter().all(|&node| node == 0));
    scene.assert_alive(4000);
    scene.assert_alive(4001);
    // They time out, and room is made.
    scene.network.run(15_000);
    assert_eq!(scene.network.engine(NodeId(0)).half_open_count(), 0);
    let syn = scene.segment(5009, (SYN, 100, 0), b"");
    assert_eq!(scene.forward(&syn).len(), 1);
}

#[test]
fn the_session_table_has_a_limit_on_either_router() {
    for small in 0..2 {
        let mut topology = Topology::chain(&Fabric::default());
        topology.models[small].limits.sessions = 4;
        let mut scene = Scene::with(topology);
        (4000..4004).for_each(|port| scene.establish(port));
        scene.network.take_events();
        scene.expect(&[(small, DropReason::SessionLimit, 3)], |scene| {
            for port in 5000..5003 {
                scene.network.send(scene.client, scene.request(port).bytes());
            }
        });
        assert!(scene.network.receive(scene.server).is_empty());
        let reported = events(&mut scene, |event| is_reached(event, LimitScope::Router, LimitKind::Sessions));
        assert!(!reported.is_empty() && reported.iter().all(|&node| node == small));
        (4000..4004).for_each(|port| scene.assert_alive(port));
        assert_eq!(scene.sessions()[small], 4);
    }
}

#[test]
fn waypoints_run_out_without_collision() {
    let limit = |topology: &mut Topology| topology.models[0].paths[0].max_waypoints = 3;
    exhaustion(limit, 3);
}

#[test]
fn ports_of_a_peers_range_run_out_without_collision() {
    // One remote port: as many pairs as there are local ones.
    let limit = |topology: &mut Topology| {
        topology.models[0].paths[0].remote_ports = PortRange::new(20_000, 20_000);
        topology.models[1].paths[0].local_ports = PortRange::new(20_000, 20_000);
        topology.models[0].paths[0].max_waypoints = 5;
    };
    exhaustion(limit, 5);
}

fn exhaustion(limit: impl Fn(&mut Topology), room: u16) {
    let mut topology = Topology::chain(&Fabric::default());
    limit(&mut topology);
    let mut scene = Scene::with(topology);
    (4000..4000 + room).for_each(|port| scene.establish(port));
    scene.network.take_events();
    scene.expect_nothing_but(&[(0, DropReason::WaypointsExhausted, 4)], |scene| {
        for port in 5000..5004 {
            scene.network.send(scene.client, scene.request(port).bytes());
        }
    });
    let reported = events(&mut scene, |event| *event == Event::WaypointsExhausted(PathId(0)));
    assert_eq!(reported, [0], "once, not for every packet");
    let usage = scene.network.engine(NodeId(0)).waypoints();
    let udp = usage.iter().find(|usage| usage.protocol == Protocol::UDP).unwrap();
    assert_eq!((udp.used, udp.capacity, udp.exhausted), (u32::from(room), u32::from(room), 4));
    (4000..4000 + room).for_each(|port| scene.assert_alive(port));
    // TCP has pairs of its own.
    let syn = scene.segment(5009, (SYN, 100, 0), b"");
    assert_eq!(scene.forward(&syn).len(), 1);
    // Sessions end, their pairs rest, and are used again.
    scene.network.run(250_000);
    assert_eq!(scene.sessions(), [0, 0]);
    (6000..6000 + room).for_each(|port| scene.establish(port));
}
