//! One host of a LAN begins sessions as fast as it can, as itself or as a hundred thousand others, while
//! somebody else on the same LAN, in the same tenant, works as ever.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Background, Lab, poll};
use crate::programs::{download, iperf, lookup, page};

/// An address of the servers' LAN that takes packets and answers nothing.
const SILENT: &str = "10.2.0.77";
/// What is limited of a source.
const KINDS: [&str; 3] = ["sessions", "half-open", "session-rate"];
/// How long a flood lasts, in seconds: it is over before that only if the test is.
const SECONDS: &str = "25";
/// The path is down after three intervals of a second without a message.
const DETECTION: Duration = Duration::from_secs(3);

/// Sends TCP SYNs or UDP datagrams, each of another flow or each from another source, without a pause.
const FLOOD: &str = "
import socket, struct, sys, time
kind, seconds, mac, source, target = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 20, 1)
s.bind(('lan', 0))
ether = bytes.fromhex(mac.replace(':', '')) + s.getsockname()[4] + b'\\x08\\x00'
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def ip(ends, protocol, length):
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + length, 0, 0, 64, protocol, 0) + ends
    return head[:10] + struct.pack('!H', sum16(head)) + head[12:]
def syn(ends, one, other):
    def segment(check): return struct.pack('!HHIIBBHHH', one, other, 1, 0, 0x50, 2, 1024, check, 0)
    return ether + ip(ends, 6, 20) + segment(sum16(ends + struct.pack('!HH', 6, 20) + segment(0)))
def udp(ends, one, other):
    return ether + ip(ends, 17, 20) + struct.pack('!HHHH', one, other, 20, 0) + b'flood-flood!'
make = syn if kind == 'syn' else udp
ends = socket.inet_aton(source) + socket.inet_aton(target)
frames = [make(ends, 1024 + n % 60000, 9000 + n // 60000) for n in range(120000)]
plain = udp(bytes(4) + ends[4:], 7000, 9000)
def forged(n):
    # The identification makes up for the source, so that the checksum of the header stays right.
    return plain[:18] + struct.pack('!H', -n % 65535) + plain[20:26] + struct.pack('!I', n) + plain[30:]
def frame(n): return forged(0x0b000000 + n) if kind == 'forged' else frames[n % len(frames)]
sent, refused, end = 0, 0, time.monotonic() + seconds
begun = time.monotonic()
while time.monotonic() < end:
    for n in range(sent, sent + 1000):
        try:
            s.send(frame(n))
        except OSError:
            refused += 1
    sent += 1000
    print(sent, refused, time.monotonic() - begun, flush=True)
";

/// A laboratory with a flooder beside the client.
fn raise(test: &str) -> Option<Lab> {
    // A flood that has two processors to share with all workers has to reach the limits of tenants, too.
    let fabric = Fabric::new(2).with_flooder().config(|authority| {
        for router in authority["router"].as_array_mut().unwrap() {
            router["limits"]["session-rate"] = 20_000.into();
        }
    });
    let lab = fabric.raise(test)?;
    let link = lab.run("server", &["ip", "-j", "link", "show", "dev", "servers"]).ok().json();
    let mac = link[0]["address"].as_str().unwrap();
    let neighbour = ["ip", "neigh", "replace", SILENT, "lladdr", mac, "dev", "servers"];
    lab.run("dc", &[&neighbour[..], &["nud", "permanent"]].concat()).ok();
    Some(lab)
}

fn flood(lab: &Lab, kind: &str) -> Background {
    let interfaces = lab.show("branch", &["interfaces"]);
    let lan = interfaces.as_array().unwrap().iter().find(|interface| interface["name"] == "lan").unwrap();
    let file = lab.path("flood.log");
    let command = format!(
        "exec python3 -c \"$0\" {kind} {SECONDS} {} 10.1.0.66 {SILENT} > {file}",
        lan["mac"].as_str().unwrap()
    );
    lab.start("flooder", &["bash", "-c", &command, FLOOD])
}

/// A limit of router branch: the router's, that of each source, or that of tenant corp.
fn limit<'a>(limits: &'a Value, scope: &str, kind: &str) -> &'a Value {
    let wanted = |limit: &&Value| {
        limit["scope"] == scope && limit["limit"] == kind && (scope != "tenant" || limit["name"] == "corp")
    };
    limits.as_array().unwrap().iter().find(wanted).unwrap()
}

/// Mean and longest round trip in milliseconds, and how many of 50 pings were lost.
fn pings(lab: &Lab) -> (f64, f64, u32) {
    let done = lab.run("client", &["ping", "-c", "50", "-i", "0.05", "-W", "2", "-q", SERVER[0]]);
    let field = |before: &str, after: &str| {
        let start = done.stdout.split(before).nth(1).unwrap_or_default();
        start.split(after).next().unwrap_or_default().to_owned()
    };
    let received: u32 = field("transmitted, ", " received").parse().unwrap();
    let times = field("mdev = ", " ms");
    let times: Vec<f64> = times.split('/').filter_map(|time| time.parse().ok()).collect();
    assert_eq!(times.len(), 4, "{}", done.text());
    (times[1], times[2], 50 - received)
}

/// Memory of router branch, in KiB.
fn memory(lab: &Lab) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.pid("branch"))).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many packets the limits of one scope refused.
fn refused_by(limits: &Value, scope: &str) -> u64 {
    KINDS.iter().map(|kind| limit(limits, scope, kind)["refused"].as_u64().unwrap()).sum()
}

/// A flood, and others, while the limits of one scope are what refuses.
fn others_work_while(kind: &str, guilty: &str) {
    let Some(lab) = raise(kind) else { return };
    let quiet = pings(&lab);
    let (drops, overruns) = (lab.drops(), lab.overruns());
    let flooding = flood(&lab, kind);
    let refused = |lab: &Lab| refused_by(&lab.show("branch", &["limits", "--all"]), guilty);
    let reached = poll(15, || refused(&lab) > 10_000);
    let limits = || lab.show("branch", &["limits", "--all"]);
    assert!(reached, "the flood does not reach the limit: {:#}, {:#?}", limits(), lab.moved(&drops));
    let began = Instant::now();

    let flooded = pings(&lab);
    let held = memory(&lab);
    page(&lab, SERVER[0]);
    download(&lab, SERVER[0], "1m");
    lookup(&lab, SERVER[0], &["+notcp"]);
    let udp = iperf(&lab, SERVER[0], &["-t", "2", "-u", "-b", "5M", "-l", "1000"]);
    let lasted = began.elapsed();

    let grown = memory(&lab) - held;
    let limits = lab.show("branch", &["limits", "--all"]);
    flooding.interrupt();
    let log = std::fs::read_to_string(lab.path("flood.log")).unwrap();
    // The interrupt may have cut the last line short.
    let lines = log.lines().map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect());
    let sent: Vec<f64> = lines.rev().find(|words: &Vec<f64>| words.len() == 3).unwrap();
    let overrun = lab.overruns() - overruns;
    eprintln!(
        "{kind}: {:.0} packets a second, {} refused; ping {:.2} ms (longest {:.2}, {} of 50 lost), without the \
         flood {:.2} ms ({:.2}, {}); iperf3 UDP lost {} of {}; {overrun} packets overran the routers; memory {held} KiB and {grown} more",
        sent[0] / sent[2],
        refused(&lab),
        flooded.0,
        flooded.1,
        flooded.2,
        quiet.0,
        quiet.1,
        quiet.2,
        udp["sum"]["lost_packets"],
        udp["sum"]["packets"],
    );
    assert!(grown < 16 * 1024, "{grown} KiB more than {held}");
    assert!(flooded.2 <= 5, "{} of 50 pings are lost", flooded.2);
    let sessions = limit(&limits, guilty, "sessions");
    assert!(sessions["now"].as_u64() <= sessions["most"].as_u64(), "{sessions}");
    assert_eq!(sessions["name"], if guilty == "source" { "10.1.0.66 on lan" } else { "corp" }, "{limits}");
    for innocent in ["router", "tenant", "source"].iter().filter(|scope| **scope != guilty) {
        assert_eq!(refused_by(&limits, innocent), 0, "{innocent} refuses, too: {limits}");
    }
    let mut expected = vec!["branch session-rate-limit?", "branch session-limit?", "branch half-open-limit?"];
    // There are fewer ports on a path than a tenant may have sessions.
    expected.extend((guilty == "tenant").then_some("branch waypoints-exhausted?"));
    lab.assert_moved(&drops, &expected);
    // The path never was down.
    let since = lab.show("branch", &["peers"])[0]["paths"][0]["since_seconds"].as_f64().unwrap();
    assert!(lasted > DETECTION && since > lasted.as_secs_f64(), "up for {since} s, flooded for {lasted:?}");
}

#[test]
fn a_host_that_floods_with_syns_harms_nobody_else() {
    others_work_while("syn", "source");
}

#[test]
fn a_host_that_floods_with_datagrams_harms_nobody_else() {
    others_work_while("udp", "source");
}

#[test]
fn forged_sources_do_not_keep_out_a_host_that_has_answers() {
    others_work_while("forged", "tenant");
}
