//! Rules for services.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::elements::{AccessPolicy, Authority, Scope, Service, Transport};
use crate::fault::Fault;
use crate::names::{self, parent};
use crate::path;

/// Checks one service by itself.
pub(super) fn check(service: &Service, faults: &mut Vec<Fault>) {
    let path = path::named("service", &service.name);
    for prefix in &service.addresses {
        host_bits(*prefix, &format!("{path}/address[.='{prefix}']"), faults);
    }
    for transport in &service.transports {
        check_transport(transport, &path, faults);
    }
    let mut seen = HashSet::new();
    for line in &service.access_policy {
        check_access(line, &path, &mut seen, faults);
    }
}

/// Warns of bits behind the length of a prefix.
pub(super) fn host_bits(prefix: IpNet, path: &str, faults: &mut Vec<Fault>) {
    if prefix.addr() != prefix.network() {
        let problem = format!("has bits set behind its length, and is taken as {}", prefix.trunc());
        let fix = format!("write {}, or /{} for this one address", prefix.trunc(), prefix.max_prefix_len());
        faults.push(Fault::warning(path, problem, fix).with_value(prefix));
    }
}

fn check_transport(transport: &Transport, service: &str, faults: &mut Vec<Fault>) {
    let name = match &transport.protocol {
        crate::elements::Protocol::Name(name) => name.clone(),
        crate::elements::Protocol::Number(number) => number.to_string(),
    };
    let path = path::entry(service, "transport", &[("protocol", &name)]);
    let has_ports = transport.protocol.protocol().is_some_and(fairway_types::Protocol::has_ports);
    if !has_ports && !transport.port_ranges.is_empty() {
        let problem = format!("{name} has no ports that a service could name");
        faults.push(Fault::error(path::child(&path, "port-range"), problem, "take the port ranges out"));
        return;
    }
    let mut ranges = Vec::with_capacity(transport.port_ranges.len());
    for range in &transport.port_ranges {
        match range.range() {
            Some(range) => ranges.push(range),
            None => {
                faults.push(reversed(&path::entry(&path, "port-range", &[("start-port", &range.start_port)])))
            }
        }
    }
    ranges.sort_unstable();
    for (lower, upper) in ranges.iter().zip(ranges.iter().skip(1)) {
        if upper.first() <= lower.last() {
            let path = path::entry(&path, "port-range", &[("start-port", &upper.first())]);
            let fault = Fault::warning(path, format!("overlaps {lower}"), "join the two ranges into one");
            faults.push(fault.with_value(upper));
        }
    }
}

/// A range whose end is before its start.
pub(super) fn reversed(range: &str) -> Fault {
    Fault::error(
        path::child(range, "end-port"),
        "is below start-port",
        "swap the two, or mend the one that is wrong",
    )
}

fn check_access(
    line: &AccessPolicy,
    service: &str,
    seen: &mut HashSet<(Option<String>, Option<IpNet>)>,
    faults: &mut Vec<Fault>,
) {
    let path = path::entry(service, "access-policy", &[("source", &line.source)]);
    let Some(source) = names::source(&line.source) else { return };
    if let Some(prefix) = source.prefix {
        host_bits(prefix, &path, faults);
    }
    if !seen.insert((source.tenant.map(str::to_owned), source.prefix.map(|prefix| prefix.trunc()))) {
        let fault = Fault::error(path, "means the same source as another line", "keep one of the two lines");
        faults.push(fault.with_value(format_args!("'{}'", line.source)));
    }
}

/// Warns of services that nobody can reach.
pub(super) fn check_usefulness(authority: &Authority, faults: &mut Vec<Fault>) {
    let routed: HashSet<&str> = authority
        .routers
        .iter()
        .flat_map(|router| &router.service_routes)
        .map(|route| route.service_name.as_str())
        .collect();
    let parents: HashSet<&str> =
        authority.services.iter().filter_map(|service| parent(&service.name)).collect();
    let by_name: std::collections::HashMap<&str, &Service> =
        authority.services.iter().map(|service| (service.name.as_str(), service)).collect();
    for service in &authority.services {
        let path = path::named("service", &service.name);
        let line = || {
            core::iter::successors(Some(service), |current| {
                parent(&current.name).and_then(|parent| by_name.get(parent).copied())
            })
        };
        if line().all(|ancestor| ancestor.addresses.is_empty()) {
            if !parents.contains(service.name.as_str()) {
                let fix = "add an address, such as \"192.0.2.0/24\"";
                faults.push(Fault::warning(
                    path::child(&path, "address"),
                    "missing: nothing matches the service",
                    fix,
                ));
            }
            continue;
        }
        if !routed.contains(service.name.as_str()) {
            let fix = "add a service-route with local or next-hop to the router where its servers are";
            faults.push(Fault::warning(&path, "no router has a service-route for it", fix));
        }
        if service.scope == Scope::Private && line().all(|ancestor| ancestor.access_policy.is_empty()) {
            let fix = "add an access-policy, or make its scope public";
            faults.push(Fault::warning(
                path::child(&path, "access-policy"),
                "missing: nobody may reach it",
                fix,
            ));
        }
    }
}
