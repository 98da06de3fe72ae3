//! How often UDP to port 443 was refused, counted for each cgroup on path by the programs that refuse it.

#![expect(deprecated, reason = "the kernel's successor of this kind of map came with Linux 6.2")]

use aya::Ebpf as Object;
use aya::maps::{CgroupStorageKey, MapData, PerCpuCgroupStorage};
use moxie_common::names;

use super::load;
use crate::divert::DivertError;

/// `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT`, `BPF_CGROUP_UDP4_SENDMSG`, `BPF_CGROUP_UDP6_SENDMSG`: the kernel keeps a
/// count for each of them.
const HOOKS: [u32; 4] = [10, 11, 14, 15];

/// The counts.
#[derive(Debug)]
pub(super) struct Refusals(PerCpuCgroupStorage<MapData, u64>);

impl Refusals {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        load::take_map(object, names::REFUSED).map(Self)
    }

    /// Of the cgroup of this id; 0 if nothing is refused there.
    pub(super) fn of(&self, cgroup_id: u64) -> u64 {
        // A cgroup without the programs has no counts.
        let counts = HOOKS.iter().filter_map(|hook| self.0.get(CgroupStorageKey::new(cgroup_id, *hook), 0).ok());
        counts.map(|counts| counts.iter().sum::<u64>()).sum()
    }
}
