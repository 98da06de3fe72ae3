//! `bench`: Moxie and its peers side by side, each a ratio within one run. `cargo xtask bench` builds what this needs and runs it.

mod machine;
mod memory;
mod moxie;
mod peers;
mod room;
mod rules;
mod series;
mod side_by_side;
mod table;
mod work;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use moxie_bench::processors;
use moxie_tests::Lab;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use peers::{Kind, Peer};
use room::Room;
use table::Row;

/// The longest that one run of a generator may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// Which scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// What no rule names
    Passthrough,
    /// What a rule might name
    Intercept,
    /// What a rule answers
    Mock,
    /// One rule to a hundred thousand
    Rules,
    /// How exact a delay is
    Delay,
    /// Idle, and with idle connections
    Memory,
    /// All of these
    All,
}

/// Where what is needed was put, and how much is to be measured.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// Which scenarios
    #[arg(default_value = "all")]
    what: What,
    /// Only the row with this id, such as P10
    #[arg(long)]
    row: Option<String>,
    /// How long each run takes, in seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// Runs of each target, taken in turn
    #[arg(long)]
    repeats: Option<usize>,
    /// One short run of each, of what is installed
    #[arg(long)]
    quick: bool,
    /// The generator
    #[arg(long)]
    load: PathBuf,
    /// Configurations of peers
    #[arg(long)]
    peers: PathBuf,
    /// Debian packages, unpacked
    #[arg(long)]
    programs: PathBuf,
    /// A Python environment
    #[arg(long)]
    venv: PathBuf,
    /// File with marks between which the table goes
    #[arg(long)]
    write: Option<PathBuf>,
    /// File for every run's figures
    #[arg(long)]
    json: Option<PathBuf>,
    /// Descriptors that each process may have; found out
    #[arg(skip)]
    descriptors: u64,
}

impl Options {
    pub(crate) fn repeats(&self) -> usize {
        self.repeats.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.25 } else { 0.8 })
    }

    pub(crate) fn warm_up(&self) -> f64 {
        if self.quick { 0.05 } else { 0.2 }
    }

    fn wants(&self, what: What) -> bool {
        self.what == What::All || self.what == what
    }

    /// Peers that are here.
    fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.find(kind.program()).is_some()).collect()
    }
}

/// Measures some rows.
type Part = fn(&Options) -> Result<Vec<Row>>;

fn main() -> Result<()> {
    let mut options = Options::parse();
    options.descriptors = allow_descriptors()?;
    // What runs in the lab's own view of the file system does not start where this does.
    for path in [&mut options.load, &mut options.peers] {
        *path = path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
    }
    for kind in Kind::ALL {
        if options.find(kind.program()).is_none() {
            println!("bench: without {}: it is not installed", kind.name());
        }
    }
    if processors::usable().len() < 2 {
        println!("bench: there is one processor only; nothing is pinned, and ratios say little");
    }
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    // A part that cannot be measured does not take the figures of the others with it.
    let scenarios = scenarios(&options, &mut rows);
    failures.extend(scenarios.err().map(|error| format!("{error:#}")));
    for (what, part) in [(What::Rules, rules::measure as Part), (What::Memory, memory::measure)] {
        if options.wants(what) {
            match part(&options) {
                Ok(new) => show(new, &mut rows),
                Err(error) => failures.push(format!("{what:?}: {error:#}")),
            }
        }
    }
    let text = table::text(&rows, &options);
    println!("\n{text}");
    table::write(&text, &options)?;
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    moxie_tests::lab::settled();
    failures.extend(rows.iter().flat_map(Row::failures));
    ensure!(failures.is_empty(), "these did not do what they were to be measured at:\n{}", failures.join("\n"));
    Ok(())
}

/// Those of the table in `work`, in one lab.
fn scenarios(options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    let wanted: Vec<_> = work::SCENARIOS
        .iter()
        .filter(|scenario| options.wants(scenario.what))
        .filter(|scenario| options.row.as_deref().is_none_or(|row| row == scenario.id))
        .filter(|scenario| !options.quick || work::QUICK.contains(&scenario.id))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let lab = Lab::new()?;
    let room = Room::new(&lab, options)?;
    let peers = options.kinds().into_iter().map(|kind| Peer::start(kind, &room)).collect::<Result<Vec<_>>>()?;
    let agent = moxie::start(&lab, options)?;
    for scenario in wanted {
        let row = side_by_side::measure(scenario, &room, &agent, &peers);
        show(vec![row.with_context(|| format!("{} {}", scenario.id, scenario.title))?], rows);
    }
    agent.stop()?;
    Ok(())
}

/// Says each row as it comes: a whole run takes minutes.
fn show(new: Vec<Row>, rows: &mut Vec<Row>) {
    for row in new {
        println!("{} {}", row.id, row.title);
        for (name, text) in &row.cells {
            println!("    {name:<20} {text}");
        }
        for failure in row.failures() {
            println!("    {failure}");
        }
        rows.push(row);
    }
}

/// As many descriptors as root may have here without changing limits; what is started inherits them.
fn allow_descriptors() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = most.min(40_000);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, most).context("cannot raise the limit of open files")?;
    Ok(wanted)
}
