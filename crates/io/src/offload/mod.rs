//! Flows that the kernel forwards by itself: established plain sessions, whose packets need nothing but
//! another address and port.
//!
//! The program at tc, or where AF_XDP reads a device that for XDP, is the first to see a packet. It looks the
//! flow up, decides (`decide`), rewrites the packet and redirects it (`rewrite`). What is a worker's it gives to
//! that worker: to an AF_XDP socket, or through a door (`door`), a device of Fairway's own with the worker's
//! packet socket on it. Nobody else sees what is forwarded.
//!
//! **Order.** A flow takes the kernel's way only while nothing of it is on the worker's. The program
//! counts each packet of a flow that it leaves to the socket (metadata, a reset, what is too big, …), when the
//! socket has it. The worker reads that count, then reads its socket until it is empty and sends what came; then whatever
//! had been counted is gone, lost packets included, and the worker says so. As long as the two counts
//! differ, everything of the flow goes to the worker. A new flow begins so.
//!
//! **Policy.** Whoever changes what may be forwarded ends the flows that may not be any more before saying
//! that it is done. A worker's heart has to beat: when it has not for three seconds, or when a capture wants
//! to see packets, the program leaves all its flows to its sockets. The program at tc comes to this part
//! through an array of programs, which the kernel empties when the process that made it is gone: a router that
//! was killed forwards nothing.

mod decide;
mod door;
mod finish;
mod flows;
mod index;
mod layout;
mod rewrite;
#[cfg(test)]
mod tests;
mod turn;
mod ways;

use std::io;

pub(crate) use self::decide::{begin, count_left, forward, left};
pub(crate) use self::door::GIVEN;
pub(crate) use self::flows::{Flows, Route};
use self::index::Index;
use self::layout::{pulse, slot};
pub(crate) use self::ways::Way;
use crate::sys::shared::SharedArray;

/// Between how many flows there may be, two for each session: with the index, 2 MiB and 448 MiB.
const FLOWS: std::ops::RangeInclusive<u32> = 8192..=2_097_152;
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
    /// How many buckets the index has.
    pub(crate) buckets: u32,
    pub(crate) slots: i32,
    pub(crate) pulses: i32,
}

/// What the programs and all workers share.
#[derive(Debug)]
pub(crate) struct Kernel {
    index: Index,
    slots: SharedArray<{ slot::SIZE }>,
    pulses: SharedArray<{ pulse::SIZE }>,
}

impl Kernel {
    /// Empty maps, with room for so many sessions where that is no more than the kernel gets.
    pub(crate) fn new(sessions: u32) -> io::Result<Self> {
        let flows = sessions.min(FLOWS.end() / 2) * 2;
        let flows = flows.max(*FLOWS.start()).next_power_of_two();
        Ok(Self {
            index: Index::new(flows)?,
            slots: SharedArray::new("fw_slots", flows)?,
            pulses: SharedArray::new("fw_pulses", WORKERS)?,
        })
    }

    /// The descriptors for programs.
    pub(crate) fn fds(&self) -> MapFds {
        let (index, seed, buckets) = self.index.parameters();
        MapFds { index, seed, buckets, slots: self.slots.fd(), pulses: self.pulses.fd() }
    }
}
