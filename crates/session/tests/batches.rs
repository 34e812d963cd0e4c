//! A batch decides as its packets would one by one, whatever they do to each other's sessions.
#![allow(clippy::unwrap_used, reason = "everything is made here")]

#[allow(dead_code, reason = "shared with the benchmark, which uses other parts of it")]
#[path = "../benches/support/mod.rs"]
mod support;

use std::time::Duration;

use fairway_session::Engine;
use fairway_types::{Batch, InterfaceId, Now, Slot, Verdict};
use fairway_wire::protocol::{TCP, UDP};
use proptest::prelude::*;

use support::packets::Template;
use support::{BATCH, LAN, Pair, WAN};

/// Few enough that sessions do not all fit.
const SESSIONS: u32 = 6;

/// What a host sends.
#[derive(Clone, Copy, Debug)]
struct Sent {
    flow: u32,
    tcp: bool,
    /// TCP flags.
    flags: u8,
    /// Bytes that are missing from the end.
    cut: usize,
}

fn sent() -> impl Strategy<Value = Sent> {
    let flags = prop_oneof![Just(0x02), Just(0x10), Just(0x11), Just(0x14), Just(0x04)];
    let cut = prop_oneof![9 => Just(0usize), 1 => 1usize..48];
    (0..9u32, any::<bool>(), flags, cut).prop_map(|(flow, tcp, flags, cut)| Sent { flow, tcp, flags, cut })
}

fn packet(sent: Sent) -> Vec<u8> {
    let payload = [0x55; 20];
    let mut packet =
        Template::of_flow(sent.flow, if sent.tcp { TCP } else { UDP }, &payload).packet(&payload);
    if sent.tcp {
        packet[33] = sent.flags;
    }
    packet.truncate(packet.len() - sent.cut);
    packet
}

/// What became of a packet.
#[derive(Debug, PartialEq)]
struct Seen {
    verdict: Verdict,
    /// Its bytes, if it goes on.
    forwarded: Option<Vec<u8>>,
}

/// What became of every packet, and of those that the engine made.
fn process(
    engine: &mut Engine,
    now: Now,
    interface: InterfaceId,
    packets: &[Vec<u8>],
    at_once: usize,
) -> Vec<Seen> {
    let mut batch = Batch::new(BATCH, 4 * BATCH, 2048);
    let (mut received, mut emitted) = (Vec::new(), Vec::new());
    for packets in packets.chunks(at_once) {
        support::fill(&mut batch, interface, packets);
        engine.process(now, &mut batch);
        let see = |slot: &Slot| Seen {
            verdict: slot.verdict,
            forwarded: support::is_forwarded(slot).then(|| slot.packet.bytes().to_vec()),
        };
        received.extend(batch.received().iter().map(see));
        emitted.extend(batch.emitted().iter().map(see));
    }
    received.extend(emitted);
    received
}

/// Everything an operator could see.
fn state(engine: &Engine) -> String {
    let drops: Vec<_> = engine.drops().collect();
    format!("{:?} {drops:?} {}", engine.counters(), engine.session_count())
}

proptest! {
    #[test]
    fn a_batch_decides_as_its_packets_would_one_by_one(
        rounds in prop::collection::vec(prop::collection::vec(sent(), 1..BATCH), 1..5),
    ) {
        let (mut whole, mut single) = (Pair::new(SESSIONS, true), Pair::new(SESSIONS, true));
        for round in rounds {
            let packets: Vec<_> = round.into_iter().map(packet).collect();
            let at_ingress = process(&mut whole.ingress, whole.now, LAN, &packets, BATCH);
            prop_assert_eq!(&at_ingress, &process(&mut single.ingress, single.now, LAN, &packets, 1));
            // What crosses the link makes, renews and ends sessions at the other router.
            let crossing: Vec<_> = at_ingress.into_iter().filter_map(|seen| seen.forwarded).collect();
            let at_egress = process(&mut whole.egress, whole.now, WAN, &crossing, BATCH);
            prop_assert_eq!(&at_egress, &process(&mut single.egress, single.now, WAN, &crossing, 1));
            prop_assert_eq!(state(&whole.ingress), state(&single.ingress));
            prop_assert_eq!(state(&whole.egress), state(&single.egress));
            for pair in [&mut whole, &mut single] {
                pair.now.mono = pair.now.mono + Duration::from_secs(1);
            }
        }
    }
}
