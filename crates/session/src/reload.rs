//! A new configuration: sessions it still allows go on untouched, in the kernel as well; the others end.

use std::sync::Arc;

use fairway_crypto::{Keyring, KeyringEntry, KeyringError};
use fairway_policy::{CandidateHop, Decision, Snapshot};
use fairway_types::model::{Limits, RouterModel};
use fairway_types::{Counter, InterfaceId, Now, PathId, PeerId, RouteId, ServiceId, Suite, TenantId};
use rand_core::RngCore;

use crate::engine::{DEFAULT_MTU, Engine};
use crate::key::FlowKey;
use crate::limits::Renumbered;
use crate::nat::is_translated;
use crate::path::Path;
use crate::session::{Session, Side};
use crate::table::Index;

/// What became of the sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Sessions that go on.
    pub kept: usize,
    /// Sessions that the new configuration no longer allows.
    pub removed: usize,
}

/// So many sessions end before the kernel lets go of them: what is known of their ends takes memory.
const ENDED_AT_ONCE: usize = 1024;

/// A change to another configuration that is under way. No packet may be decided until it is complete.
pub struct Transition {
    snapshot: Arc<Snapshot>,
    renumbering: Renumbering,
    /// The first place in the table that was not looked at yet.
    next: Index,
    applied: Applied,
}

/// Where elements of the old model are in the new one.
struct Renumbering {
    interfaces: Vec<Option<InterfaceId>>,
    paths: Vec<Option<PathId>>,
    tenants: Vec<Option<TenantId>>,
    peers: Vec<Option<PeerId>>,
}

impl Renumbering {
    fn between(old: &RouterModel, new: &RouterModel) -> Self {
        let interfaces = old.interfaces.iter().map(|interface| {
            position(&new.interfaces, |other| {
                other.name == interface.name
                    && other.device == interface.device
                    && other.vlan == interface.vlan
            })
            .map(|index| InterfaceId(index as u16))
        });
        let paths = old.paths.iter().map(|path| {
            let name = old.peer(path.peer).map(|peer| &peer.name);
            position(&new.paths, |other| {
                (other.local, other.remote) == (path.local, path.remote)
                    && new.peer(other.peer).map(|peer| &peer.name) == name
            })
            .map(|index| PathId(index as u16))
        });
        let tenants = old.tenants.iter().map(|tenant| {
            position(&new.tenants, |other| other.name == tenant.name).map(|index| TenantId(index as u16))
        });
        let peers = old.peers.iter().map(|peer| {
            position(&new.peers, |other| other.name == peer.name).map(|index| PeerId(index as u16))
        });
        Self {
            interfaces: interfaces.collect(),
            paths: paths.collect(),
            tenants: tenants.collect(),
            peers: peers.collect(),
        }
    }

    fn interface(&self, old: InterfaceId) -> Option<InterfaceId> {
        let new = self.interfaces.get(old.index()).copied().flatten()?;
        Some(if old.is_hairpin() { new.hairpin() } else { new })
    }

    fn path(&self, old: PathId) -> Option<PathId> {
        self.paths.get(old.index()).copied().flatten()
    }

    fn tenant(&self, old: TenantId) -> Option<TenantId> {
        self.tenants.get(old.index()).copied().flatten()
    }

    fn keeps_peers(&self) -> bool {
        (0u16..).zip(&self.peers).all(|(id, new)| *new == Some(PeerId(id)))
    }

    fn keeps_interfaces(&self) -> bool {
        (0u16..).zip(&self.interfaces).all(|(id, new)| *new == Some(InterfaceId(id)))
    }
}

fn position<T>(list: &[T], matches: impl Fn(&T) -> bool) -> Option<usize> {
    list.iter().position(matches)
}

impl Engine {
    /// The keyring of another configuration. `keys` are the keys of all its peers; peers whose key did
    /// not change keep their sequence numbers and replay windows.
    ///
    /// # Errors
    /// [`KeyringError`]. Nothing changes, in any case, before [`Self::apply`].
    pub fn next_keyring(
        &self,
        snapshot: &Snapshot,
        keys: Vec<KeyringEntry>,
        now: Now,
    ) -> Result<Keyring, KeyringError> {
        let mut next = self.keyring.clone();
        next.replace(&snapshot.model().router, keys, now.unix)?;
        Ok(next)
    }

    /// Goes over to another configuration.
    ///
    /// `keyring` is what [`Self::next_keyring`] made. Neighbours of removed sessions are told afterwards, by
    /// [`Self::handle_timeout`]. Where several workers share the router, the first of them goes first, and
    /// `keyring` is the same for all.
    pub fn apply(&mut self, now: Now, snapshot: Arc<Snapshot>, keyring: Keyring) -> Applied {
        let mut transition = self.begin_transition(snapshot, keyring);
        while self.review_some(now, &mut transition) {}
        self.complete(now, transition)
    }

    /// Begins what [`Self::apply`] does, in steps: this, then [`Self::review_some`] until there is no more,
    /// then [`Self::complete`].
    pub fn begin_transition(&mut self, snapshot: Arc<Snapshot>, keyring: Keyring) -> Transition {
        self.keyring = keyring;
        let renumbering = Renumbering::between(self.snapshot.model(), snapshot.model());
        Transition { snapshot, renumbering, next: 0, applied: Applied::default() }
    }

    /// Decides again about sessions, until many have ended: what the kernel is to do is to be carried out then.
    /// Says whether there may be more.
    pub fn review_some(&mut self, now: Now, transition: &mut Transition) -> bool {
        let Transition { snapshot, renumbering, next, applied } = transition;
        let mut ended = 0;
        while (*next as usize) < self.table.capacity() && ended < ENDED_AT_ONCE {
            let index = *next;
            *next += 1;
            let Some(session) = self.table.get(index) else { continue };
            let protection = self.vault.get(session.protection).map(|entry| (entry.suite, entry.adaptive));
            let allowed = still_allowed(session, snapshot, renumbering)
                .filter(|change| keeps_protection(session, protection, snapshot, change.service));
            if let Some(change) = allowed {
                if let Some(session) = self.table.get_mut(index) {
                    change.apply(session);
                }
                applied.kept += 1;
                continue;
            }
            if let Some(session) = self.remove(now, index, Counter::SessionsDeleted) {
                self.farewells.push(&session);
            }
            ended += 1;
        }
        applied.removed += ended;
        (*next as usize) < self.table.capacity()
    }

    /// Puts another configuration in force when all sessions have been decided about.
    pub fn complete(&mut self, now: Now, transition: Transition) -> Applied {
        let Transition { snapshot, renumbering, applied, .. } = transition;
        self.path_mtus.clear();
        self.farewells.renumber(|id| renumbering.interface(id), |id| renumbering.path(id));
        self.renumber_paths(&snapshot, &renumbering);
        self.renumber_interfaces(&snapshot, &renumbering);
        if self.shard.leads() {
            self.reconfigure_nat(&snapshot.model().interfaces, |tenant| renumbering.tenant(tenant));
        }
        let limits = self.shard.limits(&snapshot.model().limits);
        self.first_packets.set_rate(limits.first_packets);
        self.peer_messages.set_rate(limits.first_packets);
        self.answers.set_rate(limits.answers);
        self.peering.apply(now, snapshot.model());
        self.snapshot = snapshot;
        if !renumbering.keeps_interfaces() || !renumbering.keeps_peers() {
            self.forget_fragments(now);
        }
        self.renumber_limits(now, &renumbering);
        self.keep_offloads(now);
        self.publish_all_paths();
        self.counters.increment(Counter::Reloads);
        applied
    }

    /// Goes over to the limits of the new configuration. Every session is counted anew, since its
    /// tenant may be another one.
    fn renumber_limits(&mut self, now: Now, renumbering: &Renumbering) {
        let model = self.snapshot.model();
        let tenants = Renumbered { new: &renumbering.tenants, count: model.tenants.len() };
        let peers = Renumbered { new: &renumbering.peers, count: model.peers.len() };
        let interfaces = !renumbering.keeps_interfaces();
        // The table has the size it was made with.
        let sessions = self.table.capacity() as u32;
        let limits = Limits { sessions, ..self.shard.limits(&model.limits) };
        let quotas = self.shard.quotas(&model.quotas);
        self.ledger.reconfigure(now.mono, &limits, &quotas, tenants, peers, interfaces);
        self.recount(now);
    }

    fn renumber_paths(&mut self, new: &Snapshot, renumbering: &Renumbering) {
        let mut old: Vec<Option<Path>> = self.paths.drain(..).map(Some).collect();
        let count = new.model().paths.len();
        let expected = Path::expected(new.model(), self.table.capacity() as u32);
        let mut paths: Vec<Option<Path>> = (0..count).map(|_| None).collect();
        for (from, to) in renumbering.paths.iter().enumerate() {
            if let (Some(to), Some(path)) = (to, old.get_mut(from).and_then(Option::take))
                && let Some(slot) = paths.get_mut(to.index())
            {
                *slot = Some(path);
            }
        }
        for (slot, model) in paths.into_iter().zip(&new.model().paths) {
            let limit = self.shard.waypoints(model);
            let mut path = slot.unwrap_or_else(|| Path::new(model, limit, expected, self.rng.next_u64()));
            path.configure(model, limit);
            self.paths.push(path);
        }
    }

    fn renumber_interfaces(&mut self, new: &Snapshot, renumbering: &Renumbering) {
        let old = std::mem::take(&mut self.mtus);
        self.mtus = new
            .model()
            .interfaces
            .iter()
            .enumerate()
            .map(|(index, interface)| {
                let before =
                    renumbering.interfaces.iter().position(|to| *to == Some(InterfaceId(index as u16)));
                let mtu = before.and_then(|index| old.get(index).copied()).unwrap_or(DEFAULT_MTU);
                interface.mtu.map_or(mtu, |limit| mtu.min(u32::from(limit)))
            })
            .collect();
        if !renumbering.keeps_interfaces() {
            self.drops.renumber(|old| renumbering.interface(old));
            let renumbered = |key: &FlowKey| {
                renumbering.interface(key.interface).map(|interface| FlowKey { interface, ..*key })
            };
            let keys = self.table.iter().flat_map(|(_, session)| session.legs.iter().map(|leg| leg.key));
            self.renumber_exceptions(keys.filter_map(|key| Some((key, renumbered(&key)?))));
            self.table.rekey_all(|key| *key = renumbered(key).unwrap_or(*key));
        }
    }
}

/// What a kept session refers to from now on.
struct Change {
    tenant: Option<TenantId>,
    service: ServiceId,
    route: RouteId,
    paths: [Option<PathId>; 2],
}

impl Change {
    fn apply(self, session: &mut Session) {
        session.tenant = self.tenant;
        session.service = self.service;
        session.route = self.route;
        for (leg, path) in session.legs.iter_mut().zip(self.paths) {
            if let (Some(hop), Some(path)) = (&mut leg.hop, path) {
                hop.path = path;
            }
        }
    }
}

/// Whether a session that enters the fabric here is protected as its service's policy now says. One
/// that is not ends, and its next packet begins another that is.
fn keeps_protection(
    session: &Session,
    protection: Option<(Suite, bool)>,
    new: &Snapshot,
    service: ServiceId,
) -> bool {
    let is_ingress = session.leg(Side::Initiator).hop.is_none() && session.leg(Side::Responder).hop.is_some();
    let model = new.model();
    let policy = model.services.get(service.index()).and_then(|s| model.security.get(s.security.index()));
    !is_ingress || policy.and_then(|policy| Some((policy.payload?, policy.adaptive))) == protection
}

/// Whether a session that leaves the fabric here has the source that its interface gives now.
fn keeps_translation(session: &Session, new: &Snapshot, interface: InterfaceId) -> bool {
    let local = session.leg(Side::Responder).key.local;
    let ipv6 = session.original.ipv6;
    let element = new.model().interface(interface);
    let given = element.and_then(|element| element.nat_address(ipv6));
    match given {
        Some(address) => {
            let taken = element.is_some_and(|e| e.host_ports.contains(&(session.protocol, local.port())));
            is_translated(session) && local.ip(ipv6) == address && !taken
        }
        None => !is_translated(session),
    }
}

/// Decides again about a session; `None` means it has to end.
fn still_allowed(session: &Session, new: &Snapshot, renumbering: &Renumbering) -> Option<Change> {
    let original = session.original.tuple();
    for leg in &session.legs {
        renumbering.interface(leg.key.interface)?;
    }
    let mut paths = [None; 2];
    for side in Side::BOTH {
        if let Some(hop) = &session.leg(side).hop {
            paths[side.index()] = Some(renumbering.path(hop.path)?);
        }
    }
    let tenant = match (&session.leg(Side::Initiator).hop, session.tenant) {
        (None, _) => {
            let interface = renumbering.interface(session.leg(Side::Initiator).key.interface)?;
            new.tenant_of(interface, original.source.ip())
        }
        (Some(_), None) => None,
        (Some(_), Some(tenant)) => {
            let tenant = renumbering.tenant(tenant)?;
            let peer = new.model().path(paths[0]?)?.peer;
            new.peer_may_claim(peer, tenant).then_some(tenant)?;
            Some(tenant)
        }
    };
    let (source, destination) = (original.source.ip(), original.destination.ip());
    let port = if original.protocol.has_ports() { original.destination.port() } else { 0 };
    let Decision::Permit { service, .. } = new.decide(tenant, source, destination, original.protocol, port)
    else {
        return None;
    };
    let responder = session.leg(Side::Responder);
    let interface = renumbering.interface(responder.key.interface)?.straight();
    if responder.hop.is_none() && !keeps_translation(session, new, interface) {
        return None;
    }
    let candidate = new.candidates(service).iter().find(|candidate| match candidate.hop {
        CandidateHop::Path(path) => Some(path) == paths[1],
        CandidateHop::NextHop { interface: out, gateway } => {
            responder.hop.is_none()
                && out == interface
                && gateway.unwrap_or(destination) == responder.next_hop
        }
        CandidateHop::Local => {
            responder.hop.is_none() && new.interface_with_prefix(destination) == Some(interface)
        }
    })?;
    Some(Change { tenant, service, route: candidate.route, paths })
}
