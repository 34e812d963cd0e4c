//! Packet sockets (packet(7)): whole Ethernet frames of one device, in and out.
//!
//! The devices of a wire have their offloads off, so every frame is one packet with a finished
//! checksum. VLAN tags, which the kernel takes out of the frame, are put back.
#![allow(unsafe_code, reason = "packet sockets and their control messages exist only in libc")]

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Room for bursts while the wire is not scheduled.
const RECEIVE_BUFFER: libc::c_int = 32 << 20;
/// The longest frame: the biggest IP packet behind an Ethernet header with one tag.
const MAX_FRAME: usize = 65_535 + 18;
/// Room for two control messages.
const CONTROL_WORDS: usize = 16;
const MAC_ADDRESSES: usize = 12;

/// A packet socket on one device.
pub(super) struct PacketSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// A frame as it was received.
pub(super) struct Received {
    /// From the Ethernet header on, VLAN tag included.
    pub frame: Vec<u8>,
    /// The wall clock when the kernel received it, since the Unix epoch.
    pub stamp: Option<Duration>,
}

impl PacketSocket {
    /// Opens a socket on `device` of the current network namespace.
    pub fn open(device: &str) -> io::Result<Self> {
        // Protocol zero: nothing is received before the socket is bound to its device.
        let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the result is checked before use.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
        // SAFETY: `fd` was just opened and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        for (level, name, value) in [
            (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
            (libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1),
            (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1),
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER),
        ] {
            set_option(&fd, level, name, value)?;
        }
        bind(&fd, interface_index(device)?)?;
        Ok(Self { fd, buffer: vec![0; MAX_FRAME] })
    }

    /// The next frame, or `None` when none waits.
    pub fn receive(&mut self) -> io::Result<Option<Received>> {
        let mut control = [0u64; CONTROL_WORDS];
        let mut slice = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        // SAFETY: all-zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_iov = &raw mut slice;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>();
        // SAFETY: the header points to a buffer and control space that live through the call, with
        // their true lengths.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        };
        let (tag, stamp) = control_messages(&header);
        let received = self.buffer.get(..length).unwrap_or_default();
        Ok(Some(Received { frame: with_tag(received, tag), stamp }))
    }

    /// Sends a frame; false when the kernel has no room for it.
    pub fn send(&self, frame: &[u8]) -> bool {
        // SAFETY: the pointer and the length are those of a live slice.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        sent >= 0
    }

    /// How many frames found the receive buffer full since the last call.
    pub fn take_drops(&self) -> u64 {
        // SAFETY: all-zero is a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, the size of the structure.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if result == 0 { u64::from(stats.tp_drops) } else { 0 }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an int, and `length` is its size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) })
        .map(|_| ())
}

fn interface_index(device: &str) -> io::Result<libc::c_int> {
    let name = CString::new(device)?;
    // SAFETY: `name` is a terminated string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => libc::c_int::try_from(index).map_err(io::Error::other),
    }
}

fn bind(fd: &OwnedFd, index: libc::c_int) -> io::Result<()> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a live sockaddr_ll, and `length` is its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) }).map(|_| ())
}

/// The VLAN tag the kernel took out of the frame (as it was on the wire), and the time of arrival.
fn control_messages(header: &libc::msghdr) -> (Option<[u8; 4]>, Option<Duration>) {
    let (mut tag, mut stamp) = (None, None);
    // SAFETY: the kernel filled the header's control space and set its length; the macros walk
    // within it.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, hence a complete control message header inside the control space.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        // SAFETY: data follows the header of a valid message.
        let data = unsafe { libc::CMSG_DATA(message) };
        if (level, kind) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // SAFETY: the kernel delivers a tpacket_auxdata under this type; any alignment.
            let auxiliary = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
            tag = tag_of(&auxiliary);
        } else if (level, kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            // SAFETY: the kernel delivers a timespec under this type; any alignment.
            let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
            let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
            stamp = u64::try_from(time.tv_sec).ok().map(|seconds| Duration::new(seconds, nanos));
        }
        // SAFETY: both pointers are those of this walk.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    (tag, stamp)
}

fn tag_of(auxiliary: &libc::tpacket_auxdata) -> Option<[u8; 4]> {
    if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let known = auxiliary.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if known { auxiliary.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
    let [a, b] = tpid.to_be_bytes();
    let [c, d] = auxiliary.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}

fn with_tag(received: &[u8], tag: Option<[u8; 4]>) -> Vec<u8> {
    match (tag, received.split_at_checked(MAC_ADDRESSES)) {
        (Some(tag), Some((addresses, rest))) => [addresses, &tag, rest].concat(),
        _ => received.to_vec(),
    }
}
