//! Runs the entry functions of the fuzz targets over mutated golden vectors, on any compiler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::panic::catch_unwind;
use std::path::Path;

#[path = "../../../fuzz/entries.rs"]
mod entries;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 3] =
    [("ip_parse", entries::ip_parse), ("svr_metadata", entries::svr_metadata), ("segment", entries::segment)];

/// A generator of numbers (splitmix64), so that a run can be repeated from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim();
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn directory(path: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut files: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| {
            (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The bytes of all vectors that a receiver would see.
fn corpus() -> Vec<Vec<u8>> {
    let names = ["packet", "l4-payload", "header-tlvs", "payload-tlvs"];
    directory("vectors")
        .iter()
        .flat_map(|(_, text)| text.lines().filter_map(|line| line.split_once(' ')))
        .filter(|(name, _)| names.contains(name))
        .map(|(_, value)| unhex(value))
        .collect()
}

/// Values that are most likely to upset a length or an offset.
const EDGES: [u8; 10] = [0, 1, 4, 7, 8, 0x0f, 0x45, 0x60, 0x80, 0xff];

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from.min(other.len())..]);
            }
            3 => bytes.extend((0..random.below(40)).map(|_| random.next() as u8)),
            4 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            5 if at < bytes.len() => bytes[at] = random.next() as u8,
            _ if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len())],
            _ => {}
        }
    }
    if random.below(2) == 0 {
        reseal(&mut bytes);
    }
    bytes
}

/// Mends an IPv4 header checksum, so that what lies behind it is reached.
fn reseal(bytes: &mut [u8]) {
    if let Ok(mut packet) = fairway_wire::ipv4::Packet::new_checked(bytes) {
        packet.fill_checksum();
    }
}

fn run(name: &str, target: fn(&[u8]), bytes: &[u8], origin: &str) {
    let outcome = catch_unwind(|| target(bytes));
    assert!(outcome.is_ok(), "{name}, {origin}: {}", hex(bytes));
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn crashes_of_the_past_stay_fixed() {
    for (name, text) in directory("../../fuzz/regressions") {
        let known = TARGETS.iter().find(|(target, _)| name.starts_with(target));
        let (target, function) = known.unwrap_or_else(|| panic!("{name} names no target"));
        run(target, *function, &unhex(&text), &name);
    }
}

#[test]
fn mutated_vectors_never_panic() {
    let seed = from_environment("FAIRWAY_FUZZ_SEED", 2026);
    let iterations = from_environment("FAIRWAY_FUZZ_ITERATIONS", 500_000);
    let (mut random, corpus) = (Random(seed), corpus());
    for iteration in 0..iterations {
        let bytes = mutate(&mut random, &corpus);
        let origin = format!("seed {seed}, iteration {iteration}");
        for (name, target) in &TARGETS[..2] {
            run(name, *target, &bytes, &origin);
        }
        let mut sized = (random.below(40) as u16).to_be_bytes().to_vec();
        sized.extend_from_slice(&bytes);
        run(TARGETS[2].0, TARGETS[2].1, &sized, &origin);
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(from_environment("FAIRWAY_FUZZ_SEED", 2026) ^ 1);
    for iteration in 0..from_environment("FAIRWAY_FUZZ_ITERATIONS", 500_000) / 4 {
        let mut bytes: Vec<u8> = (0..random.below(120)).map(|_| random.next() as u8).collect();
        if let Some(first) = bytes.first_mut() {
            *first = if random.below(2) == 0 { 0x45 } else { 0x60 };
        }
        for (name, target) in TARGETS {
            run(name, target, &bytes, &format!("random iteration {iteration}"));
        }
    }
}

#[test]
fn every_mutation_reaches_accepting_code() {
    let (mut random, corpus) = (Random(7), corpus());
    let (mut packets, mut headers) = (0, 0);
    for _ in 0..2000 {
        let bytes = mutate(&mut random, &corpus);
        packets += u32::from(fairway_wire::ip::parse(&bytes).is_ok());
        headers += u32::from(fairway_wire::svr::Header::parse(&bytes).is_ok());
    }
    assert!(packets > 100 && headers > 100, "{packets} packets and {headers} headers were accepted");
}
