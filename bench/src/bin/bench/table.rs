//! The table: one row for each scenario, ratios first, what they are of in brackets.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use moxie_bench::figures::Figure;
use moxie_bench::report::Report;
use serde::Serialize;

use crate::Options;
use crate::machine;
use crate::series::{Outcome, Run};
use crate::work::Bar;

/// No proxy.
pub(crate) const DIRECT: &str = "direct";
/// Opted in, with nothing that an agent would be needed for.
pub(crate) const NOT_DIVERTED: &str = "Moxie, not diverted";
/// On path.
pub(crate) const MOXIE: &str = "Moxie";
/// Columns, by the names of targets.
const COLUMNS: [&str; 7] = [DIRECT, NOT_DIVERTED, MOXIE, "Envoy", "HAProxy", "nginx", "mitmproxy"];
/// Where the table stands in its file.
const BEGIN: &str = "<!-- begin: cargo xtask bench -->";
const END: &str = "<!-- end: cargo xtask bench -->";

/// What is read off a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Requests a second, and processor time for each.
    Rate,
    /// Median latency.
    Latency,
    /// Megabytes a second, and processor time for a gigabyte.
    Bulk,
    /// How far answers are from when they are due.
    Delay,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) title: String,
    /// Column and text.
    pub(crate) cells: Vec<(String, String)>,
    pub(crate) asked: String,
    /// Whether Moxie does what is asked; none where nothing is.
    pub(crate) is_reached: Option<bool>,
    /// What the cells were made of.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Row {
    /// Of targets that were measured side by side.
    pub(crate) fn of(id: &str, title: &str, shape: Shape, outcomes: Vec<Outcome>, asked: &str, bar: Bar) -> Self {
        let cells = outcomes.iter().map(|outcome| (outcome.name.clone(), cell(shape, outcome, &outcomes)));
        let cells = cells.collect();
        let moxie = outcomes.iter().find(|outcome| outcome.name == MOXIE);
        let is_reached = moxie.and_then(|moxie| reached(shape, moxie, &outcomes, bar));
        Self { id: id.into(), title: title.into(), cells, asked: asked.into(), is_reached, outcomes }
    }

    /// What went wrong.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> + '_ {
        let failed = |outcome: &Outcome| Some(format!("{} {}: {}", self.id, outcome.name, outcome.failure.as_ref()?));
        self.outcomes.iter().filter_map(failed)
    }

    fn line(&self) -> String {
        let cell = |column: &&str| {
            let found = self.cells.iter().find(|(name, _)| name == column);
            found.map_or_else(|| "–".to_owned(), |(_, text)| text.clone())
        };
        let cells: Vec<String> = COLUMNS.iter().map(cell).collect();
        let reached = match self.is_reached {
            None => "",
            Some(true) => ": yes",
            Some(false) => ": **no**",
        };
        format!("| {} {} | {} | {}{reached} |", self.id, self.title, cells.join(" | "), self.asked)
    }
}

/// A target's value in a run, larger being better only where it is a rate.
fn value(shape: Shape, report: &Report) -> f64 {
    match shape {
        Shape::Rate => report.rate(),
        Shape::Bulk => report.throughput(),
        Shape::Latency | Shape::Delay => micros(report.p50),
    }
}

/// Ratios to the base's run in the same repeat.
pub(crate) fn ratio(shape: Shape, outcome: &Outcome, all: &[Outcome]) -> Option<Figure> {
    let base = all.get(outcome.base)?;
    let pairs = outcome.runs.iter().zip(&base.runs);
    let ratios = pairs.map(|(own, base)| value(shape, &own.report) / value(shape, &base.report));
    Figure::of(&ratios.filter(|ratio| ratio.is_finite()).collect::<Vec<_>>())
}

fn cell(shape: Shape, outcome: &Outcome, all: &[Outcome]) -> String {
    let runs = &outcome.runs;
    let absolute = match shape {
        Shape::Rate => absolutes(runs, &[("/s", Report::rate), (" µs", Report::cpu_each)]),
        Shape::Bulk => absolutes(runs, &[(" MB/s", Report::throughput), (" s/GB", Report::cpu_per_gigabyte)]),
        Shape::Latency => absolutes(runs, &[(" µs", |report| micros(report.p50))]),
        Shape::Delay => {
            let millis = absolutes(
                runs,
                &[(" ms", |report| micros(report.p50) / 1e3), (" ms p99", |report| micros(report.p99) / 1e3)],
            );
            let early: u64 = runs.iter().map(|run| run.report.early).sum();
            format!("{millis}; early: {early}")
        }
    };
    let ratio = (shape != Shape::Delay).then(|| ratio(shape, outcome, all)).flatten();
    let mut text = match ratio {
        Some(ratio) => format!("**{:.2}** ±{:.2} ({absolute})", ratio.median, ratio.spread),
        None => absolute,
    };
    if outcome.failure.is_some() {
        text.push_str(" **failed**");
    }
    if runs.iter().any(|run| run.is_disturbed) {
        text.push_str(" disturbed");
    }
    if let Some(note) = &outcome.note {
        // Writing to a string cannot fail.
        let _ = write!(text, " {note}");
    }
    text
}

type Reading = fn(&Report) -> f64;

fn absolutes(runs: &[Run], readings: &[(&str, Reading)]) -> String {
    let texts = readings.iter().filter_map(|(unit, reading)| {
        let value = median(runs, *reading)?;
        // A target without processes of its own has used nothing.
        (value > 0.0).then(|| format!("{}{unit}", number(value)))
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn median(runs: &[Run], reading: Reading) -> Option<f64> {
    Some(Figure::of(&runs.iter().map(|run| reading(&run.report)).collect::<Vec<_>>())?.median)
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "latencies of seconds at most")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn reached(shape: Shape, moxie: &Outcome, all: &[Outcome], bar: Bar) -> Option<bool> {
    if shape == Shape::Delay {
        let at = |reading: Reading| median(&moxie.runs, reading).unwrap_or(f64::MAX);
        let early: u64 = moxie.runs.iter().map(|run| run.report.early).sum();
        return Some(
            early == 0 && at(|report| micros(report.p50)) <= 2_000.0 && at(|report| micros(report.p99)) <= 5_000.0,
        );
    }
    let cpu: Reading = if shape == Shape::Bulk { Report::cpu_per_gigabyte } else { Report::cpu_each };
    let checks = [
        bar.ratio.map(|least| ratio(shape, moxie, all).is_some_and(|ratio| ratio.median >= least)),
        bar.cpu.map(|most| median(&moxie.runs, cpu).is_some_and(|cpu| cpu <= most)),
        bar.p50.map(|most| median(&moxie.runs, |report| micros(report.p50)).is_some_and(|p50| p50 <= most)),
    ];
    let mut checks = checks.into_iter().flatten().peekable();
    checks.peek()?;
    Some(checks.all(|check| check))
}

/// Rows with their heading.
pub(crate) fn text(rows: &[Row], options: &Options) -> String {
    let mut text = format!("{}\n\n| work | {} | asked of Moxie |\n", machine::described(options), COLUMNS.join(" | "));
    text.push_str(&format!("|{}\n", "---|".repeat(COLUMNS.len() + 2)));
    for row in rows {
        text.push_str(&row.line());
        text.push('\n');
    }
    text
}

/// Puts `text` between the marks of the file at `options.write`.
pub(crate) fn write(text: &str, options: &Options) -> Result<()> {
    let Some(path) = &options.write else { return Ok(()) };
    let old = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let missing = || format!("{} has no {BEGIN} … {END}", path.display());
    let (before, rest) = old.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    fs::write(path, format!("{before}{BEGIN}\n{text}{END}{after}"))
        .with_context(|| format!("cannot write {}", path.display()))
}
