//! `bench`: the benchmarks, each a ratio within one run.

use anyhow::Result;
use clap::Args;

use crate::command;

/// Which benchmarks.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only those whose name contains this; `kernel`: what connect() costs, as root, written to docs/bench-kernel.md
    filter: Option<String>,
}

/// Runs them.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.filter.as_deref() == Some("kernel") {
        command::show(command::cargo(&["build", "-p", "moxie-agent"]))?;
        return command::show(command::cargo(&[
            "run",
            "-p",
            "moxie-tests",
            "--bin",
            "bench_kernel",
            "--",
            "docs/bench-kernel.md",
        ]));
    }
    let mut bench = command::cargo(&["bench", "-p", "moxie-agent", "--benches", "--"]);
    bench.args(&options.filter);
    command::show(bench)
}
