//! What each source has of a router, in a table that never grows.
//!
//! The table is set-associative: a secret hash leads a source to one of its sets, and the set has
//! room for [`WAYS`] sources of their own, and one shared account for all others. What holds:
//!
//! * **Bounded.** The table is allocated once, whatever sources there are.
//! * **Exact.** Each session is counted in exactly one account, and is taken off the same one. An
//!   account of a source's own counts that source's sessions and nothing else.
//! * **Never evicted with sessions.** An account with sessions stays. Only one that has none gives
//!   its place to another source, the longest unused first; all that is forgotten with it is how
//!   many tokens were left.
//! * **Never beyond twice.** A source that finds its set full of others with sessions shares one
//!   quota with whoever else does. Should an account of its own become free later, it may have one
//!   quota there and what the shared one leaves: no source ever has more than twice its quota.
//! * **Not aimed at.** Who shares a set depends on a secret, so nobody can choose whose.

use core::hash::{BuildHasher, Hash, Hasher};
use core::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use fairway_types::model::Quota;
use fairway_types::{InterfaceId, Time};
use foldhash::fast::FixedState;

use super::board::Board;
use super::{LimitKind, Standing};
use crate::key::FlowKey;

/// Sources of a set that have an account of their own.
const WAYS: usize = 8;
/// The fewest and the most accounts of a table.
const LEAST: u32 = 1024;
const MOST: u32 = 16_384;
/// One of so many sessions is expected to be its source's only one.
const SESSIONS_PER_SOURCE: u32 = 4;

/// An IPv4 address, or an IPv6 prefix of 64 bits, on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Of IPv4 an IPv4-mapped one.
    address: [u8; 16],
    interface: u16,
    ipv6: bool,
}

impl Hash for Source {
    /// Two words, which hash faster than sixteen bytes and their neighbours.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.address));
        state.write_u32(u32::from(self.interface) << 1 | u32::from(self.ipv6));
    }
}

impl Source {
    /// The source of packets that arrive on a flow.
    #[inline]
    pub(crate) fn of(key: &FlowKey) -> Self {
        let mut address = key.remote.address();
        if key.ipv6 {
            address[8..].fill(0);
        }
        Self { address, interface: key.interface.0, ipv6: key.ipv6 }
    }

    pub(crate) const fn interface(&self) -> InterfaceId {
        InterfaceId(self.interface)
    }

    /// The address; of IPv6 the first of the prefix.
    pub(crate) fn address(&self) -> IpAddr {
        let address = Ipv6Addr::from(self.address);
        match address.to_ipv4_mapped().filter(|_| !self.ipv6) {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(address),
        }
    }
}

/// Tokens for new sessions, in thousandths; small, because there is one for each source.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    /// In milliseconds, wrapping: who was away for 49 days may find fewer tokens for a moment.
    filled: u32,
}

impl Bucket {
    fn depth(rate: u32) -> u32 {
        (rate / 10).max(10).saturating_mul(1000)
    }

    fn full(rate: u32, now: Time) -> Self {
        Self { tokens: Self::depth(rate), filled: now.as_millis() as u32 }
    }

    /// A thousandth is gained in each millisecond for each session a second.
    fn filled(self, rate: u32, now: Time) -> Self {
        let filled = now.as_millis() as u32;
        let gained = filled.wrapping_sub(self.filled).saturating_mul(rate);
        Self { tokens: self.tokens.saturating_add(gained).min(Self::depth(rate)), filled }
    }
}

/// What one source has, or all those that share an account.
#[derive(Clone, Copy, Debug)]
struct Account {
    source: Source,
    used: bool,
    sessions: u32,
    half_open: u32,
    /// Sessions with an answer.
    proven: u32,
    bucket: Bucket,
}

#[derive(Clone, Debug)]
struct Set {
    own: [Account; WAYS],
    shared: Account,
}

/// Sessions, and how many of them are half-open, and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) sessions: u32,
    pub(crate) half_open: u32,
    pub(crate) proven: u32,
}

impl Holding {
    pub(crate) fn add(&mut self, standing: Standing) {
        self.sessions += 1;
        self.half_open += u32::from(standing.half_open);
        self.proven += u32::from(standing.proven);
    }
}

impl Account {
    /// One session with an answer less, on the board, too, if the account is on it.
    fn unprove(&mut self, board: Option<&Board>) {
        if self.proven > 0 {
            self.proven -= 1;
            if let Some(board) = board {
                board.remove(&self.source, 1);
            }
        }
    }

    fn holding(&self) -> Holding {
        Holding { sessions: self.sessions, half_open: self.half_open, proven: self.proven }
    }
}

/// The busiest source by one measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Busiest {
    pub(crate) source: Option<Source>,
    pub(crate) now: u32,
}

/// Whose account a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own(usize),
    /// None yet, but this one is free for it.
    Free(usize),
    Shared,
}

/// The accounts of all sources.
#[derive(Debug)]
pub(crate) struct Sources {
    quota: Quota,
    sets: Box<[Set]>,
    hasher: FixedState,
    /// What is known of sources at other workers, too. Who shares an account is not on it.
    board: Arc<Board>,
}

impl Sources {
    /// A table for a router that holds up to `sessions` sessions.
    pub(crate) fn new(sessions: u32, quota: Quota, secret: u64, board: Arc<Board>) -> Self {
        let accounts = (sessions / SESSIONS_PER_SOURCE).next_power_of_two().clamp(LEAST, MOST);
        Self::with_sets(accounts as usize / WAYS, quota, secret, board)
    }

    /// `sets` is a power of two.
    fn with_sets(sets: usize, quota: Quota, secret: u64, board: Arc<Board>) -> Self {
        let source = Source { address: [0; 16], interface: 0, ipv6: false };
        let bucket = Bucket::full(quota.session_rate, Time::ZERO);
        let account = Account { source, used: false, sessions: 0, half_open: 0, proven: 0, bucket };
        let set = Set { own: [account; WAYS], shared: account };
        Self { quota, sets: vec![set; sets].into_boxed_slice(), hasher: FixedState::with_seed(secret), board }
    }

    pub(crate) fn set_quota(&mut self, quota: Quota) {
        self.quota = quota;
    }

    fn set_number(&self, source: &Source) -> usize {
        // A power of two.
        self.hasher.hash_one(source) as usize & (self.sets.len() - 1)
    }

    /// Why a source may not begin a session now, if so; else whether it has one with an answer.
    pub(crate) fn check(&self, now: Time, source: &Source, opening: bool) -> Result<bool, LimitKind> {
        let Some(set) = self.sets.get(self.set_number(source)) else { return Ok(false) };
        let account = match set.place(source) {
            Place::Own(way) => &set.own[way],
            Place::Free(_) => return Ok(self.board.has(source)),
            Place::Shared => &set.shared,
        };
        if account.bucket.filled(self.quota.session_rate, now).tokens < 1000 {
            return Err(LimitKind::SessionRate);
        }
        if account.sessions >= self.quota.sessions {
            return Err(LimitKind::Sessions);
        }
        if opening && account.half_open >= self.quota.half_open {
            return Err(LimitKind::HalfOpen);
        }
        Ok(account.used && account.proven > 0 || self.board.has(source))
    }

    /// Counts a session, and says whether in a shared account. Takes a token unless `counted` before.
    pub(crate) fn join(&mut self, now: Time, source: &Source, standing: Standing, counted: bool) -> bool {
        let (rate, number) = (self.quota.session_rate, self.set_number(source));
        let Some(set) = self.sets.get_mut(number) else { return true };
        let place = set.place(source);
        let account = match place {
            Place::Own(way) => &mut set.own[way],
            Place::Free(way) => {
                let account = &mut set.own[way];
                *account =
                    Account { source: *source, used: true, bucket: Bucket::full(rate, now), ..*account };
                account
            }
            Place::Shared => &mut set.shared,
        };
        account.bucket = account.bucket.filled(rate, now);
        if !counted {
            account.bucket.tokens = account.bucket.tokens.saturating_sub(1000);
        }
        account.sessions += 1;
        account.half_open += u32::from(standing.half_open);
        account.proven += u32::from(standing.proven);
        if standing.proven && place != Place::Shared {
            self.board.add(source, 1);
        }
        place == Place::Shared
    }

    /// The account that a session is counted in, and the board.
    fn account_mut(&mut self, source: &Source, shared: bool) -> Option<(&mut Account, &Board)> {
        let number = self.set_number(source);
        let set = self.sets.get_mut(number)?;
        let account = if shared {
            &mut set.shared
        } else {
            set.own.iter_mut().find(|account| account.used && account.source == *source)?
        };
        Some((account, &self.board))
    }

    /// Takes a session off the account it was counted in.
    pub(crate) fn leave(&mut self, source: &Source, shared: bool, standing: Standing) {
        let Some((account, board)) = self.account_mut(source, shared) else { return };
        account.sessions = account.sessions.saturating_sub(1);
        account.half_open = account.half_open.saturating_sub(u32::from(standing.half_open));
        if standing.proven {
            account.unprove((!shared).then_some(board));
        }
    }

    /// A session of the source changed.
    pub(crate) fn change(&mut self, source: &Source, shared: bool, was: Standing, is: Standing) {
        let Some((account, board)) = self.account_mut(source, shared) else { return };
        account.half_open =
            (account.half_open + u32::from(is.half_open)).saturating_sub(u32::from(was.half_open));
        if is.proven && !was.proven {
            account.proven += 1;
            if !shared {
                board.add(source, 1);
            }
        } else if was.proven && !is.proven {
            account.unprove((!shared).then_some(board));
        }
    }

    /// Forgets all sessions, which are then counted again; with `sources`, also who they were of.
    pub(crate) fn clear(&mut self, sources: bool) {
        for account in self.sets.iter().flat_map(|set| &set.own) {
            self.board.remove(&account.source, account.proven);
        }
        for account in self.sets.iter_mut().flat_map(|set| set.own.iter_mut().chain([&mut set.shared])) {
            (account.sessions, account.half_open, account.proven) = (0, 0, 0);
            account.used &= !sources;
        }
    }

    /// The source with the most sessions, and the one with the most half-open ones.
    pub(crate) fn busiest(&self) -> [Busiest; 2] {
        let accounts = || self.sets.iter().flat_map(|set| set.own.iter()).filter(|account| account.used);
        let most = |measure: fn(&Account) -> u32| {
            let account = accounts().max_by_key(|account| measure(account));
            account.map_or_else(Busiest::default, |account| Busiest {
                source: (measure(account) > 0).then_some(account.source),
                now: measure(account),
            })
        };
        [most(|account| account.sessions), most(|account| account.half_open)]
    }

    /// What every account with sessions holds: by its source, or by `None` and its set's number.
    pub(crate) fn holdings(&self) -> impl Iterator<Item = ((Option<Source>, usize), Holding)> + '_ {
        self.sets.iter().enumerate().flat_map(|(number, set)| {
            let own = set.own.iter().filter(|account| account.used);
            let own = own.map(|account| ((Some(account.source), 0), account.holding()));
            own.chain([((None, number), set.shared.holding())]).filter(|(_, holding)| holding.sessions > 0)
        })
    }

    /// Where a session is counted, as [`Self::holdings`] names it.
    pub(crate) fn account_of(&self, source: &Source, shared: bool) -> (Option<Source>, usize) {
        if shared { (None, self.set_number(source)) } else { (Some(*source), 0) }
    }

    /// A table in which many sources share an account.
    #[cfg(test)]
    pub(super) fn tiny(quota: Quota) -> Self {
        Self::with_sets(2, quota, 7, Arc::new(Board::new(7)))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.sets)
    }
}

impl Set {
    fn place(&self, source: &Source) -> Place {
        if let Some(way) = self.own.iter().position(|account| account.used && account.source == *source) {
            return Place::Own(way);
        }
        let idle = self.own.iter().enumerate().filter(|(_, account)| account.sessions == 0);
        let free = idle.min_by_key(|(_, account)| (account.used, account.bucket.filled));
        free.map_or(Place::Shared, |(way, _)| Place::Free(way))
    }
}

#[cfg(test)]
mod tests;
