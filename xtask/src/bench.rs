//! `bench`: Moxie and its peers side by side, each a ratio within one run; what connect() costs; and parts of the agent by themselves.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::command;

mod programs;

/// Where everything that the bench needs and makes is kept.
const HOME: &str = "target/bench";

/// Which benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// What no rule names
    Passthrough,
    /// What a rule might name
    Intercept,
    /// What a rule answers
    Mock,
    /// One rule to a hundred thousand
    Rules,
    /// How exact a delay is
    Delay,
    /// Idle, and with ten thousand idle connections
    Memory,
    /// What connect() costs; written to docs/bench-kernel.md
    Kernel,
    /// All of these; written to docs/performance.md
    All,
    /// Parts of the agent by themselves, without root
    Parts,
}

/// What to measure, and how thoroughly.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which benchmarks
    #[arg(default_value = "all")]
    what: What,
    /// Only the row with this id, such as P10
    #[arg(long)]
    row: Option<String>,
    /// How long each run takes, in seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// Runs of each target, taken in turn
    #[arg(long)]
    repeats: Option<usize>,
    /// One short run of each with the debug build, against what Debian has: that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// With `parts`: only those whose name contains this
    #[arg(long)]
    filter: Option<String>,
}

/// Runs them.
pub(crate) fn run(options: &Options) -> Result<()> {
    match options.what {
        What::Parts => {
            let mut bench = command::cargo(&["bench", "-p", "moxie-agent", "--benches", "--"]);
            bench.args(&options.filter);
            command::show(bench)
        }
        What::Kernel => {
            command::show(command::cargo(&["build", "-p", "moxie-agent"]))?;
            kernel(None)
        }
        _ => {
            let agent = side_by_side(options)?;
            if options.what == What::All && !options.quick { kernel(Some(&agent)) } else { Ok(()) }
        }
    }
}

/// As `cargo xtask test` does it.
pub(crate) fn smoke() -> Result<()> {
    run(&Options { what: What::All, row: None, seconds: None, repeats: Some(1), quick: true, filter: None })
}

/// What connect() costs, with the agent beside the program or another one.
fn kernel(agent: Option<&Path>) -> Result<()> {
    let mut bench =
        command::cargo(&["run", "-p", "moxie-tests", "--bin", "bench_kernel", "--", "docs/bench-kernel.md"]);
    if let Some(agent) = agent {
        bench.env("MOXIE_BIN", agent);
    }
    command::show(bench)
}

/// Builds and installs what is needed and runs the program `bench`; gives the agent that was measured.
fn side_by_side(options: &Options) -> Result<std::path::PathBuf> {
    ensure!(command::is_root(), "the bench makes network namespaces and cgroups: run it as root");
    fs::create_dir_all(HOME)?;
    let home = Path::new(HOME).canonicalize()?;
    let programs =
        programs::install(&home, if options.quick { programs::Kinds::Debian } else { programs::Kinds::All })?;
    let built = build(if options.quick { Profile::Debug } else { Profile::Release })?;
    let mut bench = Command::new("target/debug/bench");
    let name = options.what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    bench.arg(&name).env("MOXIE_BIN", built.join("moxie")).arg("--load").arg(built.join("load"));
    bench.arg("--peers").arg(command::root()?.join("bench/peers"));
    bench.arg("--programs").arg(programs.root).arg("--venv").arg(programs.venv);
    bench.arg("--json").arg(home.join(format!("{name}.json")));
    if let Some(row) = &options.row {
        bench.args(["--row", row]);
    }
    if let Some(seconds) = options.seconds {
        bench.arg("--seconds").arg(seconds.to_string());
    }
    if let Some(repeats) = options.repeats {
        bench.arg("--repeats").arg(repeats.to_string());
    }
    if options.quick {
        bench.arg("--quick");
    } else if options.what == What::All {
        bench.args(["--write", "docs/performance.md"]);
    }
    command::show(bench)?;
    Ok(built.join("moxie"))
}

/// How the programs that are measured are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Fast to build.
    Debug,
    /// As users have it.
    Release,
}

/// Builds the agent and the generator, and the programs that look after them; gives the directory of the former.
pub(crate) fn build(profile: Profile) -> Result<std::path::PathBuf> {
    let mut measured =
        command::cargo(&["build", "-p", "moxie-agent", "-p", "moxie-bench", "--bin", "moxie", "--bin", "load"]);
    let directory = match profile {
        Profile::Debug => "target/debug",
        Profile::Release => {
            measured.arg("--release");
            "target/release"
        }
    };
    println!("bench: {}", command::line(&measured));
    command::show(measured)?;
    command::show(command::cargo(&["build", "-p", "moxie-bench", "--bin", "bench", "--bin", "soak"]))?;
    Ok(command::root()?.join(directory))
}
