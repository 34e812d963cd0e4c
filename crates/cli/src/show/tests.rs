use fairway_router::api::{
    Drop, DropExample, FibRow, Flow, FlowEnd, Interface, Leg, Limit, Link, NamedCount, Path, Peer, Session,
    Status, Traffic, Way, Waypoints,
};

use super::*;
use crate::table::WIDTH;

const LONG: &str = "engineering-of-the-northern-branch.engineering.corporation";
const V6: &str = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";

fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{} characters: {line}", line.chars().count());
    }
}

fn host_leg(interface: &str) -> Leg {
    Leg {
        interface: interface.into(),
        peer: None,
        path: None,
        protocol: "tcp".into(),
        local: "10.2.0.10:443".parse().unwrap(),
        remote: "10.1.0.5:43210".parse().unwrap(),
        next_hop: Some("10.1.0.5".parse().unwrap()),
        handshake: None,
    }
}

fn peer_leg(peer: &str) -> Leg {
    Leg {
        interface: "wan0".into(),
        peer: Some(peer.into()),
        path: Some("wan0-dc".into()),
        protocol: "tcp".into(),
        local: "192.0.2.1:16384".parse().unwrap(),
        remote: "192.0.2.2:16385".parse().unwrap(),
        next_hop: Some("192.0.2.2".parse().unwrap()),
        handshake: Some("established".into()),
    }
}

fn session(service: &str, ends: [&str; 2]) -> Session {
    Session {
        protection: None,
        uuid: "0a1b2c3d-4e5f-4678-9abc-def012345678".into(),
        tenant: Some("corp".into()),
        service: service.into(),
        protocol: "tcp".into(),
        source: ends[0].parse().unwrap(),
        destination: ends[1].parse().unwrap(),
        forwarded_by: "worker".into(),
        kernel_refused: None,
        state: "established".into(),
        route: Some("web-via-dc".into()),
        ingress_router: Some("branch".into()),
        role: "ingress".into(),
        initiator: host_leg("lan0"),
        responder: peer_leg("dc"),
        forward: Traffic { packets: 900, bytes: 65_000 },
        reverse: Traffic { packets: 1200, bytes: 1_572_864 },
        age_seconds: 192.4,
        idle_seconds: 0.2,
        remaining_seconds: 1899.8,
    }
}

#[test]
fn an_ipv4_session_is_one_line() {
    let text = sessions::table(&[session("web", ["10.1.0.5:43210", "10.2.0.10:443"])]);
    fits(&text);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "SERVICE  TENANT  PROTO  SOURCE          DESTINATION    PATH     PAYLOAD    SENT  RECEIVED  UUID",
            "web      corp    tcp    10.1.0.5:43210  10.2.0.10:443  lan0→dc  plain    63 KiB   1.5 MiB  0a1b2c3d",
        ]
    );
}

#[test]
fn ipv6_and_long_names_stay_whole_and_within_the_width() {
    let mut long = session(LONG, [V6, V6]);
    long.tenant = Some(LONG.into());
    long.responder = peer_leg(LONG);
    let text = sessions::table(&[long.clone(), session("web", ["10.1.0.5:43210", "10.2.0.10:443"])]);
    fits(&text);
    assert_eq!(text.matches(V6).count(), 2, "{text}");
    fits(&sessions::detail(&long));
    assert!(sessions::detail(&long).contains("3m12s old, idle 200ms, ends in 31m39s if idle"));
}

#[test]
fn icmp_shows_no_ports() {
    let mut ping = session("ping", ["10.1.0.5:77", "10.2.0.10:77"]);
    ping.protocol = "icmp".into();
    let text = sessions::table(&[ping]);
    assert!(text.contains(" 10.1.0.5 ") && !text.contains(":77"), "{text}");
}

#[test]
fn flows_show_what_comes_and_what_leaves() {
    let side = |interface: &str, peer: Option<&str>| FlowEnd {
        interface: interface.into(),
        peer: peer.map(Into::into),
        protocol: "udp".into(),
        source: V6.parse().unwrap(),
        destination: V6.parse().unwrap(),
    };
    let flow = Flow {
        session: "0a1b2c3d-4e5f-4678-9abc-def012345678".into(),
        direction: "forward".into(),
        tenant: Some(LONG.into()),
        service: LONG.into(),
        ingress: side("lan0", None),
        egress: side("wan0", Some(LONG)),
        traffic: Traffic { packets: 12_345_678, bytes: 9_876_543_210 },
    };
    let text = sessions::flows_table(&[flow]);
    fits(&text);
    assert!(text.contains("12.3 M") && text.contains("9.2 GiB"), "{text}");
}

#[test]
fn the_fib_says_who_may_and_which_way() {
    let row = FibRow {
        prefix: "2001:db8:1111:2222:3333:4444:5555:0/112".parse().unwrap(),
        protocol: Some("tcp".into()),
        first_port: 8000,
        last_port: 8080,
        tenant: LONG.into(),
        source: Some("2001:db8:aaaa::/48".parse().unwrap()),
        service: LONG.into(),
        permit: true,
        route: Some(Way {
            route: "to-dc".into(),
            cost: 20,
            peer: Some("dc".into()),
            path: Some("wan0-dc".into()),
            interface: Some("wan0".into()),
            gateway: None,
            up: Some(false),
            origin: None,
        }),
    };
    let denied = FibRow { permit: false, route: None, protocol: None, ..row.clone() };
    let text = fib::table(&[row, denied]);
    fits(&text);
    assert!(
        text.contains("8000-8080") && text.contains("peer dc (down)") && text.contains("no route"),
        "{text}"
    );
}

#[test]
fn paths_that_are_down_say_why() {
    let path = |up: bool| Path {
        name: "wan0-dc".into(),
        interface: "wan0".into(),
        local: "192.0.2.1".parse().unwrap(),
        remote: "192.0.2.2".parse().unwrap(),
        cost: 10,
        up,
        state: if up { "up" } else { "down" }.into(),
        remote_state: "down".into(),
        since_seconds: 74.0,
        held_down_seconds: None,
        diagnostic: (!up).then(|| "control detection time expired".into()),
        packets_sent: 90,
        packets_received: 80,
    };
    let peer = Peer { name: "dc".into(), tenants: None, up: true, paths: vec![path(true), path(false)] };
    let text = fabric::peers_table(&[peer]);
    fits(&text);
    assert!(text.contains("dc    up     1m14s  wan0"), "{text}");
    assert!(text.contains("control detection time expired"), "{text}");
}

#[test]
fn waypoints_show_how_full_they_are() {
    let row = Waypoints {
        peer: LONG.into(),
        path: LONG.into(),
        interface: "wan0".into(),
        local: "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap(),
        remote: "2001:db8:1111:2222:3333:4444:5555:7777".parse().unwrap(),
        protocol: "tcp".into(),
        used: 25_000,
        resting: 3,
        capacity: 50_000,
        exhausted: 0,
    };
    let text = fabric::waypoints_table(&[row]);
    fits(&text);
    assert!(text.contains("50 %"), "{text}");
    assert_eq!((fabric::share(0, 0), fabric::share(1, 1000)), ("0 %".into(), "<1 %".into()));
}

#[test]
fn interfaces_keep_every_address_and_say_what_is_wrong() {
    let interface = Interface {
        name: "lan0".into(),
        device: "eth1".into(),
        vlan: 7,
        tagged: true,
        io: Some("xdp-generic".into()),
        kind: "external".into(),
        tenant: Some("corp".into()),
        up: true,
        mtu_bytes: 1500,
        mac: "02:00:00:00:00:01".into(),
        addresses: vec![
            "10.1.0.1/24".parse().unwrap(),
            "2001:db8:1111:2222:3333:4444:5555:1/64".parse().unwrap(),
        ],
        missing_addresses: vec!["10.1.0.1/24".parse().unwrap()],
        received: Traffic { packets: 10, bytes: 1000 },
        sent: Traffic { packets: 10, bytes: 2048 },
        receive_overruns: 3,
        receive_unusable: 0,
        punted: 0,
        punts_discarded: 0,
        held: 0,
        link: Some(Link { asked: 1, unasked: 0, answered: 1, pings: 0, ignored: 0, conflicts: 2 }),
        drops: vec![NamedCount { name: "next-hop-unresolved".into(), count: 4 }],
    };
    let text = interfaces::table(&[interface]);
    fits(&text);
    for expected in [
        "eth1 tag 7",
        "2001:db8:1111:2222:3333:4444:5555:1/64",
        "lacks 10.1.0.1/24",
        "next-hop-unresolved",
        "2 times somebody else",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

fn drop(reason: &str, count: u64) -> Drop {
    Drop {
        reason: reason.into(),
        culprit: "policy".into(),
        count,
        help: " What it means.".into(),
        last: Some(DropExample {
            age_seconds: 12.0,
            interface: Some("lan0".into()),
            protocol: Some("tcp".into()),
            source: V6.parse().ok(),
            destination: V6.parse().ok(),
            length_bytes: 60,
        }),
    }
}

#[test]
fn drops_are_sorted_explained_and_hide_zeros() {
    let drops = || vec![drop("no-service", 2), drop("access-denied", 40), drop("bad-tag", 0)];
    let some = counters::arranged(drops(), false);
    let reasons: Vec<&str> = some.iter().map(|drop| drop.reason.as_str()).collect();
    assert_eq!(reasons, ["access-denied", "no-service"]);
    let all = counters::arranged(drops(), true);
    assert_eq!(all.len(), fairway_types::DropReason::ALL.len());
    let text = counters::drops_table(&all, true);
    fits(&text);
    assert!(text.contains("What it means."), "{text}");
    assert_eq!(counters::drops_table(&[], false), "nothing was dropped\n");
}

fn limit(scope: &str, name: Option<&str>, limit: &str, now: u32, refused: u64) -> Limit {
    Limit {
        scope: scope.into(),
        name: name.map(str::to_owned),
        limit: limit.into(),
        unit: "sessions".into(),
        most: Some(80_000),
        now: Some(now),
        peak: Some(80_000),
        allowed: u64::from(now),
        refused,
        evicted: 123_456,
    }
}

#[test]
fn limits_are_sorted_by_how_near_they_are_and_hide_idle_tenants() {
    let limits = || {
        vec![
            limit("router", None, "first-packet-rate", 0, 0),
            limit("tenant", Some(LONG), "half-open", 10, 0),
            limit("tenant", None, "sessions", 0, 0),
            limit("source", Some("2001:db8:1111:2222::/64 on lan0"), "sessions", 79_000, 12_345_678_901),
            limit("peer", Some("a-peer"), "session-rate", 10, 5),
        ]
    };
    let some = limits::arranged(limits(), false);
    let scopes: Vec<&str> = some.iter().map(|limit| limit.scope.as_str()).collect();
    assert_eq!(scopes, ["source", "peer", "tenant", "router"]);
    let all = limits::arranged(limits(), true);
    assert_eq!(all.len(), 5);
    let text = limits::limits_table(&all);
    fits(&text);
    for expected in ["2001:db8:1111:2222::/64 on lan0", "(none)", "first-packet-rate", "123456"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn the_status_fits_and_warns() {
    let status = Status {
        router: "branch".into(),
        authority: "acme".into(),
        version: "0.1.0".into(),
        pid: 4711,
        uptime_seconds: 93_784.0,
        sessions: 12,
        workers: 2,
        session_capacity: 1_000_000,
        interfaces_up: 2,
        interfaces: 3,
        paths_up: 1,
        paths: 2,
        configuration: fairway_router::api::ConfigurationStatus {
            file: "/etc/fairway/acme.json".into(),
            applied_unix_seconds: 1_700_000_000,
            reloads: 3,
            refused: None,
        },
        warnings: vec![format!("interface wan1 is down: {LONG} {LONG}")],
    };
    let text = status::text(&status, Duration::from_secs(1_700_000_125));
    fits(&text);
    assert!(text.contains("up 1d02h") && text.contains("applied 2m05s ago, 3 reloads"), "{text}");
    assert!(text.contains("12 of 1000000 (<1 %)"), "{text}");
}

#[test]
fn uuids_are_taken_by_their_beginning() {
    let filter = |uuid: &str| crate::args::SessionFilter { uuid: Some(uuid.into()), ..Default::default() };
    assert_eq!(api_filters(&filter("0a1b2c3d"))[0].uuid, None);
    let whole = "0a1b2c3d-4e5f-4678-9abc-def012345678";
    assert_eq!(api_filters(&filter(whole))[0].uuid.as_deref(), Some(whole));
    let address = crate::args::SessionFilter { address: "10.0.0.0/8".parse().ok(), ..Default::default() };
    assert_eq!(api_filters(&address).len(), 2);
}
