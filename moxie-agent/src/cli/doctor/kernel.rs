//! Whether the kernel half can be loaded by this user, tried out.

use super::Check;
use crate::cli::exit::chain;
use crate::cli::privilege::Effective;
use crate::divert::ebpf::{Ebpf, EbpfOptions};

pub(super) fn checks() -> Vec<Check> {
    let effective = Effective::of_this_process();
    let mut checks = vec![privileges(effective)];
    if effective.can_divert() {
        checks.push(trial());
    }
    checks
}

fn privileges(effective: Effective) -> Check {
    let missing = effective.missing();
    if missing.is_empty() {
        return Check::ok("privileges", "every capability that the agent uses");
    }
    let missing: Vec<String> = missing.iter().map(|one| format!("{} ({})", one.name, one.needed_for)).collect();
    let found = format!("without {}", missing.join(", "));
    if effective.can_divert() {
        Check::warn("privileges", found, "run the agent as its unit does: sudo systemctl start moxie")
    } else {
        Check::blocks("privileges", found, "sudo moxie doctor")
    }
}

/// Loads the kernel half, attaches it to nothing, and lets it go again.
fn trial() -> Check {
    match Ebpf::load(&EbpfOptions::default()) {
        Ok(_) => Check::ok("ebpf", "the kernel half loads"),
        Err(error) => Check::blocks("ebpf", chain(&error), "follow what it says, then: sudo moxie doctor"),
    }
}
