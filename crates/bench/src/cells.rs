//! What is measured, and what is to be reached.

use crate::contender::{Contender, TUNNELS};
use crate::measure::Traffic;

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is measured, in words.
    pub(crate) what: &'static str,
    /// What traffic.
    pub(crate) traffic: Traffic,
    /// Whether the devices of the line offload.
    pub(crate) offload: bool,
    /// Whether hosts poll their devices, as XDP wants it of a veth that it sends to; and whether the cell is
    /// measured only if it is named, or nothing is to be quick.
    pub(crate) by_xdp: bool,
    /// How Fairway carries it.
    pub(crate) fairway: Contender,
    /// Beside what.
    pub(crate) peers: &'static [Contender],
    /// What is to be reached; the first is the one that counts.
    pub(crate) goals: &'static [Goal],
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    /// Against whom.
    pub(crate) against: Against,
    /// How many times as good Fairway is to be.
    pub(crate) ratio: f64,
    /// What it may be worse by, in the cell's unit, before the ratio is taken.
    pub(crate) allowance: f64,
}

/// Whom a goal is against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// One.
    One(Contender),
    /// The best of the tunnels that ran.
    BestTunnel,
}

const KERNEL: Against = Against::One(Contender::Kernel);
const NFTABLES: Against = Against::One(Contender::Nftables);
const PLAIN: &[Contender] = &[Contender::Kernel, Contender::Nftables];
const BESIDE_XDP: &[Contender] = &[Contender::FairwayPlain, Contender::Kernel, Contender::Nftables];
const ALL: &[Contender] = &[
    Contender::Kernel,
    Contender::Nftables,
    Contender::WireguardGo,
    Contender::Nebula,
    Contender::Openvpn,
    Contender::Boringtun,
    Contender::Tinc,
];

const fn goal(against: Against, ratio: f64) -> Goal {
    Goal { against, ratio, allowance: 0.0 }
}

/// A plain session with the default offloads, beside whoever forwards without a tunnel.
const PLAIN_CELL: Cell = Cell {
    name: "",
    what: "",
    traffic: Traffic::Stream,
    offload: true,
    by_xdp: false,
    fairway: Contender::FairwayPlain,
    peers: PLAIN,
    goals: &[],
};
const GCM_CELL: Cell = Cell { fairway: Contender::FairwayGcm, peers: &TUNNELS, ..PLAIN_CELL };
/// AF_XDP wants devices that keep tags in frames, and so no offloads.
const XDP_CELL: Cell =
    Cell { by_xdp: true, fairway: Contender::FairwayXdp, offload: false, peers: BESIDE_XDP, ..PLAIN_CELL };

/// Every cell, in the order in which they are measured.
pub(crate) const EVERY: &[Cell] = &[
    Cell {
        name: "plain-tcp-on",
        what: "one TCP stream, plain, default offloads",
        traffic: Traffic::Stream,
        goals: &[goal(KERNEL, 1.0)],
        ..PLAIN_CELL
    },
    Cell {
        name: "rtt-plain",
        what: "a request and its answer, plain, p50",
        traffic: Traffic::RoundTrips,
        goals: &[Goal { against: NFTABLES, ratio: 1.0, allowance: 10.0 }],
        ..PLAIN_CELL
    },
    Cell {
        name: "connections",
        what: "connect, a byte each way, close",
        traffic: Traffic::Connections,
        peers: ALL,
        goals: &[goal(NFTABLES, 1.0)],
        ..PLAIN_CELL
    },
    Cell {
        name: "gcm-tcp-on",
        what: "one TCP stream, AES-256-GCM, default offloads",
        traffic: Traffic::Stream,
        goals: &[goal(Against::BestTunnel, 8.0)],
        ..GCM_CELL
    },
    Cell {
        name: "gcm-udp1400",
        what: "datagrams of 1400 bytes, AES-256-GCM",
        traffic: Traffic::Datagrams(1400),
        goals: &[goal(Against::BestTunnel, 2.0)],
        ..GCM_CELL
    },
    Cell {
        name: "gcm-udp64",
        what: "datagrams of 64 bytes, AES-256-GCM",
        traffic: Traffic::Datagrams(64),
        goals: &[goal(Against::BestTunnel, 2.0)],
        ..GCM_CELL
    },
    Cell {
        name: "rtt-gcm",
        what: "a request and its answer, AES-256-GCM, p50",
        traffic: Traffic::RoundTrips,
        goals: &[goal(Against::BestTunnel, 1.0)],
        ..GCM_CELL
    },
    Cell {
        name: "cbc-tcp-on",
        what: "one TCP stream, AES-256-CBC with HMAC",
        traffic: Traffic::Stream,
        fairway: Contender::FairwayCbc,
        goals: &[goal(Against::BestTunnel, 4.0)],
        ..GCM_CELL
    },
    Cell {
        name: "gcm-tcp-off",
        what: "one TCP stream, AES-256-GCM, without offloads",
        traffic: Traffic::Stream,
        offload: false,
        goals: &[goal(Against::BestTunnel, 2.0)],
        ..GCM_CELL
    },
    Cell {
        name: "plain-tcp-off",
        what: "one TCP stream, plain, without offloads",
        traffic: Traffic::Stream,
        offload: false,
        goals: &[goal(KERNEL, 1.1)],
        ..PLAIN_CELL
    },
    Cell {
        name: "xdp-tcp-off",
        what: "one TCP stream, plain, without offloads, by AF_XDP",
        traffic: Traffic::Stream,
        goals: &[goal(KERNEL, 1.1)],
        ..XDP_CELL
    },
    Cell {
        name: "xdp-udp64",
        what: "datagrams of 64 bytes, plain, made in the kernel, by AF_XDP",
        traffic: Traffic::Flood(64),
        goals: &[goal(KERNEL, 1.1), goal(NFTABLES, 1.9)],
        ..XDP_CELL
    },
    Cell {
        name: "xdp-million",
        what: "datagrams of 64 bytes over a million sessions at random, by AF_XDP",
        traffic: Traffic::Flood(64),
        fairway: Contender::FairwayXdpMillion,
        peers: &[Contender::FairwayMillion],
        goals: &[goal(Against::One(Contender::FairwayMillion), 1.0)],
        ..XDP_CELL
    },
    // Floods change a setting of the line, so nothing else is measured on it afterwards.
    Cell {
        name: "plain-udp64",
        what: "datagrams of 64 bytes, plain, made in the kernel",
        traffic: Traffic::Flood(64),
        goals: &[goal(KERNEL, 1.1), goal(NFTABLES, 1.9)],
        ..PLAIN_CELL
    },
    Cell {
        name: "million-sessions",
        what: "datagrams of 64 bytes over a million sessions at random",
        traffic: Traffic::Flood(64),
        fairway: Contender::FairwayMillion,
        peers: &[Contender::FairwayTenThousand, Contender::FairwayByWorkers],
        goals: &[
            goal(Against::One(Contender::FairwayTenThousand), 0.8),
            goal(Against::One(Contender::FairwayByWorkers), 0.8),
        ],
        ..PLAIN_CELL
    },
    Cell {
        name: "two-workers",
        what: "the engine alone on two threads, datagrams of 64 bytes",
        traffic: Traffic::Engine,
        fairway: Contender::TwoWorkers,
        peers: &[Contender::TwoEngines],
        goals: &[goal(Against::One(Contender::TwoEngines), 0.95)],
        ..PLAIN_CELL
    },
];

impl Cell {
    /// Everybody who takes part. In a quick run, of the tunnels only those that have ever been the best in a
    /// cell, and only where a goal is against the best of them.
    pub(crate) fn contenders(&self, quick: bool) -> Vec<Contender> {
        let against_tunnels = self.goals.iter().any(|goal| goal.against == Against::BestTunnel);
        let decides = |peer: &Contender| {
            let slower = matches!(peer, Contender::WireguardGo | Contender::Tinc);
            !TUNNELS.contains(peer) || (against_tunnels && !slower)
        };
        let peers = self.peers.iter().filter(|peer| !quick || decides(peer));
        [self.fairway].iter().chain(peers).copied().collect()
    }

    /// Whether less is better.
    pub(crate) fn less_is_better(&self) -> bool {
        self.traffic == Traffic::RoundTrips
    }
}
