//! Neighbours, devices and configurations that change under traffic.

use fairway_types::{DropReason, Egress, Verdict};

use super::bench::{Bench, LEFT, RIGHT, across, ip};
use super::ping;
use crate::{PortEvent, PortSpec};

#[test]
fn a_neighbour_that_changes_its_address_is_followed() {
    let Some(bench) = Bench::raise() else { return };
    bench.exec("b", "sysctl -qw net.ipv4.conf.eth0.arp_notify=1");
    let _forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "");
    bench.output("b", "ip link set eth0 address 02:00:00:00:77:07");
    ping(&bench, "a", "10.77.2.2", "");
    bench.output("r", "ip neigh flush all");
    ping(&bench, "a", "10.77.2.2", "");
}

#[test]
fn a_device_that_is_deleted_and_made_again_works_again() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "");
    forwarder.ask(|ports, _, _| while ports.poll_event().is_some() {});
    bench.output("r", "ip link del right");
    forwarder.wait_for("down", |ports| !ports.is_up(RIGHT) && ports.mtu(RIGHT).is_none());
    assert!(!bench.exec("a", "ping -c 1 -W 1 10.77.2.2").status.success());
    let status = forwarder.ask(|ports, _, _| ports.status());
    assert!(status[1].statistics.dropped(DropReason::InterfaceDown) >= 1);
    let sent = status[1].statistics.tx_packets;
    bench.join("b", "right", 2);
    forwarder.wait_for("up", |ports| ports.is_up(RIGHT));
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "a", "2001:db8:77:2::2", "");
    let events = forwarder.ask(|ports, _, _| std::iter::from_fn(|| ports.poll_event()).collect::<Vec<_>>());
    assert!(events.contains(&PortEvent::Down(RIGHT)) && events.contains(&PortEvent::Up(RIGHT)), "{events:?}");
    assert!(!events.iter().any(|event| matches!(event, PortEvent::Down(LEFT) | PortEvent::Up(LEFT))));
    let status = forwarder.ask(|ports, _, _| ports.status());
    assert!(status[1].statistics.tx_packets > sent, "statistics go on");
}

#[test]
fn a_device_that_goes_down_and_up_works_again() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    bench.output("r", "ip link set right down");
    forwarder.wait_for("down", |ports| !ports.is_up(RIGHT));
    bench.output("r", "ip link set right mtu 1400 up");
    forwarder.wait_for("up", |ports| ports.is_up(RIGHT) && ports.mtu(RIGHT) == Some(1400));
    ping(&bench, "a", "10.77.2.2", "");
    let before = forwarder.ask(|ports, _, _| ports.status());
    assert!(!bench.exec("a", "ping -M dont -c 1 -W 1 -s 1420 10.77.2.2").status.success());
    let after = forwarder.ask(|ports, _, _| ports.status());
    let big = |status: &[crate::PortStatus]| status[1].statistics.dropped(DropReason::TooBig);
    assert_eq!(big(&after), big(&before) + 1, "longer than the device's MTU");
}

#[test]
fn a_next_hop_that_does_not_answer_costs_its_packets_and_no_others() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder_with(
        Bench::specs(),
        Box::new(|slot| {
            across(slot);
            if slot.packet.bytes().get(16..20) == Some(&[10, 77, 2, 99]) {
                slot.verdict =
                    Verdict::Forward(Egress { interface: RIGHT, next_hop: "10.77.2.99".parse().unwrap() });
            }
        }),
    );
    assert!(!bench.exec("a", "ping -c 3 -i 0.1 -W 1 10.77.2.99").status.success());
    ping(&bench, "a", "10.77.2.2", "");
    forwarder.wait_for("dropped", |ports| {
        ports.status()[1].statistics.dropped(DropReason::NextHopUnresolved) == 3
    });
    let status = forwarder.ask(|ports, _, _| ports.status());
    let reasons: Vec<_> = status.iter().flat_map(|status| status.statistics.drops()).collect();
    assert_eq!(reasons, [(DropReason::NextHopUnresolved, 3)]);
}

#[test]
fn applying_a_difference_loses_nothing() {
    let Some(bench) = Bench::raise() else { return };
    ip(&format!("-n {} link add spare type veth peer name other", bench.namespace("r")));
    bench.output("r", "ip link set spare up");
    let forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "");
    let namespace = bench.namespace("a");
    let pinging = std::thread::spawn(move || {
        super::bench::run("ip", &format!("netns exec {namespace} ping -q -i 0.002 -c 500 -W 2 10.77.2.2"))
    });
    for round in 0..40u16 {
        forwarder.ask(move |ports, _, _| {
            let mut specs = Bench::specs();
            if round % 2 == 0 {
                specs.insert(0, PortSpec::ethernet(fairway_types::InterfaceId(30), "spare", "spare"));
            }
            ports.apply(&specs, &["10.77.2.2".parse().unwrap()]).unwrap();
        });
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let output = pinging.join().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("500 received, 0% packet loss"), "{text}");
    let status = forwarder.ask(|ports, _, _| ports.status());
    assert_eq!(status.len(), 2);
    assert!(status[0].statistics.rx_packets >= 500);
    assert!(status.iter().all(|status| status.statistics.drops().count() == 0));
}

#[test]
fn an_error_in_applying_leaves_the_old_set_at_work() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    forwarder.ask(|ports, _, _| {
        let mut specs = Bench::specs();
        specs.push(PortSpec::ethernet(fairway_types::InterfaceId(1), "x", "lo"));
        ports.apply(&specs, &[]).unwrap_err();
    });
    ping(&bench, "a", "10.77.2.2", "");
}

#[test]
fn next_hops_in_use_are_probed_so_a_silent_change_heals() {
    let Some(bench) = Bench::raise() else { return };
    for setting in ["base_reachable_time_ms=500", "delay_first_probe_time=1", "retrans_time_ms=200"] {
        bench.output("r", &format!("sysctl -qw net.ipv4.neigh.right.{setting}"));
    }
    let _forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "");
    bench.output("b", "ip link set eth0 address 02:00:00:00:77:08");
    // Nobody tells the router: only its own probes can find out.
    let report = bench.output("a", "ping -n -i 0.1 -c 100 -W 1 10.77.2.2");
    let last = report.lines().rfind(|line| line.contains("icmp_seq="));
    assert!(last.is_some_and(|line| line.contains("icmp_seq=100 ")), "{report}");
}

#[test]
fn what_is_kept_of_capabilities_is_enough_to_go_on() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    forwarder.ask(|_, _, _| crate::drop_capabilities(crate::Capability::FOR_PORTS).unwrap());
    bench.output("r", "ip link del right");
    forwarder.wait_for("down", |ports| !ports.is_up(RIGHT));
    bench.join("b", "right", 2);
    forwarder.wait_for("up", |ports| ports.is_up(RIGHT));
    ping(&bench, "a", "10.77.2.2", "");
    drop(forwarder);
    let range = bench.output("r", "cat /proc/sys/net/ipv4/ip_local_port_range");
    assert_ne!(range.split_whitespace().next(), Some("2048"), "restored on a clean shutdown");
    let answer = super::connect(&bench, "10.77.1.1:16384");
    assert_eq!(answer, Some(std::io::ErrorKind::ConnectionRefused), "the kernel has its traffic back");
}

#[test]
fn addresses_that_come_and_go_change_what_is_taken() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    let taken = |bench: &Bench| {
        let report = bench.exec("a", "ping -n -c 1 -W 1 10.77.1.77");
        !report.status.success()
    };
    bench.output("r", "ip addr add 10.77.1.77/32 dev left");
    let with = |ports: &mut crate::Ports| ports.addresses(LEFT).contains(&"10.77.1.77/32".parse().unwrap());
    forwarder.wait_for("added", with);
    assert!(!taken(&bench), "the host's own address: the kernel answers");
    bench.output("r", "ip addr del 10.77.1.77/32 dev left");
    forwarder.wait_for("removed", move |ports| !with(ports));
    assert!(taken(&bench));
}
