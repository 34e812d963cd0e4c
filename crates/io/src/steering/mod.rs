//! Steering: which worker gets a packet.
//!
//! The program at tc asks for each packet by whose door it goes, that for XDP into whose socket. Where there
//! are no doors, each worker has a packet socket on each device; the sockets of a device are a fanout group
//! (packet(7)), and an eBPF program picks one of them. The same instructions answer, in this order:
//!
//! | packet | worker |
//! |---|---|
//! | nothing to steer by: not IP, a broken header, an ICMP error that quotes such | 0 |
//! | its tuple was placed | the one it was placed at |
//! | UDP to port 1280, BFD | 0 |
//! | all else | its [class](fairway_types::steering::class) modulo the number of workers |
//!
//! The tuple has the identifier of an ICMP echo as both ports. An ICMP error goes where answers to the
//! packet go that it quotes. All fragments of a datagram, the first included, go by addresses and
//! protocol alone, with ports 0, so that they meet at one worker. Tags have no part in the class; on a
//! socket for several tags, tuples are placed for each of them apart.
//!
//! [`tuple_of`] and [`worker_of`] are the same in plain Rust; a test holds the program to them.
//!
//! What is placed is kept under the device and tag by name, so it survives a device that goes and
//! comes back, and interfaces that are numbered anew.

mod program;
mod reference;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fairway_types::steering::WorkerId;
use fairway_types::{InterfaceId, Tuple};

use self::program::assemble;
pub(crate) use self::program::{Parameters, STACK_BYTES, TokenOf, inline};
pub use self::reference::{tuple_of, worker_of};
use crate::classifier;
use crate::error::{Context, OpenError};
use crate::sys::bpf::{Map, Program, ProgramKind};

/// The layout of keys of the map of exceptions; ports are in network order, the token in that of the
/// host.
pub(crate) mod key {
    pub(crate) const REMOTE: usize = 0;
    pub(crate) const LOCAL: usize = 16;
    pub(crate) const REMOTE_PORT: usize = 32;
    pub(crate) const LOCAL_PORT: usize = 34;
    pub(crate) const PROTOCOL: usize = 36;
    pub(crate) const IS_IPV6: usize = 37;
    pub(crate) const TOKEN: usize = 40;
    pub(crate) const SIZE: usize = 44;
}

/// What stands for a device and tag in keys: the tag is above [`TAG_SHIFT`] bits.
pub(crate) type Token = u32;
pub(crate) const TAG_SHIFT: u32 = 16;

pub(crate) fn key_of(tuple: &Tuple, token: Token) -> [u8; key::SIZE] {
    let mut bytes = [0; key::SIZE];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(key::REMOTE, &classifier::key(tuple.source.ip()));
    put(key::LOCAL, &classifier::key(tuple.destination.ip()));
    put(key::REMOTE_PORT, &tuple.source.port().to_be_bytes());
    put(key::LOCAL_PORT, &tuple.destination.port().to_be_bytes());
    put(key::PROTOCOL, &[tuple.protocol.0, u8::from(tuple.is_ipv6())]);
    put(key::TOKEN, &token.to_ne_bytes());
    bytes
}

/// The tuples that lead elsewhere than their class says, for all devices and workers.
#[derive(Debug)]
pub(crate) struct Exceptions {
    map: Map<{ key::SIZE }, 4>,
    workers: u8,
    placed: AtomicU64,
    refused: AtomicU64,
}

impl Exceptions {
    /// Room for `most` tuples, which takes memory as they come.
    pub(crate) fn new(workers: u8, most: u32) -> Result<Self, OpenError> {
        let map = Map::hash("fw_steering", most.max(1)).context("create the map of steering")?;
        Ok(Self { map, workers, placed: AtomicU64::new(0), refused: AtomicU64::new(0) })
    }

    /// The program for the device and tag behind a token, or for all `tags` of the device.
    pub(crate) fn program(&self, token: Token, tags: bool) -> Result<Program, OpenError> {
        let code = assemble(self.parameters(token, tags)).map_err(|error| OpenError::Steering {
            source: io::Error::new(io::ErrorKind::InvalidData, error),
            log: String::new(),
        })?;
        Program::load(ProgramKind::SocketFilter, "fw_steering", &code)
            .map_err(|(source, log)| OpenError::Steering { source, log })
    }

    /// What a program for the device and tag behind a token, or for all `tags` of the device, is made of.
    pub(crate) fn parameters(&self, token: Token, tags: bool) -> Parameters {
        let token = TokenOf::Device(token);
        Parameters { exceptions: self.map.fd(), token, tags, workers: self.workers }
    }

    /// The same for a program for all devices, whose tokens are in a map.
    pub(crate) fn parameters_of_all(&self, tokens: i32) -> Parameters {
        let token = TokenOf::Map(tokens);
        Parameters { exceptions: self.map.fd(), token, tags: false, workers: self.workers }
    }

    fn place(&self, key: &[u8; key::SIZE], worker: WorkerId) -> Result<(), SteeringError> {
        let value = u32::from(worker.0).to_ne_bytes();
        let result = match self.map.insert_absent(key, &value) {
            Ok(true) => {
                self.placed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(false) => self.map.insert(key, &value),
            Err(error) => Err(error),
        };
        result.map_err(|source| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            match source.raw_os_error() {
                Some(libc::E2BIG) => SteeringError::Full,
                _ => SteeringError::System { source },
            }
        })
    }

    fn forget(&self, key: &[u8; key::SIZE]) -> io::Result<bool> {
        let found = self.map.remove(key)?;
        if found {
            self.placed.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(found)
    }
}

/// Why a tuple could not be placed.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// There is no room for more tuples.
    #[error("no room for another tuple that leads to another worker")]
    Full,
    /// The interface is not known, or its packets all come to worker 0.
    #[error("packets of the interface are not steered")]
    NotSteered,
    /// There is no such worker.
    #[error("there is no such worker")]
    NoSuchWorker,
    /// The kernel refused.
    #[error("place a tuple: {source}")]
    System {
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What steering has done, for all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringStatistics {
    /// Tuples that are placed now.
    pub placed: u64,
    /// Tuples that could not be placed for want of room, or because the kernel refused.
    pub refused: u64,
}

/// The tokens of an interface: the present one last, before it those that it had, since what was
/// placed under them is still to be forgotten.
type History = HashMap<InterfaceId, Vec<Option<Token>>>;

/// Places tuples at workers. Clones are the same; a worker uses that of its own [`crate::Ports`],
/// whose interfaces change with it.
///
/// With one worker there is nothing to place, and everything succeeds.
#[derive(Clone, Debug)]
pub struct Steering {
    exceptions: Option<Arc<Exceptions>>,
    interfaces: Arc<RwLock<History>>,
}

impl Steering {
    /// Steering among several workers, or for one.
    pub(crate) fn new(exceptions: Option<Arc<Exceptions>>) -> Self {
        Self { exceptions, interfaces: Arc::default() }
    }

    /// Says what interfaces stand for from now on; `None` for one that is not steered.
    pub(crate) fn follow(&self, interfaces: impl Iterator<Item = (InterfaceId, Option<Token>)>) {
        let mut all = self.interfaces.write().unwrap_or_else(PoisonError::into_inner);
        for (interface, token) in interfaces {
            let history = all.entry(interface).or_default();
            history.retain(|&known| known != token);
            history.push(token);
        }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u8 {
        self.exceptions.as_ref().map_or(1, |exceptions| exceptions.workers)
    }

    /// Where packets with this tuple arrive on an interface as long as it is not placed.
    #[must_use]
    pub fn unplaced(&self, interface: InterfaceId, tuple: &Tuple) -> WorkerId {
        match self.token(interface) {
            Some(_) => worker_of(tuple, self.workers()),
            None => WorkerId(0),
        }
    }

    /// From now on, packets that arrive on `interface` with `tuple` come to `worker`, and ICMP errors
    /// about answers to them. Those that were received before stay where they are.
    ///
    /// # Errors
    /// [`SteeringError`]; those for want of room are counted.
    pub fn place(
        &self,
        interface: InterfaceId,
        tuple: &Tuple,
        worker: WorkerId,
    ) -> Result<(), SteeringError> {
        let Some(exceptions) = &self.exceptions else { return Ok(()) };
        if worker.0 >= exceptions.workers {
            return Err(SteeringError::NoSuchWorker);
        }
        let token = self.token(interface).ok_or(SteeringError::NotSteered)?;
        exceptions.place(&key_of(tuple, token), worker)
    }

    /// Packets with this tuple go by its class again. What was not placed is no error.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn forget(&self, interface: InterfaceId, tuple: &Tuple) -> io::Result<()> {
        let Some(exceptions) = &self.exceptions else { return Ok(()) };
        let all = self.interfaces.read().unwrap_or_else(PoisonError::into_inner);
        let tokens = all.get(&interface).map(Vec::as_slice).unwrap_or_default();
        for token in tokens.iter().rev().flatten() {
            if exceptions.forget(&key_of(tuple, *token))? {
                break;
            }
        }
        Ok(())
    }

    /// What has been done, for all workers.
    #[must_use]
    pub fn statistics(&self) -> SteeringStatistics {
        let Some(exceptions) = &self.exceptions else { return SteeringStatistics::default() };
        SteeringStatistics {
            placed: exceptions.placed.load(Ordering::Relaxed),
            refused: exceptions.refused.load(Ordering::Relaxed),
        }
    }

    fn token(&self, interface: InterfaceId) -> Option<Token> {
        let all = self.interfaces.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&interface).and_then(|history| *history.last()?)
    }
}
