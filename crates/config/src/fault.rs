//! What is wrong with a configuration, said so that it can be mended.

use core::fmt;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is accepted, but probably does not do what was meant.
    Warning,
}

impl Severity {
    /// The name on screens and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One fault: where it is, what is written there, what is wrong with it and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether the document is refused for it.
    pub severity: Severity,
    /// The instance path (RFC 7951, section 6.11) of the element, such as
    /// `/fairway:authority/service[name='web']/transport[protocol='tcp']`. An entry whose key is
    /// missing or wrong is named by its position: `transport[0]`, counted from 0.
    pub path: String,
    /// What the document says there, shortened; `None` when nothing is there.
    pub value: Option<String>,
    /// What is wrong, as part of a sentence.
    pub problem: String,
    /// What to do, as a sentence.
    pub fix: String,
}

impl Fault {
    pub(crate) fn error(path: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.into(),
            value: None,
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    pub(crate) fn warning(
        path: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, problem, fix) }
    }

    pub(crate) fn with_value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(shortened(&value.to_string()));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.severity.name(), self.path)?;
        match &self.value {
            Some(value) => writeln!(f, "  {value}: {}", self.problem)?,
            None => writeln!(f, "  {}", self.problem)?,
        }
        write!(f, "  fix: {}", self.fix)
    }
}

impl std::error::Error for Fault {}

/// At most 80 characters of `text`, on one line and without control characters.
pub(crate) fn shortened(text: &str) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = characters.by_ref().take(80).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}
