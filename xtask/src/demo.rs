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
    /// By the explicit proxy, with stand-ins on loopback, also where this is root
    #[arg(long)]
    without_root: bool,
}

/// Builds in sight, then runs: as root in a lab, on the real kernel; without, what can be done by the proxy.
pub(crate) fn run(options: &Options) -> Result<()> {
    let is_lab = command::is_root() && !options.without_root;
    if is_lab {
        setup::run()?;
    } else {
        println!(
            "Without root: by the explicit proxy, on loopback. As root, `cargo xtask demo` shows the same by eBPF, in a lab."
        );
    }
    let mut agent = command::cargo(&["build", "-p", "moxie-agent", "--bin", "moxie"]);
    if !is_lab && !setup::has_kernel_toolchain() {
        println!("There is no toolchain for the kernel half, and the proxy needs none: the agent is built without it.");
        agent.arg("--no-default-features");
    }
    command::show(agent)?;
    command::show(command::cargo(&["build", "-p", "moxie-tests", "--bin", "demo"]))?;
    let mut demo = command::program("target/debug/demo");
    if !is_lab {
        demo.arg("--without-root");
    }
    if let Some(delay) = options.delay {
        demo.args(["--delay", &delay.to_string()]);
    }
    command::show(demo)
}
