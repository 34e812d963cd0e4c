//! Tags that are read and written here: hosts behind a switch, and the router on its trunk.
//!
//! ```text
//! a ──access, VLAN 10──┐
//!                      s ══trunk══ r
//! b ──access, VLAN 20──┘
//! ```
//! The switch is two small programs in the kernel, since what this needs of it may be missing there.

use std::net::Ipv4Addr;

use fairway_types::{DropReason, Egress, Verdict};

use super::bench::{Bench, Forwarder, LEFT, RIGHT, across, ip};
use super::ping;
use crate::classifier::Rule;
use crate::classifier::asm::{Alu, Assembler, Instruction, Reg, Size, When};
use crate::sys::bpf::{Program, ProgramKind};
use crate::sys::tun::Device;
use crate::{LinkStatistics, PortEvent, PortSpec};

pub(super) const TRUNK: &str = "trunk";

/// Sends everything that comes in on to `device`, behind a tag if there is one.
fn access(tag: Option<u16>, device: u32) -> Vec<Instruction> {
    const VLAN_PUSH: i32 = 18;
    const REDIRECT: i32 = 23;
    let mut asm = Assembler::default();
    if let Some(tag) = tag {
        asm.alu(Alu::Move, Reg::R2, i32::from(0x8100_u16.to_be()));
        asm.alu(Alu::Move, Reg::R3, i32::from(tag));
        asm.call(VLAN_PUSH);
    }
    asm.alu(Alu::Move, Reg::R1, device as i32);
    asm.alu(Alu::Move, Reg::R2, 0);
    asm.call(REDIRECT);
    asm.exit();
    asm.finish().unwrap()
}

/// Sends what comes in to the port of its tag, without it.
fn trunk(ports: &[(Option<u16>, u32)]) -> Vec<Instruction> {
    const VLAN_TCI: i16 = 24;
    const VLAN_POP: i32 = 19;
    const REDIRECT: i32 = 23;
    const DROP: i32 = 2;
    let mut asm = Assembler::default();
    asm.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    asm.load(Size::Word, Reg::R7, Reg::R6, VLAN_TCI);
    asm.alu(Alu::And, Reg::R7, 0xfff);
    for &(tag, device) in ports {
        let next = asm.label();
        asm.jump_if(Reg::R7, When::NotEqual, i32::from(tag.unwrap_or(0)), next);
        if tag.is_some() {
            asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
            asm.call(VLAN_POP);
        }
        asm.alu(Alu::Move, Reg::R1, device as i32);
        asm.alu(Alu::Move, Reg::R2, 0);
        asm.call(REDIRECT);
        asm.exit();
        asm.place(next);
    }
    asm.move32(Reg::R0, DROP);
    asm.exit();
    asm.finish().unwrap()
}

/// Raises the bench with a switch; the ports of the hosts have these tags.
pub(super) fn raise(tags: [Option<u16>; 2]) -> Option<Bench> {
    let bench = Bench::raise_bare(&["a", "b", "s", "r"])?;
    let (switch, router) = (bench.namespace("s"), bench.namespace("r"));
    ip(&format!("-n {switch} link add to-r type veth peer name {TRUNK} netns {router}"));
    ip(&format!("-n {router} link set {TRUNK} up"));
    for (name, net) in [("a", 1), ("b", 2)] {
        let host = bench.namespace(name);
        ip(&format!("-n {switch} link add to-{name} type veth peer name eth0 netns {host}"));
        ip(&format!("-n {host} addr add 10.77.{net}.2/24 dev eth0"));
        ip(&format!("-n {host} addr add 2001:db8:77:{net}::2/64 dev eth0 nodad"));
        ip(&format!("-n {host} link set eth0 up"));
        ip(&format!("-n {host} route add default via 10.77.{net}.1"));
        ip(&format!("-n {host} -6 route add default via 2001:db8:77:{net}::1"));
    }
    for device in ["to-r", "to-a", "to-b"] {
        ip(&format!("-n {switch} link set {device} up"));
    }
    bench.inside("s", move || {
        let index = |name: &str| Device::index_of(name).unwrap();
        let attach = |device: &str, code: &[Instruction]| {
            let program = Program::load(ProgramKind::SchedCls, "switch", code).unwrap();
            program.attach_tcx(index(device), None).unwrap();
        };
        attach("to-a", &access(tags[0], index("to-r")));
        attach("to-b", &access(tags[1], index("to-r")));
        attach("to-r", &trunk(&[(tags[0], index("to-a")), (tags[1], index("to-b"))]));
    });
    Some(bench)
}

/// The interfaces of the router on the trunk: the addresses are in the specification only.
pub(super) fn specs(tags: [Option<u16>; 2]) -> Vec<PortSpec> {
    let mut specs = Bench::specs();
    for (spec, (tag, net)) in specs.iter_mut().zip(tags.into_iter().zip([1, 2])) {
        spec.device = TRUNK.to_owned();
        spec.vlan = tag.unwrap_or(0);
        spec.addresses = [format!("10.77.{net}.1/24"), format!("2001:db8:77:{net}::1/64")]
            .map(|address| address.parse().unwrap())
            .into();
    }
    specs
}

pub(super) const TAGS: [Option<u16>; 2] = [Some(10), Some(20)];

fn forwarder(bench: &Bench) -> Forwarder {
    bench.forwarder_with(specs(TAGS), Box::new(across))
}

fn link(forwarder: &Forwarder, port: usize) -> LinkStatistics {
    forwarder.ask(move |ports, _, _| ports.status()[port].statistics.link)
}

fn counts(forwarder: &Forwarder, rule: Rule) -> u64 {
    forwarder.ask(move |ports, _, _| ports.classified().unwrap()[rule as usize].1)
}

#[test]
fn hosts_of_two_vlans_on_one_trunk_reach_each_other_and_the_router() {
    let Some(bench) = raise(TAGS) else { return };
    let forwarder = forwarder(&bench);
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "b", "10.77.1.2", "-s 1472 -M do");
    ping(&bench, "a", "2001:db8:77:2::2", "");
    ping(&bench, "a", "10.77.2.2", "-s 8000");
    ping(&bench, "b", "2001:db8:77:1::2", "-s 8000");
    let before = forwarder.ask(|ports, _, _| ports.status());
    for (status, device) in before.iter().zip([10, 20]) {
        assert!(status.tagged && status.up, "{device}: {status:?}");
        assert_eq!((status.device.as_str(), status.mtu), (TRUNK, 1500));
        assert!(status.statistics.link.asked >= 2, "{status:?}");
        assert_eq!(status.statistics.drops().count(), 0);
    }
    // Who was asked first knows who asked.
    let answered: u64 = before.iter().map(|status| status.statistics.link.answered).sum();
    assert!(answered >= 2, "{before:?}");
    // Network cards would keep tags and groups from the router that the kernel did not ask for.
    let promiscuity = || bench.output("r", "ip -d link show trunk").contains("promiscuity 1");
    assert!(promiscuity());
    // The kernel has none of these addresses.
    for own in ["10.77.1.1", "2001:db8:77:1::1"] {
        ping(&bench, "a", own, "");
        ping(&bench, "a", own, "-s 1400");
    }
    let after = forwarder.ask(|ports, _, _| ports.status());
    assert_eq!(after[0].statistics.link.pings, before[0].statistics.link.pings + 20);
    assert_eq!(after[0].statistics.rx_packets, before[0].statistics.rx_packets, "not the engine's");
    assert!(counts(&forwarder, Rule::TaggedLink) > 0 && counts(&forwarder, Rule::TaggedOwn) > 0);
    drop(forwarder);
    assert!(!promiscuity());
}

#[test]
fn super_packets_keep_their_size_behind_a_tag() {
    let Some(bench) = raise(TAGS) else { return };
    let forwarder = forwarder(&bench);
    for family in ["10.77.2.2", "2001:db8:77:2::2"] {
        let namespace = bench.namespace("b");
        let server = std::thread::spawn(move || {
            super::bench::run("ip", &format!("netns exec {namespace} timeout 20 iperf3 -s -1"))
        });
        let listens = || bench.output("b", "ss -Hltn sport = :5201").contains("5201");
        while !listens() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let report = bench.output("a", &format!("iperf3 -c {family} -n 400M --connect-timeout 3000"));
        let received = report.lines().find(|line| line.contains("receiver"));
        eprintln!("behind tags, to {family}: {}", received.unwrap_or_else(|| panic!("{report}")));
        let served = server.join().unwrap();
        assert!(served.status.success());
    }
    let status = forwarder.ask(|ports, _, _| ports.status());
    let figures = &status[0].statistics;
    assert!(figures.rx_bytes > 800_000_000 && figures.rx_bytes / figures.rx_packets > 3000, "{figures:?}");
    assert_eq!((figures.rx_unusable, status[1].statistics.drops().count()), (0, 0));
}

#[test]
fn untagged_and_tagged_interfaces_share_a_device() {
    let tags = [None, Some(20)];
    let Some(bench) = raise(tags) else { return };
    let router = bench.namespace("r");
    ip(&format!("-n {router} addr add 10.77.1.1/24 dev {TRUNK}"));
    ip(&format!("-n {router} addr add 2001:db8:77:1::1/64 dev {TRUNK} nodad"));
    let forwarder = bench.forwarder_with(specs(tags), Box::new(across));
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "b", "2001:db8:77:1::2", "");
    ping(&bench, "a", "10.77.1.1", "");
    ping(&bench, "b", "10.77.2.1", "");
    let status = forwarder.ask(|ports, _, _| ports.status());
    assert_eq!((status[0].tagged, status[1].tagged), (false, true));
    assert_eq!(status[0].statistics.link, LinkStatistics::default(), "the kernel's");
    // One goes, the other stays.
    forwarder.ask(move |ports, _, _| ports.apply(&specs(tags)[..1], &[]).unwrap());
    ping(&bench, "a", "10.77.1.1", "");
    assert!(!bench.exec("b", "ping -c 1 -W 1 10.77.2.1").status.success());
    forwarder.ask(move |ports, _, _| ports.apply(&specs(tags)[1..], &[]).unwrap());
    ping(&bench, "b", "10.77.2.1", "");
    ping(&bench, "a", "10.77.1.1", "");
    let answer = bench.exec("a", "ping -n -c 1 -W 1 10.77.2.2");
    assert!(!answer.status.success(), "untagged frames are the kernel's, which has no way there");
}

/// Sends frames on the trunk to the router: `s` sees it from the other side.
const SEND: &str = "
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('to-r', 0))
for frame in sys.argv[1:]:
    assert s.send(bytes.fromhex(frame))
";

fn send(bench: &Bench, frames: &[String]) {
    let namespace = bench.namespace("s");
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", &namespace, "python3", "-c", SEND]).args(frames);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn mac(bench: &Bench, name: &str, device: &str) -> String {
    bench.output(name, &format!("cat /sys/class/net/{device}/address")).trim().replace(':', "")
}

#[test]
fn other_tags_and_two_tags_are_left_alone_and_counted() {
    let Some(bench) = raise(TAGS) else { return };
    let forwarder = forwarder(&bench);
    ping(&bench, "a", "10.77.2.2", "");
    let received = |forwarder: &Forwarder| {
        forwarder.ask(|ports, _, _| ports.status().iter().map(|s| s.statistics.rx_packets).sum::<u64>())
    };
    let before = received(&forwarder);
    let to = mac(&bench, "r", TRUNK);
    let from = mac(&bench, "a", "eth0");
    // From 10.77.1.2 to 10.77.2.2: what would be forwarded behind tag 10.
    let packet = "450000140000000040110000".to_owned() + "0a4d01020a4d0202";
    let pad = "00".repeat(40);
    let behind = |tags: &str, to: &str| format!("{to}{from}{tags}0800{packet}{pad}");
    let others = ["8100001e", "8100000a8100000a", "88a8000a", "88a8000a8100000a"];
    let frames: Vec<String> = others.iter().map(|tags| behind(tags, &to)).collect();
    send(&bench, &frames);
    assert_eq!(counts(&forwarder, Rule::OtherTag), 4);
    let not_for_host = counts(&forwarder, Rule::NotForHost);
    send(&bench, &[behind("8100000a", "020000000099")]);
    assert!(counts(&forwarder, Rule::NotForHost) > not_for_host);
    assert_eq!(received(&forwarder), before);
    // The same with tag 10 and any priority is taken.
    send(&bench, &[behind("8100000a", &to), behind("8100e00a", &to)]);
    forwarder.wait_for("received", move |ports| {
        ports.status().iter().map(|s| s.statistics.rx_packets).sum::<u64>() == before + 2
    });
}

#[test]
fn what_others_claim_is_believed_of_those_asked_for_only() {
    let Some(bench) = raise(TAGS) else { return };
    let forwarder = forwarder(&bench);
    let from = mac(&bench, "a", "eth0");
    let claim = |operation: u8, who: Ipv4Addr, of: &str| {
        let who: String = who.octets().iter().map(|byte| format!("{byte:02x}")).collect();
        let head = format!("ffffffffffff{from}8100000a0806000108000604{operation:04x}");
        format!("{head}{of}{who}ffffffffffff0a4d0101{}", "00".repeat(18))
    };
    let stranger = "0200000000ee";
    let frames: Vec<String> =
        (1..=50).map(|last| claim(2, Ipv4Addr::new(10, 77, 1, 100 + last), stranger)).collect();
    send(&bench, &frames);
    forwarder.wait_for("ignored", |ports| ports.status()[0].statistics.link.ignored >= 50);
    // Its own address, claimed by another; malformed and cut short.
    send(&bench, &[claim(2, Ipv4Addr::new(10, 77, 1, 1), stranger)]);
    forwarder.wait_for("conflict", |ports| ports.status()[0].statistics.link.conflicts == 1);
    let ignored = link(&forwarder, 0).ignored;
    send(
        &bench,
        &[
            claim(9, Ipv4Addr::new(10, 77, 1, 2), stranger),
            format!("ffffffffffff{from}8100000a0806{}", "00".repeat(10)),
        ],
    );
    forwarder.wait_for("malformed", move |ports| ports.status()[0].statistics.link.ignored == ignored + 2);
    ping(&bench, "a", "10.77.1.1", "");
    ping(&bench, "b", "10.77.1.2", "");
    // Whoever was asked for is believed, as everywhere on Ethernet: the way goes to the stranger, until
    // the host says something again.
    send(&bench, &[claim(1, Ipv4Addr::new(10, 77, 1, 2), stranger)]);
    bench.output("a", "ip neigh flush all");
    ping(&bench, "a", "10.77.2.2", "");
}

#[test]
fn a_neighbour_that_changes_goes_and_comes_is_followed() {
    let Some(bench) = raise(TAGS) else { return };
    bench.output("b", "sysctl -qw net.ipv4.conf.eth0.arp_notify=1");
    let forwarder = bench.forwarder_with(
        specs(TAGS),
        Box::new(|slot| {
            across(slot);
            if slot.packet.bytes().get(16..20) == Some(&[10, 77, 2, 99]) {
                slot.verdict =
                    Verdict::Forward(Egress { interface: RIGHT, next_hop: "10.77.2.99".parse().unwrap() });
            }
        }),
    );
    ping(&bench, "a", "10.77.2.2", "");
    bench.output("b", "ip link set eth0 address 02:00:00:00:77:07");
    bench.output("b", "ip neigh flush all");
    ping(&bench, "a", "10.77.2.2", "");
    // Nobody there: dropped after a while, and counted.
    assert!(!bench.exec("a", "ping -c 3 -i 0.1 -W 1 10.77.2.99").status.success());
    forwarder.wait_for("dropped", |ports| {
        ports.status()[1].statistics.dropped(DropReason::NextHopUnresolved) == 3
    });
    bench.output("b", "ip addr add 10.77.2.99/24 dev eth0");
    let answers = || bench.exec("a", "ping -c 1 -W 1 10.77.2.99").status.success();
    assert!((0..5).any(|_| answers()), "it is asked again after a second");
    ping(&bench, "a", "10.77.2.99", "");
}

#[test]
fn the_device_of_a_trunk_goes_and_comes_back() {
    let Some(bench) = raise(TAGS) else { return };
    let forwarder = forwarder(&bench);
    ping(&bench, "a", "10.77.2.2", "");
    forwarder.ask(|ports, _, _| while ports.poll_event().is_some() {});
    bench.output("r", &format!("ip link set {TRUNK} down"));
    forwarder.wait_for("down", |ports| !ports.is_up(LEFT) && !ports.is_up(RIGHT));
    bench.output("r", &format!("ip link set {TRUNK} up"));
    forwarder.wait_for("up", |ports| ports.is_up(LEFT) && ports.is_up(RIGHT));
    ping(&bench, "a", "10.77.2.2", "");
    bench.output("r", &format!("ip link set {TRUNK} name other"));
    forwarder.wait_for("gone", |ports| ports.mtu(LEFT).is_none() && ports.mtu(RIGHT).is_none());
    bench.output("r", &format!("ip link set other name {TRUNK}"));
    forwarder.wait_for("back", |ports| ports.is_up(LEFT) && ports.is_up(RIGHT));
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "a", "2001:db8:77:2::2", "");
    let events = forwarder.ask(|ports, _, _| std::iter::from_fn(|| ports.poll_event()).collect::<Vec<_>>());
    let downs = events.iter().filter(|event| matches!(event, PortEvent::Down(LEFT))).count();
    assert_eq!(downs, 2, "{events:?}");
}

#[test]
fn an_interface_moves_to_the_kernels_vlan_device_and_back() {
    let Some(bench) = raise(TAGS) else { return };
    let forwarder = forwarder(&bench);
    ping(&bench, "a", "10.77.2.2", "");
    let made = bench.exec("r", &format!("ip link add link {TRUNK} name v10 type vlan id 10"));
    if !made.status.success() {
        eprintln!("SKIPPED: this kernel has no 802.1Q devices (CONFIG_VLAN_8021Q): not tested with them");
        return;
    }
    bench.output("r", "ip addr add 10.77.1.1/24 dev v10");
    bench.output("r", "ip link set v10 up");
    forwarder.wait_for("moved", |ports| !ports.status()[0].tagged && ports.is_up(LEFT));
    ping(&bench, "a", "10.77.2.2", "");
    ping(&bench, "a", "10.77.1.1", "");
    bench.output("r", "ip link del v10");
    forwarder.wait_for("moved back", |ports| ports.status()[0].tagged && ports.is_up(LEFT));
    ping(&bench, "a", "10.77.2.2", "");
}
