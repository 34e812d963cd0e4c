//! Whether workers that share a router are as fast as routers of their own.
//!
//! Two threads process packets for a while: as two workers of one router, and as two routers that know
//! nothing of each other, in turn. The figures are packets a second of both threads together, filling
//! of batches included, and the ratio of the medians. `QUICK=1` takes three short rounds; `--json FILE`
//! also writes every round of every figure to a file.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::unwrap_used, reason = "everything measured is made here")]

#[allow(dead_code, reason = "shared with others, which use other parts of it")]
mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fairway_types::{Suite, WorkerId};
use fairway_wire::protocol::UDP;

use support::packets::{Template, templates};
use support::{BATCH, LAN, Pair, WAN, fill, is_forwarded};

const WORKERS: u8 = 2;
/// Sessions of each worker.
const SESSIONS: u32 = 5000;
/// New sessions of each worker in a round.
const NEW: usize = 8192;

/// Flows of each worker, by whose they are.
fn flows(count: usize, payload: &[u8]) -> Vec<Vec<Template>> {
    let mut flows = vec![Vec::new(); usize::from(WORKERS)];
    for template in templates(0..count as u32 * 8, UDP, payload) {
        let worker = WorkerId::of_class(template.class(), WORKERS).index();
        if flows[worker].len() < count {
            flows[worker].push(template);
        }
    }
    assert!(flows.iter().all(|flows| flows.len() == count));
    flows
}

/// One thread's packets.
struct Load {
    pair: Pair,
    out: Vec<Vec<u8>>,
    /// Nothing where payload is sealed: a sealed packet is opened only once.
    back: Vec<Vec<u8>>,
}

/// What both threads do together, in packets a second.
fn measure(loads: &mut [Load], time: Duration) -> f64 {
    let (barrier, stop) = (Barrier::new(loads.len() + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let threads: Vec<_> = loads
            .iter_mut()
            .map(|load| {
                scope.spawn(|| {
                    barrier.wait();
                    let mut packets = 0;
                    'all: loop {
                        for (number, out) in load.out.chunks(BATCH).enumerate() {
                            let back = load.back.chunks(BATCH).nth(number).unwrap_or_default();
                            for (interface, packets) in [(LAN, out), (WAN, back)] {
                                fill(&mut load.pair.batch, interface, packets);
                                load.pair.ingress.process(load.pair.now, &mut load.pair.batch);
                                for slot in load.pair.batch.received() {
                                    assert!(is_forwarded(slot), "{:?}", slot.verdict);
                                }
                            }
                            packets += out.len() + back.len();
                            if stop.load(Ordering::Relaxed) {
                                break 'all;
                            }
                        }
                    }
                    packets
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let packets: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        packets as f64 / start.elapsed().as_secs_f64()
    })
}

/// Packets of sessions that are known.
fn loads(pairs: Vec<Pair>, payload: &[u8], sealed: bool) -> Vec<Load> {
    // Metadata has to fit beside the payload of first packets.
    let short = [0x55; 64];
    let (first, flows) = (flows(SESSIONS as usize, &short), flows(SESSIONS as usize, payload));
    let one = |((mut pair, first), flows): ((Pair, Vec<Template>), Vec<Template>)| {
        pair.establish(&first, &short);
        let back = if sealed { Vec::new() } else { pair.answers(&flows, payload) };
        let back = back.iter().map(|template| template.packet(payload)).collect();
        Load { out: flows.iter().map(|template| template.packet(payload)).collect(), back, pair }
    };
    pairs.into_iter().zip(first).zip(flows).map(one).collect()
}

fn shared(payload: Option<Suite>) -> Vec<Pair> {
    Pair::of_workers(WORKERS, SESSIONS * 4, payload)
}

fn apart(payload: Option<Suite>) -> Vec<Pair> {
    (0..WORKERS).map(|_| Pair::with(SESSIONS * 2, true, payload)).collect()
}

/// First packets of new sessions, which share the keys of the peer, in packets a second.
fn begin(pairs: Vec<Pair>, flows: &[Vec<Template>]) -> f64 {
    let barrier = Barrier::new(pairs.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .into_iter()
            .zip(flows)
            .map(|(mut pair, flows)| {
                let packets: Vec<_> = flows.iter().map(|template| template.packet(&[0x55; 64])).collect();
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    for chunk in packets.chunks(BATCH) {
                        fill(&mut pair.batch, LAN, chunk);
                        pair.ingress.process(pair.now, &mut pair.batch);
                        while pair.ingress.poll_placement().is_some() {}
                    }
                    packets.len() as f64 / start.elapsed().as_secs_f64()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// Prints a figure; answers its rounds as JSON.
fn report(name: &str, mut together: Vec<f64>, mut alone: Vec<f64>) -> String {
    // Both in the order in which they were measured.
    let json = format!("{{\"name\": \"{name}\", \"together\": {together:?}, \"alone\": {alone:?}}}");
    let median = |rates: &mut Vec<f64>| {
        rates.sort_unstable_by(f64::total_cmp);
        (rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
    };
    let ((together, least, most), (alone, alone_least, alone_most)) =
        (median(&mut together), median(&mut alone));
    let ratio = together / alone;
    let verdict = if ratio >= 0.95 { "met" } else { "falls short" };
    println!(
        "{name:<34} {:>6.2} ({:.2}-{:.2})  {:>6.2} ({:.2}-{:.2})  {ratio:>5.3}  goal 0.95: {verdict}",
        together / 1e6,
        least / 1e6,
        most / 1e6,
        alone / 1e6,
        alone_least / 1e6,
        alone_most / 1e6,
    );
    json
}

fn main() {
    let quick = std::env::var_os("QUICK").is_some();
    let (rounds, time) =
        if quick { (3, Duration::from_millis(50)) } else { (15, Duration::from_millis(300)) };
    let arguments: Vec<String> = std::env::args().collect();
    let file = arguments.iter().position(|word| word == "--json").and_then(|at| arguments.get(at + 1));
    let mut figures = Vec::new();
    println!("millions of packets a second, median (least-most): two workers, two routers, ratio");
    for (name, suite, length) in [
        ("UDP 64 B", None, 64),
        ("UDP 1400 B", None, 1400),
        ("UDP 1400 B, aes-256-gcm, sealed", Some(Suite::Aes256Gcm), 1400),
    ] {
        let payload = vec![0x55; length];
        let mut together = loads(shared(suite), &payload, suite.is_some());
        let mut alone = loads(apart(suite), &payload, suite.is_some());
        let (mut rates, mut others) = (Vec::new(), Vec::new());
        for number in 0..=rounds {
            let (one, other) = (measure(&mut together, time), measure(&mut alone, time));
            // The first round warms up.
            if number > 0 {
                rates.push(one);
                others.push(other);
            }
        }
        figures.push(report(name, rates, others));
    }
    let flows = flows(NEW, &[0x55; 64]);
    let (mut rates, mut others) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        rates.push(begin(Pair::of_workers(WORKERS, 4 * NEW as u32, None), &flows));
        others.push(begin((0..WORKERS).map(|_| Pair::with(2 * NEW as u32, true, None)).collect(), &flows));
    }
    figures.push(report("first packets, signed, encrypted", rates, others));
    if let Some(file) = file {
        std::fs::write(file, format!("[{}]\n", figures.join(",\n"))).unwrap();
    }
}
