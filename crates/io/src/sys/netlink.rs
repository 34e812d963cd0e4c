//! Netlink sockets: datagrams to and from the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{check, check_size};

/// The kernel fills at most this much in one datagram of a dump.
pub(crate) const DATAGRAM: usize = 64 * 1024;
/// How much may wait to be read, in bytes; when it is not enough the state is read anew.
const QUEUE: libc::c_int = 4 * 1024 * 1024;

/// The socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// A socket for requests; reads wait for at most a few seconds.
    pub(crate) fn for_requests() -> io::Result<Self> {
        Self::asking(libc::NETLINK_ROUTE)
    }

    /// The same for generic netlink.
    pub(crate) fn for_generic_requests() -> io::Result<Self> {
        Self::asking(libc::NETLINK_GENERIC)
    }

    fn asking(family: libc::c_int) -> io::Result<Self> {
        let socket = Self::open(family, 0)?;
        let limit = Duration::from_secs(5);
        let value = libc::timeval { tv_sec: limit.as_secs() as libc::time_t, tv_usec: 0 };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)?;
        Ok(socket)
    }

    /// A socket that is told of changes in `groups` and never waits.
    pub(crate) fn for_changes(groups: &[libc::c_uint]) -> io::Result<Self> {
        Self::listening(libc::NETLINK_ROUTE, groups)
    }

    /// The same for generic netlink.
    pub(crate) fn for_generic_changes(groups: &[libc::c_uint]) -> io::Result<Self> {
        Self::listening(libc::NETLINK_GENERIC, groups)
    }

    fn listening(family: libc::c_int, groups: &[libc::c_uint]) -> io::Result<Self> {
        let socket = Self::open(family, libc::SOCK_NONBLOCK)?;
        // A socket without an address of its own would miss what the kernel reports.
        socket.bind()?;
        for group in groups {
            socket.set(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(socket)
    }

    fn open(family: libc::c_int, flags: libc::c_int) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, family) })?;
        // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        if socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &QUEUE).is_err() {
            socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &QUEUE)?;
        }
        Ok(socket)
    }

    fn bind(&self) -> io::Result<()> {
        // SAFETY: sockaddr_nl is plain data; all zero asks the kernel for an address.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        // SAFETY: `address` is a live sockaddr_nl, and its size is passed.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is live for the call, and its size is passed; it is an int or a timeval.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }

    /// Sends one datagram to the kernel.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer is live for the call and its length is passed. A netlink socket without
        // an address sends to the kernel.
        let result = unsafe { libc::send(self.fd.as_raw_fd(), datagram.as_ptr().cast(), datagram.len(), 0) };
        check_size(result).map(drop)
    }

    /// Receives one datagram into `buffer` and returns its length.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer is live and writable for the call and its length is passed.
        let result = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        check_size(result)
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
