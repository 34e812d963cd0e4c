//! The data model: one RFC 7951 document for a whole authority, validated and turned into the model
//! of one router.
//!
//! The way of a document: `document` reads strict JSON, `walk` holds it against `schema` (which a
//! test holds against `yang/`) and reports every fault with its instance path, `rules` checks what
//! spans elements, `elements` are the validated types, `generate` and `routes` expand neighborhoods
//! into peers, adjacencies and service-routes, and `model` builds what a router runs on.
//!
//! ```
//! let faults = fairway_config::validate(r#"{"fairway:authority": {"name": "acme", "tennant": []}}"#);
//! assert_eq!(faults[0].path, "/fairway:authority/tennant");
//! assert!(faults[0].fix.contains("tenant"));
//! ```
//!
//! No file is read here: key files are named, never opened.

mod document;
pub mod elements;
mod emit;
mod fault;
mod generate;
mod graph;
mod interpret;
mod model;
mod names;
mod path;
mod routes;
mod rules;
mod schema;
mod walk;

pub use elements::Authority;
pub use fault::{Fault, Severity};

/// The longest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// Every fault of a document, warnings included; empty when there is nothing to say.
///
/// Errors come before warnings, both in the order of the document's elements.
#[must_use]
pub fn validate(json: &str) -> Vec<Fault> {
    match Authority::parse(json) {
        Ok(authority) => authority.warnings().to_vec(),
        Err(faults) => faults,
    }
}
