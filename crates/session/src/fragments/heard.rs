//! Networks between routers that carry less than the links of the routers (RFC 1191, RFC 8201).
//!
//! Whoever sees packets between two routers can pretend that one was too big. That costs pieces and,
//! for ten minutes, nothing else: below the least MTU of IPv6, or 576 bytes of IPv4, nobody is believed.

use core::time::Duration;
use std::collections::BTreeMap;

use fairway_types::{Counter, InterfaceId, Now, PathId, Time};
use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::Version;

use crate::answer::least_mtu;
use crate::engine::Engine;
use crate::headers;
use crate::relay::{is_too_big, mtu_of};
use crate::session::{Side, overhead};
use crate::table::Index;

/// How long an MTU is believed (RFC 1191, section 6.3).
const BELIEVED: Duration = Duration::from_secs(600);
/// What every IPv4 host takes (RFC 791, section 3.1); no smaller MTU is believed.
const LEAST_V4: usize = 576;

/// What was heard of the MTUs of paths: mostly nothing.
#[derive(Default)]
pub(crate) struct PathMtus(BTreeMap<PathId, PathMtu>);

#[derive(Clone, Copy)]
struct PathMtu {
    mtu: usize,
    since: Time,
}

impl PathMtus {
    /// What a path carries, while it is believed.
    #[cold]
    fn at(&self, now: Time, path: PathId) -> Option<usize> {
        self.0.get(&path).filter(|heard| now.since(heard.since) < BELIEVED).map(|heard| heard.mtu)
    }

    /// Forgets all: paths are numbered anew.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Engine {
    /// The longest packet that may leave by an interface and, if it leads there, on a path.
    #[inline]
    pub(crate) fn way_mtu(&self, now: Time, interface: InterfaceId, path: Option<PathId>) -> usize {
        let mtu = self.mtu(interface);
        if self.path_mtus.0.is_empty() {
            return mtu;
        }
        path.and_then(|path| self.path_mtus.at(now, path)).map_or(mtu, |heard| heard.min(mtu))
    }

    /// An error of the network about a packet that left by the leg of `side`. If it says that the path
    /// to the peer there carries less than was known, that is remembered: what fits it but for what
    /// routers add goes in pieces from now on. Gives the error in terms of the packet as it arrived
    /// here; `None` if it is another error, or says nothing new.
    pub(crate) fn heard_too_big(
        &mut self,
        now: Now,
        index: Index,
        side: Side,
        error: &ErrorRepr,
    ) -> Option<ErrorRepr> {
        let session = self.table.get(index)?;
        let (near, far) = (session.leg(side), session.leg(side.other()));
        let path = near.hop.filter(|_| is_too_big(error))?.path;
        let least = match error.version {
            Version::V4 => LEAST_V4,
            Version::V6 => least_mtu(Version::V6),
        };
        let mtu = mtu_of(error).max(least);
        if mtu >= self.mtu(near.key.interface) {
            return None;
        }
        let growth = self.vault.get(session.protection).map_or(0, |entry| entry.growth(side.other()));
        let grown = if far.hop.is_some() { growth } else { 0 };
        let arrived = (mtu + overhead(&far.key, session) + grown)
            .saturating_sub(headers::ip_len(session.original.ipv6));
        let known = self.way_mtu(now.mono, near.key.interface, Some(path));
        if mtu < known {
            self.counters.increment(Counter::PathMtusLowered);
        }
        if mtu <= known {
            self.path_mtus.0.insert(path, PathMtu { mtu, since: now.mono });
            self.recall_on(None, Some(path));
        }
        Some(ErrorRepr::too_big(error.version, u16::try_from(arrived).unwrap_or(u16::MAX)))
    }
}
