//! Changes of configuration under traffic: sessions that are still allowed do not notice, those that
//! no longer are end on every router, and nothing is left behind.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use fairway_sim::fabric::LAN;
use fairway_sim::packet::Packet;
use fairway_sim::plan::DRAIN_MILLIS;
use fairway_sim::{Books, Fabric, HostId, Network, NodeId, Plan, Topology, World};
use fairway_types::model::{Interface, InterfaceKind, Peer, PeerPath, RouteTarget, RouterModel, Service};
use fairway_types::{Counter, DropReason, InterfaceId, PeerId, ServiceId, TenantId};

/// The same configuration with every list begun by something new, so that every id changes.
fn renumbered(model: &RouterModel) -> RouterModel {
    let mut model = model.clone();
    let up = |id: InterfaceId| InterfaceId(id.0 + 1);
    let tenant_up = |id: &mut TenantId| id.0 += 1;
    model.interfaces.insert(
        0,
        Interface {
            name: "added".into(),
            device: "added".into(),
            kind: InterfaceKind::Fabric,
            tenant: None,
            addresses: Vec::new(),
            ..model.interfaces[0].clone()
        },
    );
    model.interfaces.iter_mut().filter_map(|i| i.tenant.as_mut()).for_each(tenant_up);
    model.memberships.iter_mut().for_each(|member| member.interface = up(member.interface));
    let tenant = fairway_types::model::Tenant { name: "added".into(), ..model.tenants[0].clone() };
    model.tenants.insert(0, tenant);
    let service = Service { name: "added".into(), prefixes: Vec::new(), ..model.services[0].clone() };
    model.services.insert(0, service);
    model
        .services
        .iter_mut()
        .for_each(|s| s.access.iter_mut().filter_map(|a| a.tenant.as_mut()).for_each(tenant_up));
    model
        .paths
        .iter_mut()
        .for_each(|path| (path.peer, path.interface) = (PeerId(path.peer.0 + 1), up(path.interface)));
    let peer =
        Peer { name: "a-new-one".into(), key_file: PathBuf::new(), tenants: None, origin: String::new() };
    model.peers.insert(0, peer);
    if let Some(path) = model.paths.first().cloned() {
        let far = |last: u8| IpAddr::from([203, 0, 113, last]);
        model.paths.insert(
            0,
            PeerPath {
                peer: PeerId(0),
                interface: InterfaceId(0),
                local: far(1),
                remote: far(2),
                pathway: "new".into(),
                ..path
            },
        );
    }
    for route in &mut model.routes {
        route.service = ServiceId(route.service.0 + 1);
        if let RouteTarget::Peer(peer) = &mut route.target {
            peer.0 += 1;
        }
    }
    let first = model.routes[0].clone();
    model
        .routes
        .insert(0, fairway_types::model::ServiceRoute { name: "0".into(), service: ServiceId(0), ..first });
    model
}

/// The same conversations with `reloads` on every router, and the counters that show how sessions
/// fared.
fn converse(reloads: usize, change: impl Fn(usize, &RouterModel) -> RouterModel) -> Vec<[u64; 5]> {
    let plan = Plan::triangle(true);
    let topology = plan.topology();
    let mut world = World::new(&plan, &topology, 7);
    let before = world.network.all_books();
    world.converse(80, 5000);
    for round in 0..100 {
        world.run(60);
        for node in world.network.routers().filter(|_| round < reloads) {
            let model = change(round, &topology.models[node.0]);
            let kept = world.network.engine(node).session_count();
            let applied = world.network.reload(node, model);
            assert_eq!((applied.kept, applied.removed), (kept, 0), "round {round}");
            world.check_limits();
        }
    }
    world.finish(20_000);
    world.check_complete();
    world.check_symmetry();
    world.run(DRAIN_MILLIS);
    world.check_drained();
    world
        .network
        .routers()
        .map(|node| {
            let books = world.network.books(node);
            assert_eq!(books.counter(Counter::Reloads), reloads as u64);
            let dropped = books.dropped_since(&before[node.0]);
            let denied = world.denied_at(&plan, node);
            assert_eq!(dropped, [(DropReason::AccessDenied, denied)], "router {node:?}");
            use Counter::{
                MetadataSent, PacketsForwarded, SessionsCreated, SessionsDeleted, SessionsRetriggered,
            };
            [PacketsForwarded, SessionsCreated, MetadataSent, SessionsDeleted, SessionsRetriggered]
                .map(|counter| books.counter(counter) - before[node.0].counter(counter))
        })
        .collect()
}

#[test]
fn a_hundred_reloads_touch_no_session_and_leave_nothing_behind() {
    let untouched = converse(0, |_, model| model.clone());
    assert_eq!(converse(100, |_, model| model.clone()), untouched);
}

#[test]
fn sessions_survive_when_every_id_changes() {
    let untouched = converse(0, |_, model| model.clone());
    let changed =
        converse(100, |round, model| if round % 2 == 0 { renumbered(model) } else { model.clone() });
    assert_eq!(changed, untouched);
}

struct Scene {
    topology: Topology,
    network: Network,
    client: HostId,
    server: HostId,
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 9));
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 9));

impl Scene {
    fn new(routers: u8) -> Self {
        let topology = Topology::chain(&Fabric { routers, ..Fabric::default() });
        let mut network = Network::with_topology(topology.clone(), 1);
        let client = network.add_host(NodeId(0), LAN, &[CLIENT]);
        let server = network.add_host(NodeId(usize::from(routers) - 1), LAN, &[SERVER]);
        network.run(12_000);
        Self { topology, network, client, server }
    }

    fn request(&self, port: u16) -> Packet {
        Packet::udp(SocketAddr::new(CLIENT, port), SocketAddr::new(SERVER, 53), &[1; 40])
    }

    fn arrives(&mut self, port: u16) -> bool {
        self.network.send(self.client, self.request(port).bytes());
        self.network.run(50);
        !self.network.receive(self.server).is_empty()
    }

    fn establish(&mut self, ports: std::ops::Range<u16>) {
        for port in ports {
            for _ in 0..2 {
                assert!(self.arrives(port));
                let answer = self.request(port).answer(&[2; 40]);
                self.network.send(self.server, answer.bytes());
                self.network.run(50);
                assert_eq!(self.network.receive(self.client).len(), 1);
            }
        }
    }

    fn sessions(&self) -> Vec<usize> {
        self.network.routers().map(|node| self.network.engine(node).session_count()).collect()
    }

    fn reload(&mut self, node: usize, change: impl FnOnce(&mut RouterModel)) -> (usize, usize) {
        let mut model = self.topology.models[node].clone();
        change(&mut model);
        let applied = self.network.reload(NodeId(node), model);
        (applied.kept, applied.removed)
    }

    fn dropped(&self, before: &[Books]) -> Vec<(usize, DropReason, u64)> {
        let each = before.iter().enumerate().flat_map(|(node, before)| {
            let drops = self.network.books(NodeId(node)).dropped_since(before);
            drops.into_iter().map(move |(reason, count)| (node, reason, count)).collect::<Vec<_>>()
        });
        each.collect()
    }
}

#[test]
fn sessions_that_are_no_longer_allowed_end_everywhere() {
    for node in 0..3 {
        let mut scene = Scene::new(3);
        scene.establish(5000..5010);
        assert_eq!(scene.sessions(), [10, 10, 10]);
        let before = scene.network.all_books();
        assert_eq!(scene.reload(node, |model| model.services[0].access.clear()), (0, 10));
        scene.network.run(50);
        assert_eq!(scene.sessions(), [0, 0, 0], "after router {node} changed its mind");
        assert_eq!(scene.dropped(&before), []);
        assert!(!scene.arrives(5000));
        assert_eq!(scene.dropped(&before), [(node, DropReason::AccessDenied, 1)]);
        // And back again.
        assert_eq!(scene.reload(node, |_| ()).1, 0);
        scene.establish(5020..5022);
    }
}

#[test]
fn only_the_sessions_that_a_change_is_about_end() {
    let mut scene = Scene::new(3);
    scene.establish(5000..5004);
    let other = Packet::udp(SocketAddr::new(CLIENT, 6000), SocketAddr::new(SERVER, 99), b"x");
    let before = scene.network.all_books();
    scene.network.send(scene.client, other.bytes());
    scene.network.run(50);
    scene.network.receive(scene.server);
    assert_eq!(scene.sessions(), [5, 5, 5]);
    let applied = scene.reload(1, |model| {
        let port = fairway_types::model::Transport {
            protocol: fairway_types::Protocol::UDP,
            ports: vec![fairway_types::PortRange::single(53)],
        };
        model.services[0].transports = vec![port];
    });
    assert_eq!(applied, (4, 1));
    scene.network.run(50);
    assert_eq!(scene.sessions(), [4, 4, 4]);
    (5000..5004).for_each(|port| assert!(scene.arrives(port)));
    assert_eq!(scene.dropped(&before), []);
}

#[test]
fn a_path_that_is_taken_away_takes_its_sessions_with_it() {
    let mut scene = Scene::new(3);
    scene.establish(5000..5004);
    let applied = scene.reload(1, |model| {
        model.paths.truncate(1);
        model.peers.truncate(1);
        model.routes.clear();
    });
    assert_eq!(applied, (0, 4));
    scene.network.run(50);
    assert_eq!(scene.sessions()[..2], [0, 0]);
    let before = scene.network.all_books();
    assert!(!scene.arrives(5000));
    let dropped = scene.dropped(&before);
    assert!(dropped.contains(&(1, DropReason::NoRoute, 1)), "{dropped:?}");
}

#[test]
fn an_interface_that_changes_its_tenant_changes_what_its_hosts_may() {
    let mut scene = Scene::new(2);
    scene.establish(5000..5003);
    assert_eq!(scene.reload(0, |model| model.interfaces[LAN.index()].tenant = Some(TenantId(1))), (0, 3));
    scene.network.run(50);
    assert_eq!(scene.sessions(), [0, 0]);
    let before = scene.network.all_books();
    assert!(!scene.arrives(5000));
    assert_eq!(scene.dropped(&before), [(0, DropReason::AccessDenied, 1)]);
}

#[test]
fn what_a_peer_may_claim_is_asked_again() {
    let mut scene = Scene::new(2);
    scene.establish(5000..5003);
    assert_eq!(scene.reload(1, |model| model.peers[0].tenants = Some(vec![TenantId(1)])), (0, 3));
    scene.network.run(50);
    assert_eq!(scene.sessions(), [0, 0]);
    let before = scene.network.all_books();
    assert!(!scene.arrives(5000));
    assert_eq!(scene.dropped(&before), [(1, DropReason::TenantNotAllowed, 1)]);
}
