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

/// Every cell, in the order in which they are measured.
pub(crate) fn all() -> Vec<Cell> {
    let plain = |name, what, traffic, offload, peers, goals| Cell {
        name,
        what,
        traffic,
        offload,
        by_xdp: false,
        fairway: Contender::FairwayPlain,
        peers,
        goals,
    };
    let gcm = |name, what, traffic, offload, goals| Cell {
        fairway: Contender::FairwayGcm,
        ..plain(name, what, traffic, offload, &TUNNELS, goals)
    };
    // AF_XDP wants devices that keep tags in frames, and so no offloads.
    let xdp = |name, what, traffic, fairway, peers, goals| Cell {
        by_xdp: true,
        fairway,
        ..plain(name, what, traffic, false, peers, goals)
    };
    vec![
        plain("plain-tcp-on", "one TCP stream, plain, default offloads", Traffic::Stream, true, PLAIN, {
            const { &[goal(KERNEL, 1.0)] }
        }),
        plain("rtt-plain", "a request and its answer, plain, p50", Traffic::RoundTrips, true, PLAIN, {
            const { &[Goal { against: NFTABLES, ratio: 1.0, allowance: 10.0 }] }
        }),
        plain("connections", "connect, a byte each way, close", Traffic::Connections, true, ALL, {
            const { &[goal(NFTABLES, 1.0)] }
        }),
        gcm("gcm-tcp-on", "one TCP stream, AES-256-GCM, default offloads", Traffic::Stream, true, {
            const { &[goal(Against::BestTunnel, 8.0)] }
        }),
        gcm("gcm-udp1400", "datagrams of 1400 bytes, AES-256-GCM", Traffic::Datagrams(1400), true, {
            const { &[goal(Against::BestTunnel, 2.0)] }
        }),
        gcm("gcm-udp64", "datagrams of 64 bytes, AES-256-GCM", Traffic::Datagrams(64), true, {
            const { &[goal(Against::BestTunnel, 2.0)] }
        }),
        gcm("rtt-gcm", "a request and its answer, AES-256-GCM, p50", Traffic::RoundTrips, true, {
            const { &[goal(Against::BestTunnel, 1.0)] }
        }),
        Cell {
            fairway: Contender::FairwayCbc,
            ..gcm("cbc-tcp-on", "one TCP stream, AES-256-CBC with HMAC", Traffic::Stream, true, {
                const { &[goal(Against::BestTunnel, 4.0)] }
            })
        },
        gcm("gcm-tcp-off", "one TCP stream, AES-256-GCM, without offloads", Traffic::Stream, false, {
            const { &[goal(Against::BestTunnel, 2.0)] }
        }),
        plain("plain-tcp-off", "one TCP stream, plain, without offloads", Traffic::Stream, false, PLAIN, {
            const { &[goal(KERNEL, 1.1)] }
        }),
        xdp(
            "xdp-tcp-off",
            "one TCP stream, plain, without offloads, by AF_XDP",
            Traffic::Stream,
            Contender::FairwayXdp,
            BESIDE_XDP,
            const { &[goal(KERNEL, 1.1)] },
        ),
        xdp(
            "xdp-udp64",
            "datagrams of 64 bytes, plain, made in the kernel, by AF_XDP",
            Traffic::Flood(64),
            Contender::FairwayXdp,
            BESIDE_XDP,
            const { &[goal(KERNEL, 1.1), goal(NFTABLES, 1.9)] },
        ),
        xdp(
            "xdp-million",
            "datagrams of 64 bytes over a million sessions at random, by AF_XDP",
            Traffic::Flood(64),
            Contender::FairwayXdpMillion,
            &[Contender::FairwayMillion],
            const { &[goal(Against::One(Contender::FairwayMillion), 1.0)] },
        ),
        // Floods change a setting of the line, so nothing else is measured on it afterwards.
        plain(
            "plain-udp64",
            "datagrams of 64 bytes, plain, made in the kernel",
            Traffic::Flood(64),
            true,
            PLAIN,
            const { &[goal(KERNEL, 1.1), goal(NFTABLES, 1.9)] },
        ),
        Cell {
            fairway: Contender::FairwayMillion,
            ..plain(
                "million-sessions",
                "datagrams of 64 bytes over a million sessions at random",
                Traffic::Flood(64),
                true,
                &[Contender::FairwayTenThousand],
                const { &[goal(Against::One(Contender::FairwayTenThousand), 0.8)] },
            )
        },
        Cell {
            fairway: Contender::TwoWorkers,
            ..plain(
                "two-workers",
                "the engine alone on two threads, datagrams of 64 bytes",
                Traffic::Engine,
                true,
                &[Contender::TwoEngines],
                const { &[goal(Against::One(Contender::TwoEngines), 0.95)] },
            )
        },
    ]
}

impl Cell {
    /// Whether less is better.
    pub(crate) fn less_is_better(&self) -> bool {
        self.traffic == Traffic::RoundTrips
    }
}
