//! AF_XDP beside the packet sockets of a device.
//!
//! The program for XDP gives frames that are Fairway's to a socket of the worker they are for, in every
//! queue of the device. The packet sockets stay, and so does the classifier at tc: what XDP passes on goes
//! their way, and all of it does when the router is gone, since XDP goes with the process. So a frame that
//! AF_XDP has no place for (a super-packet, a queue without socket) needs no other answer here.
//!
//! Frames come without a word about their checksum. Where it may be unfinished, because the sender is on
//! this machine, that is found out from the packet.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use fairway_types::steering::WorkerId;
use fairway_types::{Batch, Checksum, DropReason};
use tracing::{debug, info, warn};

use super::endpoint::SEND_RETRIES;
use super::tap::Tap;
use crate::capture::Direction;
use crate::classifier::{Classifier, DEVICE_BYTES, Redirect};
use crate::error::OpenError;
use crate::frame::{ETHERNET, VNET, finish_checksum, guess_checksum, ip_length, is_super_packet};
use crate::netlink::{self, Link};
use crate::spec::{IoChoice, IoMethod, PortSpec, PortStatistics};
use crate::steering::Parameters;
use crate::sys::bpf::{Map, XdpAttachment, XdpPlace};
use crate::sys::packet::{BATCH, Outgoing};
use crate::sys::shared::SharedArray;
use crate::sys::xdp::{Copies, Queue, QueueSize};

/// Frames to receive into on one device, over all queues; and the least and the most of one queue.
const FRAMES: u32 = 16_384;
const USUAL_LEAST: u32 = 1024;
const MOST_FRAMES: u32 = 8192;
/// What a queue makes do with.
const LEAST_FRAMES: u32 = 256;
/// As many are received into for each that can be sent.
const RECEIVED_PER_SENT: u32 = 4;
/// Sizes of frames that the kernel knows.
const FRAME_BYTES: [u32; 2] = [2048, 4096];
/// The most queues of a device.
const MOST_QUEUES: u32 = 64;

/// How long the kernel is given to take sockets apart, before it is asked again.
const MOMENT: Duration = Duration::from_millis(20);

/// What AF_XDP on a device is made of.
pub(super) struct Wanted<'a> {
    pub(super) classifier: &'a Classifier,
    pub(super) device: &'a Link,
    /// For several workers.
    pub(super) steering: Option<Parameters>,
    pub(super) workers: u8,
}

/// Why a device is left to packet sockets.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("its MTU of {0} bytes is longer than a frame can be")]
    TooLong(u32),
    #[error(
        "tags may be taken out of its frames, which then look untagged (ethtool -K {0} rxvlan off, and on a veth \
         txvlan off at its other end)"
    )]
    TakesTags(String),
    #[error("it joins frames before they get there (ethtool -K {0} gro off)")]
    JoinsFrames(String),
    #[error("its driver does not have it")]
    NotInDriver,
    #[error("its MTU, or that of its other end, is too long for its driver")]
    TooLongForDriver,
    #[error("its frames need more memory than this process may lock (ulimit -l)")]
    LockLimit,
    #[error("another program is there")]
    Occupied,
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    #[error("the kernel refused the program, which wants Linux 5.18: {0}")]
    Program(io::Error),
}

/// The AF_XDP sockets of all workers on one device, and the program that gives them frames.
#[derive(Debug)]
pub(super) struct Xdp {
    // Dropped before the sockets: nothing is given to one that closes.
    _attachment: XdpAttachment,
    _sockets: Map<4, 4>,
    device: Map<4, DEVICE_BYTES>,
    /// How many frames the program has given to each socket; see [`Redirect::sockets`].
    given: SharedArray<8>,
    queues: Vec<Queue>,
    workers: u8,
    method: IoMethod,
    frame_bytes: u32,
    /// Whether checksums may be unfinished.
    doubtful: bool,
    /// What the program knows of the device.
    known: Mutex<Option<[u8; DEVICE_BYTES]>>,
    /// The longest frame that the device sends.
    longest: AtomicUsize,
    next_queue: AtomicUsize,
}

/// Opens AF_XDP on a device if the specification asks for it and the device allows it. Whatever does not
/// come to pass is said in one line; packet sockets do without.
pub(super) fn choose(spec: &PortSpec, wanted: &Wanted<'_>) -> Option<Xdp> {
    let (interface, device) = (&spec.name, &wanted.device.name);
    let in_driver = match spec.io {
        IoChoice::Packet => return None,
        IoChoice::Auto if !netlink::has_zero_copy(wanted.device.index).unwrap_or(false) => return None,
        IoChoice::Auto => Xdp::open_soon(wanted, XdpPlace::Driver, Copies::Never),
        IoChoice::Xdp => Xdp::open_soon(wanted, XdpPlace::Driver, Copies::IfNeeded),
    };
    let in_driver = match in_driver {
        Ok(xdp) => return Some(xdp),
        Err(reason) if spec.io == IoChoice::Auto => {
            info!(%interface, %device, "packet sockets in place of AF_XDP: {reason}");
            return None;
        }
        Err(reason) => reason,
    };
    match Xdp::open(wanted, XdpPlace::Stack, Copies::Always) {
        Ok(xdp) => {
            warn!(%interface, %device, "AF_XDP in front of the network stack, not in the driver: {in_driver}");
            Some(xdp)
        }
        Err(reason) => {
            warn!(
                %interface, %device,
                "packet sockets in place of AF_XDP: in the driver, {in_driver}; before the network stack, {reason}"
            );
            None
        }
    }
}

impl Xdp {
    /// Opens AF_XDP; waits a moment for a router that has just ended, whose sockets the kernel is taking
    /// apart.
    fn open_soon(wanted: &Wanted<'_>, place: XdpPlace, copies: Copies) -> Result<Self, Refusal> {
        const TRIES: u32 = 10;
        for _ in 1..TRIES {
            match Self::open(wanted, place, copies) {
                Err(Refusal::Occupied) => sleep(MOMENT),
                opened => return opened,
            }
        }
        Self::open(wanted, place, copies)
    }

    fn open(wanted: &Wanted<'_>, place: XdpPlace, copies: Copies) -> Result<Self, Refusal> {
        let Wanted { classifier, device, steering, workers } = *wanted;
        let features =
            netlink::Features::of(device.index).map_err(|error| Refusal::System("ask the device", error))?;
        let frame_bytes = suitable(device, features, place)?;
        let queues = features.queues.min(MOST_QUEUES);
        let maps = |error| Refusal::System("create maps", error);
        let sockets = Map::xdp_sockets("fw_xdp_sockets", queues * u32::from(workers)).map_err(maps)?;
        let facts = Map::array("fw_xdp_device", 1).map_err(maps)?;
        let given = SharedArray::new("fw_xdp_given", queues * u32::from(workers)).map_err(maps)?;
        let (sockets_fd, given_fd) = (sockets.fd(), given.fd());
        let redirect =
            Redirect { sockets: sockets_fd, device: facts.fd(), given: given_fd, workers, steering };
        let program =
            classifier.redirect(redirect, place == XdpPlace::Driver).map_err(|error| match error {
                OpenError::Classifier { source, log } => {
                    debug!(%log, "what the kernel said of the program for XDP");
                    Refusal::Program(source)
                }
                other => Refusal::Program(io::Error::other(other)),
            })?;
        // Some drivers want a program before sockets. It passes everything on until it knows the device.
        let attachment =
            program.attach_xdp(device.index, place).map_err(|error| match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => Refusal::NotInDriver,
                Some(libc::ERANGE) => Refusal::TooLongForDriver,
                Some(libc::EBUSY | libc::EEXIST) => Refusal::Occupied,
                _ => Refusal::System("attach the program", error),
            })?;
        let queues = open_queues(device, queues, workers, (frame_bytes, copies))?;
        enter(&sockets, &queues, workers).map_err(|error| Refusal::System("enter a socket", error))?;
        let zero_copy = queues.iter().all(Queue::is_zero_copy);
        let xdp = Self {
            _attachment: attachment,
            _sockets: sockets,
            device: facts,
            given,
            queues,
            workers,
            method: if place == XdpPlace::Driver { IoMethod::XdpNative } else { IoMethod::XdpGeneric },
            frame_bytes,
            // What a network card writes into memory itself came over a wire.
            doubtful: !zero_copy,
            known: Mutex::default(),
            longest: AtomicUsize::new(0),
            next_queue: AtomicUsize::new(0),
        };
        xdp.follow(device);
        debug!(device = %device.name, queues = xdp.queues.len(), zero_copy, frame_bytes, "AF_XDP");
        Ok(xdp)
    }

    /// Takes over the device's link address and MTU.
    pub(super) fn follow(&self, device: &Link) {
        let longest = usize::try_from(device.mtu).unwrap_or(0) + ETHERNET;
        self.longest.store(longest.min(self.frame_bytes as usize), Ordering::Relaxed);
        let receivable = longest.min(QueueSize::longest(self.frame_bytes));
        let value =
            Redirect::device_value(device.mac, u16::try_from(receivable).unwrap_or(u16::MAX), self.doubtful);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == Some(value) {
            return;
        }
        match self.device.insert(&[0; 4], &value) {
            Ok(()) => *known = Some(value),
            Err(error) => warn!(device = %device.name, %error, "XDP does not know the device's link address"),
        }
    }

    pub(super) fn method(&self) -> IoMethod {
        self.method
    }

    /// The sockets of a worker.
    pub(super) fn descriptors(&self, worker: WorkerId) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().filter_map(move |queue| queue.fd(worker.index()))
    }

    /// How many frames found no room in a worker's sockets since the last call.
    pub(super) fn overruns(&self, worker: WorkerId) -> u64 {
        self.queues.iter().map(|queue| queue.overruns(worker.index()).unwrap_or(0)).sum()
    }

    /// Whether its program forwards flows by itself.
    pub(super) fn forwards(&self) -> bool {
        self.method == IoMethod::XdpNative
    }

    /// How many frames the program has given to a worker's sockets, by queue.
    pub(super) fn given(&self, worker: WorkerId) -> impl Iterator<Item = u64> {
        let socket = move |queue| queue * u32::from(self.workers) + u32::from(worker.0);
        let queues = 0..self.queues.len() as u32;
        queues.map(move |queue| self.given.double(socket(queue), 0).load(Ordering::Acquire))
    }

    /// How many of them are known to have gone on: read by the worker, or dropped for want of room.
    pub(super) fn gone_on(&self, worker: WorkerId, queue: usize, wanted: u64) -> u64 {
        let Some(queue) = self.queues.get(queue) else { return u64::MAX };
        let taken = queue.taken(worker.index());
        if taken >= wanted { taken } else { taken + queue.lost(worker.index()).unwrap_or(0) }
    }

    /// Whether frames of a worker wait for the device to take them.
    pub(super) fn is_sending(&self, worker: WorkerId) -> bool {
        self.sending(worker).is_some_and(|queue| queue.is_sending(worker.index()))
    }

    /// Receives into free slots of `batch`; queues take turns. Returns how many packets came, and whether
    /// more may wait.
    pub(super) fn receive(
        &self,
        worker: WorkerId,
        batch: &mut Batch,
        spec: &PortSpec,
        statistics: &mut PortStatistics,
        tap: &mut Tap,
    ) -> (usize, bool) {
        let first = batch.len();
        let mut left = batch.room().min(BATCH);
        let start = self.next_queue.fetch_add(1, Ordering::Relaxed) % self.queues.len().max(1);
        let (before, after) = self.queues.split_at(start);
        for queue in after.iter().chain(before) {
            if left == 0 {
                break;
            }
            left -= queue.receive(worker.index(), left, |frame| {
                let Some(slot) = batch.receive() else { return };
                let usable = frame.split_at_checked(ETHERNET).filter(|(_, packet)| slot.packet.fill(packet));
                let Some((link_header, packet)) = usable else {
                    batch.unreceive();
                    statistics.rx_unusable += 1;
                    return;
                };
                slot.packet.truncate(ip_length(packet).unwrap_or(usize::MAX));
                let packet = slot.packet.bytes();
                slot.checksum = if self.doubtful { guess_checksum(packet) } else { Checksum::Unverified };
                slot.interface = spec.id;
                statistics.rx_packets += 1;
                statistics.rx_bytes += packet.len() as u64;
                tap.record(spec.id, Direction::Inbound, link_header, packet, None);
            });
        }
        let sends = self.sending(worker).is_some_and(|queue| queue.kick(worker.index()));
        (batch.len() - first, left == 0 || sends)
    }

    /// The queue that a worker sends on.
    fn sending(&self, worker: WorkerId) -> Option<&Queue> {
        self.queues.get(worker.index() % self.queues.len().max(1))
    }

    /// Whether a frame can go this way: it is not to be cut, and fits.
    pub(super) fn takes(&self, frame: &Outgoing<'_>) -> bool {
        let header = frame.header.bytes();
        let whole = header.first_chunk().is_some_and(|vnet| !is_super_packet(vnet));
        whole && header.len() + frame.packet.len() <= self.longest.load(Ordering::Relaxed) + VNET
    }

    /// Sends frames in order, and calls `failed` for each that can't be sent. Returns whether the device has
    /// not taken some yet.
    pub(super) fn send(
        &self,
        worker: WorkerId,
        frames: &[Outgoing<'_>],
        mut failed: impl FnMut(usize, DropReason),
    ) -> bool {
        let Some(queue) = self.sending(worker) else { return false };
        let (mut at, mut retries) = (0, 0);
        while let Some(rest) = frames.get(at..).filter(|rest| !rest.is_empty()) {
            let length = |which: usize| rest.get(which).map_or(0, frame_length);
            let sent = queue.send(worker.index(), rest.len(), length, |which, bytes| {
                if let Some(frame) = rest.get(which) {
                    write(frame, bytes);
                }
            });
            at += sent;
            if sent > 0 {
                retries = 0;
            } else if retries < SEND_RETRIES {
                retries += 1;
                queue.kick(worker.index());
                queue.wait_writable(worker.index());
            } else {
                (at..frames.len()).for_each(|at| failed(at, DropReason::SendFailed));
                break;
            }
        }
        queue.is_sending(worker.index())
    }
}

fn frame_length(frame: &Outgoing<'_>) -> usize {
    (frame.header.bytes().len() + frame.packet.len()).saturating_sub(VNET)
}

/// Writes a frame, and finishes its checksum.
fn write(frame: &Outgoing<'_>, bytes: &mut [u8]) {
    let Some((vnet, link_header)) = frame.header.bytes().split_first_chunk::<VNET>() else { return };
    if let Some((front, back)) = bytes.split_at_mut_checked(link_header.len())
        && back.len() == frame.packet.len()
    {
        front.copy_from_slice(link_header);
        back.copy_from_slice(frame.packet);
        // The header was written for this very packet.
        let finished = finish_checksum(vnet, bytes);
        debug_assert!(finished.is_some(), "a vnet header that contradicts its packet");
    }
}

/// Opens all queues of a device, with as many frames as may be locked.
fn open_queues(
    device: &Link,
    queues: u32,
    workers: u8,
    (frame_bytes, copies): (u32, Copies),
) -> Result<Vec<Queue>, Refusal> {
    let usual = (FRAMES / queues.next_power_of_two()).clamp(USUAL_LEAST, MOST_FRAMES);
    let mut receive = usual;
    loop {
        let size = QueueSize { receive, send: receive / RECEIVED_PER_SENT, frame_bytes, copies };
        let open = |number| {
            Queue::open(device.index, number, workers, size).map_err(|error| match error.raw_os_error() {
                Some(libc::ENOBUFS) => Refusal::LockLimit,
                Some(libc::EBUSY) => Refusal::Occupied,
                _ => Refusal::System("open a socket", error),
            })
        };
        match (0..queues).map(open).collect() {
            Err(Refusal::LockLimit) if receive > LEAST_FRAMES => {
                receive /= 2;
                // The kernel takes apart what was opened already.
                sleep(MOMENT);
            }
            Ok(opened) if receive < usual => {
                info!(device = %device.name, frames = receive, usual, "few frames: more may not be locked (ulimit -l)");
                return Ok(opened);
            }
            done => return done,
        }
    }
}

/// Tells the program of the sockets, in the order that [`Redirect::sockets`] wants.
fn enter(sockets: &Map<4, 4>, queues: &[Queue], workers: u8) -> io::Result<()> {
    let seats = queues.iter().flat_map(|queue| (0..workers).map(|worker| queue.fd(usize::from(worker))));
    for (at, fd) in (0u32..).zip(seats) {
        let fd = fd.ok_or(io::ErrorKind::NotFound)?;
        sockets.insert(&at.to_ne_bytes(), &(fd.as_raw_fd() as u32).to_ne_bytes())?;
    }
    Ok(())
}

/// How long frames must be for the device, which must be one whose frames say everything themselves.
fn suitable(device: &Link, features: netlink::Features, place: XdpPlace) -> Result<u32, Refusal> {
    if features.takes_tags {
        return Err(Refusal::TakesTags(device.name.clone()));
    }
    if place == XdpPlace::Stack && features.joins_frames {
        return Err(Refusal::JoinsFrames(device.name.clone()));
    }
    let longest = device.mtu as usize + ETHERNET;
    let fitting = FRAME_BYTES.into_iter().find(|&bytes| longest <= QueueSize::longest(bytes));
    fitting.ok_or(Refusal::TooLong(device.mtu))
}
