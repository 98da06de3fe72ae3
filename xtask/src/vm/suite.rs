//! What runs inside a machine: the one place that names tests.
//!
//! Every end-to-end test program joins by itself; only what is left out, and the selection that `cargo xtask test` has time for, is named.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{self, cargo};

/// Test programs of `moxie-agent` that need the real kernel.
const OF_THE_AGENT: [&str; 1] = ["kernel"];

/// End-to-end test programs that run in no machine, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("openapi", "the description of the API does not depend on the kernel"),
    ("package", "it boots a system of its own, in a container of Docker"),
];

/// The selection that shows the kernel half and the way of a connection at work: test programs, and which of their tests.
/// None named: all of them.
const CORE: [(&str, &[&str]); 3] = [
    ("kernel", &[]),
    ("safety", &["a_process_outside_is_never_touched", "children_of_an_opted_in_cgroup"]),
    ("wire", &["ipv6_is_mocked_and_passed_on"]),
];

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What `cargo xtask test` has time for.
    Core,
    /// Every test that needs the real kernel.
    Whole,
}

/// One test program, and which of its tests are run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) filters: Vec<String>,
}

/// The programs that are built for the machines.
pub(super) struct Built {
    /// The test programs of the steps, in their order.
    pub(super) tests: Vec<(Step, PathBuf)>,
    /// The agent.
    pub(super) moxie: PathBuf,
    /// Programs that a test program knows by the path that they were built at.
    pub(super) others: Vec<PathBuf>,
}

/// The steps of `extent`, where these are all end-to-end test programs.
pub(super) fn steps(extent: Extent, end_to_end: &[String]) -> Vec<Step> {
    if extent == Extent::Core {
        return CORE.iter().map(|(name, filters)| step(name, filters)).collect();
    }
    let is_left_out = |name: &&String| LEFT_OUT.iter().any(|(left_out, _why)| name == left_out);
    let end_to_end = end_to_end.iter().filter(|name| !is_left_out(name)).map(String::as_str);
    OF_THE_AGENT.into_iter().chain(end_to_end).map(|name| step(name, &[])).collect()
}

fn step(name: &str, filters: &[&str]) -> Step {
    Step { name: name.to_owned(), filters: filters.iter().map(|&filter| filter.to_owned()).collect() }
}

/// Builds what the steps need. `MOXIE_BIN` names an agent other than the built one.
pub(super) fn build(steps: Vec<Step>) -> Result<Built> {
    let mut build =
        cargo(&["test", "--quiet", "--no-run", "--message-format", "json", "-p", "moxie-agent", "-p", "moxie-tests"]);
    // Cargo builds the programs of a package with its test programs.
    for step in &steps {
        build.args(["--test", &step.name]);
    }
    let messages = command::read(build)?;
    let artifacts: Vec<Value> = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let program = |kind: &str, name: &str| {
        let is_it = |artifact: &&Value| artifact["target"]["kind"][0] == kind && artifact["target"]["name"] == name;
        let is_it = |artifact: &&Value| is_it(artifact) && artifact["profile"]["test"] == (kind == "test");
        let found = artifacts.iter().filter(is_it).find_map(|artifact| artifact["executable"].as_str());
        found.map(PathBuf::from).with_context(|| format!("cargo did not say where it built {name}"))
    };
    let moxie = match std::env::var_os("MOXIE_BIN") {
        Some(given) => PathBuf::from(given),
        None => program("bin", "moxie")?,
    };
    ensure!(Path::new(&moxie).is_file(), "there is no program {}; MOXIE_BIN names one", moxie.display());
    let find = |step: Step| Ok((program("test", &step.name)?, step)).map(|(path, step)| (step, path));
    let tests = steps.into_iter().map(find).collect::<Result<_>>()?;
    Ok(Built { tests, moxie, others: program("bin", "demo").into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_end_to_end_test_joins_by_itself_and_what_is_left_out_stays_out() {
        let programs = ["rules", "openapi", "added_later"].map(str::to_owned);
        let names: Vec<String> = steps(Extent::Whole, &programs).into_iter().map(|step| step.name).collect();
        assert_eq!(names, ["kernel", "rules", "added_later"]);
    }
}
