//! The `lab` command line: what `fairway lab` understands, and its answers.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::LabError;
use crate::operations;
use crate::wire::{self, Change};

/// What `fairway lab` can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LabCommand {
    /// Raise the laboratory that a topology file describes.
    Up {
        /// The topology, such as lab/demo.yaml.
        file: PathBuf,
    },
    /// Run a command inside a host, a router, a NAT box or the namespace of a link.
    Exec {
        /// The laboratory, when several are up.
        #[arg(long)]
        lab: Option<String>,
        /// The host.
        host: String,
        /// The command; a shell when left out.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show what is up: nodes, programs, links and their counters.
    Status {
        /// The laboratory; all when left out.
        name: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show or change what an impaired link does to its frames.
    Link {
        /// The link.
        name: String,
        /// The laboratory, when several are up.
        #[arg(long)]
        lab: Option<String>,
        /// Only the frames of this member; those of all when left out.
        #[arg(long)]
        from: Option<String>,
        /// What is to change.
        #[command(flatten)]
        change: Change,
    },
    /// End a router or service and start it again.
    Restart {
        /// The host or router.
        node: String,
        /// `router` or the service's name; may be left out when the node has one program.
        program: Option<String>,
        /// The laboratory, when several are up.
        #[arg(long)]
        lab: Option<String>,
    },
    /// Remove a laboratory.
    Down {
        /// The laboratory, when several are up.
        name: Option<String>,
    },
    /// Be the wire of an impaired link (started by `up`).
    #[command(hide = true)]
    Wire {
        /// The plan.
        plan: PathBuf,
    },
}

/// Does what the command says, and prints what there is to say.
///
/// # Errors
/// See [`LabError`]. `exec` returns only on failure.
pub fn run(command: LabCommand) -> Result<ExitCode, LabError> {
    let text = match command {
        LabCommand::Up { file } => {
            let executable = std::env::current_exe().map_err(LabError::system("finding this program"))?;
            operations::up(&file, &executable)?.to_string()
        }
        LabCommand::Exec { lab, host, command } => {
            match operations::exec(lab.as_deref(), &host, &command)? {}
        }
        LabCommand::Status { name, json } => status(name.as_deref(), json)?,
        LabCommand::Link { name, lab, from, change } => {
            let report = operations::link(lab.as_deref(), &name, from.as_deref(), &change)?;
            report.senders.iter().map(|sender| format!("{sender}\n")).collect()
        }
        LabCommand::Restart { node, program, lab } => {
            operations::restart(lab.as_deref(), &node, program.as_deref())?;
            String::new()
        }
        LabCommand::Down { name } => down(name.as_deref())?,
        LabCommand::Wire { plan } => {
            wire::run(&plan)?;
            String::new()
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(LabError::system("printing"))?;
    Ok(ExitCode::SUCCESS)
}

fn status(name: Option<&str>, json: bool) -> Result<String, LabError> {
    let all = operations::status(name)?;
    if json {
        return Ok(format!("{:#}\n", serde_json::json!(all)));
    }
    if all.is_empty() {
        return Ok("no laboratory is up: `fairway lab up FILE` raises one\n".to_owned());
    }
    Ok(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn down(name: Option<&str>) -> Result<String, LabError> {
    let report = operations::down(name)?;
    let mut text = format!("laboratory {} is gone\n", report.name);
    if !report.strangers.is_empty() {
        let pids: Vec<String> = report.strangers.iter().map(u32::to_string).collect();
        text += &format!("still running, without a network: {}\n", pids.join(", "));
    }
    Ok(text)
}
