//! What no single element can tell: rules that span elements, and what is allowed but hardly meant.

use std::collections::HashMap;

use crate::elements::{Authority, InterfaceType};
use crate::fault::Fault;
use crate::generate::Fabric;
use crate::model::takes_members;
use crate::path;

mod fabric;
mod router;
mod service;

/// How many peer paths the neighborhoods of an authority may make.
const MAX_PATHS: u64 = 4_000_000;

/// Checks an authority whose elements are sound each by itself.
///
/// `complete` says that nothing was left out because of a fault: only then is it told what is
/// missing, because else it may be there and merely wrong.
pub(crate) fn check(authority: &Authority, complete: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    memberships(authority, complete, &mut faults);
    for service in &authority.services {
        service::check(service, &mut faults);
    }
    for router in &authority.routers {
        router::check(router, &mut faults);
    }
    let fabric = Fabric::new(authority);
    let expected = fabric.expected_paths();
    if expected > MAX_PATHS {
        let problem = format!("neighborhoods make up to {expected} peer paths, more than {MAX_PATHS}");
        let fix = "make the topology of large neighborhoods hub and spoke instead of mesh";
        faults.push(Fault::error(path::child(path::ROOT, "router"), problem, fix));
        return faults;
    }
    fabric::check(authority, &fabric, complete, &mut faults);
    if complete {
        service::check_usefulness(authority, &mut faults);
    }
    faults
}

/// A prefix makes one tenant only, on interfaces that exist.
fn memberships(authority: &Authority, complete: bool, faults: &mut Vec<Fault>) {
    let mut owners: HashMap<_, &str> = HashMap::new();
    let joined = joined_neighborhoods(authority);
    for tenant in &authority.tenants {
        for member in &tenant.members {
            let neighborhood = member.neighborhood.as_str();
            let path = path::entry(
                &path::named("tenant", &tenant.name),
                "member",
                &[("neighborhood", &neighborhood)],
            );
            for prefix in &member.addresses {
                let path = format!("{path}/address[.='{prefix}']");
                service::host_bits(*prefix, &path, faults);
                let owner = owners.entry((neighborhood, prefix.trunc())).or_insert(&tenant.name);
                if *owner != tenant.name {
                    let problem =
                        format!("belongs to tenant '{owner}' in neighborhood '{neighborhood}' already");
                    let fix = "keep it in one of the two; a longer prefix may belong to another tenant";
                    faults.push(Fault::error(path, problem, fix).with_value(prefix));
                }
            }
            if complete {
                faults.extend(useless_member(&joined, neighborhood, &path));
            }
        }
    }
}

/// The neighborhoods some interface is in, and whether on one of them members count.
fn joined_neighborhoods(authority: &Authority) -> HashMap<&str, bool> {
    let mut joined = HashMap::new();
    for router in &authority.routers {
        for (_, _, interface) in router.network_interfaces() {
            for neighborhood in &interface.neighborhoods {
                let counts = joined.entry(neighborhood.name.as_str()).or_insert(false);
                *counts |= takes_members(interface, &neighborhood.name);
            }
        }
    }
    joined
}

fn useless_member(joined: &HashMap<&str, bool>, neighborhood: &str, path: &str) -> Option<Fault> {
    let (problem, fix) = match joined.get(neighborhood) {
        Some(true) => return None,
        Some(false) => (
            "every interface in this neighborhood is a fabric interface or has a tenant of its own",
            "take the tenant off the interfaces whose sources are told apart by prefix",
        ),
        None => (
            "no interface is in this neighborhood",
            "add the neighborhood to the interfaces of these sources",
        ),
    };
    Some(Fault::warning(path, problem, fix).with_value(format_args!("'{neighborhood}'")))
}

/// The word of the configuration for a kind of interface.
const fn kind_name(kind: InterfaceType) -> &'static str {
    match kind {
        InterfaceType::External => "external",
        InterfaceType::Fabric => "fabric",
        InterfaceType::Shared => "shared",
    }
}
