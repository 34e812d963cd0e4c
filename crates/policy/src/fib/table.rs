//! The table itself: prefixes, at each of them the transports, at each of those the services.

use core::net::IpAddr;
use core::ops::Range;

use fairway_types::model::{RouterModel, Service};
use fairway_types::{PortRange, Protocol, ServiceId};
use ipnet::IpNet;

use super::groups::{GroupBuilder, Groups};
use super::ports::{Claim, cut};
use super::ranges::{Lpm, NONE};
use crate::access::{AccessTable, Statement, TenantKey, TenantTree};
use crate::error::CompileError;

/// The most rows.
const ROW_LIMIT: usize = 1 << 28;
/// Marks a target that is a group of services.
const GROUP: u32 = 1 << 31;
/// Stands for every protocol in [`Row::protocol`]; sorts after all of them.
const EVERY_PROTOCOL: u16 = 256;

/// One prefix and transport of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    protocol: u16,
    pub(crate) ports: PortRange,
    pub(crate) service: ServiceId,
}

impl Row {
    /// The protocol; `None` means every protocol.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        u8::try_from(self.protocol).ok().map(Protocol)
    }

    /// Whether the row holds the protocol and port.
    pub(crate) fn holds(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol().is_none_or(|own| own == protocol) && self.ports.contains(port)
    }

    /// How specific the transport is: less is more specific (rule 2).
    pub(crate) fn breadth(&self) -> (bool, u32) {
        (self.protocol == EVERY_PROTOCOL, self.ports.count())
    }
}

/// A range of ports of a protocol at one prefix.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The protocol above 16 bits of port, as is `last`.
    first: u32,
    last: u32,
    target: u32,
}

/// What is at one prefix. Aligned so that it is in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Scope {
    /// The next shorter prefix that holds this one, or [`NONE`].
    parent: u32,
    /// The target of services without transports, or [`NONE`].
    every: u32,
    start: u32,
    len: u32,
    /// A copy of the entry, when there is only one.
    only: Entry,
}

/// The prefix of a scope and its rows; not needed to decide.
#[derive(Clone, Debug)]
pub(crate) struct ScopeRows {
    pub(crate) prefix: IpNet,
    rows: Range<u32>,
    parent: u32,
}

/// The service that decides about a packet, the scope it was found at, and what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) scope: u32,
    pub(crate) service: ServiceId,
    pub(crate) statement: Option<Statement>,
}

/// The forwarding information base.
#[derive(Debug)]
pub(crate) struct Fib {
    lpm: Lpm,
    scopes: Vec<Scope>,
    entries: Vec<Entry>,
    groups: Groups,
    scope_rows: Vec<ScopeRows>,
    rows: Vec<Row>,
}

impl Fib {
    /// Builds the table; all ids are valid, and there are less than 2^31 services.
    pub(crate) fn build(model: &RouterModel, access: &AccessTable) -> Result<Self, CompileError> {
        let mut sorted = Vec::new();
        for (service, id) in model.services.iter().zip(0u32..) {
            let name_rank = access.name_rank(ServiceId(id));
            for row in rows_of(service, ServiceId(id))? {
                sorted.extend(service.prefixes.iter().map(|prefix| (prefix.trunc(), name_rank, row)));
            }
        }
        if sorted.len() > ROW_LIMIT {
            return Err(CompileError::TooMany { what: "FIB rows", count: sorted.len(), limit: ROW_LIMIT });
        }
        sorted.sort_unstable_by_key(|(prefix, name, row)| (*prefix, row.protocol, row.ports, *name));
        sorted.dedup();
        let mut scope_rows: Vec<ScopeRows> = Vec::new();
        let mut end = 0u32;
        for chunk in sorted.chunk_by(|one, two| one.0 == two.0) {
            let Some(&(prefix, ..)) = chunk.first() else { continue };
            let rows = end..end + chunk.len() as u32;
            end = rows.end;
            scope_rows.push(ScopeRows { prefix, rows, parent: NONE });
        }
        let rows = sorted.into_iter().map(|(_, _, row)| row).collect();
        Self::index(scope_rows, rows, access)
    }

    /// Makes what decisions need out of the sorted rows.
    fn index(
        mut scope_rows: Vec<ScopeRows>,
        rows: Vec<Row>,
        access: &AccessTable,
    ) -> Result<Self, CompileError> {
        let (lpm, parents) = Lpm::build(scope_rows.iter().map(|scope| scope.prefix).zip(0..));
        let mut groups = GroupBuilder::new(access);
        let mut scopes = Vec::with_capacity(scope_rows.len());
        let mut entries = Vec::with_capacity(rows.len());
        let mut claims = Vec::new();
        for (scope, parent) in scope_rows.iter_mut().zip(parents) {
            scope.parent = parent;
            let start = entries.len();
            let mut every = NONE;
            let own = rows.get(scope.rows.start as usize..scope.rows.end as usize).unwrap_or_default();
            for chunk in own.chunk_by(|one, two| one.protocol == two.protocol) {
                let Some(protocol) = chunk.first().map(|row| row.protocol) else { continue };
                claims.clear();
                claims.extend(chunk.iter().map(|row| Claim { ports: row.ports, service: row.service.0 }));
                cut(&claims, |cut| {
                    let target = target(&mut groups, cut.services)?;
                    if protocol == EVERY_PROTOCOL {
                        every = target;
                    } else {
                        let (first, last) = (key(protocol, cut.first), key(protocol, cut.last));
                        push_entry(&mut entries, start, Entry { first, last, target });
                    }
                    Ok::<(), CompileError>(())
                })?;
            }
            let len = (entries.len() - start) as u32;
            let only = entries.get(start).copied().unwrap_or(Entry { first: 0, last: 0, target: NONE });
            scopes.push(Scope { parent, every, start: start as u32, len, only });
        }
        let groups = groups.finish();
        Ok(Self { lpm, scopes, entries, groups, scope_rows, rows })
    }

    /// Who decides about a packet (rules 1 to 3).
    #[inline]
    pub(crate) fn find(
        &self,
        access: &AccessTable,
        tenants: &TenantTree,
        (tenant, source): (TenantKey, IpAddr),
        destination: IpAddr,
        (protocol, port): (Protocol, u16),
    ) -> Option<Hit> {
        let wanted = key(u16::from(protocol.0), port);
        let mut at = self.lpm.lookup(destination);
        loop {
            let scope = self.scopes.get(at as usize)?;
            let target = self.target_at(scope, wanted);
            if target != NONE {
                let (service, statement) = if target & GROUP == 0 {
                    let service = ServiceId(target);
                    (service, access.statement(tenants, service, tenant, source))
                } else {
                    self.groups.decide(target & !GROUP, access, tenants, tenant, source)?
                };
                return Some(Hit { scope: at, service, statement });
            }
            at = scope.parent;
        }
    }

    #[inline]
    fn target_at(&self, scope: &Scope, wanted: u32) -> u32 {
        let start = scope.start as usize;
        let entries = match scope.len {
            1 => core::slice::from_ref(&scope.only),
            len => self.entries.get(start..start + len as usize).unwrap_or_default(),
        };
        let next = entries.partition_point(|entry| entry.first <= wanted);
        match next.checked_sub(1).and_then(|last| entries.get(last)) {
            Some(entry) if wanted <= entry.last => entry.target,
            _ => scope.every,
        }
    }

    /// The scopes that hold an address, longest prefix first.
    pub(crate) fn scopes_around(&self, address: IpAddr) -> impl Iterator<Item = (u32, &ScopeRows)> + '_ {
        let get = |at: u32| self.scope_rows.get(at as usize).map(|scope| (at, scope));
        core::iter::successors(get(self.lpm.lookup(address)), move |(_, scope)| get(scope.parent))
    }

    /// All scopes, by prefix.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &ScopeRows> + '_ {
        self.scope_rows.iter()
    }

    /// The rows of a scope, by protocol, ports, and name of the service.
    pub(crate) fn rows(&self, scope: &ScopeRows) -> &[Row] {
        self.rows.get(scope.rows.start as usize..scope.rows.end as usize).unwrap_or_default()
    }
}

/// The transports of a service.
fn rows_of(service: &Service, id: ServiceId) -> Result<Vec<Row>, CompileError> {
    if service.transports.is_empty() {
        return Ok(vec![Row { protocol: EVERY_PROTOCOL, ports: PortRange::ALL, service: id }]);
    }
    let mut rows = Vec::with_capacity(service.transports.len());
    for transport in &service.transports {
        let protocol = u16::from(transport.protocol.0);
        if transport.ports.is_empty() {
            rows.push(Row { protocol, ports: PortRange::ALL, service: id });
        } else if !transport.protocol.has_ports() {
            let origin = service.origin.clone();
            return Err(CompileError::PortsWithoutProtocol { origin, protocol: transport.protocol.0 });
        }
        rows.extend(transport.ports.iter().map(|&ports| Row { protocol, ports, service: id }));
    }
    Ok(rows)
}

fn target(groups: &mut GroupBuilder<'_>, mut services: Vec<u32>) -> Result<u32, CompileError> {
    services.sort_unstable();
    services.dedup();
    match services.as_slice() {
        [] => Ok(NONE),
        [only] => Ok(*only),
        _ => Ok(groups.intern(services)? | GROUP),
    }
}

/// Adds an entry to a scope that starts at `start`, as part of the last one if it continues it.
fn push_entry(entries: &mut Vec<Entry>, start: usize, entry: Entry) {
    if entries.len() > start
        && let Some(last) = entries.last_mut()
        && last.target == entry.target
        && last.last + 1 == entry.first
    {
        last.last = entry.last;
        return;
    }
    entries.push(entry);
}

fn key(protocol: u16, port: u16) -> u32 {
    u32::from(protocol) << 16 | u32::from(port)
}
