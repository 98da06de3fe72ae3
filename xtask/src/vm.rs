//! `vm`: Debian's kernels in virtual machines, with the end-to-end tests inside, so that what one verifier takes and another
//! refuses is found.

mod archive;
mod console;
mod debian;
mod emulator;
mod machine;
mod suite;
mod userland;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{setup, test};
use console::{Event, Outcome};
use debian::Unpacked;
use emulator::Emulator;
use machine::{Accelerator, Bounds};
use suite::{Built, Extent};

/// Kernels, file systems and logs.
const HOME: &str = "target/vm";
/// A machine that says nothing for as long as this says nothing any more.
const SILENCE: Duration = Duration::from_secs(900);
/// Longest time to boot.
const BOOT: Duration = Duration::from_secs(300);
/// Longest time of a step inside.
const STEP: Duration = Duration::from_secs(1200);

/// A kernel to prove Moxie on: where Debian has it.
#[derive(Debug)]
struct Kernel {
    name: &'static str,
    suite: &'static str,
    /// What its release begins with.
    begins: &'static str,
}

/// Works on a best-effort basis.
pub(crate) const OLDEST: &str = "5.10";
/// The one that is still being made, so that a refusal is known before it is on anybody's host.
pub(crate) const NEWEST: &str = "7.x";

const KERNELS: [Kernel; 4] = [
    Kernel { name: OLDEST, suite: "bullseye", begins: "5.10." },
    Kernel { name: "6.1", suite: "bookworm", begins: "6.1." },
    Kernel { name: "6.12", suite: "bookworm-backports", begins: "6.12." },
    Kernel { name: NEWEST, suite: "sid", begins: "7." },
];

/// Which kernels, and how much.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which kernel
    #[arg(default_value = "all", value_parser = [OLDEST, "6.1", "6.12", NEWEST, "all"])]
    kernel: String,
    /// Only the selection of tests that `cargo xtask test` runs
    #[arg(long)]
    core: bool,
}

/// Runs the tests on each kernel, also after one has failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    let extent = if options.core { Extent::Core } else { Extent::Whole };
    let wanted = KERNELS.iter().filter(|kernel| options.kernel == "all" || options.kernel == kernel.name);
    let built = suite::build(suite::steps(extent, &test::targets("e2e")?))?;
    let mut failed = Vec::new();
    for kernel in wanted {
        if let Err(error) = prove(kernel, &built, |line| println!("{line}")) {
            println!("FAILED    {:<5} {error:#}", kernel.name);
            failed.push(kernel.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("not proven on Linux {}", failed.join(", ")) }
}

/// The core selection on the kernel `name`, with no word of how it goes.
pub(crate) fn core(name: &str) -> Result<()> {
    let kernel = KERNELS.iter().find(|kernel| kernel.name == name);
    let kernel = kernel.with_context(|| format!("there is no kernel {name} in the table"))?;
    prove(kernel, &suite::build(suite::steps(Extent::Core, &[]))?, |_| ())
}

/// Fetches a kernel, boots it and runs every step inside; a line for each goes to `say`.
fn prove(kernel: &Kernel, built: &Built, mut say: impl FnMut(&str)) -> Result<()> {
    let fetched = debian::fetch(kernel, &home()?)?;
    let file_system = pack(kernel, &fetched, built)?;
    let emulator = Emulator::here(&home()?)?;
    let log = home()?.join(format!("{}.log", kernel.name));
    let mut outcomes = Vec::new();
    let told = |event| {
        match event {
            Event::Booted(release) => {
                ensure!(release == fetched.release, "Linux {release} was booted instead of {}", fetched.release);
                let (version, by) = (&fetched.version, Accelerator::here().name());
                say(&format!(
                    "booted              {:<5} {release} ({version}), by qemu {} {by}",
                    kernel.name,
                    emulator.version()
                ));
            }
            Event::Ended(outcome) => {
                say(&line(kernel, &outcome));
                outcomes.push(outcome);
            }
            Event::Done => (),
        }
        Ok(())
    };
    let steps = u32::try_from(built.tests.len())?;
    let bounds = Bounds { silence: SILENCE, whole: BOOT + STEP * steps };
    let ended = machine::run(&emulator, &fetched.image, &file_system, &log, &bounds, told);
    fs::remove_file(file_system)?;
    ended?;
    verdict(built, &outcomes, &log)
}

/// The file system of one kernel, packed.
fn pack(kernel: &Kernel, fetched: &Unpacked, built: &Built) -> Result<PathBuf> {
    let scratch = home()?.join("programs").join(kernel.name);
    fs::create_dir_all(&scratch)?;
    let mut archive = userland::pack(built, &scratch, STEP.as_secs())?;
    userland::add_modules(&mut archive, &fetched.modules)?;
    let path = home()?.join(format!("{}.cpio", kernel.name));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    archive.write(BufWriter::new(file))?;
    Ok(path)
}

fn line(kernel: &Kernel, outcome: &Outcome) -> String {
    let word = if outcome.is_good() { "ok" } else { "FAILED" };
    format!("{word:<9} {:>5} s   {:<5} {}: {}", outcome.seconds, kernel.name, outcome.step, outcome.text())
}

/// Every step has ended, and well.
fn verdict(built: &Built, outcomes: &[Outcome], log: &Path) -> Result<()> {
    let mut wanting = Vec::new();
    for (step, _) in &built.tests {
        match outcomes.iter().find(|outcome| outcome.step == step.name) {
            None => wanting.push(format!("{}: never ended", step.name)),
            Some(outcome) if !outcome.is_good() => wanting.push(outcome.complaint()),
            Some(_) => (),
        }
    }
    if wanting.is_empty() { Ok(()) } else { bail!("{}\nall of it is in {}", wanting.join("\n"), log.display()) }
}

fn home() -> Result<PathBuf> {
    fs::create_dir_all(HOME)?;
    Ok(Path::new(HOME).canonicalize()?)
}
