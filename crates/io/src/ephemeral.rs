//! Keeping the host's own ephemeral ports out of the waypoints' ranges.
//!
//! The kernel picks source ports for the host's own connections from
//! `net.ipv4.ip_local_port_range`. A connection from a waypoint address and a waypoint port would
//! never get an answer, because Fairway takes it. So the range is moved beside the waypoints' while
//! Fairway runs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use fairway_types::{PortRange, Protocol};
use tracing::{info, warn};

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The lowest port given to ephemeral use.
const LOWEST: u16 = 2048;
/// With fewer ports than this a busy host may run out.
const COMFORTABLE: u32 = 4096;

/// The kernel's range, kept open: a process that is not root any more has CAP_NET_ADMIN to write it with,
/// but nobody who lets it open files for that.
#[derive(Clone, Debug)]
pub(crate) struct Range(Result<Arc<File>, io::ErrorKind>);

impl Range {
    /// Opens it; that it cannot be is told by those who need it.
    pub(crate) fn open() -> Self {
        let file = File::options().read(true).write(true).open(RANGE);
        Self(file.map(Arc::new).map_err(|error| error.kind()))
    }

    fn file(&self) -> io::Result<&File> {
        self.0.as_deref().map_err(|&kind| kind.into())
    }

    fn read(&self) -> io::Result<PortRange> {
        let mut text = [0; 64];
        let length = self.file()?.read_at(&mut text, 0)?;
        let text = text.get(..length).and_then(|text| core::str::from_utf8(text).ok());
        let mut numbers = text.unwrap_or_default().split_whitespace().map(str::parse::<u16>);
        let (Some(Ok(first)), Some(Ok(last))) = (numbers.next(), numbers.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        PortRange::new(first, last).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn write(&self, range: PortRange) -> io::Result<()> {
        self.file()?.write_all_at(format!("{} {}\n", range.first(), range.last()).as_bytes(), 0)
    }
}

/// A changed range, restored when this is dropped. A crash leaves the changed one: it is valid, only
/// smaller.
#[derive(Debug)]
pub(crate) struct EphemeralPorts {
    range: Range,
    before: PortRange,
    set: PortRange,
}

impl EphemeralPorts {
    /// Moves the range away from `waypoints`; `None` when it does not touch them, or nothing is left.
    pub(crate) fn keep_out_of(range: &Range, waypoints: &[PortRange]) -> io::Result<Option<Self>> {
        let before = range.read()?;
        if !waypoints.iter().any(|waypoints| overlap(*waypoints, before)) {
            return Ok(None);
        }
        let Some(set) = largest_gap(waypoints) else {
            warn!(range = %before, "waypoint ports leave no room for ephemeral ports");
            return Ok(None);
        };
        if set.count() < COMFORTABLE {
            warn!(range = %set, "few ephemeral ports are left beside the waypoints");
        }
        range.write(set)?;
        info!(%before, now = %set, "moved the host's ephemeral ports away from the waypoints");
        Ok(Some(Self { range: range.clone(), before, set }))
    }
}

impl EphemeralPorts {
    /// Lets the range stay when this process is gone.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

/// The range of a kernel nobody configured (net/ipv4/af_inet.c).
const KERNEL_DEFAULT: (u16, u16) = (32_768, 60_999);

/// Gives the kernel's default range back, if the present one keeps out of the usual waypoints.
pub(crate) fn restore_default() -> io::Result<bool> {
    let usual = [PortRange::WAYPOINTS];
    let Some(default) = PortRange::new(KERNEL_DEFAULT.0, KERNEL_DEFAULT.1) else { return Ok(false) };
    let range = Range::open();
    if Some(range.read()?) != largest_gap(&usual) {
        return Ok(false);
    }
    range.write(default)?;
    Ok(true)
}

impl Drop for EphemeralPorts {
    fn drop(&mut self) {
        // Only what is still as it was set: an administrator's change stays.
        if self.range.read().ok() == Some(self.set) {
            match self.range.write(self.before) {
                Ok(()) => info!(range = %self.before, "restored the host's ephemeral ports"),
                Err(error) => warn!(%error, "the host's ephemeral ports could not be restored"),
            }
        }
    }
}

fn overlap(a: PortRange, b: PortRange) -> bool {
    a.first() <= b.last() && b.first() <= a.last()
}

/// The largest range from [`LOWEST`] on that touches none of `waypoints`.
fn largest_gap(waypoints: &[PortRange]) -> Option<PortRange> {
    let mut sorted = waypoints.to_vec();
    sorted.sort_unstable();
    let mut gaps = Vec::new();
    let mut next = u32::from(LOWEST);
    for range in sorted {
        if u32::from(range.first()) > next {
            gaps.push((next, u32::from(range.first()) - 1));
        }
        next = next.max(u32::from(range.last()) + 1);
    }
    gaps.push((next, u32::from(u16::MAX)));
    let range = |(first, last)| PortRange::new(u16::try_from(first).ok()?, u16::try_from(last).ok()?);
    gaps.into_iter().filter_map(range).max_by_key(|gap| gap.count())
}

/// Says which of the host's own sockets use ports that belong to waypoints. They go on working on
/// addresses that are no waypoints.
pub(crate) fn warn_of_bound_sockets(waypoints: &[PortRange]) {
    for (protocol, port) in sockets() {
        if waypoints.iter().any(|range| range.contains(port)) {
            warn!(%protocol, port, "a socket of this host uses a waypoint port; on waypoints it gets no packets");
        }
    }
}

/// The ports among those of source NAT that sockets of this host use now, at most 4096 of them. It reads
/// tables of the kernel, which takes time on a busy host: not for a worker.
#[must_use]
pub fn host_ports() -> Vec<(Protocol, u16)> {
    const MOST: usize = 4096;
    let mut ports: Vec<_> = sockets().filter(|(_, port)| PortRange::SOURCE_NAT.contains(*port)).collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > MOST {
        warn!(ports = ports.len(), "more ports of this host's sockets than source NAT can leave alone");
        ports.truncate(MOST);
    }
    ports
}

/// Protocol and local port of all sockets of this network namespace.
fn sockets() -> impl Iterator<Item = (Protocol, u16)> {
    let tables = [
        (Protocol::TCP, "/proc/thread-self/net/tcp"),
        (Protocol::TCP, "/proc/thread-self/net/tcp6"),
        (Protocol::UDP, "/proc/thread-self/net/udp"),
        (Protocol::UDP, "/proc/thread-self/net/udp6"),
    ];
    tables.into_iter().flat_map(|(protocol, path)| {
        let table = fs::read_to_string(path).unwrap_or_default();
        bound_ports(&table).into_iter().map(move |port| (protocol, port))
    })
}

/// The local ports in a table of /proc/net, each once.
fn bound_ports(table: &str) -> Vec<u16> {
    let local = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    let ports = local.filter_map(|address| u16::from_str_radix(address.rsplit(':').next()?, 16).ok());
    let mut ports: Vec<_> = ports.filter(|&port| port != 0).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(first, last).unwrap()
    }

    #[test]
    fn the_largest_gap_beside_the_waypoints_is_chosen() {
        assert_eq!(largest_gap(&[PortRange::WAYPOINTS]), Some(range(2048, 16_383)));
        assert_eq!(largest_gap(&[range(20_000, 21_000), range(1, 5000)]), Some(range(21_001, 65_535)));
        assert_eq!(largest_gap(&[range(0, 65_535)]), None);
        assert_eq!(largest_gap(&[]), Some(range(2048, 65_535)));
    }

    #[test]
    fn bound_ports_are_read_from_proc() {
        let table = "  sl  local_address rem_address   st\n   \
                     0: 0100007F:4E20 00000000:0000 0A 0\n   1: 00000000:0016 00000000:0000 0A 0\n";
        assert_eq!(bound_ports(table), [22, 20_000]);
    }
}
