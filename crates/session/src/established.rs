//! A packet of a known session: witness TCP, decide about metadata, rewrite, send.

use fairway_crypto::Keyring;
use fairway_policy::Snapshot;
use fairway_types::{
    Checksum, Counter, Counters, DropReason, Egress, Now, Outlet, PathId, Protocol, Slot, Tuple, Verdict,
};
use fairway_wire::checksum;
use fairway_wire::ip::Parsed;
use fairway_wire::svr::{self, Context, HeaderTlvs, PayloadTlvs};
use rand_chacha::ChaCha12Rng;

use crate::engine::Engine;
use crate::handshake::Attach;
use crate::headers::payload_offsets;
use crate::key::FlowKey;
use crate::names::Names;
use crate::seal::Seal;
use crate::session::{Session, Side, overhead, raise_epoch};
use crate::table::Index;
use crate::tcp::{TcpPhase, tcp_segment};

impl Engine {
    /// A packet whose flow is known arrived on the leg of `side`.
    #[inline]
    pub(crate) fn established(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &mut Slot,
        parsed: &Parsed,
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
        self.send_on(now, index, side, packet, parsed, outlet)
    }

    /// Sends a packet that arrived on the leg of `side`, without metadata or with its metadata
    /// stripped, by the other leg.
    pub(crate) fn send_on(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        if parsed.ttl <= 1 {
            self.send_ttl_expired(now, index, side, packet, parsed, outlet);
            return Err(DropReason::TtlExpired);
        }
        self.witness(now, index, side, packet, parsed)?;
        let Some(session) = self.table.get_mut(index) else { return Err(DropReason::UnknownWaypoint) };
        session.active = now.mono;
        if side == Side::Responder && !session.answered {
            self.answered(now, index);
        }
        let Some(session) = self.table.get_mut(index) else { return Err(DropReason::UnknownWaypoint) };
        let attach = match &mut session.leg_mut(side.other()).hop {
            Some(hop) => hop.handshake.transmit(now.mono),
            None => Attach::Nothing,
        };
        if attach == Attach::MetadataAfterSilence {
            self.counters.increment(Counter::SessionsRetriggered);
            raise_epoch(session, side.other(), now);
        }
        let (leg, out) = (session.leg(side), session.leg(side.other()));
        let (rewrite, to, next_hop) = (leg.rewrite, out.key, out.next_hop);
        let path = out.hop.as_ref().map(|hop| hop.path);
        // A payload that looks like metadata must not be taken for it by the next router.
        let mimics = path.is_some() && find_cookie(packet, parsed) != Cookie::None;
        if packet.gso.is_some() && (attach != Attach::Nothing || mimics) {
            return self.process_segments(now, packet, outlet);
        }
        self.check_size(now, index, side, packet, parsed, outlet)?;
        let bytes = packet.packet.len() as u64;
        rewrite.apply(packet, parsed, &to)?;
        if let Some(path) = path {
            let attached = attach != Attach::Nothing
                && self.attach_or_send_ahead(now, index, side.other(), path, packet, outlet)?;
            if mimics && !attached {
                self.counters.increment(Counter::FalsePositives);
                self.seal(now, path, packet, &to, HeaderTlvs::default(), &PayloadTlvs::default())?;
            }
        }
        if let Some(session) = self.table.get_mut(index) {
            let leg = session.leg_mut(side);
            leg.packets += packet.gso.map_or(1, |gso| segments(parsed, gso.size));
            leg.bytes += bytes;
        }
        Ok(Verdict::Forward(Egress { interface: to.interface, next_hop }))
    }

    /// Lets the TCP state take note of a packet.
    #[inline]
    fn witness(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
    ) -> Result<(), DropReason> {
        if parsed.protocol != Protocol::TCP.0 {
            return Ok(());
        }
        let Some(session) = self.table.get_mut(index) else { return Ok(()) };
        let (before, standing) = (session.tcp.phase(), session.standing());
        let segment = tcp_segment(packet.packet.bytes(), parsed);
        session.tcp.observe(side, &segment).map_err(|_| DropReason::TcpResetOutsideWindow)?;
        let after = session.tcp.phase();
        if before != after {
            self.standing_changed(now, index, standing);
            self.phase_changed(now, index, after);
        }
        Ok(())
    }

    /// The responder was heard for the first time.
    fn answered(&mut self, now: Now, index: Index) {
        let Some(session) = self.table.get_mut(index) else { return };
        let standing = session.standing();
        session.answered = true;
        self.standing_changed(now, index, standing);
    }

    fn phase_changed(&mut self, now: Now, index: Index, after: TcpPhase) {
        if after.is_over() {
            let Some(session) = self.table.get_mut(index) else { return };
            session.active = now.mono;
            self.wheel.schedule(index, session.deadline());
        }
    }

    /// Refuses what does not fit the link it leaves by, and tells the sender.
    fn check_size(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        packet: &Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        let Some(session) = self.table.get(index) else { return Ok(()) };
        let (from, to) = (&session.leg(side).key, &session.leg(side.other()).key);
        let mtu = self.mtu(to.interface);
        let arrived = match packet.gso {
            Some(gso) => usize::from(parsed.payload_offset) + usize::from(gso.size),
            None => packet.packet.len(),
        };
        if (arrived + overhead(to, session)).saturating_sub(overhead(from, session)) <= mtu {
            return Ok(());
        }
        let fits = (mtu + overhead(from, session)).saturating_sub(overhead(to, session));
        self.send_too_big(now, index, side, packet, parsed, fits, outlet);
        Err(DropReason::TooBig)
    }

    /// Attaches metadata to a rewritten packet. When that would make it too big, the metadata goes
    /// ahead in a packet of its own. Says whether it was attached.
    fn attach_or_send_ahead(
        &mut self,
        now: Now,
        index: Index,
        out: Side,
        path: PathId,
        packet: &mut Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<bool, DropReason> {
        let Some(session) = self.table.get(index).copied() else { return Ok(false) };
        let key = session.leg(out).key;
        let mtu = self.mtu(key.interface);
        let (transport, _) = payload_offsets(packet.packet.bytes(), &key);
        let room = mtu.saturating_sub(packet.packet.len());
        if room < self.metadata_len(&session, out, path) {
            self.counters.increment(Counter::MetadataSentAhead);
            self.send_keep_alive(now, index, out, outlet);
            return Ok(false);
        }
        // What is behind the metadata is checked with it; an error must not be signed.
        if packet.checksum == Checksum::Unverified && !is_intact(packet, transport, &key) {
            return Err(DropReason::BadChecksum);
        }
        self.seal_session(now, &session, out, packet, HeaderTlvs::default()).map(|()| true)
    }

    /// The length of the metadata of a session on a hop, tag included; an upper bound.
    fn metadata_len(&self, session: &Session, out: Side, path: PathId) -> usize {
        /// Header, TLVs 16, 26, 0x8004, 0x8005, 0x8007, IV, padding and tag.
        const FIXED: usize = svr::HEADER_LEN + 8 + 14 + 20 + 12 + 4 + 32 + svr::TAG_LEN;
        payload_tlvs(&self.snapshot, &self.names, session, out, path).encoded_len() + FIXED
    }

    /// Attaches the metadata of a session to a packet that is about to leave by `out`.
    pub(crate) fn seal_session(
        &mut self,
        now: Now,
        session: &Session,
        out: Side,
        packet: &mut Slot,
        header: HeaderTlvs,
    ) -> Result<(), DropReason> {
        let leg = session.leg(out);
        let Some(hop) = &leg.hop else { return Ok(()) };
        let Self { snapshot, names, keyring, rng, counters, .. } = self;
        let tlvs = payload_tlvs(snapshot, names, session, out, hop.path);
        let seal = Sealing { snapshot, keyring, rng, counters };
        seal.seal(now, hop.path, packet, &leg.key, header, &tlvs)
    }

    /// Attaches metadata, signed with the key of the peer that `path` leads to.
    pub(crate) fn seal(
        &mut self,
        now: Now,
        path: PathId,
        packet: &mut Slot,
        to: &FlowKey,
        header: HeaderTlvs,
        tlvs: &PayloadTlvs<'_>,
    ) -> Result<(), DropReason> {
        let Self { snapshot, keyring, rng, counters, .. } = self;
        Sealing { snapshot, keyring, rng, counters }.seal(now, path, packet, to, header, tlvs)
    }
}

/// The parts of an engine that sealing needs, apart from those its TLVs borrow from.
struct Sealing<'a> {
    snapshot: &'a Snapshot,
    keyring: &'a mut Keyring,
    rng: &'a mut ChaCha12Rng,
    counters: &'a mut Counters,
}

impl Sealing<'_> {
    fn seal(
        self,
        now: Now,
        path: PathId,
        packet: &mut Slot,
        to: &FlowKey,
        header: HeaderTlvs,
        tlvs: &PayloadTlvs<'_>,
    ) -> Result<(), DropReason> {
        let model = self.snapshot.model();
        let Some(path) = model.path(path) else { return Err(DropReason::NoRoute) };
        let encrypt = model.security.get(path.security.index()).is_none_or(|policy| policy.encrypt_metadata);
        let Some(sender) = self.keyring.sender(path.peer) else { return Err(DropReason::UnknownSecurityId) };
        let offsets = payload_offsets(packet.packet.bytes(), to);
        Seal { sender, encrypt, rng: self.rng, now }.attach(packet, offsets, to, header, tlvs)?;
        self.counters.increment(Counter::MetadataSent);
        Ok(())
    }
}

/// The metadata of a session that goes toward `out`: forward toward the responder, reverse toward
/// the initiator.
fn payload_tlvs<'a>(
    snapshot: &'a Snapshot,
    names: &'a Names,
    session: &Session,
    out: Side,
    path: PathId,
) -> PayloadTlvs<'a> {
    let model = snapshot.model();
    let original = session.original.tuple();
    let path = model.path(path);
    let tenant = session.tenant.and_then(|id| model.tenants.get(id.index()));
    let common = PayloadTlvs {
        uuid: Some(session.uuid),
        tenant: tenant.map(|tenant| tenant.name.as_str()),
        pathway: path.map(|path| path.pathway.as_bytes()),
        epoch: session.leg(out).hop.map(|hop| hop.epoch),
        ..PayloadTlvs::default()
    };
    match out {
        Side::Initiator => PayloadTlvs { reverse: Some(context(&original.reversed())), ..common },
        Side::Responder => PayloadTlvs {
            forward: Some(context(&original)),
            service: model.services.get(session.service.index()).map(|s| s.name.as_str()),
            source_router: Some(names.name(session.source_router)),
            security_policy: path
                .and_then(|path| model.security.get(path.security.index()))
                .map(|policy| policy.name.as_str()),
            ..common
        },
    }
}

fn context(tuple: &Tuple) -> Context {
    Context { source: tuple.source, destination: tuple.destination, protocol: tuple.protocol.0 }
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

/// How many packets a super-packet stands for.
fn segments(parsed: &Parsed, size: u16) -> u64 {
    let payload = parsed.payload_end.saturating_sub(u32::from(parsed.payload_offset));
    u64::from(payload.div_ceil(u32::from(size.max(1))).max(1))
}

fn is_intact(packet: &Slot, transport: usize, key: &FlowKey) -> bool {
    packet.packet.bytes().get(transport..).is_some_and(|segment| {
        checksum::transport_checksum_is_valid(
            key.local.ip(key.ipv6),
            key.remote.ip(key.ipv6),
            key.protocol.0,
            segment,
        )
    })
}
