//! What drivers can do, over generic netlink (Documentation/netlink/specs/netdev.yaml).

use std::io;

use super::message::{Request, attributes, flag, messages, u16_at, u64_at};
use crate::sys::netlink::{DATAGRAM, Socket};

/// `GENL_ID_CTRL`, the family that knows the others, and what is asked of it.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The family of devices.
const NETDEV: &[u8] = b"netdev\0";
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_XSK_ZEROCOPY`.
const ZERO_COPY: u64 = 1 << 3;

/// Whether the driver of a device itself reads and writes the frames of AF_XDP sockets (told since Linux
/// 6.3).
///
/// # Errors
/// Those of the kernel; [`io::ErrorKind::NotFound`] when it does not say.
pub(crate) fn has_zero_copy(index: u32) -> io::Result<bool> {
    Ok(xdp_features(index)? & ZERO_COPY != 0)
}

fn xdp_features(index: u32) -> io::Result<u64> {
    let socket = Socket::for_generic_requests()?;
    let family =
        ask(&socket, CONTROL, GET_FAMILY, (FAMILY_NAME, NETDEV), FAMILY_ID, |value| u16_at(value, 0))?;
    ask(&socket, family, GET_DEVICE, (IFINDEX, &index.to_ne_bytes()), XDP_FEATURES, |value| u64_at(value, 0))
}

/// One attribute of the answer to a question.
fn ask<T>(
    socket: &Socket,
    family: u16,
    command: u8,
    (kind, value): (u16, &[u8]),
    wanted: u16,
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<T> {
    /// `struct genlmsghdr`: command, version, two bytes of nothing.
    const HEADER: usize = 4;
    let request = Request::new(family, flag::REQUEST, 1, &[command, 1, 0, 0]).attribute(kind, value);
    socket.send(&request.finish())?;
    let mut buffer = vec![0; DATAGRAM];
    let length = socket.receive(&mut buffer)?;
    for (kind, message) in messages(buffer.get(..length).unwrap_or_default()) {
        if kind == super::kind::ERROR {
            let number = message.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            return Err(io::Error::from_raw_os_error(-number));
        }
        let found = attributes(message.get(HEADER..).unwrap_or_default()).find(|&(kind, _)| kind == wanted);
        if let Some(value) = found.and_then(|(_, value)| read(value)) {
            return Ok(value);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_a_driver_can_do() {
        // The loopback device has nothing of all this.
        let index = crate::sys::tun::Device::index_of("lo").unwrap();
        assert!(!has_zero_copy(index).unwrap());
        has_zero_copy(u32::MAX >> 1).unwrap_err();
    }
}
