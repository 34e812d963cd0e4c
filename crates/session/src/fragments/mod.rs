//! Packets in parts: IP fragments and the pieces of peers, put together here; the other way in `send`.
//!
//! A session's packets are judged whole, so its fragments are kept until all are there, whatever
//! interface they arrive on: hosts send them, and routers between waypoints may. What is whole takes
//! the way of any packet that arrived ([`Engine::arrived`]), marked as one that may be cut again.
//! Pieces were verified, each with a sequence number of its own, before they come here.
//!
//! This is the only part of a packet's way that allocates: `store` bounds it.

mod heard;
mod send;
mod store;

use fairway_types::{Checksum, Counter, DropReason, Now, Outlet, PacketBuf, PeerId, Slot, Verdict};
use fairway_wire::fragment::{self, View};
use fairway_wire::ip::{self, Fragment, Parsed, Version};
use fairway_wire::svr;

use crate::engine::Engine;
use crate::headers;
use crate::key::FlowKey;
use crate::session::Side;
use crate::table::Index;
use crate::together::Company;

pub(crate) use heard::PathMtus;
pub(crate) use send::{Fit, Identity, Way};
pub(crate) use store::Store;
use store::{Name, Outcome, Part, Whole};

impl Engine {
    /// A fragment of an IP packet.
    #[cold]
    pub(crate) fn fragment(
        &mut self,
        now: Now,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Verdict {
        let key = FlowKey::of_packet(packet.interface, parsed);
        match self.hold_fragment(now, packet, parsed) {
            Ok(true) => self.arrived(now, packet, outlet),
            Ok(false) => Verdict::Consumed,
            Err(reason) => self.drop_packet(now, packet, Some(key), reason),
        }
    }

    /// Keeps a fragment. Says whether `packet` is the whole packet now.
    fn hold_fragment(&mut self, now: Now, packet: &mut Slot, parsed: &Parsed) -> Result<bool, DropReason> {
        let bytes = packet.packet.bytes();
        let view = View::of(bytes, parsed).ok_or(DropReason::FragmentMalformed)?;
        if packet.gso.is_some() {
            return Err(DropReason::FragmentMalformed);
        }
        let name = Name::Ip {
            interface: packet.interface,
            source: parsed.source,
            destination: parsed.destination,
            id: view.id,
            protocol: if parsed.version == Version::V4 { view.protocol } else { 0 },
        };
        let part = Part {
            offset: view.offset,
            more: view.more,
            data: view.data,
            most: view.most(),
            congested: view.is_congested(),
        };
        let outcome = self.fragments.insert(now.mono, &name, &part, || {
            let mut head = vec![0; view.head_len()].into_boxed_slice();
            view.emit_head(&mut head);
            head
        });
        let Some(whole) = self.kept(now, outcome)? else { return Ok(false) };
        assemble(packet, &whole)?;
        fragment::complete(packet.packet.bytes_mut(), whole.congested)
            .ok_or(DropReason::FragmentMalformed)?;
        packet.checksum = Checksum::Unverified;
        packet.fragmented = true;
        // Fragments of fragments serve no purpose but to confuse.
        let parsed = ip::parse(packet.packet.bytes());
        if parsed.is_ok_and(|parsed| parsed.fragment != Fragment::No) {
            return Err(DropReason::FragmentMalformed);
        }
        Ok(true)
    }

    /// A piece of a session's packet, its metadata stripped.
    #[expect(clippy::too_many_arguments, reason = "the piece, its sender and its session")]
    pub(crate) fn piece(
        &mut self,
        now: Now,
        (index, side): (Index, Side),
        peer: PeerId,
        key: &FlowKey,
        piece: &svr::Fragment,
        packet: &mut Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let parsed = ip::parse(packet.packet.bytes()).map_err(|_| DropReason::MalformedTransport)?;
        let (head, data) =
            packet.packet.bytes().split_at_checked(usize::from(parsed.payload_offset)).unwrap_or_default();
        let counted = if key.ipv6 { head.len() - headers::v6::LEN } else { head.len() };
        let part = Part {
            offset: usize::from(piece.offset) * 8,
            more: piece.more_fragments,
            data,
            most: usize::from(u16::MAX) - counted,
            congested: headers::traffic_class(head) & 3 == 3,
        };
        let name = Name::Payload { interface: key.interface, peer, flow: *key, id: piece.extended_id };
        let outcome = self.fragments.insert(now.mono, &name, &part, || Box::from(head));
        let Some(whole) = self.kept(now, outcome)? else { return Ok(Verdict::Consumed) };
        assemble(packet, &whole)?;
        if !key.ipv6 {
            headers::set_identity(packet.packet.bytes_mut(), piece.original_id, piece.dont_fragment);
        }
        if whole.congested {
            fragment::complete(packet.packet.bytes_mut(), true).ok_or(DropReason::FragmentMalformed)?;
        }
        headers::finish(&mut packet.packet, usize::from(parsed.header_len), &key.reversed())?;
        packet.checksum = Checksum::Valid;
        packet.fragmented = !piece.dont_fragment;
        let parsed = ip::parse(packet.packet.bytes()).map_err(|_| DropReason::MalformedTransport)?;
        self.send_on(now, index, side, packet, &parsed, Company::NONE, outlet)
    }

    /// Counts what became of a part, and of those that had to go because of it.
    fn kept(&mut self, now: Now, outcome: Outcome) -> Result<Option<Whole>, DropReason> {
        self.count_discarded(now);
        match outcome {
            Outcome::Held => {
                self.counters.increment(Counter::FragmentsHeld);
                Ok(None)
            }
            Outcome::Repeated => Ok(None),
            Outcome::Whole(whole) => {
                self.counters.increment(Counter::PacketsReassembled);
                Ok(Some(whole))
            }
            Outcome::Refused(reason) => Err(reason),
        }
    }

    fn count_discarded(&mut self, now: Now) {
        while let Some(discarded) = self.fragments.poll_discarded() {
            for _ in 0..discarded.parts {
                self.drops.record(now.mono, discarded.reason, discarded.interface, None, discarded.length);
            }
            self.counters.add(Counter::FragmentsDiscarded, discarded.parts as u64);
        }
    }

    /// Drops what never became whole.
    pub(crate) fn fragments_timeout(&mut self, now: Now) {
        self.fragments.handle_timeout(now.mono);
        self.count_discarded(now);
    }

    /// Drops all that is kept: what names it is numbered anew.
    pub(crate) fn forget_fragments(&mut self, now: Now) {
        self.fragments.clear();
        self.count_discarded(now);
    }
}

/// Puts headers and data one after the other.
fn assemble(packet: &mut Slot, whole: &Whole) -> Result<(), DropReason> {
    let length = whole.len();
    let buffer = &mut packet.packet;
    buffer.clear();
    if buffer.spare_mut().len() < length {
        // It was kept in a buffer of its own size.
        *buffer = PacketBuf::with_capacity(length);
    }
    let mut rest = buffer.spare_mut().get_mut(..length).ok_or(DropReason::FragmentMalformed)?;
    for bytes in core::iter::once(&*whole.head).chain(whole.data()) {
        let (place, after) = rest.split_at_mut_checked(bytes.len()).ok_or(DropReason::FragmentMalformed)?;
        place.copy_from_slice(bytes);
        rest = after;
    }
    buffer.set_len(length);
    Ok(())
}
