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

pub(super) fn run(arguments: &Arguments, command: &mut clap::Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "moxie", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
