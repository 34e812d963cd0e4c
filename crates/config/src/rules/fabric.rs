//! Rules for what joins routers: neighborhoods, peers, paths.

use core::net::IpAddr;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::elements::{Authority, InterfaceType, NetworkInterface, Router};
use crate::fault::Fault;
use crate::generate::{Attachment, Fabric, PathSpec, makes_peers};
use crate::model::interface_path;
use crate::path;

/// Checks the whole authority. What is missing is told only of a `complete` one.
pub(super) fn check(authority: &Authority, fabric: &Fabric, complete: bool, faults: &mut Vec<Fault>) {
    for (name, attachments) in &fabric.neighborhoods {
        check_addresses(fabric, name, attachments, faults);
    }
    if !complete {
        return;
    }
    let members: HashSet<&str> = authority
        .tenants
        .iter()
        .flat_map(|tenant| &tenant.members)
        .map(|member| member.neighborhood.as_str())
        .collect();
    for (position, router) in fabric.routers.iter().enumerate() {
        let paths = fabric.paths_of(position);
        let peers: BTreeSet<usize> = paths.iter().map(|path| path.peer).collect();
        check_route_peers(fabric, router, &peers, faults);
        check_adjacencies(fabric, router, &paths, faults);
        check_peers(fabric, router, &peers, faults);
        check_interfaces(fabric, router, &paths, &members, faults);
        if peers.is_empty() && fabric.routers.len() > 1 {
            let fix = "put one of its fabric interfaces into a neighborhood with another router";
            faults.push(Fault::warning(path::router(&router.name), "has no path to any other router", fix));
        }
    }
}

/// No two interfaces of a neighborhood have the same address.
fn check_addresses(fabric: &Fabric, name: &str, attachments: &[Attachment], faults: &mut Vec<Fault>) {
    let mut owners: HashMap<IpAddr, &Attachment> = HashMap::new();
    for attachment in attachments {
        for address in &attachment.interface.addresses {
            let ip = address.ip_address;
            let Some(other) = owners.insert(ip, attachment).filter(|other| other.router != attachment.router)
            else {
                continue;
            };
            let (Some(router), Some(owner)) =
                (fabric.routers.get(attachment.router), fabric.routers.get(other.router))
            else {
                continue;
            };
            let Some(interface) = path_of(router, attachment.interface) else { continue };
            let path = path::entry(&interface, "address", &[("ip-address", &ip)]);
            let problem = format!(
                "is the address of router '{}' interface '{}' too, in the same neighborhood '{name}'",
                owner.name, other.interface.name
            );
            let fix = "give each router its own address, or put the interfaces into different neighborhoods";
            faults.push(Fault::error(path, problem, fix).with_value(ip));
        }
    }
}

fn path_of(router: &Router, interface: &NetworkInterface) -> Option<String> {
    let (node, device, _) = router.network_interfaces().find(|(_, _, found)| found.name == interface.name)?;
    Some(interface_path(&router.name, &node.name, &device.name, &interface.name))
}

/// Service-routes lead to routers that are peers.
fn check_route_peers(fabric: &Fabric, router: &Router, peers: &BTreeSet<usize>, faults: &mut Vec<Fault>) {
    for route in &router.service_routes {
        let Some(peer) = &route.peer else { continue };
        if *peer == router.name || fabric.position(peer).is_some_and(|position| peers.contains(&position)) {
            continue;
        }
        let path = path::entry(&path::router(&router.name), "service-route", &[("name", &route.name)]);
        let problem = format!(
            "cannot be reached: '{}' has no neighborhood in common with it and no adjacency",
            router.name
        );
        let known: Vec<&str> = peers
            .iter()
            .filter_map(|&peer| fabric.routers.get(peer))
            .map(|peer| peer.name.as_str())
            .take(8)
            .collect();
        let fix = if known.is_empty() {
            "put interfaces of both routers into one neighborhood".to_owned()
        } else {
            format!(
                "put interfaces of both into one neighborhood, or name one of its peers: {}",
                known.join(", ")
            )
        };
        faults.push(
            Fault::error(path::child(&path, "peer"), problem, fix).with_value(format_args!("'{peer}'")),
        );
    }
}

/// What a router has to offer to those who lead to it.
struct Offer {
    addresses: HashSet<IpAddr>,
    /// Remote and local waypoint of its paths.
    paths: HashSet<(IpAddr, Option<IpAddr>)>,
}

impl Offer {
    fn of(fabric: &Fabric, position: usize) -> Self {
        let interfaces =
            fabric.routers.get(position).into_iter().flat_map(|router| router.network_interfaces());
        let addresses = interfaces.flat_map(|(_, _, interface)| &interface.addresses);
        Self {
            addresses: addresses.map(|address| address.ip_address).collect(),
            paths: fabric.paths_of(position).iter().map(|path| (path.remote, path.local)).collect(),
        }
    }
}

/// Configured adjacencies lead to an address that the peer has, and the peer leads back.
fn check_adjacencies(fabric: &Fabric, router: &Router, paths: &[PathSpec], faults: &mut Vec<Fault>) {
    let mut offers: HashMap<usize, Offer> = HashMap::new();
    for spec in paths.iter().filter(|spec| spec.made_by.is_none()) {
        let Some(peer) = fabric.routers.get(spec.peer).filter(|peer| peer.name != router.name) else {
            continue;
        };
        let offer = offers.entry(spec.peer).or_insert_with(|| Offer::of(fabric, spec.peer));
        let owned = offer.addresses.contains(&spec.remote);
        let leads_back = spec.local.is_some_and(|local| offer.paths.contains(&(local, Some(spec.remote))));
        if owned && leads_back {
            continue;
        }
        let Some(interface) = path_of(router, spec.interface) else { continue };
        let path =
            path::entry(&interface, "adjacency", &[("peer", &peer.name), ("ip-address", &spec.remote)]);
        faults.push(if owned {
            let problem = format!("router '{}' has no adjacency back from there", peer.name);
            let fix = "add the adjacency there too, or put both interfaces into one neighborhood";
            Fault::warning(path, problem, fix)
        } else {
            let problem = format!("no interface of router '{}' has this address", peer.name);
            let fix = "mend the address; leave it if a NAT stands before the peer";
            Fault::warning(path::child(&path, "ip-address"), problem, fix).with_value(spec.remote)
        });
    }
}

/// Configured peers are reached by some path.
fn check_peers(fabric: &Fabric, router: &Router, peers: &BTreeSet<usize>, faults: &mut Vec<Fault>) {
    for peer in &router.peers {
        if fabric.position(&peer.name).is_none_or(|position| !peers.contains(&position)) {
            let path = path::entry(&path::router(&router.name), "peer", &[("name", &peer.name)]);
            let fix = "put interfaces of both routers into one neighborhood, or add an adjacency";
            faults.push(Fault::warning(path, "no path leads to this peer", fix));
        }
    }
}

/// Interfaces do what their type and their neighborhoods promise.
fn check_interfaces(
    fabric: &Fabric,
    router: &Router,
    paths: &[PathSpec],
    members: &HashSet<&str>,
    faults: &mut Vec<Fault>,
) {
    let used: HashSet<&str> = paths.iter().map(|path| path.interface.name.as_str()).collect();
    for (node, device, interface) in router.network_interfaces() {
        let path = interface_path(&router.name, &node.name, &device.name, &interface.name);
        if interface.kind == InterfaceType::Fabric && !used.contains(interface.name.as_str()) {
            faults.push(Fault::warning(
                &path,
                "is a fabric interface without peers",
                lonely_fix(fabric, interface),
            ));
        }
        if makes_peers(interface) {
            continue;
        }
        for neighborhood in interface.neighborhoods.iter().filter(|own| !members.contains(own.name.as_str()))
        {
            let path = path::entry(&path, "neighborhood", &[("name", &neighborhood.name)]);
            let problem = "has no effect: the interface is external, and no tenant has members in it";
            faults.push(Fault::warning(
                path,
                problem,
                "make the type of the interface fabric or shared, or take it out",
            ));
        }
    }
}

fn lonely_fix(fabric: &Fabric, interface: &NetworkInterface) -> String {
    let Some(first) = interface.neighborhoods.first() else {
        return "put it into a neighborhood, or add an adjacency".to_owned();
    };
    let others = fabric.neighborhoods.get(first.name.as_str()).map_or(0, Vec::len);
    if others > 1 {
        "give it an address of the family the others in its neighborhood have, and a topology that pairs with theirs: \
         hub with spoke, or mesh with mesh"
            .to_owned()
    } else {
        format!("no other interface is in neighborhood '{}': check the name on the other routers", first.name)
    }
}
