//! Packets that do not fit the link they leave by: in pieces to a peer, in fragments to a host, or not
//! at all, and their source is told.

use fairway_types::{Checksum, Counter, DropReason, Egress, Now, Outlet, PathId, Slot, Verdict};
use fairway_wire::fragment::Cut;
use fairway_wire::ip::{self, Parsed, Version};
use fairway_wire::svr::{self, HeaderTlvs, PayloadTlvs};
use rand_core::RngCore;

use super::store::MOST_PARTS;
use crate::answer::least_mtu;
use crate::engine::Engine;
use crate::handshake::Attach;
use crate::headers::{self, payload_offsets};
use crate::key::FlowKey;
use crate::session::{Side, overhead};
use crate::super_packets::headers_end;
use crate::table::Index;
use crate::tell::is_intact;

/// Metadata of a piece: header, TLVs 1, 16, 26, 0x8004 and 0x8005, and the tag.
const PIECE_OVERHEAD: usize = svr::HEADER_LEN + 14 + 8 + 14 + 20 + 12 + svr::TAG_LEN;
/// Parts are no longer than this, whatever the link allows: packets of the engine's own making have
/// smaller buffers than received ones.
const LONGEST: usize = 9216;

/// Whether a packet fits the link it leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Whole,
    /// In parts only.
    Parts,
}

/// What the IP header of a packet says of itself, that pieces would lose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    id: u16,
    dont_fragment: bool,
}

impl Identity {
    /// That of a packet as it arrived.
    pub(crate) fn of(packet: &Slot) -> Self {
        let bytes = packet.packet.bytes();
        if bytes[0] >> 4 == 6 {
            return Self { id: 0, dont_fragment: !packet.fragmented };
        }
        let dont_fragment = bytes[6] & 0x40 != 0 && !packet.fragmented;
        Self { id: headers::read_u16(bytes, 4), dont_fragment }
    }
}

/// Where parts of a packet go.
pub(crate) struct Way<'a> {
    pub(crate) out: Side,
    /// The path, if it leads to a peer.
    pub(crate) path: Option<PathId>,
    pub(crate) to: &'a FlowKey,
    pub(crate) egress: Egress,
    pub(crate) mtu: usize,
}

impl Engine {
    /// Whether a packet that arrived on the leg of `side` fits `mtu`, that of the way it leaves by. If it
    /// is too long even without what routers add, and its source does not let it be cut, its source is
    /// told.
    #[expect(clippy::too_many_arguments, reason = "the packet, its session, and the limit")]
    #[inline]
    pub(crate) fn check_size(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
        mtu: usize,
        outlet: &mut Outlet<'_>,
    ) -> Result<Fit, DropReason> {
        let Some(session) = self.table.get(index) else { return Ok(Fit::Whole) };
        let (from, to) = (session.leg(side), session.leg(side.other()));
        let growth = self.vault.get(session.protection).map_or(0, |protection| protection.growth(side));
        let inner = overhead(&from.key, session);
        // What was opened here has lost its growth already.
        let outer = overhead(&to.key, session) + if from.hop.is_none() { growth } else { 0 };
        if (arriving(packet, parsed) + outer).saturating_sub(inner) <= mtu {
            return Ok(Fit::Whole);
        }
        self.judge_size(now, index, side, packet, parsed, mtu, outlet)
    }

    /// What becomes of a packet that does not fit as it is.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the packet, its session, and the limit")]
    fn judge_size(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
        mtu: usize,
        outlet: &mut Outlet<'_>,
    ) -> Result<Fit, DropReason> {
        let Some(session) = self.table.get(index) else { return Ok(Fit::Whole) };
        let (from, to) = (session.leg(side), session.leg(side.other()));
        let growth = self.vault.get(session.protection).map_or(0, |protection| protection.growth(side));
        let inner = overhead(&from.key, session);
        let plain = headers::ip_len(session.original.ipv6);
        let grown = if from.hop.is_some() { growth } else { 0 };
        let still_grown = if to.hop.is_some() { grown } else { 0 };
        let original = (arriving(packet, parsed) + plain).saturating_sub(inner + still_grown);
        // Every link carries IPv6 packets of this length, if need be in parts (RFC 8200, section 5).
        let due = if session.original.ipv6 { least_mtu(Version::V6) } else { 0 };
        let only_ours = to.hop.is_some() && original <= mtu.max(due);
        if only_ours || !Identity::of(packet).dont_fragment {
            return Ok(Fit::Parts);
        }
        // In terms of packets as they arrive.
        let fits = (mtu + inner + grown).saturating_sub(plain);
        self.send_too_big(now, index, side, packet, parsed, fits, outlet);
        Err(DropReason::TooBig)
    }

    /// Sends a packet that was rewritten for its leg in parts, if it is too long or has to say that it may
    /// be cut again. Says whether it was.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the packet, its session and its way")]
    pub(crate) fn send_in_parts(
        &mut self,
        now: Now,
        index: Index,
        way: &Way<'_>,
        attach: Attach,
        identity: Identity,
        packet: &mut Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<bool, DropReason> {
        let too_long = packet.packet.len() > way.mtu;
        match way.path {
            Some(path) if too_long || packet.fragmented => {
                self.send_pieces(now, index, path, way, attach, identity, packet, outlet)?;
                Ok(true)
            }
            None if too_long => {
                self.send_fragments(way, identity, packet, outlet)?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Sends a packet that was rewritten for its leg in pieces, each with metadata of its own. What the
    /// next router is to be told of the session goes ahead.
    #[expect(clippy::too_many_arguments, reason = "the packet, its session and its way")]
    fn send_pieces(
        &mut self,
        now: Now,
        index: Index,
        path: PathId,
        way: &Way<'_>,
        attach: Attach,
        identity: Identity,
        packet: &Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        let bytes = packet.packet.bytes();
        let (transport, payload) = payload_offsets(bytes, way.to);
        // What is behind the metadata is checked with it; an error must not be signed.
        if packet.checksum == Checksum::Unverified && !is_intact(packet, transport, way.to) {
            return Err(DropReason::BadChecksum);
        }
        let (head, body) = bytes.split_at_checked(payload).ok_or(DropReason::MalformedTransport)?;
        let room = way.mtu.min(LONGEST).saturating_sub(payload + PIECE_OVERHEAD);
        let size = room & !7;
        if size == 0 || body.is_empty() || body.len().div_ceil(size) > MOST_PARTS {
            return Err(DropReason::TooBig);
        }
        if attach != Attach::Nothing {
            self.counters.increment(Counter::MetadataSentAhead);
            self.send_keep_alive(now, index, way.out, outlet);
        }
        let count = body.len().div_ceil(size);
        if outlet.room() < count {
            return Err(DropReason::OutputFull);
        }
        self.next_fragment_id = self.next_fragment_id.wrapping_add(1);
        for (number, data) in body.chunks(size).enumerate() {
            let piece = svr::Fragment {
                extended_id: self.next_fragment_id,
                original_id: identity.id,
                dont_fragment: identity.dont_fragment,
                more_fragments: number + 1 < count,
                offset: u16::try_from(number * size / 8).map_err(|_| DropReason::TooBig)?,
                largest: u16::try_from(size.min(body.len())).unwrap_or(u16::MAX),
            };
            let slot = outlet.emit().ok_or(DropReason::OutputFull)?;
            let filled = slot.packet.fill(data) && slot.packet.grow_front(head.len());
            if !filled {
                outlet.unemit();
                return Err(DropReason::OutputFull);
            }
            slot.packet.bytes_mut()[..head.len()].copy_from_slice(head);
            if !way.to.ipv6 {
                headers::set_identity(slot.packet.bytes_mut(), 0, true);
            }
            slot.interface = way.egress.interface;
            slot.verdict = Verdict::Forward(way.egress);
            let header = HeaderTlvs { fragment: Some(piece), ..HeaderTlvs::default() };
            if let Err(reason) = self.seal(now, path, slot, way.to, header, &PayloadTlvs::default()) {
                outlet.unemit();
                return Err(reason);
            }
            self.counters.increment(Counter::PacketsEmitted);
        }
        self.counters.increment(Counter::PacketsFragmented);
        Ok(())
    }

    /// Sends a packet that was rewritten for its leg to its host in IP fragments.
    fn send_fragments(
        &mut self,
        way: &Way<'_>,
        identity: Identity,
        packet: &mut Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        if packet.checksum == Checksum::Partial {
            let parsed = ip::parse(packet.packet.bytes()).map_err(|_| DropReason::MalformedTransport)?;
            headers::complete_partial(packet.packet.bytes_mut(), &parsed);
        }
        // IPv4 keeps the one its source gave it, which is unique if the packet may be cut at all.
        let id = match identity.id {
            0 => self.rng.next_u32() | 1,
            id => u32::from(id),
        };
        let cut = Cut::new(packet.packet.bytes(), way.mtu.min(LONGEST), id).ok_or(DropReason::TooBig)?;
        if outlet.room() < cut.count() {
            return Err(DropReason::OutputFull);
        }
        for number in 0..cut.count() {
            let slot = outlet.emit().ok_or(DropReason::OutputFull)?;
            let Some(length) = cut.emit(number, slot.packet.spare_mut()) else {
                outlet.unemit();
                return Err(DropReason::OutputFull);
            };
            slot.packet.set_len(length);
            slot.interface = way.egress.interface;
            slot.checksum = Checksum::Valid;
            slot.verdict = Verdict::Forward(way.egress);
            self.counters.increment(Counter::PacketsEmitted);
        }
        self.counters.increment(Counter::PacketsFragmented);
        Ok(())
    }
}

/// The length of a packet as it arrived, or of the longest one that a super-packet stands for.
#[inline]
fn arriving(packet: &Slot, parsed: &Parsed) -> usize {
    match packet.gso {
        Some(gso) => headers_end(packet, parsed) + usize::from(gso.size),
        None => packet.packet.len(),
    }
}
