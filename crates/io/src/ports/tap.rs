//! The capture hook of a worker.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fairway_types::{Gso, GsoKind, InterfaceId};
use fairway_wire::segment::SuperPacket;

use crate::capture::{CaptureHook, CaptureRecord, Direction};

/// A hook, or none.
#[derive(Default)]
pub(super) struct Tap {
    hook: Option<CaptureHook>,
    now: Duration,
    /// One of several datagrams.
    datagram: Vec<u8>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({})", if self.hook.is_some() { "on" } else { "off" })
    }
}

impl Tap {
    pub(super) fn set(&mut self, hook: Option<CaptureHook>) {
        self.hook = hook;
    }

    /// Whether somebody looks at packets.
    pub(super) const fn is_set(&self) -> bool {
        self.hook.is_some()
    }

    /// Reads the clock for the records that follow: once a batch, and only while somebody listens.
    #[expect(clippy::disallowed_methods, reason = "this is the shell: captures carry the wall clock")]
    pub(super) fn begin(&mut self) {
        if self.hook.is_some() {
            self.now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        }
    }

    /// Shows one packet to the hook. A super-packet of datagrams is shown as these: what protects
    /// payload is in each of them.
    pub(super) fn record(
        &mut self,
        interface: InterfaceId,
        direction: Direction,
        link_header: &[u8],
        packet: &[u8],
        gso: Option<Gso>,
    ) {
        let Some(hook) = &mut self.hook else { return };
        let mut show = |packet: &[u8]| {
            hook(&CaptureRecord { interface, direction, link_header, packet, timestamp: self.now })
        };
        let datagrams = gso.filter(|gso| gso.kind == GsoKind::Udp);
        let Some(Ok(whole)) = datagrams.map(|gso| SuperPacket::new(packet, usize::from(gso.size))) else {
            return show(packet);
        };
        self.datagram.resize(packet.len(), 0);
        for number in 0..whole.count() {
            let length = whole.emit(number, &mut self.datagram).unwrap_or(0);
            show(self.datagram.get(..length).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn datagrams_of_a_super_packet_are_shown_one_by_one() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let mut tap = Tap::default();
        tap.set(Some(Box::new(move |record| log.lock().unwrap().push(record.packet.to_vec()))));
        let mut packet = vec![0x45, 0, 0, 38, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        let sum = !fairway_wire::checksum::fold(fairway_wire::checksum::sum(&packet));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend([0, 1, 0, 2, 0, 18, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]);
        let mut record = |kind, size| {
            let gso = Some(Gso { kind, size, ecn: false });
            tap.record(InterfaceId(0), Direction::Outbound, &[], &packet, gso);
            std::mem::take(&mut *seen.lock().unwrap())
        };
        let datagrams = record(GsoKind::Udp, 4);
        let payloads: Vec<&[u8]> = datagrams.iter().map(|datagram| &datagram[28..]).collect();
        assert_eq!(payloads, [&[1; 4][..], &[2; 4], &[3; 2]]);
        assert_eq!(record(GsoKind::TcpV4, 4), [packet.clone()]);
    }
}
