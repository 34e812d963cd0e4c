//! Real programs across a forwarder, in namespaces. Everything skips, and says so, without root.
#![expect(clippy::disallowed_methods, reason = "tests of the shell run in real time")]

mod bench;
mod changes;
mod devices;
mod doors;
mod forwarded;
mod seats;
mod throughput;
mod vlans;
mod workers;
mod xdp;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fairway_types::PortRange;

use self::bench::{Bench, LEFT, RIGHT};
use crate::classifier::Rule;
use crate::error::OpenError;
use crate::{PortSpec, Ports};

/// Pings and insists on every answer, once.
fn ping(bench: &Bench, from: &str, to: &str, options: &str) {
    let text = bench.output(from, &format!("ping -n -c 5 -i 0.05 -W 2 {options} {to}"));
    assert!(text.contains(" 0% packet loss") && !text.contains("DUP"), "{text}");
}

#[test]
fn ping_crosses_the_forwarder_and_the_kernel_answers_for_itself() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "b", "10.77.1.2", "-s 1400");
    ping(&bench, "a", "2001:db8:77:2::2", "");
    let before = forwarder.ask(|ports, _, _| ports.status());
    ping(&bench, "a", "10.77.1.1", "");
    ping(&bench, "b", "2001:db8:77:2::1", "");
    let after = forwarder.ask(|ports, _, _| ports.status());
    for (before, after) in before.iter().zip(&after) {
        assert!(before.statistics.rx_packets >= 10, "{before:?}");
        assert_eq!(before.statistics, after.statistics, "pings of the router are the kernel's");
    }
}

#[test]
fn large_fragmented_pings_cross_whole() {
    let Some(bench) = Bench::raise() else { return };
    let _forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "-s 8000");
    ping(&bench, "b", "2001:db8:77:1::2", "-s 8000");
}

fn connect(bench: &Bench, to: &str) -> Option<ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    bench.inside("a", move || {
        TcpStream::connect_timeout(&to, Duration::from_millis(600)).err().map(|e| e.kind())
    })
}

#[test]
fn the_kernel_never_answers_what_fairway_took() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    for address in ["10.77.1.1", "[2001:db8:77:1::1]"] {
        assert_eq!(connect(&bench, &format!("{address}:80")), Some(ErrorKind::ConnectionRefused));
        assert_eq!(connect(&bench, &format!("{address}:16384")), Some(ErrorKind::TimedOut));
        assert_eq!(connect(&bench, &format!("{address}:65534")), Some(ErrorKind::TimedOut));
        assert_eq!(connect(&bench, &format!("{address}:65535")), Some(ErrorKind::ConnectionRefused));
    }
    let counts = forwarder.ask(|ports, _, _| ports.classified().unwrap());
    assert!(counts[Rule::WaypointPort as usize].1 >= 4, "{counts:?}");
    drop(forwarder);
    // Detached: the kernel has its traffic back.
    assert_eq!(connect(&bench, "10.77.1.1:16384"), Some(ErrorKind::ConnectionRefused));
}

#[test]
fn ephemeral_ports_stay_out_of_the_waypoints_and_come_back() {
    let Some(bench) = Bench::raise() else { return };
    let range = |bench: &Bench| {
        let text = bench.output("r", "cat /proc/sys/net/ipv4/ip_local_port_range");
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let before = range(&bench);
    let forwarder = bench.forwarder();
    assert_eq!(range(&bench), "2048 16383");
    forwarder.ask(|ports, _, _| {
        let mut specs = Bench::specs();
        for spec in &mut specs {
            spec.waypoints.iter_mut().for_each(|(_, range)| *range = PortRange::new(2000, 3000).unwrap());
        }
        ports.apply(&specs, &[]).unwrap();
    });
    assert_eq!(range(&bench), before, "the default does not touch 2000-3000");
    forwarder.ask(|ports, _, _| ports.apply(&Bench::specs(), &[]).unwrap());
    assert_eq!(range(&bench), "2048 16383");
    drop(forwarder);
    assert_eq!(range(&bench), before);
}

#[test]
fn what_cannot_be_served_is_refused_with_its_reason() {
    let Some(bench) = Bench::raise() else { return };
    bench.inside("r", || {
        let error = Ports::open(&[PortSpec::ethernet(LEFT, "loop", "lo")], &[]).unwrap_err();
        assert!(matches!(error, OpenError::NotEthernet { .. }), "{error}");
        let twice = [PortSpec::ethernet(LEFT, "one", "left"), PortSpec::ethernet(RIGHT, "two", "left")];
        let error = Ports::open(&twice, &[]).unwrap_err();
        assert!(matches!(error, OpenError::SharedDevice { .. }), "{error}");
    });
}
