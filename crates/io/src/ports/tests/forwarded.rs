//! Flows that the program for XDP forwards, with real packets.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fairway_types::{
    Egress, InterfaceId, Look, OffloadFlow, OffloadId, OffloadRefusal, Protocol, Time, Tuple,
};

use super::bench::{Bench, Forwarder, LEFT, RIGHT, SESSIONS, across};
use super::ping;
use super::xdp::only_before_the_stack;
use crate::netlink::{Change, Watch, sends_frames};
use crate::sys::tun::Device;
use crate::{IoChoice, PortSpec, Ports};

const NAME: OffloadId = OffloadId(1);

/// The interfaces of the bench, left and right by what is said.
fn specs(io: [IoChoice; 2]) -> Vec<PortSpec> {
    Bench::specs().into_iter().zip(io).map(|(spec, io)| PortSpec { io, ..spec }).collect()
}

/// A forwarder of the bench that can leave flows to the kernel, with next hops that are known. Hosts poll, so
/// that they hear what XDP sends.
fn forwarder(bench: &Bench, io: [IoChoice; 2]) -> Forwarder {
    for name in ["a", "b"] {
        bench.output(name, "ethtool -K eth0 gro on");
    }
    let open = move || Ports::open_with(&specs(io), &[], (1, 0), Some(SESSIONS)).unwrap().remove(0);
    let forwarder = bench.forwarder_of(open, Box::new(across));
    ping(bench, "a", "10.77.2.2", "");
    ping(bench, "a", "2001:db8:77:2::2", "");
    forwarder
}

fn tuple(from: &str, to: &str) -> Tuple {
    Tuple { source: from.parse().unwrap(), destination: to.parse().unwrap(), protocol: Protocol::UDP }
}

/// Both directions of what the two hosts say to each other; packets leave as they came.
fn flows(forth: Tuple) -> [OffloadFlow; 2] {
    let flow = |interface, tuple: Tuple, egress: InterfaceId| OffloadFlow {
        interface,
        arrives: tuple,
        leaves: tuple,
        egress: Egress { interface: egress, next_hop: tuple.destination.ip() },
        mtu: 1500,
        look: Look::Everywhere,
        awaits: false,
        fresh: false,
    };
    [flow(LEFT, forth, RIGHT), flow(RIGHT, forth.reversed(), LEFT)]
}

/// Packets of each direction that the kernel has forwarded.
fn forwarded(forwarder: &Forwarder) -> [u64; 2] {
    let report = forwarder.ask(|ports, _, now| ports.offload_report(now.mono, NAME));
    report.expect("the kernel is at it").map(|flow| flow.packets)
}

#[test]
fn datagrams_cross_by_xdp_both_ways_whatever_their_length() {
    for (from, to) in
        [("10.77.1.2:40000", "10.77.2.2:9000"), ("[2001:db8:77:1::2]:40000", "[2001:db8:77:2::2]:9000")]
    {
        let Some(bench) = Bench::raise() else { return };
        let forwarder = forwarder(&bench, [IoChoice::Xdp; 2]);
        let forth = tuple(from, to);
        let answer = forwarder.ask(move |ports, _, now| ports.offload(now.mono, NAME, &flows(forth)));
        assert_eq!(answer, Ok(()));
        let b = bench.inside("b", move || UdpSocket::bind(forth.destination).unwrap());
        let a = bench.inside("a", move || UdpSocket::bind(forth.source).unwrap());
        for socket in [&a, &b] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        forwarder.wait_for("the kernel's", |ports| !ports.has_pending_offloads());
        for length in (0..1400).step_by(7) {
            let sent: Vec<u8> = (0..length).map(|byte| byte as u8 ^ 0x55).collect();
            for (one, other, to) in [(&a, &b, forth.destination), (&b, &a, forth.source)] {
                one.send_to(&sent, to).unwrap();
                let mut received = [0; 2000];
                let (count, _) = other.recv_from(&mut received).unwrap();
                assert_eq!(received[..count], sent);
            }
        }
        assert_eq!(forwarded(&forwarder), [200, 200], "{from}");
    }
}

fn forth() -> Tuple {
    tuple("10.77.1.2:40000", "10.77.2.2:9000")
}

fn offload(forwarder: &Forwarder) -> Result<(), OffloadRefusal> {
    forwarder.ask(|ports, _, now| ports.offload(now.mono, NAME, &flows(forth())))
}

#[test]
fn a_device_that_takes_no_frames_is_no_way_out_and_is_noticed() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = forwarder(&bench, [IoChoice::Xdp; 2]);
    let names = Arc::new(AtomicU64::new(100));
    for (state, wanted) in [("off", Err(OffloadRefusal::Egress)), ("on", Ok(()))] {
        bench.output("b", &format!("ethtool -K eth0 gro {state}"));
        let names = Arc::clone(&names);
        forwarder.wait_for("noticed", move |ports| {
            let name = OffloadId(names.fetch_add(1, Ordering::Relaxed));
            let answer = ports.offload(Time::ZERO, name, &flows(forth()));
            ports.end_offload(Time::ZERO, name);
            answer == wanted
        });
        ping(&bench, "a", "10.77.2.2", "");
    }
    assert_eq!(offload(&forwarder), Ok(()));
    // What is at work ends.
    bench.output("b", "ethtool -K eth0 gro off");
    forwarder.wait_for("ended", |ports| ports.poll_offload_ended().is_some_and(|(name, _)| name == NAME));
    ping(&bench, "a", "10.77.2.2", "");
}

#[test]
fn what_leaves_by_a_next_hop_that_is_another_one_follows_it() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = forwarder(&bench, [IoChoice::Packet; 2]);
    // More than follow at once.
    const BY_IT: u16 = 2500;
    const OTHERS: u16 = 10;
    let moves = |link: &str| {
        bench.output("r", &format!("ip neigh replace 10.77.2.2 lladdr {link} dev right nud permanent"));
    };
    moves("02:00:00:00:00:02");
    bench.output("r", "ip neigh replace 10.77.2.3 lladdr 02:00:00:00:00:03 dev right nud permanent");
    let begin = move |ports: &mut Ports, number: u16| {
        let to = if number < BY_IT { "10.77.2.2:9000" } else { "10.77.2.3:9000" };
        let mut forth = tuple("10.77.1.2:40000", to);
        forth.source.set_port(10_000 + number);
        ports.offload(Time::ZERO, OffloadId(number.into()), &flows(forth)).is_ok()
    };
    for number in [0, BY_IT] {
        forwarder.wait_for("the next hop is known", move |ports| begin(ports, number));
    }
    let rest = (1..BY_IT).chain(BY_IT + 1..BY_IT + OTHERS);
    assert!(forwarder.ask(move |ports, _, _| rest.into_iter().all(|number| begin(ports, number))));
    // What is said again changes nothing.
    moves("02:00:00:00:00:02");
    forwarder.wait_for("heard", |_| true);
    assert_eq!(forwarder.ask(|ports, _, _| ports.offloaded()), usize::from(BY_IT + OTHERS));
    let all_by = |link: [u8; 6]| {
        forwarder.wait_for("all follow", move |ports| {
            let by = |id: u64| ports.offload_ways(OffloadId(id)).unwrap()[0].link.0;
            (0..u64::from(BY_IT)).all(|id| by(id) == link) && by(BY_IT.into()) == [2, 0, 0, 0, 0, 3]
        });
    };
    moves("02:00:00:00:00:22");
    all_by([2, 0, 0, 0, 0, 0x22]);
    // Packets arrive where they should.
    let at_b = bench.output("b", "cat /sys/class/net/eth0/address");
    moves(at_b.trim());
    let bytes = at_b.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    all_by(bytes.collect::<Vec<_>>().try_into().unwrap());
    let b = bench.inside("b", || UdpSocket::bind("10.77.2.2:9000").unwrap());
    let a = bench.inside("a", || UdpSocket::bind("10.77.1.2:10007").unwrap());
    b.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    forwarder.wait_for("the kernel's", |ports| !ports.has_pending_offloads());
    a.send_to(&[0; 100], "10.77.2.2:9000").unwrap();
    assert_eq!(b.recv(&mut [0; 200]).unwrap(), 100);
    let carried = forwarder.ask(|ports, _, now| ports.offload_report(now.mono, OffloadId(7)).unwrap());
    assert_eq!(carried[0].packets, 1);
    // One that does not answer ends what leaves by it, and nothing else.
    bench.output("b", "ip address del 10.77.2.2/24 dev eth0");
    bench.output("r", "ip neigh del 10.77.2.2 dev right");
    forwarder.wait_for("taken back", |ports| ports.offloaded() == usize::from(OTHERS));
    let ended = forwarder.ask(|ports, _, _| {
        let ended = std::iter::from_fn(|| ports.poll_offload_ended()).map(|(id, _)| id.0);
        ended.collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(ended, (0..u64::from(BY_IT)).collect());
    assert!(forwarder.ask(move |ports, _, _| begin(ports, BY_IT + OTHERS)));
}

#[test]
fn the_kernel_says_at_once_that_a_device_takes_no_frames_any_more() {
    let Some(bench) = Bench::raise() else { return };
    let (mut watch, index) =
        bench.inside("r", || (Watch::open().unwrap(), Device::index_of("right").unwrap()));
    for state in ["on", "off", "on", "off"] {
        bench.output("b", &format!("ethtool -K eth0 gro {state}"));
        let mut told = false;
        watch.update(&mut |change| told |= change == Change::Abilities).unwrap();
        assert!(told, "{state}");
        assert_eq!(bench.inside("r", move || sends_frames(index)).unwrap(), state == "on");
    }
}

#[test]
fn an_interface_before_the_network_stack_is_no_way_in() {
    let Some(bench) = Bench::raise() else { return };
    only_before_the_stack(&bench);
    for (io, wanted) in [
        ([IoChoice::Xdp, IoChoice::Packet], Err(OffloadRefusal::Interface)),
        ([IoChoice::Packet, IoChoice::Packet], Ok(())),
    ] {
        for name in ["a", "b"] {
            bench.output(name, "ethtool -K eth0 gro off");
        }
        let forwarder = forwarder(&bench, io);
        assert_eq!(offload(&forwarder), wanted, "{io:?}");
    }
}

/// How many datagrams may be on their way: less than anything has room for.
const WINDOW: u64 = 100;

/// Sends numbered datagrams both ways, as fast as they arrive, while `meanwhile` runs; all of them must
/// arrive, in order.
fn in_order(bench: &Bench, meanwhile: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let ends = [("a", "b", forth()), ("b", "a", forth().reversed())].map(|(from, to, tuple)| {
        let receiver = bench.inside(to, move || UdpSocket::bind(tuple.destination).unwrap());
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (from, tuple, receiver)
    });
    let [first, second] = ends;
    let senders = [second.2.try_clone().unwrap(), first.2.try_clone().unwrap()];
    let threads = [first, second].into_iter().zip(senders).map(|((_, tuple, receiver), sender)| {
        let (stop, arrived) = (Arc::clone(&stop), Arc::new(AtomicU64::new(0)));
        let seen = Arc::clone(&arrived);
        let receive = std::thread::spawn(move || {
            let (mut wanted, mut buffer) = (0u64, [0; 2000]);
            loop {
                let (length, _) = receiver.recv_from(&mut buffer).expect("what was sent arrives");
                assert_eq!(u64::from_be_bytes(*buffer.first_chunk().unwrap()), wanted, "of {tuple}");
                if length == 8 {
                    return wanted;
                }
                wanted += 1;
                arrived.store(wanted, Ordering::Relaxed);
            }
        });
        let send = std::thread::spawn(move || {
            let mut number = 0u64;
            let payload = |number: u64, length: usize| {
                let mut payload = number.to_be_bytes().to_vec();
                payload.resize(length, 7);
                payload
            };
            while !stop.load(Ordering::Relaxed) && number < 4_000_000 {
                if number - seen.load(Ordering::Relaxed) >= WINDOW {
                    std::thread::sleep(Duration::from_micros(50));
                    continue;
                }
                sender.send_to(&payload(number, 100), tuple.destination).unwrap();
                number += 1;
            }
            sender.send_to(&payload(number, 8), tuple.destination).unwrap();
            number
        });
        (receive, send)
    });
    let threads: Vec<_> = threads.collect();
    meanwhile();
    stop.store(true, Ordering::Relaxed);
    for (receive, send) in threads {
        let sent = send.join().unwrap();
        assert_eq!(receive.join().unwrap(), sent);
        assert!(sent > 1000, "{sent}");
    }
}

#[test]
fn a_flow_that_goes_to_and_fro_loses_and_turns_around_nothing() {
    use IoChoice::{Packet, Xdp};
    for io in [[Xdp, Xdp], [Xdp, Packet], [Packet, Xdp], [Packet, Packet]] {
        let Some(bench) = Bench::raise() else { return };
        // Linux itself turns around what two processors send to one veth: all threads made from here on are
        // on one. The end-to-end test of the same (`kernel`) is not.
        crate::sys::stay_on_this_cpu().unwrap();
        let forwarder = forwarder(&bench, io);
        let mut carried = [0, 0];
        in_order(&bench, || {
            for _ in 0..60 {
                assert_eq!(offload(&forwarder), Ok(()), "{io:?}");
                std::thread::sleep(Duration::from_millis(15));
                let report = forwarder.ask(|ports, _, now| ports.end_offload(now.mono, NAME)).unwrap();
                for (carried, flow) in carried.iter_mut().zip(report) {
                    *carried += flow.packets;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let lost: u64 =
            forwarder.ask(|ports, _, _| ports.status().iter().map(|port| port.statistics.rx_overruns).sum());
        assert_eq!(lost, 0, "{io:?}");
        assert!(carried.iter().all(|&carried| carried > 1000), "{io:?}: {carried:?}");
    }
}

#[test]
fn another_configuration_with_the_same_interfaces_leaves_sessions_in_the_kernel() {
    for io in [IoChoice::Packet, IoChoice::Xdp] {
        let Some(bench) = Bench::raise() else { return };
        let forwarder = forwarder(&bench, [io; 2]);
        assert_eq!(offload(&forwarder), Ok(()));
        let b = bench.inside("b", || UdpSocket::bind(forth().destination).unwrap());
        let a = bench.inside("a", || UdpSocket::bind(forth().source).unwrap());
        b.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let one_more = || {
            a.send_to(&[0; 100], forth().destination).unwrap();
            assert_eq!(b.recv(&mut [0; 200]).unwrap(), 100);
        };
        forwarder.wait_for("the kernel's", |ports| !ports.has_pending_offloads());
        let apply = |specs: Vec<PortSpec>| {
            forwarder.ask(move |ports, _, _| ports.apply(&specs, &[]).unwrap());
            // What has changed is found out in the next round.
            forwarder.wait_for("looked at", |_| true);
            forwarder.wait_for("looked at", |_| true);
            forwarder.ask(|ports, _, _| ports.offloaded())
        };
        for round in 1..=5 {
            let mut specs = specs([io; 2]);
            if round % 2 == 0 {
                specs.push(PortSpec::ethernet(InterfaceId(30), "spare", "spare"));
            }
            assert_eq!(apply(specs), 1, "{round}");
            one_more();
        }
        // The two change places.
        let mut others = specs([io; 2]);
        (others[0].id, others[1].id) = (RIGHT, LEFT);
        assert_eq!(apply(others), 0);
    }
}
