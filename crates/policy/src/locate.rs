//! Where an address belongs: connected prefixes, own addresses, memberships, waypoints.

use core::net::IpAddr;

use fairway_types::model::RouterModel;
use fairway_types::{InterfaceId, PathId, TenantId};
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::error::CompileError;
use crate::fib::Lpm;

/// These tables are made of configuration and only read afterwards, so the hash needs no seed.
type Hasher = foldhash::fast::FixedState;

/// The addresses that the model names.
#[derive(Debug)]
pub(crate) struct Locator {
    connected: Lpm,
    own: HashSet<IpAddr, Hasher>,
    /// By interface; `None` where there are no memberships.
    memberships: Vec<Option<Lpm>>,
    waypoints: HashMap<(IpAddr, IpAddr), PathId, Hasher>,
}

impl Locator {
    /// Builds the tables; all ids are valid.
    pub(crate) fn build(model: &RouterModel) -> Result<Self, CompileError> {
        let addresses = || {
            let interfaces = model.interfaces.iter().zip(0u32..);
            interfaces.flat_map(|(i, id)| i.addresses.iter().map(move |address| (address.address, id)))
        };
        let mut connected: Vec<(IpNet, u32)> = addresses().map(|(net, id)| (net.trunc(), id)).collect();
        connected.sort_unstable();
        connected.dedup_by_key(|(prefix, _)| *prefix);
        let mut waypoints = HashMap::with_capacity_and_hasher(model.paths.len(), Hasher::default());
        for (path, id) in model.paths.iter().zip(0u16..) {
            if waypoints.insert((path.local, path.remote), PathId(id)).is_some() {
                let (origin, local, remote) = (path.origin.clone(), path.local, path.remote);
                return Err(CompileError::DuplicateWaypoints { origin, local, remote });
            }
        }
        Ok(Self {
            connected: Lpm::build(connected.into_iter()).0,
            own: addresses().map(|(net, _)| net.addr()).collect(),
            memberships: memberships(model)?,
            waypoints,
        })
    }

    pub(crate) fn interface_with_prefix(&self, address: IpAddr) -> Option<InterfaceId> {
        u16::try_from(self.connected.lookup(address)).ok().map(InterfaceId)
    }

    pub(crate) fn is_own_address(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    pub(crate) fn member_of(&self, interface: InterfaceId, source: IpAddr) -> Option<TenantId> {
        let memberships = self.memberships.get(interface.index())?.as_ref()?;
        u16::try_from(memberships.lookup(source)).ok().map(TenantId)
    }

    pub(crate) fn path_by_waypoints(&self, local: IpAddr, remote: IpAddr) -> Option<PathId> {
        self.waypoints.get(&(local, remote)).copied()
    }
}

fn memberships(model: &RouterModel) -> Result<Vec<Option<Lpm>>, CompileError> {
    let mut by_interface: Vec<Vec<(IpNet, u32)>> = vec![Vec::new(); model.interfaces.len()];
    let mut known = HashMap::with_capacity_and_hasher(model.memberships.len(), Hasher::default());
    for membership in &model.memberships {
        let (interface, prefix) = (membership.interface, membership.prefix.trunc());
        match known.insert((interface, prefix), membership.tenant) {
            Some(tenant) if tenant == membership.tenant => {}
            Some(_) => {
                let origin = membership.origin.clone();
                return Err(CompileError::AmbiguousMembership { origin, prefix });
            }
            None => {
                if let Some(list) = by_interface.get_mut(interface.index()) {
                    list.push((prefix, u32::from(membership.tenant.0)));
                }
            }
        }
    }
    let lpms = by_interface.into_iter().map(|mut list| {
        list.sort_unstable();
        (!list.is_empty()).then(|| Lpm::build(list.into_iter()).0)
    });
    Ok(lpms.collect())
}
