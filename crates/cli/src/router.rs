//! `fairway router`, `fairway reload` and `fairway release`.

use std::io::ErrorKind;

use fairway_router::api::{Fault, Nothing, OffloadRequest, Request, Response, default_socket};
use fairway_router::{Confinement, FileServer, IoChoice, IoOptions, Options};

use crate::args::{
    IoMode, LogFormat, LogLevel, Offload, OffloadArgs, Reload, RouterArgs, ServeFiles, Switch,
};
use crate::client::Connection;
use crate::failure::{self, Failure, Outcome};
use crate::{output, table, units};

/// Runs a router until it is told to end.
pub fn run(args: RouterArgs) -> Outcome {
    let options = Options {
        socket: args.socket.unwrap_or_else(|| default_socket(&args.name)),
        config: args.config,
        name: args.name,
        metrics: args.metrics,
        session_log: args.session_log,
        workers: args.workers.and_then(core::num::NonZeroU8::new),
        busy_poll: std::time::Duration::from_micros(u64::from(args.busy_poll)),
        offload: match args.offload {
            Offload::Auto => fairway_router::Offload::Auto,
            Offload::Off => fairway_router::Offload::Off,
        },
        io: io_options(args.io),
        confinement: Some(Confinement { user: args.user, system_calls: !args.any_system_call }),
        log_format: match args.log {
            LogFormat::Text => fairway_router::LogFormat::Text,
            LogFormat::Json => fairway_router::LogFormat::Json,
        },
        log_level: match args.log_level {
            LogLevel::Error => fairway_router::LogLevel::Error,
            LogLevel::Warning => fairway_router::LogLevel::Warning,
            LogLevel::Info => fairway_router::LogLevel::Info,
            LogLevel::Debug => fairway_router::LogLevel::Debug,
        },
    };
    fairway_router::run(options).map_err(|error| Failure::refused(format!("{error:#}")))?;
    Ok(failure::OK)
}

/// The last word on each interface holds, and on all others.
fn io_options(modes: Vec<(Option<String>, IoMode)>) -> IoOptions {
    let mut options = IoOptions::default();
    for (interface, mode) in modes {
        let choice = match mode {
            IoMode::Auto => IoChoice::Auto,
            IoMode::Packet => IoChoice::Packet,
            IoMode::Xdp => IoChoice::Xdp,
        };
        match interface {
            Some(interface) => options.named.push((interface, choice)),
            None => options.usual = choice,
        }
    }
    options
}

/// Opens files for the router that started this.
pub fn serve_files(args: ServeFiles) -> Outcome {
    let ServeFiles { config, name, socket, session_log } = args;
    let server = FileServer { config, name, socket, session_log };
    fairway_router::serve_files(server).map_err(|error| Failure::refused(format!("{error:#}")))?;
    Ok(failure::OK)
}

/// Makes a running router read its configuration again.
pub fn reload(args: &Reload) -> Outcome {
    let mut router = Connection::open(&args.socket)?;
    let response = router.ask(&Request::Reload(Nothing {}))?;
    if args.json {
        output::json(&response)?;
    }
    match response {
        Response::Reloaded(reloaded) => {
            if !args.json {
                let mut text: String = reloaded.warnings.iter().map(described).collect();
                text.push_str(&format!(
                    "Applied. {} kept, {} removed.\n",
                    units::counted(amount(reloaded.sessions_kept), "session", "sessions"),
                    reloaded.sessions_removed
                ));
                output::text(&text)?;
            }
            Ok(failure::OK)
        }
        Response::Refused(refused) => {
            if !args.json {
                let mut text: String = refused.faults.iter().map(described).collect();
                if refused.more > 0 {
                    text.push_str(&format!(
                        "and {} more\n",
                        units::counted(amount(refused.more), "fault", "faults")
                    ));
                }
                text.push_str("Refused. The router goes on with the configuration it had.\n");
                output::text(&text)?;
            }
            Ok(failure::REFUSED)
        }
        other => Err(router.unexpected(&other)),
    }
}

/// Says whether sessions stay in the kernel.
pub fn offload(args: &OffloadArgs) -> Outcome {
    let mut router = Connection::open(&args.socket)?;
    let wanted = args.state == Switch::On;
    let response = router.ask(&Request::Offload(OffloadRequest { enabled: wanted }))?;
    let Response::Offload(state) = response else { return Err(router.unexpected(&response)) };
    if args.json {
        output::json(&response)?;
    } else if state.enabled {
        output::text("Established plain sessions stay in the kernel.\n")?;
    } else {
        output::text("Workers forward all sessions.\n")?;
    }
    if wanted && !state.enabled {
        return Err(Failure::refused("this router was started without, or on a kernel that cannot")
            .fix("start it with --offload auto; its log says what the kernel lacks"));
    }
    Ok(failure::OK)
}

/// Takes off what a stopped router left at work.
pub fn release(json: bool) -> Outcome {
    let released = fairway_router::release().map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::refused("a router runs in this network namespace")
            .fix("stop it first: systemctl stop fairway-router, or end its process"),
        ErrorKind::PermissionDenied => {
            Failure::refused("only root may take the classifier off").fix("try again with sudo")
        }
        _ => Failure::refused(format!("the classifier could not be taken off: {error}")),
    })?;
    if json {
        output::json(&serde_json::json!({
            "devices": released.devices,
            "ephemeral_ports_restored": released.ephemeral_ports,
        }))?;
    } else if released.devices.is_empty() {
        output::text("Nothing to release: no device has the classifier.\n")?;
    } else {
        output::text(&format!(
            "Released {}. The kernel answers for itself again.\n",
            released.devices.join(", ")
        ))?;
    }
    Ok(failure::OK)
}

fn amount(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn described(fault: &Fault) -> String {
    let mut text = table::paragraph(0, &fault.severity, 7, &units::printable(&fault.path));
    if let Some(value) = &fault.value {
        text.push_str(&table::paragraph(2, "value", 5, &units::printable(value)));
    }
    text.push_str(&table::paragraph(2, "why", 5, &units::printable(&fault.problem)));
    text.push_str(&table::paragraph(2, "fix", 5, &units::printable(&fault.fix)));
    text.push('\n');
    text
}
