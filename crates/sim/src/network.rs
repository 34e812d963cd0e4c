//! Engines, hosts and links under one virtual clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairway_crypto::{Keyring, KeyringEntry, PeerKey};
use fairway_policy::Snapshot;
use fairway_session::{Applied, Engine, Event};
use fairway_types::model::RouterModel;
use fairway_types::{Batch, InterfaceId, Now, PeerId, Slot, Time, Verdict};
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::accounting::Books;
use crate::fabric::Fabric;
use crate::packet::is_intact;
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

struct Node {
    engine: Engine,
    model: RouterModel,
    /// When the engine wants to be called.
    due: Option<Time>,
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
    AtNode(usize, u16, Vec<u8>),
    AtHost(usize, Vec<u8>),
}

/// Sees every packet between routers.
pub type Tap = Box<dyn FnMut(NodeId, &[u8])>;

/// A network in virtual time.
pub struct Network {
    /// The seed everything follows from.
    pub seed: u64,
    /// What links between routers do.
    pub faults: Faults,
    /// Watches all links, if there is one.
    pub wiretap: Option<Wiretap>,
    rng: ChaCha12Rng,
    now: Time,
    nodes: Vec<Node>,
    hosts: Vec<Host>,
    far: HashMap<(usize, u16), Far>,
    /// By link.
    cut: Vec<bool>,
    queue: BinaryHeap<Reverse<(Time, u64, Arrival)>>,
    sequence: u64,
    batch: Batch,
    tap: Option<Tap>,
    events: Vec<(NodeId, Event)>,
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
        let mut network = Self {
            seed,
            faults: Faults::default(),
            wiretap: None,
            rng: ChaCha12Rng::seed_from_u64(seed),
            now: Time::from_secs(100),
            nodes: Vec::new(),
            hosts: Vec::new(),
            far: HashMap::new(),
            cut: vec![false; topology.links.len()],
            queue: BinaryHeap::new(),
            sequence: 0,
            batch: Batch::new(BATCH, 512, 2048),
            tap: None,
            events: Vec::new(),
        };
        for model in topology.models {
            let node = network.boot(model);
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

    fn boot(&mut self, model: RouterModel) -> Node {
        let mut keyring = Keyring::new();
        let keys = self.keys(&model);
        let filled = keyring.replace(&model.router, keys, self.clock().unix);
        assert!(filled.is_ok(), "names of the simulation do not collide");
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let Ok(snapshot) = Snapshot::compile(model.clone()) else { unreachable!("models are consistent") };
        let engine = Engine::new(Arc::new(snapshot), keyring, seed, self.rng.next_u64(), self.clock());
        let due = engine.poll_timeout();
        Node { engine, model, due }
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
        let applied = self.nodes[index].engine.apply(now, Arc::new(snapshot), keys, &mut batch);
        assert!(applied.is_ok(), "{applied:?}");
        self.renumber(index, &model);
        self.nodes[index].model = model;
        self.dispatch(index, &batch);
        self.batch = batch;
        applied.unwrap_or_default()
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
                other => (at, sequence, other),
            })
        });
        self.queue = queue.collect();
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
        Books::of(&self.nodes[node.0].engine)
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

    /// How many links there are.
    #[must_use]
    pub fn links(&self) -> usize {
        self.cut.len()
    }

    /// The next number of the network's own generator.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// The engine of a router.
    #[must_use]
    pub fn engine(&self, node: NodeId) -> &Engine {
        &self.nodes[node.0].engine
    }

    /// The engine of a router, to be meddled with.
    pub fn engine_mut(&mut self, node: NodeId) -> &mut Engine {
        self.nodes[node.0].due = Some(Time::ZERO);
        &mut self.nodes[node.0].engine
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
        self.nodes[node.0] = self.boot(model);
        self.timeout(node.0);
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
            let timer = dues.filter_map(|(index, node)| Some((node.due?, index))).min();
            match (packet, timer) {
                (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    if let Some(Reverse((_, _, arrival))) = self.queue.pop() {
                        self.arrive(arrival);
                    }
                }
                (_, Some((due, index))) if due <= end => {
                    idle = if due > self.now { 0 } else { idle + 1 };
                    assert!(idle < 10_000, "seed {}: the timer of router {index} is always due", self.seed);
                    self.now = self.now.max(due);
                    self.timeout(index);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn timeout(&mut self, index: usize) {
        let now = self.clock();
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 0, 0));
        batch.clear();
        self.nodes[index].engine.handle_timeout(now, &mut batch);
        self.dispatch(index, &batch);
        self.batch = batch;
    }

    fn arrive(&mut self, arrival: Arrival) {
        let (index, interface, packet) = match arrival {
            Arrival::AtHost(host, packet) => return self.hosts[host].inbox.push(packet),
            Arrival::AtNode(index, interface, packet) => (index, interface, packet),
        };
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 0, 0));
        batch.clear();
        receive(&mut batch, interface, &packet);
        while batch.room() > 0
            && let Some((interface, packet)) = self.next_at(index)
        {
            receive(&mut batch, interface, &packet);
        }
        let now = self.clock();
        let engine = &mut self.nodes[index].engine;
        let before = Books::of(engine);
        engine.process(now, &mut batch);
        Books::check(&before, &Books::of(engine), &batch, self.seed);
        self.dispatch(index, &batch);
        self.batch = batch;
    }

    /// What comes next, if it comes now and to this router.
    fn next_at(&mut self, index: usize) -> Option<(u16, Vec<u8>)> {
        let Reverse((at, _, Arrival::AtNode(node, ..))) = self.queue.peek()? else { return None };
        if *at > self.now || *node != index {
            return None;
        }
        let Reverse((_, _, Arrival::AtNode(_, interface, packet))) = self.queue.pop()? else { return None };
        Some((interface, packet))
    }

    fn dispatch(&mut self, index: usize, batch: &Batch) {
        for slot in batch.emitted().iter().chain(batch.received()) {
            self.transmit(index, slot);
        }
        let node = &mut self.nodes[index];
        while let Some(event) = node.engine.poll_event() {
            self.events.push((NodeId(index), event));
        }
        node.due = node.engine.poll_timeout();
    }

    fn transmit(&mut self, index: usize, slot: &Slot) {
        let Verdict::Forward(egress) = slot.verdict else { return };
        let packet = slot.packet.bytes().to_vec();
        let at = self.now + std::time::Duration::from_nanos(LINK_DELAY);
        if let Some(&far) = self.far.get(&(index, egress.interface.0)) {
            if let Some(tap) = &mut self.tap {
                tap(NodeId(index), &packet);
            }
            if let Some(wiretap) = &mut self.wiretap {
                wiretap.see(NodeId(index), NodeId(far.node), &packet, self.seed);
            }
            return self.cross(at, far, packet);
        }
        let host = self.hosts.iter().position(|host| {
            (host.node, host.interface) == (index, egress.interface)
                && host.addresses.contains(&egress.next_hop)
        });
        if let Some(host) = host {
            self.schedule(at, Arrival::AtHost(host, packet));
        }
    }

    /// A link between routers, with its faults.
    fn cross(&mut self, at: Time, far: Far, mut packet: Vec<u8>) {
        if self.cut[far.link] || self.happens(self.faults.loss) {
            return;
        }
        // No packet is damaged twice: the second bit could hide the first from any checksum.
        if self.happens(self.faults.replay) {
            let later = at + std::time::Duration::from_millis(self.rng.next_u64() % 8000);
            self.schedule(later, Arrival::AtNode(far.node, far.interface.0, packet.clone()));
        }
        if self.happens(self.faults.corrupt) && is_intact(&packet) {
            let bit = self.rng.next_u32() as usize % (packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        let copies = 1 + usize::from(self.happens(self.faults.duplicate));
        for _ in 0..copies {
            let extra = if self.happens(self.faults.reorder) { self.rng.next_u64() % 20_000_000 } else { 0 };
            let at = at + std::time::Duration::from_nanos(extra);
            self.schedule(at, Arrival::AtNode(far.node, far.interface.0, packet.clone()));
        }
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.next_u32() % 1000 < per_thousand
    }
}

fn receive(batch: &mut Batch, interface: u16, packet: &[u8]) {
    let slot = batch.receive();
    assert!(slot.is_some(), "there is room");
    if let Some(slot) = slot {
        assert!(slot.packet.fill(packet), "packets of the simulation fit a slot");
        slot.interface = InterfaceId(interface);
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
