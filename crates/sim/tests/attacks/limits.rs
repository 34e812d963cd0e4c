//! Limits: what is beyond them is refused, counted and reported, and harms nobody else.

use fairway_session::{Event, Limit, LimitKind, LimitScope, SessionFilter};
use fairway_sim::fabric::LAN;
use fairway_sim::{Fabric, NodeId, Topology};
use fairway_types::model::Quota;
use fairway_types::{Counter, DropReason, PathId, PeerId, PortRange, Protocol, TenantId};

use crate::scene::{CLIENT, Scene};

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

/// What the limits of a scope hold and refused: sessions, half-open ones and new ones.
fn of_scope(scene: &Scene, node: usize, scope: LimitScope) -> [(Option<u32>, u64); 3] {
    let views = scene.network.engine(NodeId(node)).limits(scene.network.clock());
    [LimitKind::Sessions, LimitKind::HalfOpen, LimitKind::SessionRate].map(|kind| {
        // The busiest source may be another one for each kind, or none.
        let same = |other| match (scope, other) {
            (LimitScope::Source(_), LimitScope::Source(_)) => true,
            (scope, other) => scope == other,
        };
        let view = views.iter().find(|view| same(view.limit.scope) && view.limit.kind == kind).unwrap();
        (view.now, view.refused)
    })
}

fn no_mistakes(scene: &Scene) {
    for node in scene.network.routers() {
        assert_eq!(scene.network.engine(node).audit_limits(), Vec::<String>::new());
    }
}

/// Sets a quota in the models.
type Set = fn(&mut Topology, Quota);

#[test]
fn a_tenant_a_peer_and_a_source_have_limits_of_their_own() {
    let quota = Quota { sessions: 4, ..Quota::UNLIMITED };
    let cases: [(usize, LimitScope, Set); 3] = [
        (0, LimitScope::Tenant(TenantId(0)), |topology, quota| {
            topology.models[0].quotas.tenants = vec![quota, Quota::UNLIMITED];
        }),
        (1, LimitScope::Peer(PeerId(0)), |topology, quota| {
            topology.models[1].quotas.peers = vec![quota];
        }),
        (0, LimitScope::Source(Some((LAN, CLIENT))), |topology, quota| {
            topology.models[0].quotas.source = quota;
        }),
    ];
    for (node, scope, set) in cases {
        let mut topology = Topology::chain(&Fabric::default());
        set(&mut topology, quota);
        let mut scene = Scene::with(topology);
        (4000..4004).for_each(|port| scene.establish(port));
        scene.network.take_events();
        scene.expect(&[(node, DropReason::SessionLimit, 3)], |scene| {
            for port in 5000..5003 {
                scene.network.send(scene.client, scene.request(port).bytes());
            }
        });
        let reported = events(&mut scene, |event| is_reached(event, scope, LimitKind::Sessions));
        assert_eq!(reported, [node], "{scope:?}: once, not for every packet");
        assert_eq!(of_scope(&scene, node, scope)[0], (Some(4), 3), "{scope:?}");
        no_mistakes(&scene);
        (4000..4004).for_each(|port| scene.assert_alive(port));
        // One ends, and another may begin.
        let port = Some(PortRange::single(4000));
        (0..2).for_each(|node| scene.delete(node, &SessionFilter { port, ..SessionFilter::default() }));
        scene.establish(5000);
        no_mistakes(&scene);
    }
}

#[test]
fn new_sessions_of_a_source_are_limited_in_their_rate() {
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[0].quotas.source = Quota { session_rate: 20, ..Quota::UNLIMITED };
    let mut scene = Scene::with(topology);
    // Ten at once, and then twenty a second.
    scene.expect(&[(0, DropReason::SessionRateLimit, 5)], |scene| {
        for port in 5000..5015 {
            scene.network.send(scene.client, scene.request(port).bytes());
        }
    });
    scene.network.run(1000);
    scene.network.receive(scene.server);
    scene.establish(6000);
    no_mistakes(&scene);
}

#[test]
fn the_oldest_half_open_connection_gives_way_after_a_second() {
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[0].quotas.tenants = vec![Quota { half_open: 3, ..Quota::UNLIMITED }; 2];
    let mut scene = Scene::with(topology);
    let syn = |scene: &Scene, port| scene.segment(port, (SYN, 100, 0), b"");
    for port in 5000..5003 {
        let packet = syn(&scene, port);
        assert_eq!(scene.forward(&packet).len(), 1);
    }
    let packet = syn(&scene, 5003);
    scene.expect(&[(0, DropReason::HalfOpenLimit, 1)], |scene| {
        scene.network.send(scene.client, packet.bytes());
    });
    scene.network.run(900);
    // That a SYN is repeated does not help its connection.
    let repeated = syn(&scene, 5000);
    assert_eq!(scene.forward(&repeated).len(), 1);
    scene.network.run(100);
    // Its second try.
    assert_eq!(scene.forward(&packet).len(), 1);
    assert_eq!(scene.counter(0, Counter::SessionsEvicted), 1);
    assert_eq!(scene.network.engine(NodeId(0)).half_open_count(), 3);
    // It is the first that is gone: an answer to the second still arrives, and its connection opens.
    let (second, accepted) = (syn(&scene, 5001), (SYN | 16, 500, 101));
    let answer = fairway_sim::packet::Packet::tcp(second.destination, second.source, accepted, b"");
    assert_eq!(scene.reverse(&answer).len(), 1);
    let acknowledged = scene.segment(5001, (16, 101, 501), b"");
    assert_eq!(scene.forward(&acknowledged).len(), 1);
    let [sessions, half_open, _] = of_scope(&scene, 0, LimitScope::Tenant(TenantId(0)));
    assert_eq!((sessions, half_open), ((Some(3), 0), (Some(2), 1)));
    no_mistakes(&scene);
}

#[test]
fn a_connection_that_is_over_gives_way_when_a_second_was_silent() {
    const ACK: u8 = 16;
    const FIN_ACK: u8 = 17;
    let mut topology = Topology::chain(&Fabric::default());
    topology.models[1].limits.sessions = 1;
    let mut scene = Scene::with(topology);
    let sent = |scene: &mut Scene, tcp| {
        let packet = scene.segment(5000, tcp, b"");
        assert_eq!(scene.forward(&packet).len(), 1);
        packet
    };
    let syn = sent(&mut scene, (SYN, 100, 0));
    let answers = |tcp| fairway_sim::packet::Packet::tcp(syn.destination, syn.source, tcp, b"");
    assert_eq!(scene.reverse(&answers((SYN | ACK, 500, 101))).len(), 1);
    sent(&mut scene, (ACK, 101, 501));
    sent(&mut scene, (FIN_ACK, 101, 501));
    assert_eq!(scene.reverse(&answers((FIN_ACK, 501, 102))).len(), 1);
    let another = scene.request(6000);
    let try_another = |scene: &mut Scene| {
        scene.expect(&[(1, DropReason::SessionLimit, 1)], |scene| {
            scene.network.send(scene.client, another.bytes());
        });
    };
    // Both have finished, and what is still under way arrives.
    try_another(&mut scene);
    scene.network.run(900);
    sent(&mut scene, (ACK, 102, 502));
    scene.network.run(900);
    try_another(&mut scene);
    scene.network.run(200);
    assert_eq!(scene.forward(&another).len(), 1);
    assert_eq!(scene.counter(1, Counter::SessionsEvicted), 1);
    no_mistakes(&scene);
}

#[test]
fn a_reload_changes_limits_and_keeps_count() {
    let mut scene = Scene::new();
    (4000..4004).for_each(|port| scene.establish(port));
    let mut model = scene.network.model(NodeId(0)).clone();
    model.quotas.tenants = vec![Quota { sessions: 4, ..Quota::UNLIMITED }; 2];
    // The tenants change their numbers.
    model.tenants.swap(0, 1);
    model.interfaces.iter_mut().filter_map(|interface| interface.tenant.as_mut()).for_each(|t| t.0 = 1 - t.0);
    model.services[0].access.iter_mut().filter_map(|line| line.tenant.as_mut()).for_each(|t| t.0 = 1 - t.0);
    assert_eq!(scene.network.reload(NodeId(0), model).kept, 4);
    no_mistakes(&scene);
    let corp = LimitScope::Tenant(TenantId(1));
    assert_eq!(of_scope(&scene, 0, corp)[0], (Some(4), 0));
    scene.expect(&[(0, DropReason::SessionLimit, 1)], |scene| {
        scene.network.send(scene.client, scene.request(5000).bytes());
    });
    assert_eq!(of_scope(&scene, 0, corp)[0], (Some(4), 1));
    (4000..4004).for_each(|port| scene.assert_alive(port));
}
