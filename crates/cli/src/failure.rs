//! What a command says when it cannot do what was asked, and the exit codes.

use core::fmt;

/// Done.
pub const OK: u8 = 0;
/// Refused, not found, or faults in what was given.
pub const REFUSED: u8 = 1;
/// The command line itself is wrong. clap uses the same number.
pub const USAGE: u8 = 2;

/// Why a command failed and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    problem: String,
    fix: Option<String>,
    code: u8,
}

/// What commands return: an exit code, or a failure to be printed.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// Something was refused or could not be done. `problem` says where, what and why.
    pub fn refused(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: None, code: REFUSED }
    }

    /// The arguments do not make sense together.
    pub fn usage(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: None, code: USAGE }
    }

    /// Adds what to do, as a sentence without a full stop.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.fix {
            Some(fix) => write!(f, "\n  {fix}"),
            None => Ok(()),
        }
    }
}
