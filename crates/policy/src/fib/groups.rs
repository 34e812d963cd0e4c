//! Services with the same prefix and an equally specific transport: the source tells them apart
//! (rule 3).

use core::net::IpAddr;

use fairway_types::ServiceId;
use hashbrown::HashMap;

use crate::access::{AccessTable, Statement, TenantKey, TenantTree};
use crate::error::CompileError;

/// The most members and tenants that all groups together may hold.
const LIMIT: usize = 1 << 25;

#[derive(Clone, Copy, Debug)]
struct Group {
    /// Where the pairs of tenant and service begin.
    start: u32,
    len: u32,
    /// Who decides when no access-policy speaks about the source.
    silent: u32,
}

/// All groups. Equal ones are held once.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    /// Per group: the tenants that access-policies name, each with the service that names it.
    named: Vec<(TenantKey, u32)>,
}

/// Groups while they are made.
pub(super) struct GroupBuilder<'a> {
    access: &'a AccessTable,
    groups: Groups,
    known: HashMap<Vec<u32>, u32, foldhash::fast::FixedState>,
    members: usize,
}

impl<'a> GroupBuilder<'a> {
    pub(super) fn new(access: &'a AccessTable) -> Self {
        let known = HashMap::with_hasher(foldhash::fast::FixedState::default());
        Self { access, groups: Groups::default(), known, members: 0 }
    }

    /// The group of these services, each once.
    pub(super) fn intern(&mut self, mut services: Vec<u32>) -> Result<u32, CompileError> {
        services.sort_unstable_by_key(|&service| self.access.name_rank(ServiceId(service)));
        self.check(services.len(), "services of equal prefix and overlapping ports")?;
        if let Some(&group) = self.known.get(&services) {
            return Ok(group);
        }
        let mut named = Vec::new();
        for &service in &services {
            named.extend(self.access.tenants_named(ServiceId(service)).map(|key| (key, service)));
            self.check(named.len(), "tenants of services of equal prefix and ports")?;
        }
        named.sort_unstable();
        named.dedup();
        let public = services.iter().find(|&&service| self.access.is_public(ServiceId(service)));
        let silent = public.or(services.first()).copied().unwrap_or_default();
        let index = self.groups.groups.len() as u32;
        let start = self.groups.named.len() as u32;
        self.groups.groups.push(Group { start, len: named.len() as u32, silent });
        self.groups.named.append(&mut named);
        self.members += services.len();
        self.known.insert(services, index);
        Ok(index)
    }

    fn check(&self, more: usize, what: &'static str) -> Result<(), CompileError> {
        let count = self.members + self.groups.named.len() + more;
        if count > LIMIT { Err(CompileError::TooMany { what, count, limit: LIMIT }) } else { Ok(()) }
    }

    pub(super) fn finish(self) -> Groups {
        self.groups
    }
}

impl Groups {
    /// Who of a group decides about a source, and what its access-policy says.
    pub(super) fn decide(
        &self,
        group: u32,
        access: &AccessTable,
        tenants: &TenantTree,
        tenant: TenantKey,
        source: IpAddr,
    ) -> Option<(ServiceId, Option<Statement>)> {
        let group = self.groups.get(group as usize)?;
        let start = group.start as usize;
        let named = self.named.get(start..start + group.len as usize)?;
        let mut best: Option<(ServiceId, Statement)> = None;
        let mut key = Some(tenant);
        while let Some(at) = key {
            // A service that names none of the deeper tenants cannot say more than this one's depth.
            if best.is_some_and(|(_, statement)| statement.depth > tenants.depth(at)) {
                break;
            }
            let first = named.partition_point(|(key, _)| *key < at);
            for &(_, service) in named.iter().skip(first).take_while(|(key, _)| *key == at) {
                let service = ServiceId(service);
                let Some(statement) = access.statement(tenants, service, tenant, source) else { continue };
                let better = best.is_none_or(|(other, known)| {
                    statement.beats(&known)
                        || statement.ties(&known) && access.name_rank(service) < access.name_rank(other)
                });
                if better {
                    best = Some((service, statement));
                }
            }
            key = tenants.above(at);
        }
        Some(match best {
            Some((service, statement)) => (service, Some(statement)),
            None => (ServiceId(group.silent), None),
        })
    }
}
