//! The rules of the crate's documentation, word for word and slowly, against the tables.

use core::cmp::Reverse;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairway_types::model::{Access, RouterModel, Service, Transport};
use fairway_types::{DropReason, PortRange, Protocol, ServiceId, TenantId};
use ipnet::IpNet;
use proptest::prelude::*;

use super::fixture::{access, empty, service, tenant};
use crate::{AccessLine, Decision, FibRow, FibTenant, Snapshot};

fn depth(model: &RouterModel, tenant: Option<TenantId>) -> usize {
    tenant.map_or(0, |tenant| 1 + depth(model, model.tenants[tenant.index()].parent))
}

/// Rule 5.
fn line_holds(model: &RouterModel, line: &Access, tenant: Option<TenantId>, source: IpAddr) -> bool {
    let tenant_holds = match (line.tenant, tenant) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(of_line), Some(tenant)) => model.is_within(tenant, of_line),
    };
    tenant_holds && line.prefix.is_none_or(|prefix| prefix.contains(&source))
}

/// Rules 6, 7 and 8: the greatest decides.
fn specificity(model: &RouterModel, line: &Access) -> (usize, Option<u8>, bool) {
    (depth(model, line.tenant), line.prefix.map(|prefix| prefix.prefix_len()), !line.permit)
}

/// Rule 9.
fn line_of(
    model: &RouterModel,
    service: ServiceId,
    tenant: Option<TenantId>,
    source: IpAddr,
) -> Option<(ServiceId, usize)> {
    let own = &model.services[service.index()].access;
    let holding = (0..own.len()).filter(|&index| line_holds(model, &own[index], tenant, source));
    let best = holding.max_by_key(|&index| (specificity(model, &own[index]), Reverse(index)));
    match (best, model.services[service.index()].parent) {
        (Some(index), _) => Some((service, index)),
        (None, Some(parent)) => line_of(model, parent, tenant, source),
        (None, None) => None,
    }
}

/// The transports of a service as (protocol is exact, number of ports) that hold protocol and port.
fn transports_holding(service: &Service, protocol: Protocol, port: u16) -> Vec<(bool, u32)> {
    if service.transports.is_empty() {
        return vec![(false, 65_536)];
    }
    let of_protocol = service.transports.iter().filter(|transport| transport.protocol == protocol);
    let ranges = of_protocol.flat_map(|transport| match transport.ports.as_slice() {
        [] => vec![PortRange::ALL],
        ports => ports.to_vec(),
    });
    ranges.filter(|ports| ports.contains(port)).map(|ports| (true, ports.count())).collect()
}

fn decide(
    model: &RouterModel,
    (tenant, source): (Option<TenantId>, IpAddr),
    destination: IpAddr,
    (protocol, port): (Protocol, u16),
) -> Decision {
    let mut best: Option<(_, ServiceId)> = None;
    for (index, service) in model.services.iter().enumerate() {
        let id = ServiceId(index as u32);
        let line = line_of(model, id, tenant, source);
        let line = line.map(|(holder, index)| &model.services[holder.index()].access[index]);
        for prefix in service.prefixes.iter().filter(|prefix| prefix.contains(&destination)) {
            for (exact, ports) in transports_holding(service, protocol, port) {
                let spoken = line.map(|line| specificity(model, line));
                let last = Reverse(service.name.clone());
                // Rules 1, 2 and 3, in this order.
                let rank = (prefix.prefix_len(), exact, Reverse(ports), spoken, service.public, last);
                // `public` is asked only when nobody speaks about the source.
                let rank =
                    if spoken.is_some() { (rank.0, rank.1, rank.2, rank.3, false, rank.5) } else { rank };
                if best.as_ref().is_none_or(|(known, _)| rank > *known) {
                    best = Some((rank, id));
                }
            }
        }
    }
    let Some((_, service)) = best else {
        return Decision::Deny { service: None, reason: DropReason::NoService, line: None };
    };
    match line_of(model, service, tenant, source) {
        Some((holder, index)) => {
            let line = AccessLine::Line { service: holder, index: index as u32 };
            if model.services[holder.index()].access[index].permit {
                Decision::Permit { service, line }
            } else {
                Decision::Deny { service: Some(service), reason: DropReason::AccessDenied, line: Some(line) }
            }
        }
        None if model.services[service.index()].public => {
            Decision::Permit { service, line: AccessLine::Public }
        }
        None => {
            let reason = if tenant.is_some() { DropReason::AccessDenied } else { DropReason::NoTenant };
            Decision::Deny { service: Some(service), reason, line: None }
        }
    }
}

/// Whether a row of `show fib` shows an access line.
fn shows(model: &RouterModel, row: &FibRow<'_>, line: AccessLine) -> bool {
    let AccessLine::Line { service, index } = line else { return row.tenant == FibTenant::Public };
    let line = &model.services[service.index()].access[index as usize];
    let tenant = match row.tenant {
        FibTenant::Named(id, _) => Some(id),
        FibTenant::Any => None,
        FibTenant::Public => return false,
    };
    tenant == line.tenant && row.source.map(|p| p.trunc()) == line.prefix.map(|p| p.trunc())
}

const TENANTS: [&str; 7] = ["a", "b", "c.a", "d.a", "e.c.a", "f.e.c.a", "g.b"];

/// Few addresses, so that prefixes, sources and destinations meet.
fn address() -> impl Strategy<Value = IpAddr> + Clone {
    let v4 =
        (0u32..4, 0u32..4).prop_map(|(high, low)| Ipv4Addr::from_bits(0x0a00_0000 | high << 16 | low).into());
    let v6 = (0u128..4).prop_map(|low| Ipv6Addr::from_bits((0x2001_0db8 << 96) | low).into());
    prop_oneof![3 => v4, 1 => v6]
}

fn prefix() -> impl Strategy<Value = IpNet> + Clone {
    let v4 = prop::sample::select(vec![0u8, 8, 14, 15, 16, 30, 31, 32]);
    let v6 = prop::sample::select(vec![0u8, 32, 127, 128]);
    (address(), v4, v6)
        .prop_map(|(address, v4, v6)| IpNet::new(address, if address.is_ipv4() { v4 } else { v6 }).unwrap())
}

fn transport() -> impl Strategy<Value = Transport> {
    let port = || prop::sample::select(vec![0u16, 1, 2, 3, 80, 81, 65_535]);
    let ports = prop::collection::vec((port(), port()), 0..3);
    (prop::sample::select(vec![1u8, 6, 17]), ports).prop_map(|(protocol, ports)| {
        let protocol = Protocol(protocol);
        let ordered = ports.into_iter().map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
        Transport { protocol, ports: if protocol.has_ports() { ordered.collect() } else { Vec::new() } }
    })
}

fn line() -> impl Strategy<Value = Access> {
    let tenant = prop::option::weighted(0.8, 0u16..7);
    let permit = any::<bool>();
    (tenant, prop::option::weighted(0.3, prefix()), permit).prop_map(|(tenant, prefix, permit)| Access {
        tenant: tenant.map(TenantId),
        prefix,
        permit,
        origin: String::new(),
    })
}

/// Services whose parent, if any, is one of those before it.
fn services() -> impl Strategy<Value = Vec<Service>> {
    let service = (
        prop::collection::vec(prefix(), 0..4),
        prop::collection::vec(transport(), 0..3),
        prop::collection::vec(line(), 0..4),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.4, any::<prop::sample::Index>()),
        0u32..1000,
    );
    prop::collection::vec(service, 0..14).prop_map(|services| {
        let mut model = empty();
        for (index, (prefixes, transports, access, public, parent, name)) in services.into_iter().enumerate()
        {
            // Names in another order than ids.
            super::fixture::service(&mut model, &format!("s{name:04}-{index}"), "", "");
            let service = model.services.last_mut().unwrap();
            let parent = parent.filter(|_| index > 0).map(|parent| ServiceId(parent.index(index) as u32));
            *service = Service { prefixes, transports, access, public, parent, ..service.clone() };
        }
        model.services
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn tables_and_text_agree(
        services in services(),
        queries in prop::collection::vec(
            (prop::option::weighted(0.9, 0u16..7), address(), address(), 0usize..4, 0usize..6),
            40,
        ),
    ) {
        let mut model = empty();
        for name in TENANTS {
            tenant(&mut model, name);
        }
        model.services = services;
        let snapshot = Snapshot::compile(model).unwrap();
        for (tenant, source, destination, protocol, port) in queries {
            let tenant = tenant.map(TenantId);
            let protocol = [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::GRE][protocol];
            let port = [0, 1, 2, 80, 81, 65_535][port];
            let expected = decide(snapshot.model(), (tenant, source), destination, (protocol, port));
            let found = snapshot.decide(tenant, source, destination, protocol, port);
            prop_assert_eq!(found, expected, "{:?} {} {} {} {}", tenant, source, destination, protocol, port);
            let explanation = snapshot.explain(tenant, source, destination, protocol, port);
            prop_assert_eq!(explanation.matched.map(|row| row.service), expected.service());
            let line = match found {
                Decision::Permit { line, .. } => line,
                Decision::Deny { line: Some(line), .. } => line,
                Decision::Deny { .. } => continue,
            };
            let shown = snapshot.fib_rows().any(|row| {
                Some(row.service) == found.service()
                    && row.prefix.contains(&destination)
                    && row.protocol.is_none_or(|own| own == protocol)
                    && row.ports.contains(port)
                    && row.permit == found.is_permit()
                    && shows(snapshot.model(), &row, line)
            });
            prop_assert!(shown, "{:?} is not among the rows shown", found);
        }
    }
}

#[test]
fn the_reference_itself_denies_and_permits() {
    let mut model = empty();
    let corp = tenant(&mut model, "corp");
    service(&mut model, "web", "10.0.0.0/8", "tcp:80");
    access(&mut model, "+corp");
    let (source, destination) = ("1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
    assert!(decide(&model, (Some(corp), source), destination, (Protocol::TCP, 80)).is_permit());
    assert!(!decide(&model, (None, source), destination, (Protocol::TCP, 80)).is_permit());
    assert!(!decide(&model, (Some(corp), source), destination, (Protocol::UDP, 80)).is_permit());
}
