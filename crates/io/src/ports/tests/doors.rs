//! Doors, by which packets come to workers: what others do to them, and where there are none.

use super::bench::{Bench, Engine, Forwarder, across, doors as wanted, ip};
use super::ping;

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
    let seen = std::time::Instant::now() + std::time::Duration::from_secs(3);
    bench.wait_for("some seconds", || std::time::Instant::now() > seen);
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
