//! Ten minutes of a router with more than a million sessions, of which ten thousand begin and end each
//! second, in virtual time: what a packet waits for at most, and what memory does.
//!
//! Two engines are joined as by a link. Each millisecond of virtual time ten sessions begin (a datagram and
//! its answer, with all metadata), some of those of the last half minute go on, chosen at
//! random, and whatever is due is done.
//! Every call of the ingress is timed by the real clock: while it lasts, packets wait. Calls are told apart
//! by what they do, and by the time: while sessions only begin, when the first ones end, and afterwards.
//! `QUICK=1` has a tenth of the sessions and of the rate.
//!
//! Calls that another program interrupted are in the figures: the longest of them says more about the
//! machine than about the engine.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::unwrap_used, reason = "everything measured is made here")]

#[allow(dead_code, reason = "shared with a test, which uses other parts of it")]
mod support;

use std::time::{Duration, Instant};

use fairway_wire::protocol::UDP;

use support::packets::Template;
use support::{LAN, Pair, WAN, heap};

/// How long it goes on, in seconds of virtual time.
const SECONDS: u64 = 600;
/// How long a session lasts that is not used.
const IDLE: u64 = 180;
/// Packets of known sessions in each millisecond.
const GOING_ON: u32 = 32;
const PAYLOAD: [u8; 64] = [0x55; 64];

/// What a call did.
const KINDS: [&str; 3] = ["sessions begin", "sessions go on", "what is due"];

/// Durations of calls, in nanoseconds, by what they did.
type Calls = [Vec<u32>; KINDS.len()];

/// splitmix64: the same numbers on every run.
fn number(state: &mut u64, below: u32) -> u32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % u64::from(below)) as u32
}

fn nanoseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// Lets packets cross to the egress, and times the ingress.
fn cross(pair: &mut Pair, templates: &[Template], spent: &mut Vec<u32>) {
    let packets: Vec<_> = templates.iter().map(|template| template.packet(&PAYLOAD)).collect();
    support::fill(&mut pair.batch, LAN, &packets);
    let start = Instant::now();
    pair.ingress.process(pair.now, &mut pair.batch);
    spent.push(nanoseconds(start));
    let crossing = support::forwarded(&pair.batch);
    pair.at_egress(WAN, &crossing);
}

/// Lets the servers answer.
fn answer(pair: &mut Pair, templates: &[Template], spent: &mut Vec<u32>) {
    let answers: Vec<_> = templates.iter().map(|template| template.answer().packet(&PAYLOAD)).collect();
    let crossing = pair.at_egress(LAN, &answers);
    support::fill(&mut pair.batch, WAN, &crossing);
    let start = Instant::now();
    pair.ingress.process(pair.now, &mut pair.batch);
    spent.push(nanoseconds(start));
}

fn due(pair: &mut Pair, spent: &mut Vec<u32>) {
    pair.batch.clear();
    let start = Instant::now();
    pair.ingress.handle_timeout(pair.now, &mut pair.batch);
    spent.push(nanoseconds(start));
    pair.batch.clear();
    pair.egress.handle_timeout(pair.now, &mut pair.batch);
}

fn print(phase: &str, pair: &Pair, calls: &mut Calls) {
    let sessions = pair.ingress.session_count();
    println!("{phase}: {sessions} sessions, heap {:.1} MB", heap::live() as f64 / 1e6);
    for (kind, spent) in KINDS.iter().zip(calls) {
        spent.sort_unstable();
        let at = |share: f64| f64::from(spent[(spent.len() as f64 * share) as usize]) / 1e3;
        let longest = f64::from(*spent.last().unwrap()) / 1e3;
        println!(
            "  {kind:<16} {:>9} calls {:>9.1} {:>9.1} {:>9.1} {longest:>9.1}",
            spent.len(),
            at(0.5),
            at(0.99),
            at(0.999)
        );
        spent.clear();
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run with: cargo bench -p fairway-session --bench scale");
        return;
    }
    let each = if std::env::var_os("QUICK").is_some() { 1 } else { 10 };
    let live = each * 1000 * IDLE as u32;
    // Those that go on, for half a minute, last longer.
    let (known, capacity) = (live / 6, live + live / 3);
    let mut pair = Pair::new(capacity, true);
    println!("microseconds of a call: median, 99 %, 99.9 %, longest");
    let mut calls = Calls::default();
    let (mut begun, mut random) = (0, 7);
    for millisecond in 0..SECONDS * 1000 {
        pair.now.mono = pair.now.mono + Duration::from_millis(1);
        pair.now.unix += u64::from(millisecond % 1000 == 999);
        let fresh: Vec<_> =
            (begun..begun + each).map(|flow| Template::of_flow(flow, UDP, &PAYLOAD)).collect();
        begun += each;
        for _ in 0..2 {
            cross(&mut pair, &fresh, &mut calls[0]);
            answer(&mut pair, &fresh, &mut calls[0]);
        }
        let going_on: Vec<_> = (0..GOING_ON)
            .map(|_| Template::of_flow(begun - 1 - number(&mut random, begun.min(known)), UDP, &PAYLOAD))
            .collect();
        cross(&mut pair, &going_on, &mut calls[1]);
        due(&mut pair, &mut calls[2]);
        let second = (millisecond + 1) / 1000;
        if (millisecond + 1) % 1000 == 0 {
            match second {
                IDLE => print("growing, 0 to 180 s", &pair, &mut calls),
                300 => print("the first ones end, 180 to 300 s", &pair, &mut calls),
                SECONDS => print("going on, 300 to 600 s", &pair, &mut calls),
                _ => {}
            }
        }
    }
}
