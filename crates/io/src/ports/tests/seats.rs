//! The packet sockets of workers where there are no doors: which of a group gets which frame.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairway_types::steering::WorkerId;
use fairway_types::{Batch, Protocol, Tuple};

use super::bench::{Bench, LEFT, ip};
use super::workers::{Arrival, FLOWS, assert_steered, send};
use crate::classifier::asm::{Assembler, Reg};
use crate::steering::{Exceptions, Steering, tuple_of, worker_of};
use crate::sys::bpf::{Program, ProgramKind};
use crate::sys::packet::{self, BATCH, HEADER, Outgoing, OutgoingHeader, Socket};

/// The datagrams that wait in a socket, from their IP header on.
fn datagrams(socket: &Socket) -> Vec<Vec<u8>> {
    let mut batch = Batch::new(BATCH, 1, 2048);
    let mut found = Vec::new();
    loop {
        batch.clear();
        while batch.receive().is_some() {}
        let (mut headers, mut arrivals) = ([[0; HEADER]; BATCH], [packet::Arrival::default(); BATCH]);
        let Ok(count) = socket.receive(batch.received_mut(), &mut headers, &mut arrivals) else {
            return found;
        };
        for (slot, arrival) in batch.received_mut().iter_mut().zip(&arrivals).take(count) {
            slot.packet.set_len(arrival.length - HEADER);
            let packet = slot.packet.bytes();
            if tuple_of(packet).is_some_and(|tuple| tuple.protocol == Protocol::UDP) {
                found.push(packet.to_vec());
            }
        }
    }
}

/// What [`FLOWS`] left in the sockets of a group, once all of it is there.
fn arrivals(group: &[Socket]) -> Vec<Arrival> {
    let (mut arrivals, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(5));
    while arrivals.len() < FLOWS.len() {
        assert!(Instant::now() < deadline, "{} of {FLOWS:?}", arrivals.len());
        for (worker, socket) in (0..).map(WorkerId).zip(group) {
            let one = |packet| Arrival { worker, interface: LEFT, packet };
            arrivals.extend(datagrams(socket).into_iter().map(one));
        }
    }
    arrivals
}

/// Sends datagrams in frames with tags of a kind from host A, one from each of the ports.
fn send_tagged(bench: &Bench, kind: u16, ports: std::ops::Range<u16>) {
    let index = bench.output("a", "cat /sys/class/net/eth0/ifindex").trim().parse().unwrap();
    let text = bench.output("r", "cat /sys/class/net/left/address");
    let link: Vec<u8> = text.trim().split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    bench.inside("a", move || {
        let socket = Socket::open(index, accept_all().fd(), false).unwrap();
        let mut header = [0; HEADER];
        header[HEADER - 14..HEADER - 8].copy_from_slice(&link);
        header[HEADER - 2..].copy_from_slice(&kind.to_be_bytes());
        for port in ports {
            let mut packet = vec![0, 30, 0x08, 0];
            packet.extend([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 30, 2, 10, 77, 30, 1]);
            packet.extend(
                [port.to_be_bytes(), [0, 9], [0, 16], [0, 0], [0; 2], [0; 2], [0; 2], [0; 2]].concat(),
            );
            assert_eq!(
                socket
                    .send(&[Outgoing { header: OutgoingHeader::new(&[&header]), packet: &packet }])
                    .unwrap(),
                1
            );
        }
    });
}

fn accept_all() -> Program {
    let mut all = Assembler::default();
    all.move32(Reg::R0, -1);
    all.exit();
    Program::load(ProgramKind::SocketFilter, "all", &all.finish().unwrap()).unwrap()
}

/// The classifier leaves tags to the kernel's VLAN devices, so this looks at the sockets themselves.
#[test]
fn tagged_frames_are_steered_by_the_packet_inside() {
    let Some(bench) = Bench::raise() else { return };
    let index = bench.output("r", "cat /sys/class/net/left/ifindex").trim().parse().unwrap();
    let placed = Tuple {
        source: "10.77.30.2:40000".parse().unwrap(),
        destination: "10.77.30.1:9".parse().unwrap(),
        protocol: Protocol::UDP,
    };
    let elsewhere = WorkerId((worker_of(&placed, 3).0 + 1) % 3);
    let sockets = bench.inside("r", move || {
        let exceptions = Arc::new(Exceptions::new(3, 100).unwrap());
        let steering = Steering::new(Some(exceptions.clone()));
        steering.follow(std::iter::once((LEFT, Some(7))));
        steering.place(LEFT, &placed, elsewhere).unwrap();
        let program = exceptions.program(7, false).unwrap();
        Socket::open_group(index, accept_all().fd(), program.fd(), 3, false).unwrap()
    });
    for kind in [0x8100, 0x88a8] {
        sockets.iter().for_each(|socket| drop(datagrams(socket)));
        send_tagged(&bench, kind, FLOWS);
        assert_steered(&arrivals(&sockets), 3, &HashMap::from([((LEFT, placed), elsewhere)]));
    }
}

/// A device that comes up while its group is made: the kernel numbers those that wait for it after those that
/// found it up, unless all of them did the same.
#[test]
fn seats_are_in_order_whenever_the_device_comes_up() {
    let Some(bench) = Bench::raise() else { return };
    const WORKERS: u8 = 3;
    const ROUNDS: u32 = 12;
    let index = bench.output("r", "cat /sys/class/net/left/ifindex").trim().parse().unwrap();
    let link = bench.output("r", "cat /sys/class/net/left/address");
    bench.output("a", &format!("ip neigh replace 10.77.1.1 lladdr {} dev eth0 nud permanent", link.trim()));
    for _ in 0..ROUNDS {
        bench.output("r", "ip link set left down");
        let namespace = bench.namespace("r");
        let groups = bench.inside("r", move || {
            let exceptions = Exceptions::new(WORKERS, 100).unwrap();
            let program = exceptions.program(7, false).unwrap();
            let all = accept_all();
            // Before Linux 6.13 there are no groups of a device that is down.
            let open = || Socket::open_group(index, all.fd(), program.fd(), WORKERS, false);
            let mut groups = Vec::from_iter(open());
            let rising = std::thread::spawn(move || ip(&format!("-n {namespace} link set left up")));
            while !rising.is_finished() && groups.len() < 200 {
                groups.extend(open());
            }
            rising.join().unwrap();
            groups.extend(open());
            assert!(!groups.is_empty());
            groups
        });
        bench.wait_for("the link is up", || {
            bench.output("a", "ip -brief link show dev eth0").contains(" UP ")
        });
        groups.iter().flatten().for_each(|socket| drop(datagrams(socket)));
        send(&bench, "10.77.1.1:9", FLOWS);
        for group in &groups {
            assert_steered(&arrivals(group), WORKERS, &HashMap::new());
        }
        // Closing one takes the kernel long, closing many together as long as one.
        let closing: Vec<_> = groups.into_iter().map(|group| std::thread::spawn(|| drop(group))).collect();
        closing.into_iter().for_each(|closing| closing.join().unwrap());
    }
}
