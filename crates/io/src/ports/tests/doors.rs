//! Doors, by which packets come to workers: what others do to them, and where there are none.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairway_types::{Gso, GsoKind};

use super::bench::{Bench, Engine, Forwarder, LEFT, RIGHT, SESSIONS, across, doors as wanted, ip};
use super::ping;
use crate::sys::bpf::WITHOUT_TCX;
use crate::{Direction, IoChoice, PortSpec, Ports};

/// The doors of the router of the bench, as the kernel lists them.
fn doors(bench: &Bench) -> Vec<String> {
    let shown = bench.output("r", "ip -brief link show type tun");
    shown.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// A bench, if tests are to use doors.
fn raise() -> Option<Bench> {
    wanted().then(Bench::raise).flatten()
}

/// Pings once, and says whether it was answered.
fn answered(bench: &Bench) -> bool {
    bench.exec("a", "ping -n -c 1 -W 1 10.77.2.2").status.success()
}

#[test]
fn each_worker_has_a_door_and_takes_it_away_when_it_ends() {
    let Some(bench) = raise() else { return };
    for _ in 0..3 {
        // At once after the one before.
        let workers = bench.workers(Bench::specs(), vec![Box::new(across), Box::new(across)]);
        assert_eq!(doors(&bench), ["fairway-0", "fairway-1"]);
        ping(&bench, "a", "10.77.2.2", "");
        drop(workers);
        bench.wait_for("no door is left", || doors(&bench).is_empty());
        let guarded = bench.forwarder();
        assert_eq!(doors(&bench), ["fairway-0"]);
        drop(guarded);
    }
}

#[test]
fn a_door_that_somebody_deletes_or_sets_down_is_made_again() {
    for count in [1, 2] {
        let Some(bench) = raise() else { return };
        let engines = (0..count).map(|_| -> Engine { Box::new(across) }).collect();
        let workers = bench.workers(Bench::specs(), engines);
        ping(&bench, "a", "10.77.2.2", "");
        let received = |worker: &Forwarder| worker.ask(|ports, _, _| ports.status()[0].statistics.rx_packets);
        let before: u64 = workers.iter().map(received).sum();
        let elsewhere = format!("link set netns {} dev", bench.namespace("a"));
        for done in ["link del", "link set down dev", "link del", &elsewhere] {
            for door in doors(&bench) {
                bench.output("r", &format!("ip {done} {door}"));
            }
            bench.wait_for("packets come again", || answered(&bench));
            ping(&bench, "a", "10.77.2.2", "");
            ping(&bench, "a", "2001:db8:77:2::2", "");
            assert_eq!(doors(&bench).len(), usize::from(count as u8), "{done}");
        }
        let after: u64 = workers.iter().map(received).sum();
        // Of four rounds, ten pings each way were to be answered.
        assert!(after >= before + 4 * 11, "what was counted before stays: {before}, {after}");
    }
}

#[test]
fn the_host_itself_says_nothing_at_a_door() {
    let Some(bench) = raise() else { return };
    let forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "");
    // Reports of groups come within a second or two where they come.
    let seen = Instant::now() + Duration::from_secs(3);
    bench.wait_for("some seconds", || Instant::now() > seen);
    let statistics = forwarder.ask(|ports, _, _| ports.status().remove(0).statistics);
    assert_eq!((statistics.rx_packets, statistics.rx_unusable), (5, 0));
}

#[test]
fn where_a_door_cannot_be_made_packets_come_by_sockets_on_the_devices() {
    for (kind, made) in [("link", "type veth peer name other"), ("tuntap", "mode tap")] {
        let Some(bench) = raise() else { return };
        // Somebody else's, who keeps it.
        ip(&format!("-n {} {kind} add fairway-1 {made}", bench.namespace("r")));
        let workers = bench.workers(Bench::specs(), vec![Box::new(across), Box::new(across)]);
        ping(&bench, "a", "10.77.2.2", "");
        ping(&bench, "a", "2001:db8:77:2::2", "");
        assert!(workers.iter().all(|worker| !worker.ask(|ports, _, _| ports.can_offload())));
        drop(workers);
        bench.output("r", "ip link show fairway-1");
        assert!(!bench.exec("r", "ip link show fairway-0").status.success());
    }
}

/// The interfaces of the bench, which never use AF_XDP.
fn specs() -> Vec<PortSpec> {
    Bench::specs().into_iter().map(|spec| PortSpec { io: IoChoice::Packet, ..spec }).collect()
}

#[test]
fn what_finds_no_room_is_counted_where_it_came_in() {
    const FLOOD: u64 = 40_000;
    const FEW: u64 = 20;
    let Some(bench) = raise() else { return };
    let forwarder = bench.forwarder_with(specs(), Box::new(across));
    ping(&bench, "a", "10.77.2.2", "");
    let sockets = ["a", "b"].map(|host| bench.inside(host, || UdpSocket::bind("0.0.0.0:0").unwrap()));
    let counted = |ports: &mut Ports| {
        let statistics = ports.status().into_iter().map(|port| port.statistics);
        statistics.map(|of| (of.rx_packets, of.rx_overruns)).collect::<Vec<_>>()
    };
    let before = forwarder.ask(move |ports, _, _| counted(ports));
    // It does not receive while these send.
    forwarder.ask(move |_, _, _| {
        let [a, b] = sockets;
        let few = || (0..FEW).for_each(|_| drop(b.send_to(b"x", "10.77.1.2:9")));
        few();
        (0..FLOOD).for_each(|_| drop(a.send_to(b"x", "10.77.2.2:9")));
        few();
    });
    forwarder.wait_for("every packet is counted", {
        let before = before.clone();
        move |ports| {
            let now = counted(ports);
            // Nobody listens at port 9, and as many answers as the kernel thinks fit come in beside.
            now[0].0 - before[0].0 + now[0].1 >= FLOOD && now[1].0 - before[1].0 + now[1].1 >= 2 * FEW
        }
    });
    let now = forwarder.ask(move |ports, _, _| counted(ports));
    assert_eq!(now[1].1, FEW, "the first came in before the flood, the last had no room: {now:?}");
    let flood = now[0].0 - before[0].0 + now[0].1;
    assert!(now[0].1 > FLOOD / 2 && flood < FLOOD + FEW, "{now:?}");
}

#[test]
fn a_capture_shows_frames_as_they_came() {
    let Some(bench) = raise() else { return };
    let forwarder = bench.forwarder();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&seen);
    forwarder.ask(move |ports, _, _| {
        ports.set_capture(Some(Box::new(move |record| {
            if record.direction == Direction::Inbound {
                hook.lock().unwrap().push((record.interface, record.link_header.to_vec()));
            }
        })));
    });
    ping(&bench, "a", "10.77.2.2", "");
    forwarder.ask(|ports, _, _| ports.set_capture(None));
    let address = |host: &str, device: &str| {
        let text = bench.output(host, &format!("cat /sys/class/net/{device}/address"));
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>()
    };
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 10);
    for (interface, host, device) in [(LEFT, "a", "left"), (RIGHT, "b", "right")] {
        let wanted = [address("r", device), address(host, "eth0"), vec![8, 0]].concat();
        let headers: Vec<_> =
            seen.iter().filter(|(at, _)| *at == interface).map(|(_, header)| header).collect();
        assert_eq!(headers, [&wanted; 5]);
    }
}

/// Sends datagrams of 1000 bytes as one.
const SUPER: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, 1000)
s.sendto(bytes(range(250)) * 160, ('10.77.2.2', 9000))
";

#[test]
fn datagrams_that_were_sent_as_one_come_and_go_as_one() {
    let Some(bench) = raise() else { return };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&seen);
    let forwarder = bench.forwarder_with(
        specs(),
        Box::new(move |slot| {
            if slot.packet.bytes()[0] == 0x45 && slot.packet.bytes()[9] == 17 {
                book.lock().unwrap().push((slot.packet.len(), slot.gso));
            }
            across(slot);
        }),
    );
    ping(&bench, "a", "10.77.2.2", "");
    let receiver = bench.inside("b", || UdpSocket::bind("10.77.2.2:9000").unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let script = std::env::temp_dir().join(format!("{}.py", bench.namespace("super")));
    std::fs::write(&script, SUPER).unwrap();
    bench.output("a", &format!("python3 {}", script.display()));
    std::fs::remove_file(&script).unwrap();
    let wanted: Vec<u8> = (0..250).cycle().take(1000).collect();
    for _ in 0..40 {
        let mut datagram = [0; 2000];
        let length = receiver.recv(&mut datagram).unwrap();
        assert_eq!(datagram[..length], wanted);
    }
    drop(forwarder);
    let gso = Some(Gso { kind: GsoKind::Udp, size: 1000, ecn: false });
    assert_eq!(*seen.lock().unwrap(), [(28 + 40_000, gso)]);
}

#[test]
fn doors_work_with_the_filter_for_older_kernels() {
    for count in [1, 2] {
        let Some(bench) = raise() else { return };
        let open = move || {
            WITHOUT_TCX.set(true);
            let mut all = Ports::open_with(&specs(), &[], (count, 1000), Some(SESSIONS)).unwrap();
            assert!(all.iter().all(Ports::can_offload));
            all.truncate(1);
            all.remove(0)
        };
        let forwarder = bench.forwarder_of(open, Box::new(across));
        let shown = bench.output("r", "tc filter show dev left ingress");
        assert!(shown.contains("handle 0x1 fairway"), "{shown}");
        if count == 1 {
            ping(&bench, "a", "10.77.2.2", "-s 4000");
            ping(&bench, "a", "2001:db8:77:2::2", "");
            let received = forwarder.ask(|ports, _, _| ports.status()[0].statistics.rx_packets);
            assert_eq!(received, 5 * 3 + 5);
        }
        ping(&bench, "a", "10.77.1.1", "");
        drop(forwarder);
        assert_eq!(bench.output("r", "tc filter show dev left ingress").trim(), "");
    }
}
