//! From the text of a document to validated elements.

use serde::Deserialize;

use crate::document;
use crate::elements::Authority;
use crate::fault::{Fault, Severity};
use crate::path;
use crate::rules;
use crate::walk;

impl Authority {
    /// Reads and validates a document.
    ///
    /// Elements marked `generated` are checked like all others and then dropped:
    /// [`Authority::generate`] makes them anew.
    ///
    /// # Errors
    /// Every fault at once (at most some thousand), warnings included, when at least one is an
    /// error; errors come first.
    pub fn parse(json: &str) -> Result<Self, Vec<Fault>> {
        let document = document::read(json).map_err(|fault| vec![fault])?;
        let walked = walk::walk(&document);
        drop(document);
        let mut faults = walked.faults;
        let Some(value) = walked.value else { return Err(faults) };
        let mut authority = match Self::deserialize(value) {
            Ok(authority) => authority,
            Err(error) => {
                // The walk lets nothing pass that the types refuse; if it ever does, say so.
                let fix = "report this: the schema and the types of the program disagree";
                faults.push(Fault::error(path::ROOT, error.to_string(), fix));
                return Err(faults);
            }
        };
        faults.extend(rules::check(&authority, faults.is_empty()));
        faults.sort_by_key(|fault| fault.severity);
        if faults.iter().any(|fault| fault.severity == Severity::Error) {
            return Err(faults);
        }
        authority.drop_generated();
        authority.warnings = faults;
        Ok(authority)
    }
}
