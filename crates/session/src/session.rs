//! A session: two legs, one toward each end, and what is known of its traffic.

use core::net::IpAddr;

use fairway_types::{Now, PathId, Protocol, RouteId, ServiceId, TenantId, Time};

use crate::engine::Engine;
use crate::handshake::{Handshake, Role};
use crate::headers;
use crate::key::FlowKey;
use crate::limits::Standing;
use crate::rewrite::Rewrite;
use crate::table::Index;
use crate::tcp::Tcp;
use crate::vault::VaultIndex;

/// One end of a session, and the leg that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
}

/// The random identity of a session, constant across hops and path moves.
pub type Uuid = [u8; 16];

/// A session. What every packet needs comes first, in four cache lines; TCP needs a fifth.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Session {
    pub(crate) legs: [Leg; 2],
    pub(crate) active: Time,
    /// Whether the responder was heard at all.
    pub(crate) answered: bool,
    /// Whether the source's account is one that sources share.
    pub(crate) shares_account: bool,
    /// Whether the kernel forwards it.
    pub(crate) in_kernel: bool,
    /// The protocol of `original`.
    pub(crate) protocol: Protocol,
    pub(crate) tcp: Tcp,
    /// Seconds without traffic after which the session ends.
    pub(crate) idle_seconds: u32,
    pub(crate) initial_seconds: u32,
    pub(crate) service: ServiceId,
    pub(crate) route: RouteId,
    pub(crate) tenant: Option<TenantId>,
    /// The router the session entered the fabric by, as an index into the engine's names.
    pub(crate) source_router: u16,
    /// Where its keys are, if its payload is protected.
    pub(crate) protection: Option<VaultIndex>,
    pub(crate) uuid: Uuid,
    /// The flow as the initiating host sent it; its interface means nothing here.
    pub(crate) original: FlowKey,
    pub(crate) created: Time,
}

impl Session {
    /// Reads something from each part that a packet needs, so that it is in the cache.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        let leg = |leg: &Leg| leg.packets ^ u64::from(leg.key.local.port());
        let [initiator, responder] = &self.legs;
        leg(initiator) ^ leg(responder) ^ self.active.0 ^ u64::from(self.tcp.phase().is_over())
    }

    pub(crate) const fn leg(&self, side: Side) -> &Leg {
        &self.legs[side.index()]
    }

    pub(crate) const fn leg_mut(&mut self, side: Side) -> &mut Leg {
        &mut self.legs[side.index()]
    }

    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn is_half_open(&self) -> bool {
        self.protocol() == Protocol::TCP && self.tcp.phase().is_half_open()
    }

    /// What the session counts as, of what is limited.
    pub(crate) fn standing(&self) -> Standing {
        let half_open = self.is_half_open();
        Standing { half_open, proven: self.answered && !half_open }
    }

    /// When the session ends if nothing more happens.
    pub(crate) fn deadline(&self) -> Time {
        /// How long a finished connection is remembered, for what is still under way.
        const LINGER_SECONDS: u32 = 3;
        /// How much longer a session is remembered behind its ingress, so that no router sends plain
        /// packets of a session that the next one has just forgotten; more than the second by which
        /// timers may be late.
        const GRACE_SECONDS: u32 = 3;
        let tcp = self.protocol() == Protocol::TCP;
        let seconds = if tcp && self.tcp.phase().is_over() {
            LINGER_SECONDS
        } else if self.is_half_open() || !self.answered {
            self.initial_seconds
        } else {
            self.idle_seconds
        };
        let grace = if self.leg(Side::Initiator).hop.is_some() { GRACE_SECONDS } else { 0 };
        self.active + core::time::Duration::from_secs(u64::from(seconds.saturating_add(grace)))
    }

    /// Recomputes both rewrites; to be called whenever a leg's key changes.
    pub(crate) fn compile(&mut self) {
        let [initiator, responder] = &mut self.legs;
        initiator.rewrite = Rewrite::compile(&initiator.key, &responder.key, &self.original);
        responder.rewrite = Rewrite::compile(&responder.key, &initiator.key, &self.original);
    }
}

/// What a leg adds to the transport payload of a packet's end-to-end form, in bytes, protection of
/// the payload apart. A carried TCP header is as long as any.
pub(crate) fn overhead(key: &FlowKey, session: &Session) -> usize {
    headers::ip_len(key.ipv6) + if is_wrapped(key, session) { headers::UDP_LEN } else { 0 }
}

/// Whether a leg puts a UDP header before a portless protocol.
pub(crate) fn is_wrapped(key: &FlowKey, session: &Session) -> bool {
    key.protocol != session.protocol() && session.protocol() != Protocol::TCP
}

/// A new epoch: higher than the last one, and than any that another router gave the session
/// earlier, as long as the routers' clocks agree within their time slots.
fn raise_epoch(session: &mut Session, side: Side, now: Now) {
    if let Some(hop) = &mut session.leg_mut(side).hop {
        hop.epoch = hop.epoch.saturating_add(1).max(epoch_of(now));
    }
}

impl Engine {
    /// Raises the epoch of what is sent by a leg. Toward the responder the keys begin anew, too.
    pub(crate) fn raise_epoch(&mut self, now: Now, index: Index, side: Side) {
        let Some(session) = self.table.get_mut(index) else { return };
        raise_epoch(session, side, now);
        if side == Side::Responder {
            self.renew_keys(now, index);
        }
    }
}

/// The epoch of what happens now: wall clock seconds, which last until 2106.
pub(crate) fn epoch_of(now: Now) -> u32 {
    u32::try_from(now.unix).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_fits_in_six_cache_lines() {
        assert_eq!(size_of::<Option<Session>>(), 6 * 64);
        assert!(core::mem::offset_of!(Session, protocol) < 4 * 64);
        assert!(core::mem::offset_of!(Session, idle_seconds) <= 5 * 64);
    }
}
