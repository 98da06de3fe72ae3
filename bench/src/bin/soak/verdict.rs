//! What the soak came to: a table, and what was violated.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::faults::Window;
use crate::oracle::{Anomaly, Oddity, Totals};
use crate::samples::{Sample, slope};

/// Memory that a whole soak may add, in bytes, beyond what an hour may: processes are started anew by faults and warm up each time.
const GROWTH: f64 = 16.0 * MIB;
const MIB: f64 = 1024.0 * 1024.0;
/// How long after a fault what it did to a connection may still show.
const AFTER: f64 = 2.0;
/// Threads that a process may have more of at its end: those that wait for blocking calls come and go with the calls.
pub(crate) const POOL: usize = 2;
/// Descriptors of pipes that an agent may keep: see `datapath/relay/pipe.rs`.
const PIPES: usize = 32;
/// How many oddities of each kind are shown.
const SHOWN: usize = 5;

/// Everything that was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Soak {
    pub(crate) seed: u64,
    pub(crate) hours: f64,
    pub(crate) totals: Totals,
    pub(crate) anomalies: Vec<Anomaly>,
    pub(crate) windows: Vec<Window>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) base: Sample,
    pub(crate) end: Option<Sample>,
    /// Sockets that wait for an end that does not come.
    pub(crate) waiting: Vec<String>,
    /// Clients or processes that did not do what the soak needs.
    pub(crate) troubles: Vec<String>,
}

impl Soak {
    /// Whether a fault explains it: the connection was open, or being opened, while that lasted.
    fn excuse(&self, anomaly: &Anomaly) -> Option<&Window> {
        self.windows.iter().find(|window| {
            let was_open = anomaly.opened <= window.over + AFTER && anomaly.ended >= window.began;
            was_open && window.fault.excuses(anomaly.oddity)
        })
    }

    /// Oddities that nothing explains.
    fn violations(&self) -> Vec<&Anomaly> {
        self.anomalies.iter().filter(|anomaly| self.excuse(anomaly).is_none()).collect()
    }

    /// Everything that should not be; empty after a good soak.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = self.troubles.clone();
        let violations = self.violations();
        if !violations.is_empty() {
            complaints.push(format!("{} answers were not what they had to be:", violations.len()));
            let shown = violations.iter().take(SHOWN * 2);
            complaints.extend(shown.map(|anomaly| {
                format!(
                    "  {:?} {} at {:.3} (opened {:.3}): {}",
                    anomaly.oddity, anomaly.kind, anomaly.ended, anomaly.opened, anomaly.text
                )
            }));
        }
        if !self.waiting.is_empty() {
            complaints.push(format!("{} sockets in CLOSE_WAIT or FIN_WAIT2:", self.waiting.len()));
            complaints.extend(self.waiting.iter().take(SHOWN).map(|line| format!("  {line}")));
        }
        complaints.extend(self.growth());
        complaints.extend(self.leaks());
        complaints
    }

    fn growth(&self) -> Option<String> {
        let slope = self.slope(|sample| bytes(sample.anonymous))?;
        let most = (GROWTH / self.hours).max(MIB);
        (slope > most).then(|| {
            format!("memory grows by {:.1} MiB an hour; {:.1} would be the most for this long", slope / MIB, most / MIB)
        })
    }

    fn leaks(&self) -> Vec<String> {
        let Some(end) = &self.end else { return vec!["there is no agent at the end".into()] };
        let mut leaks = Vec::new();
        let mut more = |what: &str, base: usize, end: usize| {
            if end > base {
                leaks.push(format!("{end} {what} at the end, {base} at the beginning"));
            }
        };
        more("descriptors beside pipes", self.base.beside_pipes(), end.beside_pipes());
        more("descriptors of pipes", self.base.pipes.max(PIPES), end.pipes);
        more("threads", self.base.threads + POOL, end.threads);
        more("entries of maps", self.base.entries.unwrap_or(usize::MAX), end.entries.unwrap_or_default());
        leaks
    }

    fn slope(&self, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        slope(&self.samples, value)
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![format!("soak of {:.0} s, seed {}", self.hours * 3600.0, self.seed)];
        lines.push("\n| calls | as expected |\n|---|---|".into());
        lines.extend(self.totals.calls.iter().map(|(kind, count)| format!("| {kind} | {count} |")));
        lines.push("\n| fault | times | calls it explains |\n|---|---|---|".into());
        let mut faults: BTreeMap<String, (u32, usize)> = BTreeMap::new();
        for window in &self.windows {
            faults.entry(format!("{:?}", window.fault)).or_default().0 += 1;
        }
        for window in self.anomalies.iter().filter_map(|anomaly| self.excuse(anomaly)) {
            faults.entry(format!("{:?}", window.fault)).or_default().1 += 1;
        }
        lines.extend(faults.iter().map(|(fault, (times, calls))| format!("| {fault} | {times} | {calls} |")));
        lines.push("\n| of the agent | beginning | most | end | an hour |\n|---|---|---|---|---|".into());
        lines.push(self.row("resident, MiB", |sample| bytes(sample.resident) / MIB));
        lines.push(self.row("anonymous, MiB", |sample| bytes(sample.anonymous) / MIB));
        lines.push(self.row("descriptors", |sample| count(sample.descriptors)));
        lines.push(self.row("threads", |sample| count(sample.threads)));
        lines.push(self.row("entries of maps", |sample| count(sample.entries.unwrap_or_default())));
        let failed = |oddity| self.violations().iter().filter(|anomaly| anomaly.oddity == oddity).count();
        lines.push(format!(
            "\nunexplained: {} failed, {} direct, {} wrong; sockets in CLOSE_WAIT or FIN_WAIT2: {}",
            failed(Oddity::Failed),
            failed(Oddity::Direct),
            failed(Oddity::Wrong),
            self.waiting.len()
        ));
        lines.join("\n")
    }

    fn row(&self, name: &str, value: impl Fn(&Sample) -> f64) -> String {
        let most = self.samples.iter().map(&value).fold(0.0, f64::max);
        let end = self.end.as_ref().map_or_else(|| "–".to_owned(), |end| format!("{:.1}", value(end)));
        let slope = self.slope(&value).map_or_else(|| "–".to_owned(), |slope| format!("{slope:+.1}"));
        format!("| {name} | {:.1} | {most:.1} | {end} | {slope} |", value(&self.base))
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn bytes(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn count(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fault;

    fn soak(oddity: Oddity, opened: f64, ended: f64) -> Soak {
        let sample =
            Sample { at: 0.0, pid: 1, resident: 0, anonymous: 0, descriptors: 9, pipes: 0, threads: 2, entries: None };
        Soak {
            seed: 1,
            hours: 1.0,
            totals: Totals::default(),
            anomalies: vec![Anomaly { kind: "kept".into(), oddity, text: String::new(), opened, ended }],
            windows: vec![Window { fault: Fault::Kill, began: 10.0, over: 12.0 }],
            samples: vec![],
            base: sample.clone(),
            end: Some(sample),
            waiting: vec![],
            troubles: vec![],
        }
    }

    #[test]
    fn a_fault_explains_what_was_open_while_it_lasted_and_nothing_else() {
        assert_eq!(soak(Oddity::Failed, 5.0, 11.0).complaints(), Vec::<String>::new());
        assert_eq!(soak(Oddity::Failed, 5.0, 9.0).complaints().len(), 2);
        assert_eq!(soak(Oddity::Failed, 15.0, 16.0).complaints().len(), 2);
        assert_eq!(soak(Oddity::Wrong, 5.0, 11.0).complaints().len(), 2, "no fault makes an answer wrong");
    }

    #[test]
    fn pipes_that_are_kept_are_not_left_over() {
        let mut soak = soak(Oddity::Failed, 5.0, 11.0);
        soak.end = soak.end.map(|end| Sample { descriptors: 9 + PIPES, pipes: PIPES, ..end });
        assert_eq!(soak.complaints(), Vec::<String>::new());
        soak.end = soak.end.map(|end| Sample { descriptors: 11 + PIPES, pipes: 2 + PIPES, ..end });
        assert_eq!(soak.complaints().len(), 1);
    }

    #[test]
    fn what_is_left_over_is_told() {
        let mut soak = soak(Oddity::Failed, 5.0, 11.0);
        soak.end = soak.end.map(|end| Sample { descriptors: 10, ..end });
        soak.waiting.push("CLOSE-WAIT".into());
        assert_eq!(soak.complaints().len(), 3);
    }
}
