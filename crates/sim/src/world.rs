//! Hosts that converse across a fabric, and the reference model their conversations are held to.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::Version;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::conversation::{Conversation, Kind, RETRY_MILLIS, Sent};
use crate::fragments::{Desk, cut};
use crate::marker;
use crate::network::{Faults, HostId, Network, NodeId};
use crate::packet::{IcmpError, Packet};
use crate::plan::{Plan, Server, Tenant, client_address};
use crate::topology::Topology;
use crate::wiretap::Wiretap;

/// Clients of each tenant at each site.
const CLIENTS: u8 = 2;
/// The MTU of all links.
const MTU: usize = 1500;
/// The largest payload that fits every link in one packet of its host.
const LARGEST: usize = MTU - 40 - 20 - 16;
/// The largest one that hosts send in fragments.
const LONG: usize = 6000;
/// How often a client that is denied tries.
const DENIED_TRIES: u32 = 3;

/// Where a host is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Client(Tenant, u8),
    Server(Server),
}

/// Host, source, destination and protocol.
type End = (HostId, SocketAddr, SocketAddr, u8);

/// A fabric with hosts.
pub struct World {
    /// The fabric.
    pub network: Network,
    /// Everything that is said.
    pub conversations: Vec<Conversation>,
    rng: ChaCha12Rng,
    hosts: Vec<(HostId, usize, Place)>,
    /// By host, source, destination and protocol of what is delivered: the conversations, one after
    /// the other, and whether the packet is the server's.
    ends: HashMap<End, Vec<(usize, bool)>>,
    /// Pairs that already have their one session without ports; the same client addresses are at
    /// every site.
    portless: HashSet<(IpAddr, IpAddr)>,
    /// The fragments that each host got of packets that are not whole.
    desks: HashMap<HostId, Desk>,
    /// The identification of the next packet in fragments.
    named: u32,
    /// Whether links may change what no checksum covers.
    corrupts: bool,
    /// Whether links may double packets.
    doubles: bool,
}

impl World {
    /// The fabric of a plan, with all its hosts, after its routers have found each other.
    #[must_use]
    pub fn new(plan: &Plan, topology: &Topology, seed: u64) -> Self {
        Self::with_workers(plan, topology, seed, |_| 1)
    }

    /// [`Self::new`], with as many workers in each router as `workers` says.
    #[must_use]
    pub fn with_workers(plan: &Plan, topology: &Topology, seed: u64, workers: impl Fn(NodeId) -> u8) -> Self {
        let mut network = Network::with_workers(topology.clone(), seed, workers);
        let mut hosts = Vec::new();
        for (site, &router) in plan.sites.iter().enumerate() {
            let node = NodeId(router);
            let mut add = |lan: &str, place: Place| {
                let addresses = [false, true].map(|ipv6| address(place, site, ipv6));
                let interface = topology.interface(node, lan);
                hosts.extend(interface.map(|lan| (network.add_host(node, lan, &addresses), site, place)));
            };
            for number in 0..CLIENTS {
                add("corp", Place::Client(Tenant::Corp, number));
                add("guest", Place::Client(Tenant::Guest, number));
            }
            Server::ALL.into_iter().for_each(|server| add("srv", Place::Server(server)));
        }
        let secret: HashSet<IpAddr> = hosts
            .iter()
            .flat_map(|&(_, site, place)| [false, true].map(|ipv6| address(place, site, ipv6)))
            .collect();
        let mut secret: Vec<IpAddr> = secret.into_iter().collect();
        secret.sort_unstable();
        network.wiretap = Some(Wiretap::new(&secret, plan.encrypt).payload(plan.payload));
        network.run(12_000);
        Self {
            network,
            conversations: Vec::new(),
            rng: ChaCha12Rng::seed_from_u64(seed ^ 0x776f_726c_6400),
            hosts,
            ends: HashMap::new(),
            portless: HashSet::new(),
            desks: HashMap::new(),
            named: 1,
            corrupts: false,
            doubles: false,
        }
    }

    /// Sets what links do.
    pub fn set_faults(&mut self, faults: Faults) {
        self.corrupts |= faults.corrupt > 0;
        self.doubles |= faults.duplicate > 0 || faults.replay > 0;
        self.network.faults = faults;
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound.max(1) as u64) as usize
    }

    /// Milliseconds of the network's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.network.clock().mono.as_millis()
    }

    /// Adds `count` conversations of any kind between any hosts, to begin within `millis`.
    pub fn converse(&mut self, count: usize, millis: u64) {
        for _ in 0..count {
            let kind = self.below(Kind::ALL.len());
            let kind = Kind::ALL[kind];
            let begins = self.now() + self.below(millis as usize) as u64;
            self.add_conversation(kind, begins);
        }
    }

    /// Lets clients whose conversation is over begin a new one between the same ports.
    pub fn converse_again(&mut self) {
        for index in 0..self.conversations.len() {
            let old = &self.conversations[index];
            if !old.done || !old.allowed || old.kind == Kind::Gre {
                continue;
            }
            let id = self.conversations.len() as u32;
            let sent = [HashMap::new(), HashMap::new()];
            let numbers = (self.rng.next_u32(), self.rng.next_u32());
            let begins = self.now() + self.below(4000) as u64;
            let old = &self.conversations[index];
            let (step, asked, tries, done) = (0, None, 0, false);
            let again = Conversation { id, numbers, begins, step, asked, tries, done, sent, ..old.clone() };
            let protocol = again.kind.protocol(again.from.is_ipv6());
            self.join(&again, protocol);
            self.conversations.push(again);
        }
    }

    fn join(&mut self, conversation: &Conversation, protocol: u8) {
        let Conversation { id, client, server, from, to, .. } = *conversation;
        self.ends.entry((client, to, from, protocol)).or_default().push((id as usize, true));
        self.ends.entry((server, from, to, protocol)).or_default().push((id as usize, false));
    }

    fn add_conversation(&mut self, kind: Kind, begins: u64) {
        let (client, site, tenant, number) = loop {
            let at = self.below(self.hosts.len());
            let (host, site, place) = self.hosts[at];
            if let Place::Client(tenant, number) = place {
                break (host, site, tenant, number);
            }
        };
        let (server, there, service) = loop {
            let at = self.below(self.hosts.len());
            let (host, there, place) = self.hosts[at];
            if let Place::Server(service) = place {
                break (host, there, service);
            }
        };
        let ipv6 = self.below(2) == 1;
        let tcp = matches!(kind, Kind::Tcp | Kind::TcpReset | Kind::TcpRefused);
        let most = match self.below(16) {
            0 if !tcp => LONG,
            0..4 => LARGEST,
            _ => 200,
        };
        let size = self.below(most);
        let id = self.conversations.len() as u32;
        let ports = match kind {
            Kind::Gre => (0, 0),
            Kind::Echo => (2000 + id as u16, 2000 + id as u16),
            _ => (2000 + id as u16, [53, 80, 443, 5000][self.below(4)]),
        };
        let from = SocketAddr::new(address(Place::Client(tenant, number), site, ipv6), ports.0);
        let to = SocketAddr::new(address(Place::Server(service), there, ipv6), ports.1);
        if kind == Kind::Gre && !self.portless.insert((from.ip(), to.ip())) {
            return;
        }
        let conversation = Conversation {
            id,
            kind,
            client,
            server,
            from,
            to,
            tenant,
            allowed: service.admits(tenant),
            rounds: 1 + self.below(8) as u16,
            size: 16 + size,
            traffic_class: self.rng.next_u32() as u8,
            numbers: (self.rng.next_u32(), self.rng.next_u32()),
            begins,
            step: 0,
            asked: None,
            tries: 0,
            done: false,
            sent: [HashMap::new(), HashMap::new()],
        };
        let protocol = kind.protocol(ipv6);
        self.join(&conversation, protocol);
        self.conversations.push(conversation);
    }

    /// Lets `millis` milliseconds pass.
    pub fn run(&mut self, millis: u64) {
        let end = self.now() + millis;
        while self.now() < end {
            self.ask();
            self.network.run(20.min(end - self.now()));
            self.listen();
        }
    }

    /// Lets clients say what is due.
    fn ask(&mut self) {
        let now = self.now();
        for index in 0..self.conversations.len() {
            let conversation = &mut self.conversations[index];
            let waits = conversation.asked.is_some_and(|asked| now < asked + RETRY_MILLIS);
            if conversation.done || conversation.begins > now || waits {
                continue;
            }
            let step = conversation.step;
            conversation.asked = Some(now);
            conversation.tries += 1;
            let packet = conversation.request(step);
            if !conversation.expects_response(step) {
                conversation.step += 1;
            }
            conversation.done = conversation.step == conversation.steps()
                || !conversation.allowed && conversation.tries == DENIED_TRIES;
            self.say(index, false, step, &packet);
        }
    }

    fn say(&mut self, index: usize, answer: bool, step: u16, packet: &Packet) {
        let key = self.canonical(packet);
        let conversation = &mut self.conversations[index];
        let fresh = Sent { step, sent: 0, delivered: 0 };
        conversation.sent[usize::from(answer)].entry(key).or_insert(fresh).sent += 1;
        let host = if answer { conversation.server } else { conversation.client };
        for fragment in cut(&packet.bytes(), MTU, self.named) {
            self.network.send(host, fragment);
        }
        self.named += 1;
    }

    /// What has to arrive as it was sent: everything but the TTL, PSH, which goes with metadata, and, when
    /// links change bits, what no checksum of IPv6 covers.
    fn canonical(&self, packet: &Packet) -> Vec<u8> {
        let mut packet = Packet { ttl: 0, ..packet.clone().without_push() };
        if self.corrupts {
            packet.traffic_class = 0;
        }
        packet.bytes()
    }

    fn listen(&mut self) {
        for at in 0..self.hosts.len() {
            let (host, ..) = self.hosts[at];
            for bytes in self.network.receive(host) {
                assert!(bytes.len() <= MTU, "{}: {} bytes", self.label(), bytes.len());
                let Some(bytes) = self.desks.entry(host).or_default().take(bytes) else { continue };
                if let Some(error) = IcmpError::read(&bytes) {
                    self.hear_error(host, &error);
                } else if let Some(packet) = Packet::read(&bytes) {
                    self.hear(host, &packet, &bytes);
                } else {
                    assert!(self.corrupts, "{}: {host:?} got {bytes:02x?}", self.label());
                }
            }
        }
    }

    fn label(&self) -> String {
        format!("SEED={}", self.network.seed)
    }

    /// The conversation between two ends that a packet belongs to: the last one it was sent in.
    fn conversation_of(&self, end: &End, canonical: &[u8]) -> Option<(usize, bool)> {
        let ends = self.ends.get(end).map_or(&[][..], Vec::as_slice);
        let holds = |&&(index, answer): &&(usize, bool)| {
            self.conversations[index].sent[usize::from(answer)].contains_key(canonical)
        };
        ends.iter().rev().find(holds).copied()
    }

    /// A packet is delivered: it must be allowed, and be what was sent.
    fn hear(&mut self, host: HostId, packet: &Packet, bytes: &[u8]) {
        let end = (host, packet.source, packet.destination, packet.protocol);
        let canonical = self.canonical(packet);
        let found = self.conversation_of(&end, &canonical);
        let label = self.label();
        assert!(found.is_some(), "{label}: {host:?} got what nobody sent: {}", brief(packet));
        let Some((index, answer)) = found else { return };
        let doubles = self.doubles;
        let conversation = &mut self.conversations[index];
        assert!(conversation.allowed, "{label}: unauthorised: {}", brief(packet));
        let Some(sent) = conversation.sent[usize::from(answer)].get_mut(&canonical) else { return };
        sent.delivered += 1;
        assert!(doubles || sent.delivered <= sent.sent, "{label}: doubled: {}", brief(packet));
        assert!(self.corrupts || packet.ttl < 64, "{label}: TTL: {}", brief(packet));
        let step = sent.step;
        if answer { self.proceed(index, step) } else { self.serve(index, step, bytes) }
    }

    /// A server answers.
    fn serve(&mut self, index: usize, step: u16, bytes: &[u8]) {
        let conversation = &self.conversations[index];
        if conversation.kind == Kind::Unreachable {
            let version = Version::of(conversation.to.ip());
            let error = ErrorRepr::port_unreachable(version);
            let error = IcmpError::bytes(conversation.to.ip(), bytes, &error);
            return self.network.send(conversation.server, error);
        }
        // Acknowledgements bear the number of the step after which they are sent.
        let is_request = conversation.request(step).tcp == tcp_of(bytes);
        if let Some(packet) = conversation.response(step).filter(|_| is_request) {
            self.say(index, true, step, &packet);
        }
    }

    /// A client got its response.
    fn proceed(&mut self, index: usize, step: u16) {
        let conversation = &mut self.conversations[index];
        let acknowledgement = conversation.acknowledgement(step);
        if step == conversation.step {
            conversation.step += 1;
            conversation.asked = None;
            conversation.tries = 0;
            conversation.done = conversation.step == conversation.steps();
        }
        if let Some(packet) = acknowledgement {
            self.say(index, false, step, &packet);
        }
    }

    /// An ICMP error is delivered: it must be about something the host sent in an allowed session.
    fn hear_error(&mut self, host: HostId, error: &IcmpError) {
        let key = (host, error.quoted_destination, error.quoted_source, error.quoted_protocol);
        let end = self.ends.get(&key).and_then(|ends| ends.last()).copied();
        assert!(end.is_some(), "{}: {host:?} got {error:?}", self.label());
        let Some((index, to_client)) = end else { return };
        let label = self.label();
        let conversation = &self.conversations[index];
        assert!(conversation.allowed, "{label}: {error:?}");
        if conversation.kind == Kind::Unreachable && to_client && error.is_port_unreachable() {
            assert_eq!(error.source, conversation.to.ip(), "{label}: the issuer is the server");
            self.proceed(index, 0);
        }
    }

    /// Lets time pass until everything that is allowed was said.
    ///
    /// # Panics
    /// When that takes longer than `millis`.
    pub fn finish(&mut self, millis: u64) {
        let end = self.now() + millis;
        while self.conversations.iter().any(|c| !c.done) {
            let open = self.conversations.iter().filter(|c| !c.done);
            let open: Vec<String> = open.map(Conversation::brief).collect();
            assert!(self.now() < end, "{}: stuck: {open:#?}: {:#?}", self.label(), self.drops());
            self.run(200);
        }
        self.run(1000);
    }

    /// Holds that every allowed packet arrived as often as it was sent.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check_complete(&self) {
        for conversation in self.conversations.iter().filter(|c| c.allowed) {
            for sent in conversation.sent.iter().flat_map(HashMap::values) {
                let drops = || self.drops();
                let complete = sent.delivered == sent.sent;
                assert!(complete, "{}: {sent:?} of {}: {:?}", self.label(), conversation.brief(), drops());
            }
        }
    }

    /// Every drop counter that is not zero, with its last example, for messages of failures.
    fn drops(&self) -> Vec<String> {
        let each = self.network.routers().flat_map(|node| {
            let engines = self.network.engines(node).iter();
            let drops = engines.flat_map(|engine| engine.drops()).filter(|record| record.last.is_some());
            drops.map(move |record| {
                format!("{node:?}: {} {} {:?}", record.count, record.reason.name(), record.last)
            })
        });
        each.filter(|line| !line.contains("before-start")).collect()
    }

    /// How many packets were delivered.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        let sent = self.conversations.iter().flat_map(|c| c.sent.iter().flat_map(HashMap::values));
        sent.map(|sent| u64::from(sent.delivered)).sum()
    }

    /// How many packets of conversations that are not allowed entered at a router.
    #[must_use]
    pub fn denied_at(&self, plan: &Plan, node: NodeId) -> u64 {
        let site = plan.sites.iter().position(|&router| router == node.0);
        let here =
            |c: &&Conversation| self.hosts.iter().any(|&(host, at, _)| host == c.client && Some(at) == site);
        let denied = self.conversations.iter().filter(|c| !c.allowed).filter(here);
        denied.flat_map(|c| c.sent[0].values()).map(|sent| u64::from(sent.sent)).sum()
    }

    /// Holds that packets went by one way, and back by the same.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check_symmetry(&self) {
        let Some(wiretap) = &self.network.wiretap else { return };
        for conversation in &self.conversations {
            let there = wiretap.hops(conversation.id, false);
            let back = wiretap.hops(conversation.id, true);
            let reversed = back.iter().all(|&(from, to)| there.contains(&(to, from)));
            assert!(reversed, "{}: {there:?} but {back:?}", self.label());
            let starts: HashSet<NodeId> = there.iter().map(|&(from, _)| from).collect();
            assert_eq!(starts.len(), there.len(), "{}: two ways: {there:?}", self.label());
        }
    }

    /// Holds that what the routers believe to hold of each limit is what they hold.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check_limits(&self) {
        for node in self.network.routers() {
            for engine in self.network.engines(node) {
                let mistakes = engine.audit_limits();
                assert!(mistakes.is_empty(), "{}: limits of {node:?}: {mistakes:#?}", self.label());
            }
        }
    }

    /// Holds that nothing is left of any session.
    ///
    /// # Panics
    /// When something is.
    pub fn check_drained(&self) {
        self.check_limits();
        for node in self.network.routers() {
            let label = self.label();
            for engine in self.network.engines(node) {
                assert_eq!(engine.session_count(), 0, "{label}: sessions on {node:?}");
                assert_eq!(engine.half_open_count(), 0, "{label}: half-open on {node:?}");
                assert_eq!(engine.exceptions(), 0, "{label}: exceptions on {node:?}");
                for usage in engine.waypoints() {
                    assert_eq!(usage.used, 0, "{label}: waypoints on {node:?}: {usage:?}");
                }
            }
        }
    }
}

fn address(place: Place, site: usize, ipv6: bool) -> IpAddr {
    match place {
        Place::Client(_, number) => client_address(number, ipv6),
        Place::Server(server) => server.address(site, ipv6),
    }
}

fn tcp_of(bytes: &[u8]) -> (u8, u32, u32) {
    Packet::read(bytes).map_or((0, 0, 0), |packet| packet.tcp)
}

fn brief(packet: &Packet) -> String {
    let Packet { source, destination, protocol, traffic_class, ttl, tcp, payload, .. } = packet;
    let (mark, length) = (marker::find(payload), payload.len());
    format!(
        "{protocol} {source} -> {destination} class {traffic_class} ttl {ttl} tcp {tcp:?} {length} bytes {mark:?}"
    )
}
