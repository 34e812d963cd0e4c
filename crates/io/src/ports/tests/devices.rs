//! TUN, super-packets of Fairway's own making, and captures.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairway_types::{Checksum, Egress, Gso, GsoKind, InterfaceId, Verdict};

use super::bench::{Bench, LEFT, RIGHT, across};
use super::ping;
use crate::{IoChoice, LinkType, PcapngWriter, PortSpec, Ports};

const HOST: InterfaceId = InterfaceId(5);

/// Answers a ping in place: addresses swapped, type 0, the checksum adjusted for it.
fn echo(slot: &mut fairway_types::Slot) {
    let packet = slot.packet.bytes_mut();
    let (source, rest) = packet[12..].split_at_mut(4);
    source.swap_with_slice(&mut rest[..4]);
    packet[20] = 0;
    let sum = u32::from(u16::from_be_bytes([packet[22], packet[23]])) + 0x0800;
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[22..24].copy_from_slice(&(sum as u16).to_be_bytes());
    let next_hop = "192.0.2.1".parse().unwrap();
    slot.verdict = Verdict::Forward(Egress { interface: HOST, next_hop });
}

#[test]
fn what_waits_for_a_worker_is_bounded_and_the_rest_is_counted() {
    const SENT: u64 = 40_000;
    let Some(bench) = Bench::raise() else { return };
    let specs = Bench::specs().into_iter().map(|spec| PortSpec { io: IoChoice::Packet, ..spec }).collect();
    let forwarder = bench.forwarder_with(specs, Box::new(across));
    ping(&bench, "a", "10.77.2.2", "");
    let socket = bench.inside("a", || UdpSocket::bind("0.0.0.0:0").unwrap());
    let before = forwarder.ask(|ports, _, _| ports.status()[0].statistics.rx_packets);
    // It does not receive while it sends.
    forwarder.ask(move |_, _, _| (0..SENT).for_each(|_| drop(socket.send_to(b"x", "10.77.2.2:9"))));
    let seen = move |ports: &mut Ports| {
        let statistics = &ports.status()[0].statistics;
        statistics.rx_packets - before + statistics.rx_overruns >= SENT
    };
    forwarder.wait_for("every packet is counted", seen);
    let statistics = forwarder.ask(|ports, _, _| ports.status()[0].statistics.clone());
    let waited = statistics.rx_packets - before;
    assert!((2_000..20_000).contains(&waited), "{waited} of {SENT} waited, {statistics:?}");
}

#[test]
fn traffic_of_the_host_itself_passes_through_the_tun() {
    let Some(bench) = Bench::raise() else { return };
    let mut host = PortSpec::host(HOST, "host", "fabric", vec!["192.0.2.1/32".parse().unwrap()]);
    host.routes = vec!["198.51.100.0/24".parse().unwrap()];
    host.mtu = Some(1400);
    let forwarder = bench.forwarder_with(vec![host.clone()], Box::new(echo));
    assert_eq!(forwarder.ask(|ports, _, _| ports.mtu(HOST)), Some(1400));
    ping(&bench, "r", "198.51.100.9", "");
    let status = forwarder.ask(|ports, _, _| ports.status());
    assert_eq!(status[0].addresses, ["192.0.2.1/32".parse().unwrap()]);
    assert!(status[0].statistics.rx_packets >= 5 && status[0].statistics.tx_packets >= 5);
    // The prefix moves; the device stays.
    host.routes = vec!["203.0.113.0/24".parse().unwrap()];
    forwarder.ask(move |ports, _, _| ports.apply(&[host], &[]).unwrap());
    ping(&bench, "r", "203.0.113.9", "");
    assert!(!bench.exec("r", "ip route get 198.51.100.9").status.success());
    drop(forwarder);
    assert!(!bench.exec("r", "ip link show fabric").status.success(), "the device is gone");
}

/// A UDP super-packet of `segments` segments of 1000 bytes, checksum finished or not.
fn super_packet(segments: usize) -> Vec<u8> {
    let length = 28 + segments * 1000;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 77, 1, 2, 10, 77, 2, 2];
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&[0x4e, 0x20, 0x23, 0x28]);
    packet.extend_from_slice(&((length - 20) as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.resize(length, 7);
    packet
}

#[test]
fn a_udp_super_packet_arrives_as_its_segments() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    ping(&bench, "a", "10.77.2.2", "-c 1");
    let namespace = bench.namespace("b");
    for offloads in ["on", "off"] {
        bench.set_offloads(offloads);
        let socket = bench.inside("b", || UdpSocket::bind("10.77.2.2:9000").unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        forwarder.ask(|ports, batch, now| {
            let mut outlet = batch.outlet();
            let slot = outlet.emit().unwrap();
            assert!(slot.packet.fill(&super_packet(40)));
            (slot.interface, slot.checksum) = (RIGHT, Checksum::Valid);
            slot.gso = Some(Gso { kind: GsoKind::Udp, size: 1000, ecn: false });
            let next_hop = "10.77.2.2".parse().unwrap();
            slot.verdict = Verdict::Forward(Egress { interface: RIGHT, next_hop });
            ports.transmit(now, batch);
            assert!(matches!(batch.emitted()[0].verdict, Verdict::Forward(_)));
        });
        let mut buffer = [0; 2000];
        for _ in 0..40 {
            assert_eq!(socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{namespace}: {e}")), 1000);
            assert!(buffer[..1000].iter().all(|&byte| byte == 7));
        }
    }
}

#[test]
fn a_capture_shows_both_directions_and_tcpdump_reads_it() {
    let Some(bench) = Bench::raise() else { return };
    let forwarder = bench.forwarder();
    let mut writer = PcapngWriter::new(Vec::new(), "fairway test").unwrap();
    for name in ["left", "right"] {
        writer.interface(name, LinkType::Ethernet).unwrap();
    }
    let shared = Arc::new(Mutex::new(writer));
    let hook = shared.clone();
    forwarder.ask(move |ports, _, _| {
        ports.set_capture(Some(Box::new(move |record| {
            let index = u32::from(record.interface != LEFT);
            hook.lock().unwrap().packet(index, record).unwrap();
        })));
    });
    ping(&bench, "a", "10.77.2.2", "");
    forwarder.ask(|ports, _, _| ports.set_capture(None));
    let writer = Arc::into_inner(shared).unwrap().into_inner().unwrap();
    let path = std::env::temp_dir().join(format!("{}.pcapng", bench.namespace("capture")));
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    let text = super::bench::run("tcpdump", &format!("-nr {} icmp", path.display()));
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    // Five requests and five replies, each once in and once out.
    assert_eq!(text.matches("ICMP echo request").count(), 10, "{text}");
    assert_eq!(text.matches("ICMP echo reply").count(), 10, "{text}");
}

#[test]
fn the_filter_for_older_kernels_is_installed_once_and_removed() {
    let Some(bench) = Bench::raise() else { return };
    let filters = |bench: &Bench| bench.output("r", "tc filter show dev left ingress");
    bench.inside("r", || {
        let classifier = crate::classifier::Classifier::load(None).unwrap();
        let index = crate::sys::tun::Device::index_of("left").unwrap();
        for _ in 0..2 {
            crate::netlink::install_filter(index, 1, classifier.program()).unwrap();
        }
    });
    let shown = filters(&bench);
    assert_eq!(shown.matches("handle 0x1 fairway").count(), 1, "{shown}");
    assert!(shown.contains("direct-action"), "{shown}");
    bench.inside("r", || {
        let index = crate::sys::tun::Device::index_of("left").unwrap();
        crate::netlink::remove_filter(index, 1).unwrap();
    });
    assert_eq!(filters(&bench).trim(), "");
}
