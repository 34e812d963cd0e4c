//! A session that began here, given back by a peer after this router lost it.
//!
//! A router that starts knows no sessions. Routers behind it make theirs anew from the metadata of the
//! router before; where a session entered the fabric there is no router before, and the host may have
//! nothing to say, as when it only waits for the rest of a file. So the next router, which knows the
//! session, tells what it is in reverse metadata, with its secret. Nothing that was in use is used
//! again: both ends take new salts, and what the other end sealed before this router started is not
//! opened.
//!
//! This router's own configuration decides about the session as if the host had just begun it, and
//! the peer must be one it would be sent to. What no configuration can say is that the host did begin
//! it; a peer is believed that for a minute after the start only.

use fairway_policy::{CandidateHop, Decision};
use fairway_types::model::InterfaceKind;
use fairway_types::{Counter, DropReason, Now, Protocol, Tuple};
use rand_core::RngCore;

use crate::control::Known;
use crate::engine::Engine;
use crate::first::{Admission, Way};
use crate::key::FlowKey;
use crate::names::Names;
use crate::open::is_routable;
use crate::peer::{Message, context_tuple};
use crate::ports::Pair;
use crate::session::{Hop, Leg, Side, epoch_of};
use crate::vault::{Offer, Protection};

/// How long after its start a router lets peers give sessions back, in seconds: time for paths to come
/// up, and for several attempts.
const BELIEVED: u64 = 60;

impl Engine {
    /// Makes the session of reverse metadata anew, if it began here and was lost. `None` where that
    /// cannot be.
    pub(crate) fn resume(&mut self, now: Now, message: &Message<'_>) -> Result<Known, DropReason> {
        let Some(context) = message.tlvs.reverse else { return Ok(None) };
        if now.unix.saturating_sub(self.started_unix) > BELIEVED {
            return Ok(None);
        }
        let original = context_tuple(&context).reversed();
        let Some(key) = self.arrival_of(&original) else { return Ok(None) };
        let uuid = message.tlvs.uuid.ok_or(DropReason::TlvMissing)?;
        let epoch = message.tlvs.epoch.ok_or(DropReason::TlvMissing)?;
        if self.table.find_uuid(&uuid).is_some() || self.table.find(&key).is_some() {
            return Err(DropReason::TupleInUse);
        }
        let admission = self.readmit(&key, &original, message)?;
        let arrival = Leg::new(key, original.source.ip(), None);
        let owner = self.owner(&arrival, admission.tenant);
        self.make_room(now, &owner, false)?;
        let protection = self.given_protection(now, message, &admission)?;
        let epoch = epoch.saturating_add(1).max(epoch_of(now));
        let departure = Leg::new(
            message.key,
            message.key.tuple().source.ip(),
            Some(Hop::new(message.path, Side::Responder, epoch)),
        );
        self.take_ports(message)?;
        let legs = [arrival, departure];
        let index = self.join_legs(now, uuid, &key, legs, &admission, Names::OWN, 0, protection)?;
        self.learn_protection(now, index, Side::Responder, message)?;
        self.counters.increment(Counter::SessionsResumed);
        // The next router has to hear of new keys even if the host has nothing to say.
        self.announce_soon(now, index);
        Ok(Some((index, Side::Responder)))
    }

    /// The flow that a host's packets would arrive on, if it is one of this router's own hosts.
    fn arrival_of(&self, original: &Tuple) -> Option<FlowKey> {
        let (source, destination) = (original.source.ip(), original.destination.ip());
        let interface = self.snapshot.interface_with_prefix(source)?;
        let is_edge = self.snapshot.model().interface(interface)?.kind != InterfaceKind::Fabric;
        (is_edge && is_routable(source, destination)).then(|| FlowKey::new(interface, original))
    }

    /// What the configuration says of the session: it must be of the tenant that the peer names, and
    /// allowed, and its service must have a route to this peer.
    fn readmit(
        &self,
        key: &FlowKey,
        original: &Tuple,
        message: &Message<'_>,
    ) -> Result<Admission, DropReason> {
        let (source, destination) = (original.source.ip(), original.destination.ip());
        let tenant = self.snapshot.tenant_of(key.interface, source);
        let named = message.tlvs.tenant.map(|name| self.snapshot.tenant_named(name));
        if named.flatten() != tenant || named == Some(None) {
            return Err(DropReason::TenantNotAllowed);
        }
        let carried = original.protocol == Protocol::TCP && message.key.protocol == Protocol::UDP;
        if !carried && message.key.protocol != original.protocol.on_waypoints() {
            return Err(DropReason::TlvValue);
        }
        let port = if original.protocol.has_ports() { original.destination.port() } else { 0 };
        match self.snapshot.decide(tenant, source, destination, original.protocol, port) {
            Decision::Deny { reason, .. } => Err(reason),
            Decision::Permit { service, .. } => {
                let leads_there = |hop: CandidateHop| match hop {
                    CandidateHop::Path(path) => self.peer_of(path) == Some(message.peer),
                    CandidateHop::NextHop { .. } | CandidateHop::Local => false,
                };
                let candidates = self.snapshot.candidates(service);
                let candidate = candidates.iter().find(|candidate| leads_there(candidate.hop));
                let route = candidate.ok_or(DropReason::NoRoute)?.route;
                Ok(Admission { tenant, service, route, way: Way::Path(message.path) })
            }
        }
    }

    /// The protection that the session had, under a new salt; it must be what the policy says.
    fn given_protection(
        &mut self,
        now: Now,
        message: &Message<'_>,
        admission: &Admission,
    ) -> Result<Option<Protection>, DropReason> {
        let wanted = self.suite_of(admission.service);
        let Some(value) = message.tlvs.session_key else {
            return if wanted.is_none() { Ok(None) } else { Err(DropReason::TlvMissing) };
        };
        let salt = message.tlvs.sender_salt.ok_or(DropReason::TlvMissing)?;
        let adaptive = !message.tlvs.session_encrypted || message.header.modify.is_some();
        let offer = Offer::parse(value, salt, adaptive).ok_or(DropReason::TlvValue)?;
        if Some(offer.suite()) != wanted {
            return Err(DropReason::TlvValue);
        }
        let mut random = [0; 16];
        self.rng.fill_bytes(&mut random);
        let (worker, since) = (self.shard.worker().0, self.started_unix);
        let protection = Protection::resumed(offer, random, worker, since, now);
        protection.map(Some).map_err(|_| DropReason::SessionKeysFailed)
    }

    /// Takes the waypoint ports that the session still has at the peer.
    fn take_ports(&mut self, message: &Message<'_>) -> Result<(), DropReason> {
        let key = &message.key;
        let pair = Pair { local: key.local.port(), remote: key.remote.port() };
        let path = self.paths.get_mut(message.path.index()).ok_or(DropReason::NoRoute)?;
        if path.pool(key.protocol).take(pair) { Ok(()) } else { Err(DropReason::TupleInUse) }
    }
}
