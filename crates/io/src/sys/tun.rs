//! A TUN device with vnet headers: layer-3 packets to and from the host's stack.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::{check, check_size};

/// A vnet header travels in front of every packet.
pub(crate) const HEADER: usize = 10;

/// `TUNSETFILTEREBPF` (include/uapi/linux/if_tun.h).
pub(crate) const SET_FILTER: libc::Ioctl = 0x8004_54e1;
/// `IFF_TUN_EXCL` of the same: only a device that is not there yet.
const EXCLUSIVE: libc::c_int = 0x8000;

/// `struct ifreq` (linux/if.h), with its union as bytes.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}
const _: () = assert!(size_of::<Request>() == 40);

/// The device. It is gone when this is dropped, unless an administrator made it persistent.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
}

/// Opens what TUN devices are made of. Where it is root's alone, as in containers, a router that is
/// somebody else has to be handed it: see [`Ports::open_tun_with`](crate::Ports::open_tun_with).
///
/// # Errors
/// Those of open(2).
pub fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")
}

impl Device {
    /// Makes the device of what [`open`] opened, or attaches to one that exists.
    pub(crate) fn new(file: File, name: &str) -> io::Result<Self> {
        Self::make(file, name, libc::IFF_TUN)
    }

    /// Makes one for Ethernet frames, of which those are thrown away that `filter` does not let in. There must
    /// be no device of this name: [`io::ErrorKind::ResourceBusy`].
    pub(crate) fn ethernet(file: File, name: &str, filter: BorrowedFd<'_>) -> io::Result<Self> {
        let device = Self::make(file, name, libc::IFF_TAP | EXCLUSIVE)?;
        let filter: libc::c_int = filter.as_raw_fd();
        // SAFETY: TUNSETFILTEREBPF reads one int, which is live for the call.
        check(unsafe { libc::ioctl(device.file.as_raw_fd(), SET_FILTER, &raw const filter) })?;
        Ok(device)
    }

    fn make(file: File, name: &str, kind: libc::c_int) -> io::Result<Self> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let flags = kind | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let mut request = Request { name: [0; libc::IFNAMSIZ], flags: flags as libc::c_short, rest: [0; 22] };
        request.name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        // SAFETY: TUNSETIFF reads and writes one ifreq, which is live and writable.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        let device = Self { file };
        // Linux 6.2 added UDP; before, the kernel cuts UDP super-packets itself.
        device.set_offload(tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6).or_else(|_| device.set_offload(tcp))?;
        Ok(device)
    }

    /// The number of the device called `name`.
    pub(crate) fn index_of(name: &str) -> io::Result<u32> {
        let name = CString::new(name)?;
        // SAFETY: `name` is a live, terminated string.
        match unsafe { libc::if_nametoindex(name.as_ptr()) } {
            0 => Err(io::Error::last_os_error()),
            index => Ok(index),
        }
    }

    fn set_offload(&self, features: libc::c_uint) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let result =
            unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(features)) };
        check(result).map(drop)
    }

    /// Receives one packet and returns its length with the header. Never waits.
    pub(crate) fn receive(&self, header: &mut [u8; HEADER], packet: &mut [u8]) -> io::Result<usize> {
        let vectors = [
            libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER },
            libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() },
        ];
        // SAFETY: both vectors point to buffers that are borrowed exclusively for the call, with
        // their lengths.
        check_size(unsafe { libc::readv(self.file.as_raw_fd(), vectors.as_ptr(), 2) })
    }

    /// Sends one packet. Never waits.
    pub(crate) fn send(&self, header: &[u8; HEADER], packet: &[u8]) -> io::Result<()> {
        let vectors = [
            libc::iovec { iov_base: header.as_ptr().cast_mut().cast(), iov_len: HEADER },
            libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() },
        ];
        // SAFETY: both vectors point to buffers that are borrowed for the call, with their lengths;
        // the kernel only reads them.
        check_size(unsafe { libc::writev(self.file.as_raw_fd(), vectors.as_ptr(), 2) }).map(drop)
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
