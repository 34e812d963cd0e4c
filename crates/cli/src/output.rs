//! The only place that writes to the standard streams.
//!
//! A reader that has seen enough (`fairway show sessions | head`) closes the pipe: that is no error
//! of ours, and the command ends quietly.

use std::io::{self, BufRead, BufWriter, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Writes `text` to standard output as it is.
///
/// # Errors
/// When standard output cannot be written for another reason than a closed pipe, which ends the
/// process with success.
pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    settle(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes `value` to standard output as indented JSON with a newline.
///
/// # Errors
/// As [`text`].
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let out = io::stdout().lock();
    let mut out = BufWriter::new(out);
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    settle(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Writes a line to standard error; nothing can be done when that fails.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Reports a failure on standard error.
pub fn failure(failure: &Failure) {
    note(&format!("fairway: {failure}"));
}

/// Asks a yes-or-no question on the terminal. `None` when nobody is there to answer.
pub fn confirmed(question: &str) -> Option<bool> {
    let input = io::stdin();
    if !input.is_terminal() {
        return None;
    }
    let mut error = io::stderr().lock();
    let _ = write!(error, "{question} [y/N] ");
    let _ = error.flush();
    let mut answer = String::new();
    input.lock().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Ends the process because nobody reads what it writes.
#[allow(clippy::exit, reason = "the reader is gone; nothing is left to clean up")]
pub fn hung_up() -> ! {
    std::process::exit(i32::from(crate::failure::OK))
}

fn settle(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => hung_up(),
        Err(error) => Err(Failure::refused(format!("cannot write the output: {error}"))),
    }
}
