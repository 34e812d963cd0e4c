//! Sessions that the kernel forwards by itself.
//!
//! A session goes to the kernel when its packets need nothing but other addresses and ports: TCP or UDP
//! on both legs, one family, payload that is not sealed or opened here, routers that know the session,
//! a TCP connection that is open, or that its responder has just accepted.
//!
//! **When.** A connection goes with its SYN-ACK, which is all that has to be known of it: nothing but SYNs
//! can come from the initiator before it has that, and nothing else from the responder before it has an
//! answer, so no packet can be overtaken. What the kernel forwards of the initiator says the same as if
//! it had come here: the connection is open, and the router before this one has heard that the session
//! is known. Until then the responder's direction is not the kernel's, since metadata would go with it.
//! Any other session has to carry a few packets first.
//!
//! What the kernel cannot decide about still comes here: metadata, a SYN, a reset, what is too big. After
//! each such packet, and with each report of what the kernel did, it is asked again whether the session
//! may stay there. Whatever changes a session takes it back first.
//!
//! [`OffloadOrder`]s are to be carried out before the packets of a batch are sent, and each
//! [`OffloadOrder::End`] is answered with what the kernel has done until then.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fairway_types::{
    Counter, FlowReport, InterfaceId, Look, Now, OffloadFlow, OffloadId, OffloadRefusal, OffloadReport,
    PathId, Protocol, Time,
};

use crate::engine::Engine;
use crate::handshake::Phase;
use crate::protect::Treatment;
use crate::session::{Hop, Session, Side};
use crate::table::Index;
use crate::tcp::TcpPhase;

/// A session is thought of when one of its legs has carried so many packets: a question and its answer are over
/// by then. Then whenever it has carried twice as many, and at least each time it has carried some more, as a
/// power of two.
const FIRST_PACKETS: u64 = 4;
const PACKETS_SHIFT: u32 = 5;
/// How long a session that the kernel did not take is left alone.
const REST: Duration = Duration::from_secs(1);
/// For how many that is remembered.
const RESTING: usize = 4096;

/// What the kernel is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "few at a time, in one queue")]
pub enum OffloadOrder {
    /// Forward a session by itself; refusals are answered with [`Engine::offload_refused`].
    Begin(OffloadId, [OffloadFlow; 2]),
    /// Do so no longer; answered with [`Engine::offload_ended`].
    End(OffloadId),
    /// A packet of the session came to the worker.
    Touched(OffloadId),
}

/// Why a session is taken back, as the counter of it.
pub(crate) mod why {
    use fairway_types::Counter;

    pub(crate) const CLOSED: Counter = Counter::OffloadsClosed;
    pub(crate) const IDLE: Counter = Counter::OffloadsIdle;
    pub(crate) const RETOLD: Counter = Counter::OffloadsRetold;
    pub(crate) const CHANGED: Counter = Counter::OffloadsChanged;
}

/// A session that the kernel forwards.
struct Entry {
    id: OffloadId,
    interfaces: [InterfaceId; 2],
    paths: [Option<PathId>; 2],
    /// The longest packets that it forwards of each flow, in bytes.
    mtus: [u16; 2],
    /// Packets and bytes of each flow that the session counts already.
    counted: [(u64, u64); 2],
}

/// A session whose last report is still to come.
struct Ending {
    entry: Entry,
    index: Index,
    /// The session if it is gone, and when and why.
    gone: Option<(Session, Now, Counter)>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Offloads {
    enabled: bool,
    next: u64,
    orders: VecDeque<OffloadOrder>,
    entries: HashMap<Index, Entry>,
    indices: HashMap<OffloadId, Index>,
    /// In the order of the orders.
    ending: VecDeque<Ending>,
    /// Sessions that are to be taken back because what the kernel was told of them is not so any more.
    leaving: Vec<Index>,
    /// Until when, and why.
    resting: HashMap<Index, (Time, OffloadRefusal)>,
}

impl Engine {
    /// Says whether the kernel may forward sessions by itself. Those that it does are to be taken back if not:
    /// see [`Self::recall_some`].
    pub fn enable_offload(&mut self, enabled: bool) {
        self.offloads.enabled = enabled;
    }

    /// The next thing that the kernel is to do.
    pub fn poll_offload(&mut self) -> Option<OffloadOrder> {
        self.offloads.orders.pop_front()
    }

    /// The sessions that the kernel forwards.
    #[must_use]
    pub fn offloaded(&self) -> Vec<OffloadId> {
        self.offloads.indices.keys().copied().collect()
    }

    /// How many sessions the kernel forwards.
    #[must_use]
    pub fn offloaded_count(&self) -> usize {
        self.offloads.entries.len()
    }

    /// Takes back up to `most` sessions, as before interfaces become others; says whether there were any.
    pub fn recall_some(&mut self, most: usize) -> bool {
        let indices: Vec<Index> = self.offloads.entries.keys().take(most).copied().collect();
        for index in &indices {
            self.recall(*index, why::CHANGED);
        }
        !indices.is_empty()
    }

    /// Takes back up to `most` of those sessions for which the kernel would do something else now; says whether
    /// there are more. It is to be asked again until there are none, with packets in between.
    pub fn recall_changed(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(index) = self.offloads.leaving.pop() else { break };
            self.recall(index, why::CHANGED);
        }
        !self.offloads.leaving.is_empty()
    }

    /// The kernel did not take a session.
    pub fn offload_refused(&mut self, now: Now, id: OffloadId, why: OffloadRefusal) {
        self.counters.increment(Counter::OffloadsRefused);
        let Some(index) = self.offloads.indices.remove(&id) else { return };
        self.offloads.entries.remove(&index);
        if let Some(session) = self.table.get_mut(index) {
            session.in_kernel = false;
        }
        if self.offloads.resting.len() >= RESTING {
            self.offloads.resting.clear();
        }
        self.offloads.resting.insert(index, (now.mono + REST, why));
    }

    /// Why the kernel did not take the session that is there now, when it was last asked.
    pub(crate) fn refusal_of(&self, index: Index, session: &Session) -> Option<OffloadRefusal> {
        let &(until, why) = self.offloads.resting.get(&index)?;
        // A younger one has only the place of the one that was refused.
        (!session.in_kernel && session.created <= until).then_some(why)
    }

    /// What the kernel has done of a session until now.
    pub fn offload_report(&mut self, now: Now, id: OffloadId, report: &OffloadReport) {
        let Some(&index) = self.offloads.indices.get(&id) else { return };
        let Some(mut entry) = self.offloads.entries.remove(&index) else { return };
        let silent = self.count_offloaded(now, index, &mut entry, report);
        self.offloads.entries.insert(index, entry);
        for side in Side::BOTH {
            if silent[side.index()] {
                self.tell_again(now, index, side);
            }
        }
        self.reconsider(now, index);
    }

    /// Takes a session back to tell it again by a leg, if it may.
    fn tell_again(&mut self, now: Now, index: Index, out: Side) {
        let session = self.table.get_mut(index);
        let hop = session.and_then(|session| session.leg_mut(out).hop.as_mut());
        if hop.is_some_and(|hop| hop.handshake.break_silence(now.mono, &mut self.retold)) {
            self.retriggered(now, index, out);
            self.recall(index, why::RETOLD);
        }
    }

    /// The kernel no longer forwards a session, because it was told so or because it cannot any more.
    /// Nothing is reported of one that it did not forward.
    pub fn offload_ended(&mut self, now: Now, id: OffloadId, report: Option<&OffloadReport>) {
        if let Some(&index) = self.offloads.indices.get(&id) {
            self.take_back(index, why::CHANGED);
        }
        let ending = &mut self.offloads.ending;
        let at = ending.iter().position(|ending| ending.entry.id == id);
        let Some(Ending { mut entry, index, gone }) = at.and_then(|at| ending.remove(at)) else { return };
        match (gone, report) {
            (None, Some(report)) => {
                self.count_offloaded(now, index, &mut entry, report);
            }
            (None, None) => {}
            (Some((mut session, at, why)), report) => {
                for (side, flow) in Side::BOTH.into_iter().zip(report.into_iter().flatten()) {
                    let (packets, bytes) = new_of(&mut entry, side, flow);
                    let leg = session.leg_mut(side);
                    leg.packets += packets;
                    leg.bytes += bytes;
                    self.count_traffic(packets, bytes);
                }
                self.record_end(at, &session, why);
            }
        }
    }

    /// Gives a session to the kernel, if it is one for it, now that a leg has carried `after` packets, and
    /// `before` a moment ago.
    #[inline]
    pub(crate) fn consider(&mut self, now: Now, index: Index, before: u64, after: u64) {
        let doubled = after >= FIRST_PACKETS && before ^ after > before;
        if self.offloads.enabled && (doubled || before >> PACKETS_SHIFT != after >> PACKETS_SHIFT) {
            self.give(now, index);
        }
    }

    /// Gives a connection to the kernel whose SYN-ACK is about to leave, the first one, if it is one for it.
    #[inline]
    pub(crate) fn consider_accepted(&mut self, now: Now, index: Index) {
        if self.offloads.enabled {
            self.give(now, index);
        }
    }

    fn give(&mut self, now: Now, index: Index) {
        let rests = self.offloads.resting.get(&index).is_some_and(|&(until, _)| now.mono < until);
        // Packets that are held would be overtaken.
        let may_go = |session: &&Session| !rests && !session.in_kernel && self.holds.is_empty();
        let Some(session) = self.table.get(index).filter(may_go) else { return };
        let Some(flows) = self.as_flows(now, session) else { return };
        let entry = Entry {
            id: OffloadId(self.offloads.next),
            interfaces: flows.map(|flow| flow.egress.interface),
            paths: paths_of(session),
            mtus: flows.map(|flow| flow.mtu),
            counted: [(0, 0); 2],
        };
        self.offloads.next += 1;
        self.offloads.resting.remove(&index);
        self.offloads.indices.insert(entry.id, index);
        self.offloads.orders.push_back(OffloadOrder::Begin(entry.id, flows));
        self.offloads.entries.insert(index, entry);
        self.counters.increment(Counter::SessionsOffloaded);
        if let Some(session) = self.table.get_mut(index) {
            session.in_kernel = true;
        }
    }

    /// What the kernel would have to do, if it can.
    fn as_flows(&self, now: Now, session: &Session) -> Option<[OffloadFlow; 2]> {
        let [first, second] = &session.legs;
        let tcp = session.protocol == Protocol::TCP;
        let accepted = tcp && session.tcp.awaits_acknowledgement();
        let native = [first, second].iter().all(|leg| {
            let known = |hop: &Hop| {
                hop.handshake.phase() == Phase::Settled || (accepted && hop.handshake.awaits_plain())
            };
            leg.key.protocol == session.protocol
                && !leg.key.interface.is_hairpin()
                && leg.hop.as_ref().is_none_or(known)
        });
        let open = match session.protocol {
            Protocol::TCP => matches!(session.tcp.phase(), TcpPhase::Open | TcpPhase::HalfClosed) || accepted,
            protocol => protocol == Protocol::UDP,
        };
        let protection = self.vault.get(session.protection);
        let passes = protection.is_none_or(|protection| {
            Side::BOTH.into_iter().all(|side| {
                protection.treatment(side) == Treatment::Pass
                    && (!tcp || protection.seal_in_transit(side) == 0)
            })
        });
        let plain = native && open && passes && first.key.ipv6 == second.key.ipv6;
        if !plain {
            return None;
        }
        Some(Side::BOTH.map(|side| {
            let (from, to) = (session.leg(side), session.leg(side.other()));
            let mtu = self.way_mtu(now.mono, to.key.interface, to.hop.map(|hop| hop.path));
            OffloadFlow {
                interface: from.key.interface,
                arrives: from.key.tuple(),
                leaves: to.key.tuple().reversed(),
                egress: fairway_types::Egress { interface: to.key.interface, next_hop: to.next_hop },
                mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
                look: match (&from.hop, &to.hop) {
                    (None, None) => Look::Nowhere,
                    // Datagrams that are joined need nothing in common but their length.
                    (Some(_), _) if tcp => Look::AtEnds,
                    _ => Look::Everywhere,
                },
                awaits: accepted && side == Side::Responder,
                fresh: accepted,
            }
        }))
    }

    /// Whether the kernel forwards a session.
    #[inline]
    pub(crate) fn is_in_kernel(&self, index: Index) -> bool {
        !self.offloads.entries.is_empty() && self.table.get(index).is_some_and(|session| session.in_kernel)
    }

    /// A packet of a session came here although the kernel forwards the session.
    pub(crate) fn touched(&mut self, now: Now, index: Index) {
        if let Some(entry) = self.offloads.entries.get(&index) {
            self.offloads.orders.push_back(OffloadOrder::Touched(entry.id));
        }
        self.reconsider(now, index);
    }

    /// Takes a session back that is not for the kernel any more.
    fn reconsider(&mut self, now: Now, index: Index) {
        let Some(session) = self.table.get(index) else { return };
        if self.as_flows(now, session).is_some() {
            return;
        }
        let over = session.protocol == Protocol::TCP && session.tcp.phase().is_over();
        self.recall(index, if over { why::CLOSED } else { why::RETOLD });
    }

    /// Takes a session back, if the kernel has it.
    pub(crate) fn recall(&mut self, index: Index, why: Counter) {
        if let Some(id) = self.take_back(index, why) {
            self.offloads.orders.push_back(OffloadOrder::End(id));
        }
    }

    fn take_back(&mut self, index: Index, why: Counter) -> Option<OffloadId> {
        let entry = self.offloads.entries.remove(&index)?;
        let id = entry.id;
        self.offloads.indices.remove(&id);
        self.offloads.ending.push_back(Ending { entry, index, gone: None });
        self.counters.increment(why);
        if let Some(session) = self.table.get_mut(index) {
            session.in_kernel = false;
        }
        Some(id)
    }

    /// A session is gone from the table. Says whether its end is recorded later, when it is known what the
    /// kernel has done of it.
    pub(crate) fn offload_gone(&mut self, now: Now, index: Index, session: &Session, why: Counter) -> bool {
        self.recall(index, why::CLOSED);
        let ending = self
            .offloads
            .ending
            .iter_mut()
            .rev()
            .find(|ending| ending.index == index && ending.gone.is_none());
        match ending {
            Some(ending) => {
                ending.gone = Some((*session, now, why));
                true
            }
            None => false,
        }
    }

    /// Takes sessions back that leave by an interface or on a path, soon: see [`Self::recall_changed`].
    pub(crate) fn recall_on(&mut self, interface: Option<InterfaceId>, path: Option<PathId>) {
        let concerned = |entry: &Entry| {
            interface.is_some_and(|interface| entry.interfaces.contains(&interface))
                || path.is_some() && entry.paths.contains(&path)
        };
        let entries = self.offloads.entries.iter();
        self.offloads.leaving.extend(entries.filter(|(_, entry)| concerned(entry)).map(|(&index, _)| index));
    }

    /// After another configuration: sessions stay in the kernel if it has nothing else to do for them than
    /// before. Others are taken back soon.
    pub(crate) fn keep_offloads(&mut self, now: Now) {
        let mut entries = std::mem::take(&mut self.offloads.entries);
        self.offloads.leaving.clear();
        for (&index, entry) in &mut entries {
            let Some(session) = self.table.get(index) else { continue };
            entry.paths = paths_of(session);
            let as_before = |flows: [OffloadFlow; 2]| {
                flows.map(|flow| flow.egress.interface) == entry.interfaces
                    && flows.map(|flow| flow.mtu) == entry.mtus
            };
            if !self.as_flows(now, session).is_some_and(as_before) {
                self.offloads.leaving.push(index);
            }
        }
        self.offloads.entries = entries;
    }

    fn count_traffic(&mut self, packets: u64, bytes: u64) {
        for counter in [Counter::PacketsReceived, Counter::PacketsForwarded, Counter::PacketsOffloaded] {
            self.counters.add(counter, packets);
        }
        self.counters.add(Counter::BytesForwarded, bytes);
    }

    /// Lets a session take note of what the kernel has done. Says of each side whether the neighbour there
    /// has been silent for too long.
    fn count_offloaded(
        &mut self,
        now: Now,
        index: Index,
        entry: &mut Entry,
        report: &OffloadReport,
    ) -> [bool; 2] {
        let news = Side::BOTH.map(|side| new_of(entry, side, &report[side.index()]));
        for (packets, bytes) in news {
            self.count_traffic(packets, bytes);
        }
        if news[Side::Responder.index()].0 > 0 && self.table.get(index).is_some_and(|s| !s.answered) {
            self.answered(now, index);
        }
        let Some(session) = self.table.get_mut(index) else { return [false; 2] };
        let last = |side: Side| report[side.index()].last.filter(|_| news[side.index()].0 > 0);
        let (mut silent, before, standing) = ([false; 2], session.tcp.phase(), session.standing());
        for side in Side::BOTH {
            let (packets, bytes) = news[side.index()];
            session.active = session.active.max(last(side).unwrap_or_default());
            if let Some(said) = report[side.index()].tcp {
                session.tcp.heard(side, said);
            }
            let leg = session.leg_mut(side);
            leg.packets += packets;
            leg.bytes += bytes;
            if let Some(hop) = &mut leg.hop {
                if packets > 0 {
                    hop.handshake.received_plain();
                }
                silent[side.index()] = hop.handshake.carried(last(side.other()), last(side));
            }
        }
        let after = session.tcp.phase();
        if before != after {
            self.standing_changed(now, index, standing);
            self.phase_changed(now, index, after);
        }
        silent
    }
}

fn paths_of(session: &Session) -> [Option<PathId>; 2] {
    Side::BOTH.map(|side| session.leg(side).hop.map(|hop| hop.path))
}

/// What of a report is not counted yet, and is from now on.
fn new_of(entry: &mut Entry, side: Side, flow: &FlowReport) -> (u64, u64) {
    let counted = &mut entry.counted[side.index()];
    let news = (flow.packets.saturating_sub(counted.0), flow.bytes.saturating_sub(counted.1));
    *counted = (flow.packets, flow.bytes);
    news
}
