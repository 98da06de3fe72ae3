//! Runs of several targets in turn, so that what changes on the machine changes for all of them.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use moxie_bench::report::Report;
use moxie_tests::lab::{Place, Running};
use serde::Serialize;

use crate::room::{HOST, Room};
use crate::work::Manner;
use crate::{Options, WITHIN};

/// Processors that others may use before a run does not count.
const QUIET: f64 = 0.1;
/// Times that a run which others disturbed is made again.
const AGAIN: usize = 2;
/// The delay that answers are due after where there is one, in milliseconds.
const DUE: u64 = 50;

/// Who is measured.
pub(crate) struct Target<'run> {
    pub(crate) name: String,
    /// The target whose figures in the same repeat are the unit; the first one's own are 1.
    pub(crate) base: usize,
    pub(crate) place: Place,
    pub(crate) to: SocketAddr,
    pub(crate) processes: Vec<u32>,
    pub(crate) room: &'run Room<'run>,
    /// Made before each run.
    pub(crate) arm: Box<dyn Fn() -> Result<()> + 'run>,
}

/// What is asked of each of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand {
    pub(crate) manner: Manner,
    pub(crate) is_tls: bool,
    pub(crate) path: &'static str,
    pub(crate) status: u16,
    pub(crate) connections: usize,
}

/// One run that counts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) report: Report,
    /// Whether others used the processors too, however often it was tried.
    pub(crate) is_disturbed: bool,
}

/// A target's runs, one for each repeat.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) base: usize,
    pub(crate) runs: Vec<Run>,
    /// What has to be said beside the figures.
    pub(crate) note: Option<String>,
    /// Why there are no more runs.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    /// Of a target whose figures are not of runs.
    pub(crate) fn without_runs(name: &str, error: Option<anyhow::Error>) -> Self {
        let failure = error.map(|error| format!("{error:#}"));
        Self { name: name.to_owned(), base: 0, runs: vec![], note: None, failure }
    }
}

/// What is to be filled by [`run`].
pub(crate) fn outcomes(targets: &[Target<'_>]) -> Vec<Outcome> {
    let outcome = |target: &Target<'_>| Outcome { base: target.base, ..Outcome::without_runs(&target.name, None) };
    targets.iter().map(outcome).collect()
}

/// Makes every run: the targets in turn, in the opposite order every second time. One that fails is left out from then on.
pub(crate) fn run(targets: &[Target<'_>], outcomes: &mut [Outcome], errand: Errand, options: &Options) {
    // Disturbed runs are made again, but not for ever: a machine that is never quiet is told of in the table.
    let mut again = targets.len();
    for repeat in 0..options.repeats() {
        let mut pairs: Vec<_> = targets.iter().zip(outcomes.iter_mut()).collect();
        if repeat % 2 == 1 {
            pairs.reverse();
        }
        for (target, outcome) in pairs.into_iter().filter(|(_, outcome)| outcome.failure.is_none()) {
            match one(target, errand, options, &mut again) {
                Ok(run) => outcome.runs.push(run),
                Err(error) => outcome.failure = Some(format!("{error:#}")),
            }
        }
    }
}

fn one(target: &Target<'_>, errand: Errand, options: &Options, again: &mut usize) -> Result<Run> {
    (target.arm)().with_context(|| format!("preparing {}", target.name))?;
    let mut best: Option<Report> = None;
    for _ in 0..=AGAIN {
        let report = measure(target, errand, options).with_context(|| format!("measuring {}", target.name))?;
        let complaint = report.complaint.as_deref().unwrap_or_default();
        ensure!(report.errors == 0, "{}: {} errors: {complaint}", target.name, report.errors);
        if best.as_ref().is_none_or(|best| report.foreign < best.foreign) {
            best = Some(report);
        }
        let is_quiet = best.as_ref().is_some_and(|best| best.foreign <= QUIET);
        if is_quiet || *again == 0 || options.quick {
            break;
        }
        *again -= 1;
    }
    let report = best.context("a run was made")?;
    Ok(Run { is_disturbed: report.foreign > QUIET, report })
}

/// Whether a target does at all what it is to be measured at.
pub(crate) fn try_out(target: &Target<'_>, errand: Errand) -> Result<()> {
    let mut load = target.room.load(target.place, &target.processes)?;
    load.args(["--seconds", "0.2", "--warm-up", "0"]);
    // Any answer will do, and an end: the generator has it closed.
    let manner = if errand.path == "/bulk" { "keep" } else { "fresh" };
    request(load.arg(manner), target, Errand { connections: 1, ..errand });
    let finished = Running::start(load)?.finish(WITHIN)?;
    ensure!(finished.status.success(), "the generator failed: {}", finished.stderr.trim());
    let report: Report = serde_json::from_str(&finished.stdout)?;
    ensure!(report.errors == 0, "{}", report.complaint.unwrap_or_default());
    Ok(())
}

/// Makes one run.
fn measure(target: &Target<'_>, errand: Errand, options: &Options) -> Result<Report> {
    let room = target.room;
    let mut load = room.load(target.place, &target.processes)?;
    // A generator that starts 500 connections, each due 50 ms after the other's, needs longer to be even.
    let warm_up = if errand.manner == Manner::Due { 3.0 * options.warm_up() } else { options.warm_up() };
    load.arg("--seconds").arg(options.seconds().to_string()).arg("--warm-up").arg(warm_up.to_string());
    match errand.manner {
        Manner::Streams(streams) => watched(&mut load, target, errand, streams, options)?,
        Manner::Keep => request(load.arg("keep"), target, errand),
        Manner::Fresh => request(load.arg("fresh"), target, errand),
        Manner::Due => request(load.args(["keep", "--delay", &DUE.to_string()]), target, errand),
    }
    let finished = Running::start(load)?.finish(WITHIN)?;
    ensure!(finished.status.success(), "the generator failed: {}", finished.stderr.trim());
    let report = serde_json::from_str(&finished.stdout).with_context(|| format!("no report: {}", finished.stdout))?;
    if matches!(errand.manner, Manner::Streams(_)) { read(report, errand.status) } else { Ok(report) }
}

/// Arguments that say whom to ask for what.
pub(crate) fn request(load: &mut Command, target: &Target<'_>, errand: Errand) {
    load.arg("--to").arg(target.to.to_string()).args(["--host", HOST, "--path", errand.path]);
    load.arg("--expect").arg(errand.status.to_string()).arg("--connections").arg(errand.connections.to_string());
    if errand.is_tls {
        load.arg("--tls");
    }
}

/// h2load, which speaks HTTP/2 for less than this project's own generator could.
fn watched(load: &mut Command, target: &Target<'_>, errand: Errand, streams: u16, options: &Options) -> Result<()> {
    let h2load = options.find("h2load").context("there is no h2load: run this by `cargo xtask bench`")?;
    load.args(["watch", "--"]).arg(h2load);
    load.arg("-c").arg(errand.connections.to_string()).arg("-m").arg(streams.to_string());
    // Of whole seconds it takes one at least.
    load.arg("-D").arg(format!("{:.0}", options.seconds().max(1.0)));
    load.arg(format!("--connect-to={}", target.to)).arg(format!("https://{HOST}{}", errand.path));
    Ok(())
}

/// What h2load printed: `requests: 9 total, … 9 done, 9 succeeded, 0 failed, …` and `status codes: 0 2xx, 0 3xx, 9 4xx, 0 5xx`.
fn read(report: Report, status: u16) -> Result<Report> {
    let line = |name: &str| {
        let found = report.printed.lines().find_map(|line| line.strip_prefix(name));
        found.with_context(|| format!("h2load has not said {name}: {}", report.printed))
    };
    let number = |text: &str, name: &str| {
        let field = text.split(", ").find_map(|field| field.trim().strip_suffix(name));
        field.and_then(|field| field.trim().parse::<u64>().ok()).with_context(|| format!("no {name} in {text}"))
    };
    let (requests, codes) = (line("requests:")?, line("status codes:")?);
    let done = number(requests, "done")?;
    let wanted = number(codes, &format!("{}xx", status / 100))?;
    // What it calls failed are statuses such as the wanted one.
    let failed = ["errored", "timeout"].iter().map(|name| number(requests, name)).sum::<Result<u64>>()?;
    if done == 0 {
        bail!("h2load got no answer: {}", report.printed);
    }
    let complaint = format!("{requests}; {codes}");
    let errors = failed + done.saturating_sub(wanted);
    Ok(Report { requests: wanted, errors, complaint: Some(complaint), printed: String::new(), ..report })
}
