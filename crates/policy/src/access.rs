//! Access: which line of an access-policy speaks about a source.
//!
//! Lines are sorted by tenant, longest source prefix first, denial before permission. A source is
//! looked up by its tenant, its tenant's parent and so on, at last by no tenant: the first line that
//! holds the source is the most specific one.

use core::net::IpAddr;

use fairway_types::model::{RouterModel, Service};
use fairway_types::{ServiceId, TenantId};
use ipnet::IpNet;

use crate::error::CompileError;
use crate::fib::NONE;

/// A tenant in tables: 0 is "no tenant", and the parent of all tenants without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TenantKey(u32);

impl TenantKey {
    /// No tenant.
    pub(crate) const NONE: Self = Self(0);

    /// The key of a tenant.
    pub(crate) fn of(tenant: Option<TenantId>) -> Self {
        Self(tenant.map_or(0, |tenant| u32::from(tenant.0) + 1))
    }
}

#[derive(Clone, Copy, Debug)]
struct TenantNode {
    parent: TenantKey,
    depth: u32,
}

/// The hierarchy of tenants.
#[derive(Debug)]
pub(crate) struct TenantTree(Vec<TenantNode>);

impl TenantTree {
    /// Builds the tree; parents are valid ids.
    pub(crate) fn build(model: &RouterModel) -> Result<Self, CompileError> {
        let parents: Vec<_> = model.tenants.iter().map(|t| t.parent.map(TenantId::index)).collect();
        let depths = depths(&parents).map_err(|at| cycle(model.tenants.get(at).map(|t| &t.origin)))?;
        let root = TenantNode { parent: TenantKey::NONE, depth: 0 };
        let nodes = model.tenants.iter().zip(depths);
        let nodes = nodes.map(|(t, depth)| TenantNode { parent: TenantKey::of(t.parent), depth: depth + 1 });
        Ok(Self(core::iter::once(root).chain(nodes).collect()))
    }

    /// The key above; `None` at the top.
    #[inline]
    pub(crate) fn above(&self, key: TenantKey) -> Option<TenantKey> {
        if key == TenantKey::NONE {
            return None;
        }
        Some(self.0.get(key.0 as usize).map_or(TenantKey::NONE, |node| node.parent))
    }

    /// How deep a tenant is: 0 is no tenant, 1 a tenant without parent.
    #[inline]
    pub(crate) fn depth(&self, key: TenantKey) -> u32 {
        self.0.get(key.0 as usize).map_or(0, |node| node.depth)
    }
}

/// The depth of every element below its topmost ancestor, or an element that is its own ancestor.
fn depths(parents: &[Option<usize>]) -> Result<Vec<u32>, usize> {
    let mut depths: Vec<Option<u32>> = vec![None; parents.len()];
    let mut path = Vec::new();
    for start in 0..parents.len() {
        let mut at = Some(start);
        let mut depth = 0;
        while let Some(here) = at {
            if let Some(known) = depths.get(here).copied().flatten() {
                depth = known + 1;
                break;
            }
            if path.len() >= parents.len() {
                return Err(here);
            }
            path.push(here);
            at = parents.get(here).copied().flatten();
        }
        while let Some(here) = path.pop() {
            if let Some(slot) = depths.get_mut(here) {
                *slot = Some(depth);
            }
            depth += 1;
        }
    }
    Ok(depths.into_iter().map(Option::unwrap_or_default).collect())
}

fn cycle(origin: Option<&String>) -> CompileError {
    CompileError::Cycle { origin: origin.cloned().unwrap_or_default() }
}

/// What an access-policy says about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The service that holds the line.
    pub(crate) service: ServiceId,
    /// The position of the line in its access-policy.
    pub(crate) index: u32,
    /// Allowed or denied.
    pub(crate) permit: bool,
    /// The depth of the line's tenant.
    pub(crate) depth: u32,
    /// One more than the length of the line's source prefix; 0 without one.
    pub(crate) source_rank: u8,
}

impl Statement {
    /// Orders statements of different services: the greater decides (rule 3).
    fn rank(&self) -> (u32, u8, bool) {
        (self.depth, self.source_rank, !self.permit)
    }

    /// Whether this is more specific than `other`.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Whether neither is more specific.
    pub(crate) fn ties(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    key: TenantKey,
    /// Position in [`AccessTable::sources`], or [`NONE`].
    source: u32,
    /// The position in the access-policy, shifted left by one, and whether it permits.
    index_permit: u32,
}

/// The lines of one service. Aligned so that it is in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Policy {
    start: u32,
    len: u32,
    /// A copy of the line, when there is only one.
    only: Line,
    /// The parent service, or [`NONE`].
    parent: u32,
    /// The position by name, shifted left by one, and whether it is public.
    rank_public: u32,
}

/// The access-policies of all services.
#[derive(Debug)]
pub(crate) struct AccessTable {
    policies: Vec<Policy>,
    lines: Vec<Line>,
    sources: Vec<IpNet>,
}

impl AccessTable {
    /// Builds the table; all ids are valid, and there are less than 2^31 services.
    pub(crate) fn build(model: &RouterModel, tenants: &TenantTree) -> Result<Self, CompileError> {
        let parents: Vec<_> = model.services.iter().map(|s| s.parent.map(ServiceId::index)).collect();
        depths(&parents).map_err(|at| cycle(model.services.get(at).map(|s| &s.origin)))?;
        let count = model.services.iter().map(|service| service.access.len()).sum();
        if count >= NONE as usize / 2 {
            return Err(CompileError::TooMany { what: "access lines", count, limit: NONE as usize / 2 });
        }
        let mut table = Self {
            policies: Vec::with_capacity(model.services.len()),
            lines: Vec::with_capacity(count),
            sources: Vec::new(),
        };
        for (service, rank) in model.services.iter().zip(name_ranks(model)?) {
            table.push(service, rank);
        }
        debug_assert!(tenants.0.len() == model.tenants.len() + 1);
        Ok(table)
    }

    fn push(&mut self, service: &Service, name_rank: u32) {
        let start = self.lines.len();
        let mut order: Vec<_> = service.access.iter().zip(0u32..).collect();
        order.sort_by_key(|(line, index)| {
            let longest_first = u8::MAX - source_rank(line.prefix);
            (TenantKey::of(line.tenant), longest_first, line.permit, *index)
        });
        for (line, index) in order {
            let source = match line.prefix {
                Some(prefix) => {
                    self.sources.push(prefix.trunc());
                    (self.sources.len() - 1) as u32
                }
                None => NONE,
            };
            let index_permit = index << 1 | u32::from(line.permit);
            self.lines.push(Line { key: TenantKey::of(line.tenant), source, index_permit });
        }
        let nothing = Line { key: TenantKey::NONE, source: NONE, index_permit: 0 };
        self.policies.push(Policy {
            start: start as u32,
            len: (self.lines.len() - start) as u32,
            only: self.lines.get(start).copied().unwrap_or(nothing),
            parent: service.parent.map_or(NONE, |parent| parent.0),
            rank_public: name_rank << 1 | u32::from(service.public),
        });
    }

    /// Whether the service is of public scope.
    #[inline]
    pub(crate) fn is_public(&self, service: ServiceId) -> bool {
        self.policies.get(service.index()).is_some_and(|policy| policy.rank_public & 1 == 1)
    }

    /// The position of the service by name.
    #[inline]
    pub(crate) fn name_rank(&self, service: ServiceId) -> u32 {
        self.policies.get(service.index()).map_or(NONE, |policy| policy.rank_public >> 1)
    }

    /// The service and its parents, nearest first.
    pub(crate) fn lineage(&self, service: ServiceId) -> impl Iterator<Item = ServiceId> + '_ {
        core::iter::successors(Some(service), |service| {
            let parent = self.policies.get(service.index())?.parent;
            (parent != NONE).then_some(ServiceId(parent))
        })
    }

    /// The tenants that own and inherited lines of the service name.
    pub(crate) fn tenants_named(&self, service: ServiceId) -> impl Iterator<Item = TenantKey> + '_ {
        let policies = self.lineage(service).filter_map(|service| self.policies.get(service.index()));
        policies.flat_map(|policy| self.lines_of(policy)).map(|line| line.key)
    }

    #[inline]
    fn lines_of<'a>(&'a self, policy: &'a Policy) -> &'a [Line] {
        let start = policy.start as usize;
        match policy.len {
            1 => core::slice::from_ref(&policy.only),
            len => self.lines.get(start..start + len as usize).unwrap_or_default(),
        }
    }

    /// What the access-policy of the service and its parents says about a source (rules 5 to 9).
    #[inline]
    pub(crate) fn statement(
        &self,
        tenants: &TenantTree,
        service: ServiceId,
        tenant: TenantKey,
        source: IpAddr,
    ) -> Option<Statement> {
        let mut at = service;
        loop {
            let policy = self.policies.get(at.index())?;
            if let Some((line, source_rank)) = self.own_line(tenants, policy, tenant, source) {
                return Some(Statement {
                    service: at,
                    index: line.index_permit >> 1,
                    permit: line.index_permit & 1 == 1,
                    depth: tenants.depth(line.key),
                    source_rank,
                });
            }
            if policy.parent == NONE {
                return None;
            }
            at = ServiceId(policy.parent);
        }
    }

    #[inline]
    fn own_line(
        &self,
        tenants: &TenantTree,
        policy: &Policy,
        tenant: TenantKey,
        source: IpAddr,
    ) -> Option<(Line, u8)> {
        let lines = self.lines_of(policy);
        if lines.is_empty() {
            return None;
        }
        let mut key = tenant;
        loop {
            let first = lines.partition_point(|line| line.key < key);
            for line in lines.get(first..)?.iter().take_while(|line| line.key == key) {
                if line.source == NONE {
                    return Some((*line, 0));
                }
                match self.sources.get(line.source as usize) {
                    Some(prefix) if prefix.contains(&source) => {
                        return Some((*line, prefix.prefix_len() + 1));
                    }
                    _ => {}
                }
            }
            key = tenants.above(key)?;
        }
    }
}

/// One more than the length of a source prefix, 0 without one.
pub(crate) fn source_rank(prefix: Option<IpNet>) -> u8 {
    prefix.map_or(0, |prefix| prefix.prefix_len() + 1)
}

/// The position of each service in alphabetical order.
fn name_ranks(model: &RouterModel) -> Result<Vec<u32>, CompileError> {
    let services = &model.services;
    let mut order: Vec<(&str, u32)> = services.iter().map(|s| s.name.as_str()).zip(0..).collect();
    order.sort_unstable();
    let mut ranks = vec![0; services.len()];
    let mut previous = None;
    for (rank, &(name, index)) in (0u32..).zip(&order) {
        if previous.replace(name) == Some(name) {
            let origin = services.get(index as usize).map(|s| s.origin.clone()).unwrap_or_default();
            return Err(CompileError::DuplicateName { origin, kind: "service", name: name.to_owned() });
        }
        if let Some(slot) = ranks.get_mut(index as usize) {
            *slot = rank;
        }
    }
    Ok(ranks)
}
