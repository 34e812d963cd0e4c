//! Configurations and keys.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// `fairway config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration and name every fault: path, value, reason and fix.
    Validate {
        /// The configuration, a JSON document.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Print the faults as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration with its defaults, as JSON.
    Show(ConfigShow),
}

/// `fairway config show`.
#[derive(Debug, Args)]
pub struct ConfigShow {
    /// The configuration, a JSON document.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Also what neighborhoods generate: peers, adjacencies and service-routes, marked as generated.
    #[arg(long)]
    pub generated: bool,
    /// Only this router, and what all routers share.
    #[arg(long, value_name = "NAME")]
    pub router: Option<String>,
}

/// `fairway key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make random keys: on standard output, in FILEs, or all that a configuration needs.
    ///
    /// Files have mode 0600. A key that exists is never overwritten.
    Generate(KeyGenerate),
}

/// `fairway key generate`.
#[derive(Debug, Args)]
pub struct KeyGenerate {
    /// Files to make, each with a key of its own.
    #[arg(value_hint = ValueHint::FilePath, conflicts_with = "configuration")]
    pub files: Vec<PathBuf>,
    /// Make the missing key files of all pairs of peers in this configuration.
    #[arg(long = "for", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub configuration: Option<PathBuf>,
    /// Where they are made [default: `keys` beside the configuration].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "configuration")]
    pub dir: Option<PathBuf>,
}
