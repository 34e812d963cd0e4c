//! Flows that the kernel forwards by itself: established plain sessions, whose packets need nothing but
//! another address and port.
//!
//! A packet socket sees a frame before tc does, on the same CPU and with nothing in between. So the
//! filter of the socket decides (`decide`): what the kernel forwards, the socket does not get, and a
//! note is left that names the packet; the program at tc (`forward`) rewrites and redirects what it
//! finds a note about. They cannot disagree about a packet, whatever workers change meanwhile, and
//! without a worker's socket nothing is forwarded: a router that is gone forwards nothing. Where AF_XDP
//! reads a device, the program for XDP does all of it at once (`driver`).
//!
//! **Order.** A flow takes the kernel's way only while nothing of it is on the worker's. The program
//! counts each packet of a flow that it leaves to the socket (metadata, a reset, what is too big, …). The
//! worker reads that count, then reads its socket until it is empty and sends what came; then whatever
//! had been counted is gone, lost packets included, and the worker says so. As long as the two counts
//! differ, everything of the flow goes to the worker. A new flow begins so.
//!
//! **Policy.** Whoever changes what may be forwarded ends flows first. A worker's heart has to beat:
//! when it has not for three seconds, or when a capture wants to see packets, the program leaves all
//! its flows to its sockets. Programs and maps go with the process that made them, or with those that
//! replace them.

mod decide;
mod driver;
mod flows;
mod forward;
mod index;
mod layout;
#[cfg(test)]
mod tests;
mod turn;

use std::io;

pub(crate) use self::decide::decide;
pub(crate) use self::driver::{begin, count_left, forward_frame};
pub(crate) use self::flows::{Flows, Route};
pub(crate) use self::forward::forward;
use self::index::Index;
use self::layout::{note, pulse, slot};
use crate::sys::bpf::Map;
use crate::sys::shared::SharedArray;

/// How many flows there may be, two for each session: 14 MiB with the index. Their numbers fit 16 bits.
const FLOWS: u32 = 65_536;
const _: () = assert!(FLOWS - 1 <= u16::MAX as u32);
/// Workers are told apart by six bits of a class.
const WORKERS: u32 = 64;
/// A worker whose heart has not beaten for so many units of 2^20 ns, three seconds, is not at work.
const SILENT: i32 = 2861;
const BEAT_SHIFT: i32 = 20;

/// What programs are made of: descriptors of the maps that they read, and where hashes begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapFds {
    pub(crate) index: i32,
    pub(crate) seed: u64,
    pub(crate) slots: i32,
    pub(crate) pulses: i32,
    pub(crate) notes: i32,
}

/// What the programs and all workers share.
#[derive(Debug)]
pub(crate) struct Kernel {
    index: Index,
    slots: SharedArray<{ slot::SIZE }>,
    pulses: SharedArray<{ pulse::SIZE }>,
    notes: Map<4, { note::SIZE }>,
}

impl Kernel {
    /// Empty maps.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            index: Index::new()?,
            slots: SharedArray::new("fw_slots", FLOWS)?,
            pulses: SharedArray::new("fw_pulses", WORKERS)?,
            notes: Map::per_cpu_array("fw_notes", 1)?,
        })
    }

    /// The descriptors for programs.
    pub(crate) fn fds(&self) -> MapFds {
        let (index, seed) = self.index.parameters();
        MapFds { index, seed, slots: self.slots.fd(), pulses: self.pulses.fd(), notes: self.notes.fd() }
    }
}
