//! iperf3 across the forwarder, with offloads on and off.
//!
//! What a test asserts is that so much arrived, not how fast: that depends on what else the machine does.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fairway_types::{Egress, Verdict};

use super::bench::{Bench, Engine, Forwarder, RIGHT, across};
use crate::classifier::asm::{Alu, Assembler, Reg, Size, When};
use crate::sys::bpf::{Map, Program, ProgramKind, XdpAttachment, XdpPlace, possible_cpus};
use crate::sys::tun::Device;
use crate::sys::xdp::{Copies, Queue, QueueSize};
use crate::{IoChoice, PortSpec};

/// An iperf3 server in a namespace, ended when this is dropped.
struct Server(Child);

impl Server {
    fn start(bench: &Bench, name: &str) -> Self {
        let namespace = bench.namespace(name);
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace, "iperf3", "-s", "-p", "5201"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            // In the table of the namespace, state 0A is LISTEN and 1451 the port.
            if bench.output(name, "cat /proc/net/tcp6 /proc/net/tcp").contains(":1451 ") {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Megabytes that arrived of what was sent.
fn carried(bench: &Bench, options: &str) -> f64 {
    // However little of a processor there is.
    let report =
        bench.output("a", &format!("timeout 30 iperf3 -p 5201 -f M --connect-timeout 10000 {options}"));
    let line = report.lines().find(|line| line.contains("receiver")).unwrap_or_else(|| panic!("{report}"));
    let fields: Vec<_> = line.split_whitespace().collect();
    let at = fields.iter().position(|field| field.ends_with("Bytes")).unwrap();
    let unit = match fields[at] {
        "GBytes" => 1e3,
        "MBytes" => 1.0,
        "KBytes" => 1e-3,
        _ => 1e-6,
    };
    fields[at - 1].parse::<f64>().unwrap() * unit
}

/// Gbit/s at the receiver.
fn iperf(bench: &Bench, options: &str) -> f64 {
    let report = bench.output("a", &format!("iperf3 -p 5201 -f m --connect-timeout 3000 {options}"));
    let line = report.lines().find(|line| line.contains("receiver")).unwrap_or_else(|| panic!("{report}"));
    let fields: Vec<_> = line.split_whitespace().collect();
    let at = fields.iter().position(|field| *field == "Mbits/sec").unwrap();
    fields[at - 1].parse::<f64>().unwrap() / 1000.0
}

#[test]
fn tcp_crosses_with_every_offload_setting() {
    for workers in [1, 2] {
        let Some(bench) = Bench::raise() else { return };
        let engines = (0..workers).map(|_| -> Engine { Box::new(across) }).collect();
        let workers = bench.workers(Bench::specs(), engines);
        crosses_with_every_offload_setting(&bench, &workers);
    }
}

fn crosses_with_every_offload_setting(bench: &Bench, workers: &[Forwarder]) {
    let _server = Server::start(bench, "b");
    for settings in ["on", "off"] {
        bench.set_offloads(settings);
        for target in ["10.77.2.2", "2001:db8:77:2::2"] {
            for direction in ["", "-R"] {
                let arrived = carried(bench, &format!("-c {target} -n 40M {direction}"));
                // A server counts no more when its client has sent it all.
                assert!(arrived > 30.0, "offloads {settings}, {target} {direction}: {arrived} of 40 MB");
            }
        }
    }
    // Mixed: checksums unfinished, segments whole, receiver joins them.
    bench.output("a", "ethtool -K eth0 tx on tso off gso off");
    bench.output("r", "ethtool -K right tx off tso off gso off");
    bench.output("r", "ethtool -K left gro on");
    let arrived = carried(bench, "-c 10.77.2.2 -n 40M");
    assert!(arrived > 30.0, "{arrived} of 40 MB");
    // A program that gets no processor loses some of what has arrived.
    let arrived = carried(bench, "-c 10.77.2.2 -n 10M -u -b 50M -l 1200");
    assert!(arrived > 5.0, "datagrams: {arrived} of 10 MB");
    for worker in workers {
        let drops = worker.ask(|ports, _, _| {
            ports.status().iter().map(|s| s.statistics.drops().collect::<Vec<_>>()).collect::<Vec<_>>()
        });
        eprintln!("drops: {drops:?}");
    }
}

/// Not a test of anything: prints what this machine does, for comparison.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let Some(bench) = Bench::raise() else { return };
    let _server = Server::start(&bench, "b");
    measure_each(&bench, "the kernel");
    let forwarder = bench.forwarder();
    measure_each(&bench, "the forwarder");
    for port in forwarder.ask(|ports, _, _| ports.status()) {
        eprintln!("{}: {:?}", port.name, port.statistics);
    }
}

fn measure_each(bench: &Bench, what: &str) {
    for settings in ["on", "off"] {
        bench.set_offloads(settings);
        for (name, device) in [("a", "eth0"), ("r", "left"), ("r", "right"), ("b", "eth0")] {
            bench.output(name, &format!("ethtool -K {device} gro off"));
        }
        let mut rates: Vec<f64> = (0..3).map(|_| iperf(bench, "-c 10.77.2.2 -t 3")).collect();
        rates.sort_by(f64::total_cmp);
        eprintln!("{what}, offloads {settings}: TCP {rates:.2?} Gbit/s");
        let rate = iperf(bench, "-c 10.77.2.2 -t 3 -u -b 0 -l 64");
        eprintln!("{what}, offloads {settings}: UDP of 64 bytes {:.0} kpps", rate * 1e6 / 64.0 / 8.0);
    }
}

/// Not a test of anything: what one forwarder does with datagrams of 64 bytes from a source that is not the
/// limit, by packet sockets and by AF_XDP in turns.
#[test]
#[ignore = "a measurement"]
fn measure_io() {
    const ROUNDS: usize = 5;
    let ways = [
        ("packet sockets", IoChoice::Packet, 1500),
        ("AF_XDP in the driver", IoChoice::Xdp, 1500),
        // A veth has no room for frames as long as those of its other end in its driver.
        ("AF_XDP before the stack", IoChoice::Xdp, 3800),
    ];
    let (mut rates, mut costs) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for _ in 0..ROUNDS {
        for ((_, io, mtu), (rates, costs)) in ways.iter().zip(rates.iter_mut().zip(&mut costs)) {
            let Some((rate, cost)) = flood(*io, *mtu) else { return };
            rates.push(rate);
            costs.push(cost);
        }
    }
    for ((name, ..), (rates, costs)) in ways.iter().zip(rates.iter_mut().zip(&mut costs)) {
        rates.sort_by(f64::total_cmp);
        costs.sort_unstable();
        let (least, rate, most) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
        let (cheap, cost, dear) = (costs[0], costs[ROUNDS / 2], costs[ROUNDS - 1]);
        eprintln!("{name}: {rate:.0} kpps ({least:.0} to {most:.0}), {cost} ns a packet ({cheap} to {dear})");
    }
}

/// Packets that cross in a second, in thousands, and what each costs the forwarder in nanoseconds.
fn flood(io: IoChoice, mtu: u16) -> Option<(f64, u64)> {
    let bench = Bench::raise()?;
    for name in ["a", "b"] {
        bench.output(name, &format!("ip link set eth0 mtu {mtu}"));
    }
    // Frames that a program sends reach a veth that is read in its driver only.
    if io == IoChoice::Packet {
        bench.output("r", "ethtool -K left gro on");
    }
    let counted = bench.inside("b", || Counter::on("eth0"));
    let specs = Bench::specs().into_iter().map(|spec| PortSpec { io, ..spec }).collect();
    let next_hop = "10.77.2.2".parse().unwrap();
    let to_right = Egress { interface: RIGHT, next_hop };
    let forwarder =
        bench.forwarder_with(specs, Box::new(move |slot| slot.verdict = Verdict::Forward(to_right)));
    let mac = forwarder.ask(|ports, _, _| ports.status()[0].mac);
    // What counts there answers nobody.
    let there = bench.output("b", "cat /sys/class/net/eth0/address");
    bench.output("r", &format!("ip neigh replace 10.77.2.2 lladdr {} dev right nud permanent", there.trim()));
    let before = forwarder.ask(|_, _, _| processor_time());
    let in_driver = mtu == 1500;
    let (seconds, sent) = bench.inside("a", move || {
        let frame = datagram(mac);
        let send: Box<dyn FnMut() -> u64> = if in_driver { by_program(frame) } else { by_socket(frame) };
        send_for(Duration::from_secs(2), send)
    });
    let rate = counted.count() as f64 / seconds / 1000.0;
    let (status, after) = forwarder.ask(|ports, _, _| (ports.status(), processor_time()));
    let received = status[0].statistics.rx_packets.max(1);
    let cost = (after - before) / received;
    eprintln!(
        "{:?}: {rate:.0} kpps of {:.0}, {cost} ns of the forwarder a packet, received {received}, lost {}",
        status[0].io.map(|io| io.name()),
        sent as f64 / seconds / 1000.0,
        status[0].statistics.rx_overruns
    );
    Some((rate, cost))
}

/// How long this thread has had a processor, in nanoseconds.
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Counts and drops what arrives at a device, before anything else sees it.
struct Counter {
    counts: Map<4, 8>,
    _attachment: XdpAttachment,
}

impl Counter {
    fn on(device: &str) -> Self {
        let counts = Map::<4, 8>::per_cpu_array("fw_test", 1).unwrap();
        let mut asm = Assembler::for_xdp();
        let end = asm.label();
        asm.store_immediate(Size::Word, Reg::R10, -4, 0);
        asm.lookup(counts.fd(), -4);
        asm.jump_if(Reg::R0, When::Equal, 0, end);
        asm.load(Size::Double, Reg::R1, Reg::R0, 0);
        asm.alu(Alu::Add, Reg::R1, 1);
        asm.store(Size::Double, Reg::R0, 0, Reg::R1);
        asm.place(end);
        asm.move32(Reg::R0, 1);
        asm.exit();
        let program = Program::load(ProgramKind::Xdp, "fw_test", &asm.finish().unwrap()).unwrap();
        let attachment = program.attach_xdp(Device::index_of(device).unwrap(), XdpPlace::Driver).unwrap();
        Self { counts, _attachment: attachment }
    }

    fn count(&self) -> u64 {
        self.counts.sum(0, possible_cpus()).unwrap()
    }
}

/// A datagram of 64 bytes to the router, from host A to host B.
fn datagram(to: [u8; 6]) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 1, 8, 0]].concat();
    frame.extend([0x45, 0, 0, 92, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 77, 1, 2, 10, 77, 2, 2]);
    frame.extend([0x9c, 0x40, 0, 9, 0, 72, 0, 0]);
    frame.resize(14 + 92, 7);
    frame
}

/// Frames that a program sends, which the kernel does nothing about.
fn by_program(frame: Vec<u8>) -> Box<dyn FnMut() -> u64> {
    const REDIRECT: i32 = 23;
    const AT_ONCE: u32 = 20_000;
    let mut asm = Assembler::for_xdp();
    asm.alu(Alu::Move, Reg::R1, Device::index_of("eth0").unwrap() as i32);
    asm.alu(Alu::Move, Reg::R2, 0);
    asm.call(REDIRECT);
    asm.exit();
    let program = Program::load(ProgramKind::Xdp, "fw_test", &asm.finish().unwrap()).unwrap();
    Box::new(move || {
        program.send(&frame, AT_ONCE).unwrap();
        u64::from(AT_ONCE)
    })
}

/// Frames of a socket, since those of a program reach no device that is read before the stack.
fn by_socket(frame: Vec<u8>) -> Box<dyn FnMut() -> u64> {
    let size = QueueSize { receive: 64, send: 2048, frame_bytes: 2048, copies: Copies::IfNeeded };
    let queue = Queue::open(Device::index_of("eth0").unwrap(), 0, 1, size).unwrap();
    Box::new(move || queue.send(0, 512, |_| frame.len(), |_, bytes| bytes.copy_from_slice(&frame)) as u64)
}

/// Sends for a while; for how long, and how many.
fn send_for(time: Duration, mut send: impl FnMut() -> u64) -> (f64, u64) {
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        sent += send();
    }
    (start.elapsed().as_secs_f64(), sent)
}
