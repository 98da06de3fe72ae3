//! `test`: every proof in the order of its cost, one line each, and what it came to.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, cargo};
use crate::{bench, setup, soak, tidy, vm};

/// Where each step's output is kept.
const LOGS: &str = "target/xtask";

/// Ways on path besides the one that is taken first.
const OTHER_WAYS: [&str; 2] = ["netfilter", "proxy"];
/// Test programs that hold on every way, but for the rows of `docs/ways.md` that they name.
const ON_EVERY_WAY: [&str; 6] = ["rules", "wire", "run", "safety", "commands", "zero"];

/// What those tests of the loopback programs are in that need root and the kernel half.
const KERNEL: &str = "kernel::";

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Passed,
    Failed,
    Skipped,
}

/// One line of the summary.
struct Line {
    step: String,
    result: Came,
    took: Duration,
}

/// Steps done so far.
#[derive(Default)]
struct Summary {
    lines: Vec<Line>,
}

/// Runs every step, also after one has failed.
pub(crate) fn run() -> Result<()> {
    if command::is_root() {
        setup::run()?;
    } else {
        println!(
            "Without root: nothing is installed, and of the whole agent only what goes by the explicit proxy is proven."
        );
    }
    fs::create_dir_all(LOGS)?;
    let mut summary = Summary::default();
    house(&mut summary);
    let build = cargo(&["build", "-p", "moxie-agent", "--bin", "moxie"]);
    if summary.command("build", build) == Came::Passed {
        code(&mut summary)?;
        kernels(&mut summary);
    }
    summary.tell()
}

/// What needs no agent.
fn house(summary: &mut Summary) {
    summary.command("formatting", cargo(&["fmt", "--all", "--check"]));
    let kernel = cargo(&["fmt", "--manifest-path", "moxie-ebpf/Cargo.toml", "--check"]);
    summary.command("formatting of the kernel half", kernel);
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    summary.command("clippy", cargo(&clippy));
    summary.own("tidy", tidy::run);
    let without = ["check", "-p", "moxie-agent", "--no-default-features"];
    summary.command("build without the kernel half", cargo(&without));
}

/// The tests, from the smallest to the real kernel.
fn code(summary: &mut Summary) -> Result<()> {
    let (store, others) = ("store::", "unit, property and stage tests");
    let own = ["test", "-p", "moxie-common", "-p", "moxie-agent", "-p", "xtask"];
    summary.command(others, with(cargo(&own), &["--", "--skip", store]));
    summary.command("store contract", with(cargo(&["test", "-p", "moxie-agent", "--lib"]), &[store]));
    summary.command("the lab's own parts", cargo(&["test", "-p", "moxie-tests", "--lib"]));
    summary.command("the bench's own parts", cargo(&["test", "-p", "moxie-bench"]));
    for target in [targets("datapath")?, targets("faithful")?].concat() {
        let test = with(cargo(&["test", "-p", "moxie-tests", "--test", &target]), &["--", "--skip", KERNEL]);
        summary.command(&format!("loopback: {target}"), test);
    }
    let (step, test) = ("real kernel: faithful", cargo(&["test", "-p", "moxie-tests", "--test", "faithful", KERNEL]));
    if command::is_root() {
        summary.command(step, test);
    } else {
        summary.skipped(step);
    }
    hostile(summary);
    // What the fuzzer was given and what it has found; the fuzzer itself is `cargo xtask fuzz`.
    summary.command("corpus of the fuzz targets", cargo(&["test", "-p", "moxie-tests", "--test", "fuzz"]));
    summary.command("without root, by the proxy", cargo(&["test", "-p", "moxie-tests", "--test", "unprivileged"]));
    for target in targets("e2e")? {
        let step = if target == "openapi" { "OpenAPI".to_owned() } else { format!("real kernel: {target}") };
        if command::is_root() {
            summary.command(&step, cargo(&["test", "-p", "moxie-tests", "--test", &target]));
        } else {
            summary.skipped(&step);
        }
    }
    other_ways(summary);
    if command::is_root() && command::is_installed("apt-get") {
        summary.own("bench, one short run of each", bench::smoke);
    } else {
        summary.skipped("bench, one short run of each");
    }
    if command::is_root() {
        summary.own("soak, a short one", soak::smoke);
    } else {
        summary.skipped("soak, a short one");
    }
    Ok(())
}

/// Hostile HTTP/1 against the tables of what servers and clients make of it; then the tables against those.
fn hostile(summary: &mut Summary) {
    const PEERS: [&str; 2] = ["the_servers_here", "the_clients_here"];
    let test = || cargo(&["test", "-p", "moxie-tests", "--test", "hostile"]);
    summary.command("hostile HTTP/1", with(test(), &["--", "--skip", PEERS[0], "--skip", PEERS[1]]));
    let step = "hostile HTTP/1: nginx, HAProxy, curl, Python, Node, Go, hyper";
    if ["nginx", "haproxy", "curl", "node", "go"].iter().all(|peer| command::is_installed(peer)) {
        summary.command(step, with(test(), &["--", PEERS[0], PEERS[1]]));
    } else {
        summary.skipped(step);
    }
}

/// The same end to end on the ways that are not the default; what differs is in `docs/ways.md`.
fn other_ways(summary: &mut Summary) {
    for way in OTHER_WAYS {
        for target in ON_EVERY_WAY {
            let step = format!("by {way}: {target}");
            if command::is_root() {
                let mut test = cargo(&["test", "-p", "moxie-tests", "--test", target]);
                test.env("MOXIE_TEST_VIA", way);
                summary.command(&step, test);
            } else {
                summary.skipped(&step);
            }
        }
    }
}

/// The core of the end-to-end tests on the oldest and the newest kernel: what one verifier takes, another may refuse.
fn kernels(summary: &mut Summary) {
    for kernel in [vm::OLDEST, vm::NEWEST] {
        let step = format!("kernel {kernel} in a virtual machine");
        if command::is_installed("apt-get") {
            summary.own(&step, || vm::core(kernel));
        } else {
            summary.skipped(&step);
        }
    }
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// Names of the test programs of `moxie-tests` whose source is in `directory`.
pub(crate) fn targets(directory: &str) -> Result<Vec<String>> {
    let metadata = command::read(cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let own = packages.iter().find(|package| package["name"] == "moxie-tests").context("there is no moxie-tests")?;
    let is_in = |target: &&Value| {
        let path = Path::new(target["src_path"].as_str().unwrap_or_default());
        target["kind"][0] == "test" && path.components().any(|part| part.as_os_str() == directory)
    };
    let found = own["targets"].as_array().into_iter().flatten().filter(is_in);
    Ok(found.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}

impl Summary {
    /// Runs a program; its output is kept, and shown if it fails.
    fn command(&mut self, step: &str, command: Command) -> Came {
        let log = Path::new(LOGS).join(format!("{}.log", step.replace([' ', ',', ':', '/'], "-")));
        self.step(step, || logged(command, &log))
    }

    /// Calls a check of this program's own.
    fn own(&mut self, step: &str, check: impl FnOnce() -> Result<()>) -> Came {
        self.step(step, check)
    }

    fn step(&mut self, step: &str, work: impl FnOnce() -> Result<()>) -> Came {
        let begun = command::now();
        let done = work();
        let took = begun.elapsed();
        let result = if done.is_ok() { Came::Passed } else { Came::Failed };
        let line = Line { step: step.to_owned(), result, took };
        println!("{}", line.text());
        if let Err(error) = done {
            println!("{error:#}");
        }
        self.lines.push(line);
        result
    }

    fn skipped(&mut self, step: &str) {
        let line = Line { step: step.to_owned(), result: Came::Skipped, took: Duration::ZERO };
        println!("{}", line.text());
        self.lines.push(line);
    }

    /// What it all came to; an error if anything failed, or was skipped where nobody would notice.
    fn tell(&self) -> Result<()> {
        let count = |result| self.lines.iter().filter(|line| line.result == result).count();
        let (passed, failed, skipped) = (count(Came::Passed), count(Came::Failed), count(Came::Skipped));
        let took: Duration = self.lines.iter().map(|line| line.took).sum();
        println!("\n{passed} passed, {failed} failed, {skipped} not done, in {:.0} s", took.as_secs_f64());
        if skipped > 0 {
            println!(
                "Not done: what needs the real kernel, or a lab with namespaces, needs root (as root, or by sudo: cargo xtask test); other \
                 kernels need Debian; servers that are missing come by cargo xtask setup."
            );
        }
        if failed > 0 || (skipped > 0 && command::is_ci()) {
            let wanting = self.lines.iter().filter(|line| line.result != Came::Passed);
            bail!("not proven: {}", wanting.map(|line| line.step.as_str()).collect::<Vec<_>>().join("; "));
        }
        Ok(())
    }
}

impl Line {
    fn text(&self) -> String {
        let word = match self.result {
            Came::Passed => "ok",
            Came::Failed => "FAILED",
            Came::Skipped => "not done",
        };
        format!("{word:<9} {:>7.1} s  {}", self.took.as_secs_f64(), self.step)
    }
}

fn logged(mut command: Command, log: &PathBuf) -> Result<()> {
    let line = command::line(&command);
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).env("CARGO_TERM_COLOR", "never");
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{}\n{line}: {status}", fs::read_to_string(log).unwrap_or_default());
    }
    Ok(())
}
