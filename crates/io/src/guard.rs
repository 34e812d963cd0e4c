//! One router in a network namespace, and taking off what it leaves at work when it ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread::sleep;
use std::time::Duration;

use nix::net::if_::if_nameindex;

use crate::{classifier, ephemeral};

/// Abstract sockets belong to a network namespace and go with the process.
const NAME: &[u8] = b"fairway-router";

/// The right to take this namespace's traffic, held by one process.
#[derive(Debug)]
pub(crate) struct Claim(#[expect(dead_code, reason = "held, never used")] UnixDatagram);

impl Claim {
    /// Takes the right.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when another router runs here.
    pub(crate) fn take() -> io::Result<Self> {
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(NAME)?).map(Self)
    }

    /// Takes the right; waits a moment for a router that is just ending.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) fn take_soon() -> io::Result<Self> {
        const TRIES: u32 = 20;
        for _ in 1..TRIES {
            match Self::take() {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(Duration::from_millis(100)),
                taken => return taken,
            }
        }
        Self::take()
    }
}

/// What was given back to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Devices the classifier was taken off.
    pub devices: Vec<String>,
    /// Whether the range of ephemeral ports is the kernel's default again.
    pub ephemeral_ports: bool,
}

/// Gives all traffic of this network namespace back to the kernel, after a router ended here; waits a
/// moment for one that is just ending.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] while a router runs: it would answer, and the kernel too. Else what
/// the kernel refused; what was released before stays released.
pub fn release() -> io::Result<Released> {
    let _claim = Claim::take_soon()?;
    let mut released = Released::default();
    for device in &if_nameindex()? {
        if classifier::release(device.index())? {
            released.devices.push(device.name().to_string_lossy().into_owned());
        }
    }
    if !released.devices.is_empty() {
        released.ephemeral_ports = ephemeral::restore_default()?;
    }
    Ok(released)
}
