use std::path::Path;

use super::steps::End;
use super::*;
use crate::args::SocketArgs;
use crate::table::WIDTH;

const UP: follow::IsDown<'static> = &|_, _, _| false;

fn fabric() -> Fabric {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/two-routers.json");
    Fabric::compile(&config::load(&file).unwrap()).unwrap()
}

fn arguments(from: &str, to: &str, protocol: Option<u8>) -> TraceArgs {
    TraceArgs {
        from: from.into(),
        to: to.into(),
        protocol,
        port: None,
        config: None,
        router: None,
        interface: None,
        json: false,
        socket: SocketArgs::default(),
    }
}

/// Traces, checks the width of the report, and gives both.
fn traced(from: &str, to: &str) -> (Trace, String) {
    let trace = trace(&fabric(), &arguments(from, to, None), UP).unwrap();
    let text = report::text(&trace);
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
    (trace, text)
}

fn denial(trace: &Trace) -> (&str, &str, Option<&str>) {
    match &trace.outcome {
        End::Denied { router, reason, origin, .. } => (router, reason, origin.as_deref()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_permitted_packet_is_followed_to_its_next_hop() {
    let (trace, text) = traced("10.1.0.5", "10.2.0.10:443");
    let routers: Vec<&str> = trace.routers.iter().map(|hop| hop.router.as_str()).collect();
    assert_eq!(routers, ["branch", "dc"]);
    let expected = End::Delivered {
        router: "dc".into(),
        interface: "servers".into(),
        device: "eth0".into(),
        next_hop: "10.2.0.10".parse().unwrap(),
    };
    assert_eq!(trace.outcome, expected, "{text}");
    for part in [
        "tcp from 10.1.0.5 to 10.2.0.10 port 443",
        "corp, of the interface",
        "web: 10.2.0.10/32 tcp 443",
        "internet: 0.0.0.0/0 every protocol: its prefix is shorter",
        "web allows corp",
        "to peer dc: wan 198.51.100.10 → 198.51.100.20",
        "/service[name='web']/access-policy[source='corp']",
        "corp, by the metadata of branch",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let taken: Vec<&str> = trace
        .routers
        .iter()
        .flat_map(|hop| &hop.ways)
        .filter(|way| way.taken)
        .map(|way| way.route.as_str())
        .collect();
    assert_eq!(taken.len(), 2, "{text}");
}

#[test]
fn ipv6_goes_the_same_way() {
    let (trace, text) = traced("fd00:1::5", "[fd00:2::10]:80");
    assert!(trace.outcome.arrives(), "{text}");
    assert_eq!(trace.routers.len(), 2);
}

#[test]
fn a_denial_names_the_line() {
    let (trace, text) = traced("10.1.200.3", "10.2.0.10:443");
    let line = "/fairway:authority/service[name='web']/access-policy[source='guests@10.1.200.0/24']";
    assert_eq!(denial(&trace), ("branch", "access-denied", Some(line)), "{text}");
    let hop = &trace.routers[0];
    assert!(
        hop.tenant.as_ref().unwrap().text.contains("guests, which 10.1.128.0/17 belongs to here"),
        "{text}"
    );
    assert!(text.contains("Denied at branch (access-denied): web denies tenant guests."), "{text}");
    assert!(text.contains("fix"), "{text}");
}

#[test]
fn a_denial_never_falls_through_to_a_wider_service() {
    let (trace, text) = traced("10.1.128.7", "10.2.0.10:22");
    assert_eq!(denial(&trace).1, "access-denied", "{text}");
    assert_eq!(trace.routers[0].service.as_ref().unwrap().name.as_deref(), Some("admin.web"));
}

#[test]
fn a_destination_without_service_says_what_would_be_needed() {
    let (trace, text) = traced("fd00:1::5", "[fd00:2::10]:23");
    let (router, reason, origin) = denial(&trace);
    assert_eq!((router, reason, origin), ("branch", "no-service", None), "{text}");
    assert!(text.contains("does not speak this protocol and port"), "{text}");
    assert!(text.contains("add the transport there"), "{text}");
}

#[test]
fn a_source_without_tenant_reaches_public_services_only() {
    let (trace, text) = traced("branch/lan-guests:10.99.0.1", "10.2.0.53:53");
    assert!(trace.outcome.arrives(), "{text}");
    assert!(text.contains("dns is public: everybody is allowed"), "{text}");
    let (trace, text) = traced("branch/lan-guests:10.99.0.1", "10.2.0.10:443");
    assert_eq!(denial(&trace).1, "no-tenant", "{text}");
}

#[test]
fn the_other_direction_and_child_tenants_work() {
    let (trace, text) = traced("10.2.0.10", "10.1.0.70:631");
    assert!(trace.outcome.arrives(), "{text}");
    assert!(text.contains("printers.corp, by the metadata of dc"), "{text}");
}

#[test]
fn an_address_of_the_router_is_answered_by_its_host() {
    let (trace, text) = traced("10.1.0.5", "10.1.0.1");
    assert_eq!(trace.outcome, End::Router { router: "branch".into() }, "{text}");
}

#[test]
fn paths_that_are_down_are_passed_over() {
    let v4 = |_: &str, local: IpAddr, _: IpAddr| local.is_ipv4();
    let arguments = arguments("10.1.0.5", "10.2.0.10:443", None);
    let some = trace(&fabric(), &arguments, &v4).unwrap();
    assert!(some.outcome.arrives(), "{some:?}");
    let ways = &some.routers[0].ways;
    assert_eq!(ways[0].passed.as_deref(), Some("the path is down"));
    assert!(ways.iter().any(|way| way.taken && way.leads.contains("2001:db8:100::10")), "{ways:?}");
    let none = trace(&fabric(), &arguments, &|_, _, _| true).unwrap();
    assert_eq!(denial(&none).1, "path-down");
}

#[test]
fn several_entrances_are_listed() {
    let ambiguous =
        trace(&fabric(), &arguments("tenant:corp", "10.2.0.10:443", None), UP).unwrap_err().to_string();
    assert!(
        ambiguous.contains("branch/lan-corp:") && ambiguous.contains("branch/host:10.1.1.1"),
        "{ambiguous}"
    );
    let mut chosen = arguments("tenant:corp", "10.2.0.10:443", None);
    chosen.interface = Some("host".into());
    assert!(trace(&fabric(), &chosen, UP).unwrap().outcome.arrives());
}

#[test]
fn unknown_senders_tenants_and_services_are_named() {
    for (from, to, said) in [
        ("172.16.0.1", "10.2.0.10:443", "branch/lan-corp"),
        ("tenant:nobody", "10.2.0.10:443", "printers.corp"),
        ("branch/lan", "10.2.0.10:443", "lan-guests"),
        ("north/lan", "10.2.0.10:443", "dc"),
        ("10.1.0.5", "service:wab", "no service wab"),
        ("10.1.0.5", "fd00:2::10", "different families"),
    ] {
        let failure = trace(&fabric(), &arguments(from, to, None), UP).unwrap_err().to_string();
        assert!(failure.contains(said), "{from} {to}: {failure}");
    }
}

#[test]
fn a_service_stands_for_one_of_its_destinations() {
    let (trace, text) = traced("10.1.0.5", "service:admin.web");
    assert_eq!(trace.port, Some(22), "{text}");
    assert!(trace.outcome.arrives(), "{text}");
}

/// The example with one text in it replaced.
fn changed(from: &str, to: &str) -> Fabric {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/two-routers.json");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from}");
    let authority = fairway_config::Authority::parse(&text.replace(from, to)).unwrap();
    Fabric::compile(&authority).unwrap()
}

#[test]
fn a_tenant_that_the_peer_may_not_claim_is_refused_at_the_egress() {
    let fabric = changed(r#""allowed-tenant": ["corp", "guests"]"#, r#""allowed-tenant": ["guests"]"#);
    let trace = trace(&fabric, &arguments("10.1.0.5", "10.2.0.10:443", None), UP).unwrap();
    assert_eq!((denial(&trace).0, denial(&trace).1), ("dc", "tenant-not-allowed"));
    assert_eq!(denial(&trace).2, Some("/fairway:authority/router[name='dc']/peer[name='branch']"));
    assert_eq!(trace.routers.len(), 2);
}

#[test]
fn a_service_without_way_says_what_to_add() {
    let fabric = changed(r#"{ "name": "ping", "service-name": "ping", "local": {} },"#, "");
    let trace = trace(&fabric, &arguments("10.1.0.5", "10.2.0.10", None), UP).unwrap();
    assert_eq!((denial(&trace).0, denial(&trace).1), ("branch", "no-route"));
    assert!(report::text(&trace).contains("add a service-route for ping to branch"));
}
