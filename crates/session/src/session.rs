//! A session: two legs, one toward each end, and what is known of its traffic.

use core::net::IpAddr;

use fairway_types::{PathId, Protocol, RouteId, ServiceId, TenantId, Time};

use crate::handshake::{Handshake, Phase, Role};
use crate::key::FlowKey;
use crate::rewrite::Rewrite;
use crate::tcp::Tcp;

/// One end of a session, and the leg that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Toward the host that began the session.
    Initiator,
    /// Toward the host that answers.
    Responder,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Initiator, Self::Responder];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Initiator => 0,
            Self::Responder => 1,
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// The fabric end of a leg: a peer path and the handshake on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub(crate) path: PathId,
    pub(crate) handshake: Handshake,
    /// The epoch sent on this hop (toward the responder) or last accepted from it.
    pub(crate) epoch: u32,
}

impl Hop {
    pub(crate) const fn new(path: PathId, side: Side, epoch: u32) -> Self {
        let role = match side {
            Side::Initiator => Role::Responder,
            Side::Responder => Role::Initiator,
        };
        Self { path, handshake: Handshake::new(role), epoch }
    }
}

/// The way to one end of a session. Packets arrive on its key and are sent on the reverse of it.
#[derive(Clone, Copy)]
pub(crate) struct Leg {
    pub(crate) key: FlowKey,
    pub(crate) next_hop: IpAddr,
    /// Present when the leg leads to a peer; absent when it leads to a host.
    pub(crate) hop: Option<Hop>,
    /// How a packet that arrived here becomes one that leaves by the other leg.
    pub(crate) rewrite: Rewrite,
    /// Packets and bytes that arrived here.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Leg {
    pub(crate) const fn new(key: FlowKey, next_hop: IpAddr, hop: Option<Hop>) -> Self {
        Self { key, next_hop, hop, rewrite: Rewrite::NONE, packets: 0, bytes: 0 }
    }

    /// Tells the peer of the session again, if the leg leads to one.
    pub(crate) fn restart(&mut self) {
        if let Some(hop) = &mut self.hop {
            hop.handshake.restart();
        }
    }
}

/// The random identity of a session, constant across hops and path moves.
pub type Uuid = [u8; 16];

/// A session.
#[derive(Clone, Copy)]
pub(crate) struct Session {
    pub(crate) uuid: Uuid,
    pub(crate) legs: [Leg; 2],
    /// The flow as the initiating host sent it; its interface means nothing here.
    pub(crate) original: FlowKey,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) service: ServiceId,
    pub(crate) route: RouteId,
    /// The router the session entered the fabric by, as an index into the engine's names.
    pub(crate) source_router: u16,
    pub(crate) tcp: Tcp,
    /// Seconds without traffic after which the session ends.
    pub(crate) idle_seconds: u32,
    pub(crate) initial_seconds: u32,
    /// Whether the responder was heard at all.
    pub(crate) answered: bool,
    pub(crate) created: Time,
    pub(crate) active: Time,
}

impl Session {
    /// Reads something from each part that a packet needs, so that it is in the cache.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        let leg = |leg: &Leg| {
            let told = leg.hop.is_some_and(|hop| hop.handshake.phase() == Phase::Settled);
            leg.packets ^ u64::from(leg.key.local.port()) ^ u64::from(told)
        };
        let [initiator, responder] = &self.legs;
        let rest = u64::from(self.tcp.phase().is_over()) ^ u64::from(self.answered);
        leg(initiator) ^ leg(responder) ^ self.active.0 ^ rest
    }

    pub(crate) const fn leg(&self, side: Side) -> &Leg {
        &self.legs[side.index()]
    }

    pub(crate) const fn leg_mut(&mut self, side: Side) -> &mut Leg {
        &mut self.legs[side.index()]
    }

    pub(crate) const fn protocol(&self) -> Protocol {
        self.original.protocol
    }

    pub(crate) fn is_half_open(&self) -> bool {
        self.protocol() == Protocol::TCP && self.tcp.phase().is_half_open()
    }

    /// When the session ends if nothing more happens.
    pub(crate) fn deadline(&self) -> Time {
        /// How long a finished connection is remembered, for what is still under way.
        const LINGER_SECONDS: u32 = 3;
        let tcp = self.protocol() == Protocol::TCP;
        let seconds = if tcp && self.tcp.phase().is_over() {
            LINGER_SECONDS
        } else if self.is_half_open() || !self.answered {
            self.initial_seconds
        } else {
            self.idle_seconds
        };
        self.active + core::time::Duration::from_secs(u64::from(seconds))
    }

    /// Recomputes both rewrites; to be called whenever a leg's key changes.
    pub(crate) fn compile(&mut self) {
        let [initiator, responder] = &mut self.legs;
        initiator.rewrite = Rewrite::compile(&initiator.key, &responder.key);
        responder.rewrite = Rewrite::compile(&responder.key, &initiator.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_fits_in_six_cache_lines() {
        assert!(size_of::<Option<Session>>() <= 6 * 64);
    }
}
