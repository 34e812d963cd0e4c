//! Payload at the edge of the fabric: sealed where it enters, opened where it leaves.
//!
//! Each direction of a session decides for itself, before its first byte of payload leaves, whether
//! the payload is encrypted already ([`fairway_wire::recognise`]); a decision is told in metadata
//! and never taken back. TCP headers stay readable on the way, and are authenticated with the
//! payload. A native TCP segment without payload bears no tag; a carried one does.

use core::time::Duration;

use fairway_crypto::session::{Checked, Direction, End, Sealing, Unopened, salt_made_at, sender_salt};
use fairway_types::model::SecurityPolicy;
use fairway_types::{Checksum, Counter, DropReason, Now, Protocol, Slot, Suite, Time};
use fairway_wire::ip::{self, Parsed};
use fairway_wire::recognise;
use fairway_wire::svr;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::engine::Engine;
use crate::headers;
use crate::key::FlowKey;
use crate::mss;
use crate::session::{Session, Side};
use crate::table::Index;
use crate::tcp::flags;
use crate::tell::mimics_metadata;
use crate::together::Seal;
use crate::vault::{Cover, Place, Protection, Salt};

/// How old a sender salt may become while it is still being told, in seconds.
const FRESH: u64 = 4;
/// How old a salt may be that is the first one known of a session, in seconds: time for a path of
/// several routers, whose clocks differ.
const ACCEPTABLE: u64 = 30;

/// How long after a direction was decided to be sealed an acknowledgement is accepted that was sent
/// before, and overtaken.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// What is to be done with a packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Nothing.
    Pass,
    /// It enters the fabric.
    Seal,
    /// It leaves the fabric.
    Open,
}

/// Where header and payload of a session's packet are, whatever form it has on a leg.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    transport: usize,
    pub(crate) payload: usize,
    pub(crate) end: usize,
    form: Form,
}

/// What stands in front of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Tcp,
    CarriedTcp,
    Udp,
}

impl Layout {
    /// That of a packet on a leg; `end` is where its transport part ends.
    pub(crate) fn new(
        bytes: &[u8],
        key: &FlowKey,
        protocol: Protocol,
        end: usize,
    ) -> Result<Self, DropReason> {
        let (transport, payload) = headers::payload_offsets(bytes, key);
        let segment = bytes.get(transport..end).ok_or(DropReason::MalformedTransport)?;
        Ok(match (protocol, key.protocol) {
            (Protocol::TCP, Protocol::UDP) => {
                let header = svr::tcp_header_len(segment).ok_or(DropReason::MalformedTransport)?;
                Self { transport, payload: transport + header, end, form: Form::CarriedTcp }
            }
            (Protocol::TCP, _) => Self { transport, payload, end, form: Form::Tcp },
            _ => Self { transport, payload, end, form: Form::Udp },
        })
    }

    pub(crate) const fn is_bare_tcp(&self) -> bool {
        matches!(self.form, Form::Tcp | Form::CarriedTcp) && self.payload == self.end
    }

    /// Whether nothing but ACK, PSH and the flags of ECN are set: it neither opens nor ends anything.
    fn is_mere_acknowledgement(&self, bytes: &[u8]) -> bool {
        let flags = bytes.get(self.transport + headers::TCP_FLAGS).copied().unwrap_or(u8::MAX);
        flags & (flags::SYN | flags::FIN | flags::RST) == 0
    }

    /// What is authenticated with the payload: of TCP, everything but ports and checksum.
    pub(crate) fn associated<'a>(
        &self,
        bytes: &'a [u8],
        buffer: &'a mut [u8; svr::MAX_ASSOCIATED],
    ) -> &'a [u8] {
        match self.form {
            Form::Udp => &[],
            Form::Tcp => svr::associated(&bytes[self.transport..self.payload], false, buffer),
            Form::CarriedTcp => svr::associated(&bytes[self.transport..self.payload], true, buffer),
        }
    }
}

impl Protection {
    /// What a packet needs that comes from a side, at an end.
    pub(crate) fn treatment(&self, from: Side) -> Treatment {
        match (&self.place, self.cover[from.index()]) {
            (Place::Transit(_), _) | (Place::End(_), Cover::Clear) => Treatment::Pass,
            (Place::End(end), Cover::Undecided | Cover::Sealed) => {
                if sends_from(end) == from {
                    Treatment::Seal
                } else {
                    Treatment::Open
                }
            }
        }
    }

    /// By how many bytes the payload from a side may grow.
    pub(crate) fn growth(&self, from: Side) -> usize {
        if self.cover[from.index()] == Cover::Clear { 0 } else { self.suite.max_overhead() }
    }

    /// How much of a segment from a side is not payload but its seal, seen from between the ends; up
    /// to a block too much where there is padding.
    pub(crate) fn seal_in_transit(&self, from: Side) -> u32 {
        let sealed = !self.is_end() && self.cover[from.index()] == Cover::Sealed;
        if sealed { self.suite.max_overhead() as u32 } else { 0 }
    }

    /// Decides about a direction by its first payload.
    fn decide(&mut self, now: Time, from: Side, protocol: Protocol, port: u16, payload: &[u8]) -> Cover {
        let forward = self.cover[Side::Initiator.index()];
        let secured = match from {
            Side::Initiator => recognise::request(protocol.0, port, payload).is_some(),
            Side::Responder => forward == Cover::Clear && recognise::answers(protocol.0, port, payload),
        };
        let cover = if secured { Cover::Clear } else { Cover::Sealed };
        self.settle(from, cover, now);
        cover
    }
}

/// Why a payload is dropped that did not open.
pub(crate) const fn refusal(error: Unopened, undecided: bool) -> DropReason {
    match error {
        // Before the direction is known to be sealed, nothing is known to be forged.
        Unopened::Forged if !undecided => DropReason::PayloadForged,
        Unopened::Forged | Unopened::NoKeys => DropReason::PayloadUnannounced,
        Unopened::Replayed => DropReason::PayloadReplayed,
    }
}

/// The side whose packets an end seals.
const fn sends_from(end: &End) -> Side {
    match end.sends() {
        Direction::Forward => Side::Initiator,
        Direction::Reverse => Side::Responder,
    }
}

impl Engine {
    /// The protection of a session that enters the fabric here, as its service's policy says.
    pub(crate) fn new_protection(
        &mut self,
        now: Now,
        service: fairway_types::ServiceId,
    ) -> Result<Option<Protection>, DropReason> {
        let policy = self.policy_of(service);
        let Some((suite, adaptive)) = policy.and_then(|policy| Some((policy.payload?, policy.adaptive)))
        else {
            return Ok(None);
        };
        let mut random = zeroize::Zeroizing::new([0; 48]);
        self.rng.fill_bytes(random.as_mut_slice());
        // Whoever gets hold of the generator later must not be able to draw this secret again.
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        self.rng.fill_bytes(seed.as_mut_slice());
        self.reseed(&seed);
        Protection::ingress(suite, adaptive, &random, self.worker().0, now)
            .map(Some)
            .map_err(|_| DropReason::SessionKeysFailed)
    }

    /// Starts the generator of random numbers anew. An engine that was moved since it was made has left
    /// copies of its generator behind, which then are worth nothing.
    pub fn reseed(&mut self, seed: &[u8; 32]) {
        self.rng = ChaCha12Rng::from_seed(*seed);
    }

    /// Whether payload of a service's sessions is protected.
    pub(crate) fn protects(&self, service: fairway_types::ServiceId) -> bool {
        self.policy_of(service).is_some_and(|policy| policy.payload.is_some())
    }

    /// How payload of a service's sessions is protected.
    pub(crate) fn suite_of(&self, service: fairway_types::ServiceId) -> Option<Suite> {
        self.policy_of(service).and_then(|policy| policy.payload)
    }

    fn policy_of(&self, service: fairway_types::ServiceId) -> Option<&SecurityPolicy> {
        let model = self.snapshot.model();
        model.services.get(service.index()).and_then(|service| model.security.get(service.security.index()))
    }

    /// Decides, where that is due, about the payload of a host's packet that is to enter the fabric.
    /// Says whether it is to be sealed.
    pub(crate) fn decide_cover(
        &mut self,
        now: Time,
        index: Index,
        from: Side,
        packet: &Slot,
        parsed: &Parsed,
    ) -> Option<Cover> {
        let session = self.table.get_mut(index)?;
        let protection = self.vault.get_mut(session.protection)?;
        let cover = protection.cover[from.index()];
        let payload = parsed.payload(packet.packet.bytes());
        let protocol = session.protocol;
        if cover != Cover::Undecided || (protocol == Protocol::TCP && payload.is_empty()) {
            return Some(cover);
        }
        let decided = protection.decide(now, from, protocol, session.original.local.port(), payload);
        if let Some(hop) = &mut session.leg_mut(from.other()).hop {
            hop.handshake.tell_change();
        }
        self.counters.increment(match decided {
            Cover::Clear => Counter::DirectionsClear,
            Cover::Undecided | Cover::Sealed => Counter::DirectionsSealed,
        });
        Some(decided)
    }

    /// Seals the payload of a packet that was rewritten for the leg `to`. Its checksum is left for
    /// the caller to complete. If it `waits`, what is done faster with several packets may be left to
    /// [`Self::finish_seals`].
    pub(crate) fn seal_payload(
        &mut self,
        now: Now,
        index: Index,
        packet: &mut Slot,
        to: &FlowKey,
        waits: bool,
    ) -> Result<(), DropReason> {
        let Some(session) = self.table.get(index) else { return Ok(()) };
        let Some(Protection { suite, place: Place::End(end), .. }) = self.vault.get_mut(session.protection)
        else {
            return Ok(());
        };
        let bytes = packet.packet.bytes();
        let layout = Layout::new(bytes, to, session.protocol, bytes.len())?;
        if layout.form == Form::Tcp && layout.is_bare_tcp() {
            return Ok(());
        }
        let (suite, length) = (*suite, layout.end - layout.payload);
        let (front, back) = (suite.front(), suite.back(length));
        let buffer = &mut packet.packet;
        if !buffer.grow_front(front) || !buffer.grow_back(back) {
            return Err(DropReason::TooBig);
        }
        let bytes = buffer.bytes_mut();
        bytes.copy_within(front..front + layout.payload, 0);
        let (header, block) = bytes.split_at_mut(layout.payload);
        let mut buffer = [0; svr::MAX_ASSOCIATED];
        let associated = layout.associated(header, &mut buffer);
        let piece = Sealing { associated, block, length };
        let failed = |_| DropReason::SessionKeysFailed;
        let mut left = None;
        if waits {
            left = end.begin_seal(piece, now.mono).map_err(failed)?;
        } else {
            end.seal(piece, now.mono).map_err(failed)?;
        }
        headers::set_lengths(&mut packet.packet, layout.transport, to)?;
        if let Some(keys) = left {
            let seal = Seal { keys, layout, length };
            if mimics_metadata(packet, to) {
                // What guards it is signed with it.
                seal.finish(packet)?;
            } else {
                self.together.unfinished = Some(seal);
            }
        }
        self.counters.increment(Counter::PayloadsSealed);
        Ok(())
    }

    /// Verifies and decrypts the payload of a packet that arrived on a leg, and says whether there was
    /// anything to open. Lengths are right then, the checksum is for the caller to complete.
    pub(crate) fn open_payload(
        &mut self,
        now: Now,
        index: Index,
        from: Side,
        packet: &mut Slot,
        parsed: &Parsed,
        checked: Option<&Checked>,
    ) -> Result<bool, DropReason> {
        let Some(session) = self.table.get(index) else { return Ok(false) };
        let Some(protection) = self.vault.get_mut(session.protection) else { return Ok(false) };
        let arrived = session.leg(from).key.reversed();
        let layout =
            Layout::new(packet.packet.bytes(), &arrived, session.protocol, parsed.payload_end as usize)?;
        let undecided = protection.cover[from.index()] == Cover::Undecided;
        if layout.is_bare_tcp() {
            let overtaken = now.mono.since(protection.decided[from.index()]) < OVERTAKEN
                && layout.is_mere_acknowledgement(packet.packet.bytes());
            if undecided || layout.form == Form::Tcp || overtaken {
                return Ok(false);
            }
        }
        let Place::End(end) = &mut protection.place else { return Ok(false) };
        let bytes = &mut packet.packet.bytes_mut()[..layout.end];
        let (header, block) = bytes.split_at_mut(layout.payload);
        let mut buffer = [0; svr::MAX_ASSOCIATED];
        let associated = layout.associated(header, &mut buffer);
        let opened = end
            .open_checked(checked, associated, block, now.mono)
            .map_err(|error| refusal(error, undecided))?;
        protection.settle(from, Cover::Sealed, now.mono);
        protection.opened = now.mono;
        let bytes = packet.packet.bytes_mut();
        bytes.copy_within(..layout.payload, opened.start);
        packet.packet.shrink_front(opened.start);
        packet.packet.truncate(layout.payload + opened.len());
        packet.checksum = Checksum::Valid;
        headers::set_lengths(&mut packet.packet, layout.transport, &arrived)?;
        self.counters.increment(Counter::PayloadsOpened);
        Ok(true)
    }

    /// Whether it is time to ask the sender of what does not open for its metadata: at most once a
    /// second, and only if nothing else of the session opens either.
    pub(crate) fn may_ask_sender(&mut self, now: Now, index: Index) -> bool {
        const INTERVAL: Duration = Duration::from_secs(1);
        let protection = self.table.get(index).and_then(|session| session.protection);
        let Some(protection) = self.vault.get_mut(protection) else { return false };
        let due = now.mono.since(protection.asked.max(protection.opened)) >= INTERVAL;
        if due {
            protection.asked = now.mono;
        }
        due
    }

    /// Lowers the segment size that a SYN announces, as it arrived, to what fits both legs. Only hosts'
    /// own announcements are changed: on the way between routers they may be sealed.
    pub(crate) fn clamp_native(&mut self, index: Index, packet: &mut Slot, parsed: &Parsed) {
        if parsed.protocol != Protocol::TCP.0 {
            return;
        }
        let Some(limit) = self.table.get(index).and_then(|session| self.segment_limit(session)) else {
            return;
        };
        if mss::clamp(packet, parsed, limit) {
            self.counters.increment(Counter::SegmentSizesLowered);
        }
    }

    /// The same for a SYN that was carried until here.
    pub(crate) fn clamp_restored(&mut self, index: Index, packet: &mut Slot, to: &FlowKey) {
        if to.protocol == Protocol::TCP
            && let Ok(parsed) = ip::parse(packet.packet.bytes())
        {
            self.clamp_native(index, packet, &parsed);
        }
    }

    /// The longest segment that fits both legs, as if it were sealed; `None` where it may not be
    /// lowered.
    fn segment_limit(&self, session: &Session) -> Option<usize> {
        let protection = self.vault.get(session.protection);
        if protection.is_some_and(|protection| !protection.is_end()) {
            return None;
        }
        let growth = protection.map_or(0, |protection| protection.suite.max_overhead());
        let limits = session.legs.iter().map(|leg| {
            let added = if leg.hop.is_some() { growth } else { 0 };
            let headers = headers::ip_len(leg.key.ipv6) + headers::TCP_LEN + added;
            self.mtu(leg.key.interface).saturating_sub(headers)
        });
        limits.min()
    }

    /// Starts the keys of what this router sends to the responder anew: somebody on the way may have
    /// lost the session, and with it the memory of what was received.
    pub(crate) fn renew_keys(&mut self, now: Now, index: Index) {
        self.renew_older(now, index, Side::Responder, None);
    }

    /// The same for what this router sends by a leg, if the salt that is about to be told is not fresh.
    /// Toward the initiator that matters only to a router that may have lost the session.
    pub(crate) fn freshen_keys(&mut self, now: Now, index: Index, out: Side) {
        self.renew_older(now, index, out, Some(FRESH));
    }

    fn renew_older(&mut self, now: Now, index: Index, out: Side, age: Option<u64>) {
        let protection = self.table.get(index).and_then(|session| session.protection);
        let worker = self.worker().0;
        let Some(Protection { place: Place::End(end), .. }) = self.vault.get_mut(protection) else { return };
        let made = salt_made_at(end.salt());
        let is_fresh = age.is_some_and(|age| now.unix.saturating_sub(made) <= age);
        if sends_from(end) != out.other() || is_fresh {
            return;
        }
        let mut random: Salt = [0; 16];
        self.rng.fill_bytes(&mut random);
        if end.renew(sender_salt(random, now.unix), worker, now.mono).is_ok() {
            self.counters.increment(Counter::SessionKeysRenewed);
        }
    }

    /// Whether a session that is new here may begin with this salt. One that is old, or older than
    /// this router, may have sealed packets that others have received.
    pub(crate) fn is_fresh(&self, salt: &Salt, now: Now) -> bool {
        let made = salt_made_at(salt);
        made + ACCEPTABLE >= now.unix && made >= self.started_unix
    }
}
