//! Service-routes follow from where services leave the fabric.
//!
//! A router with an own `local` or `next-hop` service-route of a service is an egress of it. Every
//! other router gets a service-route to each peer that is strictly nearer to an egress than itself.
//! Distance falls at every hop, so sessions cannot loop, and a router with several such peers has
//! somewhere to go when the best one is down.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::elements::{Authority, ServiceRoute};
use crate::generate::Fabric;
use crate::graph::{Graph, Reached};
use crate::path;

/// The egress routers of every service: position, with the cost and the name of the service-route.
pub(crate) struct Egresses<'a>(HashMap<&'a str, BTreeMap<usize, (u32, &'a str)>>);

impl<'a> Egresses<'a> {
    pub(crate) fn new(authority: &'a Authority, fabric: &Fabric) -> Self {
        let mut egresses: HashMap<&str, BTreeMap<usize, (u32, &str)>> = HashMap::new();
        for router in &authority.routers {
            let Some(position) = fabric.position(&router.name) else { continue };
            for route in router.service_routes.iter().filter(|route| route.leaves_here() && !route.generated)
            {
                let line = (route.cost, route.name.as_str());
                let best = egresses.entry(&route.service_name).or_default().entry(position).or_insert(line);
                *best = line.min(*best);
            }
        }
        Self(egresses)
    }

    /// The egresses of a service; empty when no router has one.
    pub(crate) fn of(&self, service: &str) -> Option<&BTreeMap<usize, (u32, &'a str)>> {
        self.0.get(service)
    }
}

impl ServiceRoute {
    /// Whether sessions leave the fabric here.
    #[must_use]
    pub const fn leaves_here(&self) -> bool {
        self.local.is_some() || self.next_hop.is_some()
    }
}

/// A peer that is nearer to an egress.
#[derive(Clone, Copy)]
struct Downstream {
    peer: usize,
    reached: Reached,
}

/// The service-routes that one router is to be given.
pub(crate) fn generate(
    authority: &Authority,
    fabric: &Fabric,
    graph: &Graph,
    egresses: &Egresses,
    position: usize,
) -> Vec<ServiceRoute> {
    let Some(router) = fabric.routers.get(position) else { return Vec::new() };
    let own_names: HashSet<&str> = router.service_routes.iter().map(|route| route.name.as_str()).collect();
    let own_peers: HashSet<(&str, &str)> = router
        .service_routes
        .iter()
        .filter_map(|route| Some((route.service_name.as_str(), route.peer.as_deref()?)))
        .collect();
    let mut search = Search { graph, position, found: HashMap::new() };
    let mut generated = Vec::new();
    for service in authority.services.iter().filter(|service| service.share_service_routes) {
        let Some(exits) = egresses.of(&service.name).filter(|exits| !exits.contains_key(&position)) else {
            continue;
        };
        for downstream in search.downstream(exits).iter() {
            let Some(peer) = fabric.routers.get(downstream.peer) else { continue };
            let name = format!("{}@{}", service.name, peer.name);
            if own_names.contains(name.as_str()) || own_peers.contains(&(&service.name, &peer.name)) {
                continue;
            }
            generated.push(ServiceRoute {
                name,
                service_name: service.name.clone(),
                generated: true,
                peer: Some(peer.name.clone()),
                next_hop: None,
                local: None,
                cost: u32::try_from(downstream.reached.distance.cost).unwrap_or(u32::MAX / 2),
                origin: origin(fabric, exits, downstream.reached.egress),
            });
        }
    }
    generated
}

/// The configuration line of the egress a generated service-route leads to.
fn origin(fabric: &Fabric, exits: &BTreeMap<usize, (u32, &str)>, egress: usize) -> Option<String> {
    let (router, (_, route)) = (fabric.routers.get(egress)?, exits.get(&egress)?);
    Some(path::entry(&path::router(&router.name), "service-route", &[("name", route)]))
}

/// Egress routers with the cost of their service-routes.
type Exits = Vec<(usize, u32)>;

/// Searches of one router; services that leave at the same routers share one.
struct Search<'a> {
    graph: &'a Graph,
    position: usize,
    found: HashMap<Exits, Rc<[Downstream]>>,
}

impl Search<'_> {
    fn downstream(&mut self, exits: &BTreeMap<usize, (u32, &str)>) -> Rc<[Downstream]> {
        let key: Exits = exits.iter().map(|(&egress, &(cost, _))| (egress, cost)).collect();
        if let Some(found) = self.found.get(&key) {
            return Rc::clone(found);
        }
        let reached = self.graph.towards(&key, self.position);
        let nearer = |peer: usize| {
            let (own, other) = (reached.get(&self.position)?, reached.get(&peer)?);
            (other.distance < own.distance).then_some(Downstream { peer, reached: *other })
        };
        let downstream: Rc<[Downstream]> =
            self.graph.peers(self.position).iter().filter_map(|&(peer, _)| nearer(peer)).collect();
        self.found.insert(key, Rc::clone(&downstream));
        downstream
    }
}
