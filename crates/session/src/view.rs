//! What an operator can see of sessions.

use core::net::IpAddr;
use core::time::Duration;

use fairway_peering::PathStatus;
use fairway_policy::Snapshot;
use fairway_types::{
    Batch, Counter, Counters, InterfaceId, Now, OffloadRefusal, PathId, PortRange, Protocol, Suite, Time,
    Tuple,
};

use crate::drops::DropRecord;
use crate::engine::Engine;
use crate::handshake::Phase;
use crate::limits::{LimitKind, LimitView};
use crate::path::WaypointUsage;
use crate::session::{Leg, Session, Side, Uuid};
use crate::table::Index;

/// What this router is to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRole {
    /// It entered the fabric here.
    Ingress,
    /// It comes from a peer and goes to a peer.
    Transit,
    /// It leaves the fabric here.
    Egress,
    /// Both hosts are on this router's interfaces.
    Local,
}

impl SessionRole {
    /// The name on screens and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Transit => "transit",
            Self::Egress => "egress",
            Self::Local => "local",
        }
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Its identity, the same on every router.
    pub uuid: Uuid,
    /// The service's name.
    pub service: String,
    /// The service-route's name.
    pub route: String,
    /// The tenant's name, if the source has one.
    pub tenant: Option<String>,
    /// The router where the session entered the fabric.
    pub source_router: String,
    /// What this router is to it.
    pub role: SessionRole,
    /// The flow as the initiating host sent it.
    pub original: Tuple,
    /// Where it stands: a TCP phase, `unanswered` or `open`.
    pub state: &'static str,
    /// When it was made.
    pub created: Time,
    /// When a packet last passed.
    pub active: Time,
    /// How long until it ends if nothing passes.
    pub expires_in: Duration,
    /// Whether the kernel forwards it by itself.
    pub in_kernel: bool,
    /// Why it does not, if it was asked to and refused.
    pub refusal: Option<OffloadRefusal>,
    /// How its payload is protected, if it is.
    pub protection: Option<ProtectionView>,
    /// The leg toward the initiator, and the one toward the responder.
    pub legs: [LegView; 2],
}

/// How the payload of a session is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectionView {
    /// The suite.
    pub suite: Suite,
    /// Whether what the initiator sends is `sealed`, `clear` because it is encrypted already, or
    /// `undecided` because there was no payload yet.
    pub forward: &'static str,
    /// The same of what the responder sends.
    pub reverse: &'static str,
}

/// One leg of a session.
#[derive(Clone, Debug)]
pub struct LegView {
    /// The interface.
    pub interface: InterfaceId,
    /// The flow of packets that arrive on it.
    pub tuple: Tuple,
    /// Where packets that leave by it are sent.
    pub next_hop: IpAddr,
    /// The peer at the other end, if it leads to one.
    pub peer: Option<String>,
    /// The peer path.
    pub path: Option<PathId>,
    /// Whether the peer is still being told of the session.
    pub telling: bool,
    /// Packets that arrived on it.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

/// Which sessions are meant: those that match everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The service's name.
    pub service: Option<String>,
    /// The tenant's name; its children count too.
    pub tenant: Option<String>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// Either host's address.
    pub address: Option<IpAddr>,
    /// Either host's port.
    pub port: Option<PortRange>,
    /// A peer on either leg.
    pub peer: Option<String>,
    /// The identity.
    pub uuid: Option<Uuid>,
}

impl Engine {
    /// Up to `limit` sessions that match, from `cursor` on, and where to go on; start with zero.
    ///
    /// At most a few thousand places of the table are looked at, so that packets need not wait.
    #[must_use]
    pub fn sessions(
        &self,
        now: Now,
        filter: &SessionFilter,
        cursor: u32,
        limit: usize,
    ) -> (Vec<SessionView>, Option<u32>) {
        const PLACES: u32 = 8192;
        let mut found = Vec::new();
        let end = self.table.capacity() as u32;
        let stop = end.min(cursor.saturating_add(PLACES));
        for index in cursor..stop {
            if found.len() >= limit {
                return (found, Some(index));
            }
            if let Some(session) = self.table.get(index).filter(|session| self.matches(session, filter)) {
                let refusal = self.refusal_of(index, session);
                found.push(SessionView { refusal, ..self.view(now, session) });
            }
        }
        (found, (stop < end).then_some(stop))
    }

    fn matches(&self, session: &Session, filter: &SessionFilter) -> bool {
        let model = self.snapshot.model();
        let tuple = session.original.tuple();
        let ends = [tuple.source, tuple.destination];
        let service = model.services.get(session.service.index()).map(|s| s.name.as_str());
        let within = |name: &String| {
            let wanted = self.snapshot.tenant_named(name);
            session.tenant.zip(wanted).is_some_and(|(own, wanted)| model.is_within(own, wanted))
        };
        filter.uuid.is_none_or(|uuid| uuid == session.uuid)
            && filter.protocol.is_none_or(|protocol| protocol == tuple.protocol)
            && filter.address.is_none_or(|address| ends.iter().any(|end| end.ip() == address))
            && filter.port.is_none_or(|ports| ends.iter().any(|end| ports.contains(end.port())))
            && filter.service.as_deref().is_none_or(|name| service == Some(name))
            && filter.tenant.as_ref().is_none_or(within)
            && filter.peer.as_deref().is_none_or(|name| {
                session.legs.iter().any(|leg| self.peer_name(leg).as_deref() == Some(name))
            })
    }

    fn peer_name(&self, leg: &Leg) -> Option<String> {
        let peer = self.peer_of(leg.hop?.path)?;
        self.snapshot.model().peer(peer).map(|peer| peer.name.clone())
    }

    pub(crate) fn view(&self, now: Now, session: &Session) -> SessionView {
        let model = self.snapshot.model();
        let leads_to_peer = session.legs.map(|leg| leg.hop.is_some());
        SessionView {
            uuid: session.uuid,
            service: model.services.get(session.service.index()).map_or_else(String::new, |s| s.name.clone()),
            route: model.routes.get(session.route.index()).map_or_else(String::new, |r| r.name.clone()),
            tenant: session.tenant.and_then(|id| model.tenants.get(id.index())).map(|t| t.name.clone()),
            source_router: self.names.name(session.source_router).to_owned(),
            role: match leads_to_peer {
                [false, true] => SessionRole::Ingress,
                [true, true] => SessionRole::Transit,
                [true, false] => SessionRole::Egress,
                [false, false] => SessionRole::Local,
            },
            original: session.original.tuple(),
            state: match session.protocol() {
                Protocol::TCP => session.tcp.phase().name(),
                _ if session.answered => "open",
                _ => "unanswered",
            },
            created: session.created,
            active: session.active,
            in_kernel: session.in_kernel,
            refusal: None,
            expires_in: session.deadline().since(now.mono),
            protection: self.vault.get(session.protection).map(|protection| ProtectionView {
                suite: protection.suite,
                forward: protection.cover[0].name(),
                reverse: protection.cover[1].name(),
            }),
            legs: Side::BOTH.map(|side| self.leg_view(session.leg(side))),
        }
    }

    fn leg_view(&self, leg: &Leg) -> LegView {
        LegView {
            interface: leg.key.interface,
            tuple: leg.key.tuple(),
            next_hop: leg.next_hop,
            peer: self.peer_name(leg),
            path: leg.hop.map(|hop| hop.path),
            telling: leg.hop.is_some_and(|hop| hop.handshake.phase() == Phase::Telling),
            packets: leg.packets,
            bytes: leg.bytes,
        }
    }

    /// Ends up to as many matching sessions as the batch has room to tell neighbours of, and gives
    /// their number; call again until it is zero.
    pub fn delete(&mut self, now: Now, filter: &SessionFilter, batch: &mut Batch) -> usize {
        let mut outlet = batch.outlet();
        let matching: Vec<Index> = self.matching(filter).take(outlet.room() / 2).collect();
        for &index in &matching {
            for side in Side::BOTH {
                self.send_delete(now, index, side, &mut outlet);
            }
            self.remove(now, index, Counter::SessionsDeleted);
        }
        matching.len()
    }

    /// How many sessions match.
    #[must_use]
    pub fn count(&self, filter: &SessionFilter) -> usize {
        self.matching(filter).count()
    }

    /// The sessions that match: one look for an identity, else the whole table.
    fn matching<'a>(&'a self, filter: &'a SessionFilter) -> impl Iterator<Item = Index> + 'a {
        let named = filter.uuid.map(|uuid| self.table.find_uuid(&uuid));
        let all = named.is_none().then(|| self.table.iter().map(|(index, _)| index));
        let candidates = named.flatten().into_iter().chain(all.into_iter().flatten());
        candidates.filter(|&index| self.table.get(index).is_some_and(|session| self.matches(session, filter)))
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.table.len()
    }

    /// How many sessions have protected payload.
    #[must_use]
    pub fn protected_count(&self) -> usize {
        self.vault.len()
    }

    /// How many sessions there may be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// All limits, and what came of them.
    #[must_use]
    pub fn limits(&self, now: Now) -> Vec<LimitView> {
        let mut views = self.ledger.views(now.mono);
        let others = [
            (LimitKind::FirstPacketRate, &self.first_packets),
            (LimitKind::PeerMessageRate, &self.peer_messages),
            (LimitKind::AnswerRate, &self.answers),
            (LimitKind::RetellRate, &self.retold),
        ];
        views.extend(others.map(|(kind, budget)| LimitView::of_budget(kind, budget, now.mono)));
        views
    }

    /// How many TCP sessions wait for their handshake.
    #[must_use]
    pub const fn half_open_count(&self) -> u32 {
        self.ledger.half_open()
    }

    /// What was counted beside drops.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Every drop reason with its count and last example.
    pub fn drops(&self) -> impl Iterator<Item = DropRecord> + '_ {
        self.drops.iter()
    }

    /// How full the waypoint ports of each path are.
    #[must_use]
    pub fn waypoints(&self) -> Vec<WaypointUsage> {
        (0u16..).map(PathId).zip(&self.paths).flat_map(|(id, path)| path.usage(id)).collect()
    }

    /// The state of every peer path.
    pub fn peer_paths(&self) -> impl Iterator<Item = PathStatus<'_>> + '_ {
        self.peering.status()
    }

    /// The configuration in force.
    #[must_use]
    pub const fn snapshot(&self) -> &std::sync::Arc<Snapshot> {
        &self.snapshot
    }

    /// Tells all peers that this router goes away; [`Engine::handle_timeout`] sends it.
    pub fn shut_down(&mut self, now: Now) {
        self.peering.shut_down(now);
    }
}
