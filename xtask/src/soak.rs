//! `soak`: mixed traffic against a destination of which every answer is known, with a fault now and then.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::bench::{self, Profile};
use crate::command;

/// From one fault to the next, in a long soak.
const EVERY: Duration = Duration::from_secs(60);
/// Parts of a shorter soak, each with a fault but the first.
const PARTS: u32 = 6;
/// The least time from one fault to the next, so that each is seen by itself.
const APART: Duration = Duration::from_secs(5);
/// Where everything that was seen is written to.
const SEEN: &str = "target/bench/soak.json";

/// For how long, and with which faults.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long the traffic lasts, such as 60s, 30m, 8h
    #[arg(long = "for", default_value = "30m", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// From one fault to the next; unless given, a minute, or a sixth of a shorter soak
    #[arg(long, value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// What faults and calls are drawn from; unless given, the time
    #[arg(long)]
    seed: Option<u64>,
    /// Only these: kill, restart, hang, upgrade, churn, reset, stall, descriptors, namespace, switch
    #[arg(long)]
    faults: Option<String>,
    /// With the debug build
    #[arg(long)]
    debug: bool,
}

/// Builds what is needed and runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(command::is_root(), "the soak makes network namespaces and cgroups: run it as root");
    let built = bench::build(if options.debug { Profile::Debug } else { Profile::Release })?;
    if let Some(directory) = Path::new(SEEN).parent() {
        fs::create_dir_all(directory)?;
    }
    let every = options.every.unwrap_or_else(|| EVERY.min(options.lasts / PARTS).max(APART));
    let mut soak = Command::new("target/debug/soak");
    soak.env("MOXIE_BIN", built.join("moxie")).args(["run", "--json", SEEN]);
    soak.arg("--seconds").arg(options.lasts.as_secs_f64().to_string());
    soak.arg("--every").arg(every.as_secs_f64().to_string());
    soak.arg("--seed").arg(options.seed.unwrap_or_else(from_time).to_string());
    if let Some(faults) = &options.faults {
        soak.arg("--faults").arg(faults);
    }
    command::show(soak)
}

/// As `cargo xtask test` does it: the same short one each time.
pub(crate) fn smoke() -> Result<()> {
    let lasts = Duration::from_secs(45);
    run(&Options { lasts, every: None, seed: Some(1), faults: None, debug: true })
}

fn from_time() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
