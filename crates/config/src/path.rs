//! Instance paths (RFC 7951, section 6.11).

use core::fmt::{Display, Write};

/// The path of the only top-level element.
pub(crate) const ROOT: &str = "/fairway:authority";

/// `parent/name`.
pub(crate) fn child(parent: &str, name: &str) -> String {
    format!("{parent}/{name}")
}

/// `parent/list[key='value']…`.
pub(crate) fn entry(parent: &str, list: &str, keys: &[(&str, &dyn Display)]) -> String {
    let mut path = format!("{parent}/{list}");
    for (key, value) in keys {
        predicate(&mut path, key, &value.to_string());
    }
    path
}

/// `/fairway:authority/list[name='value']`.
pub(crate) fn named(list: &str, name: &str) -> String {
    entry(ROOT, list, &[("name", &name)])
}

/// Appends `[key='value']`, quoted so that the value cannot end the quotation.
pub(crate) fn predicate(path: &mut String, key: &str, value: &str) {
    let quote = if value.contains('\'') { '"' } else { '\'' };
    let value = crate::fault::shortened(value);
    // Writing to a string cannot fail.
    let _ = write!(path, "[{key}={quote}{value}{quote}]");
}

/// The path of a router.
pub(crate) fn router(name: &str) -> String {
    named("router", name)
}
