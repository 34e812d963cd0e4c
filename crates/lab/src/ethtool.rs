//! Switching a device's offloads off, so that every frame on it is one packet with its checksum and tags.
#![allow(unsafe_code, reason = "the ethtool ioctl takes a structure with a pointer")]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct ethtool_value` (linux/ethtool.h).
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

const _: () = assert!(size_of::<Value>() == 8);

/// ETHTOOL_SGRO, STSO, SGSO, SSG, STXCSUM: each switches what the ones after it are needed for.
const SWITCHES: [u32; 5] = [0x2c, 0x1f, 0x24, 0x19, 0x17];

/// Flags that are read and written together, and those among them that keep tags beside frames:
/// ETH_FLAG_TXVLAN and ETH_FLAG_RXVLAN.
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const TAG_FLAGS: u32 = 1 << 7 | 1 << 8;

/// Switches segmentation, aggregation, transmit checksums and the handling of tags of a device of the calling thread's
/// namespace off.
///
/// # Errors
/// When there is no such device, or it insists on one of them.
pub(crate) fn offloads_off(device: &str) -> io::Result<()> {
    // SAFETY: no pointers; the result is checked before use.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    SWITCHES.iter().try_for_each(|&command| ask(&fd, device, command, 0).map(drop))?;
    let flags = ask(&fd, device, GET_FLAGS, 0)?;
    ask(&fd, device, SET_FLAGS, flags & !TAG_FLAGS).map(drop)
}

/// The value that the answer has.
fn ask(fd: &OwnedFd, device: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request holds a terminated name and a pointer to an ethtool_value that lives
    // through the call, as SIOCETHTOOL wants for these commands.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
