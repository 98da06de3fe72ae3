//! `fuzz`: every parser's target in turn, for a while each, by cargo-fuzz.
//!
//! What it finds on its way stays in `target/fuzz/corpus`; what is committed, in `fuzz/corpus`, is where it begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::command;

/// Installs what runs the targets.
const CARGO_FUZZ: [&str; 6] = ["+nightly", "install", "cargo-fuzz", "--version", "0.13.2", "--locked"];
const FUZZ: &str = "fuzz";
const GROWN: &str = "target/fuzz/corpus";
const CRASHES: &str = "target/fuzz/crashes";
/// No target is worth starting for less.
const LEAST: Duration = Duration::from_secs(2);

/// Which targets, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One target [default: every one, in turn]
    target: Option<String>,
    /// How long altogether, such as 60s, 10m or 2h; each target has an equal share
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    time: Time,
}

/// Seconds, minutes or hours.
#[derive(Clone, Copy, Debug)]
struct Time(Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time; write 60s, 10m or 2h");
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        Ok(Self(Duration::from_secs(number.saturating_mul(seconds))))
    }
}

/// Runs each target for its share of the time; goes on after one that found something, and fails then.
pub(crate) fn run(options: &Options) -> Result<()> {
    let targets = chosen(options.target.as_deref())?;
    let share = options.time.0 / u32::try_from(targets.len())?;
    ensure!(share >= LEAST, "{} targets need {} s at least", targets.len(), targets.len() * 2);
    set_up()?;
    println!("fuzz: building {} targets", targets.len());
    for target in &targets {
        command::show(cargo_fuzz("build", target))?;
    }
    let mut found = Vec::new();
    for target in &targets {
        println!("fuzz: {target} for {} s", share.as_secs());
        let before = crashes(target)?;
        let ran = command::show(fuzzer(target, share)?);
        let after = crashes(target)?;
        let mut new: Vec<&PathBuf> = after.iter().filter(|crash| !before.contains(crash)).collect();
        if let Err(error) = ran
            && new.is_empty()
        {
            // What an earlier run has left crashes still, or the program ended for another reason.
            new.extend(&after);
            if after.is_empty() {
                found.push(format!("{target} left no input: {error:#}"));
            }
        }
        found.extend(new.into_iter().map(|crash| told(target, crash)));
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    println!("fuzz: nothing found by {} targets", targets.len());
    Ok(())
}

/// The targets by their programs.
fn chosen(wanted: Option<&str>) -> Result<Vec<String>> {
    let programs = names(&Path::new(FUZZ).join("fuzz_targets"))?;
    let mut known: Vec<String> =
        programs.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    known.sort();
    match wanted {
        None => Ok(known),
        Some(wanted) if known.iter().any(|target| target == wanted) => Ok(vec![wanted.to_owned()]),
        Some(wanted) => bail!("there is no target {wanted}; write one of {}", known.join(", ")),
    }
}

fn set_up() -> Result<()> {
    let mut nightly = command::program("rustup");
    nightly.args(["run", "nightly", "rustc", "--version"]);
    if command::read(nightly).is_err() {
        bail!("fuzzing needs Rust's nightly: rustup toolchain install nightly --profile minimal");
    }
    if command::is_installed("cargo-fuzz") {
        return Ok(());
    }
    let mut install = command::program("cargo");
    install.args(CARGO_FUZZ);
    println!("fuzz: {}", command::line(&install));
    command::show(install)
}

/// Everything is safe Rust outside `unsafe` blocks that no target reaches, so no sanitizer is built in: panics are what is looked for.
fn cargo_fuzz(verb: &str, target: &str) -> Command {
    let mut command = command::program("cargo");
    command.args(["+nightly", "fuzz", verb, "--fuzz-dir", FUZZ, "--sanitizer", "none", target]);
    // The toolchain of rust-toolchain.toml runs this program; its choice is not the fuzzer's.
    command.env_remove("RUSTUP_TOOLCHAIN").env("CARGO_TARGET_DIR", "target/fuzz");
    command
}

fn fuzzer(target: &str, share: Duration) -> Result<Command> {
    let (grown, crashes) = (Path::new(GROWN).join(target), Path::new(CRASHES).join(target));
    fs::create_dir_all(&grown)?;
    fs::create_dir_all(&crashes)?;
    let mut command = cargo_fuzz("run", target);
    // What is new goes to the first; what once crashed is tried again with the rest, until it is mended.
    command.arg(grown).arg(Path::new(FUZZ).join("corpus").join(target)).arg(&crashes).arg("--");
    command.arg(format!("-max_total_time={}", share.as_secs())).arg(format!("-artifact_prefix={}/", crashes.display()));
    command.args(["-max_len=65536", "-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
    Ok(command)
}

fn crashes(target: &str) -> Result<Vec<PathBuf>> {
    let directory = Path::new(CRASHES).join(target);
    if directory.is_dir() { names(&directory) } else { Ok(Vec::new()) }
}

fn names(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// What to type next.
fn told(target: &str, crash: &Path) -> String {
    let crash = crash.display();
    format!(
        "{target} found {crash}\n  keep it:   mv {crash} fuzz/corpus/{target}/\n  replay it: cargo test -p moxie-tests --test fuzz"
    )
}
