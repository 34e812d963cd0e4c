//! ICMP errors about packets of a session: from whoever issued them to the host that sent the packet.
//!
//! Between routers an error travels as a packet of its session with the issuer in TLV 20 or 21. The
//! quoted IP header does not cross the wire; each end rebuilds it from the session, so that original
//! addresses stay inside metadata.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairway_types::{Counter, DropReason, InterfaceId, Now, Outlet, Protocol, Slot, Verdict};
use fairway_wire::icmp::{self, ErrorRepr};
use fairway_wire::ip::{self, Parsed, Quoted, Version};
use fairway_wire::svr::{self, HeaderTlvs, PayloadTlvs, RelayedError};

use crate::control::Neighbour;
use crate::engine::Engine;
use crate::headers;
use crate::key::{End, FlowKey};
use crate::nat::is_translated;
use crate::quote::{QUOTED, Quote};
use crate::session::{Leg, Session, Side, overhead};
use crate::table::Index;

/// The flow on which answers to a quoted packet arrive.
fn opposite(quoted: &Quoted, interface: InterfaceId) -> FlowKey {
    FlowKey {
        remote: End::new(quoted.destination, quoted.destination_port),
        local: End::new(quoted.source, quoted.source_port),
        interface,
        protocol: Protocol(quoted.protocol),
        ipv6: quoted.version == Version::V6,
    }
}

/// The host that an error about a session comes from if its other host did not make it, seen from the leg
/// that it leaves by.
fn far_host(session: &Session, out: Side) -> IpAddr {
    let original = &session.original;
    let end = if out == Side::Initiator { original.local } else { original.remote };
    end.ip(original.ipv6)
}

/// The issuer as it crosses the fabric, where everybody can read it: original addresses stay inside
/// metadata, so the session's own host is the unspecified address.
fn veiled(issuer: IpAddr, session: &Session, out: Side) -> IpAddr {
    if issuer != far_host(session, out) {
        return issuer;
    }
    if issuer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// The issuer as the host on a leg is to see it.
fn unveiled(issuer: IpAddr, session: &Session, out: Side) -> IpAddr {
    if issuer.is_unspecified() { far_host(session, out) } else { issuer }
}

impl Engine {
    /// An ICMP error from the network of one leg, about a packet that left by this leg.
    pub(crate) fn icmp_error(
        &mut self,
        now: Now,
        packet: &Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let message = parsed.segment(packet.packet.bytes());
        let view =
            icmp::Packet::new_checked(parsed.version, message).map_err(|_| DropReason::MalformedTransport)?;
        let error = ErrorRepr::parse(&view).ok_or(DropReason::IcmpErrorUnmatched)?;
        let quoted = ip::parse_quoted(view.payload()).map_err(|_| DropReason::IcmpErrorUnmatched)?;
        let key = opposite(&quoted, packet.interface);
        let Some((index, side)) = self.table.find(&key) else {
            let owner = self.owner_elsewhere(packet, &key);
            return owner.map(Verdict::HandOver).ok_or(DropReason::IcmpErrorUnmatched);
        };
        let session = self.table.get(index).ok_or(DropReason::IcmpErrorUnmatched)?;
        let segment = view.payload().get(usize::from(quoted.header_len)..).unwrap_or_default();
        let protection = self.vault.get(session.protection);
        let quote = Quote::of_packet(session, protection, &session.leg(side).key, side.other(), segment);
        let lower = self.heard_too_big(now, index, side, &error);
        let Some(session) = self.table.get(index) else { return Err(DropReason::IcmpErrorUnmatched) };
        let error = lower.unwrap_or_else(|| self.resized(error, session, side));
        // About a piece, or metadata that went with a packet, there is nothing to tell its sender: if the
        // next packet is too long by itself, it will be told so.
        if lower.is_some() && bears_metadata(segment, quoted.protocol) {
            return Ok(Verdict::Consumed);
        }
        if !self.may_answer(now) {
            return Err(DropReason::RateLimited);
        }
        self.counters.increment(Counter::IcmpErrorsRelayed);
        self.relay(now, index, side.other(), parsed.source, error, &quote, outlet);
        Ok(Verdict::Consumed)
    }

    /// An error that the router on one leg relays. `packet` is stripped of its metadata.
    pub(crate) fn relayed_error(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        issuer: IpAddr,
        packet: &Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let bytes = packet.packet.bytes();
        let parsed = ip::parse(bytes).map_err(|_| DropReason::MalformedTransport)?;
        let relayed = RelayedError::parse(Version::of(issuer), parsed.payload(bytes))
            .map_err(|_| DropReason::MalformedTransport)?;
        let Some(session) = self.table.get(index) else { return Err(DropReason::IcmpErrorUnmatched) };
        let error = self.resized(relayed.error, session, side);
        let protection = self.vault.get(session.protection);
        let quote = Quote::of_relayed(session, protection, side.other(), relayed.transport);
        self.counters.increment(Counter::IcmpErrorsRelayed);
        self.relay(now, index, side.other(), issuer, error, &quote, outlet);
        Ok(Verdict::Consumed)
    }

    /// Sends an error by a leg: to the host on it, or to the next router.
    #[expect(clippy::too_many_arguments, reason = "an error, its issuer, its subject and its way")]
    pub(crate) fn relay(
        &mut self,
        now: Now,
        index: Index,
        out: Side,
        issuer: IpAddr,
        error: ErrorRepr,
        quote: &Quote,
        outlet: &mut Outlet<'_>,
    ) {
        let Some(session) = self.table.get(index).copied() else { return };
        let Some(to) = Neighbour::of(&session, out) else {
            return self.deliver_error(now, &session, out, issuer, error, quote.bytes(), outlet);
        };
        let mut payload = [0; icmp::HEADER_LEN + QUOTED];
        let relayed = RelayedError { error, transport: quote.bytes() };
        let Some(length) = relayed.emit(quote.protocol(&session), &mut payload) else { return };
        let Some(packet) = self.compose_for(now, &to, &payload[..length], outlet) else { return };
        let header =
            HeaderTlvs { icmp_location: Some(veiled(issuer, &session, out)), ..HeaderTlvs::default() };
        let tlvs = PayloadTlvs { uuid: Some(to.uuid), ..PayloadTlvs::default() };
        let sealed = self.seal(now, to.path, packet, &to.key, header, &tlvs);
        self.sent(now, &to.key, sealed, Counter::MetadataSent, outlet);
    }

    /// Gives an error to the host that sent the packet it is about.
    #[expect(clippy::too_many_arguments, reason = "an error, its issuer, its subject and its way")]
    fn deliver_error(
        &mut self,
        now: Now,
        session: &Session,
        out: Side,
        issuer: IpAddr,
        error: ErrorRepr,
        transport: &[u8],
        outlet: &mut Outlet<'_>,
    ) {
        let key = session.leg(out).key;
        let issuer = unveiled(issuer, session, out);
        let version = if key.ipv6 { Version::V6 } else { Version::V4 };
        let Some(error) = translated(error, version) else { return };
        // An issuer of the other family has no address the host could read; this router stands in. Nor
        // does the world hear of addresses behind source NAT.
        let issuer = if out == Side::Responder && is_translated(session) {
            key.local.ip(key.ipv6)
        } else if issuer.is_ipv6() == key.ipv6 {
            issuer
        } else if let Some(own) = self.own_address(key.interface, key.ipv6) {
            own
        } else {
            return;
        };
        let mut quoted = [0; headers::v6::LEN + QUOTED];
        let length = rebuild(&key, transport, &mut quoted);
        let host = key.remote.ip(key.ipv6);
        self.emit_error(now, key.interface, host, issuer, &error, &quoted[..length], outlet);
    }

    /// A "too big" from one leg's network, in terms of the other leg's packets.
    fn resized(&self, error: ErrorRepr, session: &Session, from: Side) -> ErrorRepr {
        if !is_too_big(&error) {
            return error;
        }
        let mtu = mtu_of(&error);
        let (near, far) = (session.leg(from), session.leg(from.other()));
        let protection = self.vault.get(session.protection);
        let growth = protection.map_or(0, |protection| protection.growth(from.other()));
        let grows =
            |leg: &Leg, other: &Leg| if leg.hop.is_some() && other.hop.is_none() { growth } else { 0 };
        let inner = overhead(&near.key, session) + grows(near, far);
        let outer = overhead(&far.key, session) + grows(far, near);
        let mtu = (mtu + outer).saturating_sub(inner);
        ErrorRepr::too_big(error.version, u16::try_from(mtu).unwrap_or(u16::MAX))
    }
}

/// Whether an error says that a packet did not fit a link.
pub(crate) fn is_too_big(error: &ErrorRepr) -> bool {
    match error.version {
        Version::V4 => (error.message_type, error.code) == (3, 4),
        Version::V6 => error.message_type == 2,
    }
}

/// The MTU that such an error tells, in bytes.
pub(crate) fn mtu_of(error: &ErrorRepr) -> usize {
    usize::from(u16::from_be_bytes([error.rest[2], error.rest[3]]))
}

/// Whether what is quoted of a packet shows metadata behind the transport header.
fn bears_metadata(segment: &[u8], protocol: u8) -> bool {
    let header = match Protocol(protocol) {
        Protocol::TCP => usize::from(segment.get(12).copied().unwrap_or(0) >> 4) * 4,
        _ => headers::UDP_LEN,
    };
    segment.get(header..).is_some_and(svr::starts_with_cookie)
}

/// The start of the packet as the host sent it: it arrived on `key`.
fn rebuild(key: &FlowKey, transport: &[u8], buffer: &mut [u8]) -> usize {
    let header = headers::ip_len(key.ipv6);
    let mut packet = fairway_types::PacketBuf::with_capacity(QUOTED);
    // Neither can fail: the buffer was made for it.
    let _ = packet.fill(transport);
    let _ = headers::push_ip(&mut packet, &key.reversed(), key.protocol, 1, 0);
    let bytes = packet.bytes_mut();
    let put = |bytes: &mut [u8], at: usize, value: u16| {
        if let Some(field) = bytes.get_mut(header + at..header + at + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    };
    if key.protocol.has_ports() {
        put(bytes, 0, key.remote.port());
        put(bytes, 2, key.local.port());
    } else if key.protocol.is_icmp() {
        put(bytes, 4, key.remote.port());
    }
    let length = bytes.len().min(buffer.len());
    buffer[..length].copy_from_slice(&bytes[..length]);
    length
}

/// An error in the terms of the other family (RFC 7915, sections 4.2 and 5.2, for what sessions
/// meet); `None` where there is no counterpart.
pub(crate) fn translated(error: ErrorRepr, to: Version) -> Option<ErrorRepr> {
    let mtu = u16::from_be_bytes([error.rest[2], error.rest[3]]);
    Some(match (error.version, to, error.message_type, error.code) {
        (from, to, _, _) if from == to => error,
        (Version::V4, Version::V6, 3, 4) => ErrorRepr::too_big(to, mtu.max(1280)),
        (Version::V4, Version::V6, 3, 3) => ErrorRepr::port_unreachable(to),
        (Version::V4, Version::V6, 3, 9 | 10 | 13) => ErrorRepr::prohibited(to),
        (Version::V4, Version::V6, 3, _) => ErrorRepr::no_route(to),
        (Version::V4, Version::V6, 11, _) => ErrorRepr::time_exceeded(to),
        (Version::V6, Version::V4, 1, 4) => ErrorRepr::port_unreachable(to),
        (Version::V6, Version::V4, 1, 1) => ErrorRepr::prohibited(to),
        (Version::V6, Version::V4, 1, _) => ErrorRepr::no_route(to),
        (Version::V6, Version::V4, 2, _) => ErrorRepr::too_big(to, mtu),
        (Version::V6, Version::V4, 3, _) => ErrorRepr::time_exceeded(to),
        _ => return None,
    })
}
