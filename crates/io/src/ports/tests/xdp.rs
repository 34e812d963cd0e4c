//! AF_XDP: rings, the program, and real programs across a forwarder.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bench::{Bench, Engine, Forwarder, LEFT, RIGHT, across, ip};
use super::ping;
use super::vlans::{self, TRUNK};
use crate::classifier::Rule;
use crate::classifier::asm::{Assembler, Reg, Size};
use crate::steering::{tuple_of, worker_of};
use crate::sys::bpf::{Map, Program, ProgramKind, XdpAttachment, XdpPlace};
use crate::sys::tun::Device;
use crate::sys::xdp::{Copies, Queue, QueueSize};
use crate::{IoChoice, IoMethod, PortSpec, PortStatistics, Ports};

const SMALL: QueueSize = QueueSize { receive: 64, send: 16, frame_bytes: 2048, copies: Copies::IfNeeded };

/// The interfaces of the bench, by AF_XDP.
fn specs() -> Vec<PortSpec> {
    Bench::specs().into_iter().map(|spec| PortSpec { io: IoChoice::Xdp, ..spec }).collect()
}

/// A queue of a device, and a program that gives it all frames.
struct Everything {
    queue: Queue,
    _attachment: XdpAttachment,
    _sockets: Map<4, 4>,
}

impl Everything {
    /// In the present namespace.
    fn of(device: &str, place: XdpPlace) -> Self {
        let index = Device::index_of(device).unwrap();
        let sockets = Map::<4, 4>::xdp_sockets("fw_test", 1).unwrap();
        let mut asm = Assembler::for_xdp();
        asm.load(Size::Word, Reg::R2, Reg::R1, 16);
        asm.redirect_map(sockets.fd(), 2);
        asm.exit();
        let program = Program::load(ProgramKind::Xdp, "fw_test", &asm.finish().unwrap()).unwrap();
        let attachment = program.attach_xdp(index, place).unwrap();
        let queue = Queue::open(index, 0, 1, SMALL).unwrap();
        sockets.insert(&[0; 4], &(queue.fd(0).unwrap().as_raw_fd() as u32).to_ne_bytes()).unwrap();
        Self { queue, _attachment: attachment, _sockets: sockets }
    }
}

#[test]
fn what_one_socket_sends_the_other_receives_whatever_way_the_rings_turn() {
    for place in [XdpPlace::Driver, XdpPlace::Stack] {
        let Some(bench) = Bench::raise() else { return };
        let a = bench.inside("a", move || Everything::of("eth0", place));
        let r = bench.inside("r", move || Everything::of("left", place));
        let frame = |number: usize| {
            let mut frame = vec![number as u8; 60 + number % 1400];
            frame[12..16].copy_from_slice(&[0x88, 0xb5, (number >> 8) as u8, number as u8]);
            frame
        };
        let (mut sent, mut received) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(10);
        while received < 1000 {
            assert!(Instant::now() < deadline, "{place:?}: {sent} sent, {received} received");
            let first = sent;
            if sent - received < 32 {
                sent += a.queue.send(
                    0,
                    20,
                    |at| frame(first + at).len(),
                    |at, bytes| bytes.copy_from_slice(&frame(first + at)),
                );
            }
            r.queue.receive(0, 7, |bytes| {
                // The kernels of both sides say a word now and then.
                if bytes[12..14] == [0x88, 0xb5] {
                    assert_eq!(bytes, frame(received), "{place:?}: frame {received}");
                    received += 1;
                }
            });
        }
        assert!(!a.queue.is_zero_copy() && !a.queue.kick(0), "all of it is sent");
        assert_eq!(r.queue.overruns(0).unwrap(), 0);
    }
}

#[test]
fn what_finds_no_room_is_counted_once() {
    let Some(bench) = Bench::raise() else { return };
    let a = bench.inside("a", || Everything::of("eth0", XdpPlace::Driver));
    let r = bench.inside("r", || Everything::of("left", XdpPlace::Driver));
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while sent < 200 && Instant::now() < deadline {
        sent += a.queue.send(0, (200 - sent).min(10), |_| 60, |_, bytes| bytes.fill(1));
    }
    let mut lost = 0;
    while lost < 200 - 64 && Instant::now() < deadline {
        lost += r.queue.overruns(0).unwrap();
    }
    let mut received = 0;
    while r.queue.receive(0, 64, |_| received += 1) > 0 {}
    assert!(lost >= 200 - 64 && received <= 64, "{lost} lost, {received} received");
    assert_eq!(r.queue.overruns(0).unwrap(), 0);
}

/// A forwarder by AF_XDP, which both interfaces must have come to.
fn forwarder(bench: &Bench, method: IoMethod) -> Forwarder {
    let forwarder = bench.forwarder_with(specs(), Box::new(across));
    assert_eq!(methods(&forwarder), [Some(method); 2]);
    forwarder
}

fn methods(forwarder: &Forwarder) -> Vec<Option<IoMethod>> {
    forwarder.ask(|ports, _, _| ports.status().iter().map(|port| port.io).collect())
}

fn figures(forwarder: &Forwarder) -> Vec<PortStatistics> {
    forwarder.ask(|ports, _, _| ports.status().into_iter().map(|port| port.statistics).collect())
}

/// An MTU that fits a frame of AF_XDP but not what a veth has for it in its driver.
pub(super) fn only_before_the_stack(bench: &Bench) {
    for (name, device) in [("a", "eth0"), ("r", "left"), ("r", "right"), ("b", "eth0")] {
        bench.output(name, &format!("ip link set {device} mtu 3800"));
    }
}

#[test]
fn ping_crosses_and_the_kernel_answers_for_itself() {
    for method in [IoMethod::XdpNative, IoMethod::XdpGeneric] {
        let Some(bench) = Bench::raise() else { return };
        if method == IoMethod::XdpGeneric {
            only_before_the_stack(&bench);
        }
        let forwarder = forwarder(&bench, method);
        ping(&bench, "a", "10.77.2.2", "");
        ping(&bench, "b", "10.77.1.2", "-s 1400");
        ping(&bench, "a", "2001:db8:77:2::2", "");
        ping(&bench, "a", "10.77.2.2", "-s 8000");
        let before = figures(&forwarder);
        ping(&bench, "a", "10.77.1.1", "");
        ping(&bench, "b", "2001:db8:77:2::1", "");
        assert_eq!(super::connect(&bench, "10.77.1.1:80"), Some(ErrorKind::ConnectionRefused));
        assert_eq!(before, figures(&forwarder), "what is for the router itself is the kernel's");
        assert!(before.iter().all(|port| port.rx_packets >= 20 && port.rx_unusable == 0), "{before:?}");
        // What is taken counts, as it does without AF_XDP, once.
        let counted = forwarder.ask(|ports, _, _| ports.classified().unwrap());
        let received: u64 = before.iter().map(|port| port.rx_packets).sum();
        assert_eq!(counted[Rule::Forwarded as usize].1, received);
    }
}

#[test]
fn the_kernel_never_answers_what_is_fairways_with_a_router_and_without() {
    let Some(bench) = Bench::raise() else { return };
    let ports = bench.inside("r", || Ports::open(&specs(), &[]).unwrap());
    let port = "10.77.1.1:16384";
    assert_eq!(super::connect(&bench, port), Some(ErrorKind::TimedOut));
    assert!(bench.output("r", "ip link show left").contains("xdp"));
    bench.inside("r", move || ports.leave_guarded());
    assert!(!bench.output("r", "ip link show left").contains("xdp"), "it goes with the router");
    assert_eq!(super::connect(&bench, port), Some(ErrorKind::TimedOut));
    bench.inside("r", || crate::release().unwrap());
    assert_eq!(super::connect(&bench, port), Some(ErrorKind::ConnectionRefused));
}

#[test]
fn a_router_that_starts_as_another_ends_has_what_that_had() {
    let Some(bench) = Bench::raise() else { return };
    bench.inside("r", || {
        for round in 0..20 {
            let mut ports = Ports::open_all(&specs(), &[], 2, 10).unwrap();
            let native = |port: &crate::PortStatus| port.io == Some(IoMethod::XdpNative);
            assert!(ports[0].status().iter().all(native), "round {round}");
            ports.into_iter().for_each(Ports::leave_guarded);
        }
        crate::release().unwrap();
    });
}

#[test]
fn every_queue_and_every_worker_has_its_socket() {
    let Some(bench) = Bench::raise_bare(&["a", "r", "b"]) else { return };
    bench.join_with("a", "left", 1, 2);
    bench.join_with("b", "right", 2, 2);
    let shown = bench.output("r", "ethtool -l left");
    assert!(
        shown.lines().filter(|line| line.trim() == "RX:\t\t2" || line.ends_with('2')).count() >= 2,
        "{shown}"
    );
    let seen = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let engine = |worker: usize| -> Engine {
        let seen = Arc::clone(&seen);
        Box::new(move |slot| {
            let wanted = tuple_of(slot.packet.bytes()).map_or(0, |tuple| worker_of(&tuple, 2).index());
            assert_eq!(wanted, worker, "what steering says holds here, too");
            seen[worker].fetch_add(1, Ordering::Relaxed);
            across(slot);
        })
    };
    let workers = bench.workers(specs(), vec![engine(0), engine(1)]);
    assert_eq!(methods(&workers[1]), [Some(IoMethod::XdpNative); 2]);
    // The sender's processor says by which queue of a veth a frame goes.
    for processor in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let sent =
            bench.output("a", &format!("taskset -c {processor} ping -n -q -c 200 -i 0.002 -W 2 10.77.2.2"));
        assert!(sent.contains(" 0% packet loss"), "{sent}");
    }
    bench.inside("a", || {
        for port in 40_000..40_200 {
            let socket = std::net::UdpSocket::bind(("10.77.1.2", port)).unwrap();
            let _ = socket.send_to(b"datagram", "10.77.2.2:9");
        }
    });
    workers[0].wait_for("both have some", {
        let seen = Arc::clone(&seen);
        move |_| seen.iter().all(|seen| seen.load(Ordering::Relaxed) > 50)
    });
}

#[test]
fn a_device_that_returns_is_attached_to_in_the_same_way() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = forwarder(&bench, IoMethod::XdpNative);
    ping(&bench, "a", "10.77.2.2", "");
    // A running router has few rights, and may have to do with less memory.
    forwarder.ask(|_, _, _| crate::drop_capabilities(crate::Capability::FOR_PORTS).unwrap());
    bench.output("r", "ip link del right");
    forwarder.wait_for("down", |ports| !ports.is_up(RIGHT));
    assert_eq!(methods(&forwarder)[1], None);
    bench.join("b", "right", 2);
    forwarder.wait_for("up", |ports| ports.is_up(RIGHT));
    assert_eq!(methods(&forwarder)[1], Some(IoMethod::XdpNative));
    ping(&bench, "a", "10.77.2.2", "");
    // Another link address, and another MTU, are followed.
    bench.output("r", "sysctl -qw net.ipv4.conf.left.arp_notify=1");
    let before = figures(&forwarder);
    bench.output("r", "ip link set left address 02:00:00:00:77:09");
    bench.output("r", "ip link set left mtu 1400");
    forwarder.wait_for("changed", |ports| ports.mtu(LEFT) == Some(1400));
    ping(&bench, "a", "10.77.2.2", "");
    let after = figures(&forwarder);
    assert!(after[0].rx_packets >= before[0].rx_packets + 5, "{after:?}");
}

#[test]
fn a_device_that_hides_tags_stays_with_packet_sockets_and_so_does_auto() {
    let Some(bench) = Bench::raise() else { return };
    bench.output("r", "ethtool -K left rxvlan on");
    let mut specs = specs();
    specs[1].io = IoChoice::Auto;
    let forwarder = bench.forwarder_with(specs, Box::new(across));
    assert_eq!(methods(&forwarder), [Some(IoMethod::Packet); 2]);
    ping(&bench, "a", "10.77.2.2", "");
    assert!(!bench.output("r", "ip link").contains("xdp"), "nothing stays of what was tried");
}

#[test]
fn frames_that_come_while_the_router_is_busy_are_counted() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = forwarder(&bench, IoMethod::XdpNative);
    ping(&bench, "a", "10.77.2.2", "");
    let namespace = bench.namespace("a");
    let sent = forwarder.ask(move |_, _, _| {
        // The worker does nothing else meanwhile.
        let sender = std::thread::spawn(move || {
            crate::sys::enter_namespace(&namespace).unwrap();
            let socket = std::net::UdpSocket::bind("10.77.1.2:0").unwrap();
            (0..20_000).filter(|_| socket.send_to(&[7; 18], "10.77.2.2:9").is_ok()).count()
        });
        sender.join().unwrap() as u64
    });
    let seen = |port: &PortStatistics| port.rx_packets + port.rx_overruns;
    forwarder.wait_for("all are seen", move |ports| seen(&ports.status()[0].statistics) >= sent);
    let left = &figures(&forwarder)[0];
    assert!(left.rx_overruns > 0, "{left:?}");
    ping(&bench, "a", "10.77.2.2", "");
}

#[test]
fn tagged_and_untagged_interfaces_share_a_device() {
    let tags = [None, Some(20)];
    let Some(bench) = vlans::raise(tags) else { return };
    let router = bench.namespace("r");
    ip(&format!("-n {router} addr add 10.77.1.1/24 dev {TRUNK}"));
    ip(&format!("-n {router} addr add 2001:db8:77:1::1/64 dev {TRUNK} nodad"));
    bench.output("r", &format!("ethtool -K {TRUNK} rxvlan off"));
    bench.output("s", "ethtool -K to-r txvlan off");
    let specs = vlans::specs(tags).into_iter().map(|spec| PortSpec { io: IoChoice::Xdp, ..spec });
    let forwarder = bench.forwarder_with(specs.collect(), Box::new(across));
    assert_eq!(methods(&forwarder), [Some(IoMethod::XdpNative), Some(IoMethod::Packet)]);
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "b", "2001:db8:77:1::2", "");
    ping(&bench, "b", "10.77.2.1", "");
}
