//! The rows of `show fib`, made one by one so that a large table costs no memory.

use fairway_types::ServiceId;
use fairway_types::model::{Access, RouterModel};

use super::table::{Row, ScopeRows};
use super::{FibRow, FibTenant};
use crate::access::{AccessTable, TenantKey, TenantTree, source_rank};
use crate::decision::Candidate;

/// The lines that can decide about a session of the service, in the order in which they are asked:
/// its own before its parent's, and without those that an earlier line always precedes.
fn lines_asked<'a>(
    model: &'a RouterModel,
    access: &AccessTable,
    tenants: &TenantTree,
    service: ServiceId,
) -> Vec<&'a Access> {
    let mut asked: Vec<&Access> = Vec::new();
    for holder in access.lineage(service).filter_map(|id| model.services.get(id.index())) {
        let mut own: Vec<&Access> = holder.access.iter().collect();
        own.sort_by_key(|line| {
            let key = TenantKey::of(line.tenant);
            let name = line.tenant.and_then(|tenant| model.tenants.get(tenant.index())).map(|t| &t.name);
            let deepest = u32::MAX - tenants.depth(key);
            (deepest, name, u8::MAX - source_rank(line.prefix), line.prefix.map(|p| p.trunc()), line.permit)
        });
        let inherited = asked.len();
        for line in own {
            let same = |other: &&Access| other.tenant == line.tenant && precedes(other, line);
            let hidden = asked.get(inherited..).unwrap_or_default().iter().any(same);
            let overruled = asked.get(..inherited).unwrap_or_default();
            let overruled = overruled.iter().any(|other| covers(model, other, line));
            if !hidden && !overruled {
                asked.push(line);
            }
        }
    }
    asked
}

/// Whether `first`, a line of the same access-policy and tenant, decides wherever `line` could.
fn precedes(first: &Access, line: &Access) -> bool {
    first.prefix.map(|prefix| prefix.trunc()) == line.prefix.map(|prefix| prefix.trunc())
}

/// Whether `first`, a line of a child service, holds for every source that `line` holds for.
fn covers(model: &RouterModel, first: &Access, line: &Access) -> bool {
    let tenant = match (first.tenant, line.tenant) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(first), Some(line)) => model.is_within(line, first),
    };
    tenant
        && match (first.prefix, line.prefix) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(first), Some(line)) => first.contains(&line.trunc()),
        }
}

/// The rows of one service at one prefix and transport.
pub(crate) fn rows_of<'a>(
    model: &'a RouterModel,
    access: &AccessTable,
    tenants: &TenantTree,
    (scope, row): (&ScopeRows, &Row),
    route: Option<Candidate>,
) -> Vec<FibRow<'a>> {
    let Some(service) = model.services.get(row.service.index()) else { return Vec::new() };
    let shown = |tenant, source, permit| FibRow {
        prefix: scope.prefix,
        protocol: row.protocol(),
        ports: row.ports,
        tenant,
        source,
        service: row.service,
        service_name: &service.name,
        permit,
        route,
    };
    let lines = lines_asked(model, access, tenants, row.service);
    let named = |line: &Access| match line.tenant.and_then(|id| Some((id, model.tenants.get(id.index())?))) {
        Some((id, tenant)) => FibTenant::Named(id, &tenant.name),
        None => FibTenant::Any,
    };
    let mut rows: Vec<_> = lines.iter().map(|line| shown(named(line), line.prefix, line.permit)).collect();
    if !lines.iter().any(|line| line.tenant.is_none() && line.prefix.is_none()) {
        if access.is_public(row.service) {
            rows.push(shown(FibTenant::Public, None, true));
        } else if rows.is_empty() {
            rows.push(shown(FibTenant::Any, None, false));
        }
    }
    rows
}
