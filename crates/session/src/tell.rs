//! What the next router is told of a session with a packet: metadata, where the handshake asks for
//! it.

use fairway_crypto::Keyring;
use fairway_policy::Snapshot;
use fairway_types::{Checksum, Counter, Counters, DropReason, Now, Outlet, PathId, Protocol, Slot, Tuple};
use fairway_wire::checksum;
use fairway_wire::svr::{self, Context, HeaderTlvs, ModifyRequest, PayloadTlvs};
use rand_chacha::ChaCha12Rng;

use crate::engine::Engine;
use crate::established::Course;
use crate::handshake::Attach;
use crate::headers::{TCP_FLAGS, payload_offsets};
use crate::key::FlowKey;
use crate::names::Names;
use crate::seal::Seal;
use crate::session::{Session, Side};
use crate::table::Index;
use crate::tcp::flags;
use crate::vault::{Cover, Protection};

impl Engine {
    /// Attaches metadata to a packet that was rewritten for the leg `to`, where it is due. A payload that
    /// looks like metadata is guarded by some in any case.
    #[inline]
    pub(crate) fn tell(
        &mut self,
        course: &Course,
        path: PathId,
        attach: Attach,
        packet: &mut Slot,
        to: &FlowKey,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        let &Course { now, index, side, .. } = course;
        if attach != Attach::Nothing && self.attach_or_send_ahead(course, path, packet, outlet)? {
            return Ok(());
        }
        // Segments of a super-packet were looked at before.
        if packet.gso.is_none() && mimics_metadata(packet, to) {
            self.counters.increment(Counter::FalsePositives);
            self.push_unless_sealed(index, side, packet, to);
            self.seal(now, path, packet, to, HeaderTlvs::default(), &PayloadTlvs::default())?;
        }
        Ok(())
    }

    /// Attaches metadata to a rewritten packet. When that would make it too big, the metadata goes
    /// ahead in a packet of its own. Says whether it was attached.
    fn attach_or_send_ahead(
        &mut self,
        course: &Course,
        path: PathId,
        packet: &mut Slot,
        outlet: &mut Outlet<'_>,
    ) -> Result<bool, DropReason> {
        let &Course { now, index, side, .. } = course;
        let out = side.other();
        let Some(session) = self.table.get(index).copied() else { return Ok(false) };
        let key = session.leg(out).key;
        let mtu = self.way_mtu(now.mono, key.interface, Some(path));
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
        self.push_unless_sealed(index, side, packet, &key);
        self.seal_session(now, &session, out, packet, HeaderTlvs::default()).map(|()| true)
    }

    /// Lets a TCP segment that gets metadata bear PSH, so that nobody who joins segments puts any behind it.
    /// A sealed payload has the flags sealed with it.
    fn push_unless_sealed(&self, index: Index, from: Side, packet: &mut Slot, to: &FlowKey) {
        let protection = self.table.get(index).and_then(|session| self.vault.get(session.protection));
        let sealed = protection.is_some_and(|protection| protection.cover[from.index()] != Cover::Clear);
        if sealed || to.protocol != Protocol::TCP {
            return;
        }
        let (transport, _) = payload_offsets(packet.packet.bytes(), to);
        if let Some(own) = packet.packet.bytes_mut().get_mut(transport + TCP_FLAGS)
            && *own & (flags::SYN | flags::RST) == 0
        {
            *own |= flags::PSH;
        }
    }

    /// The length of the metadata of a session on a hop, tag included; an upper bound.
    fn metadata_len(&self, session: &Session, out: Side, path: PathId) -> usize {
        /// Header, TLVs 16, 26, 28, 0x8004, 0x8005, 0x8007, IV, padding and tag.
        const FIXED: usize = svr::HEADER_LEN + 8 + 14 + 6 + 20 + 12 + 4 + 32 + svr::TAG_LEN;
        let protection = self.vault.get(session.protection);
        payload_tlvs(&self.snapshot, &self.names, protection, session, out, path).encoded_len() + FIXED
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
        let Self { snapshot, names, vault, keyring, rng, counters, .. } = self;
        let protection = vault.get(session.protection);
        let header = HeaderTlvs { modify: protection.and_then(|entry| modify_request(entry, out)), ..header };
        let tlvs = payload_tlvs(snapshot, names, protection, session, out, hop.path);
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
    keyring: &'a Keyring,
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
        let policy = model.security.get(path.security.index());
        // The secret of a session never travels in the clear.
        let encrypt = tlvs.session_key.is_some() || policy.is_none_or(|policy| policy.encrypt_metadata);
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
    protection: Option<&'a Protection>,
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
        session_encrypted: protection.is_some_and(|p| p.cover[out.other().index()] == Cover::Sealed),
        tcp_syn: session.protocol() == Protocol::TCP && session.leg(out).key.protocol == Protocol::UDP,
        sender_salt: protection.and_then(|protection| protection.salt(out.other())),
        ..PayloadTlvs::default()
    };
    match out {
        Side::Initiator => PayloadTlvs {
            reverse: Some(context(&original.reversed())),
            session_key: protection.filter(|_| is_lost(session, out)).map(Protection::key_value),
            ..common
        },
        Side::Responder => PayloadTlvs {
            forward: Some(context(&original)),
            service: model.services.get(session.service.index()).map(|s| s.name.as_str()),
            source_router: Some(names.name(session.source_router)),
            security_policy: model
                .services
                .get(session.service.index())
                .and_then(|service| model.security.get(service.security.index()))
                .map(|policy| policy.name.as_str()),
            session_key: protection.map(Protection::key_value),
            ..common
        },
    }
}

/// Whether the next router on a leg may know nothing of the session any more.
fn is_lost(session: &Session, out: Side) -> bool {
    session.leg(out).hop.is_some_and(|hop| hop.handshake.is_lost())
}

/// Says that a direction decided for itself whether to be sealed; TLV 11 says how.
fn modify_request(protection: &Protection, out: Side) -> Option<ModifyRequest> {
    let decided = protection.adaptive && protection.cover[out.other().index()] != Cover::Undecided;
    decided.then_some(ModifyRequest { forward: out == Side::Responder, done: false, sequence: 1 })
}

/// Whether the payload of a packet that was rewritten for the leg `to` looks like metadata.
#[inline]
pub(crate) fn mimics_metadata(packet: &Slot, to: &FlowKey) -> bool {
    let (_, payload) = payload_offsets(packet.packet.bytes(), to);
    packet.packet.bytes().get(payload..).is_some_and(svr::starts_with_cookie)
}

fn context(tuple: &Tuple) -> Context {
    Context { source: tuple.source, destination: tuple.destination, protocol: tuple.protocol.0 }
}

pub(crate) fn is_intact(packet: &Slot, transport: usize, key: &FlowKey) -> bool {
    packet.packet.bytes().get(transport..).is_some_and(|segment| {
        checksum::transport_checksum_is_valid(
            key.local.ip(key.ipv6),
            key.remote.ip(key.ipv6),
            key.protocol.0,
            segment,
        )
    })
}
