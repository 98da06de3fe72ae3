//! The agent may have only so much memory: before it has that, new connections go direct.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Place, agent};
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Lab, Session, bounds, wait};
use serde_json::{Value, json};

use crate::load::{PLAIN, opt_in};

/// Bytes beside what an idle agent has.
const BESIDE: u64 = 24 << 20;
/// Connections, of which each has the agent look at this many bytes. Together that is more than [`BESIDE`].
const COUNT: u64 = 800;
const EACH: u64 = 48 << 10;

#[test]
fn an_agent_short_of_memory_sheds_and_neither_fails_a_call_nor_ends() -> Result<()> {
    let lab = Lab::new()?;
    let memory = Group::create("shed")?;
    // Beginnings of heads are held for as long as the test takes, and nothing else grows.
    let settings = "[sniff]\ntimeout = \"50s\"\n[records]\nbytes = \"256KiB\"\n";
    let agent = lab.agent_by(memory.start(&lab)?, &lab.state_directory()?, settings)?;
    opt_in(&agent)?;
    ensure!(agent.session()?.fresh(PLAIN)?.status == Some(429), "diverted before");
    let limit = memory.anonymous()? + BESIDE;
    memory.limit(limit)?;

    let mut swell = Session::start(agent.client(PYTHON)?, "swell.py", &["plain.example"])?;
    let opened = swell.tell(&json!({"do": "open", "count": COUNT, "bytes": EACH, "pace": 0.005}))?;
    ensure!(opened == json!({"open": COUNT, "failures": []}), "{opened}");
    let told = wait::until("the agent to say that it sheds", bounds::SOON, || {
        Ok(status(&agent)?["shedding"].as_str().map(str::to_owned))
    })?;
    ensure!(told.starts_with("shedding: the agent has ") && told.contains("MemoryMax="), "{told}");
    let metrics = agent.rest().get("/metrics")?.body;
    ensure!(metrics.contains("moxie_shedding{reason=\"memory\"} 1"), "{metrics}");
    eprintln!("with {} of {} MiB charged: {told}", memory.charged()? >> 20, limit >> 20);

    let report = swell.tell(&json!({"do": "call"}))?;
    ensure!(report["failures"] == json!([]), "{report}");
    let of = |status: &str| report["statuses"][status].as_u64().unwrap_or_default();
    ensure!(of("200") > 0 && of("429") > 0 && of("200") + of("429") == COUNT, "{report}");
    ensure!(memory.kills()? == 0, "the kernel has ended somebody for want of memory");

    wait::until("the agent to divert again", bounds::PROGRAM, || {
        Ok((status(&agent)?["shedding"].is_null() && agent.session()?.fresh(PLAIN)?.status == Some(429)).then_some(()))
    })?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn status(agent: &Agent<'_>) -> Result<Value> {
    agent.rest().get("/api/v1/status")?.json()
}

/// A memory cgroup, v1 or v2 as this host has it.
pub(crate) struct Group {
    path: PathBuf,
    is_first: bool,
}

impl Group {
    pub(crate) fn create(name: &str) -> Result<Self> {
        let name = format!("moxie-test-memory-{name}-{}", std::process::id());
        let (first, second) = (PathBuf::from("/sys/fs/cgroup/memory"), PathBuf::from("/sys/fs/cgroup"));
        let is_first = first.join("cgroup.procs").exists();
        if !is_first {
            // In a hierarchy where nobody has switched it on for children, there is none to test with.
            fs::write(second.join("cgroup.subtree_control"), "+memory").context("no memory controller on this host")?;
        }
        let path = if is_first { first } else { second }.join(name);
        fs::create_dir(&path)?;
        Ok(Self { path, is_first })
    }

    /// An agent to be, which starts inside.
    fn start(&self, lab: &Lab) -> Result<Command> {
        let mut command = lab.command("sh", Place::Agent)?;
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.path.join("cgroup.procs"));
        command.arg(agent::program()?);
        Ok(command)
    }

    /// Whatever is in it may have so many bytes.
    pub(crate) fn limit(&self, bytes: u64) -> Result<()> {
        let file = if self.is_first { "memory.limit_in_bytes" } else { "memory.max" };
        Ok(fs::write(self.path.join(file), bytes.to_string())?)
    }

    /// Has the agent in it from now on; what it has allocated so far is not counted.
    pub(crate) fn hold(&self, agent: &Agent<'_>) -> Result<()> {
        Ok(fs::write(self.path.join("cgroup.procs"), agent.pid().to_string())?)
    }

    /// Bytes that belong to no file.
    fn anonymous(&self) -> Result<u64> {
        self.field("memory.stat", if self.is_first { "rss" } else { "anon" })
    }

    /// Bytes in all.
    fn charged(&self) -> Result<u64> {
        let file = if self.is_first { "memory.usage_in_bytes" } else { "memory.current" };
        Ok(fs::read_to_string(self.path.join(file))?.trim().parse()?)
    }

    /// Processes that the kernel has ended for want of memory.
    fn kills(&self) -> Result<u64> {
        self.field(if self.is_first { "memory.oom_control" } else { "memory.events" }, "oom_kill")
    }

    fn field(&self, file: &str, name: &str) -> Result<u64> {
        let text = fs::read_to_string(self.path.join(file))?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.find(|(found, _)| *found == name).with_context(|| format!("no {name} in {text}"))?.1.parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process has ended; if not, the directory stays, and its name tells whose it was.
        let _ = wait::until("the memory cgroup to be empty", bounds::SOON, || Ok(fs::remove_dir(&self.path).ok()));
    }
}
