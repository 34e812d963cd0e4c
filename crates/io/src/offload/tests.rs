//! Runs both programs on packets, and holds what comes out against the rewrite in plain Rust.

use core::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fairway_types::{Egress, InterfaceId, Look, OffloadFlow, OffloadId, Protocol, Time, Tuple, WorkerId};
use fairway_wire::checksum::{Delta, sum};
use fairway_wire::{checksum, svr};

use super::layout::slot;
use super::{Flows, GIVEN, Kernel, Route};
use crate::classifier::asm::context;
use crate::classifier::{Classifier, DEVICE_BYTES, Redirect};
use crate::random::Random;
use crate::sys::bpf::{Map, Program};
use crate::sys::shared::SharedArray;

mod cost;
mod segments;

/// How many the kernel has room for.
const SESSIONS: u32 = 4096;
const LOOPBACK: u32 = 1;
const REDIRECT: u32 = 7;
const DROP: u32 = 2;
const NAME: OffloadId = OffloadId(1);

/// What forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The program at tc, and the filter of a door.
    Stack,
    /// XDP.
    Driver,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Stack, Self::Driver];
}

/// The programs of one way and the flows of one worker.
struct Bench {
    way: Way,
    classifier: Classifier,
    /// That of the door.
    filter: Program,
    given: SharedArray<8>,
    driver: Driver,
    kernel: Arc<Kernel>,
    flows: Flows,
}

/// The program for XDP, with a socket to give frames to.
struct Driver {
    program: Program,
    device: Map<4, DEVICE_BYTES>,
    given: SharedArray<8>,
    _sockets: Map<4, 4>,
    _socket: OwnedFd,
}

impl Driver {
    fn new(classifier: &Classifier) -> Self {
        let sockets = Map::xdp_sockets("fw_test", 1).unwrap();
        let socket = crate::sys::xdp::socket().unwrap();
        sockets.insert(&[0; 4], &(socket.as_raw_fd() as u32).to_ne_bytes()).unwrap();
        let device = Map::array("fw_test", 1).unwrap();
        let given = SharedArray::new("fw_test", 1).unwrap();
        let (workers, steering) = (1, None);
        let fds = (sockets.fd(), device.fd(), given.fd());
        let redirect = Redirect { sockets: fds.0, device: fds.1, given: fds.2, workers, steering };
        let program = classifier.redirect(redirect, true).unwrap();
        let driver = Self { program, device, given, _sockets: sockets, _socket: socket };
        driver.know(false);
        driver
    }

    fn know(&self, doubtful: bool) {
        self.device.insert(&[0; 4], &Redirect::device_value([0; 6], 2000, doubtful)).unwrap();
    }

    fn given(&self) -> u64 {
        self.given.double(0, 0).load(Relaxed)
    }
}

impl Bench {
    fn new(way: Way) -> Option<Self> {
        if !crate::sys::is_root() {
            eprintln!("skipped: loading the program needs root");
            return None;
        }
        let kernel = Arc::new(Kernel::new(SESSIONS).unwrap());
        let flows = Flows::new(Some(kernel.clone()), WorkerId(0), 1);
        let given = SharedArray::new("fw_test", GIVEN).unwrap();
        let filter = kernel.door_filter(given.fd(), 0).unwrap();
        let classifier = Classifier::serving(&kernel, None);
        let driver = Driver::new(&classifier);
        Some(Self { way, classifier, filter, given, driver, kernel, flows })
    }

    fn install(&mut self, forth: Tuple, back: Tuple) {
        let routes = [route(forth, back.reversed()), route(back, forth.reversed())];
        self.flows.install(NAME, routes).unwrap();
    }

    /// What a worker does that finds its sockets empty.
    fn drain(&mut self) {
        self.flows.touch(NAME);
        self.flows.before_read(InterfaceId(0));
        self.flows.after_read(InterfaceId(0), 0, true);
        self.flows.all_sent();
    }

    /// The frame, if it was redirected.
    fn pass(&self, frame: &[u8], segment: u32) -> Option<Vec<u8>> {
        let (accepted, answer, out) = self.offer(frame, segment);
        assert_eq!(!accepted, answer == REDIRECT, "filter and tc agree: {accepted} {answer}");
        (answer == REDIRECT).then_some(out)
    }

    /// Lets the program at tc see a frame, and then the door, or that for XDP: whether a socket gets it,
    /// what was answered, and the frame as it was left.
    fn offer(&self, frame: &[u8], segment: u32) -> (bool, u32, Vec<u8>) {
        if self.way == Way::Driver {
            let before = self.driver.given();
            let (answer, out, _) = self.driver.program.run_whole(frame, &[]).unwrap();
            let accepted = self.driver.given() > before;
            let answer = match answer {
                1 => DROP,
                4 if accepted => DROP,
                4 => REDIRECT,
                _ => answer,
            };
            return (accepted, answer, out);
        }
        let mut given = [0u8; 192]; // `struct __sk_buff`
        given[context::IFINDEX as usize..][..4].copy_from_slice(&LOOPBACK.to_ne_bytes());
        given[context::SEGMENT_SIZE as usize..][..4].copy_from_slice(&segment.to_ne_bytes());
        let serve = self.classifier.serving_program().unwrap();
        let (answer, out, left) = serve.run_whole(frame, &given).unwrap();
        if answer != REDIRECT || out.get(..4) != Some(&LOOPBACK.to_ne_bytes()) {
            return (false, answer, out);
        }
        let before = self.given.double(0, 0).load(Relaxed);
        let mut given = [0u8; 192];
        let mark = context::MARK as usize..context::MARK as usize + 4;
        given[mark.clone()].copy_from_slice(&left[mark]);
        let (let_in, ..) = self.filter.run_whole(&out, &given).unwrap();
        assert_eq!((let_in, self.given.double(0, 0).load(Relaxed)), (0, before + 1));
        (true, DROP, out)
    }
}

fn route(arrives: Tuple, leaves: Tuple) -> Route {
    let egress = Egress { interface: InterfaceId(0), next_hop: leaves.destination.ip() };
    let flow = OffloadFlow {
        interface: InterfaceId(0),
        arrives,
        leaves,
        egress,
        mtu: 1500,
        look: Look::Everywhere,
        awaits: false,
        fresh: false,
    };
    let way = super::Way {
        interface: InterfaceId(0),
        egress,
        arrival: LOOPBACK,
        device: LOOPBACK,
        target: (LOOPBACK, leaves.destination.ip()),
        link: ([2, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2]),
    };
    Route { flow, way }
}

fn tuple(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Tuple {
    Tuple { source, destination, protocol: Protocol(protocol) }
}

fn address(random: &mut Random, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::from([0xfd00, 0, 0, random.below(9) as u16, 0, 0, random.next() as u16, random.next() as u16])
    } else {
        IpAddr::from([10, random.next() as u8, random.next() as u8, random.next() as u8])
    }
}

fn end(random: &mut Random, ipv6: bool) -> SocketAddr {
    SocketAddr::new(address(random, ipv6), random.next() as u16)
}

const ACK: u8 = 0x10;

/// A frame with right checksums.
fn frame(tuple: &Tuple, ttl: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = [tuple.source.port().to_be_bytes(), tuple.destination.port().to_be_bytes()].concat();
    let tcp = tuple.protocol == Protocol::TCP;
    if tcp {
        transport.extend([0, 0, 1, 0, 0, 0, 2, 0, 0x60, flags, 0x12, 0x34, 0, 0, 0, 0, 1, 1, 1, 0]);
    } else {
        transport.extend(((8 + payload.len()) as u16).to_be_bytes());
        transport.extend([0, 0]);
    }
    transport.extend(payload);
    let pseudo = checksum::pseudo_header(
        tuple.source.ip(),
        tuple.destination.ip(),
        tuple.protocol.0,
        transport.len() as u32,
    );
    let mut field = !checksum::fold(sum(&transport) + u32::from(checksum::fold(pseudo)));
    if !tcp && field == 0 {
        field = 0xffff;
    }
    let at = if tcp { 16 } else { 6 };
    transport[at..at + 2].copy_from_slice(&field.to_be_bytes());
    let mut packet = match (tuple.source.ip(), tuple.destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0x2a];
            header.extend(((20 + transport.len()) as u16).to_be_bytes());
            header.extend([0x12, 0x34, 0x40, 0, ttl, tuple.protocol.0, 0, 0]);
            header.extend(from.octets().into_iter().chain(to.octets()));
            let field = !checksum::fold(sum(&header));
            header[10..12].copy_from_slice(&field.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x62, 0xa0, 1, 2];
            header.extend((transport.len() as u16).to_be_bytes());
            header.extend([tuple.protocol.0, ttl]);
            header.extend(from.octets().into_iter().chain(to.octets()));
            header
        }
        _ => unreachable!(),
    };
    packet.extend(transport);
    let kind: [u8; 2] = if tuple.is_ipv6() { [0x86, 0xdd] } else { [8, 0] };
    [&[0; 12][..], &kind, &packet].concat()
}

/// The rewrite as the engine does it: fields are replaced, checksums changed by difference.
fn rewritten(frame: &[u8], from: &Tuple, to: &Tuple) -> Vec<u8> {
    let mut out = frame.to_vec();
    out[..12].copy_from_slice(&[2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    let (addresses, ip) = if to.is_ipv6() { (14 + 8..14 + 40, 40) } else { (14 + 12..14 + 20, 20) };
    let old = sum(&out[addresses.clone()]);
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    out[addresses.clone()].copy_from_slice(&[octets(to.source.ip()), octets(to.destination.ip())].concat());
    let change = Delta::from_sums(old, sum(&out[addresses]));
    let field = |out: &[u8], at: usize| u16::from_be_bytes([out[at], out[at + 1]]);
    if to.is_ipv6() {
        out[14 + 7] -= 1;
    } else {
        let hop = Delta::word(u16::from(out[22]) << 8, u16::from(out[22] - 1) << 8);
        out[22] -= 1;
        let header = change.combine(hop).apply(field(&out, 24));
        out[24..26].copy_from_slice(&header.to_be_bytes());
    }
    let transport = 14 + ip;
    out[transport..transport + 2].copy_from_slice(&to.source.port().to_be_bytes());
    out[transport + 2..transport + 4].copy_from_slice(&to.destination.port().to_be_bytes());
    let ports = Delta::word(from.source.port(), to.source.port())
        .combine(Delta::word(from.destination.port(), to.destination.port()));
    let at = transport + if to.protocol == Protocol::TCP { 16 } else { 6 };
    let both = change.combine(ports);
    let sum = field(&out, at);
    let changed = if to.protocol == Protocol::TCP { both.apply(sum) } else { both.apply_udp(sum) };
    out[at..at + 2].copy_from_slice(&changed.to_be_bytes());
    out
}

#[test]
fn packets_leave_as_the_engine_would_send_them() {
    for way in Way::BOTH {
        let Some(mut bench) = Bench::new(way) else { return };
        let mut random = Random(0x0ff1_0ad5_eed1);
        for round in 0..1500 {
            let (ipv6, protocol) = (round % 2 == 0, if round % 4 < 2 { 6 } else { 17 });
            let mut make = || tuple(protocol, end(&mut random, ipv6), end(&mut random, ipv6));
            let (forth, mut back) = (make(), make());
            if round % 7 == 0 {
                back = forth.reversed();
                back.source.set_port(forth.destination.port() ^ 1);
            }
            bench.install(forth, back);
            bench.drain();
            for (from, to) in [(forth, back.reversed()), (back, forth.reversed())] {
                let payload: Vec<u8> = (0..random.below(1400)).map(|_| random.next() as u8).collect();
                let mut packet = frame(&from, 2 + random.below(250) as u8, ACK, &payload);
                if protocol == 17 && !ipv6 && round % 8 == 3 {
                    packet[40..42].fill(0);
                }
                let out = bench.pass(&packet, 0).expect("forwarded");
                assert_eq!(out, rewritten(&packet, &from, &to), "{from} as {to}");
            }
            bench.flows.end(NAME, Time::ZERO);
        }
    }
}

/// What a sender with checksum offload leaves: the sum of the pseudo-header.
fn unfinished(frame: &[u8], tuple: &Tuple) -> Vec<u8> {
    let transport = if tuple.is_ipv6() { 54 } else { 34 };
    let at = transport + if tuple.protocol == Protocol::TCP { 16 } else { 6 };
    let (from, to, protocol) = (tuple.source.ip(), tuple.destination.ip(), tuple.protocol.0);
    let pseudo = checksum::pseudo_header(from, to, protocol, (frame.len() - transport) as u32);
    let mut out = frame.to_vec();
    out[at..at + 2].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    out
}

#[test]
fn a_checksum_that_a_sender_left_to_a_device_is_finished() {
    let Some(mut bench) = Bench::new(Way::Driver) else { return };
    let mut random = Random(0xd0_0b7f01);
    for round in 0..3000 {
        let (ipv6, protocol) = (round % 2 == 0, if round % 4 < 2 { 6 } else { 17 });
        let mut make = || tuple(protocol, end(&mut random, ipv6), end(&mut random, ipv6));
        let (forth, back) = (make(), make());
        bench.install(forth, back);
        bench.drain();
        let length = if round < 1500 { round } else { random.below(1400) }.min(1420);
        let payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let packet = frame(&forth, 64, ACK, &payload);
        let wanted = rewritten(&packet, &forth, &back.reversed());
        bench.driver.know(true);
        assert_eq!(bench.pass(&packet, 0).as_ref(), Some(&wanted), "finished already");
        let left = unfinished(&packet, &forth);
        assert_eq!(bench.pass(&left, 0).as_ref(), Some(&wanted), "{length} bytes");
        // A wrong one stays as wrong as it was.
        let mut wrong = packet.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(bench.pass(&wrong, 0), Some(rewritten(&wrong, &forth, &back.reversed())));
        // Where nobody can have left it so, it is no sign of anything.
        bench.driver.know(false);
        assert_eq!(bench.pass(&left, 0), Some(rewritten(&left, &forth, &back.reversed())));
        bench.flows.end(NAME, Time::ZERO);
    }
}

#[test]
fn a_router_with_few_rights_can_load_the_program_again() {
    if !crate::sys::is_root() {
        eprintln!("skipped: loading the program needs root");
        return;
    }
    let classifier = Classifier::serving(&Arc::new(Kernel::new(SESSIONS).unwrap()), None);
    crate::drop_capabilities(crate::Capability::FOR_PORTS).unwrap();
    Driver::new(&classifier);
}

fn pair(protocol: u8) -> (Tuple, Tuple) {
    let end = |text: &str| text.parse::<SocketAddr>().unwrap();
    let forth = tuple(protocol, end("10.1.0.9:4000"), end("10.2.0.9:80"));
    let back = tuple(protocol, end("172.16.0.2:17000"), end("172.16.0.1:16001"));
    (forth, back)
}

#[test]
fn what_a_worker_has_to_see_is_the_workers() {
    for way in Way::BOTH {
        let Some(mut bench) = Bench::new(way) else { return };
        let (forth, back) = pair(6);
        bench.install(forth, back);
        bench.drain();
        let plain = frame(&forth, 64, ACK, b"hello there");
        let mut cookie = svr::COOKIE.to_vec();
        cookie.extend([0; 20]);
        let changed = |at: usize, value: u8| {
            let mut packet = plain.clone();
            packet[at] = value;
            packet
        };
        let mut padded = plain.clone();
        padded.extend([0; 9]);
        assert!(bench.pass(&padded, 0).is_some(), "a padded frame");
        let mut other = forth;
        other.source.set_port(4001);
        let refused = [
            ("SYN", frame(&forth, 64, 2, b"")),
            ("RST", frame(&forth, 64, ACK | 4, b"")),
            ("the last hop", frame(&forth, 1, ACK, b"")),
            ("metadata", frame(&forth, 64, ACK, &cookie)),
            ("what is too big", frame(&forth, 64, ACK, &[7; 1461])),
            ("a fragment", changed(20, 0x20)),
            ("a later fragment", changed(21, 3)),
            ("options", changed(14, 0x46)),
            ("a short TCP header", changed(14 + 20 + 12, 0x40)),
            ("a TCP header beyond the end", changed(14 + 20 + 12, 0xf0)),
            ("less than it says", plain[..plain.len() - 1].to_vec()),
            ("another flow", frame(&other, 64, ACK, b"")),
        ];
        for (what, packet) in refused {
            assert!(bench.pass(&packet, 0).is_none(), "{what}");
            bench.drain();
            assert!(bench.pass(&plain, 0).is_some(), "after {what}");
        }
        let (forth, back) = pair(17);
        bench.flows.end(NAME, Time::ZERO);
        bench.install(forth, back);
        bench.drain();
        let mut packet = frame(&forth, 64, 0, b"hello");
        assert!(bench.pass(&packet, 0).is_some());
        packet[14 + 20 + 5] += 1;
        assert!(bench.pass(&packet, 0).is_none(), "a UDP length that is not the packet's");
    }
}

#[test]
fn a_flow_takes_the_kernels_way_only_when_nothing_is_on_the_workers() {
    for way in Way::BOTH {
        let Some(mut bench) = Bench::new(way) else { return };
        let (forth, back) = pair(6);
        bench.install(forth, back);
        let plain = frame(&forth, 64, ACK, b"data");
        assert!(bench.pass(&plain, 0).is_none(), "older packets may wait in the socket");
        bench.drain();
        assert!(bench.pass(&plain, 0).is_some());
        assert!(bench.pass(&frame(&forth, 64, ACK | 4, b""), 0).is_none());
        assert!(bench.pass(&plain, 0).is_none(), "it stays behind the one before it");
        bench.flows.touch(NAME);
        bench.flows.before_read(InterfaceId(0));
        assert!(bench.pass(&plain, 0).is_none(), "came after the look");
        bench.flows.after_read(InterfaceId(0), 0, true);
        bench.flows.all_sent();
        assert!(bench.pass(&plain, 0).is_none(), "one may still wait");
        assert!(bench.flows.has_pending());
        bench.drain();
        assert!(!bench.flows.has_pending());
        assert!(bench.pass(&plain, 0).is_some());
        let report = bench.flows.end(NAME, Time::from_secs(100)).unwrap();
        assert_eq!((report[0].packets, report[0].bytes), (2, 2 * 48), "{report:?}");
        assert_eq!(
            report[0].tcp.map(|tcp| (tcp.next, tcp.acknowledged, tcp.window)),
            Some((0x104, 0x200, 0x1234))
        );
        assert!(report[0].last.unwrap() > Time::from_secs(90), "{report:?}");
        assert_eq!(report[1].packets, 0);
        assert!(bench.pass(&plain, 0).is_none(), "the flow is the worker's again");
    }
}

#[test]
fn a_connection_that_was_just_accepted_goes_the_kernels_way_at_once() {
    for way in Way::BOTH {
        let Some(mut bench) = Bench::new(way) else { return };
        let (forth, back) = pair(6);
        let mut routes = [route(forth, back.reversed()), route(back, forth.reversed())];
        routes.iter_mut().for_each(|route| route.flow.fresh = true);
        routes[1].flow.awaits = true;
        bench.flows.install(NAME, routes).unwrap();
        assert!(!bench.flows.has_pending());
        let (first, answer) = (frame(&forth, 64, ACK, b""), frame(&back, 64, ACK, b"hello"));
        assert!(bench.pass(&frame(&forth, 64, 2, b""), 0).is_none(), "its SYN again");
        bench.drain();
        assert!(bench.pass(&answer, 0).is_none(), "the responder's direction waits for the initiator's");
        bench.drain();
        assert!(bench.pass(&answer, 0).is_none());
        assert!(bench.pass(&first, 0).is_some());
        assert!(bench.pass(&answer, 0).is_none(), "it stays behind the one before it");
        bench.drain();
        assert!(bench.pass(&answer, 0).is_some());
        assert!(bench.pass(&frame(&forth, 64, ACK | 1, b"end"), 0).is_some());
        let report = bench.flows.end(NAME, Time::from_secs(100)).unwrap();
        let [forth, back] = report.map(|flow| flow.tcp.map(|tcp| (tcp.next, tcp.finished)));
        // Frames of tests begin at 0x100.
        assert_eq!((forth, back), (Some((0x104, true)), Some((0x105, false))));
    }
}

#[test]
fn connections_that_carried_nothing_leave_room_for_others() {
    let Some(mut bench) = Bench::new(Way::Stack) else { return };
    let mut random = Random(0x0ff1_0ad5_eed2);
    let mut install = |name: u64, fresh: bool| {
        let mut make = || tuple(6, end(&mut random, true), end(&mut random, true));
        let (forth, back) = (make(), make());
        let mut routes = [route(forth, back.reversed()), route(back, forth.reversed())];
        routes.iter_mut().for_each(|route| route.flow.fresh = fresh);
        bench.flows.install(OffloadId(name), routes)
    };
    let all = u64::from(SESSIONS);
    let installed = (0..all).filter(|&name| install(name, true).is_ok()).count() as u64;
    assert!(installed > all / 2 && installed <= all * 3 / 4, "{installed} of {all}");
    let others = (all..all + 100).filter(|&name| install(name, false).is_ok()).count();
    assert!(others > 90, "{others}: but for a full bucket");
}

#[test]
fn a_flood_that_fills_the_socket_is_dropped_until_the_socket_is_read() {
    for way in Way::BOTH {
        let Some(mut bench) = Bench::new(way) else { return };
        let (forth, back) = pair(17);
        bench.install(forth, back);
        let packet = frame(&forth, 64, 0, b"flood");
        let lan = InterfaceId(0);
        // One round of a worker that reads half of what comes.
        let mut round = |accepted: u64, overruns: u64, taken: u64| {
            bench.flows.before_read(lan);
            bench.flows.mark(lan, accepted, overruns);
            let (accepted, answer, _) = bench.offer(&packet, 0);
            assert_eq!((accepted, answer), (overruns == 7, 2), "while it reads");
            bench.flows.after_read(lan, taken, false);
            bench.flows.all_sent();
        };
        round(100, 7, 50);
        round(200, 7, 100);
        round(300, 7, 150);
        // Nothing was lost since, so nothing is given up; then something is.
        round(400, 8, 399);
        round(400, 8, 400);
        assert!(bench.pass(&packet, 0).is_some(), "nothing waits any more");
        let traffic = bench.flows.account(NAME).unwrap();
        assert_eq!((traffic[0].packets, traffic[0].lost), (1, 2));
    }
}

#[test]
fn without_a_heartbeat_everything_is_the_workers() {
    for way in Way::BOTH {
        let Some(mut bench) = Bench::new(way) else { return };
        let (forth, back) = pair(17);
        bench.install(forth, back);
        bench.drain();
        let packet = frame(&forth, 64, 0, b"datagram");
        assert!(bench.pass(&packet, 0).is_some());
        bench.flows.pause(true);
        assert!(bench.pass(&packet, 0).is_none());
        bench.flows.pause(false);
        bench.flows.touch(NAME);
        bench.drain();
        assert!(bench.pass(&packet, 0).is_some());
        let late = crate::sys::shared::kernel_time() - 4_000_000_000;
        bench.kernel.pulses.double(0, super::layout::pulse::BEAT).store(late, Relaxed);
        assert!(bench.pass(&packet, 0).is_none());
        assert_eq!(bench.kernel.slots.word(0, slot::QUEUED).load(Relaxed), 2);
    }
}
