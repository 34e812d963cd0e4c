//! All interfaces of one worker, as one source and one sink of batches.

use core::net::IpAddr;
use std::io;
use std::time::Duration;

use fairway_types::{Batch, InterfaceId, IpNet, Now, Time};

use crate::capture::CaptureHook;
use crate::error::OpenError;
use crate::spec::{PortEvent, PortSpec, PortStatus, Ready};
use crate::sys::poll::Waker;

/// All interfaces of one worker.
pub struct Ports {
    waker: Waker,
}

impl Ports {
    /// Attaches to all interfaces. A device that does not exist yet is not an error: it is attached to
    /// when it appears. `peers` are the waypoints of other routers: fragments from them to one of this
    /// router's waypoints are taken.
    ///
    /// Needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF in the current network namespace.
    ///
    /// # Errors
    /// What the kernel refused, or a specification that can't be served; nothing stays attached.
    pub fn open(specs: &[PortSpec], peers: &[IpAddr]) -> Result<Self, OpenError> {
        todo!()
    }

    /// Moves to another set of interfaces and peers. Interfaces that stay keep their sockets and lose
    /// nothing; an id keeps its statistics.
    ///
    /// # Errors
    /// As [`Self::open`]; after an error the old set goes on working.
    pub fn apply(&mut self, specs: &[PortSpec], peers: &[IpAddr]) -> Result<(), OpenError> {
        todo!()
    }

    /// Wakes [`Self::wait`] from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for packets, for reports of the kernel, for a [`Waker`] or for `timeout`; `None` waits
    /// for ever. An interrupted wait returns early.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        todo!()
    }

    /// Receives packets into the free slots of `batch`, and returns how many. Interfaces take turns.
    pub fn receive(&mut self, batch: &mut Batch) -> usize {
        todo!()
    }

    /// Sends every slot whose verdict is `Forward`, first those the engine made, then those received,
    /// and hands slots with `Punt` to the host where there is a way. A slot that could not be sent
    /// has the verdict `Drop` afterwards, and its reason is counted under the egress interface; one
    /// that waits for its next hop's link address has `Consumed`.
    pub fn transmit(&mut self, now: Now, batch: &mut Batch) {
        todo!()
    }

    /// Takes in what the kernel reported, sends packets whose next hop became known, drops those whose
    /// next hop did not answer, and keeps next hops in use alive.
    ///
    /// # Errors
    /// Those of netlink; the next call tries again.
    pub fn handle_events(&mut self, now: Now) -> io::Result<()> {
        todo!()
    }

    /// When [`Self::handle_events`] must be called next, even if nothing is reported.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        todo!()
    }

    /// The next change to interfaces that [`Self::handle_events`] has found.
    pub fn poll_event(&mut self) -> Option<PortEvent> {
        todo!()
    }

    /// Every interface with its state and statistics, in the order of the specifications.
    #[must_use]
    pub fn status(&self) -> Vec<PortStatus> {
        todo!()
    }

    /// The longest packet that `interface` may send, in bytes; `None` while its device is gone.
    #[must_use]
    pub fn mtu(&self, interface: InterfaceId) -> Option<u16> {
        todo!()
    }

    /// Whether `interface` can send and receive.
    #[must_use]
    pub fn is_up(&self, interface: InterfaceId) -> bool {
        todo!()
    }

    /// The addresses that the kernel holds on the device of `interface`.
    #[must_use]
    pub fn addresses(&self, interface: InterfaceId) -> Vec<IpNet> {
        todo!()
    }

    /// Packets that arrived on Ethernet interfaces, by the rule of the classifier that decided.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn classified(&self) -> io::Result<Vec<(crate::classifier::Rule, u64)>> {
        todo!()
    }

    /// Calls `hook` for every packet received and sent from now on, or stops with `None`.
    pub fn set_capture(&mut self, hook: Option<CaptureHook>) {
        todo!()
    }
}
