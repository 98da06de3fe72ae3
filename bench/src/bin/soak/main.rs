//! `soak`: mixed traffic with a fault now and then, against a destination of which every answer is known. `cargo xtask soak` runs it.

mod calls;
mod clients;
mod faults;
mod oracle;
mod origin;
mod samples;
mod stage;
mod verdict;

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use moxie_tests::lab::{Place, Running};
use moxie_tests::{Lab, bounds, wait};
use nix::sys::signal::Signal;
use rand::SeedableRng;
use rand::rngs::StdRng;

use faults::Fault;
use oracle::{Anomaly, Totals, now};
use samples::{Sample, Sampler};
use stage::Stage;
use verdict::Soak;

/// Traffic before the agent's beginning is looked at: what is made once and kept is there then.
const FIRST: Duration = Duration::from_secs(5);
/// How long everything may take to be as before.
const QUIET: Duration = Duration::from_secs(75);

/// The soak, and the programs that it runs inside its lab.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Everything
    Run(Options),
    /// The destination
    #[command(hide = true)]
    Origin {
        #[arg(long)]
        address: IpAddr,
        #[arg(long)]
        directory: PathBuf,
    },
    /// The clients
    #[command(hide = true)]
    Clients {
        #[arg(long)]
        address: IpAddr,
        #[arg(long)]
        roots: PathBuf,
        #[arg(long)]
        seed: u64,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// Seconds of traffic
    #[arg(long)]
    seconds: f64,
    /// Seconds from one fault's end to the next fault
    #[arg(long)]
    every: f64,
    /// Only these faults
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// What faults and calls are drawn from
    #[arg(long)]
    seed: u64,
    /// File for everything that was seen
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match Cli::parse().part {
        Part::Run(options) => run(&options),
        Part::Origin { address, directory } => runtime()?.block_on(origin::serve(address, &directory)),
        Part::Clients { address, roots, seed } => runtime()?.block_on(clients::call(address, &roots, seed)),
    }
}

fn run(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    let base = base(&stage, options.seed)?;
    let soak = traffic(&mut stage, base, options)?;
    if let Some(agent) = stage.agent.take() {
        // One that has handed over is no child of this process, so that only its end can be seen.
        agent.signal(Signal::SIGTERM)?;
        wait::until("the agent to end", bounds::SOON, || Ok(agent.is_gone().then_some(())))?;
    }
    println!("{}", soak.table());
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&soak)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    drop(stage);
    moxie_tests::lab::settled();
    let complaints = soak.complaints();
    ensure!(complaints.is_empty(), "violated (seed {}):\n{}", options.seed, complaints.join("\n"));
    Ok(())
}

/// What the agent holds when it has worked and is at rest.
fn base(stage: &Stage<'_>, seed: u64) -> Result<Sample> {
    let clients = stage.clients(seed)?;
    faults::rest(FIRST);
    end(clients, &mut Vec::new())?;
    let pid = stage.pid.load(std::sync::atomic::Ordering::SeqCst);
    let active = || -> Result<f64> {
        let text = stage.agent()?.rest().get("/metrics")?.body;
        let value = text.lines().find_map(|line| line.strip_prefix("moxie_connections_active "));
        value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("no active connections in {text}"))
    };
    wait::until("the agent to be at rest", bounds::PROGRAM, || Ok((active()? == 0.0).then_some(())))?;
    // The least of some looks: descriptors close a moment after their connection is over.
    let mut least: Option<Sample> = None;
    for _ in 0..10 {
        faults::rest(Duration::from_millis(200));
        let sample = Sample::of(pid).context("the agent has ended")?;
        if least.as_ref().is_none_or(|least| sample.beside_pipes() < least.beside_pipes()) {
            least = Some(sample);
        }
    }
    least.context("a sample")
}

fn traffic(stage: &mut Stage<'_>, base: Sample, options: &Options) -> Result<Soak> {
    let mut dice = StdRng::seed_from_u64(options.seed);
    let (mut windows, mut faults, mut troubles) = (Vec::new(), Vec::<Fault>::new(), Vec::new());
    let (clients, sampler) = (stage.clients(options.seed.wrapping_add(1))?, Sampler::start(stage.pid.clone()));
    let began = now();
    let mut next = began + options.every;
    while now() < began + options.seconds {
        faults::rest(Duration::from_millis(100));
        if moxie_bench::processes::cpu(clients.id()).is_none() {
            troubles.push("the clients have ended".to_owned());
            break;
        }
        if now() < next || now() + options.every > began + options.seconds {
            continue;
        }
        if faults.is_empty() {
            faults = Fault::shuffled(&options.faults, &mut dice);
        }
        let fault = faults.pop().context("a fault")?;
        eprintln!("{:>6.0} s  {fault:?}", now() - began);
        windows.push(faults::strike(fault, stage).with_context(|| format!("{fault:?}"))?);
        next = now() + options.every;
    }
    let hours = (now() - began) / 3600.0;
    let mut anomalies = Vec::new();
    let totals = end(clients, &mut anomalies)?;
    let samples = sampler.end()?;
    let (waiting, end) = quiet(stage, &base)?;
    let seed = options.seed;
    Ok(Soak { seed, hours, totals, anomalies, windows, samples, base, end, waiting, troubles })
}

/// Ends clients and reads what they said.
fn end(clients: Running, anomalies: &mut Vec<Anomaly>) -> Result<Totals> {
    clients.signal(Signal::SIGTERM)?;
    let finished = clients.finish(bounds::PROGRAM)?;
    ensure!(finished.status.success(), "the clients ended with {}: {}", finished.status, finished.stderr);
    let mut totals = Totals::default();
    for line in finished.stdout.lines() {
        match serde_json::from_str::<Anomaly>(line) {
            Ok(anomaly) => anomalies.push(anomaly),
            Err(_) => totals = serde_json::from_str(line).with_context(|| format!("clients said {line}"))?,
        }
    }
    Ok(totals)
}

/// Waits until sockets and the agent are as they were; gives what is still there when that takes too long.
fn quiet(stage: &Stage<'_>, base: &Sample) -> Result<(Vec<String>, Option<Sample>)> {
    let pid = stage.pid.load(std::sync::atomic::Ordering::SeqCst);
    let (mut waiting, mut end) = (waiting(stage.lab)?, Sample::of(pid));
    let settled = wait::until("rest", QUIET, || {
        waiting = self::waiting(stage.lab)?;
        end = Sample::of(pid);
        let is_back = |end: &Sample| {
            let of = |sample: &Sample| (sample.beside_pipes(), sample.threads, sample.entries.unwrap_or_default());
            let (now, then) = (of(end), of(base));
            now.0 <= then.0 && now.1 <= then.1 + verdict::POOL && now.2 <= then.2
        };
        faults::rest(Duration::from_millis(500));
        Ok((waiting.is_empty() && end.as_ref().is_some_and(is_back)).then_some(()))
    });
    // What has not settled is told of with everything else.
    drop(settled);
    Ok((waiting, end))
}

/// Sockets in the lab that wait for the other side, or for this one, to close.
fn waiting(lab: &Lab) -> Result<Vec<String>> {
    let mut ss = lab.command("ss", Place::Outside)?;
    ss.args(["-Htanp", "state", "close-wait", "state", "fin-wait-2"]);
    let finished = Running::start(ss)?.finish(bounds::SOON)?;
    ensure!(finished.status.success(), "ss: {}", finished.stderr);
    Ok(finished.stdout.lines().map(str::to_owned).collect())
}
