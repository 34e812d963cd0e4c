//! One interface: its specification, and what it is attached to while its device is there.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fairway_types::steering::WorkerId;
use fairway_types::{Batch, DropReason, IpNet, Slot};

use super::BESIDE;
use super::group::Group;
use super::intake::{Intake, finish_frame, receive_packets};
use super::rounds::Rounds;
use super::tagged::Trunk;
use super::tap::Tap;
use super::xdp::Xdp;
use crate::capture::Direction;
use crate::frame::{ETHERNET, VNET};
use crate::netlink::Place;
use crate::spec::{IoMethod, PortSpec, PortStatistics};
use crate::sys::packet::{Arrival, HEADER, Header, Outgoing, Socket};
use crate::sys::poll::Poller;
use crate::sys::tun::Device;

/// How often a send is tried again when the kernel has no room.
pub(super) const SEND_RETRIES: u32 = 3;

/// What an interface is attached to; all workers share it.
#[derive(Debug)]
pub(super) enum Link {
    /// A device of the kernel, and this worker's seat there.
    Ethernet(Arc<Group>, WorkerId),
    /// A tag on a device of the kernel that has no VLAN device for it, and this worker's seat there,
    /// which is that of all tags.
    Tagged(Arc<Trunk>, u16),
    /// A device of Fairway's own.
    Host(Arc<Device>),
}

impl Link {
    /// What frames are sent by.
    fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Ethernet(group, worker) => group.seat(*worker),
            Self::Tagged(trunk, _) => trunk.socket(),
            Self::Host(_) => None,
        }
    }

    /// What is waited for, and how it is told from the others of the interface.
    fn descriptors(&self) -> Vec<(BorrowedFd<'_>, u64)> {
        match self {
            Self::Ethernet(group, worker) => {
                let beside = if group.xdp().is_some() { BESIDE } else { 0 };
                let xdp = group.xdp().into_iter().flat_map(|xdp| xdp.descriptors(*worker));
                let socket = group.seat(*worker).filter(|_| !group.by_door());
                let socket = socket.map(|socket| (socket.fd(), beside));
                xdp.map(|fd| (fd, 0)).chain(socket).collect()
            }
            // It is waited for once, whatever shares it.
            Self::Tagged(..) => Vec::new(),
            Self::Host(device) => vec![(device.fd(), 0)],
        }
    }

    /// The AF_XDP sockets, and this worker's number there.
    pub(super) fn xdp(&self) -> Option<(&Xdp, WorkerId)> {
        match self {
            Self::Ethernet(group, worker) => group.xdp().map(|xdp| (xdp, *worker)),
            Self::Tagged(..) | Self::Host(_) => None,
        }
    }

    /// How frames are exchanged with the kernel.
    pub(super) fn method(&self) -> IoMethod {
        match self {
            Self::Ethernet(group, _) => group.xdp().map_or(IoMethod::Packet, Xdp::method),
            Self::Tagged(..) => IoMethod::Packet,
            Self::Host(_) => IoMethod::Tun,
        }
    }

    /// Whether it is still attached to the device with this number.
    pub(super) fn serves(&self, index: u32) -> bool {
        match self {
            Self::Ethernet(group, _) => group.serves(index),
            Self::Tagged(trunk, _) => trunk.serves(index),
            Self::Host(_) => true,
        }
    }
}

/// A link, and how it is known to the kernel and to the poller.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The device of the kernel.
    pub(super) device: u32,
    /// Whose addresses, routes and neighbours hold: the device's, or an own link's.
    pub(super) index: u32,
    pub(super) token: u64,
    pub(super) link: Link,
    pub(super) by_door: ByDoor,
    poller: Poller,
}

/// What the door of this worker was given for a device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByDoor {
    /// Frames that were read, and those that had been counted before this worker attached to it.
    pub(super) taken: u64,
    /// Frames that found no room.
    pub(super) lost: u64,
}

impl Endpoint {
    /// A link to the device with the number `index`. What can be received is reported as `token` if
    /// this worker `reads`.
    pub(super) fn new(index: u32, token: u64, link: Link, poller: &Poller, reads: bool) -> io::Result<Self> {
        for (descriptor, which) in link.descriptors().into_iter().filter(|_| reads) {
            poller.add(descriptor, token | which)?;
        }
        let by_door = ByDoor::default();
        Ok(Self { device: index, index, token, link, by_door, poller: poller.clone() })
    }

    /// A tag on a trunk, whose own link has the number `index`.
    pub(super) fn tagged(index: u32, trunk: Arc<Trunk>, tag: u16, poller: &Poller) -> Self {
        let (device, token) = (trunk.device, trunk.token);
        let (link, by_door) = (Link::Tagged(trunk, tag), ByDoor::default());
        Self { device, index, token, link, by_door, poller: poller.clone() }
    }

    /// The tag that is read and written here.
    pub(super) fn tag(&self) -> Option<u16> {
        match self.link {
            Link::Tagged(_, tag) => Some(tag),
            Link::Ethernet(..) | Link::Host(_) => None,
        }
    }

    /// Whether this is attached there now.
    pub(super) fn is_attached_to(&self, place: Place) -> bool {
        (self.device, self.tag()) == (place.device, place.tag) && self.link.serves(place.device)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Other workers may keep the descriptor open.
        for (descriptor, _) in self.link.descriptors() {
            self.poller.remove(descriptor);
        }
    }
}

/// One interface.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) spec: PortSpec,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) statistics: PortStatistics,
    /// Its own packet socket, if frames come by one.
    intake: Intake,
    /// May have packets to receive.
    pub(super) ready: bool,
    /// Beside AF_XDP sockets, the packet socket may have some.
    pub(super) beside: bool,
    /// Of reading AF_XDP sockets.
    pub(super) rounds: Rounds,
    pub(super) up: bool,
    /// Whether its device takes frames that a program for XDP sends there.
    pub(super) takes_frames: bool,
    pub(super) device: String,
    pub(super) mtu: u16,
    pub(super) mac: [u8; 6],
    pub(super) addresses: Vec<IpNet>,
}

impl Port {
    /// An interface whose device has not been seen yet.
    pub(super) fn new(spec: PortSpec) -> Self {
        Self {
            device: spec.device.clone(),
            spec,
            endpoint: None,
            statistics: PortStatistics::default(),
            intake: Intake::default(),
            ready: false,
            beside: false,
            rounds: Rounds::default(),
            up: false,
            takes_frames: false,
            mtu: 0,
            mac: [0; 6],
            addresses: Vec::new(),
        }
    }

    /// Goes on where `before` was at the same device.
    pub(super) fn take_device_of(&mut self, before: &mut Self) {
        self.endpoint = before.endpoint.take();
        self.intake = std::mem::take(&mut before.intake);
        self.rounds = std::mem::take(&mut before.rounds);
        (self.ready, self.beside) = (before.ready, before.beside);
        self.takes_frames = before.takes_frames;
    }

    /// Whether `other` means the same device.
    pub(super) fn same_device(&self, other: &PortSpec) -> bool {
        (self.spec.kind, self.spec.vlan) == (other.kind, other.vlan) && self.spec.device == other.device
    }

    /// Receives into the free slots of `batch` what comes by no door, and returns how many packets came.
    pub(super) fn receive(&mut self, batch: &mut Batch, tap: &mut Tap) -> usize {
        let Self { endpoint, spec, statistics, intake, .. } = self;
        let Some(endpoint) = endpoint else {
            self.ready = false;
            return 0;
        };
        match &endpoint.link {
            Link::Ethernet(group, worker) => {
                let xdp = group.xdp().map(|xdp| xdp.receive(*worker, batch, spec, statistics, tap));
                let (received, waiting) = xdp.unwrap_or((0, false));
                let beside = group.xdp().is_none() || self.beside;
                let Some(socket) = group.seat(*worker).filter(|_| beside && !group.by_door()) else {
                    self.ready = waiting;
                    return received;
                };
                let mut unusable = 0;
                let (kept, more) = intake.read(socket, batch, &mut unusable, |slot, header, arrival| {
                    take(slot, header, arrival, spec, statistics, tap)
                });
                statistics.rx_unusable += unusable;
                self.ready = more || waiting;
                self.beside = more;
                received + kept
            }
            Link::Host(device) => {
                let (first, mut unusable) = (batch.len(), 0);
                self.ready = receive_packets(device, batch, &mut unusable, |slot| {
                    slot.interface = spec.id;
                    statistics.rx_packets += 1;
                    statistics.rx_bytes += slot.packet.len() as u64;
                    tap.record(spec.id, Direction::Inbound, &[], slot.packet.bytes(), slot.gso);
                });
                statistics.rx_unusable += unusable;
                batch.len() - first
            }
            // A trunk is read for all its interfaces: [`super::Ports::receive_tagged`].
            Link::Tagged(..) => 0,
        }
    }

    /// Takes a frame that came by the door, and says whether it is of use.
    pub(super) fn take_from_door(
        &mut self,
        slot: &mut Slot,
        header: &mut Header,
        arrival: Arrival,
        tap: &mut Tap,
    ) -> bool {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.by_door.taken += 1;
        }
        // It stood there before.
        if let Some(address) = header.get_mut(VNET..VNET + 6) {
            address.copy_from_slice(&self.mac);
        }
        take(slot, header, arrival, &self.spec, &mut self.statistics, tap)
    }

    /// The device whose frames come by a door, those apart that come by AF_XDP.
    pub(super) fn at_door(&self) -> Option<u32> {
        match self.endpoint.as_ref()? {
            Endpoint { device, link: Link::Ethernet(group, _), .. } if group.by_door() => Some(*device),
            _ => None,
        }
    }

    /// Whether frames come by AF_XDP.
    pub(super) fn has_xdp(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.link.xdp().is_some())
    }

    /// What is about to be read is to be told from what comes later: returns what [`Self::end_round`] will
    /// have reached when all of it has been read. `door` is what it may come by beside.
    pub(super) fn begin_round(&mut self, door: &Intake) -> u64 {
        let beside = if self.at_door().is_some() { door.accepted } else { self.intake.accepted };
        match self.endpoint.as_ref().and_then(|endpoint| endpoint.link.xdp()) {
            Some((xdp, worker)) => {
                // What XDP has passed on may be in the packet socket.
                self.beside = true;
                self.rounds.begin(xdp, worker, beside)
            }
            None => beside,
        }
    }

    /// How far reading has come, and whether nothing at all was left.
    pub(super) fn end_round(&mut self, door: &Intake) -> (u64, bool) {
        let (taken, waits) =
            if self.at_door().is_some() { (door.taken, true) } else { (self.intake.taken, self.beside) };
        match self.endpoint.as_ref().and_then(|endpoint| endpoint.link.xdp()) {
            Some((xdp, worker)) => {
                let beside = if waits { taken } else { u64::MAX };
                (self.rounds.end(xdp, worker, beside, !self.ready), false)
            }
            None => (taken, !self.ready),
        }
    }

    /// Whether frames that were sent wait for their device.
    pub(super) fn is_sending(&self) -> bool {
        let xdp = self.endpoint.as_ref().and_then(|endpoint| endpoint.link.xdp());
        xdp.is_some_and(|(xdp, worker)| xdp.is_sending(worker))
    }

    /// The tag that is read and written here.
    pub(super) fn tag(&self) -> Option<u16> {
        self.endpoint.as_ref().and_then(Endpoint::tag)
    }

    /// Sends frames of an Ethernet interface in order, and calls `failed` for each that can't be sent.
    pub(super) fn send_frames(&mut self, frames: &[Outgoing<'_>], mut failed: impl FnMut(usize, DropReason)) {
        let Some(link) = self.endpoint.as_ref().map(|endpoint| &endpoint.link) else {
            (0..frames.len()).for_each(|at| failed(at, DropReason::InterfaceDown));
            return;
        };
        let Some((xdp, worker)) = link.xdp() else {
            send_on(link.socket(), frames, failed);
            return;
        };
        let mut done = 0;
        for run in frames.chunk_by(|one, next| xdp.takes(one) == xdp.takes(next)) {
            let failed = |at, reason| failed(done + at, reason);
            if run.first().is_some_and(|frame| xdp.takes(frame)) {
                // What the device has no room for now is tried again soon.
                self.ready |= xdp.send(worker, run, failed) && self.up;
            } else {
                send_on(link.socket(), run, failed);
            }
            done += run.len();
        }
    }

    /// Takes over how many frames found no room in the socket.
    pub(super) fn count_overruns(&mut self) {
        let Some(link) = self.endpoint.as_ref().map(|endpoint| &endpoint.link) else { return };
        if let Some((xdp, worker)) = link.xdp() {
            self.statistics.rx_overruns += xdp.overruns(worker);
        }
        if let Some(socket) = link.socket().filter(|_| self.at_door().is_none()) {
            // Of a trunk, the first to ask is told: whose tag a lost frame had, nobody knows.
            self.statistics.rx_overruns += self.intake.count(socket);
        }
    }
}

/// Completes a frame that came for an interface, counts and shows it; says whether it is of use.
fn take(
    slot: &mut Slot,
    header: &Header,
    arrival: Arrival,
    spec: &PortSpec,
    statistics: &mut PortStatistics,
    tap: &mut Tap,
) -> bool {
    if finish_frame(slot, header, arrival).is_none() {
        statistics.rx_unusable += 1;
        return false;
    }
    slot.interface = spec.id;
    statistics.rx_packets += 1;
    statistics.rx_bytes += slot.packet.len() as u64;
    let link_header = header.get(VNET..).unwrap_or_default();
    tap.record(spec.id, Direction::Inbound, link_header, slot.packet.bytes(), slot.gso);
    true
}

/// Sends frames over a packet socket in order, and calls `failed` for each that can't be sent.
fn send_on(socket: Option<&Socket>, frames: &[Outgoing<'_>], mut failed: impl FnMut(usize, DropReason)) {
    let Some(socket) = socket else {
        (0..frames.len()).for_each(|at| failed(at, DropReason::InterfaceDown));
        return;
    };
    let (mut at, mut retries) = (0, 0);
    while let Some(rest) = frames.get(at..).filter(|rest| !rest.is_empty()) {
        let error = match socket.send(rest) {
            Ok(sent) if sent > 0 => {
                at += sent;
                retries = 0;
                continue;
            }
            Ok(_) => io::ErrorKind::WriteZero.into(),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN | libc::ENOBUFS) if retries < SEND_RETRIES => {
                retries += 1;
                socket.wait_writable();
            }
            _ => {
                failed(at, send_failure(&error));
                at += 1;
                retries = 0;
            }
        }
    }
}

/// The reason that fits what the kernel answered.
pub(super) fn send_failure(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => DropReason::TooBig,
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EIO | libc::EBADFD) => {
            DropReason::InterfaceDown
        }
        _ => DropReason::SendFailed,
    }
}

const _: () = assert!(HEADER == VNET + ETHERNET);
