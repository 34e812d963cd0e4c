//! AF_PACKET sockets with vnet headers: frames in batches.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use fairway_types::Slot;
use fairway_types::packet::TAILROOM;

use super::{check, poll};

/// How many frames one system call moves.
pub(crate) const BATCH: usize = 64;
/// Up to so many frames go with less to prepare.
pub(crate) const FEW: usize = 8;
/// A vnet header and an Ethernet header, which travel in front of every packet that arrives.
pub(crate) const HEADER: usize = 24;
/// The same with an 802.1Q tag, which is taken out of frames that arrive.
pub(crate) const TAGGED_HEADER: usize = HEADER + 4;
/// How much may wait to be read and to be sent, in bytes; the kernel takes twice as much, of its own
/// bookkeeping. A short packet counts about 800 of them: ten thousand may wait, which a worker carries in
/// some tens of milliseconds. More would not be carried sooner under a flood, but wait longer; with a
/// quarter of it, super-packets of several connections find no room (`docs/performance.md`).
const RECEIVE_QUEUE: libc::c_int = 4 * 1024 * 1024;
const SEND_QUEUE: libc::c_int = 8 * 1024 * 1024;

/// How a fanout group works (include/uapi/linux/if_packet.h), in the upper half of its option: a program
/// picks the socket, the host's own frames stay out, and the kernel picks an id that is free.
const EBPF: u32 = 7 << 16;
const IGNORE_OUTGOING: u32 = 0x4000 << 16;
const UNIQUE_ID: u32 = 0x2000 << 16;
/// How often the sockets of a group are made anew when their device came up or went down meanwhile.
const GROUP_TRIES: u32 = 10;

/// A vnet header and an Ethernet header.
pub(crate) type Header = [u8; HEADER];

/// What was received into a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    /// Bytes, headers included.
    pub(crate) length: usize,
    /// The frame was longer than the buffer.
    pub(crate) truncated: bool,
    /// The 802.1Q tag, priority included, from a socket that asks for it; 0 for none.
    pub(crate) tag: u16,
}

/// A frame to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// What goes in front.
    pub(crate) header: OutgoingHeader,
    /// The packet from its IP header on.
    pub(crate) packet: &'a [u8],
}

impl Outgoing<'_> {
    /// Nothing, to fill arrays with.
    pub(crate) const EMPTY: Self = Self { header: OutgoingHeader::EMPTY, packet: &[] };
}

/// A vnet header and an Ethernet header with or without tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingHeader {
    bytes: [u8; TAGGED_HEADER],
    length: usize,
}

impl OutgoingHeader {
    const EMPTY: Self = Self { bytes: [0; TAGGED_HEADER], length: HEADER };

    /// A header of these parts: at most [`TAGGED_HEADER`] bytes, the rest is left out.
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        let mut header = Self { length: 0, ..Self::EMPTY };
        for (to, from) in header.bytes.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from;
            header.length += 1;
        }
        header
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A packet socket bound to one device.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// Whether the tags of frames are asked for.
    tags: bool,
}

impl Socket {
    /// Opens a socket that receives what `filter` accepts on the device, and nothing that this host
    /// sends, and says which `tags` they had if it is to. It is bound last, so not one frame passes it
    /// without the filter.
    pub(crate) fn open(ifindex: u32, filter: BorrowedFd<'_>, tags: bool) -> io::Result<Self> {
        let socket = Self::unbound(tags)?;
        socket.set(libc::SOL_SOCKET, libc::SO_ATTACH_BPF, filter.as_raw_fd())?;
        socket.bind(ifindex)?;
        Ok(socket)
    }

    /// Opens a socket that receives what this host sends by the device, which is a door: what comes out of it
    /// was let in there.
    pub(crate) fn at_door(ifindex: u32) -> io::Result<Self> {
        let socket = Self::unbound(false)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 0)?;
        socket.bind(ifindex)?;
        Ok(socket)
    }

    /// Opens a socket that only sends.
    pub(crate) fn for_sending(ifindex: u32) -> io::Result<Self> {
        let socket = Self::unbound(false)?;
        socket.bind_to(ifindex, 0)?;
        Ok(socket)
    }

    /// Opens sockets that share what [`Self::open`] receives: `program` says which of them gets a
    /// frame. They are numbered from 0 in the order of the list, as long as all of them are open.
    pub(crate) fn open_group(
        ifindex: u32,
        filter: BorrowedFd<'_>,
        program: BorrowedFd<'_>,
        count: u8,
        tags: bool,
    ) -> io::Result<Vec<Self>> {
        for _ in 0..GROUP_TRIES {
            let sockets = Self::join_all(ifindex, program, count, tags)?;
            if are_in_order(&sockets)? {
                for socket in &sockets {
                    socket.set(libc::SOL_SOCKET, libc::SO_ATTACH_BPF, filter.as_raw_fd())?;
                }
                return Ok(sockets);
            }
        }
        Err(io::Error::other("the device went up or down each time while its sockets were made"))
    }

    /// The sockets of a group, which get nothing yet.
    fn join_all(ifindex: u32, program: BorrowedFd<'_>, count: u8, tags: bool) -> io::Result<Vec<Self>> {
        let mut sockets = Vec::with_capacity(usize::from(count));
        let mut options = EBPF | IGNORE_OUTGOING | UNIQUE_ID;
        for _ in 0..count {
            let socket = Self::unbound(tags)?;
            // Until all have joined, a frame would come to several of them, or to the wrong one.
            socket.refuse_all()?;
            socket.bind(ifindex)?;
            socket.set(libc::SOL_PACKET, libc::PACKET_FANOUT, options as libc::c_int)?;
            if sockets.is_empty() {
                socket.set(libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, program.as_raw_fd())?;
                options = socket.group()? | EBPF | IGNORE_OUTGOING;
            }
            sockets.push(socket);
        }
        Ok(sockets)
    }

    /// A socket that receives nothing yet.
    fn unbound(tags: bool) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, tags };
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        if tags {
            socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        }
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_QUEUE)?;
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_QUEUE)?;
        Ok(socket)
    }

    /// Lets everything past the device's own filters while the socket is bound to it: those of network
    /// cards know only the tags and groups that the kernel itself uses.
    fn lift_filters(&self, ifindex: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: ifindex as i32,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the option takes a packet_mreq; it is live for the call and its size is passed.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }

    /// Attaches a filter that accepts nothing.
    fn refuse_all(&self) -> io::Result<()> {
        let mut code = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
        let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
        // SAFETY: `program` points to `code`, whose length it has; both are live for the call, the kernel
        // only reads them, and the size of the structure is passed.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }

    /// The id of the group that this socket is in.
    fn group(&self) -> io::Result<u32> {
        Ok(self.get(libc::SOL_PACKET, libc::PACKET_FANOUT)? as u32 & 0xffff)
    }

    /// Whether the device was down when this was bound to it, or went down since; said once.
    fn was_down(&self) -> io::Result<bool> {
        Ok(self.get(libc::SOL_SOCKET, libc::SO_ERROR)? == libc::ENETDOWN)
    }

    fn get(&self, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` and `length` are live and writable, and the length is that of an int.
        let result = unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length)
        };
        check(result).map(|_| value)
    }

    /// Whether this socket is bound to the device, which has not been away since.
    pub(crate) fn is_bound_to(&self, ifindex: u32) -> bool {
        // SAFETY: sockaddr_ll is plain data; all zero is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` and `length` are live and writable, and the length is that of the structure.
        let result =
            unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
        check(result).is_ok() && address.sll_ifindex == ifindex as i32
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the option takes an int; it is live for the call and its size is passed.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }

    fn bind(&self, ifindex: u32) -> io::Result<()> {
        if self.tags {
            self.lift_filters(ifindex)?;
        }
        self.bind_to(ifindex, libc::ETH_P_ALL as u16)
    }

    /// Binds to a device, for frames of a protocol; for none with zero.
    fn bind_to(&self, ifindex: u32, protocol: u16) -> io::Result<()> {
        // SAFETY: sockaddr_ll is plain data; all zero is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = ifindex as i32;
        // SAFETY: `address` is a live sockaddr_ll, and its size is passed.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }

    /// Receives up to `MOST` frames, and no more than there are slots: packets into `slots`, what is in
    /// front of them into `headers`. Slots keep their length; `arrivals` says how much came. Never waits.
    pub(crate) fn receive<const MOST: usize>(
        &self,
        slots: &mut [Slot],
        headers: &mut [Header; MOST],
        arrivals: &mut [Arrival; MOST],
    ) -> io::Result<usize> {
        let count = slots.len().min(MOST);
        let mut vectors = [[empty_vector(); 2]; MOST];
        let mut messages = [empty_message(); MOST];
        let buffers = slots.iter_mut().zip(headers.iter_mut()).zip(vectors.iter_mut().zip(&mut messages));
        for ((slot, header), (vector, message)) in buffers.take(count) {
            let spare = slot.packet.spare_mut();
            let room = spare.len().saturating_sub(TAILROOM);
            vector[0] = libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER };
            vector[1] = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: room };
            message.msg_hdr.msg_iov = vector.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
        }
        let mut controls = [Control::EMPTY; MOST];
        if self.tags {
            for (message, control) in messages.iter_mut().zip(&mut controls) {
                message.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
                message.msg_hdr.msg_controllen = size_of::<Control>();
            }
        }
        // SAFETY: the first `count` messages point to vectors, headers, slots and control buffers that
        // are borrowed exclusively for the length of this call; their lengths are those of the buffers.
        let result = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(check(result)?).unwrap_or(0).min(count);
        for (arrival, message) in arrivals.iter_mut().zip(&messages).take(received) {
            arrival.length = message.msg_len as usize;
            arrival.truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            arrival.tag = if self.tags { tag_of(&message.msg_hdr) } else { 0 };
        }
        Ok(received)
    }

    /// Sends up to [`BATCH`] frames and returns how many were taken; the error is that of the first
    /// frame. Never waits.
    pub(crate) fn send(&self, frames: &[Outgoing<'_>]) -> io::Result<usize> {
        match frames.len() {
            ..=FEW => self.send_up_to::<FEW>(frames),
            _ => self.send_up_to::<BATCH>(frames),
        }
    }

    fn send_up_to<const MOST: usize>(&self, frames: &[Outgoing<'_>]) -> io::Result<usize> {
        let count = frames.len().min(MOST);
        let mut vectors = [[empty_vector(); 2]; MOST];
        let mut messages = [empty_message(); MOST];
        for (frame, (vector, message)) in frames.iter().zip(vectors.iter_mut().zip(&mut messages)) {
            let header = frame.header.bytes();
            vector[0] = libc::iovec { iov_base: header.as_ptr().cast_mut().cast(), iov_len: header.len() };
            vector[1] = libc::iovec {
                iov_base: frame.packet.as_ptr().cast_mut().cast(),
                iov_len: frame.packet.len(),
            };
            message.msg_hdr.msg_iov = vector.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
        }
        // SAFETY: the first `count` messages point to vectors and frames that are borrowed for the
        // length of this call; the kernel only reads them.
        let result = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        Ok(usize::try_from(check(result)?).unwrap_or(0))
    }

    /// Waits a little for room to send.
    pub(crate) fn wait_writable(&self) -> bool {
        poll::writable(self.fd.as_raw_fd(), std::time::Duration::from_millis(1))
    }

    /// How many frames came in since the last call, and how many more found no room.
    pub(crate) fn arrivals(&self) -> io::Result<(u32, u32)> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `statistics` and `length` are live and writable, and the length is that of the
        // structure.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        check(result)?;
        Ok((statistics.tp_packets.saturating_sub(statistics.tp_drops), statistics.tp_drops))
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for one control message with a `tpacket_auxdata`, aligned as the kernel's headers are.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 40]);

impl Control {
    const EMPTY: Self = Self([0; 40]);
}

// SAFETY: the macro only computes.
const _: () = assert!(
    unsafe { libc::CMSG_SPACE(size_of::<libc::tpacket_auxdata>() as u32) } as usize <= size_of::<Control>()
);

/// Whether a group is numbered as its sockets were made. The kernel numbers a socket when it joins while the
/// device is up, and those that joined before in the order in which they were made, a moment after the device
/// came up: one that joins in that moment goes before them. So all must have found it up, or none.
fn are_in_order(sockets: &[Socket]) -> io::Result<bool> {
    let mut waited = 0;
    for socket in sockets {
        waited += usize::from(socket.was_down()?);
    }
    Ok(waited == 0 || waited == sockets.len())
}

/// The tag that the kernel took out of a frame; 0 for none.
fn tag_of(header: &libc::msghdr) -> u16 {
    // SAFETY: the kernel filled the header's control space and set its length; the macros walk within.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, hence a complete header inside the control space.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if (level, kind) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // SAFETY: the kernel delivers a tpacket_auxdata under this type; any alignment.
            let auxiliary =
                unsafe { libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned() };
            let valid = auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            return if valid { auxiliary.tp_vlan_tci } else { 0 };
        }
        // SAFETY: both pointers are those of this walk.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    0
}

const fn empty_vector() -> libc::iovec {
    libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }
}

fn empty_message() -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain data; all zero means no name, no vectors and no control data.
    unsafe { std::mem::zeroed() }
}
