//! What the agent holds, looked at again and again.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use moxie_bench::{figures, processes};
use serde::Serialize;
use serde_json::Value;

use crate::oracle::now;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// How long a process is not counted after its start: caches fill.
const WARM_UP: f64 = 30.0;
/// Seconds that have to be counted before a slope says anything.
const ENOUGH: f64 = 300.0;

/// What a process held at a moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) at: f64,
    pub(crate) pid: u32,
    /// Bytes resident.
    pub(crate) resident: u64,
    /// Bytes that belong to no file.
    pub(crate) anonymous: u64,
    pub(crate) descriptors: usize,
    /// How many of them are of pipes, some of which the agent keeps for the next who needs one.
    pub(crate) pipes: usize,
    pub(crate) threads: usize,
    /// Entries of its maps in the kernel; none where bpftool is missing.
    pub(crate) entries: Option<usize>,
}

impl Sample {
    /// Of a process now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let memory = processes::memory(pid)?;
        Some(Self {
            at: now(),
            pid,
            resident: memory.resident,
            anonymous: memory.anonymous,
            descriptors: processes::descriptors(pid)?,
            pipes: processes::pipes(pid)?,
            threads: processes::threads(pid)?,
            entries: entries(pid),
        })
    }

    /// Descriptors of anything else than pipes.
    pub(crate) fn beside_pipes(&self) -> usize {
        self.descriptors.saturating_sub(self.pipes)
    }
}

/// Entries of the maps that a process holds open; of arrays, those that are not zero.
fn entries(pid: u32) -> Option<usize> {
    let mut ids = std::collections::BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        // Of the kernel's `enum bpf_map_type`: hash, array, LRU hash, longest prefix. Others hold counts, or what sockets own.
        if field("map_type:").is_some_and(|kind| ["1", "2", "9", "11"].contains(&kind.as_str())) {
            ids.extend(field("map_id:"));
        }
    }
    ids.iter().map(|id| dump(id)).sum()
}

fn dump(id: &str) -> Option<usize> {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["-j", "map", "dump", "id", id]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = bpftool.output().ok()?;
    let entries: Value = serde_json::from_slice(&output.stdout).ok()?;
    let is_set = |entry: &&Value| {
        let bytes = entry["value"].as_array().map_or(&[][..], Vec::as_slice);
        bytes.is_empty() || bytes.iter().any(|byte| byte != "0x00")
    };
    Some(entries.as_array()?.iter().filter(is_set).count())
}

/// Samples that are being taken.
pub(crate) struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Looks at whichever process `pid` names.
    pub(crate) fn start(pid: Arc<AtomicU32>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !over.load(Ordering::SeqCst) {
                samples.extend(Sample::of(pid.load(Ordering::SeqCst)));
                std::thread::park_timeout(EVERY);
            }
            samples
        });
        Self { is_over, thread }
    }

    /// What was seen.
    pub(crate) fn end(self) -> Result<Vec<Sample>> {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        self.thread.join().ok().context("the sampler panicked")
    }
}

/// How much a value grows in an hour, over the lives of all processes: each life is compared with itself only. None where all of them
/// together are too short to say.
pub(crate) fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Option<f64> {
    let (mut points, mut seconds) = (Vec::new(), 0.0);
    for life in samples.chunk_by(|one, next| one.pid == next.pid) {
        let began = life.first()?.at;
        let warm: Vec<(f64, f64)> = life
            .iter()
            .filter(|sample| sample.at - began >= WARM_UP)
            .map(|sample| (sample.at / 3600.0, value(sample)))
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "few samples")]
        let mean = |of: fn(&(f64, f64)) -> f64| warm.iter().map(of).sum::<f64>() / warm.len().max(1) as f64;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        points.extend(warm.iter().map(|point| (point.0 - x, point.1 - y)));
        seconds += warm.first().zip(warm.last()).map_or(0.0, |(first, last)| (last.0 - first.0) * 3600.0);
    }
    if seconds < ENOUGH { None } else { figures::slope(&points) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_compared_with_themselves_and_their_beginning_does_not_count() {
        let sample = |at: f64, pid, resident| Sample {
            at,
            pid,
            resident,
            anonymous: 0,
            descriptors: 0,
            pipes: 0,
            threads: 0,
            entries: None,
        };
        // Two lives that grow by 10 in each 3,600 s, the second from a lower level; both begin with a jump.
        let lives = [(1, 0.0, 1000), (2, 36_000.0, 100)];
        let samples: Vec<Sample> = lives
            .iter()
            .flat_map(|(pid, began, level)| {
                (0..10u64).map(move |hour| {
                    let grown = if hour == 0 { 0 } else { level + 10 * hour };
                    #[expect(clippy::cast_precision_loss, reason = "a few hours")]
                    sample(began + 3600.0 * hour as f64, *pid, grown)
                })
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a thousand")]
        let slope = slope(&samples, |sample| sample.resident as f64).unwrap();
        assert!((slope - 10.0).abs() < 1e-6, "{slope}");
    }
}
