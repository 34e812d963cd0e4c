//! The engine: what it owns, and the way of a batch through it.
//!
//! A packet's way: [`Engine::process`] parses it and looks its flow up. A known flow goes on in
//! `established`; the first packet of a host in `first`; metadata in `peer` (after `open` verified
//! it); ICMP errors in `relay`. All of them end in `Engine::send_on` or in a verdict.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairway_crypto::Keyring;
use fairway_peering::Peering;
use fairway_policy::Snapshot;
use fairway_types::packet::MAX_PACKET;
use fairway_types::{
    Batch, Counter, Counters, DropReason, InterfaceId, Now, Outlet, PacketBuf, PathId, PeerId, Protocol,
    Slot, Time, Verdict,
};
use fairway_wire::ip;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::approach::{Arrival, GROUP, KEYS_AHEAD};
use crate::budget::Budget;
use crate::drops::Drops;
use crate::event::Event;
use crate::farewell::Farewells;
use crate::fragments::{PathMtus, Store};
use crate::handshake::Phase;
use crate::key::FlowKey;
use crate::limits::{Ledger, Openings};
use crate::liveness::Liveness;
use crate::names::Names;
use crate::nat::Nat;
use crate::offload::{Offloads, why};
use crate::path::Path;
use crate::record::Records;
use crate::session::{Session, Side};
use crate::shard::{Audience, Exceptions, Holds, Notice, Placement, Shard, Shared};
use crate::table::{Index, Table};
use crate::timers::Wheel;
use crate::together::{Company, Together};
use crate::vault::{Vault, VaultIndex};

/// Where a relayed or generated message about a session goes next.
pub(crate) const DEFAULT_MTU: u32 = 1500;
/// How many sessions one call of [`Engine::handle_timeout`] looks at.
const SESSIONS_PER_TIMEOUT: usize = 64;
/// How often a session is announced, a second after the first time and ever later.
const ANNOUNCEMENTS: u8 = 4;
/// How many events wait for [`Engine::poll_event`] before further ones are forgotten.
const EVENTS: usize = 1024;
/// How many sessions a second are told of again because nothing was heard of them: so few that telling them
/// takes little of a worker, and so many that a network address translator in between that forgot ten
/// thousand mappings is told all within seconds.
const RETELL_RATE: u32 = 2000;

/// One worker's sessions and everything needed to decide about packets.
pub struct Engine {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) keyring: Keyring,
    pub(crate) peering: Peering,
    pub(crate) table: Table,
    pub(crate) wheel: Wheel,
    /// By [`PathId`].
    pub(crate) paths: Vec<Path>,
    /// By [`InterfaceId`], in bytes.
    pub(crate) mtus: Vec<u32>,
    pub(crate) names: Names,
    pub(crate) ledger: Ledger,
    pub(crate) openings: Openings,
    /// Ports that sessions take where they leave the fabric.
    pub(crate) nat: Arc<Mutex<Nat>>,
    /// Keys of protected sessions.
    pub(crate) vault: Vault,
    /// Which of several workers it is.
    pub(crate) shard: Shard,
    pub(crate) exceptions: Arc<Exceptions>,
    pub(crate) placements: VecDeque<Placement>,
    pub(crate) notices: VecDeque<(Audience, Notice)>,
    pub(crate) holds: Holds,
    pub(crate) farewells: Farewells,
    /// What the kernel forwards.
    pub(crate) offloads: Offloads,
    /// The wall clock when this engine started, in seconds.
    pub(crate) started_unix: u64,
    pub(crate) first_packets: Budget,
    /// Messages between peers, apart from first packets: a flood of one must not silence the other.
    pub(crate) peer_messages: Budget,
    pub(crate) answers: Budget,
    /// Sessions told again because nothing was heard of them.
    pub(crate) retold: Budget,
    pub(crate) rng: ChaCha12Rng,
    pub(crate) counters: Counters,
    pub(crate) drops: Drops,
    pub(crate) events: VecDeque<Event>,
    pub(crate) records: Records,
    /// Sessions whose metadata is to be sent without waiting for a packet: when, which, toward whom, and
    /// how often that was tried.
    announcements: BinaryHeap<Reverse<(Time, Index, Side, u8)>>,
    /// Sessions whose next router restarted and has to be told anew.
    pub(crate) restarts: VecDeque<Index>,
    /// What paths carry that carry less than their links.
    pub(crate) path_mtus: PathMtus,
    /// Packets of which only parts are here.
    pub(crate) fragments: Store,
    /// Names the packet that was last sent in pieces.
    pub(crate) next_fragment_id: u32,
    /// Packets of a batch before they are decided.
    arrivals: Vec<Arrival>,
    /// Where the keys of their sessions are, and which side they come from; empty if no session has any.
    pub(crate) keys: Vec<Option<(VaultIndex, Side)>>,
    /// What is done with several packets of a batch at once.
    pub(crate) together: Together,
    /// Decrypted payload section of the packet in hand.
    pub(crate) section: Vec<u8>,
    /// One segment of the super-packet in hand.
    pub(crate) segment: Option<Box<Slot>>,
    /// Whether whoever sends takes super-packets of datagrams.
    pub(crate) udp_super_packets: bool,
    /// Where a super-packet is sealed: it then changes places with the packet's own buffer.
    pub(crate) spare: PacketBuf,
}

impl Engine {
    /// An engine for the router that `snapshot` describes.
    ///
    /// `seed` must be unpredictable: session identities, ports and hashing depend on it. `boot_id`
    /// must differ at each start; peers learn from it that sessions were lost.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, keyring: Keyring, seed: [u8; 32], boot_id: u64, now: Now) -> Self {
        let secret = ChaCha12Rng::from_seed(seed).next_u64();
        let shared = Shared::new(snapshot.model(), keyring, secret);
        Self::of_several(snapshot, shared, Shard::ALONE, seed, boot_id, now)
    }

    /// An engine for one of several workers that share a router: each needs its own `seed`, all have
    /// the `boot_id`.
    #[must_use]
    pub fn of_several(
        snapshot: Arc<Snapshot>,
        shared: Shared,
        shard: Shard,
        seed: [u8; 32],
        boot_id: u64,
        now: Now,
    ) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let model = snapshot.model();
        let limits = shard.limits(&model.limits);
        let table = Table::new(limits.sessions, rng.next_u64());
        let wheel = Wheel::new(table.capacity(), now.mono);
        let counts = (model.tenants.len(), model.peers.len());
        let (quotas, board) = (shard.quotas(&model.quotas), Arc::clone(&shared.board));
        let ledger = Ledger::new(now.mono, &limits, &quotas, counts, rng.next_u64(), board);
        let mut peering_seed = [0; 32];
        rng.fill_bytes(&mut peering_seed);
        let expected = Path::expected(model, limits.sessions);
        let path = |path| Path::new(path, shard.waypoints(path), expected, rng.next_u64());
        let paths = model.paths.iter().map(path).collect();
        let mtus =
            model.interfaces.iter().map(|interface| interface.mtu.map_or(DEFAULT_MTU, u32::from)).collect();
        Self {
            peering: Peering::new(now, model, boot_id, peering_seed),
            names: Names::new(&model.router, rng.next_u64()),
            first_packets: Budget::new(limits.first_packets, now.mono),
            peer_messages: Budget::new(limits.first_packets, now.mono),
            answers: Budget::new(limits.answers, now.mono),
            retold: Budget::new(RETELL_RATE, now.mono),
            keyring: shared.keyring,
            table,
            wheel,
            paths,
            mtus,
            ledger,
            openings: Openings::new(limits.half_open),
            nat: shared.nat,
            vault: Vault::default(),
            shard,
            exceptions: shared.exceptions,
            placements: VecDeque::new(),
            notices: VecDeque::new(),
            holds: Holds::default(),
            farewells: Farewells::default(),
            offloads: Offloads::default(),
            started_unix: now.unix,
            next_fragment_id: rng.next_u32(),
            path_mtus: PathMtus::default(),
            fragments: Store::default(),
            rng,
            counters: Counters::default(),
            drops: Drops::new(),
            events: VecDeque::with_capacity(EVENTS),
            records: Records::default(),
            announcements: BinaryHeap::new(),
            restarts: VecDeque::new(),
            arrivals: Vec::with_capacity(GROUP),
            keys: Vec::with_capacity(GROUP),
            together: Together::default(),
            section: Vec::with_capacity(crate::open::MAX_PAYLOAD_SECTION),
            segment: Some(Box::new(Slot::new(PacketBuf::with_capacity(MAX_PACKET)))),
            udp_super_packets: true,
            spare: PacketBuf::with_capacity(MAX_PACKET),
            snapshot,
        }
    }

    /// Says whether super-packets of datagrams can be sent. If not, none are made: protected TCP that
    /// travels as UDP leaves in single packets.
    pub const fn allow_udp_super_packets(&mut self, can: bool) {
        self.udp_super_packets = can;
    }

    /// Decides about every packet of a batch.
    pub fn process(&mut self, now: Now, batch: &mut Batch) {
        let (received, mut outlet) = batch.split();
        // What the engine is asked to do meanwhile has arrivals of its own.
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let mut together = std::mem::take(&mut self.together.batch);
        for (first, group) in (0..).step_by(GROUP).zip(received.chunks_mut(GROUP)) {
            self.approach(group, &mut arrivals);
            self.check_all(group, &arrivals, &mut together);
            (0..KEYS_AHEAD).for_each(|place| self.bring_keys(place));
            for (place, (packet, arrival)) in group.iter_mut().zip(&arrivals).enumerate() {
                self.bring_keys(place + KEYS_AHEAD);
                let before = outlet.len();
                outlet.begin_turn(first + place);
                let company = together.company(place);
                packet.verdict = self.receive(now, packet, arrival, company, &mut outlet);
                together.add(place, packet, self.together.unfinished.take());
                if outlet.len() > before {
                    self.turn_emitted(now, before, &mut outlet);
                }
            }
            self.finish_seals(now, group, &mut together);
            self.account(group);
        }
        self.arrivals = arrivals;
        self.together.batch = together;
    }

    fn account(&mut self, group: &[Slot]) {
        let (mut forwarded, mut bytes, mut taken) = (0, 0, 0);
        for packet in group {
            taken += u64::from(packet.handed > 0);
            match packet.verdict {
                Verdict::Forward(_) => {
                    forwarded += 1;
                    bytes += packet.packet.len() as u64;
                }
                Verdict::Punt => self.counters.increment(Counter::PacketsPunted),
                Verdict::Consumed => self.counters.increment(Counter::PacketsConsumed),
                Verdict::HandOver(_) => self.counters.increment(Counter::PacketsHandedOver),
                Verdict::Drop(_) | Verdict::Pending => {}
            }
        }
        self.counters.add(Counter::PacketsReceived, group.len() as u64 - taken);
        self.counters.add(Counter::PacketsTakenOver, taken);
        self.counters.add(Counter::PacketsForwarded, forwarded);
        self.counters.add(Counter::BytesForwarded, bytes);
    }

    #[inline]
    pub(crate) fn receive(
        &mut self,
        now: Now,
        packet: &mut Slot,
        arrival: &Arrival,
        company: Company<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Verdict {
        let (parsed, key) = match &arrival.headers {
            Ok(headers) => (&headers.0, &headers.1),
            Err(error) if error.is_transport() => {
                return self.drop_packet(now, packet, None, DropReason::MalformedTransport);
            }
            Err(_) => return self.drop_packet(now, packet, None, DropReason::MalformedIp),
        };
        // Short Ethernet frames are padded.
        packet.packet.truncate(parsed.total_len as usize);
        if parsed.fragment != ip::Fragment::No {
            return self.fragment(now, packet, parsed, outlet);
        }
        if self.holds_back(key, packet) {
            return Verdict::Consumed;
        }
        let result = match self.table.find_near(arrival.hint, key) {
            Some((index, side)) => {
                let in_kernel = self.is_in_kernel(index);
                let result = self.established(now, index, side, packet, parsed, company, outlet);
                if in_kernel {
                    self.touched(now, index);
                }
                result
            }
            None => self.unknown(now, key, packet, parsed, outlet),
        };
        match result {
            Ok(Verdict::Forward(egress)) if egress.interface.is_hairpin() => {
                self.turn_around(now, packet, egress.interface, outlet)
            }
            Ok(verdict) => verdict,
            Err(reason) => self.drop_packet(now, packet, Some(*key), reason),
        }
    }

    /// A whole packet that was put together here takes the way of one that arrived.
    pub(crate) fn arrived(&mut self, now: Now, packet: &mut Slot, outlet: &mut Outlet<'_>) -> Verdict {
        let arrival = self.arrival(packet);
        self.receive(now, packet, &arrival, Company::NONE, outlet)
    }

    pub(crate) fn drop_packet(
        &mut self,
        now: Now,
        packet: &Slot,
        key: Option<FlowKey>,
        reason: DropReason,
    ) -> Verdict {
        self.drops.record(now.mono, reason, packet.interface, key, packet.packet.len());
        Verdict::Drop(reason)
    }

    /// Counts a packet of the engine's own making that could not be sent.
    pub(crate) fn lose(&mut self, now: Now, interface: InterfaceId, key: &FlowKey, reason: DropReason) {
        self.drops.record(now.mono, reason, interface, Some(key.reversed()), 0);
    }

    /// Cuts a super-packet into its segments and lets each take its way alone.
    pub(crate) fn process_segments(
        &mut self,
        now: Now,
        packet: &Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let Some(gso) = packet.gso else { return Err(DropReason::MalformedTransport) };
        // A segment is never cut again: it has no `gso`.
        let Some(mut segment) = self.segment.take() else { return Err(DropReason::MalformedTransport) };
        self.counters.increment(Counter::SuperPacketsSegmented);
        let result = self.each_segment(now, packet, usize::from(gso.size), &mut segment, outlet);
        self.segment = Some(segment);
        result.map(|()| Verdict::Consumed)
    }

    fn each_segment(
        &mut self,
        now: Now,
        packet: &Slot,
        size: usize,
        segment: &mut Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        let bytes = packet.packet.bytes();
        let whole = fairway_wire::segment::SuperPacket::new(bytes, size)
            .map_err(|_| DropReason::MalformedTransport)?;
        for number in 0..whole.count() {
            segment.packet.clear();
            segment.interface = packet.interface;
            segment.checksum = fairway_types::Checksum::Valid;
            (segment.handed, segment.genuine) = (packet.handed, false);
            segment.fragmented = false;
            let Ok(length) = whole.emit(number, segment.packet.spare_mut()) else {
                return Err(DropReason::MalformedTransport);
            };
            segment.packet.set_len(length);
            let arrival = self.arrival(segment);
            segment.verdict = self.receive(now, segment, &arrival, Company::NONE, outlet);
            if matches!(segment.verdict, Verdict::Forward(_) | Verdict::HandOver(_)) {
                self.emit_copy(now, segment, outlet);
            }
        }
        Ok(())
    }

    /// Sends a packet that is not one of the batch, or hands it over.
    pub(crate) fn emit_copy(&mut self, now: Now, packet: &Slot, outlet: &mut Outlet<'_>) {
        let place = outlet.emit_for(packet.packet.len());
        let fits = place.map(|out| {
            out.interface = match packet.verdict {
                Verdict::Forward(egress) => egress.interface,
                _ => packet.interface,
            };
            out.checksum = packet.checksum;
            out.verdict = packet.verdict;
            out.gso = packet.gso;
            (out.handed, out.genuine) = (packet.handed, packet.genuine);
            out.fragmented = packet.fragmented;
            out.packet.fill(packet.packet.bytes())
        });
        if fits == Some(true) {
            let handed = matches!(packet.verdict, Verdict::HandOver(_));
            self.counters.increment(if handed {
                Counter::PacketsHandedOver
            } else {
                Counter::PacketsEmitted
            });
        } else {
            if fits.is_some() {
                outlet.unemit();
            }
            self.drops.record(now.mono, DropReason::OutputFull, packet.interface, None, packet.packet.len());
        }
    }

    /// Does what is due: sessions expire, peers are told and watched, announcements go out.
    pub fn handle_timeout(&mut self, now: Now, batch: &mut Batch) {
        let mut outlet = batch.outlet();
        self.release_overdue(now, &mut outlet);
        self.expire(now);
        self.fragments_timeout(now);
        self.peering_timeout(now, &mut outlet);
        self.say_farewells(now, &mut outlet);
        self.announce(now, &mut outlet);
    }

    fn expire(&mut self, now: Now) {
        for _ in 0..SESSIONS_PER_TIMEOUT {
            let Some(index) = self.wheel.pop(now.mono) else { break };
            let Some(session) = self.table.get(index) else { continue };
            let deadline = session.deadline();
            if deadline > now.mono {
                self.wheel.schedule(index, deadline);
                continue;
            }
            if session.in_kernel {
                // Perhaps the kernel knows better when it was active last.
                self.recall(index, why::IDLE);
                self.wheel.schedule(index, now.mono + Duration::from_secs(1));
                continue;
            }
            let over = session.protocol() == Protocol::TCP && session.tcp.phase().is_over();
            self.remove(now, index, if over { Counter::SessionsClosed } else { Counter::SessionsExpired });
        }
    }

    /// Sends the metadata of sessions whose peers lost them, a few at a time.
    fn announce(&mut self, now: Now, outlet: &mut Outlet<'_>) {
        // Half the room stays for packets in transit.
        for _ in 0..outlet.room() / 2 {
            if let Some(index) = self.restarts.pop_front() {
                self.retell(now, index, 0);
            }
            let due = self.announcements.peek().is_some_and(|Reverse((due, ..))| *due <= now.mono);
            let Some(Reverse((_, index, out, tries))) = due.then(|| self.announcements.pop()).flatten()
            else {
                if self.restarts.is_empty() {
                    break;
                }
                continue;
            };
            let next = self.table.get(index).and_then(|session| session.leg(out).hop);
            if next.is_none_or(|hop| hop.handshake.phase() == Phase::Settled) {
                continue;
            }
            self.send_keep_alive(now, index, out, outlet);
            if tries + 1 < ANNOUNCEMENTS {
                let due = now.mono + Duration::from_secs(1 << tries);
                self.announcements.push(Reverse((due, index, out, tries + 1)));
            }
        }
    }

    /// Has the next router told of a session without waiting for a packet, and again until it
    /// answers: it may have restarted too recently to believe what it hears.
    pub(crate) fn announce_soon(&mut self, now: Now, index: Index) {
        self.announce_at(now.mono, index, Side::Responder);
    }

    /// The same toward either side after a second, since a router refuses what was signed when it started.
    pub(crate) fn announce_later(&mut self, now: Now, index: Index, out: Side) {
        self.announce_at(now.mono + Duration::from_secs(1), index, out);
    }

    fn announce_at(&mut self, due: Time, index: Index, out: Side) {
        // A peer that makes its sessions new over and over must not make this longer and longer. What
        // finds no place here is told with the session's next packet.
        if self.announcements.len() < self.table.capacity() {
            self.announcements.push(Reverse((due, index, out, 0)));
        }
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.restarts.is_empty() {
            return Some(Time::ZERO);
        }
        let announcement = self.announcements.peek().map(|Reverse((due, ..))| *due);
        let peering = self.shard.leads().then(|| self.peering.poll_timeout()).flatten();
        let (holds, fragments) = (self.holds.deadline(), self.fragments.poll_timeout());
        let farewells = self.farewells.deadline();
        let due = [self.wheel.next_deadline(), peering, announcement, holds, fragments, farewells];
        due.into_iter().flatten().min()
    }

    /// The next thing an operator should hear of.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn report(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        }
    }

    /// Inserts a session, and starts its timer.
    pub(crate) fn insert(&mut self, now: Now, mut session: Session) -> Result<Index, DropReason> {
        session.compile();
        let deadline = session.deadline();
        let index = self.table.insert(session).map_err(|error| match error {
            crate::table::InsertError::Full => DropReason::SessionLimit,
            crate::table::InsertError::Occupied => DropReason::TupleInUse,
        })?;
        self.enter_books(now, index);
        self.wheel.schedule(index, deadline);
        for side in Side::BOTH {
            self.place(now, session.leg(side), side);
        }
        self.counters.increment(Counter::SessionsCreated);
        self.record_begin(now, index);
        Ok(index)
    }

    /// Takes a session out and gives its ports back.
    pub(crate) fn remove(&mut self, now: Now, index: Index, why: Counter) -> Option<Session> {
        let session = self.table.remove(index)?;
        if !self.offload_gone(now, index, &session, why) {
            self.record_end(now, &session, why);
        }
        self.wheel.cancel(index);
        for side in Side::BOTH {
            self.displace(&session.leg(side).key);
        }
        self.leave_books(&session);
        self.vault.remove(session.protection);
        self.release_ports(now, session.leg(Side::Responder));
        self.release_nat(now, &session);
        self.counters.increment(why);
        Some(session)
    }

    /// The longest packet that may leave by an interface, in bytes.
    pub(crate) fn mtu(&self, interface: InterfaceId) -> usize {
        self.mtus.get(interface.index()).copied().unwrap_or(DEFAULT_MTU) as usize
    }

    /// Says how long packets may be that leave by an interface, in bytes; below 576 counts as 576.
    pub fn set_mtu(&mut self, interface: InterfaceId, mtu: u32) {
        let configured = self.snapshot.model().interface(interface).and_then(|i| i.mtu).map(u32::from);
        if let Some(slot) = self.mtus.get_mut(interface.index()) {
            let before = std::mem::replace(slot, configured.map_or(mtu, |limit| limit.min(mtu)).max(576));
            if before != *slot {
                self.recall_on(Some(interface), None);
            }
        }
    }

    /// What is known of a path.
    pub(crate) fn liveness(&self, path: PathId) -> Liveness {
        self.paths.get(path.index()).map_or(Liveness::Down, |path| path.liveness)
    }

    /// The peer at the other end of a path, if the path exists.
    pub(crate) fn peer_of(&self, path: PathId) -> Option<PeerId> {
        self.snapshot.model().path(path).map(|path| path.peer)
    }

    /// An address of this router on an interface, of the family asked for.
    pub(crate) fn own_address(&self, interface: InterfaceId, ipv6: bool) -> Option<core::net::IpAddr> {
        let interface = self.snapshot.model().interface(interface)?;
        interface.addresses.iter().map(|a| a.address.addr()).find(|address| address.is_ipv6() == ipv6)
    }
}
