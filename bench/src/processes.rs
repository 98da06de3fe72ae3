//! Processor time, memory, descriptors and threads of processes, from `/proc` (proc(5)).

use std::collections::HashMap;
use std::fs;

/// Seconds of processor time that a process has used in all its threads, in user space and in the kernel; none once it is gone.
#[must_use]
pub fn cpu(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also parentheses; fields 14 and 15 are the twelfth and thirteenth after it.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / ticks())
}

/// Clock ticks a second, the unit of times in `/proc`.
#[must_use]
pub fn ticks() -> f64 {
    // SAFETY: a query without pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    #[expect(clippy::cast_precision_loss, reason = "a hundred, as a rule")]
    let ticks = if ticks > 0 { ticks as f64 } else { 100.0 };
    ticks
}

/// `pid` and the processes below it.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (child, parent) in all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))) {
        children.entry(parent).or_default().push(child);
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(member) = family.get(next) {
        family.extend(children.remove(member).unwrap_or_default());
        next += 1;
    }
    family
}

/// Ids of all processes.
#[must_use]
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The short name of a process.
#[must_use]
pub fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is resident.
    pub resident: u64,
    /// What of it belongs to no file.
    pub anonymous: u64,
}

/// What a process has resident; none once it is gone.
#[must_use]
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { resident: of("VmRSS:")?, anonymous: of("RssAnon:")? })
}

/// How many descriptors a process has open; none once it is gone.
#[must_use]
pub fn descriptors(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// How many of these are of pipes; none once it is gone.
#[must_use]
pub fn pipes(pid: u32) -> Option<usize> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    Some(targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count())
}

/// How many threads a process has; none once it is gone.
#[must_use]
pub fn threads(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/task")).ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        assert!(cpu(own).is_some() && memory(own).unwrap().resident > 0);
        assert!(descriptors(own).unwrap() > 2 && threads(own).unwrap() >= 1);
        assert!(family(1).contains(&1));
        assert!(family(parent(own).unwrap()).contains(&own));
    }
}
