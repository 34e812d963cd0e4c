//! Taking off what a router leaves at work when it ends.

use std::io;

use nix::net::if_::if_nameindex;

use crate::{classifier, ephemeral};

/// What was given back to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Devices the classifier was taken off.
    pub devices: Vec<String>,
    /// Whether the range of ephemeral ports is the kernel's default again.
    pub ephemeral_ports: bool,
}

/// Gives all traffic of this network namespace back to the kernel. Not to be called while a router
/// runs: it would answer, and the kernel too.
///
/// # Errors
/// What the kernel refused. What was released before stays released.
pub fn release() -> io::Result<Released> {
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
