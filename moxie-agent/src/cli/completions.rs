//! `moxie completions SHELL`.

use clap::Args;
use clap_complete::Shell;

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell to complete for
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, command: &clap::Command) -> Result<Exit, Failure> {
    output::print(script(arguments.shell, command).trim_end())?;
    Ok(Exit::Done)
}

fn script(shell: Shell, command: &clap::Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(command), "moxie", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command without its hidden commands: clap_complete would offer these too.
fn visible(command: &clap::Command) -> clap::Command {
    clap::Command::new("moxie")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(command.get_arguments())
        .subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::ValueEnum;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_is_hidden_is_not_offered() {
        for shell in Shell::value_variants() {
            let script = script(*shell, &Cli::command());
            for hidden in ["openapi", "launch", "cover", "uncover"] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
            for offered in ["completions", "uninstall", "upstream-ca", "version"] {
                assert!(script.contains(offered), "{shell}: {offered}");
            }
        }
    }
}
