//! Nothing allocates once an engine is warm: neither packets of sessions, nor those that make
//! sessions, nor their end, nor messages to peers.
//!
//! Warm means: as many sessions were there once, and came to their end.
#![allow(clippy::unwrap_used, reason = "everything is made here")]

#[allow(dead_code, reason = "shared with the benchmark, which uses other parts of it")]
#[path = "../benches/support/mod.rs"]
mod support;

use std::time::Duration;

use fairway_session::Engine;
use fairway_types::{Batch, Checksum, Gso, GsoKind, InterfaceId, Now, Suite};
use fairway_wire::protocol::{TCP, UDP};

use support::packets::templates;
use support::{BATCH, LAN, Pair, WAN, heap};

const SESSIONS: u32 = 2048;
const PAYLOAD: &[u8] = &[0x55; 200];

/// Processes packets, a batch at a time; answers how often that allocated, and what was forwarded.
fn process(
    engine: &mut Engine,
    now: Now,
    batch: &mut Batch,
    interface: InterfaceId,
    packets: &[Vec<u8>],
) -> (u64, Vec<Vec<u8>>) {
    let (mut allocations, mut forwarded) = (0, Vec::new());
    for packets in packets.chunks(BATCH) {
        support::fill(batch, interface, packets);
        let before = heap::allocations();
        engine.process(now, batch);
        allocations += heap::allocations() - before;
        forwarded.extend(support::forwarded(batch));
    }
    (allocations, forwarded)
}

/// A request and an answer on each of these flows. Answers how often either router allocated.
fn exchange(pair: &mut Pair, flows: std::ops::Range<u32>, protocol: u8) -> u64 {
    let Pair { ingress, egress, now, batch, .. } = pair;
    let flows = templates(flows, protocol, PAYLOAD);
    let requests: Vec<_> = flows.iter().map(|flow| flow.packet(PAYLOAD)).collect();
    let answers: Vec<_> = flows.iter().map(|flow| flow.answer().packet(PAYLOAD)).collect();
    let (first, crossing) = process(ingress, *now, batch, LAN, &requests);
    let (second, delivered) = process(egress, *now, batch, WAN, &crossing);
    let (third, crossing) = process(egress, *now, batch, LAN, &answers);
    let (fourth, returned) = process(ingress, *now, batch, WAN, &crossing);
    assert_eq!((delivered.len(), returned.len()), (requests.len(), answers.len()));
    first + second + third + fourth
}

/// Lets both routers be idle for `seconds`. Answers how often either allocated.
fn idle(pair: &mut Pair, seconds: u64) -> u64 {
    let mut allocations = 0;
    let Pair { ingress, egress, now, batch, .. } = pair;
    for _ in 0..seconds * 2 {
        now.mono = now.mono + Duration::from_millis(500);
        now.unix = 1_800_000_000 + now.mono.0 / 1_000_000_000;
        for engine in [&mut *ingress, &mut *egress] {
            batch.clear();
            let before = heap::allocations();
            engine.handle_timeout(*now, batch);
            allocations += heap::allocations() - before;
            while engine.poll_event().is_some() {}
        }
    }
    allocations
}

/// Two routers that had as many sessions as they can hold, and have none now.
fn warm(encrypt: bool) -> Pair {
    let mut pair = Pair::new(SESSIONS, encrypt);
    exchange(&mut pair, 0..SESSIONS, UDP);
    idle(&mut pair, 400);
    assert_eq!((pair.ingress.session_count(), pair.egress.session_count()), (0, 0));
    pair
}

#[test]
fn allocations_are_counted() {
    let before = heap::allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(heap::allocations(), before + 1);
}

#[test]
fn packets_of_sessions_do_not_allocate() {
    for protocol in [UDP, TCP] {
        let mut pair = Pair::new(SESSIONS, true);
        for _ in 0..2 {
            exchange(&mut pair, 0..SESSIONS, protocol);
        }
        assert_eq!(exchange(&mut pair, 0..SESSIONS, protocol), 0);
    }
}

#[test]
fn super_packets_do_not_allocate_even_when_they_are_cut() {
    let mut pair = Pair::new(SESSIONS, true);
    let payload = vec![0x55; 30_000];
    let packet = templates(0..1, TCP, &payload)[0].packet(&payload);
    let Pair { ingress, now, batch, .. } = &mut pair;
    // The first carries metadata in each of its segments.
    for count in 0..3 {
        support::fill(batch, LAN, std::slice::from_ref(&packet));
        let slot = &mut batch.received_mut()[0];
        slot.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1000, ecn: false });
        slot.checksum = Checksum::Partial;
        let before = heap::allocations();
        ingress.process(*now, batch);
        assert_eq!(batch.emitted().len(), 30);
        assert!(count == 0 || heap::allocations() == before);
    }
}

#[test]
fn super_packets_do_not_allocate_when_they_are_sealed() {
    let mut pair = Pair::with(SESSIONS, true, Some(Suite::Aes256Gcm));
    // As it is sealed, it does not fit one packet any more.
    let payload = vec![0x55; 65_000];
    pair.establish(&templates(0..1, TCP, PAYLOAD), PAYLOAD);
    let packet = templates(0..1, TCP, &payload)[0].packet(&payload);
    let mut batch = Batch::new(BATCH, BATCH, 2048).with_large(BATCH);
    for count in 0..3 {
        support::fill(&mut batch, LAN, std::slice::from_ref(&packet));
        let slot = &mut batch.received_mut()[0];
        slot.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1400, ecn: false });
        slot.checksum = Checksum::Partial;
        let before = heap::allocations();
        pair.ingress.process(pair.now, &mut batch);
        pair.ingress.gather(&mut batch);
        assert!(count == 0 || heap::allocations() == before);
        let mut crossing = Vec::new();
        batch.in_order(|slots| {
            crossing.extend(slots.iter().map(|slot| (slot.packet.bytes().to_vec(), slot.gso)));
        });
        assert_eq!(crossing.len(), 2);
        for (packet, gso) in crossing {
            support::fill(&mut batch, WAN, &[packet]);
            batch.received_mut()[0].gso = gso;
            let before = heap::allocations();
            pair.egress.process(pair.now, &mut batch);
            pair.egress.gather(&mut batch);
            assert!(count == 0 || heap::allocations() == before);
            assert!(support::is_forwarded(&batch.received()[0]));
        }
    }
}

#[test]
fn first_packets_do_not_allocate() {
    for encrypt in [true, false] {
        let mut pair = warm(encrypt);
        assert_eq!(exchange(&mut pair, 0..SESSIONS, UDP), 0);
        assert_eq!(pair.egress.session_count(), SESSIONS as usize);
    }
}

#[test]
fn the_end_of_sessions_and_messages_to_peers_do_not_allocate() {
    let mut pair = warm(true);
    exchange(&mut pair, 0..SESSIONS, UDP);
    assert_eq!(idle(&mut pair, 400), 0);
    assert_eq!(pair.ingress.session_count(), 0);
}

#[test]
fn refused_packets_do_not_allocate() {
    let mut pair = Pair::new(1, true);
    exchange(&mut pair, 0..1, UDP);
    let Pair { ingress, now, batch, .. } = &mut pair;
    let packets: Vec<_> = templates(1..65, UDP, PAYLOAD).iter().map(|flow| flow.packet(PAYLOAD)).collect();
    let mut malformed = packets.clone();
    malformed.iter_mut().enumerate().for_each(|(at, packet)| packet.truncate(at));
    for packets in [packets, malformed] {
        support::fill(batch, LAN, &packets);
        let before = heap::allocations();
        ingress.process(*now, batch);
        assert_eq!(heap::allocations(), before);
        assert!(!batch.received().iter().any(support::is_forwarded));
    }
}
