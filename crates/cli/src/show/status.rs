//! `fairway show status`.

use core::time::Duration;
use std::time::SystemTime;

use fairway_router::api::{Nothing, Request, Response, Show, Status};

use super::fabric::share;
use super::{connect, present, seconds};
use crate::args::ShowPlain;
use crate::failure::Failure;
use crate::table::paragraph;
use crate::units;

/// Shows the router itself.
pub fn run(args: &ShowPlain) -> Result<(), Failure> {
    let mut router = connect(args)?;
    match router.ask(&Request::Show(Show::Status(Nothing {})))? {
        Response::Status(status) => present(args, &status, |status| text(status, now())),
        other => Err(router.unexpected(&other)),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the command line is a shell: it says how long ago something was"
)]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The text of `show status`; `now` is the time since the Unix epoch.
pub fn text(status: &Status, now: Duration) -> String {
    let configuration = &status.configuration;
    let age = now.saturating_sub(Duration::from_secs(configuration.applied_unix_seconds));
    let lines = [
        ("router", format!("{} of the authority {}", status.router, status.authority)),
        (
            "version",
            format!("{}, process {}, up {}", status.version, status.pid, seconds(status.uptime_seconds)),
        ),
        (
            "sessions",
            format!(
                "{} of {} ({}), with {}",
                status.sessions,
                status.session_capacity,
                share(status.sessions, status.session_capacity),
                units::counted(status.workers, "worker", "workers")
            ),
        ),
        ("interfaces", format!("{} of {} up", status.interfaces_up, status.interfaces)),
        ("peer paths", format!("{} of {} up", status.paths_up, status.paths)),
        (
            "config",
            format!(
                "{}, applied {} ago, {}",
                configuration.file,
                units::duration(age),
                units::counted(
                    usize::try_from(configuration.reloads).unwrap_or(usize::MAX),
                    "reload",
                    "reloads"
                )
            ),
        ),
    ];
    let mut text: String =
        lines.iter().map(|(label, value)| paragraph(0, label, 11, &units::printable(value))).collect();
    if let Some(refused) = &configuration.refused {
        text.push_str(&paragraph(0, "refused", 11, "the last reload; the router goes on with what it had"));
        for fault in &refused.faults {
            let line = format!("{}: {} ({})", fault.path, fault.problem, fault.fix);
            text.push_str(&paragraph(0, "", 11, &units::printable(&line)));
        }
    }
    for warning in &status.warnings {
        text.push_str(&paragraph(0, "warning", 11, &units::printable(warning)));
    }
    text
}
