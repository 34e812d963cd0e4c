//! A router of the simulation: one engine, or several workers that share it.
//!
//! Workers get their packets as from the kernel: by the tuple, or by the table of exceptions. What
//! waits in front of a worker, and what workers hand over, takes a while, so that all of it can come
//! in any order that real threads could produce.

use std::collections::HashMap;

use fairway_session::{Engine, Placement};
use fairway_types::model::RouterModel;
use fairway_types::steering::class_of;
use fairway_types::{InterfaceId, Protocol, Time, Tuple, WorkerId};
use fairway_wire::ip::{self, Fragment, IcmpKind, Parsed, Version};
use fairway_wire::{icmp, svr};
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

/// How long a packet waits in front of a worker, or is on its way to another one, at most, in
/// nanoseconds.
const WAIT: u64 = 300_000;

pub(crate) struct Node {
    pub(crate) engines: Vec<Engine>,
    pub(crate) model: RouterModel,
    /// When an engine wants to be called.
    pub(crate) due: Vec<Option<Time>>,
    exceptions: HashMap<(InterfaceId, Tuple), WorkerId>,
    /// Until when packets wait in front of each worker.
    sockets: Vec<Time>,
    /// Until when packets are on their way from one worker to another.
    rings: HashMap<(usize, usize), Time>,
}

impl Node {
    pub(crate) fn new(engines: Vec<Engine>, model: RouterModel) -> Self {
        let due = engines.iter().map(Engine::poll_timeout).collect();
        let sockets = vec![Time::ZERO; engines.len()];
        Self { engines, model, due, exceptions: HashMap::new(), sockets, rings: HashMap::new() }
    }

    /// Whose packet it is, by its tuple or by an exception from that.
    pub(crate) fn worker_of(&self, interface: InterfaceId, packet: &[u8]) -> usize {
        let workers = self.engines.len() as u8;
        if workers == 1 {
            return 0;
        }
        let Ok(parsed) = ip::parse(packet) else { return 0 };
        if parsed.protocol == Protocol::UDP.0 && parsed.destination_port == svr::BFD_PORT {
            return 0;
        }
        if parsed.fragment != Fragment::No {
            let tuple = Tuple {
                source: (parsed.source, 0).into(),
                destination: (parsed.destination, 0).into(),
                protocol: Protocol(parsed.protocol),
            };
            return WorkerId::of_class(class_of(&tuple), workers).index();
        }
        let tuple = quoted(packet, &parsed).unwrap_or_else(|| tuple_of(&parsed));
        let exception = self.exceptions.get(&(interface, tuple));
        exception.copied().unwrap_or_else(|| WorkerId::of_class(class_of(&tuple), workers)).index()
    }

    pub(crate) fn place(&mut self, placement: &Placement) {
        let key = (placement.interface, placement.tuple);
        match placement.worker {
            Some(worker) => self.exceptions.insert(key, worker),
            None => self.exceptions.remove(&key),
        };
    }

    /// Follows interfaces that are numbered anew.
    pub(crate) fn renumber(&mut self, place: impl Fn(u16) -> u16) {
        let old = std::mem::take(&mut self.exceptions);
        self.exceptions = old
            .into_iter()
            .map(|((id, tuple), worker)| ((InterfaceId(place(id.0)), tuple), worker))
            .collect();
    }

    /// When a packet that arrives now gets its turn with a worker.
    pub(crate) fn turn(&mut self, now: Time, worker: usize, rng: &mut ChaCha12Rng) -> Time {
        let turn = self.sockets[worker].max(later(now, rng));
        self.sockets[worker] = turn;
        turn
    }

    /// When a worker has seen all that waits for it now.
    pub(crate) fn drained(&self, now: Time, worker: usize) -> Time {
        self.sockets[worker].max(now)
    }

    /// When something that one worker hands to another arrives.
    pub(crate) fn passage(&mut self, now: Time, from: usize, to: usize, rng: &mut ChaCha12Rng) -> Time {
        let last = self.rings.entry((from, to)).or_insert(Time::ZERO);
        *last = (*last).max(later(now, rng));
        *last
    }
}

fn later(now: Time, rng: &mut ChaCha12Rng) -> Time {
    now + std::time::Duration::from_nanos(rng.next_u64() % WAIT)
}

fn tuple_of(parsed: &Parsed) -> Tuple {
    Tuple {
        source: (parsed.source, parsed.source_port).into(),
        destination: (parsed.destination, parsed.destination_port).into(),
        protocol: Protocol(parsed.protocol),
    }
}

/// The flow on which answers to a packet arrive that an ICMP error quotes.
fn quoted(packet: &[u8], parsed: &Parsed) -> Option<Tuple> {
    if parsed.icmp != Some(IcmpKind::Error) {
        return None;
    }
    let version = if packet[0] >> 4 == 4 { Version::V4 } else { Version::V6 };
    let view = icmp::Packet::new_checked(version, parsed.segment(packet)).ok()?;
    let quoted = ip::parse_quoted(view.payload()).ok()?;
    Some(Tuple {
        source: (quoted.destination, quoted.destination_port).into(),
        destination: (quoted.source, quoted.source_port).into(),
        protocol: Protocol(quoted.protocol),
    })
}
