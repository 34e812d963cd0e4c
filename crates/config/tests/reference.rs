//! `docs/configuration.md` is generated from `yang/`. `FAIRWAY_UPDATE=1 cargo test -p fairway-config
//! --test reference` writes it; without the variable the test tells whether it is up to date.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use core::fmt::Write;

use support::yang::{self, Kind, Node, Type};

const INTRODUCTION: &str = "\
# Configuration reference

<!-- Generated from yang/ by crates/config/tests/reference.rs; do not edit. -->

One JSON document ([RFC 7951](https://www.rfc-editor.org/rfc/rfc7951)) holds the configuration of a whole
authority, and each router finds itself in it by name. The [example of two routers](examples/two-routers.json)
shows nearly everything below. `fairway config validate FILE` names every fault at once, with its place and what
to do about it; `fairway config show --generated FILE` shows what neighborhoods make of a document.

A document is refused for an element it does not know, for a member that is written twice, and for a reference to
something that does not exist. Lists are arrays of objects, and the members that make up the key of a list are given
with it. Numbers and booleans are written without quotes. Secrets are never in the document: `key-file` names the
files that hold them.

In the tables, **bold** members must be given; all others may be left out. A range holds its bounds.
";

const RULES: &str = "
## Rules that span elements

A document is refused when

- a prefix is a member of two tenants in the same neighborhood;
- two lines of one access-policy mean the same source;
- a gateway is not on a prefix of its interface, or is the interface's own address;
- an address is that of two interfaces of a router, or of two routers in one neighborhood;
- an address is unspecified, loopback, multicast, link-local or broadcast;
- two device-interfaces or host-interfaces are the same Linux device;
- an adjacency leads to an address of a family that its interface has no address of;
- a service-route leads to a router that is no peer;
- neighborhoods make more than 4,000,000 paths, or more than 65,535 on one router.

A warning is given, and the document accepted, when

- a prefix has bits set behind its length, or port ranges overlap;
- a service has no address, no service-route anywhere, or nobody who may reach it;
- a fabric interface has no peers, or a tenant;
- a neighborhood of an external interface, or a member of a tenant, has no effect;
- no path leads to a configured peer, an adjacency leads to an address that the peer does not have, or nothing leads
  back;
- two service-routes of a service lead to the same place;
- a router has no path to any other router.

Documents have at most 16 MiB, 2,000,000 values and 32 levels. At most 1,000 faults are listed at once.
";

#[test]
fn the_reference_is_up_to_date() {
    let reference = render();
    let file = support::repository("docs/configuration.md");
    if std::env::var_os("FAIRWAY_UPDATE").is_some() {
        std::fs::write(&file, &reference).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == reference,
        "docs/configuration.md is out of date: run this test with FAIRWAY_UPDATE=1"
    );
}

fn render() -> String {
    let authority = yang::load(&support::repository("yang"));
    let mut text = INTRODUCTION.to_owned();
    section(&mut text, &authority, "fairway:authority");
    text.push_str(RULES);
    text
}

fn section(text: &mut String, node: &Node, path: &str) {
    writeln!(text, "\n## {path}\n\n{}", node.description).unwrap();
    if !node.keys.is_empty() {
        write!(text, "\nList; key `{}`", node.keys.join("`, `")).unwrap();
        if let Some(max) = node.max {
            write!(text, "; at most {max}").unwrap();
        }
        text.push_str(".\n");
    }
    for rule in &node.rules {
        writeln!(text, "\nRefused: {rule}.").unwrap();
    }
    if !node.children.is_empty() {
        text.push_str("\n| member | type | default | description |\n|---|---|---|---|\n");
        node.children.iter().for_each(|child| row(text, child, node, path));
    }
    for child in node.children.iter().filter(|child| has_section(child)) {
        section(text, child, &format!("{path}/{}", child.name));
    }
}

fn has_section(node: &Node) -> bool {
    matches!(node.kind, Kind::Container | Kind::Presence | Kind::List)
}

fn row(text: &mut String, node: &Node, parent: &Node, path: &str) {
    let needed = node.mandatory || parent.keys.contains(&node.name);
    let name = if needed { format!("**`{}`**", node.name) } else { format!("`{}`", node.name) };
    let ty = match (&node.ty, node.kind) {
        (Some(ty), Kind::LeafList) => format!("array, each: {}", describe(ty)),
        (Some(ty), _) => describe(ty),
        (None, Kind::List) => format!("[array of objects](#{})", anchor(&format!("{path}/{}", node.name))),
        (None, _) => format!("[object](#{})", anchor(&format!("{path}/{}", node.name))),
    };
    let ty = node.units.as_ref().map_or(ty.clone(), |units| format!("{ty}, in {units}"));
    let default = node.default.as_ref().map_or(String::new(), |default| format!("`{default}`"));
    let mut description = first_paragraph(node);
    for rule in node.rules.iter().filter(|_| !has_section(node)) {
        write!(description, " Refused: {rule}.").unwrap();
    }
    if node.choice.is_some() {
        description.push_str(" Exactly one of these is given.");
    }
    if let Some(words) = node.ty.as_ref().filter(|ty| ty.base == "enumeration") {
        let words = words.enums.iter().map(|(word, meaning)| format!("`{word}`: {meaning}"));
        write!(description, " {}", words.collect::<Vec<_>>().join(" ")).unwrap();
    }
    writeln!(text, "| {name} | {} | {default} | {} |", cell(&ty), cell(&description)).unwrap();
}

fn first_paragraph(node: &Node) -> String {
    let whole = node.description.split("\n\n").next().unwrap();
    if has_section(node) { format!("{}.", whole.split(['.', ':']).next().unwrap()) } else { whole.to_owned() }
}

fn describe(ty: &Type) -> String {
    match ty.base.as_str() {
        "boolean" => "`true` or `false`".to_owned(),
        "enumeration" => "word".to_owned(),
        "leafref" => format!(
            "name of a {}",
            ty.path
                .as_ref()
                .unwrap()
                .rsplit('/')
                .nth(1)
                .unwrap()
                .replace("fairway:", "")
                .replace("security", "security policy")
        ),
        "inet:ip-prefix" => "IPv4 or IPv6 prefix".to_owned(),
        "inet:ip-address-no-zone" => "IPv4 or IPv6 address".to_owned(),
        "union" => {
            let names: Vec<_> = ty.members[0].enums.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("{}, or the number of another IP protocol", names.join(", "))
        }
        "string" => string(ty),
        _ => format!("number, {}", ty.range.as_deref().unwrap_or("0..65535").replace("..", " to ")),
    }
}

fn string(ty: &Type) -> String {
    let max = ty.length.as_deref().and_then(|length| length.split("..").nth(1)).unwrap_or("any number of");
    match ty.name.as_str() {
        "text" => format!("text of up to {max} characters"),
        "access-source" => "`TENANT`, `PREFIX` or `TENANT@PREFIX`".to_owned(),
        "file-name" => format!("file name of up to {max} characters"),
        "device-name" => format!("device name of up to {max} characters"),
        "route-name" => {
            format!("name of up to {max} letters, digits and `_`, joined by single `-`, `.` or `@`")
        }
        _ => format!("name of up to {max} letters, digits and `_`, joined by single `-` or `.`"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The anchor that Markdown viewers give a heading.
fn anchor(heading: &str) -> String {
    heading.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>().to_lowercase()
}
