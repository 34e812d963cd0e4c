//! Messages between routers about a session: made here, and acted on here.
//!
//! They travel as packets of the session without payload, signed like all metadata, are processed by
//! the next router and never forwarded (TLV 24).

use core::net::IpAddr;

use fairway_types::{Checksum, Counter, DropReason, Egress, Now, Outlet, PathId, Protocol, Slot, Verdict};
use fairway_wire::ip::Parsed;
use fairway_wire::svr::{Control, HeaderTlvs, PayloadTlvs};
use fairway_wire::tcp;

use crate::engine::Engine;
use crate::handshake::Phase;
use crate::headers;
use crate::key::FlowKey;
use crate::peer::Message;
use crate::session::{Session, Side, Uuid};
use crate::table::Index;
use crate::tcp::tcp_segment;
use crate::vault::Protection;

/// The session and leg a packet arrived on, if it is known.
pub(crate) type Known = Option<(Index, Side)>;

/// DSCP CS6, network control (RFC 4594).
const CONTROL_TRAFFIC_CLASS: u8 = 0xc0;

/// The router on one leg of a session, as a message about it is addressed.
#[derive(Clone, Copy)]
pub(crate) struct Neighbour {
    pub(crate) key: FlowKey,
    pub(crate) next_hop: IpAddr,
    pub(crate) path: PathId,
    /// Sequence and acknowledgement numbers, where the session travels as TCP.
    pub(crate) numbers: (u32, u32),
    pub(crate) uuid: Uuid,
}

impl Neighbour {
    /// The one on this leg, if there is one.
    pub(crate) fn of(session: &Session, out: Side) -> Option<Self> {
        let leg = session.leg(out);
        Some(Self {
            key: leg.key,
            next_hop: leg.next_hop,
            path: leg.hop?.path,
            numbers: session.tcp.numbers(out.other()),
            uuid: session.uuid,
        })
    }
}

impl Engine {
    /// Acts on a control message.
    pub(crate) fn control(
        &mut self,
        now: Now,
        known: Known,
        message: &Message<'_>,
        control: Control,
        outlet: &mut Outlet<'_>,
    ) {
        self.counters.increment(Counter::ControlReceived);
        let Some((index, side)) = known else { return };
        let Some(session) = self.table.get_mut(index) else { return };
        if message.tlvs.uuid.is_some_and(|uuid| uuid != session.uuid) {
            return;
        }
        let Some(hop) = &mut session.leg_mut(side).hop else { return };
        if message.header.disable_forward || message.tlvs.disable_forward {
            hop.handshake.disabled();
        }
        match control {
            Control::KeepAlive => self.pass_on(now, index),
            Control::EnableMetadata => self.metadata_wanted(now, index, side, outlet),
            Control::DisableMetadata => hop.handshake.disabled(),
            Control::DeleteSession => {
                self.send_delete(now, index, side.other(), outlet);
                self.remove(now, index, Counter::SessionsDeleted);
            }
            Control::StateExists | Control::Unknown | Control::Other(_) => {}
        }
    }

    /// The router on one leg lost the session, or does not know what opens its payload.
    fn metadata_wanted(&mut self, now: Now, index: Index, side: Side, outlet: &mut Outlet<'_>) {
        let Some(session) = self.table.get(index) else { return };
        let epoch = session.leg(side).hop.map_or(0, |hop| hop.epoch);
        let is_end = self.vault.get(session.protection).is_none_or(Protection::is_end);
        if let Some(protection) = self.vault.get_mut(session.protection) {
            // Whoever lost a session, or refuses its keys, says so again and again.
            if !protection.may_retell(now.mono) {
                return;
            }
            // Only the other end knows what keys are in use, and can begin them anew.
            if !is_end {
                self.told_all(index, side);
                let header = HeaderTlvs { control: Some(Control::EnableMetadata), ..HeaderTlvs::default() };
                return self.send_control(now, index, side.other(), header, outlet);
            }
        }
        if side == Side::Responder {
            self.retell(now, index, epoch);
        } else {
            self.freshen_keys(now, index, side);
            self.told_all(index, side);
        }
    }

    /// Has a router that may have lost the session told all there is of it.
    fn told_all(&mut self, index: Index, side: Side) {
        if side == Side::Initiator
            && let Some(hop) =
                self.table.get_mut(index).and_then(|session| session.leg_mut(side).hop.as_mut())
        {
            // Packets without metadata that are under way prove nothing.
            hop.handshake.tell_change();
            hop.handshake.tell_all();
        }
    }

    /// The session came with a message that is not forwarded: the next router has to hear of it too.
    fn pass_on(&mut self, now: Now, index: Index) {
        let next = self.table.get(index).and_then(|session| session.leg(Side::Responder).hop);
        if next.is_some_and(|hop| hop.handshake.phase() == Phase::Telling) {
            self.announce_soon(now, index);
        }
    }

    /// Tells the router on one leg that the session is gone, if there is one.
    pub(crate) fn send_delete(&mut self, now: Now, index: Index, out: Side, outlet: &mut Outlet<'_>) {
        let header = HeaderTlvs { control: Some(Control::DeleteSession), ..HeaderTlvs::default() };
        self.send_control(now, index, out, header, outlet);
    }

    /// Sends a control message about a session that carries nothing but its identity.
    pub(crate) fn send_control(
        &mut self,
        now: Now,
        index: Index,
        out: Side,
        header: HeaderTlvs,
        outlet: &mut Outlet<'_>,
    ) {
        let to = self.table.get(index).and_then(|session| Neighbour::of(session, out));
        if let Some(to) = to {
            self.send_control_to(now, &to, header, outlet);
        }
    }

    /// The same, whether the session is there or not.
    pub(crate) fn send_control_to(
        &mut self,
        now: Now,
        to: &Neighbour,
        header: HeaderTlvs,
        outlet: &mut Outlet<'_>,
    ) {
        let Some(packet) = self.compose_for(now, to, &[], outlet) else { return };
        let tlvs = PayloadTlvs { uuid: Some(to.uuid), ..PayloadTlvs::default() };
        let sealed = self.seal(now, to.path, packet, &to.key, header, &tlvs);
        self.sent(now, &to.key, sealed, Counter::ControlSent, outlet);
    }

    /// Sends the whole metadata of a session in a packet of its own.
    pub(crate) fn send_keep_alive(&mut self, now: Now, index: Index, out: Side, outlet: &mut Outlet<'_>) {
        let Some(session) = self.table.get(index).copied() else { return };
        let Some(to) = Neighbour::of(&session, out) else { return };
        self.freshen_keys(now, index, out);
        let Some(packet) = self.compose_for(now, &to, &[], outlet) else { return };
        let header = HeaderTlvs { control: Some(Control::KeepAlive), ..HeaderTlvs::default() };
        let sealed = self.seal_session(now, &session, out, packet, header);
        self.sent(now, &to.key, sealed, Counter::ControlSent, outlet);
    }

    /// Answers a signed message about a session nobody knows here: "enable metadata".
    pub(crate) fn ask_for_metadata(
        &mut self,
        now: Now,
        message: &Message<'_>,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) {
        if !self.answers.take(now.mono) {
            self.counters.increment(Counter::AnswersLimited);
            return;
        }
        let key = message.key;
        let remote = parsed.source;
        let Some(packet) = compose(outlet, &key, (0, 0), &[]) else {
            return self.lose(now, key.interface, &key, DropReason::OutputFull);
        };
        packet.verdict = Verdict::Forward(Egress { interface: key.interface, next_hop: remote });
        let header = HeaderTlvs { control: Some(Control::EnableMetadata), ..HeaderTlvs::default() };
        let tlvs = PayloadTlvs { uuid: message.tlvs.uuid, ..PayloadTlvs::default() };
        let sealed = self.seal(now, message.path, packet, &key, header, &tlvs);
        self.sent(now, &key, sealed, Counter::ControlSent, outlet);
    }

    /// A packet of a session with a payload of this router's making, ready to be sealed.
    pub(crate) fn compose_for<'o>(
        &mut self,
        now: Now,
        to: &Neighbour,
        payload: &[u8],
        outlet: &'o mut Outlet<'_>,
    ) -> Option<&'o mut Slot> {
        let Some(packet) = compose(outlet, &to.key, to.numbers, payload) else {
            self.lose(now, to.key.interface, &to.key, DropReason::OutputFull);
            return None;
        };
        packet.verdict = Verdict::Forward(Egress { interface: to.key.interface, next_hop: to.next_hop });
        Some(packet)
    }

    /// Counts a packet of this router's making, or takes it back.
    pub(crate) fn sent(
        &mut self,
        now: Now,
        key: &FlowKey,
        sealed: Result<(), DropReason>,
        counter: Counter,
        outlet: &mut Outlet<'_>,
    ) {
        match sealed {
            Ok(()) => {
                self.counters.increment(counter);
                self.counters.increment(Counter::PacketsEmitted);
            }
            Err(reason) => {
                outlet.unemit();
                self.lose(now, key.interface, key, reason);
            }
        }
    }
}

/// A packet that leaves by the leg of `key`, with transport header and payload, checksummed.
pub(crate) fn compose<'o>(
    outlet: &'o mut Outlet<'_>,
    key: &FlowKey,
    (sequence, acknowledgement): (u32, u32),
    payload: &[u8],
) -> Option<&'o mut Slot> {
    let packet = outlet.emit()?;
    packet.interface = key.interface;
    let length = if key.protocol == Protocol::TCP { headers::TCP_LEN } else { headers::UDP_LEN };
    let mut transport = [0; headers::TCP_LEN];
    if key.protocol == Protocol::TCP {
        tcp::Repr {
            source_port: key.local.port(),
            destination_port: key.remote.port(),
            sequence,
            acknowledgement,
            flags: crate::tcp::flags::ACK | crate::tcp::flags::PSH,
            window: u16::MAX,
        }
        .emit(&mut transport)?;
    } else {
        transport[..2].copy_from_slice(&key.local.port().to_be_bytes());
        transport[2..4].copy_from_slice(&key.remote.port().to_be_bytes());
    }
    // Room was asked for at set-up; a payload is at most a quoted header.
    let buffer = &mut packet.packet;
    if !buffer.fill(payload) || !buffer.grow_front(length) {
        return None;
    }
    buffer.bytes_mut()[..length].copy_from_slice(&transport[..length]);
    headers::push_ip(buffer, key, key.protocol, headers::OWN_TTL, CONTROL_TRAFFIC_CLASS).ok()?;
    headers::finish(buffer, headers::ip_len(key.ipv6), key).ok()?;
    packet.checksum = Checksum::Valid;
    Some(packet)
}

/// The numbers a segment that answers `packet` would bear.
pub(crate) fn answering_numbers(packet: &[u8], parsed: &Parsed) -> (u32, u32) {
    let segment = tcp_segment(packet, parsed);
    let flags = segment.flags;
    let counted =
        u32::from(flags & crate::tcp::flags::SYN != 0) + u32::from(flags & crate::tcp::flags::FIN != 0);
    let end = segment.sequence.wrapping_add(segment.length).wrapping_add(counted);
    (segment.acknowledgement, end)
}
