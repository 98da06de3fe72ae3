//! Another generator, watched from outside.

use anyhow::{Context, Result, ensure};
use moxie_bench::report::Report;
use tokio::process::Command;
use tokio::time::Instant;

use super::tally::Tally;

/// Runs `command` to its end; what it prints is for the caller to read.
pub(crate) async fn run(command: &[String], tally: &Tally) -> Result<Report> {
    let (program, arguments) = command.split_first().context("no program")?;
    let (began, before) = (Instant::now(), tally.moment());
    let child =
        Command::new(program).args(arguments).stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.wait_with_output().await?;
    let (seconds, after) = (began.elapsed().as_secs_f64(), tally.moment());
    ensure!(output.status.success(), "it ended with {}", output.status);
    let mut report = tally.used(&before, &after, seconds);
    // The generator has ended, so that its own clock is gone; it is a child that was waited for.
    let own = children();
    report.foreign = (report.foreign - own / seconds).max(0.0);
    report.printed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(report)
}

/// Processor time of the children that were waited for, in seconds.
fn children() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN);
    usage.map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn seconds(time: nix::sys::time::TimeVal) -> f64 {
    use nix::sys::time::TimeValLike;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let micros = time.num_microseconds() as f64;
    micros / 1e6
}
