//! The project's own commands: set the machine up, show Moxie at work, prove it, keep the house tidy.

mod bench;
mod command;
mod demo;
mod fuzz;
mod openapi;
mod package;
mod setup;
mod soak;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Moxie's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what building and testing need (says first what that is)
    Setup,
    /// Unmodified curl, Python and Node under a rule, in a lab with no way out
    Demo(demo::Options),
    /// Every parser against bytes made up to break it, by cargo-fuzz
    Fuzz(fuzz::Options),
    /// Everything that proves Moxie: formatting to the real kernel
    Test,
    /// The real kernel's tests on Debian's kernels, in virtual machines
    Vm(vm::Options),
    /// What no compiler checks: docs, stage numbers, twins, files that repeat each other
    Tidy,
    /// Refresh docs/openapi.json from the code
    Openapi,
    /// A Debian package, and a tarball with a static program
    Package(package::Options),
    /// Moxie and its peers side by side, and parts of the agent
    Bench(bench::Options),
    /// Mixed traffic with a fault now and then, for as long as it is told
    Soak(soak::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    std::env::set_current_dir(command::root()?)?;
    match verb {
        Verb::Setup => setup::run(),
        Verb::Demo(options) => demo::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Test => test::run(),
        Verb::Vm(options) => vm::run(&options),
        Verb::Tidy => tidy::run(),
        Verb::Openapi => openapi::refresh(),
        Verb::Package(options) => package::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Soak(options) => soak::run(&options),
    }
}
