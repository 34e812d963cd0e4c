//! What drivers can do and devices are set to, over generic netlink (Documentation/netlink/specs/netdev.yaml
//! and ethtool.yaml).

use std::io;

use super::message::{Request, attributes, flag, messages, u16_at, u32_at, u64_at};
use crate::sys::netlink::{DATAGRAM, Socket};

/// `GENL_ID_CTRL`, the family that knows the others, and what is asked of it.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The groups of a family, each with its name and number.
const GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;
/// `struct genlmsghdr`: command, version, two bytes of nothing.
const HEADER: usize = 4;
const NESTED: u16 = 1 << 15;

/// The family of devices.
mod netdev {
    pub(super) const NAME: &[u8] = b"netdev\0";
    /// Who is told when a device can do something else than before.
    pub(super) const CHANGES: &[u8] = b"mgmt\0";
    pub(super) const GET_DEVICE: u8 = 1;
    pub(super) const IFINDEX: u16 = 1;
    pub(super) const XDP_FEATURES: u16 = 3;
    /// `NETDEV_XDP_ACT_NDO_XMIT`.
    pub(super) const SENDS_FRAMES: u64 = 1 << 2;
    /// `NETDEV_XDP_ACT_XSK_ZEROCOPY`.
    pub(super) const ZERO_COPY: u64 = 1 << 3;
}

/// The family of settings.
mod ethtool {
    pub(super) const NAME: &[u8] = b"ethtool\0";
    pub(super) const GET_FEATURES: u8 = 11;
    pub(super) const GET_CHANNELS: u8 = 17;
    /// The header of every message, and the device in it.
    pub(super) const HEADER: u16 = 1;
    pub(super) const DEVICE: u16 = 1;
    /// Features that are on, as a list of bits with names.
    pub(super) const ACTIVE: u16 = 4;
    pub(super) const BITS: u16 = 3;
    pub(super) const BIT: u16 = 1;
    pub(super) const BIT_NAME: u16 = 2;
    pub(super) const RECEIVE_CHANNELS: u16 = 6;
    pub(super) const COMBINED_CHANNELS: u16 = 9;
}

/// Whether the driver of a device itself reads and writes the frames of AF_XDP sockets (told since Linux
/// 6.3).
///
/// # Errors
/// Those of the kernel.
pub(crate) fn has_zero_copy(index: u32) -> io::Result<bool> {
    Ok(xdp_features(index)? & netdev::ZERO_COPY != 0)
}

/// Whether a device sends frames that a program for XDP has redirected to it, as it is now: some drivers do
/// while they have such a program themselves, and a veth while its other end polls, which it does with a
/// program or GRO (told since Linux 6.3).
///
/// # Errors
/// Those of the kernel.
pub(crate) fn sends_frames(index: u32) -> io::Result<bool> {
    Ok(xdp_features(index)? & netdev::SENDS_FRAMES != 0)
}

/// A socket that is told when a device can do something else than before.
///
/// # Errors
/// Those of the kernel; before Linux 6.3 it tells nobody.
pub(crate) fn ability_changes() -> io::Result<Socket> {
    let socket = Socket::for_generic_requests()?;
    let answer = ask(&socket, CONTROL, GET_FAMILY, |request| request.attribute(FAMILY_NAME, netdev::NAME))?;
    let groups = find(&answer, GROUPS).unwrap_or_default();
    let group = attributes(groups).find(|&(_, group)| find(group, GROUP_NAME) == Some(netdev::CHANGES));
    let number = group.and_then(|(_, group)| find(group, GROUP_ID)).and_then(|value| u32_at(value, 0));
    Socket::for_generic_changes(&[number.ok_or(io::ErrorKind::NotFound)?])
}

fn xdp_features(index: u32) -> io::Result<u64> {
    let socket = Socket::for_generic_requests()?;
    let question = |request: Request| request.attribute(netdev::IFINDEX, &index.to_ne_bytes());
    let answer = ask(&socket, family(&socket, netdev::NAME)?, netdev::GET_DEVICE, question)?;
    let features = find(&answer, netdev::XDP_FEATURES).and_then(|value| u64_at(value, 0));
    Ok(features.unwrap_or(0))
}

/// What matters of a device to whoever reads its frames before the network stack does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// Whether frames are joined before they reach the network stack.
    pub(crate) joins_frames: bool,
    /// Whether tags are taken out of frames that arrive.
    pub(crate) takes_tags: bool,
    /// How many queues it receives on.
    pub(crate) queues: u32,
}

impl Features {
    /// Asks a device.
    ///
    /// # Errors
    /// When there is no such device, or the kernel does not say (Linux 5.7 does).
    pub(crate) fn of(index: u32) -> io::Result<Self> {
        let socket = Socket::for_generic_requests()?;
        let family = family(&socket, ethtool::NAME)?;
        let device = |request: Request| {
            request.nested(ethtool::HEADER | NESTED, |header| {
                header.attribute(ethtool::DEVICE, &index.to_ne_bytes())
            })
        };
        let answer = ask(&socket, family, ethtool::GET_FEATURES, device)?;
        let active = find(&answer, ethtool::ACTIVE).ok_or(io::ErrorKind::InvalidData)?;
        let is_on = |name: &[u8]| bits(active).any(|bit| bit == name);
        // A device without channels says that it has none to say of.
        let queues = ask(&socket, family, ethtool::GET_CHANNELS, device).map_or(1, |answer| {
            let count = |kind| find(&answer, kind).and_then(|value| u32_at(value, 0)).unwrap_or(0);
            count(ethtool::RECEIVE_CHANNELS) + count(ethtool::COMBINED_CHANNELS)
        });
        Ok(Self {
            joins_frames: is_on(b"rx-gro") || is_on(b"rx-lro") || is_on(b"rx-gro-hw"),
            takes_tags: is_on(b"rx-vlan-hw-parse"),
            queues: queues.max(1),
        })
    }
}

/// The names in a list of bits.
fn bits(set: &[u8]) -> impl Iterator<Item = &[u8]> {
    let list = attributes(set).find(|&(kind, _)| kind == ethtool::BITS).map_or(&[][..], |(_, value)| value);
    attributes(list).filter(|&(kind, _)| kind == ethtool::BIT).filter_map(|(_, bit)| {
        let (_, name) = attributes(bit).find(|&(kind, _)| kind == ethtool::BIT_NAME)?;
        Some(name.strip_suffix(&[0]).unwrap_or(name))
    })
}

fn family(socket: &Socket, name: &[u8]) -> io::Result<u16> {
    let answer = ask(socket, CONTROL, GET_FAMILY, |request| request.attribute(FAMILY_NAME, name))?;
    find(&answer, FAMILY_ID)
        .and_then(|value| u16_at(value, 0))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn find(answer: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(answer).find(|&(kind, _)| kind == wanted).map(|(_, value)| value)
}

/// The attributes of the answer to a question.
fn ask(socket: &Socket, family: u16, command: u8, fill: impl Fn(Request) -> Request) -> io::Result<Vec<u8>> {
    let request = fill(Request::new(family, flag::REQUEST, 1, &[command, 1, 0, 0]));
    socket.send(&request.finish())?;
    let mut buffer = vec![0; DATAGRAM];
    let length = socket.receive(&mut buffer)?;
    let datagram = buffer.get(..length).unwrap_or_default();
    let (kind, message) = messages(datagram).next().ok_or(io::ErrorKind::InvalidData)?;
    if kind == super::kind::ERROR {
        let number = message.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        return Err(io::Error::from_raw_os_error(-number));
    }
    Ok(message.get(HEADER..).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_a_device_can_do() {
        // The loopback device joins frames, and has neither queues to speak of nor a driver.
        let index = crate::sys::tun::Device::index_of("lo").unwrap();
        assert!(!has_zero_copy(index).unwrap());
        let known = Features { joins_frames: true, takes_tags: false, queues: 1 };
        assert_eq!(Features::of(index).unwrap(), known);
        has_zero_copy(u32::MAX >> 1).unwrap_err();
        Features::of(u32::MAX >> 1).unwrap_err();
    }
}
