//! Packets that follow one another leave together, as one super-packet.
//!
//! What hosts send one by one, and what is sealed or opened one by one, leaves a batch in rows of packets
//! of one flow that differ in little. The kernel takes as long for a super-packet as for one packet, and
//! whoever cuts it makes these packets again. Packets are joined by the rules of GRO, within a batch, so
//! nothing waits for anything; and only if their checksums are left to the device anyway, since a wrong
//! one must stay wrong.

use fairway_types::{Batch, Checksum, Counter, Egress, Gso, GsoKind, Protocol, Slot, Verdict};
use fairway_wire::checksum::Delta;

use crate::engine::Engine;
use crate::headers::{self, TCP_CHECKSUM, TCP_FLAGS, TCP_LEN, UDP_CHECKSUM, UDP_LEN, v4, v6};
use crate::tcp::flags;

/// How many packets leave together at most.
const MOST: usize = 64;
const SEQUENCE: usize = 4;

/// What is looked at of a packet that could be joined with others.
#[derive(Clone, Copy)]
struct Shape {
    egress: Egress,
    ipv6: bool,
    protocol: Protocol,
    /// Where the transport header begins, and where it ends.
    transport: usize,
    payload: usize,
    length: usize,
}

impl Shape {
    /// That of a packet without IP options, whose payload may be joined with that of others.
    fn of(slot: &Slot) -> Option<Self> {
        let Verdict::Forward(egress) = slot.verdict else { return None };
        if slot.gso.is_some() || slot.checksum != Checksum::Partial {
            return None;
        }
        let bytes = slot.packet.bytes();
        let (ipv6, protocol, transport) = match bytes.first()? {
            0x45 if headers::read_u16(bytes.get(..v4::LEN)?, 6) == 0x4000 => (false, bytes[9], v4::LEN),
            0x60..=0x6f => (true, *bytes.get(6)?, v6::LEN),
            _ => return None,
        };
        let protocol = Protocol(protocol);
        let header = match protocol {
            Protocol::UDP => UDP_LEN,
            Protocol::TCP => usize::from(bytes.get(transport + 12)? >> 4) * 4,
            _ => return None,
        };
        let payload = transport + header;
        let length = bytes.len().checked_sub(payload).filter(|&length| length > 0)?;
        let whole = protocol == Protocol::UDP || header >= TCP_LEN;
        whole.then_some(Self { egress, ipv6, protocol, transport, payload, length })
    }

    /// Whether nothing may follow a packet.
    fn ends(&self, bytes: &[u8]) -> bool {
        self.protocol == Protocol::TCP
            && bytes[self.transport + TCP_FLAGS] & !(flags::ACK | flags::ECE | flags::CWR) != 0
    }
}

/// Packets that are being put together, in the slot of the first.
struct Row {
    at: usize,
    first: Shape,
    /// Payload bytes in all.
    total: usize,
    count: usize,
    ended: bool,
}

impl Row {
    fn new(at: usize, first: Shape, bytes: &[u8]) -> Self {
        Self { at, first, total: first.length, count: 1, ended: first.ends(bytes) }
    }

    /// Whether a packet continues the row.
    fn takes(&self, head: &[u8], next: &Shape, bytes: &[u8]) -> bool {
        let Self { first, total, .. } = self;
        let alike = next.egress == first.egress
            && (next.ipv6, next.protocol, next.payload) == (first.ipv6, first.protocol, first.payload);
        if self.ended || !alike || next.length > first.length || self.count == MOST {
            return false;
        }
        first.payload + total + next.length <= usize::from(u16::MAX)
            && same_ip(head, bytes, first.ipv6)
            && same_transport(&head[first.transport..], &bytes[first.transport..next.payload], first, *total)
    }

    /// Makes the headers say what the packet has become.
    fn finish(&self, slot: &mut Slot) {
        let Shape { ipv6, protocol, transport, payload, length, .. } = self.first;
        let (before, after) =
            ((payload - transport + length) as u16, (payload - transport + self.total) as u16);
        let bytes = slot.packet.bytes_mut();
        if ipv6 {
            headers::write_u16(bytes, v6::PAYLOAD_LENGTH.start, after);
        } else {
            let total = (payload + self.total) as u16;
            let delta = Delta::word(headers::read_u16(bytes, v4::TOTAL_LENGTH.start), total);
            headers::write_u16(bytes, v4::TOTAL_LENGTH.start, total);
            headers::update(bytes, v4::CHECKSUM.start, |sum| delta.apply(sum));
        }
        let field = if protocol == Protocol::UDP {
            headers::write_u16(bytes, transport + 4, after);
            UDP_CHECKSUM
        } else {
            TCP_CHECKSUM
        };
        headers::update(bytes, transport + field, |sum| Delta::word(before, after).apply_partial(sum));
        let kind = match (protocol, ipv6) {
            (Protocol::UDP, _) => GsoKind::Udp,
            (_, false) => GsoKind::TcpV4,
            (_, true) => GsoKind::TcpV6,
        };
        let ecn = protocol == Protocol::TCP && bytes[transport + TCP_FLAGS] & flags::CWR != 0;
        slot.gso = Some(Gso { kind, size: length as u16, ecn });
    }
}

/// Whether IP headers differ in nothing but lengths, identification and checksum.
fn same_ip(one: &[u8], other: &[u8], ipv6: bool) -> bool {
    if ipv6 {
        one[..4] == other[..4] && one[6..v6::LEN] == other[6..v6::LEN]
    } else {
        one[..2] == other[..2] && one[6..10] == other[6..10] && one[12..v4::LEN] == other[12..v4::LEN]
    }
}

/// Whether a transport header is that of what follows `total` bytes of payload.
fn same_transport(first: &[u8], next: &[u8], shape: &Shape, total: usize) -> bool {
    if first[..4] != next[..4] {
        return false;
    }
    if shape.protocol == Protocol::UDP {
        return true;
    }
    let sequence = |header: &[u8]| u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let differing = first[TCP_FLAGS] ^ next[TCP_FLAGS];
    sequence(next) == sequence(first).wrapping_add(total as u32)
        && next[TCP_FLAGS] & flags::CWR == 0
        && differing & !(flags::FIN | flags::PSH | flags::CWR) == 0
        && first[SEQUENCE + 4..TCP_FLAGS] == next[SEQUENCE + 4..TCP_FLAGS]
        && first[TCP_FLAGS + 1..TCP_CHECKSUM] == next[TCP_FLAGS + 1..TCP_CHECKSUM]
        && first[TCP_CHECKSUM + 2..next.len()] == next[TCP_CHECKSUM + 2..]
}

impl Engine {
    /// Puts received packets together that were decided about and follow one another; to be called when
    /// nothing of the batch is to be handed over any more.
    pub fn gather(&mut self, batch: &mut Batch) {
        let mut row: Option<Row> = None;
        let mut gathered = 0;
        for at in 0..batch.len() {
            // What was made for a packet leaves in front of it.
            let apart = batch.has_emitted_before(at);
            let slots = batch.received_mut();
            let shape = Shape::of(&slots[at])
                .filter(|shape| self.udp_super_packets || shape.protocol != Protocol::UDP);
            let Some(shape) = shape else {
                // What is dropped, or was consumed, is not in the way.
                if matches!(slots[at].verdict, Verdict::Forward(_)) || apart {
                    close(&mut row, slots);
                }
                continue;
            };
            let (before, rest) = slots.split_at_mut(at);
            let next = &mut rest[0];
            let taken = row.as_mut().filter(|_| !apart).is_some_and(|row| append(row, before, &shape, next));
            if taken {
                next.verdict = Verdict::Consumed;
                gathered += 1;
            } else {
                let fresh = Row::new(at, shape, next.packet.bytes());
                close(&mut row, slots);
                row = Some(fresh);
            }
        }
        close(&mut row, batch.received_mut());
        self.counters.add(Counter::PacketsGathered, gathered);
    }
}

/// Appends a packet to a row, if it continues it.
fn append(row: &mut Row, slots: &mut [Slot], shape: &Shape, next: &Slot) -> bool {
    let Some(first) = slots.get_mut(row.at) else { return false };
    let bytes = next.packet.bytes();
    let end = first.packet.len();
    if !row.takes(first.packet.bytes(), shape, bytes) || !first.packet.grow_back(shape.length) {
        return false;
    }
    first.packet.bytes_mut()[end..].copy_from_slice(&bytes[shape.payload..]);
    row.total += shape.length;
    row.count += 1;
    row.ended = shape.length < row.first.length || shape.ends(bytes);
    if shape.protocol == Protocol::TCP {
        let own = bytes[shape.transport + TCP_FLAGS] & (flags::FIN | flags::PSH);
        first.packet.bytes_mut()[shape.transport + TCP_FLAGS] |= own;
    }
    true
}

fn close(row: &mut Option<Row>, slots: &mut [Slot]) {
    if let Some(row) = row.take().filter(|row| row.count > 1)
        && let Some(slot) = slots.get_mut(row.at)
    {
        row.finish(slot);
    }
}
