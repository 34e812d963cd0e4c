//! A fixed piece of the engine's work, for a counter of instructions: `instructions PART ROUNDS`.
//!
//! `tools/guard` runs it under valgrind with few and with many rounds; the difference is what a round
//! costs, without what came before. Nothing here depends on time, on chance or on the machine.
#![allow(clippy::print_stdout, reason = "it says how many packets a round has")]
#![allow(clippy::unwrap_used, reason = "everything measured is made here")]

#[allow(dead_code, reason = "shared with others, which use other parts of it")]
mod support;

use std::time::Duration;

use fairway_types::{InterfaceId, Suite};
use fairway_wire::protocol::{TCP, UDP};

use support::packets::{Template, templates};
use support::{BATCH, LAN, Pair, WAN, fill, is_forwarded};

/// Sessions that are there; a round is a packet of each.
const SESSIONS: u32 = 256;
/// New sessions in a round.
const NEW: u32 = 64;
/// Room for all that are made.
const ROOM: u32 = 20_000;
const PAYLOAD: [u8; 64] = [0x55; 64];

/// Packets of sessions that both routers know, at the ingress.
fn established(protocol: u8, back: bool, rounds: u32) -> u32 {
    let mut pair = Pair::new(ROOM, true);
    let out = templates(0..SESSIONS, protocol, &PAYLOAD);
    pair.establish(&out, &PAYLOAD);
    let (interface, flows) = if back { (WAN, pair.answers(&out, &PAYLOAD)) } else { (LAN, out) };
    let packets: Vec<Vec<u8>> = flows.iter().map(|flow| flow.packet(&PAYLOAD)).collect();
    for _ in 0..rounds {
        packets.chunks(BATCH).for_each(|chunk| process(&mut pair, interface, chunk));
    }
    SESSIONS
}

fn process(pair: &mut Pair, interface: InterfaceId, packets: &[Vec<u8>]) {
    pair.now.mono = pair.now.mono + Duration::from_micros(1);
    fill(&mut pair.batch, interface, packets);
    pair.ingress.process(pair.now, &mut pair.batch);
    assert!(pair.batch.received().iter().all(is_forwarded));
}

/// Packets whose payload is sealed at the ingress, and opened at the egress.
fn protected(suite: Suite, length: usize, rounds: u32) -> u32 {
    let mut pair = Pair::with(ROOM, true, Some(suite));
    let payload = vec![0x55; length];
    let flows = templates(0..SESSIONS, UDP, &payload);
    pair.establish(&templates(0..SESSIONS, UDP, &PAYLOAD), &PAYLOAD);
    let packets: Vec<Vec<u8>> = flows.iter().map(|flow| flow.packet(&payload)).collect();
    for _ in 0..rounds {
        for chunk in packets.chunks(BATCH) {
            pair.now.mono = pair.now.mono + Duration::from_micros(1);
            let crossing = pair.at_ingress(LAN, chunk);
            pair.at_egress(WAN, &crossing);
        }
    }
    SESSIONS
}

/// First packets: what they cost at both routers, with metadata signed and encrypted.
fn first(rounds: u32) -> u32 {
    let mut pair = Pair::new(ROOM, true);
    for round in 0..rounds {
        let flows = templates(round * NEW..(round + 1) * NEW, UDP, &PAYLOAD);
        let packets: Vec<Vec<u8>> = flows.iter().map(|flow: &Template| flow.packet(&PAYLOAD)).collect();
        let crossing = pair.at_ingress(LAN, &packets);
        pair.at_egress(WAN, &crossing);
    }
    NEW
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = arguments.get(2).and_then(|rounds| rounds.parse().ok());
    let packets = match (arguments.get(1).map(String::as_str), rounds) {
        (Some("udp-out"), Some(rounds)) => established(UDP, false, rounds),
        (Some("udp-back"), Some(rounds)) => established(UDP, true, rounds),
        (Some("tcp-out"), Some(rounds)) => established(TCP, false, rounds),
        (Some("tcp-back"), Some(rounds)) => established(TCP, true, rounds),
        (Some("first"), Some(rounds)) => first(rounds),
        (Some("gcm"), Some(rounds)) => protected(Suite::Aes256Gcm, 1400, rounds),
        (Some("cbc"), Some(rounds)) => protected(Suite::Aes256Cbc, 1400, rounds),
        // `cargo bench` runs everything without such arguments.
        _ => return println!("instructions: see tools/guard"),
    };
    println!("{packets}");
}
