//! Whether this process may do what the eBPF way needs.

use super::exit::{Exit, Failure};
use crate::divert::Way;
use crate::paths::{CAPABILITIES, Capability};

/// CAP_SYS_ADMIN stood for CAP_BPF and CAP_PERFMON until Linux 5.8, and still does.
const SYS_ADMIN: u8 = 21;
/// Without it nothing can be attached.
const NET_ADMIN: u8 = 12;
const BPF: u8 = 39;
const PERFMON: u8 = 38;

/// The capabilities that this process can use now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effective(u64);

impl Effective {
    /// Of this process; nothing, if the kernel does not tell.
    pub(super) fn of_this_process() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn parse(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0))
    }

    fn has(self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Whether files can be bound over others, in a mount namespace.
    pub(super) fn can_mount(self) -> bool {
        self.has(SYS_ADMIN)
    }

    /// What the agent would miss.
    pub(super) fn missing(self) -> Vec<Capability> {
        let stands_in = |bit| matches!(bit, BPF | PERFMON) && self.has(SYS_ADMIN);
        CAPABILITIES.into_iter().filter(|capability| !self.has(capability.bit) && !stands_in(capability.bit)).collect()
    }

    /// Whether connections can be diverted at all.
    pub(super) fn can_divert(self) -> bool {
        self.has(NET_ADMIN) && (self.has(BPF) && self.has(PERFMON) || self.has(SYS_ADMIN))
    }
}

/// Refuses a command that was asked to divert in the kernel and may not, before it changes anything.
pub(super) fn require(command: &str, way: Way) -> Result<(), Failure> {
    if Effective::of_this_process().can_divert() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Denied,
        format!("{command} --via {way} diverts connections in the kernel, which takes root"),
    )
    .next(format!("sudo --preserve-env {command} …; or without root: {command} --via proxy …")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let of = |set: &str| Effective::parse(&format!("Name:\tmoxie\nCapInh:\tffff\nCapEff:\t{set}\n"));
        let names = |set| of(set).missing().iter().map(|capability| capability.name).collect::<Vec<_>>();
        assert!(of("000001ffffffffff").can_divert());
        assert!(names("000001ffffffffff").is_empty());
        assert_eq!(names("0000000000000000").len(), CAPABILITIES.len());
        // CAP_NET_ADMIN and CAP_SYS_ADMIN only: enough for kernels that know no CAP_BPF.
        assert!(of("0000000000201000").can_divert());
        assert_eq!(names("0000000000201000"), ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
        assert!(!of("0000000000200000").can_divert());
        // CAP_BPF and CAP_NET_ADMIN without CAP_PERFMON: the verifier refuses.
        assert!(!of("0000008000001000").can_divert());
    }
}
