//! Peer paths as the engine sees them: whether they may be used, and their waypoint ports.

use fairway_types::model::{PeerPath, RouterModel};
use fairway_types::{PathId, Protocol, Time};

use crate::liveness::Liveness;
use crate::ports::PortPool;

/// One peer path.
pub(crate) struct Path {
    pub(crate) liveness: Liveness,
    tcp: PortPool,
    udp: PortPool,
    /// When it was last reported that no ports were left.
    pub(crate) reported: Option<Time>,
    /// When no session on it was found that could give way to a new one.
    pub(crate) fruitless: Option<Time>,
    /// What other workers were told of it.
    pub(crate) published: Option<Liveness>,
}

/// How full the waypoint ports of a path are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaypointUsage {
    /// The path.
    pub path: PathId,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Pairs in use by sessions this router began.
    pub used: u32,
    /// Pairs that rest before they are used again.
    pub resting: u32,
    /// Pairs that could be in use at once.
    pub capacity: u32,
    /// The most pairs that were in use at once.
    pub peak: u32,
    /// Pairs given to sessions.
    pub given: u64,
    /// Sessions refused because no pair was free.
    pub exhausted: u64,
    /// Sessions without an answer that gave way to new ones.
    pub evicted: u64,
}

impl Path {
    /// `limit` is how many sessions of either protocol may have ports, `expected` how many are likely,
    /// `start` spreads the first ports.
    pub(crate) fn new(model: &PeerPath, limit: u32, expected: u32, start: u64) -> Self {
        let pool = |start| PortPool::new(model.remote_ports, limit, expected, start);
        Self {
            liveness: Liveness::Unknown,
            tcp: pool(start),
            udp: pool(start ^ 1),
            reported: None,
            fruitless: None,
            published: None,
        }
    }

    /// How many of so many sessions a path of a router is expected to carry.
    pub(crate) fn expected(model: &RouterModel, sessions: u32) -> u32 {
        let paths = u32::try_from(model.paths.len()).unwrap_or(u32::MAX);
        sessions / paths.max(1)
    }

    pub(crate) fn configure(&mut self, model: &PeerPath, limit: u32) {
        for pool in [&mut self.tcp, &mut self.udp] {
            pool.configure(model.remote_ports, limit);
        }
    }

    /// The pool of a waypoint protocol.
    pub(crate) fn pool(&mut self, protocol: Protocol) -> &mut PortPool {
        if protocol == Protocol::TCP { &mut self.tcp } else { &mut self.udp }
    }

    pub(crate) fn usage(&self, path: PathId) -> [WaypointUsage; 2] {
        [(Protocol::TCP, &self.tcp), (Protocol::UDP, &self.udp)].map(|(protocol, pool)| WaypointUsage {
            path,
            protocol,
            used: pool.used(),
            resting: pool.resting(),
            capacity: pool.capacity(),
            peak: pool.tally.peak,
            given: pool.tally.given,
            exhausted: pool.tally.refused,
            evicted: pool.tally.evicted,
        })
    }
}
