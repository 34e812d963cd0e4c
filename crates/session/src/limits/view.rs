//! What an operator can see of limits.

use fairway_types::Time;

use super::account::Account;
use super::sources::Busiest;
use super::{Ledger, Limit, LimitKind, LimitScope, peer_ids, tenant_ids};
use crate::budget::Budget;

/// One limit, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// Which.
    pub limit: Limit,
    /// The most there may be, in [`LimitKind::unit`]; `None` when only the router's own limit holds.
    pub most: Option<u32>,
    /// How much there is now; of rates, how many in the last whole second. Of sources, what the
    /// busiest has; unknown for their rate.
    pub now: Option<u32>,
    /// The most there was; unknown for sources.
    pub peak: Option<u32>,
    /// How many were let through.
    pub allowed: u64,
    /// How many packets were refused.
    pub refused: u64,
    /// How many sessions without an answer gave way to new ones.
    pub evicted: u64,
}

impl LimitView {
    /// A rate of the router as a whole.
    pub(crate) fn of_budget(kind: LimitKind, budget: &Budget, now: Time) -> Self {
        let (last, peak) = budget.pace(now);
        Self {
            limit: Limit { scope: LimitScope::Router, kind },
            most: limited(budget.rate()),
            now: Some(last),
            peak: Some(peak),
            allowed: budget.tally.allowed,
            refused: budget.tally.refused,
            evicted: 0,
        }
    }
}

fn limited(most: u32) -> Option<u32> {
    (most != u32::MAX).then_some(most)
}

impl Account {
    fn views(&self, scope: LimitScope, now: Time) -> [LimitView; 3] {
        let gauge = |kind, most, gauge: &super::account::Gauge| LimitView {
            limit: Limit { scope, kind },
            most: limited(most),
            now: Some(gauge.now),
            peak: Some(gauge.peak),
            allowed: gauge.tally.allowed,
            refused: gauge.tally.refused,
            evicted: gauge.tally.evicted,
        };
        let rate = LimitView::of_budget(LimitKind::SessionRate, &self.setups, now);
        [
            gauge(LimitKind::Sessions, self.quota.sessions, &self.sessions),
            gauge(LimitKind::HalfOpen, self.quota.half_open, &self.half_open),
            LimitView { limit: Limit { scope, ..rate.limit }, ..rate },
        ]
    }
}

impl Ledger {
    /// All limits on sessions: the router's, those of each source, of tenants, and of peers.
    pub(crate) fn views(&self, now: Time) -> Vec<LimitView> {
        let mut views = self.router.views(LimitScope::Router, now).to_vec();
        views.extend(self.source_views(now));
        for (id, account) in tenant_ids(self.tenants.len()).zip(&self.tenants) {
            views.extend(account.views(LimitScope::Tenant(id), now));
        }
        views.extend(self.without_tenant.views(LimitScope::WithoutTenant, now));
        for (id, account) in peer_ids(self.peers.len()).zip(&self.peers) {
            views.extend(account.views(LimitScope::Peer(id), now));
        }
        views
    }

    fn source_views(&self, now: Time) -> [LimitView; 3] {
        let [sessions, half_open, rate] = self.each_source.views(LimitScope::Source(None), now);
        let busiest = self.sources.busiest();
        let of = |view: LimitView, busiest: Busiest| {
            let source = busiest.source.map(|source| (source.interface(), source.address()));
            let limit = Limit { scope: LimitScope::Source(source), ..view.limit };
            LimitView { limit, now: Some(busiest.now), peak: None, ..view }
        };
        [of(sessions, busiest[0]), of(half_open, busiest[1]), LimitView { now: None, peak: None, ..rate }]
    }
}
