//! `fairway lab`: laboratories in network namespaces, which `fairway_lab` raises and describes.

pub use fairway_lab::LabCommand;

use crate::failure::{self, Failure, Outcome};

/// Runs one of the commands. `exec` does not return when it succeeds.
pub fn run(command: LabCommand) -> Outcome {
    fairway_lab::run(command).map_err(|error| Failure::refused(error.to_string()))?;
    Ok(failure::OK)
}
