//! Engines, hosts and links under one virtual clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairway_crypto::{Keyring, PeerKey};
use fairway_policy::Snapshot;
use fairway_session::{Engine, Event};
use fairway_types::model::RouterModel;
use fairway_types::{Batch, InterfaceId, Now, Slot, Time, Verdict};
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::fabric::{BACK, Fabric, GUEST, LAN, NEXT};

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
}

/// What is at the other end of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    Node(usize, InterfaceId),
    /// Whichever host on the interface has the address.
    Hosts,
}

struct Node {
    engine: Engine,
    model: RouterModel,
    boots: u64,
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
    fabric: Fabric,
    rng: ChaCha12Rng,
    now: Time,
    nodes: Vec<Node>,
    hosts: Vec<Host>,
    far: HashMap<(usize, u16), Far>,
    queue: BinaryHeap<Reverse<(Time, u64, Arrival)>>,
    sequence: u64,
    batch: Batch,
    tap: Option<Tap>,
    events: Vec<(NodeId, Event)>,
}

/// Wall clock at the start of the simulation.
const EPOCH: u64 = 1_800_000_000;
const LINK_DELAY: u64 = 1_000_000;

impl Network {
    /// A network of a fabric.
    ///
    /// # Panics
    /// When the fabric's models do not compile: a mistake of the test.
    #[must_use]
    pub fn new(fabric: Fabric, seed: u64) -> Self {
        let mut network = Self {
            seed,
            faults: Faults::default(),
            rng: ChaCha12Rng::seed_from_u64(seed),
            now: Time::from_secs(100),
            nodes: Vec::new(),
            hosts: Vec::new(),
            far: HashMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            batch: Batch::new(1, 512, 2048),
            tap: None,
            events: Vec::new(),
            fabric,
        };
        for router in 0..network.fabric.routers {
            let node = network.boot(router, 1);
            network.nodes.push(node);
            let index = usize::from(router);
            network.far.insert((index, LAN.0), Far::Hosts);
            network.far.insert((index, GUEST.0), Far::Hosts);
            if router > 0 {
                network.far.insert((index, BACK.0), Far::Node(index - 1, NEXT));
                network.far.insert((index - 1, NEXT.0), Far::Node(index, BACK));
            }
        }
        network
    }

    fn boot(&mut self, router: u8, boots: u64) -> Node {
        let model = self.fabric.model(router);
        let mut keyring = Keyring::new();
        for (id, peer) in (0u16..).map(fairway_types::PeerId).zip(&model.peers) {
            let key = shared_key(&model.router, &peer.name);
            let mut salt = [0; 16];
            self.rng.fill_bytes(&mut salt);
            let started = self.clock().unix;
            let inserted = keyring.insert(id, &model.router, &peer.name, key, salt, started);
            assert!(inserted.is_ok(), "names of the simulation do not collide");
        }
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let Ok(snapshot) = Snapshot::compile(model.clone()) else { unreachable!("models are consistent") };
        let engine = Engine::new(Arc::new(snapshot), keyring, seed, self.rng.next_u64(), self.clock());
        Node { engine, model, boots }
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

    /// The engine of a router.
    #[must_use]
    pub fn engine(&self, node: NodeId) -> &Engine {
        &self.nodes[node.0].engine
    }

    /// The engine of a router, to be meddled with.
    pub fn engine_mut(&mut self, node: NodeId) -> &mut Engine {
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
        let boots = self.nodes[node.0].boots + 1;
        self.nodes[node.0] = self.boot(node.0 as u8, boots);
        self.timeout(node.0);
    }

    fn schedule(&mut self, at: Time, arrival: Arrival) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, arrival)));
    }

    /// Lets `millis` milliseconds pass.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + std::time::Duration::from_millis(millis);
        loop {
            let packet = self.queue.peek().map(|Reverse((at, ..))| *at);
            let timer = self
                .nodes
                .iter()
                .enumerate()
                .filter_map(|(index, node)| Some((node.engine.poll_timeout()?, index)))
                .min();
            match (packet, timer) {
                (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    if let Some(Reverse((_, _, arrival))) = self.queue.pop() {
                        self.arrive(arrival);
                    }
                }
                (_, Some((due, index))) if due <= end => {
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
        match arrival {
            Arrival::AtHost(host, packet) => self.hosts[host].inbox.push(packet),
            Arrival::AtNode(index, interface, packet) => {
                let now = self.clock();
                let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 0, 0));
                batch.clear();
                if let Some(slot) = batch.receive() {
                    let fits = slot.packet.fill(&packet);
                    assert!(fits, "packets of the simulation fit a slot");
                    slot.interface = InterfaceId(interface);
                }
                self.nodes[index].engine.process(now, &mut batch);
                self.dispatch(index, &batch);
                self.batch = batch;
            }
        }
    }

    fn dispatch(&mut self, index: usize, batch: &Batch) {
        for slot in batch.emitted().iter().chain(batch.received()) {
            self.transmit(index, slot);
        }
        while let Some(event) = self.nodes[index].engine.poll_event() {
            self.events.push((NodeId(index), event));
        }
    }

    fn transmit(&mut self, index: usize, slot: &Slot) {
        let Verdict::Forward(egress) = slot.verdict else { return };
        let packet = slot.packet.bytes().to_vec();
        let at = self.now + std::time::Duration::from_nanos(LINK_DELAY);
        match self.far.get(&(index, egress.interface.0)) {
            Some(&Far::Node(node, interface)) => {
                if let Some(tap) = &mut self.tap {
                    tap(NodeId(index), &packet);
                }
                self.cross(at, node, interface, packet);
            }
            Some(Far::Hosts) => {
                let host = self.hosts.iter().position(|host| {
                    (host.node, host.interface) == (index, egress.interface)
                        && host.addresses.contains(&egress.next_hop)
                });
                if let Some(host) = host {
                    self.schedule(at, Arrival::AtHost(host, packet));
                }
            }
            None => {}
        }
    }

    /// A link between routers, with its faults.
    fn cross(&mut self, at: Time, node: usize, interface: InterfaceId, mut packet: Vec<u8>) {
        if self.happens(self.faults.loss) {
            return;
        }
        if self.happens(self.faults.corrupt) {
            let bit = self.rng.next_u32() as usize % (packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        let copies = 1 + usize::from(self.happens(self.faults.duplicate));
        for _ in 0..copies {
            let extra = if self.happens(self.faults.reorder) { self.rng.next_u64() % 20_000_000 } else { 0 };
            let at = at + std::time::Duration::from_nanos(extra);
            self.schedule(at, Arrival::AtNode(node, interface.0, packet.clone()));
        }
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.next_u32() % 1000 < per_thousand
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
