//! Engines, hosts and links under one virtual clock.
//!
//! This is what a test holds in hand; `links` moves packets between routers, `workers` inside of one.

mod links;
mod workers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairway_crypto::{Keyring, KeyringEntry, PeerKey};
use fairway_policy::Snapshot;
use fairway_session::{Applied, Engine, Event, Notice, Shard, Shared};
use fairway_types::model::RouterModel;
use fairway_types::{Batch, InterfaceId, Now, PeerId, Time, WorkerId};
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::accounting::Books;
use crate::fabric::Fabric;
use crate::node::Node;
use crate::topology::Topology;
use crate::wiretap::Wiretap;

/// A router of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A host of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// What a link does to packets, each with a probability in parts per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Packets that vanish.
    pub loss: u32,
    /// Packets that arrive twice.
    pub duplicate: u32,
    /// Packets that are held back by up to 20 ms.
    pub reorder: u32,
    /// Packets of which one bit flips.
    pub corrupt: u32,
    /// Packets that somebody on the link sends again, up to eight seconds later.
    pub replay: u32,
}

/// The other end of an interface that leads to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Far {
    node: usize,
    interface: InterfaceId,
    link: usize,
}

struct Host {
    node: usize,
    interface: InterfaceId,
    addresses: Vec<IpAddr>,
    inbox: Vec<Vec<u8>>,
}

/// Something that will happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    /// On the wire of a router's interface.
    AtNode(usize, u16, Vec<u8>),
    /// With one of its workers, whose turn it is.
    AtWorker(usize, usize, Handed),
    /// A notice, by its number.
    Told(usize, usize, usize),
    /// A worker has seen all that waited when it was told that a flow went elsewhere.
    Drained(usize, usize, usize),
    AtHost(usize, Vec<u8>),
}

/// A packet with a worker, and what is known of it if another one handed it over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Handed {
    interface: u16,
    times: u8,
    genuine: bool,
    fragmented: bool,
    packet: Vec<u8>,
}

/// Sees every packet between routers.
pub type Tap = Box<dyn FnMut(NodeId, &[u8])>;

/// A network in virtual time.
pub struct Network {
    /// The seed everything follows from.
    pub seed: u64,
    /// What links between routers do.
    pub faults: Faults,
    /// Whether a NAT on every link gives waypoint flows other ports than their initiator chose.
    pub translated: bool,
    /// Watches all links, if there is one.
    pub wiretap: Option<Wiretap>,
    rng: ChaCha12Rng,
    now: Time,
    nodes: Vec<Node>,
    hosts: Vec<Host>,
    far: HashMap<(usize, u16), Far>,
    /// By link.
    cut: Vec<bool>,
    /// Links with an MTU of their own.
    narrow: HashMap<usize, usize>,
    queue: BinaryHeap<Reverse<(Time, u64, Arrival)>>,
    sequence: u64,
    batch: Batch,
    tap: Option<Tap>,
    events: Vec<(NodeId, Event)>,
    /// What workers told each other.
    notices: Vec<Notice>,
}

/// Wall clock at the start of the simulation.
const EPOCH: u64 = 1_800_000_000;
const LINK_DELAY: u64 = 1_000_000;
/// How many packets that arrive at once are given to an engine together.
const BATCH: usize = 32;

impl Network {
    /// A network of a chain of routers.
    ///
    /// # Panics
    /// When the fabric's models do not compile: a mistake of the test.
    #[must_use]
    pub fn new(fabric: Fabric, seed: u64) -> Self {
        Self::with_topology(Topology::chain(&fabric), seed)
    }

    /// A network of any routers.
    ///
    /// # Panics
    /// When the models do not compile: a mistake of the test.
    #[must_use]
    pub fn with_topology(topology: Topology, seed: u64) -> Self {
        Self::with_workers(topology, seed, |_| 1)
    }

    /// A network of any routers, each with as many workers as `workers` says.
    ///
    /// # Panics
    /// When the models do not compile: a mistake of the test.
    #[must_use]
    pub fn with_workers(topology: Topology, seed: u64, workers: impl Fn(NodeId) -> u8) -> Self {
        let mut network = Self {
            seed,
            faults: Faults::default(),
            translated: false,
            wiretap: None,
            rng: ChaCha12Rng::seed_from_u64(seed),
            now: Time::from_secs(100),
            nodes: Vec::new(),
            hosts: Vec::new(),
            far: HashMap::new(),
            cut: vec![false; topology.links.len()],
            narrow: HashMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            batch: Batch::new(BATCH, 512, 2048),
            tap: None,
            events: Vec::new(),
            notices: Vec::new(),
        };
        for (index, model) in topology.models.into_iter().enumerate() {
            let node = network.boot(model, workers(NodeId(index)));
            network.nodes.push(node);
        }
        for (link, [a, b]) in topology.links.iter().map(|link| link.ends).enumerate() {
            for ((node, interface), (far, back)) in [(a, b), (b, a)] {
                let far = Far { node: far.0, interface: back, link };
                network.far.insert((node.0, interface.0), far);
            }
        }
        network
    }

    fn keys(&mut self, model: &RouterModel) -> Vec<KeyringEntry> {
        let entry = |(peer, element): (PeerId, &fairway_types::model::Peer)| {
            let mut sender_salt = [0; 16];
            self.rng.fill_bytes(&mut sender_salt);
            let key = shared_key(&model.router, &element.name);
            KeyringEntry { peer, name: element.name.clone(), key, sender_salt }
        };
        (0u16..).map(PeerId).zip(&model.peers).map(entry).collect()
    }

    fn boot(&mut self, model: RouterModel, workers: u8) -> Node {
        let mut keyring = Keyring::new();
        let keys = self.keys(&model);
        let filled = keyring.replace(&model.router, keys, self.clock().unix);
        assert!(filled.is_ok(), "names of the simulation do not collide");
        let Ok(snapshot) = Snapshot::compile(model.clone()) else { unreachable!("models are consistent") };
        let (snapshot, boot_id) = (Arc::new(snapshot), self.rng.next_u64());
        let shared = Shared::new(&model, keyring, self.rng.next_u64());
        let engine = |worker| {
            let mut seed = [0; 32];
            self.rng.fill_bytes(&mut seed);
            let now = Now { mono: self.now, unix: EPOCH + self.now.0 / 1_000_000_000 };
            let shard = Shard::new(WorkerId(worker), workers)?;
            Some(Engine::of_several(Arc::clone(&snapshot), shared.clone(), shard, seed, boot_id, now))
        };
        Node::new((0..workers).filter_map(engine).collect(), model)
    }

    /// Gives a router another configuration. Links and hosts stay at the interfaces of their names.
    ///
    /// # Panics
    /// When the model does not compile.
    pub fn reload(&mut self, node: NodeId, model: RouterModel) -> Applied {
        let keys = self.keys(&model);
        let Ok(snapshot) = Snapshot::compile(model.clone()) else { unreachable!("models are consistent") };
        let (now, index) = (self.clock(), node.0);
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 0, 0));
        batch.clear();
        let keyring = self.nodes[index].engines[0].next_keyring(&snapshot, keys, now);
        assert!(keyring.is_ok(), "{keyring:?}");
        let (snapshot, keyring) = (Arc::new(snapshot), keyring.unwrap_or_default());
        let mut sum = Applied::default();
        for worker in 0..self.nodes[index].engines.len() {
            let engine = &mut self.nodes[index].engines[worker];
            let applied = engine.apply(now, Arc::clone(&snapshot), keyring.clone());
            sum.kept += applied.kept;
            sum.removed += applied.removed;
            if worker == 0 {
                // What is sent from here on bears the new numbers.
                self.renumber(index, &model);
                self.nodes[index].model = model.clone();
            }
            self.dispatch(index, worker, &mut batch);
            batch.clear();
        }
        self.batch = batch;
        self.nodes[index].engines[0].publish_all_paths();
        self.share(index, 0);
        sum
    }

    /// Finds the interfaces of a router by their names in another model.
    fn renumber(&mut self, index: usize, model: &RouterModel) {
        let names = self.nodes[index].model.interfaces.iter().map(|interface| &interface.name);
        let new: Vec<Option<u16>> = names
            .map(|name| model.interfaces.iter().position(|other| other.name == *name))
            .map(|position| position.map(|position| position as u16))
            .collect();
        let place = |old: u16| new.get(usize::from(old)).copied().flatten().unwrap_or(u16::MAX);
        let here = self.far.extract_if(|&(node, _), _| node == index);
        let moved: Vec<_> = here.map(|((node, old), far)| ((node, place(old)), far)).collect();
        self.far.extend(moved);
        for far in self.far.values_mut().filter(|far| far.node == index) {
            far.interface = InterfaceId(place(far.interface.0));
        }
        for host in self.hosts.iter_mut().filter(|host| host.node == index) {
            host.interface = InterfaceId(place(host.interface.0));
        }
        let queue = std::mem::take(&mut self.queue).into_iter().map(|Reverse((at, sequence, arrival))| {
            Reverse(match arrival {
                Arrival::AtNode(node, old, packet) if node == index => {
                    (at, sequence, Arrival::AtNode(node, place(old), packet))
                }
                Arrival::AtWorker(node, worker, handed) if node == index => {
                    let handed = Handed { interface: place(handed.interface), ..handed };
                    (at, sequence, Arrival::AtWorker(node, worker, handed))
                }
                other => (at, sequence, other),
            })
        });
        self.queue = queue.collect();
        self.nodes[index].renumber(place);
    }

    /// Both clocks.
    #[must_use]
    pub fn clock(&self) -> Now {
        Now { mono: self.now, unix: EPOCH + self.now.0 / 1_000_000_000 }
    }

    /// Whether there is such a router.
    #[must_use]
    pub fn engine_exists(&self, node: NodeId) -> bool {
        node.0 < self.nodes.len()
    }

    /// All routers.
    pub fn routers(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The counters of a router.
    #[must_use]
    pub fn books(&self, node: NodeId) -> Books {
        Books::of_all(&self.nodes[node.0].engines)
    }

    /// The counters of all routers.
    #[must_use]
    pub fn all_books(&self) -> Vec<Books> {
        self.routers().map(|node| self.books(node)).collect()
    }

    /// Cuts or mends a link, by its place in [`Topology::links`].
    pub fn set_cut(&mut self, link: usize, cut: bool) {
        self.cut[link] = cut;
    }

    /// Lets a router in the middle of a link carry no packets longer than `mtu`. It cuts those that may
    /// be cut, and answers the others.
    pub fn set_narrow(&mut self, link: usize, mtu: usize) {
        self.narrow.insert(link, mtu);
    }

    /// How many links there are.
    #[must_use]
    pub fn links(&self) -> usize {
        self.cut.len()
    }

    /// The next number of the network's own generator.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// The engine of a router, or of its first worker.
    #[must_use]
    pub fn engine(&self, node: NodeId) -> &Engine {
        &self.nodes[node.0].engines[0]
    }

    /// The engines of all workers of a router.
    #[must_use]
    pub fn engines(&self, node: NodeId) -> &[Engine] {
        &self.nodes[node.0].engines
    }

    /// The engine of a router, to be meddled with.
    pub fn engine_mut(&mut self, node: NodeId) -> &mut Engine {
        self.nodes[node.0].due[0] = Some(Time::ZERO);
        &mut self.nodes[node.0].engines[0]
    }

    /// The model a router runs.
    #[must_use]
    pub fn model(&self, node: NodeId) -> &RouterModel {
        &self.nodes[node.0].model
    }

    /// Calls `tap` with every packet that one router sends to another.
    pub fn set_tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// What the engines reported since the last call.
    pub fn take_events(&mut self) -> Vec<(NodeId, Event)> {
        std::mem::take(&mut self.events)
    }

    /// Attaches a host to an interface of a router.
    pub fn add_host(&mut self, node: NodeId, interface: InterfaceId, addresses: &[IpAddr]) -> HostId {
        let addresses = addresses.to_vec();
        self.hosts.push(Host { node: node.0, interface, addresses, inbox: Vec::new() });
        HostId(self.hosts.len() - 1)
    }

    /// Lets a host send a packet.
    pub fn send(&mut self, host: HostId, packet: Vec<u8>) {
        let Host { node, interface, .. } = self.hosts[host.0];
        self.schedule(self.now, Arrival::AtNode(node, interface.0, packet));
    }

    /// Puts a packet on the wire toward a router, as an attacker on the link would.
    pub fn inject(&mut self, node: NodeId, interface: InterfaceId, packet: Vec<u8>) {
        self.schedule(self.now, Arrival::AtNode(node.0, interface.0, packet));
    }

    /// What a host received since the last call.
    pub fn receive(&mut self, host: HostId) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.hosts[host.0].inbox)
    }

    /// Starts a router anew: its sessions are lost.
    pub fn restart(&mut self, node: NodeId) {
        let model = self.nodes[node.0].model.clone();
        let workers = self.nodes[node.0].engines.len();
        self.nodes[node.0] = self.boot(model, workers as u8);
        // What waited inside of it is lost, too.
        self.queue.retain(|Reverse((_, _, arrival))| match arrival {
            Arrival::AtWorker(at, ..) | Arrival::Told(at, ..) | Arrival::Drained(at, ..) => *at != node.0,
            Arrival::AtNode(..) | Arrival::AtHost(..) => true,
        });
        (0..workers).for_each(|worker| self.timeout(node.0, worker));
    }

    fn schedule(&mut self, at: Time, arrival: Arrival) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, arrival)));
    }

    /// Lets `millis` milliseconds pass.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + std::time::Duration::from_millis(millis);
        let mut idle = 0;
        loop {
            let packet = self.queue.peek().map(|Reverse((at, ..))| *at);
            let dues = self.nodes.iter().enumerate();
            let timer = dues
                .flat_map(|(index, node)| {
                    node.due.iter().enumerate().map(move |(worker, due)| (*due, index, worker))
                })
                .filter_map(|(due, index, worker)| Some((due?, (index, worker))))
                .min();
            match (packet, timer) {
                (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    if let Some(Reverse((_, _, arrival))) = self.queue.pop() {
                        self.arrive(arrival);
                    }
                }
                (_, Some((due, (index, worker)))) if due <= end => {
                    idle = if due > self.now { 0 } else { idle + 1 };
                    assert!(idle < 10_000, "seed {}: the timer of router {index} is always due", self.seed);
                    self.now = self.now.max(due);
                    self.timeout(index, worker);
                }
                _ => break,
            }
        }
        self.now = end;
    }
}

/// The key two routers share: any function of both names will do.
#[must_use]
pub fn shared_key(one: &str, other: &str) -> PeerKey {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    let mut bytes = [7; 32];
    for (slot, byte) in bytes.iter_mut().zip(low.bytes().chain([0]).chain(high.bytes())) {
        *slot = byte;
    }
    PeerKey::from_bytes(bytes)
}
