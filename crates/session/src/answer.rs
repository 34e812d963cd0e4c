//! What this router itself says to a host: ICMP errors and TCP resets, at a limited rate.

use core::net::IpAddr;

use fairway_types::model::DeniedResponse;
use fairway_types::{
    Checksum, Counter, DropReason, Egress, InterfaceId, Now, Outlet, Protocol, Slot, Verdict,
};
use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::{IcmpKind, Parsed, Version};
use fairway_wire::tcp;

use crate::control::answering_numbers;
use crate::engine::Engine;
use crate::headers;
use crate::key::FlowKey;
use crate::quote::Quote;
use crate::relay::translated;
use crate::session::Side;
use crate::table::Index;
use crate::tcp::flags;

/// No link of IPv4 or IPv6 may be asked to go below these (RFC 791, RFC 8200).
pub(crate) const fn least_mtu(version: Version) -> usize {
    match version {
        Version::V4 => 68,
        Version::V6 => 1280,
    }
}

impl Engine {
    /// Lets a denied source see what its interface's configuration says it may see.
    pub(crate) fn answer_denied(
        &mut self,
        now: Now,
        packet: &Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) {
        let interface = self.snapshot.model().interface(packet.interface);
        match interface.map_or(DeniedResponse::Silent, |interface| interface.denied) {
            DeniedResponse::Silent => {}
            DeniedResponse::Reset if parsed.protocol == Protocol::TCP.0 => {
                self.answer_reset(now, packet, parsed, outlet);
            }
            DeniedResponse::Reset | DeniedResponse::Prohibited => {
                self.answer_error(now, packet, parsed, ErrorRepr::prohibited(parsed.version), outlet);
            }
        }
    }

    pub(crate) fn answer_ttl_expired(
        &mut self,
        now: Now,
        packet: &Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) {
        self.answer_error(now, packet, parsed, ErrorRepr::time_exceeded(parsed.version), outlet);
    }

    /// The TTL of a packet of a known session ran out here.
    pub(crate) fn send_ttl_expired(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) {
        let error = ErrorRepr::time_exceeded(parsed.version);
        self.answer_session(now, index, side, packet, parsed, error, outlet);
    }

    /// A packet of a known session does not fit the next link; `fits` bytes would.
    #[expect(clippy::too_many_arguments, reason = "the packet, its session, and the limit")]
    pub(crate) fn send_too_big(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
        fits: usize,
        outlet: &mut Outlet<'_>,
    ) {
        let fits = fits.max(least_mtu(parsed.version));
        let error = ErrorRepr::too_big(parsed.version, u16::try_from(fits).unwrap_or(u16::MAX));
        self.answer_session(now, index, side, packet, parsed, error, outlet);
    }

    /// An error about a packet that arrived on a leg: to the host on it, or to the peer on it, who
    /// relays it.
    #[expect(clippy::too_many_arguments, reason = "the packet, its session, and the error")]
    fn answer_session(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
        error: ErrorRepr,
        outlet: &mut Outlet<'_>,
    ) {
        let Some(session) = self.table.get(index).copied() else { return };
        if session.leg(side).hop.is_none() {
            return self.answer_error(now, packet, parsed, error, outlet);
        }
        if !self.may_answer(now) {
            return;
        }
        // In the family of the host that will read it, if this router has an address of it here.
        let Some((own, error)) = [session.original.ipv6, parsed.version == Version::V6]
            .into_iter()
            .find_map(|ipv6| self.own_address(packet.interface, ipv6))
            .and_then(|own| Some((own, translated(error, Version::of(own))?)))
        else {
            return;
        };
        let segment = parsed.segment(packet.packet.bytes());
        let protection = self.vault.get(session.protection);
        let quote = Quote::of_packet(&session, protection, &session.leg(side).key, side, segment);
        self.counters.increment(Counter::IcmpErrorsSent);
        self.relay(now, index, side, own, error, &quote, outlet);
    }

    /// Whether the rate of answers allows one more.
    pub(crate) fn may_answer(&mut self, now: Now) -> bool {
        let may = self.answers.take(now.mono);
        if !may {
            self.counters.increment(Counter::AnswersLimited);
        }
        may
    }

    /// An ICMP error about a packet, to its source (RFC 1812, section 4.3.2; RFC 4443, section 2.4).
    fn answer_error(
        &mut self,
        now: Now,
        packet: &Slot,
        parsed: &Parsed,
        error: ErrorRepr,
        outlet: &mut Outlet<'_>,
    ) {
        let ipv6 = parsed.version == Version::V6;
        let Some(own) = self.own_address(packet.interface, ipv6) else { return };
        if parsed.icmp == Some(IcmpKind::Error) || !self.may_answer(now) {
            return;
        }
        let quoted = packet.packet.bytes();
        let sent = self.emit_error(now, packet.interface, parsed.source, own, &error, quoted, outlet);
        if sent {
            self.counters.increment(Counter::IcmpErrorsSent);
        }
    }

    /// Emits an ICMP error that quotes `quoted` to a host.
    #[expect(clippy::too_many_arguments, reason = "an error, its ends, its subject and its way out")]
    pub(crate) fn emit_error(
        &mut self,
        now: Now,
        interface: InterfaceId,
        host: IpAddr,
        issuer: IpAddr,
        error: &ErrorRepr,
        quoted: &[u8],
        outlet: &mut Outlet<'_>,
    ) -> bool {
        let Some(out) = outlet.emit() else {
            self.drops.record(now.mono, DropReason::OutputFull, interface, None, quoted.len());
            return false;
        };
        out.packet.clear();
        let Some(length) = error.emit_packet(issuer, host, quoted, out.packet.spare_mut()) else {
            outlet.unemit();
            return false;
        };
        out.packet.set_len(length);
        out.interface = interface;
        out.checksum = Checksum::Valid;
        out.verdict = Verdict::Forward(Egress { interface, next_hop: host });
        self.counters.increment(Counter::PacketsEmitted);
        true
    }

    /// A TCP reset that answers a packet (RFC 9293, section 3.5.2).
    pub(crate) fn answer_reset(&mut self, now: Now, packet: &Slot, parsed: &Parsed, outlet: &mut Outlet<'_>) {
        if parsed.tcp_flags & flags::RST != 0 || !self.may_answer(now) {
            return;
        }
        let key = FlowKey::of_packet(packet.interface, parsed);
        let (acknowledgement, end) = answering_numbers(packet.packet.bytes(), parsed);
        let acknowledges = parsed.tcp_flags & flags::ACK != 0;
        let (sequence, acknowledgement, own_flags) =
            if acknowledges { (acknowledgement, 0, flags::RST) } else { (0, end, flags::RST | flags::ACK) };
        let mut header = [0; headers::TCP_LEN];
        let repr = tcp::Repr {
            source_port: parsed.destination_port,
            destination_port: parsed.source_port,
            sequence,
            acknowledgement,
            flags: own_flags,
            window: 0,
        };
        let Some(out) = outlet.emit() else {
            return self.lose(now, packet.interface, &key, DropReason::OutputFull);
        };
        let built = repr.emit(&mut header).is_some()
            && out.packet.fill(&header)
            && headers::push_ip(&mut out.packet, &key, Protocol::TCP, headers::OWN_TTL, 0).is_ok()
            && headers::finish(&mut out.packet, headers::ip_len(key.ipv6), &key).is_ok();
        if !built {
            return outlet.unemit();
        }
        out.interface = packet.interface;
        out.checksum = Checksum::Valid;
        out.verdict = Verdict::Forward(Egress { interface: packet.interface, next_hop: parsed.source });
        self.counters.increment(Counter::TcpResetsSent);
        self.counters.increment(Counter::PacketsEmitted);
    }
}
