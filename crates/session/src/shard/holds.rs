//! Keeping the order of a flow while it is placed.
//!
//! When a flow goes over to a worker, packets of it may still wait at another one, which hands them
//! over. What arrives at the new worker directly is younger, so it is held until the other one says
//! that it has none left. That takes as long as that one needs for a round; if it takes longer than
//! [`PATIENCE`], the network had better think the flow was reordered than that it stands still.

use core::time::Duration;

use fairway_types::{Slot, Time};

use crate::key::FlowKey;

/// How long packets are held at most.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);
/// How many flows are placed at once; more are not held.
const FLOWS: usize = 256;
/// How many packets of one flow are held.
const PACKETS: usize = 64;
/// How many bytes are held in all.
const BYTES: usize = 4 << 20;

struct Hold {
    key: FlowKey,
    until: Time,
    packets: Vec<Slot>,
}

/// Flows that are being placed.
#[derive(Default)]
pub(crate) struct Holds {
    flows: Vec<Hold>,
    bytes: usize,
}

/// What became of a packet that arrived directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Its flow is not being placed.
    No,
    Yes,
    /// There is no room: it goes its way, before others that were sent earlier perhaps.
    NoRoom,
}

impl Holds {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Begins to hold a flow; says whether there is room for that.
    pub(crate) fn begin(&mut self, now: Time, key: &FlowKey) -> bool {
        if self.flows.iter().any(|hold| hold.key == *key) {
            return true;
        }
        let room = self.flows.len() < FLOWS;
        if room {
            self.flows.push(Hold { key: *key, until: now + PATIENCE, packets: Vec::new() });
        }
        room
    }

    /// Takes a copy of a packet if its flow is held.
    pub(crate) fn take(&mut self, key: &FlowKey, packet: &Slot) -> Held {
        let Some(hold) = self.flows.iter_mut().find(|hold| hold.key == *key) else { return Held::No };
        let length = packet.packet.len();
        if hold.packets.len() >= PACKETS || self.bytes + length > BYTES {
            return Held::NoRoom;
        }
        self.bytes += length;
        hold.packets.push(packet.compact());
        Held::Yes
    }

    /// Ends the hold of a flow, and gives what was held, the oldest first.
    pub(crate) fn end(&mut self, key: &FlowKey) -> Vec<Slot> {
        let Some(place) = self.flows.iter().position(|hold| hold.key == *key) else { return Vec::new() };
        let packets = self.flows.swap_remove(place).packets;
        self.bytes -= packets.iter().map(|slot| slot.packet.len()).sum::<usize>();
        packets
    }

    /// A flow whose time is over.
    pub(crate) fn overdue(&self, now: Time) -> Option<FlowKey> {
        self.flows.iter().find(|hold| hold.until <= now).map(|hold| hold.key)
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.flows.iter().map(|hold| hold.until).min()
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use fairway_types::{InterfaceId, PacketBuf, Protocol, Tuple};

    use super::*;

    fn key(port: u16) -> FlowKey {
        let end = |port| SocketAddr::new([192, 0, 2, 1].into(), port);
        let tuple = Tuple { source: end(port), destination: end(7), protocol: Protocol::UDP };
        FlowKey::new(InterfaceId(0), &tuple)
    }

    fn packet(number: u8) -> Slot {
        let mut packet = PacketBuf::with_capacity(100);
        assert!(packet.fill(&[number; 40]));
        Slot::new(packet)
    }

    #[test]
    fn what_is_held_comes_back_in_order_and_once() {
        let mut holds = Holds::default();
        assert_eq!(holds.take(&key(1), &packet(0)), Held::No);
        assert!(holds.begin(Time::ZERO, &key(1)));
        for number in 0..3 {
            assert_eq!(holds.take(&key(1), &packet(number)), Held::Yes);
        }
        assert_eq!(holds.take(&key(2), &packet(0)), Held::No, "another flow");
        assert!(holds.overdue(Time::ZERO).is_none());
        assert_eq!(holds.deadline(), Some(Time::ZERO + PATIENCE));
        assert!(holds.overdue(Time::ZERO + PATIENCE) == Some(key(1)));
        let packets: Vec<u8> = holds.end(&key(1)).iter().map(|slot| slot.packet.bytes()[0]).collect();
        assert_eq!(packets, [0, 1, 2]);
        assert!(holds.is_empty() && holds.end(&key(1)).is_empty() && holds.bytes == 0);
    }

    #[test]
    fn room_is_bounded() {
        let mut holds = Holds::default();
        holds.begin(Time::ZERO, &key(1));
        let taken = (0..100).filter(|_| holds.take(&key(1), &packet(0)) == Held::Yes).count();
        assert_eq!((taken, holds.take(&key(1), &packet(0))), (PACKETS, Held::NoRoom));
        let begun = (1..1000).filter(|&port| holds.begin(Time::ZERO, &key(port))).count();
        assert_eq!(begun, FLOWS);
    }
}
