//! iperf3 across the forwarder, with offloads on and off.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::bench::Bench;

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
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    let _server = Server::start(&bench, "b");
    for settings in ["on", "off"] {
        bench.set_offloads(settings);
        for target in ["10.77.2.2", "2001:db8:77:2::2"] {
            for direction in ["", "-R"] {
                let rate = iperf(&bench, &format!("-c {target} -t 1 {direction}"));
                eprintln!("offloads {settings}, {target} {direction}: {rate:.2} Gbit/s");
                assert!(rate > 0.05, "offloads {settings}, {target} {direction}: {rate} Gbit/s");
            }
        }
    }
    // Mixed: checksums unfinished, segments whole, receiver joins them.
    bench.output("a", "ethtool -K eth0 tx on tso off gso off");
    bench.output("r", "ethtool -K right tx off tso off gso off");
    bench.output("r", "ethtool -K left gro on");
    assert!(iperf(&bench, "-c 10.77.2.2 -t 1") > 0.05);
    assert!(iperf(&bench, "-c 10.77.2.2 -t 1 -u -b 200M -l 1200") > 0.1);
    let drops = forwarder.ask(|ports, _, _| {
        ports.status().iter().map(|s| s.statistics.drops().collect::<Vec<_>>()).collect::<Vec<_>>()
    });
    eprintln!("drops: {drops:?}");
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
