//! Faults are told all at once, each with its place, what is there and what to do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use fairway_config::{Authority, Fault, MAX_DOCUMENT, Severity, validate};
use serde_json::{Value, json};

/// Changes the members of the authority.
type Change = fn(&mut Value);

fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut document: Value = serde_json::from_str(&support::example()).unwrap();
    change(&mut document["fairway:authority"]);
    document.to_string()
}

fn only(document: &str) -> Fault {
    let mut faults = validate(document);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

#[test]
fn every_fault_of_a_document_is_told_at_once() {
    let document = changed(|authority| {
        authority["service"][0]["transport"][0]["port-range"][0]["start-port"] = json!(70_000);
        authority["service"][1]["securty"] = json!("signed-only");
        authority["router"][0]["node"][0]["device-interface"][0]["network-interface"][0]["tenant"] =
            json!("crop");
        authority["router"][1]["service-route"][4]["next-hop"]["gateway"] = json!("203.0.113.1");
        authority["router"][1]["service-route"][0]["local"] = Value::Null;
    });
    let faults = validate(&document);
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/fairway:authority/service[name='web']/transport[protocol='tcp']/port-range[0]/start-port",
            "/fairway:authority/service[name='admin.web']/securty",
            "/fairway:authority/router[name='branch']/node[name='node0']/device-interface[name='lan']\
             /network-interface[name='lan-corp']/tenant",
            "/fairway:authority/router[name='dc']/service-route[name='web']/local",
            "/fairway:authority/router[name='dc']/service-route[name='internet']/next-hop/gateway",
        ]
    );
    assert!(faults.iter().all(|fault| fault.severity == Severity::Error && !fault.fix.is_empty()));
    assert_eq!(faults[0].value.as_deref(), Some("70000"));
    assert_eq!(faults[1].fix, "did you mean 'security'?");
    assert_eq!(faults[2].fix, "did you mean 'corp'?");
    assert_eq!(
        faults[4].to_string(),
        "error: /fairway:authority/router[name='dc']/service-route[name='internet']/next-hop/gateway\n  \
         203.0.113.1: is not on a prefix of interface 'wan'\n  \
         fix: write an address in 198.51.100.0/24 or 2001:db8:100::/64, or name the interface that has it"
    );
}

#[test]
fn doubled_members_are_found_where_they_are() {
    let text = support::example().replacen(
        "\"scope\": \"public\"",
        "\"scope\": \"public\", \"scope\": \"private\"",
        1,
    );
    let fault = only(&text);
    assert_eq!(fault.path, "/fairway:authority/service[name='dns']/scope");
    assert_eq!(fault.problem, "written twice in one object");
}

#[test]
fn a_broken_text_is_told_with_line_and_column() {
    let fault = only("{\n  \"fairway:authority\": {,}\n}");
    assert!(fault.problem.contains("line 2 column 25"), "{}", fault.problem);
}

#[test]
fn documents_without_bounds_are_refused_cheaply() {
    assert!(only(&" ".repeat(MAX_DOCUMENT + 1)).problem.contains("bytes"));
    assert!(only(&"[".repeat(100_000)).problem.contains("nested"));
    let many = format!("[{}0]", "0,".repeat(3_000_000));
    assert!(only(&many).problem.contains("values"));
    let unknown: Vec<String> = (0..5_000).map(|number| format!("\"x{number}\": 1")).collect();
    let faults = validate(&format!("{{\"fairway:authority\": {{\"name\": \"x\", {}}}}}", unknown.join(",")));
    assert_eq!(faults.len(), 1_001);
}

#[test]
fn a_fault_in_one_element_raises_none_in_others() {
    // The tenant's entry is broken, yet its name is known to whoever refers to it.
    let document = changed(|authority| authority["tenant"][0]["colour"] = json!("red"));
    assert_eq!(only(&document).path, "/fairway:authority/tenant[name='corp']/colour");
    // The interface loses its address; that its peers lose a path is not told as well.
    let document = changed(|authority| {
        let interface = &mut authority["router"][0]["node"][0]["device-interface"][1]["network-interface"][0];
        interface["address"][0]["prefix-length"] = json!(64);
        interface["address"][0]["ip-address"] = json!("198.51.100");
    });
    assert!(only(&document).path.ends_with("/address[0]/ip-address"));
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let cases: [(Change, &str); 8] = [
        (|a| a["service"][0]["address"][0] = json!("10.2.0.10/24"), "has bits set behind its length"),
        (
            |a| drop(a["router"][0].as_object_mut().unwrap().remove("service-route")),
            "no router has a service-route",
        ),
        (|a| drop(a["service"][3].as_object_mut().unwrap().remove("access-policy")), "nobody may reach it"),
        (
            |a| a["tenant"][0]["member"] = json!([{"neighborhood": "nowhere"}]),
            "no interface is in this neighborhood",
        ),
        (
            |a| {
                let interface = &mut a["router"][0]["node"][0]["device-interface"][1]["network-interface"][0];
                interface["tenant"] = json!("corp");
            },
            "nothing without metadata is accepted on a fabric interface",
        ),
        (
            |a| {
                let interface = &mut a["router"][1]["node"][0]["device-interface"][0]["network-interface"][0];
                interface["neighborhood"] = json!([{"name": "elsewhere"}]);
            },
            "the interface is external",
        ),
        (
            |a| a["router"].as_array_mut().unwrap().push(json!({"name": "island"})),
            "has no path to any other router",
        ),
        (
            |a| {
                let interface = &mut a["router"][1]["node"][0]["device-interface"][1]["network-interface"][0];
                interface["adjacency"][0]["ip-address"] = json!("2001:db8:100::99");
            },
            "no interface of router 'branch' has this address",
        ),
    ];
    for (change, problem) in cases {
        let authority = Authority::parse(&changed(change)).unwrap();
        let warnings = authority.warnings();
        assert!(warnings.iter().any(|fault| fault.problem.contains(problem)), "{problem}: {warnings:#?}");
        assert!(warnings.iter().all(|fault| fault.severity == Severity::Warning));
    }
}
