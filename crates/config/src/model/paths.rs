//! The peers and peer paths of one router.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use fairway_types::PeerId;
use fairway_types::model::{Bfd, Peer, PeerPath, UdpTransform};

use super::{Builder, interface_path};
use crate::elements;
use crate::fault::Fault;
use crate::generate::{Fabric, PathSpec};
use crate::path;

/// How many peer paths a router may have: as many as an id can name.
pub(crate) const MAX_PATHS: usize = 65_535;

/// Peers sorted by name, paths sorted by peer, interface, family and remote address.
pub(super) fn build(
    builder: &Builder,
    fabric: &Fabric,
    position: usize,
) -> Result<(Vec<Peer>, Vec<PeerPath>), Vec<Fault>> {
    let mut specs = fabric.paths_of(position);
    if specs.len() > MAX_PATHS {
        let problem = format!("{} peer paths, more than the {MAX_PATHS} a router may have", specs.len());
        let fix = "make the topology of its neighborhoods hub and spoke instead of mesh";
        return Err(vec![Fault::error(path::router(&builder.router.name), problem, fix)]);
    }
    specs.sort_by_key(|spec| (spec.peer, &spec.interface.name, spec.remote));
    let peers = peers(builder, fabric, &specs);
    let back: BTreeMap<usize, Vec<PathSpec>> = specs
        .iter()
        .map(|spec| spec.peer)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|p| (p, fabric.paths_of(p)))
        .collect();
    let origins = Origins::new(builder.router);
    let paths = specs.iter().filter_map(|spec| {
        let name = &fabric.routers.get(spec.peer)?.name;
        let peer = peers.binary_search_by(|peer| peer.name.cmp(name)).ok()?;
        let reverse = back.get(&spec.peer).and_then(|back| reverse_of(spec, back, position));
        Some(PeerPath {
            peer: PeerId(u16::try_from(peer).ok()?),
            interface: builder.interface(&spec.interface.name)?,
            local: spec.local?,
            remote: spec.remote,
            cost: spec.cost,
            local_ports: reverse
                .and_then(|reverse| reverse.port_range)
                .and_then(elements::WaypointRange::range),
            remote_ports: spec.port_range.and_then(elements::WaypointRange::range),
            max_waypoints: spec.max_way_points,
            security: builder.security(spec.security),
            udp_transform: udp_transform(spec.udp_transform),
            pathway: pathway(&builder.router.name, spec, name),
            bfd: bfd(spec.bfd),
            origin: origins.of(spec, name),
        })
    });
    let paths: Vec<PeerPath> = paths.collect();
    Ok((peers, paths))
}

/// The same path as the peer sees it: from the remote waypoint back to the local one.
fn reverse_of<'a, 'b>(
    spec: &PathSpec,
    back: &'b [PathSpec<'a>],
    position: usize,
) -> Option<&'b PathSpec<'a>> {
    back.iter().find(|back| {
        back.peer == position && Some(back.remote) == spec.local && back.local == Some(spec.remote)
    })
}

fn peers(builder: &Builder, fabric: &Fabric, specs: &[PathSpec]) -> Vec<Peer> {
    let router = path::router(&builder.router.name);
    let mut peers: BTreeMap<&str, Peer> = BTreeMap::new();
    for peer in &builder.router.peers {
        let tenants = peer.allowed_tenants.iter().filter_map(|name| builder.tenant(name)).collect();
        let configured = Peer {
            name: peer.name.clone(),
            key_file: builder.key_file(&peer.name, peer.key_file.as_deref()),
            tenants: (!peer.allowed_tenants.is_empty()).then_some(tenants),
            origin: path::entry(&router, "peer", &[("name", &peer.name)]),
        };
        peers.insert(&peer.name, configured);
    }
    let origins = Origins::new(builder.router);
    for spec in specs {
        let Some(name) = fabric.routers.get(spec.peer).map(|router| router.name.as_str()) else { continue };
        peers.entry(name).or_insert_with(|| Peer {
            name: name.to_owned(),
            key_file: builder.key_file(name, None),
            tenants: None,
            origin: origins.of(spec, name),
        });
    }
    peers.into_values().collect()
}

/// The name of a path: where it starts, where it ends, and what made it. At most 229 bytes, because
/// names of routers have at most 63 and names of neighborhoods and interfaces at most 32.
fn pathway(router: &str, spec: &PathSpec, peer: &str) -> String {
    let interface = &spec.interface.name;
    match spec.made_by {
        Some((neighborhood, other)) => {
            let family = if spec.remote.is_ipv6() { "@v6" } else { "" };
            format!("{neighborhood}:{router}/{interface}-{peer}/{other}{family}")
        }
        None => format!("adjacency:{router}/{interface}-{peer}/{}", spec.remote),
    }
}

const fn udp_transform(transform: elements::UdpTransform) -> UdpTransform {
    match transform {
        elements::UdpTransform::Encrypted => UdpTransform::Encrypted,
        elements::UdpTransform::Always => UdpTransform::Always,
        elements::UdpTransform::Never => UdpTransform::Never,
    }
}

fn bfd(bfd: elements::Bfd) -> Bfd {
    Bfd {
        desired_tx: Duration::from_millis(bfd.desired_tx_interval.into()),
        required_rx: Duration::from_millis(bfd.required_min_rx_interval.into()),
        multiplier: bfd.multiplier,
        hold_down: Duration::from_secs(bfd.hold_down_time.into()),
    }
}

/// Configuration lines of paths: the adjacency, or the neighborhood that made it.
struct Origins(BTreeMap<String, String>);

impl Origins {
    fn new(router: &elements::Router) -> Self {
        let path = |(node, device, interface): (
            &elements::Node,
            &elements::DeviceInterface,
            &elements::NetworkInterface,
        )| {
            (interface.name.clone(), interface_path(&router.name, &node.name, &device.name, &interface.name))
        };
        Self(router.network_interfaces().map(path).collect())
    }

    fn of(&self, spec: &PathSpec, peer: &str) -> String {
        let interface = self.0.get(&spec.interface.name).map_or("", String::as_str);
        match spec.made_by {
            Some((neighborhood, _)) => path::entry(interface, "neighborhood", &[("name", &neighborhood)]),
            None => path::entry(interface, "adjacency", &[("peer", &peer), ("ip-address", &spec.remote)]),
        }
    }
}
