//! Packets on their way through a router.
//!
//! A [`Batch`] is filled by a backend, decided by the engine, and emptied by a backend. Packets are
//! layer 3: link headers belong to the backend. Buffers have room in front so that metadata and
//! encapsulation grow a packet in place. A packet may be a super-packet ([`Gso`]) with an
//! unfinished checksum ([`Checksum::Partial`]), exactly as a vnet header describes it.

use core::net::IpAddr;

use crate::drops::DropReason;
use crate::ids::InterfaceId;
use crate::outlet::{Emitted, Outlet};
use crate::steering::WorkerId;

/// Bytes kept free in front of a received packet: metadata, an IPv6 and a UDP header, a link
/// header with tags, a vnet header, and some to spare.
pub const HEADROOM: usize = 1024;
/// Bytes kept free behind a received packet, for tags and padding.
pub const TAILROOM: usize = 128;
/// The longest layer-3 packet, super-packets included.
pub const MAX_PACKET: usize = 65_575;

/// A packet buffer with room at both ends.
#[derive(Clone)]
pub struct PacketBuf {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
}

impl PacketBuf {
    /// No buffer at all, in the place of one that is in use elsewhere.
    #[must_use]
    pub fn none() -> Self {
        Self { storage: Box::default(), start: 0, end: 0 }
    }

    /// A buffer that can hold a packet of `capacity` bytes beside headroom and tailroom.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let storage = vec![0; HEADROOM + capacity + TAILROOM].into_boxed_slice();
        Self { storage, start: HEADROOM, end: HEADROOM }
    }

    /// Empties the buffer and restores the headroom.
    pub fn clear(&mut self) {
        self.start = HEADROOM.min(self.storage.len());
        self.end = self.start;
    }

    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// The packet, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    /// The length of the packet in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes free in front.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Bytes free behind.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.storage.len() - self.end
    }

    /// Replaces the content. Returns false, and changes nothing, when `bytes` does not fit.
    #[must_use]
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.storage.len().saturating_sub(HEADROOM) {
            return false;
        }
        self.clear();
        self.end = self.start + bytes.len();
        self.bytes_mut().copy_from_slice(bytes);
        true
    }

    /// Grows the packet by `count` bytes in front; they hold whatever was there. Returns false, and
    /// changes nothing, without the room.
    #[must_use]
    pub fn grow_front(&mut self, count: usize) -> bool {
        if count > self.start {
            return false;
        }
        self.start -= count;
        true
    }

    /// Grows the packet by `count` bytes behind; they hold whatever was there. Returns false, and
    /// changes nothing, without the room.
    #[must_use]
    pub fn grow_back(&mut self, count: usize) -> bool {
        if count > self.tailroom() {
            return false;
        }
        self.end += count;
        true
    }

    /// Takes up to `count` bytes off the front.
    pub fn shrink_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Cuts the packet to at most `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// The longest packet that [`Self::fill`] takes, in bytes, with some tailroom left.
    #[must_use]
    pub fn room(&self) -> usize {
        self.storage.len().saturating_sub(HEADROOM + TAILROOM)
    }

    /// The whole free space from the packet's start to the end of the buffer, for a backend to
    /// receive into; [`Self::set_len`] says how much arrived.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let start = self.start;
        &mut self.storage[start..]
    }

    /// Sets the length after a backend wrote into [`Self::spare_mut`]; clamped to the buffer.
    pub fn set_len(&mut self, length: usize) {
        self.end = (self.start + length).min(self.storage.len());
    }
}

impl core::fmt::Debug for PacketBuf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PacketBuf({} bytes)", self.len())
    }
}

/// What is known of the transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is in the packet, and nobody checked it.
    #[default]
    Unverified,
    /// It is in the packet and right.
    Valid,
    /// The checksum field holds the folded pseudo-header sum only; whoever puts the packet on a
    /// wire completes it (Linux `CHECKSUM_PARTIAL`, virtio `NEEDS_CSUM`).
    Partial,
}

/// Kinds of super-packets, named as in virtio (OASIS virtio 1.2, 5.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP, cut into datagrams of equal size (`GSO_UDP_L4`).
    Udp,
}

/// A super-packet: one frame that stands for several packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// What is segmented.
    pub kind: GsoKind,
    /// Transport payload bytes in every segment but the last.
    pub size: u16,
    /// The TCP segments carry CWR on the first only (virtio `GSO_ECN`).
    pub ecn: bool,
}

/// Where a forwarded packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Egress {
    /// The interface.
    pub interface: InterfaceId,
    /// Whose link address the frame carries once resolved: an address on the link, or one the
    /// backend reaches through the interface's gateway.
    pub next_hop: IpAddr,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Not decided yet.
    #[default]
    Pending,
    /// Send it.
    Forward(Egress),
    /// Drop it. The engine has counted it.
    Drop(DropReason),
    /// Not the fabric's: for the host's own network stack.
    Punt,
    /// Answered, absorbed or replaced by emitted packets.
    Consumed,
    /// It belongs to another worker of this router.
    HandOver(WorkerId),
}

/// One packet and what is known of it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The packet, from its IP header on.
    pub packet: PacketBuf,
    /// The interface it came in on; for emitted packets, the one it leaves by.
    pub interface: InterfaceId,
    /// The state of its transport checksum.
    pub checksum: Checksum,
    /// Set when it is a super-packet.
    pub gso: Option<Gso>,
    /// Set when it was put together from fragments of its source, who lets it be cut again.
    pub fragmented: bool,
    /// What the engine decided.
    pub verdict: Verdict,
    /// How often one worker handed it over to another.
    pub handed: u8,
    /// Whether another worker has accepted its metadata already.
    pub genuine: bool,
}

impl Slot {
    /// A packet of which nothing is known.
    #[must_use]
    pub fn new(packet: PacketBuf) -> Self {
        Self {
            packet,
            interface: InterfaceId(0),
            checksum: Checksum::Unverified,
            gso: None,
            fragmented: false,
            verdict: Verdict::Pending,
            handed: 0,
            genuine: false,
        }
    }

    /// A copy that needs no more memory than the packet has bytes.
    #[must_use]
    pub fn compact(&self) -> Self {
        let mut packet = PacketBuf::with_capacity(self.packet.len());
        let fits = packet.fill(self.packet.bytes());
        debug_assert!(fits, "a buffer made for these bytes");
        Self { packet, ..*self }
    }

    pub(crate) fn reset(&mut self) {
        self.packet.clear();
        self.interface = InterfaceId(0);
        self.checksum = Checksum::Unverified;
        self.gso = None;
        self.fragmented = false;
        self.verdict = Verdict::Pending;
        self.handed = 0;
        self.genuine = false;
    }
}

/// Packets that are processed together.
///
/// `received` slots are filled by a backend; `emitted` slots are packets the engine made itself
/// (control messages, ICMP errors, segments of a super-packet). Buffers are allocated once.
#[derive(Debug)]
pub struct Batch {
    received: Vec<Slot>,
    filled: usize,
    emitted: Emitted,
}

impl Batch {
    /// A batch of up to `receive` packets of up to [`MAX_PACKET`] bytes, and up to `emit` packets of
    /// up to `emit_bytes` bytes made by the engine.
    #[must_use]
    pub fn new(receive: usize, emit: usize, emit_bytes: usize) -> Self {
        Self {
            received: (0..receive).map(|_| Slot::new(PacketBuf::with_capacity(MAX_PACKET))).collect(),
            filled: 0,
            emitted: Emitted::new(emit, emit_bytes),
        }
    }

    /// The same, where `count` of the packets made by the engine may have up to [`MAX_PACKET`] bytes.
    #[must_use]
    pub fn with_large(mut self, count: usize) -> Self {
        self.emitted.add_large(count);
        self
    }

    /// Forgets all packets; buffers stay.
    pub fn clear(&mut self) {
        for slot in &mut self.received[..self.filled] {
            slot.reset();
        }
        self.filled = 0;
        self.emitted.clear();
    }

    /// An empty slot for a received packet, or `None` when the batch is full.
    pub fn receive(&mut self) -> Option<&mut Slot> {
        let slot = self.received.get_mut(self.filled)?;
        self.filled += 1;
        Some(slot)
    }

    /// Gives back the last slot taken with [`Self::receive`].
    pub fn unreceive(&mut self) {
        if let Some(last) = self.filled.checked_sub(1) {
            self.received[last].reset();
            self.filled = last;
        }
    }

    /// How many more packets can be received.
    #[must_use]
    pub fn room(&self) -> usize {
        self.received.len() - self.filled
    }

    /// How many packets were received.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing was received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The received packets and, apart from them, the outlet for packets the engine makes.
    pub fn split(&mut self) -> (&mut [Slot], Outlet<'_>) {
        (&mut self.received[..self.filled], Outlet::new(&mut self.emitted))
    }

    /// The outlet alone, for timeouts.
    pub fn outlet(&mut self) -> Outlet<'_> {
        Outlet::new(&mut self.emitted)
    }

    /// All received packets.
    #[must_use]
    pub fn received(&self) -> &[Slot] {
        &self.received[..self.filled]
    }

    /// All received packets, to be changed.
    pub fn received_mut(&mut self) -> &mut [Slot] {
        &mut self.received[..self.filled]
    }

    /// All packets the engine made.
    #[must_use]
    pub fn emitted(&self) -> &[Slot] {
        self.emitted.slots()
    }

    /// All packets the engine made, to be changed.
    pub fn emitted_mut(&mut self) -> &mut [Slot] {
        self.emitted.slots_mut()
    }

    /// Whether the engine made something that leaves directly in front of a received packet.
    #[must_use]
    pub fn has_emitted_before(&self, number: usize) -> bool {
        self.emitted.has_turn(number)
    }

    /// Calls `act` with all packets in the order in which they are to leave, some at a time: what the
    /// engine made while it decided about a received packet is in front of that packet.
    pub fn in_order(&mut self, mut act: impl FnMut(&mut [Slot])) {
        let (mut first, mut next) = (0, 0);
        while let Some(end) = self.emitted.end_of_turn(next) {
            let turn = self.emitted.turn(next).min(self.filled);
            if turn > first {
                act(&mut self.received[first..turn]);
                first = turn;
            }
            act(&mut self.emitted.slots_mut()[next..end]);
            next = end;
        }
        if first < self.filled {
            act(&mut self.received[first..self.filled]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_in_both_directions_and_refuses_what_does_not_fit() {
        let mut packet = PacketBuf::with_capacity(100);
        assert!(packet.fill(b"hello"));
        assert!(packet.grow_front(3));
        packet.bytes_mut()[..3].copy_from_slice(b"abc");
        assert!(packet.grow_back(2));
        packet.bytes_mut()[8..].copy_from_slice(b"yz");
        assert_eq!(packet.bytes(), b"abchelloyz");
        assert!(!packet.grow_front(HEADROOM));
        assert!(!packet.grow_back(1000));
        packet.shrink_front(3);
        packet.truncate(5);
        assert_eq!(packet.bytes(), b"hello");
        assert!(!packet.fill(&[0; 1000]));
        assert_eq!(packet.bytes(), b"hello");
    }

    #[test]
    fn a_batch_hands_out_its_slots_once() {
        let mut batch = Batch::new(2, 1, 100);
        assert!(batch.receive().is_some());
        assert!(batch.receive().is_some());
        assert!(batch.receive().is_none());
        let (received, mut outlet) = batch.split();
        assert_eq!(received.len(), 2);
        assert!(outlet.emit().is_some());
        assert!(outlet.emit().is_none());
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.outlet().room(), 1);
    }

    #[test]
    fn what_is_made_for_a_packet_leaves_in_front_of_it() {
        let mut batch = Batch::new(3, 4, 100);
        for number in 0..3u8 {
            assert!(batch.receive().unwrap().packet.fill(&[number]));
        }
        let (_, mut outlet) = batch.split();
        for (turn, number) in [(0, 10), (1, 11), (1, 12), (2, 13)] {
            outlet.begin_turn(turn);
            assert!(outlet.emit().unwrap().packet.fill(&[number]));
        }
        let mut order = Vec::new();
        batch.in_order(|slots| order.extend(slots.iter().map(|slot| slot.packet.bytes()[0])));
        assert_eq!(order, [10, 0, 11, 12, 1, 13, 2]);
    }
}
