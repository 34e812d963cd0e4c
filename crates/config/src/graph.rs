//! Routers and the cost of the paths between them, and the distance to the nearest egress.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::generate::Fabric;

/// How far a router is from an egress: cost first, then hops, so that every hop comes nearer even
/// where paths cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Distance {
    pub(crate) cost: u64,
    hops: u32,
}

/// Where a search ended up: how far, and which egress is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reached {
    pub(crate) distance: Distance,
    /// The egress router's position; among equally near ones the first by name.
    pub(crate) egress: usize,
}

/// The peers of every router with the cost of the cheapest path. Positions are those of
/// [`Fabric::routers`].
pub(crate) struct Graph {
    peers: Vec<Vec<(usize, u32)>>,
    /// Who has this router as peer, and at what cost.
    reverse: Vec<Vec<(usize, u32)>>,
}

impl Graph {
    pub(crate) fn new(fabric: &Fabric) -> Self {
        let count = fabric.routers.len();
        let mut graph = Self { peers: Vec::with_capacity(count), reverse: vec![Vec::new(); count] };
        for position in 0..count {
            let mut cheapest: BTreeMap<usize, u32> = BTreeMap::new();
            for path in fabric.paths_of(position) {
                let cost = cheapest.entry(path.peer).or_insert(path.cost);
                *cost = path.cost.min(*cost);
            }
            for (&peer, &cost) in &cheapest {
                if let Some(list) = graph.reverse.get_mut(peer) {
                    list.push((position, cost));
                }
            }
            graph.peers.push(cheapest.into_iter().collect());
        }
        graph
    }

    /// The peers of a router with the cost of the cheapest path, by name.
    pub(crate) fn peers(&self, position: usize) -> &[(usize, u32)] {
        self.peers.get(position).map_or(&[], Vec::as_slice)
    }

    /// The distance of every router that is nearer to one of `egresses` (position, own cost) than
    /// `target` is, and of `target` itself (Dijkstra, from the egresses towards the target).
    pub(crate) fn towards(&self, egresses: &[(usize, u32)], target: usize) -> BTreeMap<usize, Reached> {
        let mut settled = BTreeMap::new();
        let mut queue: BinaryHeap<Reverse<(Reached, usize)>> = egresses
            .iter()
            .map(|&(egress, cost)| {
                let distance = Distance { cost: u64::from(cost), hops: 0 };
                Reverse((Reached { distance, egress }, egress))
            })
            .collect();
        while let Some(Reverse((reached, position))) = queue.pop() {
            if settled.contains_key(&position) {
                continue;
            }
            settled.insert(position, reached);
            if position == target {
                break;
            }
            for &(behind, cost) in self.reverse.get(position).map_or(&[][..], Vec::as_slice) {
                if !settled.contains_key(&behind) {
                    let distance = Distance {
                        cost: reached.distance.cost + u64::from(cost),
                        hops: reached.distance.hops + 1,
                    };
                    queue.push(Reverse((Reached { distance, ..reached }, behind)));
                }
            }
        }
        settled
    }
}
