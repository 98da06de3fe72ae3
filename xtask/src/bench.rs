//! `bench`: the benchmarks, each a ratio within one run.

use anyhow::Result;
use clap::Args;

use crate::command;

/// Which benchmarks.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only those whose name contains this
    filter: Option<String>,
}

/// Runs them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut bench = command::cargo(&["bench", "-p", "moxie-agent", "--benches", "--"]);
    bench.args(&options.filter);
    command::show(bench)
}
