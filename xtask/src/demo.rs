//! `demo`: builds the agent and the demonstration, and shows it.

use anyhow::Result;
use clap::Args;

use crate::{command, setup};

/// How the demonstration runs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds that each mocked answer is delayed [default: 1]
    #[arg(long, value_name = "SECONDS")]
    delay: Option<f64>,
}

/// Builds in sight, then runs as root.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    command::show(command::cargo(&["build", "-p", "moxie-agent", "--bin", "moxie"]))?;
    command::show(command::cargo(&["build", "-p", "moxie-tests", "--bin", "demo"]))?;
    if !command::is_root() {
        println!("The lab makes network namespaces and cgroups, so it runs by sudo.");
    }
    let mut demo = command::as_root("target/debug/demo", &[])?;
    if let Some(delay) = options.delay {
        demo.args(["--delay", &delay.to_string()]);
    }
    command::show(demo)
}
