//! Several workers that share a router.
//!
//! Each has an engine of its own, with its own sessions, ports and share of every limit; a packet of a
//! known flow needs nothing of the others. A session belongs to the worker of its original tuple, its
//! *home*, on every router and in both directions. The flow that a packet arrives on mostly has the
//! same class as that tuple, since routers choose waypoint ports so; where it has not, as behind a
//! NAT, the flow is an *exception*: kept in a table that all workers share, and [`Placement`]s tell
//! the kernel of it before the first packet is sent that could be answered.
//!
//! A packet that another worker owns has the verdict [`Verdict::HandOver`]. [`Notice`]s are what
//! workers tell each other: the first of them, which leads, talks to peers for all.

mod exceptions;
mod holds;

use core::fmt;
use core::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairway_crypto::Keyring;
use fairway_types::model::{Limits, PeerPath, Quota, Quotas, RouterModel};
use fairway_types::steering::class_of;
use fairway_types::{
    Batch, Counter, DropReason, InterfaceId, Now, Outlet, PathId, Protocol, Slot, Tuple, Verdict, WorkerId,
};
use fairway_wire::ip::Parsed;
use fairway_wire::svr;

pub(crate) use self::exceptions::Exceptions;
use self::holds::Held;
pub(crate) use self::holds::Holds;
use crate::engine::Engine;
use crate::key::FlowKey;
use crate::limits::Board;
use crate::liveness::Liveness;
use crate::nat::Nat;
use crate::offload::why;
use crate::session::{Leg, Side};
use crate::table::{Index, InsertError};
use crate::together::Company;

/// How often a packet may be handed over: to the owner of its flow, and from there to the home of a
/// session that its metadata tells of. After that it stays where it is.
const HANDOVERS: u8 = 2;

/// Which of how many workers an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    worker: WorkerId,
    workers: u8,
}

impl Shard {
    /// The only worker.
    pub const ALONE: Self = Self { worker: WorkerId(0), workers: 1 };

    /// One of so many workers; `None` if there is no such one.
    #[must_use]
    pub const fn new(worker: WorkerId, workers: u8) -> Option<Self> {
        if worker.0 < workers { Some(Self { worker, workers }) } else { None }
    }

    /// The worker.
    #[must_use]
    pub const fn worker(self) -> WorkerId {
        self.worker
    }

    pub(crate) const fn is_alone(self) -> bool {
        self.workers == 1
    }

    /// Whether it talks to peers for all.
    pub(crate) const fn leads(self) -> bool {
        self.worker.0 == 0
    }

    /// Whose a class is.
    const fn home(self, class: u8) -> WorkerId {
        WorkerId::of_class(class, self.workers)
    }

    /// Whether packets of flows of a class come to this worker by their tuple alone.
    pub(crate) fn is_home_of(self, class: u8) -> bool {
        self.is_alone() || self.home(class) == self.worker
    }

    /// Its share of a number, rounded up; all of what is not limited.
    const fn share(self, whole: u32) -> u32 {
        if whole == u32::MAX { whole } else { whole.div_ceil(self.workers as u32) }
    }

    const fn quota(self, whole: Quota) -> Quota {
        Quota {
            sessions: self.share(whole.sessions),
            half_open: self.share(whole.half_open),
            session_rate: self.share(whole.session_rate),
        }
    }

    pub(crate) const fn limits(self, whole: &Limits) -> Limits {
        Limits {
            sessions: self.share(whole.sessions),
            half_open: self.share(whole.half_open),
            session_rate: self.share(whole.session_rate),
            first_packets: self.share(whole.first_packets),
            answers: self.share(whole.answers),
        }
    }

    pub(crate) fn quotas(self, whole: &Quotas) -> Quotas {
        let each = |quotas: &[Quota]| quotas.iter().map(|&quota| self.quota(quota)).collect();
        Quotas {
            tenants: each(&whole.tenants),
            without_tenant: self.quota(whole.without_tenant),
            peers: each(&whole.peers),
            source: self.quota(whole.source),
        }
    }

    /// How many sessions on a path may have waypoint ports of a protocol.
    pub(crate) const fn waypoints(self, path: &PeerPath) -> u32 {
        self.share(path.max_waypoints)
    }
}

/// What all workers of a router share.
#[derive(Clone)]
pub struct Shared {
    pub(crate) keyring: Keyring,
    pub(crate) nat: Arc<Mutex<Nat>>,
    pub(crate) exceptions: Arc<Exceptions>,
    pub(crate) board: Arc<Board>,
}

impl Shared {
    /// For the router of this model. `secret` must be unpredictable: it keeps senders from choosing
    /// collisions.
    #[must_use]
    pub fn new(model: &RouterModel, keyring: Keyring, secret: u64) -> Self {
        Self {
            keyring,
            nat: Arc::new(Mutex::new(Nat::new(&model.interfaces, secret))),
            exceptions: Arc::new(Exceptions::new(secret.rotate_left(32))),
            board: Arc::new(Board::new(secret.rotate_left(16))),
        }
    }
}

/// Where the kernel is to bring packets that arrive with a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where they arrive.
    pub interface: InterfaceId,
    /// Their tuple.
    pub tuple: Tuple,
    /// Whose they are; nobody's in particular any more.
    pub worker: Option<WorkerId>,
}

/// A flow that goes over from one worker to another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flow(FlowKey);

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flow({:?})", self.0.tuple())
    }
}

/// What one worker tells others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Whether a path may be used. It is named by its waypoints, since not all workers go over to
    /// another configuration at once.
    Path {
        /// This router's waypoint.
        local: IpAddr,
        /// The peer's.
        remote: IpAddr,
        /// What is known of it.
        liveness: Liveness,
    },
    /// The peer at the other end of a path started anew.
    PeerRestarted {
        /// This router's waypoint.
        local: IpAddr,
        /// The peer's.
        remote: IpAddr,
    },
    /// A flow went over to the worker that says so: whoever hears it hands over what it has of it, and
    /// answers with [`Notice::Drained`] when it has received everything that waited when it heard.
    Drain {
        /// The flow.
        flow: Flow,
        /// Whose it is now.
        to: WorkerId,
    },
    /// Nothing of a flow is left with the worker that says so.
    Drained(Flow),
}

/// Whom a notice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every other worker.
    Others,
    /// One of them.
    One(WorkerId),
}

impl Engine {
    /// The next flow that the kernel is to bring elsewhere. They have to be taken, and told, before
    /// the packets of a batch are sent.
    pub fn poll_placement(&mut self) -> Option<Placement> {
        self.placements.pop_front()
    }

    /// The next thing that other workers are to hear.
    pub fn poll_notice(&mut self) -> Option<(Audience, Notice)> {
        self.notices.pop_front()
    }

    /// Takes note of what another worker says. [`Notice::Drain`] is not for the engine, but for whoever
    /// receives for it.
    pub fn hear(&mut self, now: Now, notice: Notice, batch: &mut Batch) {
        match notice {
            Notice::Path { local, remote, liveness } => {
                if let Some(path) =
                    self.path_between(local, remote).and_then(|id| self.paths.get_mut(id.index()))
                {
                    path.liveness = liveness;
                }
            }
            Notice::PeerRestarted { local, remote } => {
                if let Some(peer) = self.path_between(local, remote).and_then(|path| self.peer_of(path)) {
                    self.peer_restarted(now, peer);
                }
            }
            Notice::Drained(Flow(key)) => self.release(now, &key, &mut batch.outlet()),
            Notice::Drain { .. } => {}
        }
    }

    fn path_between(&self, local: IpAddr, remote: IpAddr) -> Option<PathId> {
        self.snapshot.path_by_waypoints(local, remote)
    }

    /// Drops a packet that its owner has no room for.
    pub fn lose_handover(&mut self, now: Now, packet: &Slot) -> Verdict {
        let length = packet.packet.len();
        self.drops.record(now.mono, DropReason::WorkerBusy, packet.interface, None, length);
        Verdict::Drop(DropReason::WorkerBusy)
    }

    /// How many flows belong to another worker than their tuple says, of all workers.
    #[must_use]
    pub fn exceptions(&self) -> usize {
        self.exceptions.len()
    }

    /// Which worker it is of.
    #[must_use]
    pub const fn worker(&self) -> WorkerId {
        self.shard.worker
    }

    /// The ports of source NAT. A thread that panicked with them in hand left no port with two owners.
    pub(crate) fn nat(&self) -> MutexGuard<'_, Nat> {
        self.nat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other worker that a flow belongs to which is not known here.
    pub(crate) fn owner_elsewhere(&self, packet: &Slot, key: &FlowKey) -> Option<WorkerId> {
        if self.shard.is_alone() || packet.genuine || packet.handed >= HANDOVERS {
            return None;
        }
        // What was handed over already came from its home.
        let home = || if packet.handed > 0 { self.shard.worker } else { self.shard.home(key.class()) };
        let owner = self.exceptions.owner(key).unwrap_or_else(home);
        (owner != self.shard.worker).then_some(owner)
    }

    /// The other worker that a packet of an unknown flow belongs to. Where an ICMP error belongs is
    /// known only when it has been read.
    pub(crate) fn elsewhere(&self, packet: &Slot, key: &FlowKey, parsed: &Parsed) -> Option<WorkerId> {
        if self.shard.is_alone() {
            return None;
        }
        let to_peers = parsed.protocol == Protocol::UDP.0
            && parsed.destination_port == svr::BFD_PORT
            && self.snapshot.is_own_address(parsed.destination);
        if to_peers {
            return (!self.shard.leads()).then_some(WorkerId(0));
        }
        self.owner_elsewhere(packet, key)
    }

    /// The other worker that is the home of a session.
    pub(crate) fn home_elsewhere(&self, packet: &Slot, original: &Tuple) -> Option<WorkerId> {
        let home = self.shard.home(class_of(original));
        (home != self.shard.worker && packet.handed < HANDOVERS).then_some(home)
    }

    /// Has packets of a leg brought here.
    pub(crate) fn place(&mut self, now: Now, leg: &Leg, side: Side) {
        if self.shard.is_home_of(leg.key.class()) {
            return;
        }
        self.exceptions.claim(&leg.key, self.shard.worker);
        self.tell_kernel(&leg.key, Some(self.shard.worker));
        // A host on the other leg has not been heard yet, but a peer that brings a session has sent.
        if side == Side::Initiator && leg.hop.is_some() && self.holds.begin(now.mono, &leg.key) {
            let notice = Notice::Drain { flow: Flow(leg.key), to: self.shard.worker };
            self.notices.push_back((Audience::One(self.shard.home(leg.key.class())), notice));
        }
    }

    /// Lets packets of a flow go where its tuple says.
    pub(crate) fn displace(&mut self, key: &FlowKey) {
        if self.shard.is_home_of(key.class()) {
            return;
        }
        self.exceptions.release(key, self.shard.worker);
        self.tell_kernel(key, None);
    }

    fn tell_kernel(&mut self, key: &FlowKey, worker: Option<WorkerId>) {
        // What comes back never passes the kernel.
        if key.interface.is_hairpin() {
            return;
        }
        self.placements.push_back(Placement { interface: key.interface, tuple: key.tuple(), worker });
    }

    /// Moves one leg of a session to another flow.
    pub(crate) fn rekey(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        key: FlowKey,
    ) -> Result<(), InsertError> {
        self.recall(index, why::CHANGED);
        let before = self.table.get(index).map(|session| session.leg(side).key);
        self.table.rekey(index, side, key)?;
        if let Some(before) = before {
            self.displace(&before);
        }
        if let Some(leg) = self.table.get(index).map(|session| *session.leg(side)) {
            self.place(now, &leg, side);
        }
        Ok(())
    }

    /// Follows interfaces that are numbered anew in what is shared. The kernel knows them by their
    /// devices.
    pub(crate) fn renumber_exceptions(&self, keys: impl Iterator<Item = (FlowKey, FlowKey)>) {
        for (before, after) in keys {
            if !self.shard.is_home_of(before.class()) {
                self.exceptions.release(&before, self.shard.worker);
                self.exceptions.claim(&after, self.shard.worker);
            }
        }
    }

    /// Holds a packet back whose flow is being placed, if it came by itself.
    #[inline]
    pub(crate) fn holds_back(&mut self, key: &FlowKey, packet: &Slot) -> bool {
        if self.holds.is_empty() || packet.handed > 0 {
            return false;
        }
        match self.holds.take(key, packet) {
            Held::No => false,
            Held::Yes => {
                self.counters.increment(Counter::PacketsHeldForOrder);
                true
            }
            Held::NoRoom => {
                self.counters.increment(Counter::OrderUncertain);
                false
            }
        }
    }

    /// Lets what was held of a flow go on.
    fn release(&mut self, now: Now, key: &FlowKey, outlet: &mut Outlet<'_>) {
        for mut packet in self.holds.end(key) {
            let arrival = self.arrival(&packet);
            packet.verdict = self.receive(now, &mut packet, &arrival, Company::NONE, outlet);
            if matches!(packet.verdict, Verdict::Forward(_) | Verdict::HandOver(_)) {
                self.emit_copy(now, &packet, outlet);
            }
        }
    }

    /// Lets flows go on whose time is over.
    pub(crate) fn release_overdue(&mut self, now: Now, outlet: &mut Outlet<'_>) {
        while let Some(key) = self.holds.overdue(now.mono) {
            self.counters.increment(Counter::OrderUncertain);
            self.release(now, &key, outlet);
        }
    }
}
