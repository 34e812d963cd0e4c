//! What a device says of itself over the ioctls of ethtool (include/uapi/linux/ethtool.h).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use super::check;

/// The request of ioctl(2); libc has it for some platforms only.
pub(crate) const SIOCETHTOOL: libc::c_ulong = 0x8946;

const GET_DRIVER: u32 = 0x3;
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
const GET_CHANNELS: u32 = 0x3c;
const FLAG_RX_VLAN: u32 = 1 << 8;

#[repr(C)]
#[derive(Clone, Copy)]
struct Value {
    command: u32,
    value: u32,
}
const _: () = assert!(size_of::<Value>() == 8);

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    send: u32,
    other: u32,
    combined: u32,
}
const _: () = assert!(size_of::<Channels>() == 36);

/// `struct ethtool_drvinfo`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Driver {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}
const _: () = assert!(size_of::<Driver>() == 196);

/// What matters of a device to whoever reads its frames before the kernel does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// The name of the driver, as "veth".
    pub(crate) driver: String,
    /// Whether frames are joined before they reach the network stack.
    pub(crate) gro: bool,
    /// Whether tags are taken out of frames that arrive.
    pub(crate) takes_tags: bool,
    /// How many queues it receives on.
    pub(crate) queues: u32,
}

impl Features {
    /// Asks the device with this name. What it does not know, it does not do.
    ///
    /// # Errors
    /// When there is no such device.
    pub(crate) fn of(device: &str) -> io::Result<Self> {
        // Any socket will do; the question goes to the namespace of whoever made it.
        let socket = UnixDatagram::unbound()?;
        let mut driver = Driver { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
        let known = match ask(&socket, device, &mut driver) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Err(error),
            result => result.is_ok(),
        };
        let name = driver.driver.split(|&byte| byte == 0).next().filter(|_| known).unwrap_or_default();
        let flag = |command| {
            let mut value = Value { command, value: 0 };
            ask(&socket, device, &mut value).map_or(0, |()| value.value)
        };
        let mut channels =
            Channels { command: GET_CHANNELS, most: [0; 4], receive: 0, send: 0, other: 0, combined: 0 };
        let queues = ask(&socket, device, &mut channels).map_or(1, |()| channels.receive + channels.combined);
        Ok(Self {
            driver: String::from_utf8_lossy(name).into_owned(),
            gro: flag(GET_GRO) != 0,
            takes_tags: flag(GET_FLAGS) & FLAG_RX_VLAN != 0,
            queues: queues.max(1),
        })
    }
}

/// `T` is the structure that its first word, the command, asks for.
fn ask<T: Copy>(socket: &UnixDatagram, device: &str, question: &mut T) -> io::Result<()> {
    // SAFETY: ifreq is plain data; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes().take(room)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
    // SAFETY: `request` is a live ifreq whose data points to `question`, which is borrowed exclusively; all
    // callers pass the structure that the kernel fills for the command in it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    check(result).map(drop)
}
