//! Holds the loaded program to the reference, and the reference to what the engine reads.
#![expect(clippy::disallowed_methods, reason = "a measurement")]

use core::net::SocketAddr;

use fairway_types::Protocol;
use fairway_types::steering::class_of;
use fairway_wire::ip::{self, Fragment, IcmpKind};

use super::*;
use crate::random::Random;

impl Random {
    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn port(&mut self) -> [u8; 2] {
        let any = self.next() as u16;
        self.of(&[1280, 80, 16_384, any]).to_be_bytes()
    }
}

fn address(random: &mut Random, ipv6: bool) -> Vec<u8> {
    let last = random.below(4) as u8;
    if !ipv6 {
        return vec![10, random.below(3) as u8, random.below(256) as u8, last];
    }
    // Those of IPv6 that look like IPv4 are not the same.
    let prefix: [u8; 12] = random.of(&[
        [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 7],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]);
    [&prefix[..], &[10, 0, 0, last]].concat()
}

fn transport(random: &mut Random, protocol: u8, depth: usize) -> Vec<u8> {
    let mut bytes = match protocol {
        6 | 17 => [random.port(), random.port(), [0, 12], [0, 0]].concat(),
        1 | 58 => {
            let kind = random.of(&[0, 8, 128, 129, 3, 4, 11, 12, 1, 2, 5, 13, 100, 135]);
            let mut message = [[kind, 0], [0, 0], random.port(), [0, 1]].concat();
            if depth == 0 {
                let ipv6 = random.one_in(2);
                let quoted = packet(random, ipv6, 1);
                message.extend(quoted);
            }
            message
        }
        _ => vec![7; 12],
    };
    if protocol == 6 {
        bytes.extend([0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    }
    bytes.extend([0; 4]);
    bytes
}

/// A packet, mostly well-formed.
fn packet(random: &mut Random, ipv6: bool, depth: usize) -> Vec<u8> {
    let protocol = random.of(&[6, 6, 17, 17, 17, 1, 58, 47, 132, 51]);
    let payload = transport(random, protocol, depth);
    let (source, destination) = (address(random, ipv6), address(random, ipv6));
    if !ipv6 {
        let options = if random.one_in(4) { random.below(11) } else { 0 };
        let fragment: u16 = if random.one_in(5) { random.of(&[0x2000, 0x2010, 0x0010, 0x4000]) } else { 0 };
        let length = 20 + options * 4;
        let mut header = vec![0x40 | (length / 4) as u8, 0];
        header.extend(((length + payload.len()) as u16).to_be_bytes());
        header.extend([0, 9]);
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0]);
        header.extend(source.into_iter().chain(destination));
        header.resize(length, 1);
        let sum = fairway_wire::checksum::fold(fairway_wire::checksum::sum(&header));
        header[10..12].copy_from_slice(&(!sum).to_be_bytes());
        header.extend(payload);
        return header;
    }
    let mut next = protocol;
    let mut body = payload;
    for _ in 0..if random.one_in(3) { random.below(11) } else { 0 } {
        let kind = random.of(&[43, 44, 60, 60]);
        let mut header = vec![next, 0, 0, 0, 0, 0, 0, 9];
        if kind == 44 {
            header[3] = random.of(&[0, 1, 0x10, 0x11]);
        } else {
            header[1] = random.below(3) as u8;
            header.resize(8 + usize::from(header[1]) * 8, 0);
        }
        header.extend(body);
        (next, body) = (kind, header);
    }
    if random.one_in(8) {
        body = [&[next, 0, 1, 4, 0, 0, 0, 0], &body[..]].concat();
        next = 0;
    }
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((body.len() as u16).to_be_bytes());
    header.extend([next, 64]);
    header.extend(source.into_iter().chain(destination).chain(body));
    header
}

fn mutate(random: &mut Random, packet: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        match random.below(6) {
            0 => packet.truncate(1 + random.below(packet.len())),
            1 => packet.extend([0x11; 9]),
            2 => {
                let at = random.below(packet.len());
                packet[at] ^= 1 << random.below(8);
            }
            _ => {
                let at = random.below(packet.len());
                packet[at] = random.of(&[0, 1, 3, 6, 11, 17, 43, 44, 58, 60, 64, 0x45, 0x46, 0x60, 0xff]);
            }
        }
    }
}

fn packets(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random(0x57ee_72a1_1b0a);
    (0..count).map(move |round| {
        if round % 16 == 0 {
            return (0..1 + random.below(120)).map(|_| random.next() as u8).collect();
        }
        let ipv6 = random.one_in(2);
        let mut packet = packet(&mut random, ipv6, 0);
        if round % 4 == 0 {
            mutate(&mut random, &mut packet);
        }
        packet
    })
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    // Of an unassigned type, so the kernel's test run looks at nothing.
    [&[0; 12][..], &[0x88, 0xb5], packet].concat()
}

/// What the engine would key the packet's flow with; `None` where it drops the packet.
fn engine_tuple(packet: &[u8]) -> Option<Tuple> {
    let parsed = ip::parse(packet).ok()?;
    let tuple = Tuple {
        source: SocketAddr::new(parsed.source, parsed.source_port),
        destination: SocketAddr::new(parsed.destination, parsed.destination_port),
        protocol: Protocol(parsed.protocol),
    };
    match (parsed.fragment, parsed.icmp) {
        (Fragment::No, Some(IcmpKind::Error)) => {
            let quoted = ip::parse_quoted(parsed.segment(packet).get(8..)?).ok()?;
            Some(Tuple {
                source: SocketAddr::new(quoted.destination, quoted.destination_port),
                destination: SocketAddr::new(quoted.source, quoted.source_port),
                protocol: Protocol(quoted.protocol),
            })
        }
        (Fragment::No, _) => Some(tuple),
        (Fragment::First | Fragment::Later, _) => None,
    }
}

#[test]
fn the_reference_reads_what_the_engine_reads() {
    let mut agreed = 0;
    for packet in packets(40_000) {
        if let Some(tuple) = engine_tuple(&packet) {
            assert_eq!(tuple_of(&packet), Some(tuple), "{packet:02x?}");
            agreed += 1;
        }
    }
    assert!(agreed > 10_000, "{agreed}");
}

#[test]
fn the_program_agrees_with_the_reference() {
    if !crate::sys::is_root() {
        eprintln!("skipped: loading the program needs root");
        return;
    }
    const TOKEN: Token = 0xfeed_0007;
    for workers in [2, 3, 7, 64] {
        let exceptions = Arc::new(Exceptions::new(workers, 100_000).unwrap());
        let steering = Steering::new(Some(exceptions.clone()));
        steering.follow([(InterfaceId(1), Some(TOKEN)), (InterfaceId(2), Some(9))].into_iter());
        let program = exceptions.program(TOKEN, false).unwrap();
        let mut placed = HashMap::new();
        for packet in packets(2000).step_by(3) {
            let Some(tuple) = tuple_of(&packet) else { continue };
            let worker = WorkerId((class_of(&tuple) + 1) % workers);
            steering.place(InterfaceId(1), &tuple, worker).unwrap();
            placed.insert(tuple, worker);
            // The same tuple on another device is another exception.
            steering.place(InterfaceId(2), &tuple.reversed(), WorkerId(0)).unwrap();
        }
        let (mut hits, mut counts) = (0, vec![0; usize::from(workers)]);
        for packet in packets(20_000) {
            let wanted = match tuple_of(&packet) {
                Some(tuple) => placed.get(&tuple).copied().unwrap_or_else(|| worker_of(&tuple, workers)),
                None => WorkerId(0),
            };
            let Ok(answer) = program.run(&ethernet(&packet)) else { panic!("{packet:02x?}") };
            assert_eq!(answer, u32::from(wanted.0), "{:?}: {packet:02x?}", tuple_of(&packet));
            hits += u32::from(tuple_of(&packet).is_some_and(|tuple| placed.contains_key(&tuple)));
            counts[wanted.index()] += 1;
        }
        assert!(hits > 500, "{hits}");
        assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
    }
}

fn tuple(source: &str, destination: &str) -> Tuple {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Tuple { source, destination, protocol: Protocol::UDP }
}

#[test]
fn fragments_of_one_datagram_have_one_tuple() {
    let fragment = |bits: u16, payload: &[u8]| {
        let mut packet = vec![0x45, 0, 0, 0, 0, 9, (bits >> 8) as u8, bits as u8, 64, 17, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(payload);
        packet
    };
    let first = tuple_of(&fragment(0x2000, &[0x40, 0, 0x50, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!(first, tuple("10.0.0.1:0", "10.0.0.2:0"));
    assert_eq!(tuple_of(&fragment(0x0001, &[1; 4])), Some(first));
    assert_ne!(tuple_of(&fragment(0, &[0x40, 0, 0x50, 0, 0, 0, 0, 0])), Some(first));
    // In IPv6 the protocol is what the fragment header names, whatever it is in the first.
    let fragment = |bits: u8, payload: &[u8]| {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 44, 64];
        packet.extend([0xfd; 32]);
        packet.extend([60, 0, 0, bits, 0, 0, 0, 9]);
        packet.extend(payload);
        packet
    };
    let first = tuple_of(&fragment(1, &[17, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4])).unwrap();
    assert_eq!((first.protocol, first.source.port()), (Protocol(60), 0));
    assert_eq!(tuple_of(&fragment(8, &[9; 3])), Some(first));
}

#[test]
fn bfd_is_worker_0s_unless_it_was_placed() {
    let (request, answer) =
        (tuple("10.0.0.1:2000", "10.0.0.2:1280"), tuple("10.0.0.2:1280", "10.0.0.1:2000"));
    assert_eq!(worker_of(&request, 64), WorkerId(0));
    assert_eq!(worker_of(&answer, 64), WorkerId(class_of(&answer)));
    assert_ne!(class_of(&answer), 0);
}

#[test]
fn what_is_placed_is_counted_bounded_and_forgotten() {
    if !crate::sys::is_root() {
        eprintln!("skipped: making a map needs root");
        return;
    }
    let steering = Steering::new(Some(Arc::new(Exceptions::new(2, 8).unwrap())));
    let (lan, wan, host) = (InterfaceId(1), InterfaceId(2), InterfaceId(3));
    steering.follow([(lan, Some(1)), (wan, Some(2)), (host, None)].into_iter());
    let flow = |port: u16| tuple(&format!("10.0.0.1:{port}"), "10.0.0.2:53");
    for port in 0..8 {
        steering.place(lan, &flow(port), WorkerId(1)).unwrap();
    }
    steering.place(lan, &flow(3), WorkerId(0)).unwrap();
    assert_eq!(steering.statistics(), SteeringStatistics { placed: 8, refused: 0 });
    assert!(matches!(steering.place(wan, &flow(3), WorkerId(1)), Err(SteeringError::Full)));
    assert_eq!(steering.statistics(), SteeringStatistics { placed: 8, refused: 1 });
    assert!(matches!(steering.place(host, &flow(3), WorkerId(1)), Err(SteeringError::NotSteered)));
    assert!(matches!(steering.place(InterfaceId(9), &flow(3), WorkerId(1)), Err(SteeringError::NotSteered)));
    assert!(matches!(steering.place(lan, &flow(3), WorkerId(2)), Err(SteeringError::NoSuchWorker)));
    steering.forget(wan, &flow(3)).unwrap();
    steering.forget(lan, &flow(3)).unwrap();
    steering.forget(lan, &flow(3)).unwrap();
    assert_eq!(steering.statistics().placed, 7);
    // The interface moved to another device: what was placed before can still be forgotten.
    steering.follow([(lan, Some(5))].into_iter());
    for port in 0..8 {
        steering.forget(lan, &flow(port)).unwrap();
    }
    assert_eq!(steering.statistics().placed, 0);
    steering.place(lan, &flow(1), WorkerId(1)).unwrap();
    steering.forget(lan, &flow(1)).unwrap();
    assert_eq!(steering.statistics().placed, 0);
}

#[test]
fn one_worker_has_nothing_to_place() {
    let steering = Steering::new(None);
    let flow = tuple("10.0.0.1:1", "10.0.0.2:53");
    assert_eq!((steering.workers(), steering.unplaced(InterfaceId(1), &flow)), (1, WorkerId(0)));
    steering.place(InterfaceId(1), &flow, WorkerId(0)).unwrap();
    steering.forget(InterfaceId(1), &flow).unwrap();
    assert_eq!(steering.statistics(), SteeringStatistics::default());
}

/// Not a test of anything: prints what steering costs beside the filter that every packet passes.
#[test]
#[ignore = "a measurement"]
fn measure() {
    if !crate::sys::is_root() {
        return;
    }
    const ROUNDS: u32 = 1_000_000;
    let exceptions = Arc::new(Exceptions::new(4, 1_000_000).unwrap());
    let steering = Steering::new(Some(exceptions.clone()));
    steering.follow([(InterfaceId(1), Some(7))].into_iter());
    let program = exceptions.program(7, false).unwrap();
    let classifier = crate::classifier::Classifier::load(None).unwrap();
    let ends = [[10, 0, 0, 1, 10, 0, 0, 2].to_vec(), [[0xfd; 16], [0xfe; 16]].concat()];
    let mut frames = Vec::new();
    for (ends, next) in ends.iter().flat_map(|ends| [(ends, 6), (ends, 17)]) {
        let mut header = if ends.len() == 8 {
            vec![0x45, 0, 0, 60, 0, 0, 0, 0, 64, next, 0, 0]
        } else {
            vec![0x60, 0, 0, 0, 0, 40, next, 64]
        };
        header.extend(ends);
        header.extend([0x9c, 0x40, 0, 80]);
        header.resize(header.len() + 40, 0);
        let kind: [u8; 2] = if ends.len() == 8 { [8, 0] } else { [0x86, 0xdd] };
        frames.push([&[0; 12][..], &kind, &header].concat());
    }
    let filter = classifier.filter_program();
    for (what, entries) in [("an empty map", 0u32), ("100,000 placed", 100_000)] {
        for number in 0..entries {
            let [a, b, c, d] = number.to_be_bytes();
            let flow = tuple(&format!("10.{b}.{c}.{d}:{}", 1000 + u32::from(a)), "10.0.0.2:53");
            steering.place(InterfaceId(1), &flow, WorkerId(1)).unwrap();
        }
        for frame in &frames {
            let tuple = tuple_of(&frame[14..]).unwrap();
            let mut times = [0; 3];
            times[0] = (0..5).map(|_| filter.repeat(frame, ROUNDS).unwrap().1).min().unwrap();
            times[1] = (0..5).map(|_| program.repeat(frame, ROUNDS).unwrap().1).min().unwrap();
            steering.place(InterfaceId(1), &tuple, WorkerId(1)).unwrap();
            times[2] = (0..5).map(|_| program.repeat(frame, ROUNDS).unwrap().1).min().unwrap();
            steering.forget(InterfaceId(1), &tuple).unwrap();
            eprintln!(
                "{what}, {tuple}: filter {} ns, steering {} ns, placed {} ns",
                times[0], times[1], times[2]
            );
        }
    }
    let start = std::time::Instant::now();
    for port in 0..50_000 {
        steering
            .place(InterfaceId(1), &tuple(&format!("10.1.1.1:{port}"), "10.0.0.2:53"), WorkerId(1))
            .unwrap();
    }
    let placed = start.elapsed();
    for port in 0..50_000 {
        steering.forget(InterfaceId(1), &tuple(&format!("10.1.1.1:{port}"), "10.0.0.2:53")).unwrap();
    }
    eprintln!(
        "place {} ns, forget {} ns",
        placed.as_nanos() / 50_000,
        (start.elapsed() - placed).as_nanos() / 50_000
    );
}
