//! All interfaces of one worker, as one source and one sink of batches.
//!
//! Several workers have each their own, and share what must be one: see `group`. Each follows the
//! kernel by itself, and takes its seat at a device when it notices it; whoever is first makes the seats.
//!
//! An interface is attached to while its device exists: when the device goes, its socket and its
//! classifier go with it, and when a device of the same name appears, both are made again. The state
//! of devices, addresses, routes and neighbours is a live copy of the kernel's.

mod busy;
mod door;
mod doorway;
mod endpoint;
mod events;
mod group;
mod intake;
mod offload;
mod open;
mod rounds;
mod tagged;
mod tap;
#[cfg(test)]
mod tests;
mod transmit;
mod xdp;

use core::net::IpAddr;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fairway_types::steering::WorkerId;
use fairway_types::{Batch, InterfaceId, IpNet, Now, OffloadId, OffloadReport, Time};

use self::busy::BusyPoll;
use self::doorway::Doorway;
use self::endpoint::{Link, Port};
use self::group::Shared;
use self::tagged::Trunks;
use self::tap::Tap;
use self::transmit::{Scratch, Sender};
use crate::capture::CaptureHook;
use crate::classifier::Rule;
use crate::ephemeral::{EphemeralPorts, Range};
use crate::error::{Context, OpenError};
use crate::neighbours::Neighbours;
use crate::netlink::{Change, Watch, is_own};
use crate::offload::Flows;
use crate::spec::{PortEvent, PortSpec, PortStatus, Ready};
use crate::steering::Steering;
use crate::sys::poll::{Poller, Waker};
use crate::sys::shared::kernel_time;
use crate::sys::tun;

/// What the poller reports that is no interface.
const TOKEN_WAKER: u64 = 0;
const TOKEN_KERNEL: u64 = 1;
const TOKEN_DOOR: u64 = 2;
const FIRST_TOKEN: u64 = 4;
/// Tokens of interfaces are even; with this they stand for the packet socket beside AF_XDP sockets.
const BESIDE: u64 = 1;
const NEXT_TOKEN: u64 = 2;

/// All interfaces of one worker.
///
/// Dropping it, and those of the other workers, is the clean shutdown: the kernel has its traffic back,
/// TUN devices are gone and the ephemeral ports are as before.
pub struct Ports {
    ports: Vec<Port>,
    peers: Vec<IpAddr>,
    worker: WorkerId,
    // Gone before the claim on the namespace, which is with what is shared: the next router makes its own.
    doorway: Doorway,
    shared: Arc<Shared>,
    steering: Steering,
    watch: Watch,
    neighbours: Neighbours,
    poller: Poller,
    waker: Waker,
    tap: Tap,
    scratch: Scratch,
    trunks: Trunks,
    ephemeral: Option<EphemeralPorts>,
    ephemeral_range: Range,
    open_tun: OpenTun,
    events: VecDeque<PortEvent>,
    /// Reports of the kernel that were read but not acted on yet.
    changes: Vec<Change>,
    next_token: u64,
    next_turn: usize,
    busy: BusyPoll,
    next_housekeeping: Time,
    /// What the kernel forwards by itself.
    flows: Flows,
    offload_paused: bool,
    offload_ended: VecDeque<(OffloadId, OffloadReport)>,
    /// Sessions in the kernel whose way may be another one now.
    following: Vec<OffloadId>,
}

/// How /dev/net/tun is opened.
type OpenTun = Box<dyn FnMut() -> io::Result<File> + Send>;

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").field("ports", &self.ports).finish_non_exhaustive()
    }
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
        Self::join(Arc::new(Shared::open(1, 0, None)?), WorkerId(0), specs, peers)
    }

    /// [`Self::open`] for several workers, in the order of their numbers. Each packet comes to one of
    /// them, as [`crate::steering`] says, with room for as many `exceptions` as tuples that lead
    /// elsewhere than their class. What arrives on TUN devices comes to worker 0; all can send there.
    ///
    /// Each worker calls [`Self::handle_events`] for itself, and all have the same events.
    ///
    /// # Errors
    /// As [`Self::open`], and [`OpenError::Workers`].
    pub fn open_all(
        specs: &[PortSpec],
        peers: &[IpAddr],
        workers: u8,
        exceptions: u32,
    ) -> Result<Vec<Self>, OpenError> {
        Self::open_with(specs, peers, (workers, exceptions), None)
    }

    /// [`Self::open_all`] for one worker or several, and exceptions if there are several. With `offload`, the
    /// kernel can be told to forward as many sessions by itself, up to 1,048,576, if it is one that can: see
    /// [`Self::offload`].
    ///
    /// # Errors
    /// As [`Self::open_all`].
    pub fn open_with(
        specs: &[PortSpec],
        peers: &[IpAddr],
        (workers, exceptions): (u8, u32),
        offload: Option<u32>,
    ) -> Result<Vec<Self>, OpenError> {
        let shared = Arc::new(Shared::open(workers, exceptions, offload)?);
        (0..workers).map(|number| Self::join(Arc::clone(&shared), WorkerId(number), specs, peers)).collect()
    }

    fn join(
        shared: Arc<Shared>,
        worker: WorkerId,
        specs: &[PortSpec],
        peers: &[IpAddr],
    ) -> Result<Self, OpenError> {
        let poller = Poller::new().context("make an epoll descriptor")?;
        let waker = Waker::new().context("make an event descriptor")?;
        let watch = Watch::open().context("read the kernel's interfaces over netlink")?;
        poller.add(waker.fd(), TOKEN_WAKER).context("wait for an event descriptor")?;
        for descriptor in watch.descriptors() {
            poller.add(descriptor, TOKEN_KERNEL).context("wait for netlink")?;
        }
        let door = shared.doors().and_then(|doors| doors.take(worker));
        if let Some(door) = &door {
            poller.add(door.socket.fd(), TOKEN_DOOR).context("wait for packets")?;
        }
        shared.links.join(worker, waker.clone());
        let mut ports = Self {
            ports: Vec::new(),
            peers: Vec::new(),
            worker,
            steering: shared.steering(),
            flows: Flows::new(shared.classifier.offload(), worker, shared.workers()),
            offload_paused: false,
            offload_ended: VecDeque::new(),
            following: Vec::new(),
            shared,
            watch,
            neighbours: Neighbours::default(),
            poller,
            waker,
            tap: Tap::default(),
            scratch: Scratch::default(),
            trunks: Trunks::default(),
            ephemeral: None,
            ephemeral_range: Range::open(),
            open_tun: Box::new(tun::open),
            events: VecDeque::new(),
            changes: Vec::new(),
            next_token: FIRST_TOKEN,
            next_turn: 0,
            doorway: Doorway::at(door),
            busy: BusyPoll::default(),
            next_housekeeping: Time::ZERO,
        };
        ports.apply(specs, peers)?;
        Ok(ports)
    }

    /// From now on /dev/net/tun comes from somebody else, since this process may not open it any more.
    pub fn open_tun_with(&mut self, open: impl FnMut() -> io::Result<File> + Send + 'static) {
        self.open_tun = Box::new(open);
    }

    /// Lets go of all interfaces, but leaves the classifier at work: what is Fairway's stays
    /// unanswered by the kernel until a router starts again, or [`crate::release`] is called. So sessions
    /// survive a restart. With several workers, each leaves so.
    pub fn leave_guarded(mut self) {
        for port in &self.ports {
            match port.endpoint.as_ref().map(|endpoint| &endpoint.link) {
                Some(Link::Ethernet(group, _)) => group.stay(),
                Some(Link::Tagged(trunk, _)) => trunk.stay(),
                Some(Link::Host(_)) | None => {}
            }
        }
        if let Some(ephemeral) = self.ephemeral.take() {
            ephemeral.leave();
        }
    }

    /// Moves to another set of interfaces and peers. Interfaces that stay keep their sockets and lose
    /// nothing; an id keeps its statistics. What the kernel forwards stays there if it may, see
    /// [`Self::keeps_offloads`]; whether next hops are as they were is found out in the next
    /// [`Self::handle_events`].
    ///
    /// With several workers, worker 0 goes first: it makes what all share. When it has succeeded, the
    /// others succeed with the same arguments, in any order: a device that one of them can't attach to
    /// yet is tried again. To go back, apply the old set in the same order.
    ///
    /// # Errors
    /// As [`Self::open`]; after an error the old set goes on working.
    pub fn apply(&mut self, specs: &[PortSpec], peers: &[IpAddr]) -> Result<(), OpenError> {
        self.apply_difference(specs, peers)
    }

    /// Wakes [`Self::wait`] from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Before it sleeps, [`Self::wait`] looks for packets for so long at most, where they follow one another
    /// that closely and no other program wants the processor; zero, as at first, for not at all.
    pub fn set_busy_poll(&mut self, most: Duration) {
        self.busy.set(most);
    }

    /// How long [`Self::wait`] has looked for packets instead of sleeping.
    #[must_use]
    pub const fn busy_polled(&self) -> Duration {
        self.busy.looked()
    }

    /// Which of the workers this is.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Places tuples at workers, by the interfaces that this worker has.
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }

    /// Waits for packets, for reports of the kernel, for a [`Waker`] or for `timeout`; `None` waits
    /// for ever. An interrupted wait returns early.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        self.flows.beat();
        let waiting = self.doorway.ready || self.ports.iter().any(|port| port.ready);
        let mut ready = Ready { packets: waiting, ..Ready::default() };
        if waiting || timeout == Some(Duration::ZERO) {
            self.poll(Some(Duration::ZERO), &mut ready)?;
        } else {
            let mut busy = std::mem::take(&mut self.busy);
            let found =
                busy.look(|| self.poll(Some(Duration::ZERO), &mut ready).map(|()| ready.is_anything()));
            self.busy = busy;
            if !found? {
                let start = kernel_time();
                self.poll(timeout, &mut ready)?;
                if ready.packets {
                    self.busy.slept_since(start);
                }
            }
        }
        self.flows.beat();
        Ok(ready)
    }

    /// Says that the worker is at work, as [`Self::wait`] does, in what takes long: the kernel forwards nothing
    /// for one that has not been for three seconds.
    pub fn beat(&mut self) {
        self.flows.beat();
    }

    /// Waits without looking twice.
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Ready) -> io::Result<()> {
        let Self { ports, poller, waker, doorway, .. } = self;
        poller.wait(timeout, |token| match token {
            TOKEN_WAKER => {
                waker.drain();
                ready.woken = true;
            }
            TOKEN_KERNEL => ready.events = true,
            TOKEN_DOOR => {
                doorway.ready = true;
                ready.packets = true;
            }
            _ => {
                let has =
                    |port: &&mut Port| port.endpoint.as_ref().is_some_and(|e| e.token == token & !BESIDE);
                if let Some(port) = ports.iter_mut().find(has) {
                    port.ready = true;
                    port.beside |= token & BESIDE != 0;
                    ready.packets = true;
                }
            }
        })
    }

    /// Receives packets into the free slots of `batch`, and returns how many. The door and interfaces with
    /// sockets of their own take turns.
    pub fn receive(&mut self, batch: &mut Batch) -> usize {
        // The last place is that of the door.
        let count = self.ports.len() + 1;
        self.tap.begin();
        let start = self.next_turn % count;
        self.next_turn = start + 1;
        let mut received = 0;
        for at in (start..count).chain(0..start) {
            if batch.room() == 0 {
                break;
            }
            match self.ports.get_mut(at) {
                None => received += self.receive_by_door(batch),
                Some(port) if !port.ready => {}
                Some(port) if port.tag().is_some() => received += self.receive_tagged(at, batch),
                Some(port) => {
                    let interface = port.spec.id;
                    let pending = self.flows.is_pending(interface);
                    if pending {
                        self.flows.before_read(interface);
                        self.begin_round(at);
                    }
                    let Some(port) = self.ports.get_mut(at) else { continue };
                    received += port.receive(batch, &mut self.tap);
                    if pending {
                        let (taken, empty) = port.end_round(&self.doorway.intake);
                        self.flows.after_read(interface, taken, empty);
                    }
                }
            }
        }
        if batch.is_empty() {
            self.settle_offloads();
        }
        received
    }

    /// Sends every slot whose verdict is `Forward`, in the order of [`Batch::in_order`], and hands slots with `Punt` to the host through a TUN interface if there is one. A slot that
    /// could not be sent has the verdict `Drop` afterwards, and its reason is counted under the egress
    /// interface; one that waits for its next hop's link address has `Consumed`.
    pub fn transmit(&mut self, now: Now, batch: &mut Batch) {
        self.tap.begin();
        self.trunks.set_time(now.mono);
        let mut sender = self.sender();
        batch.in_order(|slots| sender.send(now.mono, slots));
        self.settle_offloads();
        self.solicit();
    }

    /// Takes in what the kernel reported, sends packets whose next hop became known, drops those whose
    /// next hop did not answer, and keeps next hops in use alive.
    ///
    /// # Errors
    /// Those of netlink; the next call tries again.
    pub fn handle_events(&mut self, now: Now) -> io::Result<()> {
        self.trunks.set_time(now.mono);
        let result = self.read_changes();
        self.read_own_links();
        self.act_on_changes(now.mono);
        self.keep_house(now.mono);
        self.solicit();
        result
    }

    /// When [`Self::handle_events`] must be called next, even if nothing is reported.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.shared.links.has_news(self.worker) || !self.following.is_empty() || !self.changes.is_empty() {
            return Some(Time::ZERO);
        }
        let neighbours = self.neighbours.poll_timeout().unwrap_or(self.next_housekeeping);
        Some(self.next_housekeeping.min(neighbours))
    }

    /// The next change to interfaces that [`Self::handle_events`], [`Self::open`] or [`Self::apply`]
    /// has found.
    pub fn poll_event(&mut self) -> Option<PortEvent> {
        self.events.pop_front()
    }

    /// Every interface with its state and this worker's statistics as they are now, in the order of the
    /// specifications.
    #[must_use]
    pub fn status(&mut self) -> Vec<PortStatus> {
        self.count_overruns();
        if self.flows.len() <= Self::FEW_OFFLOADS {
            self.account_all();
        }
        let status = |port: &Port| PortStatus {
            id: port.spec.id,
            name: port.spec.name.clone(),
            device: port.device.clone(),
            kind: port.spec.kind,
            tagged: port.tag().is_some(),
            io: port.endpoint.as_ref().map(|endpoint| endpoint.link.method()),
            up: port.up,
            mtu: port.mtu,
            mac: port.mac,
            addresses: port.addresses.clone(),
            statistics: port.statistics.clone(),
        };
        self.ports.iter().map(status).collect()
    }

    fn port(&self, interface: InterfaceId) -> Option<&Port> {
        self.ports.iter().find(|port| port.spec.id == interface)
    }

    /// The longest packet that `interface` may send, in bytes; `None` while its device is gone.
    #[must_use]
    pub fn mtu(&self, interface: InterfaceId) -> Option<u16> {
        self.port(interface).filter(|port| port.endpoint.is_some()).map(|port| port.mtu)
    }

    /// Whether `interface` can send and receive.
    #[must_use]
    pub fn is_up(&self, interface: InterfaceId) -> bool {
        self.port(interface).is_some_and(|port| port.up)
    }

    /// The addresses that the kernel holds on the device of `interface`.
    #[must_use]
    pub fn addresses(&self, interface: InterfaceId) -> Vec<IpNet> {
        self.port(interface).map(|port| port.addresses.clone()).unwrap_or_default()
    }

    /// Packets that arrived on Ethernet interfaces, by the rule of the classifier that decided, for all
    /// workers.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn classified(&self) -> io::Result<Vec<(Rule, u64)>> {
        self.shared.classifier.counts()
    }

    /// Calls `hook` for every packet received and sent from now on, or stops with `None`.
    pub fn set_capture(&mut self, hook: Option<CaptureHook>) {
        self.tap.set(hook);
        self.pause_for_all();
    }

    fn sender(&mut self) -> Sender<'_> {
        Sender {
            ports: &mut self.ports,
            state: self.watch.state(),
            neighbours: &mut self.neighbours,
            tap: &mut self.tap,
            scratch: &mut self.scratch,
        }
    }

    /// Asks the kernel for the link addresses that are wanted. What it has no room for is asked again.
    fn solicit(&mut self) {
        let Self { neighbours, watch, .. } = self;
        let mut own = Vec::new();
        for (index, address) in neighbours.solicitations() {
            if is_own(index) {
                own.push((index, address));
            } else if let Err(error) = watch.solicit(index, address) {
                tracing::debug!(%error, %address, "the kernel was not asked for a next hop");
            }
        }
        own.into_iter().for_each(|target| self.ask_on_own_link(target));
    }
}
