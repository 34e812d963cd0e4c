//! Whole fabrics under load and faults, for many seeds. `SEED=n` runs one seed, `SIM_SEEDS=n` so many.

use std::net::SocketAddr;
use std::sync::LazyLock;

use fairway_sim::forge::Forger;
use fairway_sim::network::shared_key;
use fairway_sim::packet::Packet;
use fairway_sim::plan::{DRAIN_MILLIS, Family, Payload, Server, client_address};
use fairway_sim::wiretap::Wiretap;
use fairway_sim::{Faults, NodeId, Plan, Topology, World};
use fairway_types::DropReason;
use fairway_wire::svr::{Context, PayloadTlvs};

fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SIM_SEEDS").unwrap_or(count)).collect(),
    }
}

/// How many workers a router has: the seed chooses that, too.
fn workers(seed: u64, node: NodeId) -> u8 {
    1 + ((seed / 3 + node.0 as u64) % 3) as u8
}

struct Stage {
    /// By how payload is protected.
    sets: [(Plan, Topology); 3],
    conversations: usize,
}

impl Stage {
    fn new(plan: Plan, conversations: usize) -> Self {
        let sets = [Payload::Encrypted, Payload::Guarded, Payload::Plain].map(|payload| {
            let plan = plan.with(payload);
            let topology = plan.topology();
            (plan, topology)
        });
        Self { sets, conversations }
    }

    /// The seed chooses the protection, too.
    fn set(&self, seed: u64) -> &(Plan, Topology) {
        &self.sets[seed as usize % 3]
    }
}

static CHAINS: LazyLock<Vec<Stage>> = LazyLock::new(|| {
    let chain = |routers, family, encrypt| Stage::new(Plan::chain(routers, family, encrypt), 60);
    vec![
        chain(1, Family::V4, true),
        chain(2, Family::V4, true),
        chain(2, Family::V6, false),
        chain(3, Family::V6, true),
        chain(4, Family::Both, true),
    ]
});
static TRIANGLE: LazyLock<Stage> = LazyLock::new(|| Stage::new(Plan::triangle(true), 80));
static FIFTY: LazyLock<Stage> = LazyLock::new(|| Stage::new(Plan::fifty(), 100));

/// Without faults: nothing is lost, and nothing is dropped but what is denied.
fn calm(stage: &Stage, seed: u64) {
    let (plan, topology) = stage.set(seed);
    let mut world = World::with_workers(plan, topology, seed, |node| workers(seed, node));
    let before = world.network.all_books();
    world.converse(stage.conversations, 5000);
    world.run(5000);
    world.converse_again();
    world.finish(20_000);
    world.check_complete();
    world.check_symmetry();
    world.run(DRAIN_MILLIS);
    world.check_drained();
    assert!(world.delivered() > 100, "SEED={seed}: hosts were busy");
    for (node, before) in before.iter().enumerate() {
        let dropped = world.network.books(NodeId(node)).dropped_since(before);
        let denied = world.denied_at(plan, NodeId(node));
        let expected: Vec<_> =
            (denied > 0).then_some((DropReason::AccessDenied, denied)).into_iter().collect();
        assert_eq!(dropped, expected, "SEED={seed}: on router {node}");
    }
}

/// What happens to a fabric in a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Restart,
    Cut,
    Mend,
    Reload,
}

/// With faults that the seed chooses, then without: whatever is allowed gets through in the end.
fn storm(stage: &Stage, seed: u64) {
    let (plan, topology) = stage.set(seed);
    let mut world = World::with_workers(plan, topology, seed, |node| workers(seed, node));
    let mut chosen = |most: usize| if world.below(2) == 0 { 0 } else { world.below(most) as u32 };
    let faults = Faults {
        loss: chosen(60),
        duplicate: chosen(50),
        reorder: chosen(200),
        corrupt: chosen(30),
        replay: chosen(100),
    };
    let (restarts, cuts, reloads) = (chosen(4), chosen(3), chosen(6));
    world.set_faults(faults);
    world.converse(stage.conversations, 8000);
    let routers = topology.models.len();
    let links = topology.links.len();
    let mut changes: Vec<(u64, usize, Change)> = Vec::new();
    for (change, count, of) in
        [(Change::Restart, restarts, routers), (Change::Cut, cuts, links), (Change::Reload, reloads, routers)]
    {
        let count = if of == 0 { 0 } else { count };
        for _ in 0..count {
            let (at, which) = (world.below(8000) as u64, world.below(of));
            changes.push((at, which, change));
            if change == Change::Cut {
                changes.push((at + world.below(4000) as u64, which, Change::Mend));
            }
        }
    }
    changes.sort_unstable();
    let start = world.now();
    for (at, which, change) in changes {
        world.run((start + at).saturating_sub(world.now()));
        world.check_limits();
        let node = NodeId(which % routers);
        match change {
            Change::Restart => world.network.restart(node),
            Change::Cut => world.network.set_cut(which, true),
            Change::Mend => world.network.set_cut(which, false),
            Change::Reload => {
                world.network.reload(node, topology.models[node.0].clone());
            }
        }
    }
    world.converse_again();
    world.run((start + 10_000).saturating_sub(world.now()));
    world.set_faults(Faults::default());
    (0..world.network.links()).for_each(|link| world.network.set_cut(link, false));
    world.finish(60_000);
    world.check_limits();
    // A restarted router may have sessions told to it over another way before hosts speak again.
    if restarts == 0 && cuts == 0 {
        world.check_symmetry();
    }
    world.run(DRAIN_MILLIS);
    world.check_drained();
}

#[test]
fn chains_without_faults() {
    seeds(20).into_iter().for_each(|seed| CHAINS.iter().for_each(|stage| calm(stage, seed)));
}

#[test]
fn a_triangle_without_faults() {
    seeds(40).into_iter().for_each(|seed| calm(&TRIANGLE, seed));
}

#[test]
fn fifty_routers_without_faults() {
    seeds(20).into_iter().for_each(|seed| calm(&FIFTY, seed));
}

#[test]
fn chains_with_faults() {
    seeds(30).into_iter().for_each(|seed| CHAINS.iter().for_each(|stage| storm(stage, seed)));
}

#[test]
fn a_triangle_with_faults() {
    seeds(40).into_iter().for_each(|seed| storm(&TRIANGLE, seed));
}

#[test]
fn fifty_routers_with_faults() {
    seeds(20).into_iter().for_each(|seed| storm(&FIFTY, seed));
}

#[test]
#[should_panic(expected = "got what nobody sent")]
fn the_reference_model_sees_what_nobody_sent() {
    let stage = &CHAINS[1];
    let (plan, topology) = stage.set(1);
    let mut world = World::new(plan, topology, 1);
    let mut forger = Forger::new(&shared_key("r0", "r1"), "r0", "r1", [9; 16]);
    let context = Context {
        source: SocketAddr::new(client_address(0, false), 5000),
        destination: SocketAddr::new(Server::Inner.address(1, false), 53),
        protocol: 17,
    };
    let tlvs = PayloadTlvs {
        forward: Some(context),
        uuid: Some([1; 16]),
        tenant: Some("corp"),
        epoch: Some(1),
        ..PayloadTlvs::default()
    };
    let header = forger.header();
    let message = forger.seal(&header, &tlvs, b"forged", world.network.clock().unix);
    let path = &topology.models[0].paths[0];
    let (from, to) = (SocketAddr::new(path.local, 20_000), SocketAddr::new(path.remote, 30_001));
    let [_, (node, interface)] = topology.links[0].ends;
    world.network.inject(node, interface, Packet::udp(from, to, &message).bytes());
    world.run(100);
}

#[test]
#[should_panic(expected = "10.1.0.20 from")]
fn the_wiretap_sees_an_address_outside_metadata() {
    let secret = client_address(0, false);
    let mut tap = Wiretap::new(&[secret], true);
    let (from, to) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2)));
    tap.see(NodeId(0), NodeId(1), &Packet::udp(from, to, &[9, 10, 1, 0, 21]).bytes(), 1);
    tap.see(NodeId(0), NodeId(1), &Packet::udp(from, to, &[9, 10, 1, 0, 20]).bytes(), 1);
}
