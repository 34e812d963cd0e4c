//! What links do to real traffic, measured with ping and iperf3.

use crate::support::{Up, median, round_trips, text, text_of};

pub const TESTS: &[(&str, fn())] = &[
    ("a_plain_link_is_a_plain_link", a_plain_link_is_a_plain_link),
    ("a_delay_of_10_ms_each_way_is_a_round_trip_of_20", a_delay_of_10_ms_each_way),
    ("jitter_varies_the_delay_within_its_bounds", jitter_varies_the_delay),
    ("a_loss_of_10_percent_is_10_percent", a_loss_of_10_percent),
    ("duplicates_arrive_twice", duplicates_arrive_twice),
    ("a_rate_of_50_mbit_is_50_mbit", a_rate_of_50_mbit),
    ("reordering_is_seen_by_the_receiver", reordering_is_seen),
    ("corrupted_packets_fail_their_checksum", corruption_is_noticed),
    ("each_direction_has_its_own_settings", directions_differ),
    ("settings_change_while_it_runs", settings_change),
    ("the_mtu_is_that_of_the_link", the_mtu_is_respected),
    ("a_bridge_joins_many_hosts", many_hosts_on_a_bridge),
    ("an_impaired_link_joins_many_hosts", many_hosts_on_a_wire),
    ("vlan_tags_pass_the_wire", vlan_tags_pass),
    ("tcp_fills_an_unlimited_wire", tcp_fills_a_wire),
    ("a_nat_box_hides_and_forwards", a_nat_box),
    ("the_shipped_nat_topology_does_what_it_says", the_shipped_nat_topology),
];

/// Two hosts on one link.
fn pair(link: &str) -> String {
    format!(
        "links: {{ wan: {{ {link} }} }}
hosts:
  left: {{ interfaces: {{ wan: {{ address: [10.9.0.1/24, 'fd09::1/64'] }} }} }}
  right:
    interfaces: {{ wan: {{ address: [10.9.0.2/24, 'fd09::2/64'] }} }}
    services: {{ iperf: {{ command: exec iperf3 -s, ready: tcp 5201 }} }}
"
    )
}

fn a_plain_link_is_a_plain_link() {
    let lab = Up::new("fwlab-plain", &pair(""));
    for address in ["10.9.0.2", "fd09::2"] {
        let ping = lab.exec("left", &format!("ping -n -i 0.01 -c 20 {address}"));
        assert!(ping.contains(" 0% packet loss"), "{ping}");
        assert!(median(round_trips(&ping)) < 0.5, "{ping}");
    }
}

fn a_delay_of_10_ms_each_way() {
    let lab = Up::new("fwlab-delay", &pair("delay: 10ms"));
    for address in ["10.9.0.2", "fd09::2"] {
        // The first exchange includes ARP or neighbour discovery.
        lab.exec("left", &format!("ping -n -c 1 {address}"));
        let ping = lab.exec("left", &format!("ping -n -i 0.01 -c 300 {address}"));
        let times = round_trips(&ping);
        let (least, middle) = (times.iter().copied().fold(f64::MAX, f64::min), median(times.clone()));
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let (late, worst) = (sorted[sorted.len() * 9 / 10], sorted[sorted.len() - 1]);
        println!("RTT over 2 × 10 ms: least {least}, median {middle}, 90th {late}, worst {worst} ms");
        assert!(times.len() == 300 && least >= 20.0 && middle < 21.0, "see above");
    }
}

fn jitter_varies_the_delay() {
    let lab = Up::new("fwlab-jitter", &pair("delay: 10ms, jitter: 4ms"));
    lab.exec("left", "ping -n -c 1 10.9.0.2");
    // Far enough apart that no frame waits for the one before it.
    let ping = lab.exec("left", "ping -n -i 0.02 -c 400 10.9.0.2");
    let times = round_trips(&ping);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / times.len() as f64;
    let (least, most) = times.iter().fold((f64::MAX, 0.0f64), |(a, b), time| (a.min(*time), b.max(*time)));
    println!("RTT over 2 × (10 ± 4) ms: {least}–{most}, mean {mean:.2}, deviation {:.2}", variance.sqrt());
    // Two uniform variables of ± 4 ms: the variance is 2 × 8² / 12.
    assert!((mean - 20.0).abs() < 1.0 && least >= 12.0, "mean {mean}, least {least}");
    assert!((variance.sqrt() - 3.27).abs() < 0.5, "deviation {}", variance.sqrt());
}

fn a_loss_of_10_percent() {
    let lab = Up::new("fwlab-loss", &pair("directions: { left: { loss: 10% } }"));
    lab.try_exec("left", "ping -n -c 3 -W 1 10.9.0.2");
    let before = lab.counter("wan", "left", "lost");
    let ping = text(&lab.try_exec("left", "ping -q -n -i 0.002 -c 2000 -W 1 10.9.0.2").stdout);
    let received: f64 = word_before(&ping, " received").parse().unwrap();
    let lost = 2000.0 - received;
    println!("of 2000 pings through 10 % loss, {lost} were lost");
    let sigma = (2000.0f64 * 0.1 * 0.9).sqrt();
    assert!((lost - 200.0).abs() < 3.0 * sigma, "{ping}");
    let counted = lab.counter("wan", "left", "lost") - before;
    assert!((counted as f64 - lost).abs() <= 3.0, "counted {counted}, seen {lost}");
}

fn duplicates_arrive_twice() {
    let lab = Up::new("fwlab-dup", &pair("directions: { left: { duplicate: 50% } }"));
    lab.exec("left", "ping -n -c 1 10.9.0.2");
    let ping = lab.exec("left", "ping -q -n -i 0.002 -c 500 10.9.0.2");
    let copies: f64 = word_before(&ping, " duplicates").trim_start_matches('+').parse().unwrap();
    println!("of 500 pings through 50 % duplication, {copies} came twice");
    assert!((copies - 250.0).abs() < 3.0 * (500.0f64 * 0.25).sqrt(), "{ping}");
}

fn a_rate_of_50_mbit() {
    let lab = Up::new("fwlab-rate", &pair("rate: 50mbit"));
    for (family, payload) in [("-4", 1448.0), ("-6", 1428.0)] {
        let report = lab.exec("left", &format!("iperf3 -J {family} -t 4 -O 1 -c {}", target(family)));
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let goodput = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6;
        // Segments of `payload` bytes travel in frames of 1514.
        let line = goodput * 1514.0 / payload;
        println!("TCP over 50 Mbit/s: {goodput:.2} Mbit/s of payload, {line:.2} of frames");
        assert!((line - 50.0).abs() < 2.5, "{line} Mbit/s");
    }
    assert_eq!(lab.counter("wan", "left", "overrun"), 0);
}

fn target(family: &str) -> &'static str {
    if family == "-6" { "fd09::2" } else { "10.9.0.2" }
}

fn reordering_is_seen() {
    let lab = Up::new("fwlab-reorder", &pair("directions: { left: { delay: 5ms, reorder: 5% } }"));
    let report = lab.exec("left", "iperf3 -J -u -b 20M -l 1000 -t 2 -c 10.9.0.2 --get-server-output");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let sum = &report["end"]["sum"];
    let packets = sum["packets"].as_f64().unwrap();
    let moved = lab.counter("wan", "left", "reordered") as f64;
    let server = report["server_output_text"].as_str().unwrap();
    let late: f64 = word_before(server, " datagrams received out-of-order").parse().unwrap();
    println!(
        "of {packets} packets through 5 % reordering, {moved} were held back, {late} arrived out of order"
    );
    assert!((moved / packets - 0.05).abs() < 0.01 && (late / packets - 0.05).abs() < 0.015, "{sum}");
}

fn corruption_is_noticed() {
    let lab = Up::new("fwlab-corrupt", &pair("directions: { left: { corrupt: 20% } }"));
    lab.try_exec("left", "ping -n -c 3 -W 1 10.9.0.2");
    // A flipped bit fails the IP or ICMP checksum, so no wrong answer comes back.
    let ping = text(&lab.try_exec("left", "ping -q -n -i 0.002 -c 1000 -W 1 10.9.0.2").stdout);
    let received: f64 = word_before(&ping, " received").parse().unwrap();
    println!("of 1000 pings through 20 % corruption, {received} were answered");
    assert!((1000.0 - received - 200.0).abs() < 3.0 * (1000.0f64 * 0.16).sqrt() + 10.0, "{ping}");
    assert!(lab.counter("wan", "left", "corrupted") > 150);
}

fn directions_differ() {
    let lab = Up::new("fwlab-sides", &pair("delay: 2ms, directions: { left: { delay: 15ms } }"));
    lab.exec("left", "ping -n -c 1 10.9.0.2");
    let middle = median(round_trips(&lab.exec("left", "ping -n -i 0.02 -c 50 10.9.0.2")));
    println!("RTT over 15 + 2 ms: median {middle} ms");
    assert!((17.0..18.0).contains(&middle), "{middle}");
}

fn settings_change() {
    let lab = Up::new("fwlab-change", &pair("delay: 0"));
    lab.exec("left", "ping -n -c 1 10.9.0.2");
    let rtt = |lab: &Up| median(round_trips(&lab.exec("left", "ping -n -i 0.02 -c 30 10.9.0.2")));
    assert!(rtt(&lab) < 1.0);
    let changed = lab.link(&["wan", "--from", "right", "--delay", "30ms"]);
    assert!(text(&changed.stdout).contains("[delay 30ms]"), "{}", text_of(&changed));
    assert!((30.0..31.0).contains(&rtt(&lab)));
    let refused = lab.link(&["wan", "--jitter", "50ms"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("jitter must not exceed delay"));
    let unknown = lab.link(&["wan", "--from", "nobody", "--delay", "1ms"]);
    assert!(text(&unknown.stderr).contains("left, right"), "{}", text_of(&unknown));
    assert!((30.0..31.0).contains(&rtt(&lab)), "a refused change changed something");
    lab.link(&["wan", "--delay", "0"]);
    assert!(rtt(&lab) < 1.0);
}

fn the_mtu_is_respected() {
    for link in ["mtu: 1400", "mtu: 1400, delay: 1ms"] {
        let lab = Up::new("fwlab-mtu", &pair(link));
        for (address, header) in [("10.9.0.2", 28), ("fd09::2", 48)] {
            let fits = format!("ping -n -c 1 -W 1 -M do -s {} {address}", 1400 - header);
            lab.exec("left", &fits);
            let over = format!("ping -n -c 1 -W 1 -M do -s {} {address}", 1401 - header);
            assert!(!lab.try_exec("left", &over).status.success(), "1401 bytes passed {link}");
        }
    }
}

/// Three hosts on one link.
fn trio(link: &str) -> String {
    let host = |name: &str, number: u8| {
        format!("  {name}: {{ interfaces: {{ lan: {{ device: eth0, address: [10.9.0.{number}/24] }} }} }}\n")
    };
    format!("links: {{ lan: {{ {link} }} }}\nhosts:\n{}{}{}", host("a", 1), host("b", 2), host("c", 3))
}

fn many_hosts_on_a_bridge() {
    let lab = Up::new("fwlab-bridge", &trio(""));
    for (from, to) in [("a", 2), ("b", 3), ("c", 1)] {
        lab.exec(from, &format!("ping -n -c 2 -i 0.01 -W 2 10.9.0.{to}"));
    }
}

fn many_hosts_on_a_wire() {
    let lab = Up::new("fwlab-switch", &trio("delay: 2ms"));
    for (from, to) in [("a", 2), ("b", 3), ("c", 1)] {
        let ping = lab.exec(from, &format!("ping -n -c 10 -i 0.01 -W 2 10.9.0.{to}"));
        assert!(!ping.contains("DUP"), "{ping}");
        assert!((4.0..5.0).contains(&median(round_trips(&ping))), "{ping}");
    }
    // Once addresses are learned, frames go to their receiver only.
    let before = lab.exec("c", "cat /proc/net/dev");
    lab.exec("a", "ping -q -n -c 200 -i 0.002 10.9.0.2");
    let after = lab.exec("c", "cat /proc/net/dev");
    let received = |table: &str| -> u64 {
        let line = table.lines().find(|line| line.trim_start().starts_with("eth0:")).unwrap();
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    assert!(received(&after) - received(&before) < 20, "a learned address is flooded");
}

fn vlan_tags_pass() {
    let _lab = Up::new("fwlab-vlan", &pair("delay: 1ms"));
    // Tag 42 (0x002a), an ethertype for experiments, 46 bytes: sent raw, seen raw.
    let send = r#"import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("wan", 0))
s.send(b"\xff" * 6 + b"\x02" * 6 + bytes.fromhex("8100002a88b5") + b"F" * 46)"#;
    let file = std::env::temp_dir().join("fwlab-vlan.py");
    std::fs::write(&file, format!("{send}\n")).unwrap();
    let sender = format!("nsenter --net=/run/netns/fwlab-vlan-left python3 {}", file.display());
    let script = format!(
        "tcpdump -i wan -c 1 -nne vlan 42 2>&1 & dump=$!; \
         for try in $(seq 50); do {sender}; kill -0 $dump 2>/dev/null || break; sleep 0.1; done; wait $dump"
    );
    let output = crate::support::lab(&["exec", "--lab", "fwlab-vlan", "right", "--", "sh", "-c", &script]);
    std::fs::remove_file(file).unwrap();
    let seen = text_of(&output);
    assert!(seen.contains("vlan 42") && seen.contains("length 64"), "{seen}");
}

fn tcp_fills_a_wire() {
    let lab = Up::new("fwlab-full", &pair("delay: 0"));
    let report = lab.exec("left", "iperf3 -J -t 3 -c 10.9.0.2");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6;
    println!("TCP over an unlimited wire: {rate:.0} Mbit/s");
    assert!(rate > 200.0, "{rate} Mbit/s");
}

fn a_nat_box() {
    let lab = Up::new(
        "fwlab-nat",
        "links: { home: {}, wan: {} }
hosts:
  inner:
    interfaces: { home: { address: [192.168.1.10/24], gateway: [192.168.1.1] } }
    services: { echo: { command: 'exec socat TCP-LISTEN:7,fork,reuseaddr PIPE', ready: tcp 7 } }
  outer:
    interfaces: { wan: { address: [10.9.0.2/24] } }
    services:
      who: { command: 'exec socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:\"echo \\$SOCAT_PEERADDR\"', ready: tcp 80 }
nat:
  box:
    inside: [home]
    outside: wan
    forward: [{ protocol: tcp, port: 7007, to: 192.168.1.10, to-port: 7 }]
    interfaces: { home: { address: [192.168.1.1/24] }, wan: { address: [10.9.0.1/24] } }
",
    );
    // The outside sees the box, not the host behind it.
    assert_eq!(lab.exec("inner", "socat -u TCP:10.9.0.2:80 -").trim(), "10.9.0.1");
    lab.exec("inner", "ping -n -c 1 -W 2 10.9.0.2");
    // From outside only the forwarded port leads in.
    let echoed = lab.exec("outer", "sh -c printf${IFS}hello|socat${IFS}-t2${IFS}-${IFS}TCP:10.9.0.1:7007");
    assert_eq!(echoed, "hello");
    lab.exec("outer", "ip route add 192.168.1.0/24 via 10.9.0.1");
    assert!(!lab.try_exec("outer", "ping -n -c 1 -W 1 192.168.1.10").status.success());
}

fn the_shipped_nat_topology() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../lab/nat.yaml");
    let shipped = std::fs::read_to_string(file).unwrap();
    let lab = Up::new("fwlab-shipped", &shipped.replace("name: nat\n", ""));
    assert_eq!(lab.exec("inner", "curl -s http://198.51.100.10/"), "outer\n");
    assert_eq!(lab.exec("outer", "curl -s http://198.51.100.1:8080/"), "inner\n");
    assert!(!lab.try_exec("outer", "ping -n -c 1 -W 1 192.168.1.10").status.success());
}

/// The word that ends where `mark` begins.
fn word_before<'a>(text: &'a str, mark: &str) -> &'a str {
    let end = text.find(mark).unwrap_or_else(|| panic!("no `{mark}` in: {text}"));
    text[..end].rsplit([' ', ',']).next().unwrap()
}
