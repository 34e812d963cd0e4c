//! A super-packet of a protected session is, on every wire, what its segments would be one by one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "everything is made here")]

#[allow(dead_code, reason = "shared with the benchmark, which uses other parts of it")]
#[path = "../benches/support/mod.rs"]
mod support;

use fairway_session::Engine;
use fairway_types::{Batch, Checksum, Counter, DropReason, Gso, GsoKind, InterfaceId, Now, Slot, Suite};
use fairway_wire::segment::SuperPacket;
use fairway_wire::{checksum, ip, protocol};
use proptest::prelude::*;

use support::packets::Template;
use support::{BATCH, LAN, Pair, WAN};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// A packet and what a vnet header says of it.
#[derive(Clone, Debug)]
struct Frame {
    bytes: Vec<u8>,
    checksum: Checksum,
    gso: Option<Gso>,
}

impl Frame {
    fn single(bytes: Vec<u8>) -> Self {
        Self { bytes, checksum: Checksum::Unverified, gso: None }
    }

    fn of(slot: &Slot) -> Self {
        let frame = Self { bytes: slot.packet.bytes().into(), checksum: slot.checksum, gso: slot.gso };
        if slot.checksum == Checksum::Partial {
            frame.assert_checksum_is_left();
        }
        frame
    }

    /// The field holds the sum of the pseudo-header.
    fn assert_checksum_is_left(&self) {
        let parsed = ip::parse(&self.bytes).unwrap();
        let transport = usize::from(parsed.header_len);
        let at = transport + checksum::field_offset(parsed.protocol).unwrap();
        let length = (self.bytes.len() - transport) as u32;
        let sum = checksum::pseudo_header(parsed.source, parsed.destination, parsed.protocol, length);
        assert_eq!(self.bytes[at..at + 2], checksum::fold(sum).to_be_bytes());
    }

    /// The packets that a device makes of it, but for their IPv4 identification.
    fn on_the_wire(&self) -> Vec<Vec<u8>> {
        let size = self.gso.map_or(usize::from(u16::MAX), |gso| usize::from(gso.size));
        let whole = SuperPacket::new(&self.bytes, size).unwrap();
        assert!(self.gso.is_none() || whole.count() > 1, "a super-packet of one");
        if self.gso.is_some_and(|gso| gso.kind == GsoKind::Udp) {
            assert!(whole.count() <= 64, "{} datagrams", whole.count());
        }
        let cut = |number| {
            let mut packet = vec![0; whole.headers_len() + size];
            let length = whole.emit(number, &mut packet).unwrap();
            packet.truncate(length);
            packet[4..6].fill(0);
            packet[10..12].fill(0);
            packet
        };
        (0..whole.count()).map(cut).collect()
    }
}

fn on_the_wire(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().flat_map(Frame::on_the_wire).collect()
}

/// Lets an engine process frames, as a router would in batches; what leaves, in order.
fn process(engine: &mut Engine, now: Now, interface: InterfaceId, frames: &[Frame]) -> Vec<Frame> {
    process_by(engine, now, interface, frames, BATCH)
}

/// The same, one by one.
fn process_each(engine: &mut Engine, now: Now, interface: InterfaceId, frames: &[Frame]) -> Vec<Frame> {
    process_by(engine, now, interface, frames, 1)
}

fn process_by(
    engine: &mut Engine,
    now: Now,
    interface: InterfaceId,
    frames: &[Frame],
    at_once: usize,
) -> Vec<Frame> {
    let mut batch = Batch::new(BATCH, 4096, 2048).with_large(BATCH);
    let mut sent = Vec::new();
    for frames in frames.chunks(at_once) {
        batch.clear();
        for frame in frames {
            let slot = batch.receive().unwrap();
            assert!(slot.packet.fill(&frame.bytes));
            (slot.interface, slot.checksum, slot.gso) = (interface, frame.checksum, frame.gso);
        }
        engine.process(now, &mut batch);
        engine.gather(&mut batch);
        batch.in_order(|slots| {
            sent.extend(slots.iter().filter(|slot| support::is_forwarded(slot)).map(Frame::of));
        });
    }
    sent
}

/// What a host sends at once.
#[derive(Clone, Debug)]
struct Sent {
    protocol: u8,
    length: usize,
    size: usize,
    options: usize,
    sequence: u32,
    flags: u8,
}

fn sent() -> impl Strategy<Value = Sent> {
    let flags = prop_oneof![Just(0), Just(PSH), Just(FIN | PSH), Just(CWR)];
    let protocol = prop_oneof![2 => Just(protocol::TCP), 1 => Just(protocol::UDP)];
    let size = prop_oneof![3 => 1000..1380usize, 1 => 8..1000usize];
    (protocol, 1..64_000usize, size, 0..4usize, any::<u32>(), flags).prop_map(
        |(protocol, length, size, options, sequence, flags)| {
            // Hosts do not make more segments than that at once.
            let length = length.min(size * if protocol == protocol::UDP { 64 } else { 700 });
            Sent { protocol, length, size, options: options * 4, sequence, flags: flags | ACK }
        },
    )
}

fn suites() -> impl Strategy<Value = Option<Suite>> {
    prop_oneof![
        3 => Just(Some(Suite::Aes256Gcm)),
        2 => Just(Some(Suite::Aes256Cbc)),
        1 => Just(Some(Suite::HmacSha256)),
        1 => Just(None),
    ]
}

impl Sent {
    /// The super-packet, as it comes from a host with segmentation offload.
    fn frame(&self, flow: u32) -> Frame {
        let payload: Vec<u8> = (0..self.length).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut bytes = Template::of_flow(flow, self.protocol, &[]).headers().to_vec();
        if self.protocol == protocol::TCP {
            bytes[24..28].copy_from_slice(&self.sequence.to_be_bytes());
            bytes[28..32].copy_from_slice(&77u32.to_be_bytes());
            bytes[32] = (((20 + self.options) / 4) << 4) as u8;
            bytes[33] = self.flags;
            bytes.extend((0..self.options).map(|_| 1));
        }
        bytes.extend(&payload);
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes[10..12].fill(0);
        let sum = !checksum::fold(checksum::sum(&bytes[..20]));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        if self.protocol == protocol::UDP {
            bytes[24..26].copy_from_slice(&(total - 20).to_be_bytes());
        }
        let parsed = ip::parse(&bytes).unwrap();
        let sum =
            checksum::pseudo_header(parsed.source, parsed.destination, self.protocol, u32::from(total - 20));
        let at = 20 + checksum::field_offset(self.protocol).unwrap();
        bytes[at..at + 2].copy_from_slice(&checksum::fold(sum).to_be_bytes());
        let kind = if self.protocol == protocol::TCP { GsoKind::TcpV4 } else { GsoKind::Udp };
        let gso = Gso { kind, size: self.size as u16, ecn: self.flags & CWR != 0 };
        Frame { bytes, checksum: Checksum::Partial, gso: (self.length > self.size).then_some(gso) }
    }
}

/// Two routers whose sessions of these flows are past their handshakes. TCP travels as UDP.
fn pair(suite: Option<Suite>) -> Pair {
    let mut pair = match suite {
        Some(_) => Pair::with(16, true, suite),
        None => Pair::carried(16),
    };
    for protocol in [protocol::TCP, protocol::UDP] {
        let templates: Vec<_> = (0..2).map(|flow| Template::of_flow(flow, protocol, b"hello")).collect();
        let mut batch = Batch::new(BATCH, 64, 2048);
        std::mem::swap(&mut pair.batch, &mut batch);
        pair.establish(&templates, b"hello");
    }
    pair
}

/// How many packets were dropped for each reason.
fn drops(engine: &Engine) -> Vec<(DropReason, u64)> {
    engine.drops().map(|drop| (drop.reason, drop.count)).filter(|&(_, count)| count > 0).collect()
}

/// Everything an operator could see, but for how packets were put together.
fn state(engine: &Engine) -> String {
    let drops = drops(engine);
    let counters = engine.counters();
    let seen = [Counter::PayloadsSealed, Counter::PayloadsOpened, Counter::SessionsCreated];
    let seen = seen.map(|counter| counters.value(counter));
    format!("{seen:?} {drops:?} {}", engine.session_count())
}

/// What follows the IP header.
fn transports(packets: &[Vec<u8>]) -> Vec<&[u8]> {
    packets.iter().map(|packet| &packet[20..]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_super_packet_is_what_its_segments_would_be(
        suite in suites(),
        frames in prop::collection::vec((sent(), 0..2u32), 1..6),
        forged in prop::collection::vec(0..100_000usize, 0..3),
    ) {
        let (mut whole, mut single) = (pair(suite), pair(suite));
        let frames: Vec<_> = frames.iter().map(|(sent, flow)| sent.frame(*flow)).collect();
        let originals: Vec<_> = frames.iter().flat_map(segments).map(Frame::single).collect();
        let now = whole.now;
        let mut crossing = process(&mut whole.ingress, now, LAN, &frames);
        let mut one_by_one = process_each(&mut single.ingress, now, LAN, &originals);
        prop_assert_eq!(on_the_wire(&crossing), on_the_wire(&one_by_one));
        prop_assert_eq!(state(&whole.ingress), state(&single.ingress));
        // Somebody on the way changes a byte of some payloads.
        let forged = if suite.is_some() { forged } else { Vec::new() };
        let mut changed: Vec<_> = forged.iter().map(|place| place % one_by_one.len()).collect();
        changed.sort_unstable();
        changed.dedup();
        for number in &changed {
            let last = one_by_one[*number].bytes.len() - 1;
            one_by_one[*number].bytes[last] ^= 1;
            forge(&mut crossing, *number);
        }
        let delivered = process(&mut whole.egress, now, WAN, &crossing);
        let expected = process_each(&mut single.egress, now, WAN, &one_by_one);
        let (delivered, expected) = (on_the_wire(&delivered), on_the_wire(&expected));
        prop_assert_eq!(transports(&delivered), transports(&expected));
        prop_assert_eq!(expected.len(), originals.len() - changed.len());
        prop_assert_eq!(drops(&whole.egress), drops(&single.egress));
        if changed.is_empty() {
            let originals: Vec<_> = originals.iter().flat_map(Frame::on_the_wire).collect();
            prop_assert_eq!(transports(&delivered), transports(&originals));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn packets_that_leave_together_are_what_they_were(
        suite in suites(),
        frames in prop::collection::vec((sent(), 0..2u32), 1..6),
    ) {
        let (mut together, mut single) = (pair(suite), pair(suite));
        let originals: Vec<_> = frames
            .iter()
            .flat_map(|(sent, flow)| segments(&sent.frame(*flow)))
            .map(|bytes| Frame { checksum: Checksum::Valid, ..Frame::single(bytes) })
            .collect();
        let now = together.now;
        let crossing = process(&mut together.ingress, now, LAN, &originals);
        let one_by_one = process_each(&mut single.ingress, now, LAN, &originals);
        prop_assert_eq!(on_the_wire(&crossing), on_the_wire(&one_by_one));
        let delivered = process(&mut together.egress, now, WAN, &crossing);
        let delivered = on_the_wire(&delivered);
        let originals = on_the_wire(&originals);
        prop_assert_eq!(transports(&delivered), transports(&originals));
        prop_assert_eq!(state(&together.ingress), state(&single.ingress));
    }
}

#[test]
fn packets_of_a_batch_leave_together_where_they_follow_one_another() {
    let Pair { mut ingress, mut egress, now, .. } = pair(Some(Suite::Aes256Gcm));
    let sent =
        Sent { protocol: protocol::TCP, length: 40 * 1400, size: 1400, options: 12, sequence: 7, flags: ACK };
    let originals: Vec<_> = segments(&sent.frame(0)).into_iter().map(Frame::single).collect();
    let crossing = process(&mut ingress, now, LAN, &originals);
    assert_eq!(crossing.len(), 1);
    assert_eq!(ingress.counters().value(Counter::PacketsGathered), 39);
    assert_eq!(process(&mut egress, now, WAN, &crossing).len(), 1);
    // Neither another flow nor an acknowledgement is overtaken.
    let mut mixed = originals;
    let other = Sent { length: 700, ..sent.clone() };
    mixed.insert(20, Frame::single(segments(&other.frame(1)).remove(0)));
    let crossing = process(&mut ingress, now, LAN, &mixed);
    assert_eq!(crossing.len(), 3);
    assert!(crossing[1].gso.is_none());
}

#[test]
fn where_the_kernel_takes_no_datagrams_together_they_leave_one_by_one() {
    let Pair { mut ingress, mut egress, now, .. } = pair(Some(Suite::Aes256Gcm));
    ingress.allow_udp_super_packets(false);
    let sent =
        Sent { protocol: protocol::TCP, length: 40 * 1400, size: 1400, options: 12, sequence: 7, flags: ACK };
    let crossing = process(&mut ingress, now, LAN, &[sent.frame(0)]);
    assert_eq!(crossing.len(), 40);
    assert!(crossing.iter().all(|frame| frame.gso.is_none()));
    // TCP may leave together wherever it has arrived as itself.
    egress.allow_udp_super_packets(false);
    assert_eq!(process(&mut egress, now, WAN, &crossing).len(), 1);
}

/// The packets that a host without segmentation offload would have sent.
fn segments(frame: &Frame) -> Vec<Vec<u8>> {
    let size = frame.gso.map_or(usize::from(u16::MAX), |gso| usize::from(gso.size));
    let whole = SuperPacket::new(&frame.bytes, size).unwrap();
    let cut = |number| {
        let mut packet = vec![0; whole.headers_len() + size];
        let length = whole.emit(number, &mut packet).unwrap();
        packet.truncate(length);
        packet
    };
    (0..whole.count()).map(cut).collect()
}

/// Changes the last byte of the packet with this number, of all that frames stand for.
fn forge(frames: &mut [Frame], mut number: usize) {
    const HEADERS: usize = 28;
    for frame in frames {
        let size = frame.gso.map_or(usize::from(u16::MAX), |gso| usize::from(gso.size));
        let count = (frame.bytes.len() - HEADERS).div_ceil(size);
        if number < count {
            let end = frame.bytes.len().min(HEADERS + (number + 1) * size);
            frame.bytes[end - 1] ^= 1;
            return;
        }
        number -= count;
    }
    panic!("no such packet");
}

#[test]
fn a_super_packet_stays_one_as_far_as_it_fits() {
    // What seals makes the longest one longer than an IP packet may be.
    for (suite, size, frames) in
        [(Some(Suite::Aes256Gcm), 1424, 2), (Some(Suite::Aes256Cbc), 1380, 1), (None, 1448, 2)]
    {
        let Pair { mut ingress, mut egress, now, .. } = pair(suite);
        let sent = Sent {
            protocol: protocol::TCP,
            length: 45 * size,
            size,
            options: 12,
            sequence: u32::MAX - 5000,
            flags: ACK | PSH,
        };
        let crossing = process(&mut ingress, now, LAN, &[sent.frame(0)]);
        assert_eq!(crossing.len(), frames, "{suite:?}");
        assert!(crossing.iter().all(|frame| frame.gso.is_some_and(|gso| gso.kind == GsoKind::Udp)));
        let delivered = process(&mut egress, now, WAN, &crossing);
        assert_eq!(delivered.len(), frames);
        let tcp = Some(Gso { kind: GsoKind::TcpV4, size: size as u16, ecn: false });
        assert!(delivered.iter().all(|frame| frame.gso == tcp && frame.checksum == Checksum::Partial));
        let sealed = u64::from(suite.is_some());
        assert_eq!(ingress.counters().value(Counter::SuperPacketsSealed), sealed);
        assert_eq!(egress.counters().value(Counter::SuperPacketsOpened), sealed * frames as u64);
        for engine in [&ingress, &egress] {
            assert_eq!(engine.counters().value(Counter::SuperPacketsSegmented), 0);
        }
    }
}
