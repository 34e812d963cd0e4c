//! Metadata: a peer says what session a packet belongs to, and this router decides again whether
//! it may be.

use fairway_peering::reason::unreadable;
use fairway_types::{
    Counter, DropReason, Now, Outlet, PathId, PeerId, Protocol, Slot, TenantId, Verdict, WorkerId,
};
use fairway_wire::ip::{self, Parsed};
use fairway_wire::svr::{self, Context, Control, HeaderTlvs, PayloadTlvs};
use rand_core::RngCore;
use zeroize::Zeroize;

use crate::control::Known;
use crate::engine::Engine;
use crate::first::{Admission, Way};
use crate::handshake::Reply;
use crate::key::FlowKey;
use crate::names::Names;
use crate::offload::why;
use crate::open::{self, Opened};
use crate::room::opens;
use crate::session::{Hop, Leg, Side};
use crate::table::Index;
use crate::together::Company;
use crate::vault::{Cover, Offer, Protection};

/// A verified message from a peer, apart from the packet it came in.
pub(crate) struct Message<'a> {
    pub(crate) peer: PeerId,
    pub(crate) path: PathId,
    /// The flow it arrived on.
    pub(crate) key: FlowKey,
    pub(crate) header: HeaderTlvs,
    pub(crate) tlvs: PayloadTlvs<'a>,
    /// The TCP flags of the packet behind the metadata, carried or not; else zero.
    first_flags: u8,
}

impl Engine {
    /// A packet with metadata, on a known flow or not.
    pub(crate) fn metadata(
        &mut self,
        now: Now,
        known: Known,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        if known.is_none() && !packet.genuine && !self.first_packets.take(now.mono) {
            return Err(DropReason::RateLimited);
        }
        // The section outlives the borrow of the engine that opened it.
        let mut section = std::mem::take(&mut self.section);
        let result = open::open(&self.keyring, now, packet, parsed, &mut section)
            .and_then(|opened| self.opened(now, known, packet, parsed, &opened, &section, outlet));
        // It has the session's secret in it.
        section.as_mut_slice().zeroize();
        self.section = section;
        result
    }

    #[expect(clippy::too_many_arguments, reason = "the packet, what was parsed and what was decrypted of it")]
    fn opened(
        &mut self,
        now: Now,
        known: Known,
        packet: &mut Slot,
        parsed: &Parsed,
        opened: &Opened,
        section: &[u8],
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        let key = FlowKey::of_packet(packet.interface, parsed);
        let path = self.path_of(&key, opened.peer)?;
        let tlvs = PayloadTlvs::parse(section).map_err(unreadable)?;
        if let Some(worker) = self.home_of_offer(now, known, packet, &tlvs)? {
            packet.genuine = true;
            return Ok(Verdict::HandOver(worker));
        }
        self.counters.increment(Counter::MetadataReceived);
        self.counters.add(Counter::UnknownTlvs, u64::from(opened.header.unknown + tlvs.unknown));
        let first_flags = first_flags(packet, parsed, opened, &tlvs);
        let message = Message { peer: opened.peer, path, key, header: opened.header, tlvs, first_flags };
        let known = self.introduce(now, known, &message, parsed, outlet)?;
        if let Some(control) = message.header.control {
            self.control(now, known, &message, control, outlet);
            return Ok(Verdict::Consumed);
        }
        let Some((index, side)) = known else {
            self.ask_for_metadata(now, &message, parsed, outlet);
            return Err(DropReason::UnknownWaypoint);
        };
        open::strip(packet, parsed, opened.metadata_len, &key)?;
        if let Some(issuer) = message.header.icmp_location {
            return self.relayed_error(now, index, side, issuer, packet, outlet);
        }
        if let Some(piece) = &message.header.fragment {
            if message.tlvs.forward.is_none() && message.tlvs.reverse.is_none() {
                self.heard_plain(index, side);
            }
            return self.piece(now, (index, side), message.peer, &key, piece, packet, outlet);
        }
        let parsed = ip::parse(packet.packet.bytes()).map_err(|_| DropReason::MalformedTransport)?;
        self.send_on(now, index, side, packet, &parsed, Company::NONE, outlet)
    }

    /// The other worker that is the home of the session that metadata offers or gives back, unless it is
    /// known here.
    fn home_of_offer(
        &mut self,
        now: Now,
        known: Known,
        packet: &Slot,
        tlvs: &PayloadTlvs<'_>,
    ) -> Result<Option<WorkerId>, DropReason> {
        let lost = tlvs.reverse.filter(|_| known.is_none()).map(|context| context_tuple(&context).reversed());
        if let Some(original) = lost {
            return Ok(self.home_elsewhere(packet, &original));
        }
        let Some(context) = tlvs.forward else { return Ok(None) };
        let Some(home) = self.home_elsewhere(packet, &context_tuple(&context)) else { return Ok(None) };
        match known {
            Some((index, _)) if self.table.get(index).is_some_and(|s| Some(s.uuid) == tlvs.uuid) => {
                return Ok(None);
            }
            Some((index, side)) => self.collide(now, index, side)?,
            None => {}
        }
        Ok(Some(home))
    }

    /// The path a message came over; it must belong to the peer that signed it.
    fn path_of(&self, key: &FlowKey, peer: PeerId) -> Result<PathId, DropReason> {
        let tuple = key.tuple();
        let path = self
            .snapshot
            .path_by_waypoints(tuple.destination.ip(), tuple.source.ip())
            .ok_or(DropReason::PeerAddressMismatch)?;
        let model = self.snapshot.model().path(path).ok_or(DropReason::PeerAddressMismatch)?;
        if model.peer == peer && model.interface == key.interface {
            Ok(path)
        } else {
            Err(DropReason::PeerAddressMismatch)
        }
    }

    /// Makes, moves or finds the session a message speaks of, and lets its handshake advance.
    fn introduce(
        &mut self,
        now: Now,
        known: Known,
        message: &Message<'_>,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Known, DropReason> {
        if let Some(context) = message.tlvs.forward {
            let index = self.offered(now, known, message, &context).inspect_err(|reason| {
                if *reason == DropReason::SessionKeysStale {
                    self.ask_for_metadata(now, message, parsed, outlet);
                }
            })?;
            self.learn_protection(now, index, Side::Initiator, message)?;
            self.heard_metadata(now, index, Side::Initiator, message, outlet);
            return Ok(Some((index, Side::Initiator)));
        }
        let Some((index, side)) = known else { return self.resume(now, message) };
        if message.tlvs.reverse.is_none() {
            // Control messages, relayed errors and payload that only looks like metadata.
            return Ok(known);
        }
        let uuid = message.tlvs.uuid.ok_or(DropReason::TlvMissing)?;
        let session = self.table.get_mut(index).ok_or(DropReason::UnknownWaypoint)?;
        if side != Side::Responder || session.uuid != uuid {
            return Err(DropReason::WrongDirection);
        }
        if let (Some(hop), Some(epoch)) = (&mut session.leg_mut(side).hop, message.tlvs.epoch) {
            hop.epoch = hop.epoch.max(epoch);
        }
        self.learn_protection(now, index, side, message)?;
        self.heard_metadata(now, index, side, message, outlet);
        Ok(known)
    }

    /// Takes note of what the metadata of a session says of its payload, and passes on what is new.
    pub(crate) fn learn_protection(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        message: &Message<'_>,
    ) -> Result<(), DropReason> {
        let Some(session) = self.table.get_mut(index) else { return Ok(()) };
        let Some(protection) = self.vault.get_mut(session.protection) else { return Ok(()) };
        let tlvs = &message.tlvs;
        if tlvs.session_key.is_some_and(|value| value != protection.key_value()) {
            return Err(DropReason::TlvValue);
        }
        let cover = match (tlvs.session_encrypted, message.header.modify) {
            (true, _) => Cover::Sealed,
            (false, Some(_)) => Cover::Clear,
            (false, None) => Cover::Undecided,
        };
        let new = protection
            .learn(side, tlvs.sender_salt, cover, now)
            .map_err(|_| DropReason::SessionKeysFailed)?;
        if new
            && !protection.is_end()
            && let Some(hop) = &mut session.leg_mut(side.other()).hop
        {
            hop.handshake.tell_change();
        }
        Ok(())
    }

    /// A packet that tells nothing of its session, although it has metadata.
    fn heard_plain(&mut self, index: Index, side: Side) {
        if let Some(hop) = self.table.get_mut(index).and_then(|session| session.leg_mut(side).hop.as_mut()) {
            hop.handshake.received_plain();
        }
    }

    fn heard_metadata(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        message: &Message<'_>,
        outlet: &mut Outlet<'_>,
    ) {
        // What protects payload has to be known: the sender goes on until it hears so.
        let changed = message.header.modify.is_some() || message.tlvs.sender_salt.is_some();
        let Some(session) = self.table.get_mut(index) else { return };
        let Some(hop) = &mut session.leg_mut(side).hop else { return };
        match hop.handshake.received_metadata(now.mono, changed) {
            Reply::Nothing => {}
            Reply::Acknowledge => {
                let header = HeaderTlvs {
                    disable_forward: true,
                    control: Some(Control::KeepAlive),
                    ..HeaderTlvs::default()
                };
                self.send_control(now, index, side, header, outlet);
            }
            Reply::DisableMetadata => {
                let header = HeaderTlvs { control: Some(Control::DisableMetadata), ..HeaderTlvs::default() };
                self.send_control(now, index, side, header, outlet);
            }
        }
    }

    /// Forward metadata: the session begins here, begins again, or moved.
    fn offered(
        &mut self,
        now: Now,
        known: Known,
        message: &Message<'_>,
        context: &Context,
    ) -> Result<Index, DropReason> {
        let carried = message.tlvs.tcp_syn && context.protocol == Protocol::TCP.0;
        let expected = if carried { Protocol::UDP } else { Protocol(context.protocol).on_waypoints() };
        if expected != message.key.protocol {
            return Err(DropReason::TlvValue);
        }
        let uuid = message.tlvs.uuid.ok_or(DropReason::TlvMissing)?;
        let epoch = message.tlvs.epoch.ok_or(DropReason::TlvMissing)?;
        match known {
            Some((index, side)) if self.table.get(index).is_some_and(|s| s.uuid == uuid) => {
                if side == Side::Responder {
                    return Err(DropReason::WrongDirection);
                }
                self.renew(now, index, epoch);
                return Ok(index);
            }
            Some((index, side)) => self.collide(now, index, side)?,
            None => {}
        }
        if let Some(index) = self.table.find_uuid(&uuid) {
            self.move_leg(now, index, message, context, epoch)?;
            return Ok(index);
        }
        self.accept(now, message, uuid, context, epoch)
    }

    /// The same session on the same flow: a higher epoch says that somebody on the way lost it.
    fn renew(&mut self, now: Now, index: Index, epoch: u32) {
        let Some(session) = self.table.get_mut(index) else { return };
        let Some(hop) = &mut session.leg_mut(Side::Initiator).hop else { return };
        if epoch <= hop.epoch {
            return;
        }
        hop.epoch = epoch;
        hop.handshake.restart();
        if session.leg(Side::Responder).hop.is_some() {
            self.retell(now, index, epoch);
        }
    }

    /// Tells the next router again, with an epoch of at least `epoch`.
    pub(crate) fn retell(&mut self, now: Now, index: Index, epoch: u32) {
        self.recall(index, why::RETOLD);
        self.raise_epoch(now, index, Side::Responder);
        let Some(session) = self.table.get_mut(index) else { return };
        if let Some(hop) = &mut session.leg_mut(Side::Responder).hop {
            hop.epoch = hop.epoch.max(epoch);
            hop.handshake.restart();
        }
        self.counters.increment(Counter::SessionsRetriggered);
        self.announce_soon(now, index);
    }

    /// A new session on a pair of ports that is in use. The old one gives way at once, unless this
    /// router chose the pair itself at the same time: then the lower router name keeps it.
    fn collide(&mut self, now: Now, index: Index, side: Side) -> Result<(), DropReason> {
        if side == Side::Initiator {
            self.remove(now, index, Counter::SessionsReplaced);
            return Ok(());
        }
        let Some(path) = self.table.get(index).and_then(|s| s.leg(side).hop).map(|hop| hop.path) else {
            return Err(DropReason::WrongDirection);
        };
        let model = self.snapshot.model();
        let peer = self.peer_of(path).and_then(|peer| model.peer(peer)).map(|peer| peer.name.as_str());
        if peer.is_none_or(|peer| model.router.as_str() < peer) {
            return Err(DropReason::WrongDirection);
        }
        self.choose_ports_again(now, index)
    }

    /// Moves the fabric leg toward the responder to another pair of ports.
    fn choose_ports_again(&mut self, now: Now, index: Index) -> Result<(), DropReason> {
        let Some(session) = self.table.get(index).copied() else { return Ok(()) };
        let Some(hop) = session.leg(Side::Responder).hop else { return Ok(()) };
        let protected = session.protection.is_some();
        let leg = self.waypoint_leg(now, hop.path, &session.original, protected, hop.epoch, true)?;
        if self.rekey(now, index, Side::Responder, leg.key).is_err() {
            self.release_ports(now, &leg);
            return Err(DropReason::WaypointsExhausted);
        }
        self.release_ports(now, session.leg(Side::Responder));
        if let Some(session) = self.table.get_mut(index) {
            session.compile();
        }
        self.counters.increment(Counter::SessionsMoved);
        self.retell(now, index, hop.epoch);
        Ok(())
    }

    /// A known session on another flow: its path moved, or the router before this one restarted.
    fn move_leg(
        &mut self,
        now: Now,
        index: Index,
        message: &Message<'_>,
        context: &Context,
        epoch: u32,
    ) -> Result<(), DropReason> {
        let tenant = self.claimed_tenant(message)?;
        let Some(session) = self.table.get(index) else { return Err(DropReason::UnknownWaypoint) };
        let Some(hop) = session.leg(Side::Initiator).hop else { return Err(DropReason::RouteLoop) };
        if epoch <= hop.epoch {
            return Err(DropReason::StaleEpoch);
        }
        if session.original.tuple() != context_tuple(context) || session.tenant != tenant {
            return Err(DropReason::TlvValue);
        }
        let towards = session.leg(Side::Responder).hop.and_then(|hop| self.peer_of(hop.path));
        if towards == Some(message.peer) {
            return Err(DropReason::RouteLoop);
        }
        self.rekey(now, index, Side::Initiator, message.key).map_err(|_| DropReason::TupleInUse)?;
        let Some(session) = self.table.get(index) else { return Ok(()) };
        let (owner, standing) =
            (self.owner(session.leg(Side::Initiator), session.tenant), session.standing());
        self.ledger.move_peer(&owner.bringer, message.peer, standing);
        let Some(session) = self.table.get_mut(index) else { return Ok(()) };
        let leg = session.leg_mut(Side::Initiator);
        leg.hop = Some(Hop::new(message.path, Side::Initiator, epoch));
        leg.next_hop = leg.key.tuple().source.ip();
        let leads_on = session.leg(Side::Responder).hop.is_some();
        session.compile();
        self.counters.increment(Counter::SessionsMoved);
        if leads_on {
            self.retell(now, index, epoch);
        }
        Ok(())
    }

    /// A session this router did not know: what the peer says is authorised as if a host had come.
    fn accept(
        &mut self,
        now: Now,
        message: &Message<'_>,
        uuid: [u8; 16],
        context: &Context,
        epoch: u32,
    ) -> Result<Index, DropReason> {
        let original = context_tuple(context);
        if !open::is_routable(original.source.ip(), original.destination.ip()) {
            return Err(DropReason::MartianAddress);
        }
        let tenant = self.claimed_tenant(message)?;
        let admission = self.decide(tenant, &original, Some(message.peer))?;
        let original = FlowKey::new(message.key.interface, &original);
        let arrival = Leg::new(
            message.key,
            message.key.tuple().source.ip(),
            Some(Hop::new(message.path, Side::Initiator, epoch)),
        );
        let source = message.tlvs.source_router.map_or(Names::OWN, |name| self.names.number(name));
        let flags = message.first_flags;
        let owner = self.owner(&arrival, tenant);
        let preferred = self.make_room(now, &owner, opens(original.protocol, flags))?;
        let protection = self.offered_protection(now, message, &admission)?;
        self.connect(now, uuid, &original, arrival, &admission, epoch, source, flags, protection, preferred)
    }

    /// The protection of a session that a peer brings, at its egress or on its way.
    fn offered_protection(
        &mut self,
        now: Now,
        message: &Message<'_>,
        admission: &Admission,
    ) -> Result<Option<Protection>, DropReason> {
        let tlvs = &message.tlvs;
        let Some(value) = tlvs.session_key else { return Ok(None) };
        let salt = tlvs.sender_salt.ok_or(DropReason::TlvMissing)?;
        let adaptive = !tlvs.session_encrypted || message.header.modify.is_some();
        let offer = Offer::parse(value, salt, adaptive).ok_or(DropReason::TlvValue)?;
        match admission.way {
            Way::Path(_) => Ok(Some(Protection::transit(offer))),
            Way::Host(..) if !self.is_fresh(offer.salt(), now) => Err(DropReason::SessionKeysStale),
            Way::Host(..) => {
                let mut random = [0; 16];
                self.rng.fill_bytes(&mut random);
                let egress = Protection::egress(offer, random, self.shard.worker().0, now);
                egress.map(Some).map_err(|_| DropReason::SessionKeysFailed)
            }
        }
    }

    /// The tenant a peer claims for a session, if it may.
    fn claimed_tenant(&self, message: &Message<'_>) -> Result<Option<TenantId>, DropReason> {
        let Some(name) = message.tlvs.tenant else { return Ok(None) };
        let tenant = self.snapshot.tenant_named(name).ok_or(DropReason::UnknownTenant)?;
        if self.snapshot.peer_may_claim(message.peer, tenant) {
            Ok(Some(tenant))
        } else {
            Err(DropReason::TenantNotAllowed)
        }
    }
}

/// The TCP flags of a segment behind its metadata.
fn first_flags(packet: &Slot, parsed: &Parsed, opened: &Opened, tlvs: &PayloadTlvs<'_>) -> u8 {
    if !tlvs.tcp_syn || parsed.protocol != Protocol::UDP.0 {
        return parsed.tcp_flags;
    }
    let payload = parsed.payload(packet.packet.bytes());
    let rest = payload.len().saturating_sub(opened.metadata_len + svr::TAG_LEN);
    let at = opened.metadata_len + svr::CARRIED_FLAGS;
    if rest > svr::CARRIED_FLAGS { payload.get(at).copied().unwrap_or(0) } else { 0 }
}

pub(crate) fn context_tuple(context: &Context) -> fairway_types::Tuple {
    fairway_types::Tuple {
        source: context.source,
        destination: context.destination,
        protocol: fairway_types::Protocol(context.protocol),
    }
}
