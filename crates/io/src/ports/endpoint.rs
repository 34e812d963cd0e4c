//! One interface: its specification, and what it is attached to while its device is there.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fairway_types::packet::TAILROOM;
use fairway_types::steering::WorkerId;
use fairway_types::{Batch, DropReason, IpNet, Slot};

use super::BESIDE;
use super::group::Group;
use super::rounds::Rounds;
use super::tagged::Trunk;
use super::tap::Tap;
use super::xdp::Xdp;
use crate::capture::Direction;
use crate::frame::{ETHERNET, VNET, ip_length, read_vnet};
use crate::netlink::Place;
use crate::spec::{IoMethod, PortSpec, PortStatistics};
use crate::sys::packet::{Arrival, BATCH, FEW, HEADER, Header, Outgoing, Socket};
use crate::sys::poll::Poller;
use crate::sys::tun::Device;

/// How often a send is tried again when the kernel has no room.
pub(super) const SEND_RETRIES: u32 = 3;
/// How many times an interface is read for many packets after there were many.
const EAGER: u8 = 32;
/// How many errors of a socket one call to receive gets over.
const RECEIVE_ERRORS: u32 = 16;

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
                let socket = group.seat(*worker).map(|socket| (socket.fd(), beside));
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
    poller: Poller,
}

impl Endpoint {
    /// A link to the device with the number `index`. What can be received is reported as `token` if
    /// this worker `reads`.
    pub(super) fn new(index: u32, token: u64, link: Link, poller: &Poller, reads: bool) -> io::Result<Self> {
        for (descriptor, which) in link.descriptors().into_iter().filter(|_| reads) {
            poller.add(descriptor, token | which)?;
        }
        Ok(Self { device: index, index, token, link, poller: poller.clone() })
    }

    /// A tag on a trunk, whose own link has the number `index`.
    pub(super) fn tagged(index: u32, trunk: Arc<Trunk>, tag: u16, poller: &Poller) -> Self {
        let (device, token) = (trunk.device, trunk.token);
        Self { device, index, token, link: Link::Tagged(trunk, tag), poller: poller.clone() }
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
    /// Frames that were put into its packet socket, as far as is known, and those taken out of it.
    pub(super) accepted: u64,
    pub(super) taken: u64,
    /// May have packets to receive.
    pub(super) ready: bool,
    /// Had more than a few when it was read so many times less than [`EAGER`] ago.
    eager: u8,
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
            accepted: 0,
            taken: 0,
            ready: false,
            eager: 0,
            beside: false,
            rounds: Rounds::default(),
            up: false,
            takes_frames: false,
            mtu: 0,
            mac: [0; 6],
            addresses: Vec::new(),
        }
    }

    /// Whether `other` means the same device.
    pub(super) fn same_device(&self, other: &PortSpec) -> bool {
        (self.spec.kind, self.spec.vlan) == (other.kind, other.vlan) && self.spec.device == other.device
    }

    /// Receives into the free slots of `batch`, and returns how many packets came.
    pub(super) fn receive(&mut self, batch: &mut Batch, tap: &mut Tap) -> usize {
        let Some(endpoint) = &self.endpoint else {
            self.ready = false;
            return 0;
        };
        match &endpoint.link {
            Link::Ethernet(group, worker) => {
                let Some(socket) = group.seat(*worker) else { return 0 };
                let xdp =
                    group.xdp().map(|xdp| xdp.receive(*worker, batch, &self.spec, &mut self.statistics, tap));
                let (received, waiting) = xdp.unwrap_or((0, false));
                if group.xdp().is_some() && !self.beside {
                    self.ready = waiting;
                    return received;
                }
                // Most of the time few packets wait, and slots that stay empty cost, too.
                let room = batch.room().min(if self.eager > 0 { BATCH } else { FEW });
                let first = batch.len();
                for _ in 0..room {
                    batch.receive();
                }
                let slots = batch.received_mut().get_mut(first..).unwrap_or_default();
                let (kept, more, taken) =
                    receive_frames(socket, slots, &self.spec, &mut self.statistics, tap);
                self.taken += taken as u64;
                let many = more || taken > FEW;
                self.eager = if many { EAGER } else { self.eager.saturating_sub(1) };
                if !more {
                    // What was taken and could not be counted is gone, too.
                    self.taken = self.taken.max(self.accepted);
                }
                (kept..room).for_each(|_| batch.unreceive());
                self.ready = more || waiting;
                self.beside = more;
                received + kept
            }
            Link::Host(device) => {
                let first = batch.len();
                self.ready = receive_packets(device, batch, &self.spec, &mut self.statistics, tap);
                batch.len() - first
            }
            // A trunk is read for all its interfaces: [`super::Ports::receive_tagged`].
            Link::Tagged(..) => 0,
        }
    }

    /// What is about to be read is to be told from what comes later: returns what [`Self::end_round`] will
    /// have reached when all of it has been read.
    pub(super) fn begin_round(&mut self) -> u64 {
        match self.endpoint.as_ref().and_then(|endpoint| endpoint.link.xdp()) {
            Some((xdp, worker)) => {
                // What XDP has passed on may be in the packet socket.
                self.beside = true;
                self.rounds.begin(xdp, worker, self.accepted)
            }
            None => self.accepted,
        }
    }

    /// How far reading has come, and whether nothing at all was left.
    pub(super) fn end_round(&mut self) -> (u64, bool) {
        match self.endpoint.as_ref().and_then(|endpoint| endpoint.link.xdp()) {
            Some((xdp, worker)) => {
                let beside = if self.beside { self.taken } else { u64::MAX };
                (self.rounds.end(xdp, worker, beside, !self.ready), false)
            }
            None => (self.taken, !self.ready),
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
        if let Some(socket) = link.socket() {
            // Of a trunk, the first to ask is told: whose tag a lost frame had, nobody knows.
            let (accepted, lost) = socket.arrivals().unwrap_or_default();
            self.accepted += u64::from(accepted);
            self.statistics.rx_overruns += u64::from(lost);
        }
    }
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

/// Receives into `slots`; usable packets come first. Returns how many those are, whether more may wait, and
/// how many frames there were in all.
fn receive_frames(
    socket: &Socket,
    slots: &mut [Slot],
    spec: &PortSpec,
    statistics: &mut PortStatistics,
    tap: &mut Tap,
) -> (usize, bool, usize) {
    if slots.is_empty() {
        return (0, true, 0);
    }
    match slots.len() {
        ..=FEW => receive_up_to::<FEW>(socket, slots, spec, statistics, tap),
        _ => receive_up_to::<BATCH>(socket, slots, spec, statistics, tap),
    }
}

fn receive_up_to<const MOST: usize>(
    socket: &Socket,
    slots: &mut [Slot],
    spec: &PortSpec,
    statistics: &mut PortStatistics,
    tap: &mut Tap,
) -> (usize, bool, usize) {
    let mut headers = [[0; HEADER]; MOST];
    let mut arrivals = [Arrival::default(); MOST];
    let count = match receive_some(socket, slots, &mut headers, &mut arrivals, statistics) {
        Some(count) => count,
        None => return (0, false, 0),
    };
    let more = count == slots.len().min(MOST);
    let mut kept = 0;
    for (at, (header, arrival)) in headers.iter().zip(&arrivals).take(count).enumerate() {
        let Some(slot) = slots.get_mut(at) else { break };
        if finish_frame(slot, header, *arrival).is_none() {
            statistics.rx_unusable += 1;
            slot.packet.clear();
            continue;
        }
        slot.interface = spec.id;
        statistics.rx_packets += 1;
        statistics.rx_bytes += slot.packet.len() as u64;
        let link_header = header.get(VNET..).unwrap_or_default();
        tap.record(spec.id, Direction::Inbound, link_header, slot.packet.bytes(), slot.gso);
        slots.swap(kept, at);
        kept += 1;
    }
    (kept, more, count)
}

/// One batch from the socket, past the errors that concern single frames; `None` when nothing waits.
pub(super) fn receive_some<const MOST: usize>(
    socket: &Socket,
    slots: &mut [Slot],
    headers: &mut [Header; MOST],
    arrivals: &mut [Arrival; MOST],
    statistics: &mut PortStatistics,
) -> Option<usize> {
    for _ in 0..RECEIVE_ERRORS {
        match socket.receive(slots, headers, arrivals) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return None,
                // A frame whose offloads have no vnet header is lost.
                Some(libc::EINVAL) => statistics.rx_unusable += 1,
                // The device went down; the socket remembers that once. EINTR is nothing.
                _ => {}
            },
        }
    }
    None
}

/// Completes a slot that a frame was received into; `None` when it can't be used.
pub(super) fn finish_frame(slot: &mut Slot, header: &Header, arrival: Arrival) -> Option<()> {
    let length = arrival.length.checked_sub(HEADER).filter(|_| !arrival.truncated)?;
    let (checksum, gso) = read_vnet(header.first_chunk::<VNET>()?).ok()?;
    slot.packet.set_len(length);
    slot.checksum = checksum;
    slot.gso = gso;
    if let (None, Some(real)) = (gso, ip_length(slot.packet.bytes())) {
        slot.packet.truncate(real);
    }
    Some(())
}

/// Receives from a TUN until it is empty or the batch is full; says whether more may wait.
fn receive_packets(
    device: &Device,
    batch: &mut Batch,
    spec: &PortSpec,
    statistics: &mut PortStatistics,
    tap: &mut Tap,
) -> bool {
    for _ in 0..BATCH {
        let Some(slot) = batch.receive() else { return true };
        let mut header = [0; VNET];
        let spare = slot.packet.spare_mut();
        let room = spare.len().saturating_sub(TAILROOM);
        let received = device.receive(&mut header, spare.get_mut(..room).unwrap_or_default());
        let (Ok(length), Ok((checksum, gso))) = (&received, read_vnet(&header)) else {
            batch.unreceive();
            if received.is_ok() {
                statistics.rx_unusable += 1;
                continue;
            }
            return false;
        };
        slot.packet.set_len(length.saturating_sub(VNET));
        (slot.checksum, slot.gso, slot.interface) = (checksum, gso, spec.id);
        statistics.rx_packets += 1;
        statistics.rx_bytes += slot.packet.len() as u64;
        tap.record(spec.id, Direction::Inbound, &[], slot.packet.bytes(), slot.gso);
    }
    true
}

const _: () = assert!(HEADER == VNET + ETHERNET);
