//! Holds the loaded program to the reference, frame by frame.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::program::Answer;
use super::*;
use crate::random::Random;

const MAC: [u8; 6] = [0; 6]; // The address of the loopback device, which test runs go by.

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// Address 1 is a waypoint, 2 is the host's own, 3 is that of source NAT, with two ports of the host, 9 belongs to a peer, all else is elsewhere.
fn tables() -> Tables {
    let mut tables = Tables::default();
    tables.local.insert(v4(1).into(), Some(PortRange::WAYPOINTS));
    tables.local.insert(v6(1).into(), PortRange::new(20_000, 30_000));
    tables.local.insert(v4(2).into(), None);
    tables.local.insert(v6(2).into(), None);
    for address in [IpAddr::from(v4(3)), v6(3).into()] {
        tables.local.insert(address, Some(PortRange::SOURCE_NAT));
        tables.nat.insert(address);
    }
    tables.shared.insert(v4(3).into());
    tables.host_ports.extend([(17, 51_820), (6, 40_001)]);
    tables.peers.insert(v4(9).into());
    tables.peers.insert(v6(9).into());
    tables
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [MAC, [2, 0, 0, 0, 0, 1]].concat();
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    header.resize(20, 0);
    header
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(payload);
    packet
}

fn icmp(kind: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat()
}

fn echo(kind: u8, identifier: u16) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    vec![kind, 0, 0, 0, high, low, 0, 1, 1, 2, 3, 4]
}

fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, units, 1, 0, 0, 0, 0, 0];
    header.resize(8 + usize::from(units) * 8, 0);
    [header.as_slice(), payload].concat()
}

fn corpus_v4() -> Vec<(Rule, Vec<u8>)> {
    let from_waypoint = ipv4(v4(1), v4(9), 6, 0, &ports(16_384, 80));
    let cases = [
        (Rule::Forwarded, ipv4(v4(7), v4(8), 6, 0, &ports(1, 2))),
        (Rule::Forwarded, ipv4(v4(7), v4(8), 6, 0x20ff, &[0; 8])),
        (Rule::WaypointPort, ipv4(v4(7), v4(1), 6, 0, &ports(1, 16_384))),
        (Rule::WaypointPort, ipv4(v4(7), v4(1), 17, 0x2000, &ports(1, 65_534))),
        (Rule::Own, ipv4(v4(7), v4(1), 17, 0, &ports(1, 65_535))),
        (Rule::Own, ipv4(v4(7), v4(1), 6, 0, &ports(1, 16_383))),
        (Rule::Own, ipv4(v4(7), v4(1), 6, 0, &ports(1, 1280))),
        (Rule::WaypointBfd, ipv4(v4(7), v4(1), 17, 0, &ports(1, 1280))),
        (Rule::Own, ipv4(v4(7), v4(2), 17, 0, &ports(1, 20_000))),
        (Rule::PeerFragment, ipv4(v4(9), v4(1), 17, 0x2001, &[0; 8])),
        (Rule::Own, ipv4(v4(8), v4(1), 17, 0x0001, &[0; 8])),
        (Rule::Own, ipv4(v4(9), v4(2), 17, 0x0001, &[0; 8])),
        (Rule::Own, ipv4(v4(9), v4(1), 1, 0, &icmp(8, &from_waypoint))),
        (Rule::WaypointError, ipv4(v4(8), v4(1), 1, 0, &icmp(3, &from_waypoint))),
        (Rule::WaypointError, ipv4(v4(8), v4(1), 1, 0, &icmp(11, &from_waypoint))),
        (Rule::Own, ipv4(v4(8), v4(2), 1, 0, &icmp(3, &from_waypoint))),
        (Rule::Own, ipv4(v4(8), v4(1), 1, 0, &icmp(3, &ipv4(v4(1), v4(9), 6, 0, &ports(22, 80))))),
        (
            Rule::WaypointError,
            ipv4(v4(8), v4(1), 1, 0, &icmp(3, &ipv4(v4(1), v4(9), 17, 0, &ports(1280, 1280)))),
        ),
        (Rule::Own, ipv4(v4(8), v4(1), 1, 0, &icmp(3, &ipv4(v4(2), v4(9), 6, 0, &ports(16_384, 80))))),
        (Rule::NatEcho, ipv4(v4(8), v4(3), 1, 0, &echo(0, 64_512))),
        (Rule::NatEcho, ipv4(v4(8), v4(3), 1, 0, &echo(0, 65_535))),
        (Rule::Own, ipv4(v4(8), v4(3), 1, 0, &echo(0, 64_511))),
        (Rule::Own, ipv4(v4(8), v4(3), 1, 0, &echo(8, 65_000))),
        (Rule::Own, ipv4(v4(8), v4(1), 1, 0, &echo(0, 65_000))),
        (Rule::Own, ipv4(v4(8), v4(3), 1, 0, &[0, 0, 0, 0, 0xff])),
        (Rule::NatEcho, ipv4(v4(8), v4(3), 1, 0, &icmp(11, &ipv4(v4(3), v4(9), 1, 0, &echo(8, 65_000))))),
        (Rule::Own, ipv4(v4(8), v4(3), 1, 0, &icmp(11, &ipv4(v4(3), v4(9), 1, 0, &echo(8, 1000))))),
        (Rule::Own, ipv4(v4(8), v4(1), 1, 0, &icmp(11, &ipv4(v4(1), v4(9), 1, 0, &echo(8, 65_000))))),
        (Rule::Own, ipv4(v4(8), v4(3), 1, 0, &icmp(11, &ipv4(v4(3), v4(9), 58, 0, &echo(8, 65_000))))),
        (Rule::WaypointPort, ipv4(v4(7), v4(3), 17, 0, &ports(53, 40_000))),
        (Rule::Own, ipv4(v4(7), v4(3), 17, 0, &ports(53, 51_820))),
        (Rule::WaypointPort, ipv4(v4(7), v4(3), 6, 0, &ports(53, 51_820))),
        (Rule::Own, ipv4(v4(7), v4(3), 6, 0, &ports(53, 40_001))),
        (Rule::WaypointPort, ipv4(v4(7), v4(1), 17, 0, &ports(53, 51_820))),
        (Rule::Own, ipv4(v4(8), v4(3), 1, 0, &icmp(3, &ipv4(v4(3), v4(9), 17, 0, &ports(51_820, 80))))),
        (
            Rule::WaypointError,
            ipv4(v4(8), v4(3), 1, 0, &icmp(3, &ipv4(v4(3), v4(9), 17, 0, &ports(51_821, 80)))),
        ),
        (Rule::Own, ipv4(v4(8), v4(1), 47, 0, &[0; 20])),
        (Rule::Own, ipv4(v4(8), v4(1), 6, 0, &[0; 3])),
        (Rule::GroupAddress, ipv4(v4(8), Ipv4Addr::new(224, 0, 0, 5), 89, 0, &[0; 20])),
        (Rule::GroupAddress, ipv4(v4(8), Ipv4Addr::BROADCAST, 17, 0, &ports(68, 67))),
        (Rule::GroupAddress, ipv4(v4(8), Ipv4Addr::UNSPECIFIED, 17, 0, &ports(68, 67))),
        (Rule::NotIp, vec![0x55; 40]),
        (Rule::NotIp, vec![0x44; 40]),
        (Rule::NotIp, vec![0x45; 19]),
    ];
    cases.into_iter().map(|(rule, packet)| (rule, ethernet(0x0800, &packet))).collect()
}

fn corpus_v6() -> Vec<(Rule, Vec<u8>)> {
    let local: Ipv6Addr = "fe80::1".parse().unwrap();
    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    let udp = ports(1, 20_000);
    let hops = |count: u8| {
        (1..count).fold(extension(17, 0, &udp), |payload, index| extension(60, index % 2, &payload))
    };
    let quoted = ipv6(v6(1), v6(9), 17, &ports(30_000, 5));
    let cases = [
        (Rule::Forwarded, ipv6(v6(7), v6(8), 6, &ports(1, 2))),
        (Rule::WaypointPort, ipv6(v6(7), v6(1), 6, &ports(1, 30_000))),
        (Rule::Own, ipv6(v6(7), v6(1), 6, &ports(1, 30_001))),
        (Rule::WaypointBfd, ipv6(v6(7), v6(1), 17, &ports(1, 1280))),
        (Rule::WaypointPort, ipv6(v6(7), v6(1), 60, &hops(1))),
        (Rule::WaypointPort, ipv6(v6(7), v6(1), 60, &hops(5))),
        (Rule::Own, ipv6(v6(7), v6(1), 60, &hops(6))),
        (Rule::Own, ipv6(v6(7), v6(1), 60, &hops(7))),
        (Rule::WaypointPort, ipv6(v6(7), v6(1), 44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &udp].concat())),
        (Rule::PeerFragment, ipv6(v6(9), v6(1), 44, &[17, 0, 0, 0x11, 0, 0, 0, 9, 1, 2, 3])),
        (Rule::Own, ipv6(v6(8), v6(1), 44, &[17, 0, 0, 0x11, 0, 0, 0, 9, 1, 2, 3])),
        (Rule::WaypointError, ipv6(v6(8), v6(1), 58, &icmp(2, &quoted))),
        (Rule::Own, ipv6(v6(8), v6(1), 58, &icmp(128, &quoted))),
        (Rule::NatEcho, ipv6(v6(8), v6(3), 58, &echo(129, 65_000))),
        (Rule::Own, ipv6(v6(8), v6(3), 58, &echo(129, 5))),
        (Rule::Own, ipv6(v6(8), v6(1), 58, &echo(129, 65_000))),
        (Rule::NatEcho, ipv6(v6(8), v6(3), 58, &icmp(3, &ipv6(v6(3), v6(9), 58, &echo(128, 65_000))))),
        (Rule::Own, ipv6(v6(8), v6(3), 58, &icmp(3, &ipv6(v6(3), v6(9), 1, &echo(128, 65_000))))),
        (Rule::Own, ipv6(v6(8), v6(1), 58, &icmp(135, &[0; 16]))),
        (Rule::Own, ipv6(v6(8), v6(2), 6, &ports(1, 22_000))),
        (Rule::LinkLocal, ipv6(local, v6(1), 17, &udp)),
        (Rule::LinkLocal, ipv6(v6(8), local, 17, &udp)),
        (Rule::GroupAddress, ipv6(v6(8), group, 17, &udp)),
        (Rule::GroupAddress, ipv6(v6(8), Ipv6Addr::UNSPECIFIED, 17, &udp)),
        (Rule::NotIp, vec![0x60; 39]),
    ];
    cases.into_iter().map(|(rule, packet)| (rule, ethernet(0x86dd, &packet))).collect()
}

fn corpus() -> Vec<(Rule, Vec<u8>)> {
    let mut all = corpus_v4();
    all.extend(corpus_v6());
    all.push((Rule::NotIp, ethernet(0x0806, &[0; 28])));
    all
}

#[test]
fn the_reference_decides_the_corpus_as_documented() {
    for (index, (rule, frame)) in corpus().into_iter().enumerate() {
        assert_eq!(classify(&frame, &tables()), rule, "case {index}: {frame:02x?}");
    }
}

fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        match random.below(8) {
            0 => frame.truncate(14 + random.below(frame.len() - 13)),
            1 => frame.extend_from_slice(&[0x11; 9]),
            2 if frame.len() > 20 => {
                let at = 14 + random.below(frame.len() - 14);
                frame[at] ^= 1 << random.below(8);
            }
            _ if frame.len() > 20 => {
                let at = 14 + random.below(frame.len() - 14);
                let values =
                    [0, 1, 2, 3, 4, 5, 6, 9, 11, 17, 43, 44, 58, 60, 64, 0x45, 0x46, 0x60, 0xfe, 0xff];
                frame[at] = values[random.below(values.len())];
            }
            _ => {}
        }
    }
}

#[test]
fn the_program_in_the_kernel_decides_as_the_reference_does() {
    if !crate::sys::is_root() {
        eprintln!("skipped: loading the classifier needs root");
        return;
    }
    let tables = tables();
    let classifier = Classifier::load(None).unwrap();
    classifier.update(&tables).unwrap();
    let fds = MapFds {
        offload: None,
        local: classifier.local.fd(),
        peers: classifier.peers.fd(),
        counters: classifier.counters.fd(),
        tags: classifier.tags.fd(),
        host_ports: classifier.host_ports.fd(),
    };
    let by_rule = load_program(ProgramKind::SchedCls, fds, Frames::Untagged, Answer::Rule).unwrap();
    let mut random = Random(0x5eed_0fa1_77a7);
    let corpus = corpus();
    let mut decided = std::collections::HashMap::<Rule, u64>::new();
    for round in 0..40_000 {
        let mut frame = corpus[round % corpus.len()].1.clone();
        if round >= corpus.len() {
            mutate(&mut random, &mut frame);
        }
        let Ok(number) = by_rule.run(&frame) else {
            // The kernel refuses to test frames that are shorter than their IP header.
            assert_eq!(classify(&frame, &tables), Rule::NotIp, "{frame:02x?}");
            continue;
        };
        let wanted = classify(&frame, &tables);
        assert_eq!(number, wanted as u32, "round {round}: {wanted:?}: {frame:02x?}");
        let answer = classifier.untagged.tc.run(&frame).unwrap();
        let kept_from_kernel = wanted.is_taken() && wanted != Rule::NatEcho;
        assert_eq!(answer == 2, kept_from_kernel, "round {round}: {frame:02x?}");
        *decided.entry(wanted).or_default() += 1;
    }
    for (rule, count) in classifier.counts().unwrap() {
        assert_eq!(count, decided.get(&rule).copied().unwrap_or(0), "{rule:?}");
        // Tags need a device that carries them: crate::ports::tests::vlans.
        let of_tags = matches!(rule, Rule::Tagged | Rule::OtherTag | Rule::TaggedLink | Rule::TaggedOwn);
        let expected = !of_tags && rule != Rule::NotForHost;
        assert_eq!(count > 0, expected, "{rule:?} occurs in the test");
    }
}

#[test]
fn xdp_takes_what_the_reference_takes_and_counts_only_that() {
    if !crate::sys::is_root() {
        eprintln!("skipped: loading the classifier needs root");
        return;
    }
    let tables = tables();
    // With flows that the kernel forwards, of which there are none.
    let classifier = Classifier::serving(&Arc::new(offload::Kernel::new(1000).unwrap()), None);
    classifier.update(&tables).unwrap();
    let device = Map::<4, DEVICE_BYTES>::array("fw_test", 1).unwrap();
    // Devices in the place of sockets: the answer is the same, and the loopback device is always there.
    let sockets = Map::<4, 4>::devices("fw_test", 6).unwrap();
    let exceptions = crate::steering::Exceptions::new(3, 10).unwrap();
    let steering = Some(exceptions.parameters(7, false));
    let given = Map::<4, 8>::array("fw_test", 6).unwrap();
    let (device_fd, given_fd) = (device.fd(), given.fd());
    let redirect =
        Redirect { sockets: sockets.fd(), device: device_fd, given: given_fd, workers: 3, steering };
    let program = classifier.redirect(redirect, true).unwrap();
    let mut random = Random(0x0dd_ba11);
    let corpus = corpus();
    let first = corpus[0].1.clone();
    const PASS: u32 = 2;
    const REDIRECT: u32 = 4;
    for worker in 0..3u32 {
        sockets.insert(&worker.to_ne_bytes(), &1u32.to_ne_bytes()).unwrap();
    }
    assert_eq!(program.run(&first).unwrap(), PASS, "the device is not known yet");
    device.insert(&[0; 4], &Redirect::device_value(MAC, 200, true)).unwrap();
    let mut taken = 0;
    for round in 0..20_000 {
        let mut frame = corpus[round % corpus.len()].1.clone();
        if round >= corpus.len() {
            mutate(&mut random, &mut frame);
        }
        let rule = classify(&frame, &tables);
        let wanted = rule.is_taken() && rule != Rule::NatEcho && frame.len() <= 200;
        let answer = program.run(&frame).unwrap();
        assert_eq!(answer, if wanted { REDIRECT } else { PASS }, "round {round}: {rule:?}: {frame:02x?}");
        taken += u64::from(wanted);
    }
    assert_eq!(classifier.counts().unwrap().iter().map(|(_, count)| count).sum::<u64>(), taken);
    let mut other = first.clone();
    other[5] ^= 1;
    assert_eq!(program.run(&other).unwrap(), PASS, "for another host");
    let mut tagged = first.clone();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(program.run(&tagged).unwrap(), PASS, "with a tag");
    let mut long = first.clone();
    long.resize(201, 0);
    assert_eq!(program.run(&long).unwrap(), PASS, "longer than the device's MTU");
    for worker in 0..3u32 {
        sockets.remove(&worker.to_ne_bytes()).unwrap();
    }
    assert_eq!(program.run(&first).unwrap(), PASS, "without a socket");
}

#[test]
fn a_router_serves_what_the_reference_takes_by_the_doors_of_its_workers() {
    if !crate::sys::is_root() {
        eprintln!("skipped: loading the classifier needs root");
        return;
    }
    const NEXT: u32 = u32::MAX;
    const REDIRECT: u32 = 7;
    let tables = tables();
    let exceptions = crate::steering::Exceptions::new(3, 10).unwrap();
    let tokens = Map::<4, 4>::hash("fw_test", 8).unwrap();
    let steering = Some(exceptions.parameters_of_all(tokens.fd()));
    let classifier = Classifier::serving(&Arc::new(offload::Kernel::new(1000).unwrap()), steering);
    classifier.update(&tables).unwrap();
    let serve = classifier.serving_program().unwrap();
    let (mut random, corpus) = (Random(0x5e_7fe), corpus());
    let mut decided = std::collections::HashMap::<Rule, u64>::new();
    for round in 0..20_000 {
        let mut frame = corpus[round % corpus.len()].1.clone();
        if round >= corpus.len() {
            mutate(&mut random, &mut frame);
        }
        let Ok((answer, out, _)) = serve.run_whole(&frame, &[]) else { continue };
        let rule = classify(&frame, &tables);
        *decided.entry(rule).or_default() += 1;
        if rule.is_taken() && rule != Rule::NatEcho {
            // The number of the loopback device.
            assert_eq!((answer, &out[..4]), (REDIRECT, &1u32.to_ne_bytes()[..]), "round {round}: {rule:?}");
            assert_eq!(out[4..], frame[4..], "round {round}: {rule:?}");
        } else {
            assert_eq!((answer, out), (NEXT, frame), "round {round}: {rule:?}");
        }
    }
    for (rule, count) in classifier.counts().unwrap() {
        assert_eq!(count, decided.get(&rule).copied().unwrap_or(0), "{rule:?}");
    }
}

#[test]
fn frames_for_others_are_the_kernels() {
    if !crate::sys::is_root() {
        eprintln!("skipped: loading the classifier needs root");
        return;
    }
    let classifier = Classifier::load(None).unwrap();
    let (_, mut frame) = corpus_v4().swap_remove(0);
    for (octet, owner) in [(0x00, 2), (0x02, u32::MAX), (0x01, u32::MAX), (0xff, u32::MAX)] {
        frame[0] = octet;
        assert_eq!(classifier.untagged.tc.run(&frame).unwrap(), owner, "{octet:02x}");
    }
    let counts = classifier.counts().unwrap();
    assert_eq!(counts[Rule::NotForHost as usize], (Rule::NotForHost, 3));
}

#[test]
fn tables_change_by_their_difference() {
    if !crate::sys::is_root() {
        eprintln!("skipped: loading the classifier needs root");
        return;
    }
    let classifier = Classifier::load(None).unwrap();
    let frame = ethernet(0x0800, &ipv4(v4(7), v4(1), 6, 0, &ports(1, 80)));
    let taken = |classifier: &Classifier| classifier.untagged.tc.run(&frame).unwrap() == 2;
    assert!(taken(&classifier), "not an own address");
    let mut wanted = tables();
    classifier.update(&wanted).unwrap();
    assert!(!taken(&classifier), "an own address, outside the range");
    wanted.local.insert(v4(1).into(), PortRange::new(80, 80));
    classifier.update(&wanted).unwrap();
    assert!(taken(&classifier), "inside the range");
    wanted.local.remove(&IpAddr::V4(v4(1)));
    wanted.local.insert(v4(3).into(), None);
    classifier.update(&wanted).unwrap();
    assert!(taken(&classifier), "not an own address any more");
    assert_eq!(*classifier.tables.lock().unwrap(), wanted);
}
