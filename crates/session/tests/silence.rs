//! What routers do about sessions whose answers do not arrive.
#![allow(clippy::unwrap_used, reason = "everything is made here")]

#[allow(dead_code, reason = "shared with the benchmark, which uses other parts of it")]
#[path = "../benches/support/mod.rs"]
mod support;

use std::time::Duration;

use fairway_types::Counter;
use fairway_wire::protocol::UDP;

use support::packets::Template;
use support::{BATCH, LAN, Pair};

const PAYLOAD: [u8; 20] = [0x55; 20];
const SESSIONS: u32 = 3000;

/// One datagram of each session from its host; says how many left with metadata.
fn told(pair: &mut Pair, templates: &[Template]) -> usize {
    let mut told = 0;
    for chunk in templates.chunks(BATCH) {
        let packets: Vec<_> = chunk.iter().map(|template| template.packet(&PAYLOAD)).collect();
        let sent = pair.at_ingress(LAN, &packets);
        told += sent.iter().filter(|sent| sent.len() > packets[0].len()).count();
    }
    told
}

/// A flood that loses its answers must not make every packet dearer, or more of them are lost.
#[test]
fn when_all_answers_are_lost_at_once_only_some_sessions_are_told_again_each_second() {
    let mut pair = Pair::new(SESSIONS, true);
    let templates: Vec<_> = (0..SESSIONS).map(|flow| Template::of_flow(flow, UDP, &PAYLOAD)).collect();
    pair.establish(&templates, &PAYLOAD);
    assert_eq!(told(&mut pair, &templates), 0, "they are established");
    let later = |pair: &mut Pair, millis: u64| {
        pair.now.mono = pair.now.mono + Duration::from_millis(millis);
    };
    later(&mut pair, 3000);
    let at_once = told(&mut pair, &templates);
    assert!((100..=400).contains(&at_once), "{at_once} of {SESSIONS}");
    // Those go on being told until they have an answer; others take their turn.
    later(&mut pair, 50);
    let soon = told(&mut pair, &templates);
    assert!((at_once + 50..=at_once + 200).contains(&soon), "{at_once}, then {soon}");
    for _ in 0..30 {
        later(&mut pair, 100);
        told(&mut pair, &templates);
    }
    assert_eq!(told(&mut pair, &templates), SESSIONS as usize, "in the end it is everybody's turn");
    assert_eq!(pair.ingress.counters().value(Counter::SessionsRetriggered), u64::from(SESSIONS));
    let limits = pair.ingress.limits(pair.now);
    let limit = limits.iter().find(|limit| limit.limit.kind.name() == "retell-rate").unwrap();
    assert!(limit.refused > 0, "what was put off can be asked about");
}
