//! Which processors there are, and how busy they are with what is not measured.

use std::collections::BTreeMap;
use std::fs;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::processes;

/// Numbers of the processors that this process may use.
#[must_use]
pub fn usable() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|number| set.is_set(*number).unwrap_or(false)).collect()
}

/// What the processors and some processes have done up to a moment, in seconds of processor time.
#[derive(Clone, Debug)]
pub struct Moment {
    busy: f64,
    kernel: f64,
    processes: BTreeMap<u32, f64>,
}

impl Moment {
    /// Now, with an eye on `watched`.
    #[must_use]
    pub fn now(watched: &[u32]) -> Self {
        let processes = watched.iter().filter_map(|pid| Some((*pid, processes::cpu(*pid)?))).collect();
        let kernel = kernel_threads().iter().filter_map(|pid| processes::cpu(*pid)).sum();
        Self { busy: busy(), kernel, processes }
    }

    /// Processor time that `pids` have used since `earlier`.
    #[must_use]
    pub fn used_since(&self, earlier: &Self, pids: &[u32]) -> f64 {
        let of = |pid: &u32| Some(self.processes.get(pid)? - earlier.processes.get(pid).unwrap_or(&0.0));
        pids.iter().filter_map(of).sum()
    }

    /// Processor time since `earlier` that went to neither the watched processes nor the kernel's own threads for packets.
    #[must_use]
    pub fn foreign_since(&self, earlier: &Self) -> f64 {
        let watched: Vec<u32> = self.processes.keys().copied().collect();
        let own = self.used_since(earlier, &watched) + self.kernel - earlier.kernel;
        (self.busy - earlier.busy - own).max(0.0)
    }
}

/// Everything but idle, waiting for disks, and what a hypervisor took.
fn busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
    // user nice system idle iowait irq softirq
    let of = |at: usize| fields.get(at).copied().unwrap_or_default();
    (of(0) + of(1) + of(2) + of(5) + of(6)) / processes::ticks()
}

/// Threads that work for whoever sends packets; they are few and live as long as the kernel.
fn kernel_threads() -> &'static [u32] {
    static FOUND: std::sync::OnceLock<Vec<u32>> = std::sync::OnceLock::new();
    FOUND.get_or_init(|| {
        let is_one = |pid: &u32| processes::name(*pid).is_some_and(|name| name.starts_with("ksoftirqd/"));
        processes::all().into_iter().filter(is_one).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_does_is_not_foreign() {
        let own = [std::process::id()];
        let before = Moment::now(&own);
        let mut sum = 0u64;
        while Moment::now(&own).used_since(&before, &own) < 0.05 {
            sum = (0..1_000_000).fold(sum, u64::wrapping_add);
        }
        assert!(std::hint::black_box(sum) > 0);
        let after = Moment::now(&own);
        let total = after.busy - before.busy;
        assert!(after.foreign_since(&before) <= total, "{before:?} {after:?}");
    }
}
