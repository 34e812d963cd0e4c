//! Who holds how much of a router, and whether it may hold more.
//!
//! The [`Ledger`] counts sessions, half-open TCP sessions and new sessions a second: of the router,
//! of each tenant, of each peer for the sessions it brings, and of each source where sessions enter
//! the fabric. A session is counted from the moment it is in the table until it is out of it. The
//! ledger is made of a router's limits and quotas and nothing else, so that each of several workers
//! can have one with its share.
//!
//! Sources that have a session with an answer are preferred: the last eighth of a tenant's room, and
//! the last quarter of its tokens and of the router's, are for them. Forged sources never get
//! an answer, so however many there are, they do not keep real ones from new sessions.
//!
//! What happens at a limit is the engine's decision (`room`): at one for sessions or half-open ones,
//! a session without an answer gives way.

mod account;
mod board;
mod opening;
mod sources;
#[cfg(test)]
mod tests;
mod view;

use core::net::IpAddr;
use std::sync::Arc;

use fairway_types::model::{Limits, Quota, Quotas};
use fairway_types::{DropReason, InterfaceId, PeerId, TenantId, Time};
use foldhash::fast::FixedState;

use self::account::Account;
pub(crate) use self::account::{SEARCH_INTERVAL, Tally};
pub(crate) use self::board::Board;
pub(crate) use self::opening::{Opening, Openings};
pub(crate) use self::sources::Source;
use self::sources::{Holding, Sources};
pub use self::view::LimitView;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKind {
    /// Sessions held at once.
    Sessions,
    /// TCP sessions that wait for their handshake.
    HalfOpen,
    /// New sessions a second.
    SessionRate,
    /// First packets with metadata a second.
    FirstPacketRate,
    /// Messages of peers a second, apart from sessions.
    PeerMessageRate,
    /// ICMP errors, resets and control messages a second.
    AnswerRate,
    /// Sessions a second that are told of again because nothing was heard of them.
    RetellRate,
}

impl LimitKind {
    /// The name on screens and in JSON: that of the configuration, where it is configured.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::HalfOpen => "half-open",
            Self::SessionRate => "session-rate",
            Self::FirstPacketRate => "first-packet-rate",
            Self::PeerMessageRate => "peer-message-rate",
            Self::AnswerRate => "answer-rate",
            Self::RetellRate => "retell-rate",
        }
    }

    /// What its numbers count.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Sessions | Self::HalfOpen => "sessions",
            Self::SessionRate | Self::RetellRate => "sessions/s",
            Self::FirstPacketRate | Self::PeerMessageRate | Self::AnswerRate => "packets/s",
        }
    }

    const fn reason(self) -> DropReason {
        match self {
            Self::Sessions => DropReason::SessionLimit,
            Self::HalfOpen => DropReason::HalfOpenLimit,
            Self::SessionRate => DropReason::SessionRateLimit,
            Self::FirstPacketRate | Self::PeerMessageRate | Self::AnswerRate | Self::RetellRate => {
                DropReason::RateLimited
            }
        }
    }
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitScope {
    /// The router's.
    Router,
    /// A tenant's.
    Tenant(TenantId),
    /// That of all sources without a tenant.
    WithoutTenant,
    /// A peer's.
    Peer(PeerId),
    /// That of each source; if there is one, of this address or prefix of 64 bits on an interface.
    Source(Option<(InterfaceId, IpAddr)>),
}

impl LimitScope {
    const fn of_tenant(tenant: Option<TenantId>) -> Self {
        match tenant {
            Some(tenant) => Self::Tenant(tenant),
            None => Self::WithoutTenant,
        }
    }
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// Whose.
    pub scope: LimitScope,
    /// Of what.
    pub kind: LimitKind,
}

impl Limit {
    pub(crate) const fn reason(&self) -> DropReason {
        self.kind.reason()
    }
}

/// Who brings a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bringer {
    Host(Source),
    Peer(PeerId),
}

/// Whose a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) bringer: Bringer,
}

/// What matters of a session here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// TCP, and the handshake is to be completed.
    pub(crate) half_open: bool,
    /// Its responder answered, and it is not half-open.
    pub(crate) proven: bool,
}

/// The books of all limits on sessions.
#[derive(Debug)]
pub(crate) struct Ledger {
    router: Account,
    /// By [`TenantId`].
    tenants: Vec<Account>,
    without_tenant: Account,
    /// By [`PeerId`].
    peers: Vec<Account>,
    sources: Sources,
    /// What came of the sources' quota, all of them together; its numbers are those of the busiest.
    each_source: Account,
}

fn own(limits: &Limits) -> Quota {
    let Limits { sessions, half_open, session_rate, .. } = *limits;
    Quota { sessions, half_open, session_rate }
}

impl Ledger {
    /// Empty books for a router with `tenants` tenants and `peers` peers.
    pub(crate) fn new(
        now: Time,
        limits: &Limits,
        quotas: &Quotas,
        (tenants, peers): (usize, usize),
        secret: u64,
        board: Arc<Board>,
    ) -> Self {
        let account = |quota| Account::new(quota, now);
        Self {
            router: account(own(limits)),
            tenants: tenant_ids(tenants).map(|id| account(quotas.tenant(Some(id)))).collect(),
            without_tenant: account(quotas.without_tenant),
            peers: peer_ids(peers).map(|id| account(quotas.peer(id))).collect(),
            sources: Sources::new(limits.sessions, quotas.source, secret, board),
            each_source: account(quotas.source),
        }
    }

    /// TCP sessions of the router that wait for their handshake.
    pub(crate) const fn half_open(&self) -> u32 {
        self.router.half_open.now
    }

    fn tenant_mut(&mut self, tenant: Option<TenantId>) -> &mut Account {
        let own = tenant.and_then(|id| self.tenants.get_mut(id.index()));
        own.unwrap_or(&mut self.without_tenant)
    }

    /// Whether a host may begin a session, by what is known before it is decided whose the session
    /// would be, so that a flood costs as little as can be. Nothing is counted.
    pub(crate) fn check_source(&mut self, now: Time, source: &Source, opening: bool) -> Result<(), Limit> {
        let scope = LimitScope::Source(Some((source.interface(), source.address())));
        let preferred = self.sources.check(now, source, opening).map_err(|kind| Limit { scope, kind })?;
        if self.router.setups.holds(now, preferred) {
            return Ok(());
        }
        Err(Limit { scope: LimitScope::Router, kind: LimitKind::SessionRate })
    }

    /// Whether a session may begin: if so, whether it is preferred where room is scarce; else the first
    /// limit that is against it. Nothing is counted.
    pub(crate) fn check(&mut self, now: Time, owner: &Owner, opening: bool) -> Result<bool, Limit> {
        let scope = LimitScope::of_tenant(owner.tenant);
        let of_router = |kind| Limit { scope: LimitScope::Router, kind };
        // Peers have looked at their sources themselves.
        let mut preferred = true;
        match &owner.bringer {
            Bringer::Host(source) => {
                let of_source = LimitScope::Source(Some((source.interface(), source.address())));
                let checked = self.sources.check(now, source, opening);
                preferred = checked.map_err(|kind| Limit { scope: of_source, kind })?;
                let tenant = self.tenant_mut(owner.tenant);
                tenant.check_pace(now, preferred).map_err(|kind| Limit { scope, kind })?;
                self.router.check_pace(now, preferred).map_err(of_router)?;
            }
            Bringer::Peer(peer) => {
                let of_peer = |kind| Limit { scope: LimitScope::Peer(*peer), kind };
                if let Some(account) = self.peers.get_mut(peer.index()) {
                    account.check_pace(now, preferred).map_err(of_peer)?;
                    account.check(opening, preferred).map_err(of_peer)?;
                }
            }
        }
        self.tenant_mut(owner.tenant).check(opening, preferred).map_err(|kind| Limit { scope, kind })?;
        // Tenants keep room for those with answers; together they may fill the whole table.
        self.router.check(opening, true).map_err(of_router)?;
        Ok(preferred)
    }

    /// Counts a session that began. Says whether its source shares an account, which has to be told
    /// when it changes or ends.
    pub(crate) fn begin(&mut self, now: Time, owner: &Owner, standing: Standing) -> bool {
        self.router.join(standing);
        self.tenant_mut(owner.tenant).join(standing);
        match &owner.bringer {
            Bringer::Host(source) => {
                self.router.setups.spend(now);
                self.tenant_mut(owner.tenant).setups.spend(now);
                self.each_source.setups.spend(now);
                self.each_source.begun(standing);
                self.sources.join(now, source, standing, false)
            }
            Bringer::Peer(peer) => {
                if let Some(account) = self.peers.get_mut(peer.index()) {
                    account.join(standing);
                    account.setups.spend(now);
                }
                false
            }
        }
    }

    /// Takes a session off the books.
    pub(crate) fn end(&mut self, owner: &Owner, shared: bool, standing: Standing) {
        self.router.leave(standing);
        self.tenant_mut(owner.tenant).leave(standing);
        self.leave_bringer(&owner.bringer, shared, standing);
    }

    fn leave_bringer(&mut self, bringer: &Bringer, shared: bool, standing: Standing) {
        match bringer {
            Bringer::Host(source) => self.sources.leave(source, shared, standing),
            Bringer::Peer(peer) => {
                if let Some(account) = self.peers.get_mut(peer.index()) {
                    account.leave(standing);
                }
            }
        }
    }

    /// A session got its answer, or its handshake went on.
    pub(crate) fn change(&mut self, owner: &Owner, shared: bool, was: Standing, is: Standing) {
        self.router.change(was, is);
        self.tenant_mut(owner.tenant).change(was, is);
        match &owner.bringer {
            Bringer::Host(source) => self.sources.change(source, shared, was, is),
            Bringer::Peer(peer) => {
                if let Some(account) = self.peers.get_mut(peer.index()) {
                    account.change(was, is);
                }
            }
        }
    }

    /// Another peer brings a session now. It is not refused for that: it is an old one.
    pub(crate) fn move_peer(&mut self, from: &Bringer, to: PeerId, standing: Standing) {
        self.leave_bringer(from, false, standing);
        if let Some(account) = self.peers.get_mut(to.index()) {
            account.join(standing);
        }
    }

    /// The account that a limit is kept in.
    fn account_mut(&mut self, scope: &LimitScope) -> Option<&mut Account> {
        match scope {
            LimitScope::Router => Some(&mut self.router),
            LimitScope::Tenant(tenant) => self.tenants.get_mut(tenant.index()),
            LimitScope::WithoutTenant => Some(&mut self.without_tenant),
            LimitScope::Peer(peer) => self.peers.get_mut(peer.index()),
            LimitScope::Source(_) => Some(&mut self.each_source),
        }
    }

    /// Counts a session that was refused. Says whether an operator should hear of it: it is the first
    /// in a while.
    pub(crate) fn refuse(&mut self, now: Time, limit: &Limit) -> bool {
        self.account_mut(&limit.scope).is_some_and(|account| account.refuse(now, limit.kind))
    }

    /// Whether to look for a session that may give way at a limit.
    pub(crate) fn may_search(&mut self, now: Time, limit: &Limit) -> bool {
        self.account_mut(&limit.scope).is_some_and(|account| account.may_search(now, limit.kind))
    }

    pub(crate) fn searched_in_vain(&mut self, now: Time, limit: &Limit) {
        if let Some(account) = self.account_mut(&limit.scope) {
            account.searched_in_vain(now, limit.kind);
        }
    }

    /// Counts a session that gave way at a limit.
    pub(crate) fn evicted(&mut self, limit: &Limit) {
        if let Some(account) = self.account_mut(&limit.scope) {
            account.evicted(limit.kind);
        }
    }

    /// Goes over to other limits, and forgets all sessions: they are to be counted again
    /// ([`Self::recount`]). `tenants` and `peers` say which new id each old one has; with `sources`,
    /// interfaces have new numbers, so that nothing that is known of sources holds.
    pub(crate) fn reconfigure(
        &mut self,
        now: Time,
        limits: &Limits,
        quotas: &Quotas,
        tenants: Renumbered<'_, TenantId>,
        peers: Renumbered<'_, PeerId>,
        sources: bool,
    ) {
        self.router.reset(own(limits));
        self.without_tenant.reset(quotas.without_tenant);
        self.each_source.reset(quotas.source);
        self.sources.set_quota(quotas.source);
        self.sources.clear(sources);
        let ids = tenant_ids(tenants.count).map(|id| quotas.tenant(Some(id)));
        self.tenants =
            renumbered(&self.tenants, tenants.new.iter().map(|id| id.map(TenantId::index)), ids, now);
        let ids = peer_ids(peers.count).map(|id| quotas.peer(id));
        self.peers = renumbered(&self.peers, peers.new.iter().map(|id| id.map(PeerId::index)), ids, now);
    }

    /// Counts a session again. Says whether its source shares an account.
    pub(crate) fn recount(&mut self, now: Time, owner: &Owner, standing: Standing) -> bool {
        self.router.rejoin(standing);
        self.tenant_mut(owner.tenant).rejoin(standing);
        match &owner.bringer {
            Bringer::Host(source) => self.sources.join(now, source, standing, true),
            Bringer::Peer(peer) => {
                if let Some(account) = self.peers.get_mut(peer.index()) {
                    account.rejoin(standing);
                }
                false
            }
        }
    }
}

/// One of the accounts a session is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counted {
    Router,
    Tenant(Option<TenantId>),
    Peer(PeerId),
    Source(Option<Source>, usize),
}

impl Ledger {
    /// The accounts that do not say what a count of these sessions says: owner, whether the source
    /// shares an account, and standing of each. None, unless there is a mistake in this program.
    pub(crate) fn mistakes(&self, sessions: impl Iterator<Item = (Owner, bool, Standing)>) -> Vec<String> {
        let mut counted: hashbrown::HashMap<Counted, Holding, FixedState> =
            hashbrown::HashMap::with_hasher(FixedState::default());
        for (owner, shared, standing) in sessions {
            let bringer = match &owner.bringer {
                Bringer::Host(source) => {
                    let (source, set) = self.sources.account_of(source, shared);
                    Counted::Source(source, set)
                }
                Bringer::Peer(peer) => Counted::Peer(*peer),
            };
            for account in [Counted::Router, Counted::Tenant(owner.tenant), bringer] {
                counted.entry(account).or_default().add(standing);
            }
        }
        let mut mistakes = Vec::new();
        for (account, books) in self.books() {
            let mut actual = counted.remove(&account).unwrap_or_default();
            if !matches!(account, Counted::Source(..)) {
                // Only sources are asked for it.
                actual.proven = 0;
            }
            if books != actual {
                mistakes.push(format!("{account:?}: {books:?}, but there are {actual:?}"));
            }
        }
        mistakes.extend(counted.iter().map(|(account, actual)| format!("{account:?}: not {actual:?}")));
        mistakes
    }

    fn books(&self) -> impl Iterator<Item = (Counted, Holding)> + '_ {
        let held = |account: &Account| Holding {
            sessions: account.sessions.now,
            half_open: account.half_open.now,
            proven: 0,
        };
        let tenants = tenant_ids(self.tenants.len()).zip(&self.tenants);
        let peers = peer_ids(self.peers.len()).zip(&self.peers);
        let sources = self.sources.holdings();
        [(Counted::Router, held(&self.router)), (Counted::Tenant(None), held(&self.without_tenant))]
            .into_iter()
            .chain(tenants.map(move |(id, account)| (Counted::Tenant(Some(id)), held(account))))
            .chain(peers.map(move |(id, account)| (Counted::Peer(id), held(account))))
            .chain(sources.map(|((source, set), holding)| (Counted::Source(source, set), holding)))
    }
}

/// Where elements of an old configuration are in a new one that has `count` of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renumbered<'a, T> {
    pub(crate) new: &'a [Option<T>],
    pub(crate) count: usize,
}

fn renumbered(
    old: &[Account],
    new: impl Iterator<Item = Option<usize>>,
    quotas: impl Iterator<Item = Quota>,
    now: Time,
) -> Vec<Account> {
    let mut accounts: Vec<Account> = quotas.map(|quota| Account::new(quota, now)).collect();
    for (account, place) in old.iter().zip(new) {
        if let Some(slot) = place.and_then(|place| accounts.get_mut(place)) {
            let quota = slot.quota;
            *slot = *account;
            slot.reset(quota);
        }
    }
    accounts
}

fn tenant_ids(count: usize) -> impl Iterator<Item = TenantId> {
    (0u16..).map(TenantId).take(count)
}

fn peer_ids(count: usize) -> impl Iterator<Item = PeerId> {
    (0u16..).map(PeerId).take(count)
}
