//! The kernel refuses what the agent needs: it says so, and calls go direct.

use anyhow::{Result, ensure};
use moxie_tests::lab::{Place, Running, agent};
use moxie_tests::programs::{PYTHON, Session, script};
use moxie_tests::{Lab, bounds};

#[test]
fn an_agent_that_may_not_use_bpf_says_so_and_calls_go_direct() -> Result<()> {
    let lab = Lab::new()?;
    let mut command = lab.command(PYTHON, Place::Agent)?;
    command.arg(script("without_bpf.py")).arg(agent::program()?);
    command
        .args(["agent", "--via", "ebpf", "--state-dir"])
        .arg(lab.state_directory()?)
        .env("MOXIE_ENVIRONMENT", "test");
    let done = Running::start(command)?.finish(bounds::PROGRAM)?;
    ensure!(done.code() == Some(1) || done.code() == Some(4), "{done:?}");
    ensure!(done.stderr.contains("not permitted") && done.stderr.contains("CAP_BPF"), "{done:?}");
    let mut session = Session::start(lab.command(PYTHON, Place::Inside)?, "session.py", &[])?;
    ensure!(session.fresh("http://plain.example/load")?.status == Some(200));
    Ok(())
}
