//! A packet of a known session: open or seal its payload where it enters or leaves the fabric, witness
//! TCP, decide about metadata, rewrite, send.

use fairway_crypto::session::Checked;
use fairway_types::{Counter, DropReason, Egress, Gso, GsoKind, Now, Outlet, Protocol, Slot, Verdict};
use fairway_wire::ip::Parsed;
use fairway_wire::svr::{self, Control, HeaderTlvs};

use crate::carry;
use crate::engine::Engine;
use crate::fragments::{Fit, Identity, Way};
use crate::handshake::Attach;
use crate::headers::{check_checksum, leave_checksum};
use crate::protect::Treatment;
use crate::session::Side;
use crate::super_packets::{datagrams, headers_end};
use crate::table::Index;
use crate::tcp::{Segment, TcpPhase, flags, tcp_segment};
use crate::together::Company;
use crate::vault::Cover;

/// A packet's way from a leg of its session to the other.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    pub(crate) now: Now,
    pub(crate) index: Index,
    /// Where it came from.
    pub(crate) side: Side,
    pub(crate) treatment: Treatment,
    /// Whether its payload was opened here.
    pub(crate) opened: bool,
    /// Whether it is one of the batch, which wait for each other before they are sent.
    pub(crate) waits: bool,
}

impl Engine {
    /// A packet whose flow is known arrived on the leg of `side`.
    #[expect(clippy::too_many_arguments, reason = "the packet, its session, and what was done for it before")]
    #[inline]
    pub(crate) fn established(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &mut Slot,
        parsed: &Parsed,
        company: Company<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let Some(session) = self.table.get_mut(index) else { return Err(DropReason::UnknownWaypoint) };
        if let Some(hop) = &mut session.leg_mut(side).hop {
            match find_cookie(packet, parsed) {
                Cookie::None => hop.handshake.received_plain(),
                Cookie::First => return self.metadata(now, Some((index, side)), packet, parsed, outlet),
                Cookie::Inside => return self.process_segments(now, packet, outlet),
            }
        }
        self.send_on(now, index, side, packet, parsed, company, outlet)
    }

    /// Sends a packet that arrived on the leg of `side`, without metadata or with its metadata
    /// stripped, by the other leg.
    #[expect(clippy::too_many_arguments, reason = "the packet, its session, and what was done for it before")]
    pub(crate) fn send_on(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &mut Slot,
        parsed: &Parsed,
        company: Company<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let Some(session) = self.table.get(index) else { return Err(DropReason::UnknownWaypoint) };
        let reshaped = session.leg(side).key.protocol != session.leg(side.other()).key.protocol;
        let protection = self.vault.get(session.protection);
        let treatment = protection.map_or(Treatment::Pass, |protection| protection.treatment(side));
        let mut course = Course { now, index, side, treatment, opened: false, waits: company.waits };
        if packet.gso.is_some() && !self.goes_whole(&course, packet, parsed) {
            return self.process_segments(now, packet, outlet);
        }
        let opened = match (treatment, packet.gso) {
            (Treatment::Open, None) => self.open_on(&course, packet, parsed, company.checked, outlet)?,
            (Treatment::Open, Some(_)) => Some(self.join(&course, packet, parsed, outlet)?),
            (Treatment::Pass, Some(Gso { kind: GsoKind::Udp, .. })) if reshaped => {
                Some(self.join(&course, packet, parsed, outlet)?)
            }
            (Treatment::Pass | Treatment::Seal, _) => None,
        };
        course.opened = opened.is_some();
        self.forward(&course, packet, opened.as_ref().unwrap_or(parsed), outlet)
    }

    /// Rewrites a packet that is readable here, protects it where it enters the fabric, and sends it by
    /// the other leg.
    pub(crate) fn forward(
        &mut self,
        course: &Course,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let &Course { now, index, side, treatment, opened, waits } = course;
        if parsed.ttl <= 1 {
            self.send_ttl_expired(now, index, side, packet, parsed, outlet);
            return Err(DropReason::TtlExpired);
        }
        if treatment == Treatment::Seal {
            check_checksum(packet, parsed)?;
        }
        let syn = self.witness(now, index, side, packet, parsed)?;
        let cover = match treatment {
            Treatment::Seal => self.decide_cover(now.mono, index, side, packet, parsed),
            Treatment::Pass | Treatment::Open => None,
        };
        let attach = self.attachment(now, index, side);
        let Some(session) = self.table.get(index) else { return Err(DropReason::UnknownWaypoint) };
        let out = session.leg(side.other());
        let (to, next_hop) = (out.key, out.next_hop);
        let path = out.hop.as_ref().map(|hop| hop.path);
        // A payload that looks like metadata must not be taken for it by the next router.
        let shown = path.is_some() && treatment != Treatment::Seal;
        if packet.gso.is_some()
            && (attach != Attach::Nothing || (shown && find_cookie(packet, parsed) != Cookie::None))
        {
            return self.process_segments(now, packet, outlet);
        }
        let mtu = self.way_mtu(now.mono, to.interface, path);
        let fit = self.check_size(now, index, side, packet, parsed, mtu, outlet)?;
        if packet.gso.is_some() && fit == Fit::Parts {
            if opened {
                // It would be opened again. Segments that leave together fit their link.
                return Err(DropReason::TooBig);
            }
            return self.process_segments(now, packet, outlet);
        }
        // Only a piece can say that the packet may be cut again.
        let in_parts = (fit == Fit::Parts || packet.fragmented).then(|| Identity::of(packet));
        let (bytes, count) = (packet.packet.len() as u64, segments(packet, parsed));
        if syn {
            self.clamp_native(index, packet, parsed);
        }
        let Some(session) = self.table.get(index) else { return Err(DropReason::UnknownWaypoint) };
        session.leg(side).rewrite.apply(packet, parsed, &to)?;
        if syn && parsed.protocol != to.protocol.0 {
            self.clamp_restored(index, packet, &to);
        }
        let egress = Egress { interface: to.interface, next_hop };
        let seal = cover == Some(Cover::Sealed);
        // What is sealed, or has a header of its own, is in a datagram by itself.
        let spreads =
            packet.gso.is_some_and(|gso| to.protocol == Protocol::UDP && (seal || gso.kind != GsoKind::Udp));
        if spreads {
            self.spread(course, seal, packet, &to, egress, outlet)?;
        } else if seal {
            // What is signed or cut has to be complete.
            let alone = attach != Attach::Nothing || in_parts.is_some() || egress.interface.is_hairpin();
            self.seal_payload(now, index, packet, &to, waits && !alone)?;
        }
        if spreads || seal || opened {
            leave_checksum(packet, &to);
        }
        let sent = match in_parts {
            Some(identity) => {
                let way = Way { out: side.other(), path, to: &to, egress, mtu };
                self.send_in_parts(now, index, &way, attach, identity, packet, outlet)?
            }
            None => false,
        };
        if let Some(path) = path.filter(|_| !sent) {
            self.tell(course, path, attach, packet, &to, outlet)?;
        }
        self.carried(course, packet, count, bytes);
        Ok(if sent { Verdict::Consumed } else { Verdict::Forward(egress) })
    }

    /// Counts what a leg has carried, and whether that is enough for the kernel to take the session.
    #[inline]
    fn carried(&mut self, course: &Course, packet: &Slot, packets: u64, bytes: u64) {
        let &Course { now, index, side, .. } = course;
        let Some(session) = self.table.get_mut(index) else { return };
        let leg = session.leg_mut(side);
        let before = leg.packets;
        leg.packets += packets;
        leg.bytes += bytes;
        let after = leg.packets;
        if packet.handed == 0 {
            let accepts =
                before == 0 && side == Side::Responder && session.tcp.phase() == TcpPhase::SynReceived;
            if accepts {
                self.consider_accepted(now, index);
            } else {
                self.consider(now, index, before, after);
            }
        }
    }

    /// Opens the payload of a packet where it is sealed, and says what the packet is then.
    fn open_on(
        &mut self,
        course: &Course,
        packet: &mut Slot,
        parsed: &Parsed,
        checked: Option<&Checked>,
        outlet: &mut Outlet<'_>,
    ) -> Result<Option<Parsed>, DropReason> {
        match self.open_payload(course.now, course.index, course.side, packet, parsed, checked) {
            Ok(false) => Ok(None),
            Ok(true) => {
                // Headers are as they were, but for lengths that were written for what there is.
                let length = packet.packet.len() as u32;
                Ok(Some(Parsed { total_len: length, payload_end: length, ..*parsed }))
            }
            Err(reason) => {
                self.mistrust(course, reason, outlet);
                Err(reason)
            }
        }
    }

    /// A payload did not open. Perhaps it is not the packet that is wrong, but what is known of the
    /// sender.
    pub(crate) fn mistrust(&mut self, course: &Course, reason: DropReason, outlet: &mut Outlet<'_>) {
        let &Course { now, index, side, .. } = course;
        let lost = reason != DropReason::PayloadReplayed && self.may_ask_sender(now, index);
        if lost && self.may_answer(now) {
            let header = HeaderTlvs { control: Some(Control::EnableMetadata), ..HeaderTlvs::default() };
            self.send_control(now, index, side, header, outlet);
        }
    }

    /// Whether metadata goes with a packet that came from a side; the session was active.
    #[inline]
    fn attachment(&mut self, now: Now, index: Index, side: Side) -> Attach {
        let Some(session) = self.table.get_mut(index) else { return Attach::Nothing };
        session.active = now.mono;
        if side == Side::Responder && !session.answered {
            self.answered(now, index);
        }
        let Some(session) = self.table.get_mut(index) else { return Attach::Nothing };
        let Some(hop) = &mut session.leg_mut(side.other()).hop else { return Attach::Nothing };
        let begins_again = hop.handshake.break_silence(now.mono, &mut self.retold);
        let attach = hop.handshake.transmit(now.mono);
        let lost = hop.handshake.is_lost();
        if begins_again {
            self.retriggered(now, index, side.other());
        } else if attach == Attach::Metadata && (side == Side::Initiator || lost) {
            self.freshen_keys(now, index, side.other());
        }
        attach
    }

    /// A session is told again by a leg, since nothing was heard there for too long.
    pub(crate) fn retriggered(&mut self, now: Now, index: Index, out: Side) {
        self.counters.increment(Counter::SessionsRetriggered);
        self.raise_epoch(now, index, out);
    }

    /// Lets the TCP state take note of a packet. Says whether it is a SYN.
    #[inline]
    fn witness(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
    ) -> Result<bool, DropReason> {
        let Some(session) = self.table.get_mut(index) else { return Ok(false) };
        if session.protocol != Protocol::TCP {
            return Ok(false);
        }
        let (before, standing) = (session.tcp.phase(), session.standing());
        let protection = self.vault.get(session.protection);
        let seal = protection.map_or(0, |protection| protection.seal_in_transit(side));
        let mut syn = false;
        let mut note = |mut segment: Segment| {
            syn |= segment.flags & flags::SYN != 0;
            segment.length = segment.length.saturating_sub(seal);
            session.tcp.observe(side, &segment).map_err(|_| DropReason::TcpResetOutsideWindow)
        };
        if parsed.protocol == Protocol::TCP.0 {
            note(tcp_segment(packet.packet.bytes(), parsed))?;
        } else if packet.gso.is_some_and(|gso| gso.kind == GsoKind::Udp) {
            datagrams(packet, parsed).try_for_each(|datagram| note(carry::tcp_segment(datagram)?))?;
        } else {
            note(carry::tcp_segment(parsed.payload(packet.packet.bytes()))?)?;
        }
        let after = session.tcp.phase();
        if before != after {
            self.standing_changed(now, index, standing);
            self.phase_changed(now, index, after);
        }
        Ok(syn)
    }

    /// The responder was heard for the first time.
    pub(crate) fn answered(&mut self, now: Now, index: Index) {
        let Some(session) = self.table.get_mut(index) else { return };
        let standing = session.standing();
        session.answered = true;
        self.standing_changed(now, index, standing);
    }

    pub(crate) fn phase_changed(&mut self, now: Now, index: Index, after: TcpPhase) {
        if after.is_over() {
            let Some(session) = self.table.get_mut(index) else { return };
            session.active = now.mono;
            self.wheel.schedule(index, session.deadline());
        }
    }
}

/// Where a packet's payload begins with the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cookie {
    None,
    /// In an ordinary packet.
    First,
    /// At the start of one of the segments of a super-packet.
    Inside,
}

#[inline]
fn find_cookie(packet: &Slot, parsed: &Parsed) -> Cookie {
    let bytes = packet.packet.bytes();
    let payload = parsed.payload(bytes);
    match packet.gso {
        None if svr::starts_with_cookie(payload) => Cookie::First,
        None => Cookie::None,
        Some(gso) => {
            let size = usize::from(gso.size).max(1);
            let inside = payload.chunks(size).any(svr::starts_with_cookie);
            if inside { Cookie::Inside } else { Cookie::None }
        }
    }
}

/// How many packets a packet stands for.
#[inline]
fn segments(packet: &Slot, parsed: &Parsed) -> u64 {
    let Some(gso) = packet.gso else { return 1 };
    let payload = (parsed.payload_end as usize).saturating_sub(headers_end(packet, parsed));
    payload.div_ceil(usize::from(gso.size).max(1)).max(1) as u64
}
