//! Where flows that the kernel forwards come from and go to. Many flows share few ways, so what changes of
//! devices and next hops is held against the ways, and not against each flow.

use std::collections::HashMap;

use fairway_types::{Egress, InterfaceId};

use crate::neighbours::Target;

/// All that the kernel needs to know of devices and next hops for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// Where packets arrive, and where they leave.
    pub(crate) interface: InterfaceId,
    pub(crate) egress: Egress,
    /// The devices there.
    pub(crate) arrival: u32,
    pub(crate) device: u32,
    /// Whose link address they get.
    pub(crate) target: Target,
    /// Their destination and source on the link.
    pub(crate) link: ([u8; 6], [u8; 6]),
}

/// Stands for a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WayId(u32);

/// The ways of all flows of a worker, each with how many flows take it.
#[derive(Debug, Default)]
pub(super) struct Ways {
    ways: Vec<(Way, u32)>,
    ids: HashMap<Way, WayId>,
    free: Vec<WayId>,
}

impl Ways {
    /// One flow more takes a way.
    pub(super) fn enter(&mut self, way: &Way) -> WayId {
        if let Some(&id) = self.ids.get(way) {
            if let Some((_, flows)) = self.ways.get_mut(id.0 as usize) {
                *flows += 1;
            }
            return id;
        }
        let id = self.free.pop().unwrap_or(WayId(self.ways.len() as u32));
        match self.ways.get_mut(id.0 as usize) {
            Some(place) => *place = (*way, 1),
            None => self.ways.push((*way, 1)),
        }
        self.ids.insert(*way, id);
        id
    }

    /// One flow less takes it.
    pub(super) fn leave(&mut self, id: WayId) {
        let Some((way, flows)) = self.ways.get_mut(id.0 as usize) else { return };
        *flows = flows.saturating_sub(1);
        if *flows == 0 {
            self.ids.remove(way);
            self.free.push(id);
        }
    }

    /// A way that a flow takes.
    pub(super) fn get(&self, id: WayId) -> Option<&Way> {
        self.ways.get(id.0 as usize).map(|(way, _)| way)
    }

    /// Those that any flow takes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (WayId, Way)> {
        self.ids.iter().map(|(way, id)| (*id, *way))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(last: u8) -> Way {
        let next_hop = [10, 0, 0, last].into();
        Way {
            interface: InterfaceId(1),
            egress: Egress { interface: InterfaceId(2), next_hop },
            arrival: 1,
            device: 2,
            target: (2, next_hop),
            link: ([last; 6], [0; 6]),
        }
    }

    #[test]
    fn a_way_is_known_as_long_as_a_flow_takes_it() {
        let mut ways = Ways::default();
        let (one, two) = (ways.enter(&way(1)), ways.enter(&way(2)));
        assert_eq!(ways.enter(&way(1)), one);
        assert_ne!(one, two);
        ways.leave(one);
        assert_eq!((ways.get(one), ways.iter().count()), (Some(&way(1)), 2));
        ways.leave(one);
        assert_eq!(ways.iter().collect::<Vec<_>>(), [(two, way(2))]);
        assert_eq!(ways.enter(&way(3)), one, "its place is used again");
        assert_eq!((ways.get(one), ways.iter().count()), (Some(&way(3)), 2));
    }
}
