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
#[derive(Clone, Debug, PartialEq)]
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

/// What becomes of a packet between the routers, and a host's answer to it.
#[derive(Clone, Copy, Debug)]
enum Crossing {
    Arrives,
    Lost,
    Twice,
    /// With what is sent next.
    Late,
    /// One of its bytes changes.
    Changed(prop::sample::Index),
}

fn crossing() -> impl Strategy<Value = Crossing> {
    prop_oneof![
        12 => Just(Crossing::Arrives),
        1 => Just(Crossing::Lost),
        3 => Just(Crossing::Twice),
        2 => Just(Crossing::Late),
        2 => any::<prop::sample::Index>().prop_map(Crossing::Changed),
    ]
}

/// A packet of a protected session.
#[derive(Clone, Copy, Debug)]
struct Exchanged {
    flow: u32,
    tcp: bool,
    length: usize,
    there: Crossing,
}

fn exchanged() -> impl Strategy<Value = Exchanged> {
    let length = prop_oneof![Just(100usize), Just(100), 1..600usize];
    (0..7u32, prop::bool::weighted(0.3), length, crossing())
        .prop_map(|(flow, tcp, length, there)| Exchanged { flow, tcp, length, there })
}

/// What arrives of what was sent, and of what is `late`; what was changed or sent twice comes last.
fn arrive(seen: Vec<Seen>, crossings: &[Crossing], late: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let (mut arrived, mut last) = (Vec::new(), std::mem::take(late));
    let forwarded = seen.into_iter().filter_map(|seen| seen.forwarded);
    for (packet, crossing) in forwarded.zip(crossings.iter().cycle()) {
        match crossing {
            Crossing::Arrives => arrived.push(packet),
            Crossing::Lost => {}
            Crossing::Late => late.push(packet),
            Crossing::Twice => {
                last.push(packet.clone());
                arrived.push(packet);
            }
            Crossing::Changed(at) => {
                let mut packet = packet;
                // Behind headers of IP and UDP, so that it reaches its session.
                if packet.len() > 28 {
                    let at = 28 + at.index(packet.len() - 28);
                    packet[at] ^= 0x10;
                }
                last.push(packet);
            }
        }
    }
    arrived.append(&mut last);
    arrived
}

/// Both routers process what hosts on one side sent, in batches of `at_once`.
fn exchange(
    pair: &mut Pair,
    late: &mut [Vec<Vec<u8>>; 2],
    sent: &[Exchanged],
    back: bool,
    at_once: usize,
) -> [Vec<Seen>; 2] {
    let packets: Vec<_> = sent
        .iter()
        .map(|sent| {
            let payload = vec![0x55; sent.length];
            let template = Template::of_flow(sent.flow, if sent.tcp { TCP } else { UDP }, &payload);
            if back { template.answer().packet(&payload) } else { template.packet(&payload) }
        })
        .collect();
    let crossings: Vec<_> = sent.iter().map(|sent| sent.there).collect();
    let (near, far) =
        if back { (&mut pair.egress, &mut pair.ingress) } else { (&mut pair.ingress, &mut pair.egress) };
    let seal = process(near, pair.now, LAN, &packets, at_once);
    let arrived = arrive(seal.clone(), &crossings, &mut late[usize::from(back)]);
    let open = process(far, pair.now, WAN, &arrived, at_once);
    [seal, open]
}

proptest! {
    /// Whatever is done with payloads of several packets at once: sealed and opened as each by itself,
    /// with duplicates, forgeries, losses and keys that change.
    #[test]
    fn a_batch_of_protected_packets_is_as_its_packets_one_by_one(
        suite in prop::sample::select(fairway_types::Suite::ALL.to_vec()),
        rounds in prop::collection::vec(
            (prop::collection::vec(exchanged(), 1..40), prop::collection::vec(exchanged(), 0..40), 0..5usize),
            1..5,
        ),
    ) {
        let [mut whole, mut single] = [(); 2].map(|()| Pair::with(SESSIONS, true, Some(suite)));
        let mut late = [const { [const { Vec::new() }; 2] }; 2];
        for (out, back, passes) in rounds {
            for (sent, back) in [(&out, false), (&back, true), (&out, false), (&back, true)] {
                let expected = exchange(&mut single, &mut late[0], sent, back, 1);
                prop_assert_eq!(exchange(&mut whole, &mut late[1], sent, back, BATCH), expected);
                prop_assert_eq!(state(&whole.ingress), state(&single.ingress));
                prop_assert_eq!(state(&whole.egress), state(&single.egress));
            }
            // Nothing; long enough to be told again; long enough for other keys.
            let seconds = [0, 1, 2, 4, 24 * 3600][passes];
            for pair in [&mut whole, &mut single] {
                pair.now.mono = pair.now.mono + Duration::from_secs(seconds);
            }
        }
    }

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
