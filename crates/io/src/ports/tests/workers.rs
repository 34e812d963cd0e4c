//! Several workers at the same devices: who gets which packet, also after devices changed.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairway_types::steering::WorkerId;
use fairway_types::{DropReason, InterfaceId, Protocol, Tuple, Verdict};

use super::bench::{Bench, Engine, Forwarder, LEFT, RIGHT, across, ip};
use super::{ping, vlans};
use crate::PortSpec;
use crate::steering::{tuple_of, worker_of};

/// A packet, and who received it where.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) worker: WorkerId,
    pub(super) interface: InterfaceId,
    pub(super) packet: Vec<u8>,
}

/// What all workers have received.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<Arrival>>>);

impl Book {
    /// Engines that write down what they get, and forward it.
    fn engines(&self, count: u8) -> Vec<Engine> {
        let engine = |number| -> Engine {
            let book = self.clone();
            Box::new(move |slot| {
                let (worker, interface) = (WorkerId(number), slot.interface);
                let packet = slot.packet.bytes().to_vec();
                book.0.lock().unwrap().push(Arrival { worker, interface, packet });
                across(slot);
            })
        };
        (0..count).map(engine).collect()
    }

    /// Takes out what `wanted` accepts, once there is as much as that.
    fn take(&self, count: usize, wanted: impl Fn(&Arrival) -> bool) -> Vec<Arrival> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut all = self.0.lock().unwrap();
            if all.iter().filter(|arrival| wanted(arrival)).count() >= count {
                return std::mem::take(&mut *all).into_iter().filter(wanted).collect();
            }
            assert!(Instant::now() < deadline, "{count} wanted: {all:?}");
            drop(all);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Arrival {
    fn tuple(&self) -> Tuple {
        tuple_of(&self.packet).unwrap()
    }

    fn is(&self, protocol: Protocol) -> bool {
        self.tuple().protocol == protocol
    }
}

/// Whether every arrival is where the reference says, `placed` apart; and all workers had some.
pub(super) fn assert_steered(
    arrivals: &[Arrival],
    workers: u8,
    placed: &HashMap<(InterfaceId, Tuple), WorkerId>,
) {
    let mut seen = HashSet::new();
    for arrival in arrivals {
        let tuple = arrival.tuple();
        let exception = placed.get(&(arrival.interface, tuple)).copied();
        let wanted = exception.unwrap_or_else(|| worker_of(&tuple, workers));
        assert_eq!(arrival.worker, wanted, "{tuple}");
        seen.insert(arrival.worker);
    }
    assert_eq!(seen.len(), usize::from(workers), "{seen:?}");
}

/// Sends datagrams from host A to host B, from each of the ports.
pub(super) fn send(bench: &Bench, to: &'static str, ports: std::ops::Range<u16>) {
    bench.inside("a", move || {
        let to: SocketAddr = to.parse().unwrap();
        for port in ports {
            let from: SocketAddr = match to {
                SocketAddr::V4(_) => ([0, 0, 0, 0], port).into(),
                SocketAddr::V6(_) => ([0u16; 8], port).into(),
            };
            // The port may have been refused before, which the socket is told of.
            let _ = UdpSocket::bind(from).unwrap().send_to(b"datagram", to).unwrap();
        }
    });
}

fn flow(port: u16) -> Tuple {
    Tuple {
        source: SocketAddr::new("10.77.1.2".parse().unwrap(), port),
        destination: "10.77.2.2:9".parse().unwrap(),
        protocol: Protocol::UDP,
    }
}

pub(super) const FLOWS: std::ops::Range<u16> = 40_000..40_060;

/// Sends the flows, and says where they arrived.
fn send_flows(bench: &Bench, book: &Book) -> Vec<Arrival> {
    // A first one, so that no packet waits for a neighbour while others pass.
    book.0.lock().unwrap().clear();
    send(bench, "10.77.2.2:9", FLOWS);
    book.take(FLOWS.len(), |arrival| arrival.interface == LEFT && arrival.is(Protocol::UDP))
}

/// Where two processors are about to send the first errors of a namespace, the kernel may take one of them for too
/// many: whoever fills the bucket takes note of the time before it does. So the first is sent alone.
fn hear_one_error(bench: &Bench, book: &Book, to: &'static str) {
    send(bench, to, FLOWS.end..FLOWS.end + 1);
    assert_eq!(book.take(2, |arrival| arrival.is(Protocol::UDP)).len(), 2);
}

#[test]
fn every_flow_comes_to_one_worker_with_its_answers_and_its_errors() {
    for count in [2, 3] {
        let Some(bench) = Bench::raise() else { return };
        let book = Book::default();
        let _workers = bench.workers(Bench::specs(), book.engines(count));
        // Nobody listens at port 9: every datagram is answered with an error.
        bench.output("b", "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
        bench.output("b", "sysctl -qw net.ipv4.icmp_msgs_per_sec=100000 net.ipv4.icmp_msgs_burst=10000");
        for to in ["10.77.2.2:9", "[2001:db8:77:2::2]:9"] {
            hear_one_error(&bench, &book, to);
            send(&bench, to, FLOWS);
            let arrivals = book.take(2 * FLOWS.len(), |arrival| arrival.is(Protocol::UDP));
            assert_steered(&arrivals, count, &HashMap::new());
            let errors = arrivals.iter().filter(|arrival| arrival.interface == RIGHT);
            assert_eq!(errors.count(), FLOWS.len());
            let mut owners = HashMap::new();
            for arrival in &arrivals {
                let tuple = arrival.tuple();
                let ends = tuple.source.port().max(tuple.destination.port());
                assert_eq!(*owners.entry(ends).or_insert(arrival.worker), arrival.worker, "{tuple}");
            }
        }
    }
}

#[test]
fn echoes_and_their_answers_meet_at_one_worker() {
    let Some(bench) = Bench::raise() else { return };
    let book = Book::default();
    let _workers = bench.workers(Bench::specs(), book.engines(2));
    for _ in 0..10 {
        ping(&bench, "a", "10.77.2.2", "");
        ping(&bench, "a", "2001:db8:77:2::2", "");
    }
    let arrivals = book.take(200, |arrival| arrival.is(Protocol::ICMP) || arrival.is(Protocol::ICMPV6));
    assert_steered(&arrivals, 2, &HashMap::new());
    let identifier = arrivals[0].tuple().source.port();
    let answer = arrivals.iter().find(|arrival| arrival.interface == RIGHT).unwrap();
    assert_eq!((answer.tuple().source.port(), answer.worker), (identifier, arrivals[0].worker));
}

#[test]
fn what_is_placed_goes_elsewhere_and_comes_back_when_forgotten() {
    let Some(bench) = Bench::raise() else { return };
    let book = Book::default();
    let workers = bench.workers(Bench::specs(), book.engines(2));
    let steering = workers[0].ask(|ports, _, _| ports.steering());
    let mut placed = HashMap::new();
    for port in FLOWS.step_by(2) {
        let tuple = flow(port);
        let elsewhere = WorkerId(1 - steering.unplaced(LEFT, &tuple).0);
        for (interface, tuple) in [(LEFT, tuple), (RIGHT, tuple.reversed())] {
            steering.place(interface, &tuple, elsewhere).unwrap();
            placed.insert((interface, tuple), elsewhere);
        }
    }
    bench.output("b", "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_burst=10000");
    hear_one_error(&bench, &book, "10.77.2.2:9");
    send(&bench, "10.77.2.2:9", FLOWS);
    let arrivals = book.take(2 * FLOWS.len(), |arrival| arrival.is(Protocol::UDP));
    assert_steered(&arrivals, 2, &placed);
    let moved = arrivals.iter().filter(|a| a.worker != worker_of(&a.tuple(), 2));
    assert_eq!(moved.count(), FLOWS.len(), "half of the datagrams, and the errors about them");
    assert_eq!(steering.statistics().placed, placed.len() as u64);
    for (interface, tuple) in placed.keys() {
        steering.forget(*interface, tuple).unwrap();
    }
    assert_steered(&send_flows(&bench, &book), 2, &HashMap::new());
    assert_eq!(steering.statistics().placed, 0);
}

#[test]
fn fragments_of_one_datagram_meet_at_one_worker() {
    let Some(bench) = Bench::raise() else { return };
    let book = Book::default();
    let _workers = bench.workers(Bench::specs(), book.engines(2));
    // Addresses of host A that differ fall to different workers.
    for last in 10..20 {
        bench.output("a", &format!("ip addr add 10.77.1.{last}/24 dev eth0"));
        ping(&bench, "a", "10.77.2.2", &format!("-s 8000 -I 10.77.1.{last}"));
    }
    let arrivals = book.take(10 * 5 * 2 * 6, |arrival| arrival.is(Protocol::ICMP));
    assert_steered(&arrivals, 2, &HashMap::new());
    assert!(arrivals.iter().all(|arrival| arrival.tuple().source.port() == 0));
}

fn wait_for_all(workers: &[Forwarder], what: &str, up: bool) {
    for worker in workers {
        worker.wait_for(what, move |ports| ports.is_up(LEFT) == up);
    }
}

#[test]
fn a_device_that_goes_and_returns_is_shared_as_before() {
    let Some(bench) = Bench::raise() else { return };
    let book = Book::default();
    let workers = bench.workers(Bench::specs(), book.engines(3));
    let steering = workers[1].ask(|ports, _, _| ports.steering());
    let elsewhere = WorkerId((steering.unplaced(LEFT, &flow(40_000)).0 + 1) % 3);
    steering.place(LEFT, &flow(40_000), elsewhere).unwrap();
    let placed = HashMap::from([((LEFT, flow(40_000)), elsewhere)]);
    assert_steered(&send_flows(&bench, &book), 3, &placed);
    for _ in 0..3 {
        bench.output("r", "ip link set left down");
        wait_for_all(&workers, "down", false);
        bench.output("r", "ip link set left up");
        wait_for_all(&workers, "up", true);
        assert_steered(&send_flows(&bench, &book), 3, &placed);
    }
    for _ in 0..3 {
        bench.output("r", "ip link del left");
        wait_for_all(&workers, "gone", false);
        bench.join("a", "left", 1);
        wait_for_all(&workers, "back", true);
        assert_steered(&send_flows(&bench, &book), 3, &placed);
    }
    // Back with the same number, perhaps before anybody noticed.
    for _ in 0..3 {
        let (r, b) = (bench.namespace("r"), bench.namespace("b"));
        ip(&format!("-n {r} link set left netns {b}"));
        ip(&format!("-n {b} link set left netns {r}"));
        ip(&format!("-n {r} addr add 10.77.1.1/24 dev left"));
        ip(&format!("-n {r} link set left up"));
        for worker in &workers {
            worker.wait_for("back", |ports| {
                ports.is_up(LEFT) && ports.addresses(LEFT).contains(&"10.77.1.1/24".parse().unwrap())
            });
        }
        assert_steered(&send_flows(&bench, &book), 3, &placed);
    }
}

#[test]
fn a_device_that_is_down_at_first_is_shared_when_it_comes_up() {
    let Some(bench) = Bench::raise() else { return };
    let book = Book::default();
    bench.output("r", "ip link set left down");
    let workers = bench.workers(Bench::specs(), book.engines(3));
    wait_for_all(&workers, "down", false);
    bench.output("r", "ip link set left up");
    wait_for_all(&workers, "up", true);
    assert_steered(&send_flows(&bench, &book), 3, &HashMap::new());
}

#[test]
fn a_reload_gives_every_worker_its_seats() {
    let Some(bench) = Bench::raise() else { return };
    ip(&format!("-n {} link add spare type veth peer name other", bench.namespace("r")));
    bench.output("r", "ip link set spare up");
    let book = Book::default();
    let workers = bench.workers(Bench::specs(), book.engines(2));
    let apply = |specs: &[PortSpec]| {
        for worker in &workers {
            let specs = specs.to_vec();
            worker.ask(move |ports, _, _| ports.apply(&specs, &[]).unwrap());
        }
    };
    let steering = workers[1].ask(|ports, _, _| ports.steering());
    let elsewhere = WorkerId(1 - steering.unplaced(LEFT, &flow(40_000)).0);
    steering.place(LEFT, &flow(40_000), elsewhere).unwrap();
    // Numbered anew, the device keeps what was placed.
    const OTHER: InterfaceId = InterfaceId(7);
    for round in 0..4 {
        let left = if round % 2 == 0 { OTHER } else { LEFT };
        let mut specs = Bench::specs();
        specs[0].id = left;
        specs.insert(0, PortSpec::ethernet(InterfaceId(30), "spare", "spare"));
        apply(&specs);
        book.0.lock().unwrap().clear();
        send(&bench, "10.77.2.2:9", FLOWS);
        let arrivals = book.take(FLOWS.len(), |a| a.interface == left && a.is(Protocol::UDP));
        assert_steered(&arrivals, 2, &HashMap::from([((left, flow(40_000)), elsewhere)]));
        apply(&Bench::specs()[1..]);
        apply(&Bench::specs());
        assert_steered(&send_flows(&bench, &book), 2, &HashMap::from([((LEFT, flow(40_000)), elsewhere)]));
    }
    // What the first worker refuses, none of the others is asked for.
    workers[0].ask(|ports, _, _| {
        let mut specs = Bench::specs();
        specs.push(PortSpec::ethernet(InterfaceId(1), "x", "lo"));
        ports.apply(&specs, &[]).unwrap_err();
    });
    assert_steered(&send_flows(&bench, &book), 2, &HashMap::from([((LEFT, flow(40_000)), elsewhere)]));
}

#[test]
fn every_worker_sends_into_the_tun_and_the_first_reads_it() {
    let Some(bench) = Bench::raise() else { return };
    const HOST: InterfaceId = InterfaceId(5);
    let book = Book::default();
    let mut specs = Bench::specs();
    let mut host = PortSpec::host(HOST, "host", "fabric", vec!["192.0.2.1/32".parse().unwrap()]);
    host.routes = vec!["198.51.100.0/24".parse().unwrap()];
    specs.push(host);
    let workers = bench.workers(specs, book.engines(2));
    for worker in &workers {
        worker.wait_for("up", |ports| ports.is_up(HOST));
    }
    bench.inside("r", || {
        for port in 0..20 {
            let socket = UdpSocket::bind(("192.0.2.1", 41_000 + port)).unwrap();
            socket.send_to(b"datagram", "198.51.100.9:9").unwrap();
        }
    });
    let arrivals = book.take(20, |arrival| arrival.interface == HOST && arrival.is(Protocol::UDP));
    assert!(arrivals.iter().all(|arrival| arrival.worker == WorkerId(0)));
    let port = bench.inside("r", || {
        let socket = UdpSocket::bind("192.0.2.1:42000").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    });
    for worker in &workers {
        worker.ask(|ports, batch, now| {
            let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 9, 192, 0, 2, 1];
            let sum: u32 = packet.chunks(2).map(|b: &[u8]| u32::from(b[0]) << 8 | u32::from(b[1])).sum();
            let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend([0, 9, 0xa4, 0x10, 0, 9, 0, 0, b'!']);
            let slot = batch.receive().unwrap();
            slot.packet.spare_mut()[..packet.len()].copy_from_slice(&packet);
            slot.packet.set_len(packet.len());
            let next_hop = "192.0.2.1".parse().unwrap();
            slot.verdict =
                fairway_types::Verdict::Forward(fairway_types::Egress { interface: HOST, next_hop });
            ports.transmit(now, batch);
        });
        assert_eq!(port.recv(&mut [0; 9]).unwrap(), 1);
    }
    drop(workers);
    // A program that another test just starts may hold the device for the moment until it runs.
    bench.wait_for("the device is gone", || !bench.exec("r", "ip link show fabric").status.success());
}

#[test]
fn the_kernel_has_its_traffic_back_when_the_last_worker_is_gone() {
    let Some(bench) = Bench::raise() else { return };
    let mut workers = bench.workers(Bench::specs(), Book::default().engines(2));
    let connect = || super::connect(&bench, "10.77.1.1:16384");
    assert_eq!(connect(), Some(std::io::ErrorKind::TimedOut));
    drop(workers.pop());
    assert_eq!(connect(), Some(std::io::ErrorKind::TimedOut));
    drop(workers);
    assert_eq!(connect(), Some(std::io::ErrorKind::ConnectionRefused));
}

#[test]
fn a_reload_loses_nothing_of_any_worker() {
    let Some(bench) = Bench::raise() else { return };
    ip(&format!("-n {} link add spare type veth peer name other", bench.namespace("r")));
    bench.output("r", "ip link set spare up");
    let workers = bench.workers(Bench::specs(), Book::default().engines(2));
    ping(&bench, "a", "10.77.2.2", "");
    let namespace = bench.namespace("a");
    // Flows of both workers: the identifier differs.
    let pinging: Vec<_> = (0..4)
        .map(|_| {
            let command = format!("netns exec {namespace} ping -q -i 0.002 -c 500 -W 2 10.77.2.2");
            std::thread::spawn(move || super::bench::run("ip", &command))
        })
        .collect();
    for round in 0..40u16 {
        for worker in &workers {
            worker.ask(move |ports, _, _| {
                let mut specs = Bench::specs();
                if round % 2 == 0 {
                    specs.insert(0, PortSpec::ethernet(InterfaceId(30), "spare", "spare"));
                }
                ports.apply(&specs, &[]).unwrap();
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for pinging in pinging {
        let output = pinging.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("500 received, 0% packet loss"), "{text}");
    }
}

#[test]
fn what_is_kept_of_capabilities_is_enough_for_all_workers() {
    let Some(bench) = Bench::raise() else { return };
    let book = Book::default();
    let workers = bench.workers(Bench::specs(), book.engines(2));
    for worker in &workers {
        worker.ask(|_, _, _| crate::drop_capabilities(crate::Capability::FOR_PORTS).unwrap());
    }
    for _ in 0..2 {
        bench.output("r", "ip link del left");
        wait_for_all(&workers, "gone", false);
        bench.join("a", "left", 1);
        wait_for_all(&workers, "back", true);
    }
    let tuple = flow(40_000);
    let elsewhere = workers[1].ask(move |ports, _, _| {
        let steering = ports.steering();
        let elsewhere = WorkerId(1 - steering.unplaced(LEFT, &tuple).0);
        steering.place(LEFT, &tuple, elsewhere).unwrap();
        elsewhere
    });
    assert_steered(&send_flows(&bench, &book), 2, &HashMap::from([((LEFT, tuple), elsewhere)]));
    drop(workers);
    let answer = super::connect(&bench, "10.77.1.1:16384");
    assert_eq!(answer, Some(std::io::ErrorKind::ConnectionRefused), "the kernel has its traffic back");
}

/// One socket of each worker serves all tags of a device; what is placed is placed for one of them, and
/// what one worker hears of neighbours, all know.
#[test]
fn workers_share_the_tags_of_a_device() {
    let Some(bench) = vlans::raise(vlans::TAGS) else { return };
    let book = Book::default();
    let workers = bench.workers(vlans::specs(vlans::TAGS), book.engines(3));
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "b", "2001:db8:77:1::2", "");
    ping(&bench, "a", "10.77.1.1", "");
    let steering = workers[0].ask(|ports, _, _| ports.steering());
    let elsewhere = WorkerId((steering.unplaced(LEFT, &flow(40_000)).0 + 1) % 3);
    let other = WorkerId((elsewhere.0 + 1) % 3);
    steering.place(LEFT, &flow(40_000), elsewhere).unwrap();
    // The same tuple on another VLAN is another flow.
    steering.place(RIGHT, &flow(40_000), other).unwrap();
    assert_steered(&send_flows(&bench, &book), 3, &HashMap::from([((LEFT, flow(40_000)), elsewhere)]));
    for worker in &workers {
        let drops = worker
            .ask(|ports, _, _| ports.status().iter().map(|s| s.statistics.drops().count()).sum::<usize>());
        assert_eq!(drops, 0);
    }
    let asked = |worker: &Forwarder| worker.ask(|ports, _, _| ports.status()[1].statistics.link.asked);
    let questions: u64 = workers.iter().map(asked).sum();
    assert!((1..=6).contains(&questions), "{questions}: who knows does not ask again");
    // A new device of the same name.
    bench.output("r", "ip link set trunk down");
    workers[0].wait_for("down", |ports| !ports.is_up(LEFT));
    bench.output("r", "ip link set trunk up");
    for worker in &workers {
        worker.wait_for("up", |ports| ports.is_up(LEFT) && ports.is_up(RIGHT));
    }
    ping(&bench, "a", "10.77.2.2", "");
    assert_steered(&send_flows(&bench, &book), 3, &HashMap::from([((LEFT, flow(40_000)), elsewhere)]));
}

/// Not a test of anything: prints how long a sender, which does the kernel's part of receiving, takes
/// for a packet, with one worker and with two.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let Some(bench) = Bench::raise() else { return };
    const ROUNDS: u32 = 400_000;
    let discard =
        |_| -> Engine { Box::new(|slot| slot.verdict = Verdict::Drop(DropReason::UnknownWaypoint)) };
    for _ in 0..3 {
        for count in [1, 2] {
            let workers = bench.workers(Bench::specs(), (0..count).map(discard).collect());
            let elapsed = bench.inside("a", || {
                let to: SocketAddr = "10.77.2.2:9".parse().unwrap();
                let open = |_| UdpSocket::bind("0.0.0.0:0").unwrap();
                let sockets: Vec<_> = (0..64).map(open).collect();
                let start = Instant::now();
                for socket in sockets.iter().cycle().take(ROUNDS as usize) {
                    socket.send_to(&[0; 64], to).unwrap();
                }
                start.elapsed()
            });
            let received: u64 = workers
                .iter()
                .map(|worker| worker.ask(|ports, _, _| ports.status()[0].statistics.rx_packets))
                .sum();
            eprintln!(
                "{count} workers: {} ns for a packet, {received} received",
                elapsed.as_nanos() / u128::from(ROUNDS)
            );
        }
    }
}
