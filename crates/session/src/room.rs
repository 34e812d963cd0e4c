//! Whether there is room for a new session, and who gives way when there is not.
//!
//! At a limit for sessions or waypoint ports, the session that would end next by itself gives way, if
//! nothing is lost with it: one whose responder has not answered yet, or whose TCP connection is over.
//! At one for half-open sessions it is the oldest of them. Each has a second to itself first, so that
//! an honest handshake is not cut short by a flood; a connection that is over, since its last packet, so
//! that the last acknowledgements arrive. A session with an answer never gives way.
//!
//! Where the limit is a source's own, the source is refused: it has only itself to make room for.

use fairway_types::{Counter, DropReason, Now, PathId, Protocol};

use crate::engine::Engine;
use crate::event::Event;
use crate::key::FlowKey;
use crate::limits::{
    Bringer, Limit, LimitKind, LimitScope, Opening, Owner, SEARCH_INTERVAL, Source, Standing,
};
use crate::session::{Leg, Session, Side};
use crate::table::{Index, Table};
use crate::tcp::flags;

/// How many of the sessions that end next are looked at, to find one that may give way.
const CANDIDATES: usize = 32;
/// How long a session without an answer, or a connection that is over, is not asked to give way.
const GRACE: core::time::Duration = core::time::Duration::from_secs(1);
/// How many limits may have to be satisfied in turn, each by one session: router, tenant and peer,
/// for sessions and for half-open ones.
const ROUNDS: usize = 6;

/// Whether a packet opens a TCP connection.
pub(crate) fn opens(protocol: Protocol, tcp_flags: u8) -> bool {
    protocol == Protocol::TCP && tcp_flags & (flags::SYN | flags::ACK) == flags::SYN
}

impl Engine {
    /// Whose a session is that begins with this leg.
    pub(crate) fn owner(&self, arrival: &Leg, tenant: Option<fairway_types::TenantId>) -> Owner {
        let peer = arrival.hop.as_ref().and_then(|hop| self.peer_of(hop.path));
        let host = || Bringer::Host(Source::of(&arrival.key));
        Owner { tenant, bringer: peer.map_or_else(host, Bringer::Peer) }
    }

    fn owner_of(&self, session: &Session) -> Owner {
        self.owner(session.leg(Side::Initiator), session.tenant)
    }

    /// Refuses a host's first packet, before anything else is asked about it, when its source has as
    /// much as it may, or when hosts begin sessions too fast.
    pub(crate) fn check_source(&mut self, now: Now, key: &FlowKey, tcp_flags: u8) -> Result<(), DropReason> {
        let source = Source::of(key);
        let opening = opens(key.protocol, tcp_flags);
        self.ledger.check_source(now.mono, &source, opening).map_err(|limit| self.refuse(now, limit))
    }

    /// Makes sure that a session may begin, by letting others give way if need be. Says whether it is
    /// preferred where room is scarce.
    pub(crate) fn make_room(&mut self, now: Now, owner: &Owner, opening: bool) -> Result<bool, DropReason> {
        for _ in 0..ROUNDS {
            let limit = match self.ledger.check(now.mono, owner, opening) {
                Ok(preferred) => return Ok(preferred),
                Err(limit) => limit,
            };
            let found = self.ledger.may_search(now.mono, &limit) && self.give_way(now, &limit);
            if !found {
                return Err(self.refuse(now, limit));
            }
        }
        self.ledger.check(now.mono, owner, opening).map_err(|limit| self.refuse(now, limit))
    }

    fn refuse(&mut self, now: Now, limit: Limit) -> DropReason {
        if self.ledger.refuse(now.mono, &limit) {
            self.report(Event::LimitReached(limit));
        }
        limit.reason()
    }

    /// Lets a session give way that counts against a limit, if there is one that may.
    fn give_way(&mut self, now: Now, limit: &Limit) -> bool {
        let of_kind = |session: &Session| match limit.kind {
            LimitKind::Sessions => true,
            LimitKind::HalfOpen => session.is_half_open(),
            _ => false,
        };
        let gave = self.evict(now, limit.kind == LimitKind::HalfOpen, |engine, session| {
            of_kind(session)
                && match limit.scope {
                    LimitScope::Router => true,
                    LimitScope::Tenant(tenant) => session.tenant == Some(tenant),
                    LimitScope::WithoutTenant => session.tenant.is_none(),
                    LimitScope::Peer(peer) => engine.owner_of(session).bringer == Bringer::Peer(peer),
                    LimitScope::Source(_) => false,
                }
        });
        if gave {
            self.ledger.evicted(limit);
        } else {
            self.ledger.searched_in_vain(now.mono, limit);
        }
        gave
    }

    /// Lets a session give way that has waypoint ports of a path and a protocol, if there is one that
    /// may.
    pub(crate) fn give_way_on_path(&mut self, now: Now, path: PathId, protocol: Protocol) -> bool {
        let recent = |at: fairway_types::Time| now.mono.since(at) < SEARCH_INTERVAL;
        if self.paths.get(path.index()).and_then(|path| path.fruitless).is_some_and(recent) {
            return false;
        }
        let gave = self.evict(now, protocol == Protocol::TCP, |_, session| {
            let leg = session.leg(Side::Responder);
            leg.key.protocol == protocol && leg.hop.is_some_and(|hop| hop.path == path)
        });
        if let Some(path) = self.paths.get_mut(path.index()) {
            if gave {
                path.pool(protocol).tally.evicted += 1;
            } else {
                path.fruitless = Some(now.mono);
            }
        }
        gave
    }

    /// Removes a session that fits and may give way: the oldest half-open one, or the one that would
    /// end next.
    fn evict(&mut self, now: Now, half_open: bool, fits: impl Fn(&Self, &Session) -> bool) -> bool {
        let mut candidates = [Index::MAX; CANDIDATES];
        let count = if half_open {
            let table = &self.table;
            self.openings.oldest(&mut candidates, |opening| is_opening(table, opening))
        } else {
            self.wheel.soonest(&mut candidates)
        };
        for &index in candidates.iter().take(count) {
            let Some(session) = self.table.get(index) else { continue };
            let deadline = session.deadline();
            if !half_open && self.wheel.is_late_for(index, deadline) {
                // It was active since; the wheel would have found out later. Half-open ones have no
                // such excuse: a SYN that is repeated gets no further.
                self.wheel.schedule(index, deadline);
                continue;
            }
            if (deadline <= now.mono || may_give_way(session, now)) && fits(self, session) {
                self.remove(now, index, Counter::SessionsEvicted);
                return true;
            }
        }
        false
    }

    /// Counts a session that was put into the table.
    pub(crate) fn enter_books(&mut self, now: Now, index: Index) {
        let Some(session) = self.table.get(index) else { return };
        let (owner, standing) = (self.owner_of(session), session.standing());
        let shared = self.ledger.begin(now.mono, &owner, standing);
        if let Some(session) = self.table.get_mut(index) {
            session.shares_account = shared;
        }
        if standing.half_open {
            self.remember_opening(now, index);
        }
    }

    fn remember_opening(&mut self, now: Now, index: Index) {
        let Some(session) = self.table.get(index) else { return };
        let (opening, table) = (Opening::new(index, session.created), &self.table);
        self.openings.push(now.mono, opening, |opening| is_opening(table, opening));
    }

    /// Takes a session off the books that was taken out of the table.
    pub(crate) fn leave_books(&mut self, session: &Session) {
        let owner = self.owner_of(session);
        self.ledger.end(&owner, session.shares_account, session.standing());
    }

    /// The session's standing was another.
    pub(crate) fn standing_changed(&mut self, now: Now, index: Index, was: Standing) {
        let Some(session) = self.table.get(index) else { return };
        let is = session.standing();
        if was != is {
            let (owner, shared) = (self.owner_of(session), session.shares_account);
            self.ledger.change(&owner, shared, was, is);
        }
        if is.half_open && !was.half_open {
            self.remember_opening(now, index);
        }
    }

    /// Counts all sessions and compares that with the books of limits: the mistakes found. It looks
    /// at the whole table, so it is for tests and diagnosis.
    #[must_use]
    pub fn audit_limits(&self) -> Vec<String> {
        let each = |(_, session): (Index, &Session)| {
            (self.owner_of(session), session.shares_account, session.standing())
        };
        self.ledger.mistakes(self.table.iter().map(each))
    }

    /// Counts every session anew, as after another configuration.
    pub(crate) fn recount(&mut self, now: Now) {
        for index in 0..self.table.capacity() as Index {
            let Some(session) = self.table.get(index) else { continue };
            let (owner, standing) = (self.owner_of(session), session.standing());
            let shared = self.ledger.recount(now.mono, &owner, standing);
            if let Some(session) = self.table.get_mut(index) {
                session.shares_account = shared;
            }
        }
    }
}

fn is_opening(table: &Table, opening: &Opening) -> bool {
    let session = table.get(opening.index).filter(|session| session.is_half_open());
    session.is_some_and(|session| Opening::new(opening.index, session.created) == *opening)
}

fn may_give_way(session: &Session, now: Now) -> bool {
    let over = session.protocol() == Protocol::TCP && session.tcp.phase().is_over();
    let waits_since = if over { session.active } else { session.created };
    (over || !session.standing().proven) && now.mono.since(waits_since) >= GRACE
}
