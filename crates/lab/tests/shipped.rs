//! The topologies that come with Fairway are right, and so are their configurations.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fairway_config::{Authority, Severity};
use fairway_lab::topology::{Configuration, Topology};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn every_topology_is_right_and_named_after_its_file() {
    assert!(files().len() >= 5);
    for file in files() {
        let topology = Topology::read(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(file.file_stem().unwrap().to_str(), Some(topology.name.as_str()));
    }
}

#[test]
fn every_router_finds_its_interfaces_in_the_configuration() {
    for file in files() {
        let topology = Topology::read(&file).unwrap();
        let Some(Configuration::File(config)) = &topology.config else { continue };
        let text = std::fs::read_to_string(config).unwrap();
        let authority = Authority::parse(&text).unwrap_or_else(|faults| panic!("{config:?}: {faults:#?}"));
        assert!(authority.warnings().iter().all(|fault| fault.severity != Severity::Error));
        for router in topology.routers() {
            let model = authority.router_model(router).unwrap_or_else(|error| panic!("{router}: {error:?}"));
            let configured: BTreeSet<String> = model
                .interfaces
                .iter()
                .flat_map(|i| i.addresses.iter().map(move |a| format!("{} {}", i.device, a.address)))
                .collect();
            let node = &topology.nodes[router];
            let built: BTreeSet<String> = node
                .interfaces
                .values()
                .flat_map(|i| i.addresses.iter().map(move |a| format!("{} {a}", i.device)))
                .collect();
            assert_eq!(configured, built, "{router} of {file:?}");
        }
    }
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab.md");
    let text = std::fs::read_to_string(file).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut examples = 0;
    for block in blocks {
        // A part of a file gets what it leaves out: a name, and a second node on its link.
        let whole = match block.starts_with("name:") {
            true => block.to_owned(),
            false => format!(
                "name: part\nlinks: {{ lan: {{}} }}\n{block}  peer: {{ interfaces: {{ lan: {{}} }} }}\n"
            ),
        };
        Topology::parse(&whole).unwrap_or_else(|faults| panic!("{faults:#?} in\n{whole}"));
        examples += 1;
    }
    assert!(examples >= 2);
}
