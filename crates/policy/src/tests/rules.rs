//! Each rule of the crate's documentation, by its examples and their counterexamples.

use fairway_types::model::RouterModel;
use fairway_types::{DropReason, Protocol};

use super::fixture::{access, empty, protocol_named, service, tenant};
use crate::{AccessLine, Decision, Snapshot};

/// A model with tenants and services: each service is (name, prefixes, transports, access).
fn model(tenants: &[&str], services: &[(&str, &str, &str, &str)]) -> RouterModel {
    let mut model = empty();
    for name in tenants {
        tenant(&mut model, name);
    }
    for (name, prefixes, transports, lines) in services {
        service(&mut model, name, prefixes, transports);
        access(&mut model, lines);
    }
    model
}

/// What a decision looks like in the tables: `+web line`, `-web line`, `-web` or `-`.
fn describe(snapshot: &Snapshot, decision: Decision) -> String {
    let services = &snapshot.model().services;
    let (sign, service, line) = match decision {
        Decision::Permit { service, line } => ('+', Some(service), Some(line)),
        Decision::Deny { service, line, .. } => ('-', service, line),
    };
    let name = service.map_or("", |id| services[id.index()].name.as_str());
    match line {
        Some(AccessLine::Line { service, index }) => {
            let origin = &services[service.index()].access[index as usize].origin;
            format!("{sign}{name} {}", origin.trim_start_matches("line "))
        }
        Some(AccessLine::Public) => format!("{sign}{name} public"),
        None => format!("{sign}{name}"),
    }
}

/// Checks `TENANT SOURCE DESTINATION PROTOCOL[:PORT]` against [`describe`].
#[track_caller]
fn check(model: RouterModel, cases: &[(&str, &str)]) {
    let snapshot = Snapshot::compile(model).unwrap();
    for (query, expected) in cases {
        let words: Vec<&str> = query.split_whitespace().collect();
        let tenant = (words[0] != "none").then(|| snapshot.tenant_named(words[0]).unwrap());
        let (protocol, port) = words[3].split_once(':').unwrap_or((words[3], "0"));
        let (source, destination) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        let (protocol, port) = (protocol_named(protocol), port.parse().unwrap());
        let decision = snapshot.decide(tenant, source, destination, protocol, port);
        assert_eq!(describe(&snapshot, decision), *expected, "{query}");
        let explanation = snapshot.explain(tenant, source, destination, protocol, port);
        assert_eq!(explanation.decision, decision, "{query}");
        assert_eq!(explanation.matched.map(|row| row.service), decision.service(), "{query}");
    }
}

#[test]
fn rule_1_the_longest_prefix_that_speaks_the_transport_decides() {
    let model = model(
        &["corp"],
        &[
            ("web", "10.0.0.0/8", "tcp:80", "+corp"),
            ("db", "10.1.0.0/16", "tcp:5432", "+corp"),
            ("web6", "2001:db8::/32", "tcp:80", "+corp"),
            ("host6", "2001:db8::1/128", "", "+corp"),
        ],
    );
    check(
        model,
        &[
            ("corp 1.1.1.1 10.1.2.3 tcp:80", "+web +corp"),
            ("corp 1.1.1.1 10.1.2.3 tcp:5432", "+db +corp"),
            ("corp 1.1.1.1 10.2.2.3 tcp:5432", "-"),
            ("corp 1.1.1.1 10.1.2.3 udp:80", "-"),
            ("corp 1.1.1.1 11.1.2.3 tcp:80", "-"),
            ("corp ::1 2001:db8::1 tcp:80", "+host6 +corp"),
            ("corp ::1 2001:db8::2 tcp:80", "+web6 +corp"),
            ("corp ::1 2001:db9::2 tcp:80", "-"),
        ],
    );
}

#[test]
fn rule_2_the_most_specific_transport_decides() {
    let model = model(
        &["corp"],
        &[
            ("https", "10.0.0.0/8", "tcp:443", "+corp"),
            ("high", "10.0.0.0/8", "tcp:1-65535", "+corp"),
            ("web", "10.0.0.0/8", "tcp:400-499,800-899", "+corp"),
            ("all", "10.0.0.0/8", "", "+corp"),
            ("ping", "10.0.0.0/8", "icmp", "+corp"),
        ],
    );
    check(
        model,
        &[
            ("corp 1.1.1.1 10.0.0.1 tcp:443", "+https +corp"),
            ("corp 1.1.1.1 10.0.0.1 tcp:442", "+web +corp"),
            ("corp 1.1.1.1 10.0.0.1 tcp:850", "+web +corp"),
            ("corp 1.1.1.1 10.0.0.1 tcp:80", "+high +corp"),
            ("corp 1.1.1.1 10.0.0.1 tcp:0", "+all +corp"),
            ("corp 1.1.1.1 10.0.0.1 udp:443", "+all +corp"),
            ("corp 1.1.1.1 10.0.0.1 icmp:4711", "+ping +corp"),
            ("corp 1.1.1.1 10.0.0.1 47", "+all +corp"),
        ],
    );
}

#[test]
fn rule_3_services_of_one_prefix_are_told_apart_by_the_source() {
    let model = model(
        &["red", "blue", "ink.red", "green", "grey"],
        &[
            ("printers.red", "10.9.0.0/24", "tcp:631", "+red"),
            ("printers.blue", "10.9.0.0/24", "tcp:631", "+blue"),
            ("lobby", "10.9.0.0/24", "tcp:631", "public -grey"),
            ("aisle", "10.9.0.0/24", "tcp:631", ""),
            ("special", "10.9.0.0/24", "tcp:631", "+ink.red@10.0.0.0/8 -green +*@192.0.2.0/24"),
            ("second", "10.9.0.0/24", "tcp:631", "+green"),
        ],
    );
    check(
        model,
        &[
            ("red 1.1.1.1 10.9.0.1 tcp:631", "+printers.red +red"),
            ("blue 1.1.1.1 10.9.0.1 tcp:631", "+printers.blue +blue"),
            // The more specific line decides, by tenant before source.
            ("ink.red 1.1.1.1 10.9.0.1 tcp:631", "+printers.red +red"),
            ("ink.red 10.1.1.1 10.9.0.1 tcp:631", "+special +ink.red@10.0.0.0/8"),
            ("blue 192.0.2.1 10.9.0.1 tcp:631", "+printers.blue +blue"),
            ("none 192.0.2.1 10.9.0.1 tcp:631", "+special +*@192.0.2.0/24"),
            // A denial before a permission.
            ("green 1.1.1.1 10.9.0.1 tcp:631", "-special -green"),
            // Nobody speaks about it: public first.
            ("none 1.1.1.1 10.9.0.1 tcp:631", "+lobby public"),
            ("grey 1.1.1.1 10.9.0.1 tcp:631", "-lobby -grey"),
        ],
    );
}

#[test]
fn rule_3_names_decide_what_nothing_else_does() {
    let services = |lines| [("beta", "10.0.0.0/8", "", lines), ("alpha", "10.0.0.0/8", "", lines)];
    check(model(&["corp"], &services("+corp")), &[("corp 1.1.1.1 10.0.0.1 udp:1", "+alpha +corp")]);
    check(model(&["corp"], &services("")), &[("corp 1.1.1.1 10.0.0.1 udp:1", "-alpha")]);
    check(model(&["corp"], &services("public")), &[("none 1.1.1.1 10.0.0.1 udp:1", "+alpha public")]);
}

#[test]
fn rule_4_a_denial_never_falls_through() {
    let model = model(
        &["guests", "corp"],
        &[
            ("web", "10.1.0.0/16", "tcp:80", "-guests +corp"),
            ("tcp", "10.1.0.0/16", "tcp", "+guests"),
            ("any", "0.0.0.0/0", "", "+guests public"),
            ("silent", "10.2.0.0/16", "", "+corp"),
        ],
    );
    check(
        model,
        &[
            ("guests 1.1.1.1 10.1.2.3 tcp:80", "-web -guests"),
            ("corp 1.1.1.1 10.1.2.3 tcp:80", "+web +corp"),
            ("guests 1.1.1.1 10.1.2.3 tcp:81", "+tcp +guests"),
            ("corp 1.1.1.1 10.1.2.3 tcp:81", "-tcp"),
            ("guests 1.1.1.1 10.2.0.1 tcp:81", "-silent"),
            ("guests 1.1.1.1 10.1.2.3 udp:80", "+any +guests"),
        ],
    );
}

#[test]
fn rules_5_and_6_a_line_holds_for_children_and_the_deepest_tenant_wins() {
    let tenants = &["corp", "eng.corp", "sales.corp", "lab.eng.corp", "other"];
    for lines in ["+corp -eng.corp", "-eng.corp +corp"] {
        check(
            model(tenants, &[("web", "10.0.0.0/8", "", lines)]),
            &[
                ("corp 1.1.1.1 10.0.0.1 udp:1", "+web +corp"),
                ("sales.corp 1.1.1.1 10.0.0.1 udp:1", "+web +corp"),
                ("eng.corp 1.1.1.1 10.0.0.1 udp:1", "-web -eng.corp"),
                ("lab.eng.corp 1.1.1.1 10.0.0.1 udp:1", "-web -eng.corp"),
                ("other 1.1.1.1 10.0.0.1 udp:1", "-web"),
            ],
        );
    }
    check(
        model(tenants, &[("web", "10.0.0.0/8", "", "+eng.corp -* +lab.eng.corp")]),
        &[
            ("corp 1.1.1.1 10.0.0.1 udp:1", "-web -*"),
            ("none 1.1.1.1 10.0.0.1 udp:1", "-web -*"),
            ("eng.corp 1.1.1.1 10.0.0.1 udp:1", "+web +eng.corp"),
            ("lab.eng.corp 1.1.1.1 10.0.0.1 udp:1", "+web +lab.eng.corp"),
        ],
    );
}

#[test]
fn rules_7_and_8_then_the_longest_source_prefix_then_a_denial() {
    let lines = "-corp +corp@10.1.0.0/16 -corp@10.1.2.0/24 -eng.corp +@192.0.2.0/24 +corp@::/0";
    check(
        model(&["corp", "eng.corp"], &[("web", "10.0.0.0/8", "", lines)]),
        &[
            ("corp 10.1.9.9 10.0.0.1 udp:1", "+web +corp@10.1.0.0/16"),
            ("corp 10.1.2.9 10.0.0.1 udp:1", "-web -corp@10.1.2.0/24"),
            ("corp 10.2.2.9 10.0.0.1 udp:1", "-web -corp"),
            ("corp 192.0.2.1 10.0.0.1 udp:1", "-web -corp"),
            ("none 192.0.2.1 10.0.0.1 udp:1", "+web +@192.0.2.0/24"),
            ("eng.corp 10.1.9.9 10.0.0.1 udp:1", "-web -eng.corp"),
            ("corp fd00::1 10.0.0.1 udp:1", "+web +corp@::/0"),
        ],
    );
    check(
        model(
            &["corp"],
            &[("web", "10.0.0.0/8", "", "+corp -corp +@10.0.0.0/8 -@10.0.0.0/8 -* +@0.0.0.0/0")],
        ),
        &[
            ("corp 10.1.1.1 10.0.0.1 udp:1", "-web -corp"),
            ("none 10.1.1.1 10.0.0.1 udp:1", "-web -@10.0.0.0/8"),
            ("none 11.1.1.1 10.0.0.1 udp:1", "+web +@0.0.0.0/0"),
            ("none ::1 10.0.0.1 udp:1", "-web -*"),
        ],
    );
}

#[test]
fn rule_9_a_child_service_asks_its_parents_after_its_own_lines() {
    let model = model(
        &["corp", "eng.corp", "guests"],
        &[
            ("web", "10.0.0.0/8", "", "+corp +eng.corp@10.0.0.0/8"),
            ("admin.web", "10.1.0.0/16", "", "<web -*"),
            ("shop.web", "10.2.0.0/16", "", "<web +guests -eng.corp@10.9.0.0/16"),
            ("de.shop.web", "10.3.0.0/16", "", "<shop.web"),
            ("open.web", "10.4.0.0/16", "", "<web public"),
        ],
    );
    check(
        model,
        &[
            ("eng.corp 10.1.1.1 10.1.0.1 udp:1", "-admin.web -*"),
            ("corp 10.1.1.1 10.2.0.1 udp:1", "+shop.web +corp"),
            ("guests 10.1.1.1 10.2.0.1 udp:1", "+shop.web +guests"),
            ("guests 10.1.1.1 10.0.0.1 udp:1", "-web"),
            ("eng.corp 10.1.1.1 10.3.0.1 udp:1", "+de.shop.web +eng.corp@10.0.0.0/8"),
            ("eng.corp 10.9.1.1 10.3.0.1 udp:1", "-de.shop.web -eng.corp@10.9.0.0/16"),
            ("guests 10.9.1.1 10.3.0.1 udp:1", "+de.shop.web +guests"),
            ("none 10.9.1.1 10.3.0.1 udp:1", "-de.shop.web"),
            ("corp 10.9.1.1 10.4.0.1 udp:1", "+open.web +corp"),
            ("guests 10.9.1.1 10.4.0.1 udp:1", "+open.web public"),
        ],
    );
}

#[test]
fn rule_10_without_a_line_only_public_services_are_reached() {
    let services = &[
        ("private", "10.1.0.0/16", "", "+corp"),
        ("public", "10.2.0.0/16", "", "public -@10.6.0.0/16"),
        ("child", "10.3.0.0/16", "", "<public"),
    ];
    check(
        model(&["corp", "guests"], services),
        &[
            ("none 1.1.1.1 10.1.0.1 udp:1", "-private"),
            ("none 1.1.1.1 10.2.0.1 udp:1", "+public public"),
            ("guests 1.1.1.1 10.2.0.1 udp:1", "+public public"),
            ("guests 10.6.1.1 10.2.0.1 udp:1", "-public -@10.6.0.0/16"),
            ("guests 1.1.1.1 10.3.0.1 udp:1", "-child"),
        ],
    );
}

#[test]
fn a_denial_names_its_reason() {
    let services = &[("private", "10.0.0.0/8", "tcp", "+corp -@10.6.0.0/16")];
    let snapshot = Snapshot::compile(model(&["corp", "guests"], services)).unwrap();
    let guests = snapshot.tenant_named("guests");
    let reason = |tenant, source: &str, protocol| {
        let destination = "10.0.0.1".parse().unwrap();
        match snapshot.decide(tenant, source.parse().unwrap(), destination, protocol, 1) {
            Decision::Permit { .. } => None,
            Decision::Deny { reason, .. } => Some(reason),
        }
    };
    assert_eq!(reason(None, "1.1.1.1", Protocol::UDP), Some(DropReason::NoService));
    assert_eq!(reason(None, "1.1.1.1", Protocol::TCP), Some(DropReason::NoTenant));
    assert_eq!(reason(None, "10.6.1.1", Protocol::TCP), Some(DropReason::AccessDenied));
    assert_eq!(reason(guests, "1.1.1.1", Protocol::TCP), Some(DropReason::AccessDenied));
    assert_eq!(reason(snapshot.tenant_named("corp"), "1.1.1.1", Protocol::TCP), None);
}
