//! Messages between peers on UDP port 1280: what `peering` says and hears, put into packets.

use fairway_peering::{Event as PeeringEvent, MAX_MESSAGE_LEN};
use fairway_types::{
    Counter, DropReason, Egress, Now, Outlet, PathId, PeerId, Protocol, Slot, Tuple, Verdict,
};
use fairway_wire::ip::Parsed;
use fairway_wire::svr;

use core::net::SocketAddr;
use std::sync::Arc;

use crate::engine::Engine;
use crate::event::Event;
use crate::headers;
use crate::key::FlowKey;
use crate::offload::why;
use crate::session::Side;
use crate::shard::{Audience, Notice};

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Nothing yet: sessions may use it, but any path known to be up is better.
    Unknown,
    /// Sessions may use it.
    Up,
    /// It came back only now: better than nothing.
    Held,
    /// Sessions may not use it.
    Down,
}

impl Engine {
    /// A packet to port 1280 of a waypoint.
    pub(crate) fn peer_message(
        &mut self,
        now: Now,
        packet: &mut Slot,
        parsed: &Parsed,
    ) -> Result<Verdict, DropReason> {
        if !self.peer_messages.take(now.mono) {
            return Err(DropReason::RateLimited);
        }
        headers::check_checksum(packet, parsed)?;
        let range = usize::from(parsed.payload_offset)..parsed.payload_end as usize;
        let payload = packet.packet.bytes_mut().get_mut(range).unwrap_or_default();
        let (local, remote) = (parsed.destination, parsed.source);
        self.peering.handle_message(now, &self.keyring, local, remote, payload)?;
        self.peering_events(now);
        Ok(Verdict::Consumed)
    }

    /// Sends what is due to peers, and takes note of what happened to them. Where several workers share
    /// the router, the first does that for all.
    pub(crate) fn peering_timeout(&mut self, now: Now, outlet: &mut Outlet<'_>) {
        if !self.shard.leads() {
            return;
        }
        self.peering.handle_timeout(now);
        while outlet.room() > 0 {
            let mut payload = [0; MAX_MESSAGE_LEN];
            let Some(transmit) = self.peering.poll_transmit(now, &self.keyring, &mut payload) else {
                break;
            };
            self.send_peer_message(transmit.path, &payload[..transmit.len.min(MAX_MESSAGE_LEN)], outlet);
        }
        self.peering_events(now);
    }

    fn send_peer_message(&mut self, path: PathId, payload: &[u8], outlet: &mut Outlet<'_>) {
        let Some(path) = self.snapshot.model().path(path) else { return };
        let tuple = Tuple {
            source: SocketAddr::new(path.remote, svr::BFD_PORT),
            destination: SocketAddr::new(path.local, svr::BFD_PORT),
            protocol: Protocol::UDP,
        };
        let key = FlowKey::new(path.interface, &tuple);
        let egress = Egress { interface: path.interface, next_hop: path.remote };
        let Some(packet) = crate::control::compose(outlet, &key, (0, 0), payload) else { return };
        packet.verdict = Verdict::Forward(egress);
        self.counters.increment(Counter::PacketsEmitted);
    }

    fn peering_events(&mut self, now: Now) {
        while let Some(event) = self.peering.poll_event() {
            match event {
                PeeringEvent::PathUp(path) => {
                    self.set_liveness(path, Liveness::Up);
                    self.report(Event::PathUp(path));
                }
                PeeringEvent::PathDown { path, .. } => {
                    self.set_liveness(path, Liveness::Down);
                    self.report(Event::PathDown(path));
                }
                PeeringEvent::PeerRestarted(peer) => {
                    self.publish_restart(peer);
                    self.peer_restarted(now, peer);
                }
            }
        }
        self.publish_paths();
    }

    fn publish_restart(&mut self, peer: PeerId) {
        let path = self.snapshot.model().paths_to(peer).next().map(|(_, path)| (path.local, path.remote));
        if let Some((local, remote)) = path.filter(|_| !self.shard.is_alone()) {
            self.notices.push_back((Audience::Others, Notice::PeerRestarted { local, remote }));
        }
    }

    /// Tells other workers how paths are, where that has changed.
    fn publish_paths(&mut self) {
        if self.shard.is_alone() {
            return;
        }
        for (id, path) in (0u16..).map(PathId).zip(&mut self.paths) {
            let liveness = match path.liveness {
                Liveness::Down if self.peering.is_alive(id) => Liveness::Held,
                other => other,
            };
            if path.published.replace(liveness) != Some(liveness)
                && let Some(model) = self.snapshot.model().path(id)
            {
                let (local, remote) = (model.local, model.remote);
                self.notices.push_back((Audience::Others, Notice::Path { local, remote, liveness }));
            }
        }
    }

    /// Tells other workers anew how all paths are, as when they have gone over to another configuration.
    pub fn publish_all_paths(&mut self) {
        self.paths.iter_mut().for_each(|path| path.published = None);
        self.publish_paths();
    }

    fn set_liveness(&mut self, path: PathId, liveness: Liveness) {
        if let Some(path) = self.paths.get_mut(path.index()) {
            path.liveness = liveness;
        }
    }

    /// The peer lost its sessions: those that lead to it are told again, at once; those that came
    /// from it answer with metadata until it is the initiator's turn, and those that began there are
    /// given back without waiting for a packet.
    pub(crate) fn peer_restarted(&mut self, now: Now, peer: PeerId) {
        let mut count = 0;
        let snapshot = Arc::clone(&self.snapshot);
        let name = snapshot.model().peer(peer).map_or("", |peer| peer.name.as_str());
        for index in 0..self.table.capacity() as u32 {
            let Some(session) = self.table.get(index) else { continue };
            let toward =
                |side: Side| session.leg(side).hop.is_some_and(|hop| self.peer_of(hop.path) == Some(peer));
            let (forward, reverse) = (toward(Side::Responder), toward(Side::Initiator));
            if !forward && !reverse {
                continue;
            }
            let began_there = self.names.name(session.source_router) == name;
            count += 1;
            self.recall(index, why::RETOLD);
            if reverse
                && let Some(hop) =
                    self.table.get_mut(index).and_then(|s| s.leg_mut(Side::Initiator).hop.as_mut())
            {
                hop.handshake.tell_all();
                // Nobody else can tell the router where the session began.
                if began_there {
                    self.announce_later(now, index, Side::Initiator);
                }
            }
            // As many as there are sessions are enough, however often the peer starts.
            if forward && self.restarts.len() < self.table.capacity() {
                self.restarts.push_back(index);
            }
        }
        self.report(Event::PeerRestarted { peer, sessions: count });
    }
}
