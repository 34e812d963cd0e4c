//! AF_XDP: frames in rings that are shared with the kernel.
//!
//! A *queue* of a device has one piece of memory for frames, a ring of those that the kernel may receive
//! into, and one of those that it has sent. Several sockets can share all that, one for each worker, with
//! rings of their own for what arrived and what is to be sent. The kernel allows that for sockets of one
//! queue only; whoever takes frames out of the common rings holds a lock, once for a batch.

mod memory;
mod ring;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::memory::Mapping;
pub(crate) use self::memory::{Frame, Umem};
use self::ring::{Consumer, Entry, Layout, Producer};
use super::{check, check_size, poll};

/// What the kernel keeps free in front of a frame that it receives (`XDP_PACKET_HEADROOM`).
const KERNEL_HEADROOM: usize = 256;
/// How much may be on its way out of one socket, in bytes of the kernel's.
const SEND_QUEUE: libc::c_int = 8 * 1024 * 1024;
/// How often the kernel is told of the same frames: it takes 32 at a time.
const MOST_KICKS: u32 = 64;

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueSize {
    /// Frames to receive into, a power of two.
    pub(crate) receive: u32,
    /// Frames to send, a power of two.
    pub(crate) send: u32,
    /// Bytes of a frame, 2048 or 4096.
    pub(crate) frame_bytes: u32,
    /// Who copies them.
    pub(crate) copies: Copies,
}

/// Whether the kernel copies frames, or the driver reads and writes them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// The kernel.
    Always,
    /// The kernel where the driver can't.
    IfNeeded,
    /// The driver, or it is an error.
    Never,
}

impl Copies {
    const fn flag(self) -> u16 {
        match self {
            Self::Always => libc::XDP_COPY,
            Self::IfNeeded => 0,
            Self::Never => libc::XDP_ZEROCOPY,
        }
    }
}

impl QueueSize {
    /// The longest frame that can be received.
    pub(crate) const fn longest(frame_bytes: u32) -> usize {
        frame_bytes as usize - KERNEL_HEADROOM
    }
}

/// One queue of a device, with a socket for each worker.
#[derive(Debug)]
pub(crate) struct Queue {
    umem: Umem,
    // Locked after a seat where both are.
    common: Mutex<Common>,
    seats: Vec<Mutex<Seat>>,
    sockets: Vec<OwnedFd>,
    zero_copy: bool,
}

/// What the sockets of a queue share.
#[derive(Debug)]
struct Common {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    /// Frames to send.
    free: Vec<Frame>,
}

/// What one socket has for itself.
#[derive(Debug)]
struct Seat {
    rx: Consumer<libc::xdp_desc>,
    tx: Producer<libc::xdp_desc>,
    /// Frames that were read and are to go back.
    spent: Vec<Frame>,
    /// Frames to be filled next.
    blank: Vec<Frame>,
    overruns: u64,
    /// How many frames were read so far.
    taken: u64,
}

impl Queue {
    /// Opens `queue` of a device for this many workers.
    pub(crate) fn open(ifindex: u32, queue: u32, workers: u8, size: QueueSize) -> io::Result<Self> {
        let (umem, mut frames) = Umem::new(size.receive + size.send, size.frame_bytes)?;
        let first = socket()?;
        set(&first, libc::XDP_UMEM_REG, &umem.registration())?;
        set(&first, libc::XDP_UMEM_FILL_RING, &size.receive)?;
        set(&first, libc::XDP_UMEM_COMPLETION_RING, &size.send)?;
        let offsets: libc::xdp_mmap_offsets = get(&first, libc::XDP_MMAP_OFFSETS)?;
        let mut fill: Producer<u64> = {
            let (layout, offset) = (layout(&offsets.fr), libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t);
            Producer::new(map::<u64>(&first, layout, offset, size.receive)?, layout, size.receive)
                .ok_or(io::ErrorKind::InvalidData)?
        };
        let completion = {
            let (layout, offset) = (layout(&offsets.cr), libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t);
            Consumer::new(map::<u64>(&first, layout, offset, size.send)?, layout, size.send)
                .ok_or(io::ErrorKind::InvalidData)?
        };
        for frame in frames.drain(..size.receive as usize) {
            fill.push(umem.address(&frame));
        }
        fill.publish();
        let mut opened = Self {
            umem,
            common: Mutex::new(Common { fill, completion, free: frames }),
            seats: Vec::new(),
            sockets: vec![first],
            zero_copy: false,
        };
        let workers = workers.max(1);
        for worker in 0..workers {
            opened.add_seat(
                ifindex,
                queue,
                worker,
                QueueSize { receive: share(size.receive, workers), ..size },
            )?;
        }
        let options: libc::xdp_options = get(opened.first()?, libc::XDP_OPTIONS)?;
        opened.zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(opened)
    }

    fn first(&self) -> io::Result<&OwnedFd> {
        self.sockets.first().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn add_seat(&mut self, ifindex: u32, queue: u32, worker: u8, size: QueueSize) -> io::Result<()> {
        let mut flags = libc::XDP_USE_NEED_WAKEUP | size.copies.flag();
        let mut shared = 0;
        if worker > 0 {
            (flags, shared) = (libc::XDP_SHARED_UMEM, self.first()?.as_raw_fd() as u32);
            self.sockets.push(socket()?);
        }
        let socket = self.sockets.last().ok_or(io::ErrorKind::NotFound)?;
        set(socket, libc::XDP_RX_RING, &size.receive)?;
        set(socket, libc::XDP_TX_RING, &size.send)?;
        let offsets: libc::xdp_mmap_offsets = get(socket, libc::XDP_MMAP_OFFSETS)?;
        let (rx, tx) = (layout(&offsets.rx), layout(&offsets.tx));
        let rx_map = map::<libc::xdp_desc>(socket, rx, libc::XDP_PGOFF_RX_RING, size.receive)?;
        let tx_map = map::<libc::xdp_desc>(socket, tx, libc::XDP_PGOFF_TX_RING, size.send)?;
        let seat = Seat {
            rx: Consumer::new(rx_map, rx, size.receive).ok_or(io::ErrorKind::InvalidData)?,
            tx: Producer::new(tx_map, tx, size.send).ok_or(io::ErrorKind::InvalidData)?,
            spent: Vec::with_capacity(size.receive as usize),
            blank: Vec::with_capacity(size.send as usize),
            overruns: 0,
            taken: 0,
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: shared,
        };
        // SAFETY: `address` is a live sockaddr_xdp, and its size is passed.
        let result = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
            )
        };
        check(result)?;
        self.seats.push(Mutex::new(seat));
        Ok(())
    }

    fn seat(&self, worker: usize) -> Option<MutexGuard<'_, Seat>> {
        Some(self.seats.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn common(&self) -> MutexGuard<'_, Common> {
        self.common.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor of a worker's socket.
    pub(crate) fn fd(&self, worker: usize) -> Option<BorrowedFd<'_>> {
        self.sockets.get(worker).map(OwnedFd::as_fd)
    }

    /// Whether the device itself reads and writes the frames.
    pub(crate) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Calls `each` with up to `most` frames that arrived for a worker, and returns how many those were.
    pub(crate) fn receive(&self, worker: usize, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let Some(mut seat) = self.seat(worker) else { return 0 };
        let seat = &mut *seat;
        let mut count = 0;
        while count < most {
            let Some(entry) = seat.rx.pop() else { break };
            seat.taken += 1;
            let Some(frame) = self.umem.returned(entry.addr, entry.len) else { continue };
            each(self.umem.bytes(&frame));
            seat.spent.push(frame);
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        seat.rx.release();
        let wake = {
            let mut common = self.common();
            while let Some(frame) = seat.spent.pop() {
                // The ring has a place for each frame that is ever received into.
                common.fill.push(self.umem.address(&frame));
            }
            common.fill.publish();
            common.fill.needs_wakeup()
        };
        if wake && let Some(fd) = self.fd(worker) {
            // SAFETY: no memory is passed. It only wakes the driver.
            let _ = unsafe {
                libc::recvfrom(
                    fd.as_raw_fd(),
                    std::ptr::null_mut(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
        }
        count
    }

    /// Sends up to `count` frames of a worker in order: `write` fills in the one with a number, whose
    /// length is what `length` says. Returns how many were taken, which are less when the device is
    /// slower. The kernel has them afterwards, or gets them with [`Self::kick`].
    pub(crate) fn send(
        &self,
        worker: usize,
        count: usize,
        length: impl Fn(usize) -> usize,
        mut write: impl FnMut(usize, &mut [u8]),
    ) -> usize {
        let Some(mut seat) = self.seat(worker) else { return 0 };
        let seat = &mut *seat;
        {
            let mut common = self.common();
            let common = &mut *common;
            while let Some(address) = common.completion.pop() {
                common.free.extend(self.umem.returned(address, 0));
            }
            common.completion.release();
            let wanted = count.saturating_sub(seat.blank.len());
            let left = common.free.len().saturating_sub(wanted);
            seat.blank.extend(common.free.drain(left..));
        }
        let mut sent = 0;
        while sent < count {
            let Some(mut frame) = seat.blank.pop() else { break };
            let Some(bytes) = self.umem.fill(&mut frame, length(sent)) else {
                seat.blank.push(frame);
                break;
            };
            write(sent, bytes);
            if !seat.tx.push(self.umem.descriptor(&frame)) {
                seat.blank.push(frame);
                break;
            }
            sent += 1;
        }
        if sent > 0 {
            seat.tx.publish();
            self.kick_seat(worker, seat);
        }
        sent
    }

    /// Tells the kernel of frames that it has not taken yet; says whether there are any still.
    pub(crate) fn kick(&self, worker: usize) -> bool {
        let Some(mut seat) = self.seat(worker) else { return false };
        self.kick_seat(worker, &mut seat);
        seat.tx.waiting() > 0
    }

    /// Whether there are frames of a worker that the kernel has not taken yet.
    pub(crate) fn is_sending(&self, worker: usize) -> bool {
        self.seat(worker).is_some_and(|seat| seat.tx.waiting() > 0)
    }

    fn kick_seat(&self, worker: usize, seat: &mut Seat) {
        let Some(fd) = self.fd(worker) else { return };
        let mut waiting = seat.tx.waiting();
        for _ in 0..MOST_KICKS {
            if waiting == 0 || !seat.tx.needs_wakeup() {
                return;
            }
            // SAFETY: no memory is passed.
            let result = unsafe {
                libc::sendto(fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
            };
            let left = seat.tx.waiting();
            match check_size(result).map_err(|error| error.raw_os_error()) {
                Ok(_) => return,
                Err(Some(libc::EAGAIN)) if left < waiting => waiting = left,
                Err(Some(libc::EINTR)) => {}
                // The device has no room, or is down: what waits goes with the next frames.
                Err(_) => return,
            }
        }
    }

    /// Waits a little for room to send.
    pub(crate) fn wait_writable(&self, worker: usize) -> bool {
        self.fd(worker).is_some_and(|fd| poll::writable(fd.as_raw_fd(), Duration::from_millis(1)))
    }

    /// How many frames for a worker were read.
    pub(crate) fn taken(&self, worker: usize) -> u64 {
        self.seat(worker).map_or(0, |seat| seat.taken)
    }

    /// How many frames for a worker found no room.
    pub(crate) fn lost(&self, worker: usize) -> io::Result<u64> {
        let socket = self.sockets.get(worker).ok_or(io::ErrorKind::NotFound)?;
        let statistics: libc::xdp_statistics = get(socket, libc::XDP_STATISTICS)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }

    /// How many frames for a worker found no room since the last call.
    pub(crate) fn overruns(&self, worker: usize) -> io::Result<u64> {
        let all = self.lost(worker)?;
        let Some(mut seat) = self.seat(worker) else { return Ok(0) };
        Ok(all.saturating_sub(std::mem::replace(&mut seat.overruns, all)))
    }
}

/// How many frames may wait for each of the workers, a power of two: one that stops must not have them all.
fn share(frames: u32, workers: u8) -> u32 {
    let share = (frames / u32::from(workers)).max(2);
    1 << share.ilog2()
}

/// A socket that is at no device.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(libc::AF_XDP, kind, 0) })?;
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let (value, size) = (SEND_QUEUE, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option takes an int; it is live for the call and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            (&raw const value).cast(),
            size,
        )
    };
    check(result)?;
    Ok(socket)
}

/// Sets an option, whose value is a number or a structure of the kernel's.
fn set<T: Copy>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is live for the call, and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// What an option can be read into: structures of integers alone.
trait Plain: Copy {}
impl Plain for libc::xdp_mmap_offsets {}
impl Plain for libc::xdp_options {}
impl Plain for libc::xdp_statistics {}

fn get<T: Plain>(socket: &OwnedFd, option: libc::c_int) -> io::Result<T> {
    // SAFETY: structures of integers; all zero is a valid value.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` and `length` are live and writable, and the length is that of the structure.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, (&raw mut value).cast(), &raw mut length)
    };
    check(result)?;
    Ok(value)
}

const fn layout(offset: &libc::xdp_ring_offset) -> Layout {
    Layout {
        producer: offset.producer as usize,
        consumer: offset.consumer as usize,
        entries: offset.desc as usize,
        flags: offset.flags as usize,
    }
}

/// Maps a ring of `size` entries.
fn map<T: Entry>(socket: &OwnedFd, layout: Layout, offset: libc::off_t, size: u32) -> io::Result<Mapping> {
    Mapping::of(socket.as_fd(), offset, layout.entries + size as usize * size_of::<T>())
}
