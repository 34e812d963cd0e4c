//! `fairway completion`: scripts by which shells complete commands and options.

use clap::CommandFactory;
use clap::ValueEnum;
use clap_complete::aot::{Bash, Fish, Generator, Zsh};

use crate::args::Cli;
use crate::failure::{self, Outcome};
use crate::output;

/// A shell that completes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// Prints the script.
pub fn run(shell: Shell) -> Outcome {
    output::text(&script(shell))?;
    Ok(failure::OK)
}

fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => generate(Bash),
        Shell::Zsh => generate(Zsh),
        Shell::Fish => generate(Fish),
    }
}

fn generate(generator: impl Generator) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(generator, &mut Cli::command(), "fairway", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_the_objects_of_show() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for word in ["sessions", "drops", "waypoints", "--config", "trace"] {
                // fish writes long options as `-l config`.
                let found = script.contains(word) || script.contains(&word.replace("--", "-l "));
                assert!(found, "{shell:?} does not know {word}");
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
