//! Traffic for measurements, made and counted in the kernel: no socket is as fast as what is to be
//! measured.
//!
//! A [`Flood`] sends UDP datagrams of many sessions out of a device, by an eBPF program that makes
//! frames. A [`Tally`] at the ingress of a device counts what arrived there, and drops it or sends it
//! back, so that sessions have an answer. Routers use none of this.

mod program;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::classifier::asm::{AssemblyError, Instruction};
use crate::sys::bpf::{Map, Program, ProgramKind, possible_cpus};

/// The most sessions that a flood can have: as many as there are ports and sources.
pub const MOST_SESSIONS: u32 = SOURCES * PORTS;
/// How many source addresses a flood uses: the first one and those after it.
pub const SOURCES: u32 = 16;
const FIRST_PORT: u32 = 1024;
const PORTS: u32 = 65536 - FIRST_PORT;
/// The program of a tally.
const NAME: &str = "fw_tally";
const COUNTERS: u32 = 2;
const COUNTED: u32 = 0;

/// Which session is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each one once, again and again.
    InTurn,
    /// Any.
    Random,
}

/// What a flood consists of.
#[derive(Clone, Debug)]
pub struct FloodPlan {
    /// The device that frames leave by, in the network namespace of the caller. Where it is one end of a
    /// veth pair, the other end needs GRO or an XDP program: it hears nothing otherwise.
    pub ifindex: u32,
    /// The link address of the router and of the device.
    pub link: [[u8; 6]; 2],
    /// The first of [`SOURCES`] addresses, which differ in the last byte only.
    pub from: Ipv4Addr,
    /// Where to.
    pub to: SocketAddrV4,
    /// Bytes of each datagram.
    pub payload: Vec<u8>,
    /// How many sessions, at most [`MOST_SESSIONS`].
    pub sessions: u32,
    /// In what order.
    pub order: Order,
}

/// A source of datagrams.
#[derive(Debug)]
pub struct Flood {
    maker: Program,
    frame: Vec<u8>,
    counters: Map<4, 8>,
}

impl Flood {
    /// Loads the program.
    ///
    /// # Errors
    /// When the plan cannot be kept, or the kernel refuses the program.
    pub fn new(plan: &FloodPlan) -> io::Result<Self> {
        let last = u32::from(plan.from.octets()[3]);
        if plan.sessions == 0 || plan.sessions > MOST_SESSIONS || last + SOURCES > 256 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more sessions than addresses and ports",
            ));
        }
        let counters = Map::per_cpu_array("fw_flood", COUNTERS)?;
        let frame = program::frame(plan);
        let code = program::flood(plan, &frame, counters.fd()).map_err(assembly)?;
        Ok(Self { maker: load(ProgramKind::Xdp, "fw_flood", &code)?, frame, counters })
    }

    /// Sends so many datagrams, as fast as it can, on the calling thread.
    ///
    /// # Errors
    /// When the kernel does not run the program, or a signal came.
    pub fn send(&self, datagrams: u32) -> io::Result<()> {
        self.maker.send(&self.frame, datagrams)
    }

    /// How many datagrams were made. The device counts those that it had no room for.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn sent(&self) -> io::Result<u64> {
        self.counters.sum(COUNTED, possible_cpus())
    }
}

/// What becomes of a datagram that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// One in 4096 goes on to whoever is bound to the port; of the others, one in so many, a power of
    /// two, goes back to where it came from by the device it came by; the rest is dropped.
    AnswerOneIn(u32),
    /// It is dropped.
    DropAll,
    /// It goes back to where it came from, by the device it came by.
    Return,
}

/// Counts UDP datagrams at the tcx ingress of a device. It is taken off with this value.
#[derive(Debug)]
pub struct Tally {
    program: Program,
    ifindex: u32,
    counters: Map<4, 8>,
}

/// Which of a datagram's ports is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one it comes from.
    Source,
    /// The one it goes to.
    Destination,
}

impl Tally {
    /// Begins to count datagrams of IPv4 with this port and as many bytes of payload, in the place of
    /// any other tally of the device: one whose process was killed is still there.
    ///
    /// # Errors
    /// When the kernel refuses the program or the device.
    pub fn attach(ifindex: u32, side: Side, port: u16, payload: usize, fate: Fate) -> io::Result<Self> {
        let counters = Map::per_cpu_array("fw_tally", COUNTERS)?;
        let code = program::tally(ifindex, side, port, payload, fate, counters.fd()).map_err(assembly)?;
        let program = load(ProgramKind::SchedCls, NAME, &code)?;
        for old in Program::attached(ifindex, NAME)? {
            old.detach_tcx(ifindex)?;
        }
        program.attach_tcx(ifindex, None)?;
        Ok(Self { program, ifindex, counters })
    }

    /// How many were counted so far.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn count(&self) -> io::Result<u64> {
        self.counters.sum(COUNTED, possible_cpus())
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // A device that is gone has taken the program with it.
        let _ = self.program.detach_tcx(self.ifindex);
    }
}

fn load(kind: ProgramKind, name: &str, code: &[Instruction]) -> io::Result<Program> {
    Program::load(kind, name, code)
        .map_err(|(error, log)| io::Error::new(error.kind(), format!("{error}: {log}")))
}

fn assembly(error: AssemblyError) -> io::Error {
    io::Error::other(error)
}
