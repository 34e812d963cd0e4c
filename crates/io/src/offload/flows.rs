//! One worker's flows in the kernel.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use fairway_types::{
    FlowReport, InterfaceId, Look, OffloadFlow, OffloadId, OffloadRefusal, OffloadReport, TcpReport, Time,
    Tuple, WorkerId,
};
use fairway_wire::checksum::{self, Delta};

use super::layout::{flag, pulse, slot};
use super::ways::{Way, WayId, Ways};
use super::{Kernel, WORKERS};
use crate::steering::{key, key_of};
use crate::sys::shared::kernel_time;

/// How long a slot rests before another flow gets it, in nanoseconds: a program may still be at it.
const REST: u64 = 1_000_000_000;
/// The clock of the programs is behind by up to a tick.
const TICK: u64 = 50_000_000;

/// A flow, and its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) flow: OffloadFlow,
    pub(crate) way: Way,
}

/// A flow that the kernel forwards. There may be millions; the rest stands in its slot.
#[derive(Debug)]
struct Installed {
    slot: u32,
    way: WayId,
    /// Where its packets arrive, and where they leave.
    interfaces: [InterfaceId; 2],
    pending: bool,
    /// Packets and bytes that were accounted for, and packets lost.
    accounted: (u64, u64, u32),
}

/// A flow of which something is, or may be, with this worker.
#[derive(Debug)]
struct Pending {
    id: OffloadId,
    which: usize,
    /// What had been left to the socket before it was read.
    before: Option<u32>,
    /// How many frames the socket had had by then.
    mark: u64,
    /// How many frames had found no room in it when the flow was looked at first.
    overruns: Option<u64>,
    /// Whether all that was in the socket then has been read.
    read: bool,
}

/// Traffic of a flow since it was last asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Where it came in, and where it left.
    pub(crate) interfaces: [InterfaceId; 2],
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Packets that were dropped because the worker's socket was full.
    pub(crate) lost: u64,
}

/// The flows of one worker.
#[derive(Debug)]
pub(crate) struct Flows {
    kernel: Option<Arc<Kernel>>,
    worker: u32,
    /// Slots that no flow has, and since when.
    free: VecDeque<(u32, u64)>,
    /// How many of them are not for connections that have carried nothing yet: a flood of those, answered by
    /// a server, must not keep others out.
    reserve: usize,
    sessions: HashMap<OffloadId, [Installed; 2]>,
    ways: Ways,
    pending: Vec<Pending>,
    /// Whether the kernel forwards at all.
    paused: bool,
}

impl Flows {
    /// Nothing yet. `workers` is how many share the kernel's room.
    pub(crate) fn new(kernel: Option<Arc<Kernel>>, worker: WorkerId, workers: u8) -> Self {
        let worker = u32::from(worker.0).min(WORKERS - 1);
        let room = kernel.as_ref().map_or(0, |kernel| kernel.slots.len() as u32) / u32::from(workers.max(1));
        let free = (worker * room..(worker + 1) * room).map(|slot| (slot, 0)).collect();
        let reserve = room as usize / 4;
        let (sessions, ways, pending) = (HashMap::new(), Ways::default(), Vec::new());
        let mut flows = Self { kernel, worker, free, reserve, sessions, ways, pending, paused: false };
        flows.beat();
        flows
    }

    /// Whether there are programs that could forward.
    pub(crate) fn is_available(&self) -> bool {
        self.kernel.is_some()
    }

    /// How many sessions the kernel forwards for this worker.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The worker is at work.
    pub(crate) fn beat(&mut self) {
        if let Some(kernel) = &self.kernel {
            let beat = if self.paused { 0 } else { kernel_time().saturating_sub(TICK) };
            kernel.pulses.double(self.worker, pulse::BEAT).store(beat, Release);
        }
    }

    /// Has all packets come to the worker's sockets for a while, or no longer.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.beat();
    }

    /// From now on the kernel forwards a session, as soon as nothing of it is left with this worker.
    pub(crate) fn install(&mut self, id: OffloadId, routes: [Route; 2]) -> Result<(), OffloadRefusal> {
        let Some(kernel) = self.kernel.clone() else { return Err(OffloadRefusal::NoRoom) };
        let now = kernel_time();
        let rested =
            |entry: Option<&(u32, u64)>| entry.is_some_and(|&(_, since)| now - since >= REST || since == 0);
        let scarce = routes.iter().any(|route| route.flow.fresh) && self.free.len() <= self.reserve;
        if scarce || !rested(self.free.front()) || !rested(self.free.get(1)) {
            return Err(OffloadRefusal::NoRoom);
        }
        let (Some((first, _)), Some((second, _))) = (self.free.pop_front(), self.free.pop_front()) else {
            return Err(OffloadRefusal::NoRoom);
        };
        let slots = [first, second];
        for (at, (&slot, route)) in slots.iter().zip(&routes).enumerate() {
            write(&kernel, slot, route, (self.worker, slots[1 - at]));
        }
        for (at, (slot, route)) in slots.iter().zip(&routes).enumerate() {
            if !kernel.index.insert(&key_of(&route.flow.arrives, route.way.arrival), *slot) {
                if at == 1 {
                    forget(&kernel, first);
                }
                self.free.extend(slots.map(|slot| (slot, now)));
                return Err(OffloadRefusal::System);
            }
        }
        let ways = routes.map(|route| self.ways.enter(&route.way));
        let installed = |at: usize| Installed {
            slot: slots[at],
            way: ways[at],
            interfaces: [routes[at].way.interface, routes[at].way.egress.interface],
            pending: false,
            accounted: (0, 0, 0),
        };
        self.sessions.insert(id, [installed(0), installed(1)]);
        if !routes.iter().all(|route| route.flow.fresh) {
            self.touch(id);
        }
        Ok(())
    }

    /// Something of a session may be with this worker.
    pub(crate) fn touch(&mut self, id: OffloadId) {
        let Some(flows) = self.sessions.get_mut(&id) else { return };
        for (which, flow) in flows.iter_mut().enumerate() {
            if !std::mem::replace(&mut flow.pending, true) {
                self.pending.push(Pending { id, which, before: None, mark: 0, overruns: None, read: false });
            }
        }
    }

    /// From now on packets of a flow have other link addresses. A packet in this very moment may have half of
    /// them.
    pub(crate) fn lead(&mut self, id: OffloadId, which: usize, way: &Way) {
        let Self { kernel: Some(kernel), sessions, ways, .. } = self else { return };
        let Some(flow) = sessions.get_mut(&id).and_then(|flows| flows.get_mut(which)) else { return };
        let before = std::mem::replace(&mut flow.way, ways.enter(way));
        ways.leave(before);
        put_link(kernel, flow.slot, way);
    }

    /// The kernel forwards a session no longer. Says what it has forwarded.
    pub(crate) fn end(&mut self, id: OffloadId, now: Time) -> Option<OffloadReport> {
        let flows = self.sessions.remove(&id)?;
        self.pending.retain(|pending| pending.id != id);
        let kernel = self.kernel.as_ref()?;
        let rests = kernel_time();
        for Installed { slot, way, .. } in &flows {
            forget(kernel, *slot);
            self.ways.leave(*way);
            self.free.push_back((*slot, rests));
        }
        Some(flows.map(|flow| read(kernel, flow.slot, (now, rests))))
    }

    /// What the kernel has forwarded of a session.
    pub(crate) fn report(&self, id: OffloadId, now: Time) -> Option<OffloadReport> {
        let [first, second] = self.sessions.get(&id)?;
        let kernel = self.kernel.as_ref()?;
        let now = (now, kernel_time());
        Some([read(kernel, first.slot, now), read(kernel, second.slot, now)])
    }

    /// What the kernel has forwarded of a session since this was last asked.
    pub(crate) fn account(&mut self, id: OffloadId) -> Option<[Traffic; 2]> {
        let Self { kernel, sessions, .. } = self;
        let kernel = kernel.as_ref()?;
        let [first, second] = sessions.get_mut(&id)?;
        Some([first, second].map(|flow| {
            let packets = kernel.slots.double(flow.slot, slot::PACKETS).load(Relaxed);
            let bytes = kernel.slots.double(flow.slot, slot::BYTES).load(Relaxed);
            let lost = kernel.slots.word(flow.slot, slot::LOST).load(Relaxed);
            let told = std::mem::replace(&mut flow.accounted, (packets, bytes, lost));
            Traffic {
                interfaces: flow.interfaces,
                packets: packets.wrapping_sub(told.0),
                bytes: bytes.wrapping_sub(told.1),
                lost: u64::from(lost.wrapping_sub(told.2)),
            }
        }))
    }

    /// All sessions.
    pub(crate) fn ids(&self) -> Vec<OffloadId> {
        self.sessions.keys().copied().collect()
    }

    /// The ways of a session.
    pub(crate) fn ways_of(&self, id: OffloadId) -> Option<[Way; 2]> {
        let [first, second] = self.sessions.get(&id)?;
        Some([*self.ways.get(first.way)?, *self.ways.get(second.way)?])
    }

    /// The ways of all sessions.
    pub(crate) fn ways(&self) -> Vec<(WayId, Way)> {
        self.ways.iter().collect()
    }

    /// The sessions that take any of these ways.
    pub(crate) fn ids_by(&self, ways: &HashSet<WayId>) -> Vec<OffloadId> {
        let takes = |flows: &[Installed; 2]| flows.iter().any(|flow| ways.contains(&flow.way));
        self.sessions.iter().filter(|(_, flows)| takes(flows)).map(|(id, _)| *id).collect()
    }

    /// Whether flows wait until a socket is empty.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether flows wait until the socket of this interface is empty.
    pub(crate) fn is_pending(&self, interface: InterfaceId) -> bool {
        self.pending.iter().any(|pending| self.interface_of(pending) == Some(interface))
    }

    fn interface_of(&self, pending: &Pending) -> Option<InterfaceId> {
        Some(self.sessions.get(&pending.id)?.get(pending.which)?.interfaces[0])
    }

    /// The socket of an interface is about to be read.
    pub(crate) fn before_read(&mut self, interface: InterfaceId) {
        let Some(kernel) = &self.kernel else { return };
        for pending in &mut self.pending {
            let Some(flow) = self.sessions.get(&pending.id).and_then(|flows| flows.get(pending.which)) else {
                continue;
            };
            if flow.interfaces[0] == interface && pending.before.is_none() {
                pending.before = Some(kernel.slots.word(flow.slot, slot::QUEUED).load(Acquire));
            }
        }
    }

    /// The socket of an interface, which is about to be read, has had so many frames so far, and so many
    /// more found no room in it.
    ///
    /// When more come than the worker can carry, there is no moment at which nothing of a flow waits. Then
    /// packets of the flow are dropped until what waits has gone on: for most of them there is no room
    /// anyway.
    pub(crate) fn mark(&mut self, interface: InterfaceId, accepted: u64, overruns: u64) {
        let Self { kernel, sessions, pending, .. } = self;
        let Some(kernel) = kernel else { return };
        for pending in pending.iter_mut() {
            let flow = sessions.get(&pending.id).and_then(|flows| flows.get(pending.which));
            let Some(flow) = flow.filter(|flow| flow.interfaces[0] == interface) else { continue };
            if pending.mark == 0 {
                pending.mark = accepted.max(1);
            }
            if *pending.overruns.get_or_insert(overruns) < overruns {
                kernel.slots.word(flow.slot, slot::FLAGS).fetch_or(flag::SHED, Release);
            }
        }
    }

    /// So many frames have been read from the socket of an interface so far, or it was empty.
    pub(crate) fn after_read(&mut self, interface: InterfaceId, taken: u64, empty: bool) {
        let sessions = &self.sessions;
        for pending in self.pending.iter_mut().filter(|pending| pending.before.is_some()) {
            let flow = sessions.get(&pending.id).and_then(|flows| flows.get(pending.which));
            if flow.is_some_and(|flow| flow.interfaces[0] == interface) {
                pending.read |= empty || taken >= pending.mark;
            }
        }
    }

    /// Everything that was read has been sent, or dropped.
    pub(crate) fn all_sent(&mut self) {
        let Self { kernel, sessions, pending, .. } = self;
        let Some(kernel) = kernel else { return };
        pending.retain_mut(|pending| {
            let flow = sessions.get_mut(&pending.id).and_then(|flows| flows.get_mut(pending.which));
            let (Some(flow), Some(before)) = (flow, pending.before.filter(|_| pending.read)) else {
                return true;
            };
            kernel.slots.word(flow.slot, slot::DONE).store(before, Release);
            (pending.before, pending.read, pending.mark) = (None, false, 0);
            flow.pending = kernel.slots.word(flow.slot, slot::QUEUED).load(Acquire) != before;
            if !flow.pending {
                kernel.slots.word(flow.slot, slot::FLAGS).fetch_and(!flag::SHED, Release);
            }
            flow.pending
        });
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.pause(true);
        if let Some(kernel) = &self.kernel {
            for flow in self.sessions.values().flatten() {
                forget(kernel, flow.slot);
            }
        }
    }
}

/// Lets no program find a flow any more.
fn forget(kernel: &Kernel, at: u32) {
    let word = |number| kernel.slots.word(at, slot::KEY + number * 4).load(Relaxed);
    let mut key = [0; key::SIZE];
    for (number, chunk) in key.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *chunk = word(number).to_ne_bytes();
    }
    kernel.index.remove(&key, at);
}

fn sum_of(tuple: &Tuple) -> u32 {
    let sum = |address| match address {
        core::net::IpAddr::V4(v4) => checksum::sum(&v4.octets()),
        core::net::IpAddr::V6(v6) => checksum::sum(&v6.octets()),
    };
    u32::from(checksum::fold(sum(tuple.source.ip()) + sum(tuple.destination.ip())))
}

/// A change as the kernel adds it: in the order of bytes of the packet.
fn raw(change: Delta) -> u32 {
    // What the change makes of a checksum whose complement is zero is the complement of the change.
    u32::from(u16::from_ne_bytes((!change.apply(0xffff)).to_be_bytes()))
}

/// Writes whole words of a slot.
fn put(kernel: &Kernel, at: u32, offset: usize, bytes: &[u8]) {
    for (number, chunk) in bytes.as_chunks::<4>().0.iter().enumerate() {
        kernel.slots.word(at, offset + number * 4).store(u32::from_ne_bytes(*chunk), Relaxed);
    }
}

/// Writes the link addresses of packets that take a way.
fn put_link(kernel: &Kernel, at: u32, way: &Way) {
    put(kernel, at, slot::LINK, [way.link.0, way.link.1].as_flattened());
}

/// Fills a slot. Until the worker says otherwise, packets of the flow are the worker's, unless the flow is
/// fresh.
fn write(kernel: &Kernel, at: u32, Route { flow, way }: &Route, (worker, other): (u32, u32)) {
    let OffloadFlow { arrives, leaves, mtu, look, awaits, fresh, .. } = *flow;
    let word = |offset: usize, value: u32| kernel.slots.word(at, offset).store(value, Relaxed);
    for offset in (0..slot::SIZE).step_by(8) {
        kernel.slots.double(at, offset).store(0, Relaxed);
    }
    let ipv6 = leaves.is_ipv6();
    let addresses = Delta::from_sums(sum_of(&arrives), sum_of(&leaves));
    let ports = Delta::word(arrives.source.port(), leaves.source.port())
        .combine(Delta::word(arrives.destination.port(), leaves.destination.port()));
    // Hop limit and TTL are at the two ends of their words.
    let hop = if ipv6 { Delta::word(1, 0) } else { Delta::word(1 << 8, 0) };
    word(slot::ADDRESS_CHANGE, raw(addresses));
    word(slot::PORT_CHANGE, raw(ports));
    word(slot::HEADER_CHANGE, raw(addresses.combine(hop)));
    let tcp = leaves.protocol.0 == 6;
    let (guarded, ends) = (look != Look::Nowhere, look == Look::AtEnds);
    let flags = [
        (guarded, flag::GUARDED),
        (ends, flag::ENDS),
        (ipv6, flag::IPV6),
        (tcp, flag::TCP),
        (awaits, flag::AWAITS),
    ];
    word(slot::FLAGS, flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum());
    word(slot::DONE, if fresh { 0 } else { u32::MAX });
    word(slot::DEVICE, way.device);
    word(slot::MTU, u32::from(mtu));
    kernel.slots.half(at, slot::WORKER).store(worker as u16, Relaxed);
    word(slot::OTHER, other);
    let put = |offset: usize, bytes: &[u8]| put(kernel, at, offset, bytes);
    put_link(kernel, at, way);
    put(slot::PORTS, &[leaves.source.port().to_be_bytes(), leaves.destination.port().to_be_bytes()].concat());
    for (number, end) in [leaves.source, leaves.destination].iter().enumerate() {
        match end.ip() {
            core::net::IpAddr::V4(v4) => put(slot::ADDRESSES + number * 4, &v4.octets()),
            core::net::IpAddr::V6(v6) => put(slot::ADDRESSES + number * 16, &v6.octets()),
        }
    }
    put(slot::KEY, &key_of(&arrives, way.arrival));
    // Programs find it by the index, which is told after this.
    kernel.slots.word(at, slot::QUEUED).store(0, Release);
}

/// What a slot says, at a moment by the clock of workers and by that of the kernel.
fn read(kernel: &Kernel, at: u32, (now, kernel_now): (Time, u64)) -> FlowReport {
    let double = |offset| kernel.slots.double(at, offset).load(Relaxed);
    let word = |offset| kernel.slots.word(at, offset).load(Relaxed);
    let last = double(slot::LAST);
    let age = kernel_now.saturating_sub(last);
    FlowReport {
        packets: double(slot::PACKETS),
        bytes: double(slot::BYTES),
        last: (last != 0).then(|| Time(now.0.saturating_sub(age))),
        tcp: (word(slot::HAS_TCP) != 0).then(|| TcpReport {
            next: word(slot::NEXT),
            acknowledged: word(slot::ACKNOWLEDGED),
            window: kernel.slots.half(at, slot::WINDOW).load(Relaxed),
            finished: kernel.slots.half(at, slot::FINISHED).load(Relaxed) != 0,
        }),
    }
}
