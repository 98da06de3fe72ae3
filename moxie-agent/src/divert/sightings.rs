//! Which names were seen at which addresses: what one agent has learned from DNS answers, on its way to the next.
//!
//! Addresses are told with the network namespace that they were seen in, since each agent has its own numbers for those. Times are
//! nanoseconds of `CLOCK_MONOTONIC`, which the agents of one host share.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::namespace::NamespaceId;

/// What was seen, by cgroup.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sightings {
    pub(super) cgroups: Vec<SeenIn>,
}

impl Sightings {
    /// How many addresses it tells of.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.cgroups.iter().map(|cgroup| cgroup.addresses.len()).sum()
    }
}

/// What was seen in a cgroup.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SeenIn {
    /// Its id.
    pub(super) cgroup: u64,
    /// Nothing is known of its addresses until then.
    pub(super) distrusted_until: u64,
    pub(super) addresses: Vec<SeenAt>,
}

/// What was seen at an address.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SeenAt {
    pub(super) namespace: NamespaceId,
    pub(super) address: IpAddr,
    /// More names than are told were seen there, the last of them until then.
    pub(super) crowded_until: u64,
    pub(super) names: Vec<SeenName>,
}

/// A name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SeenName {
    pub(super) name: String,
    /// How long its answer counts.
    pub(super) fresh_until: u64,
    /// How long a client may remember it.
    pub(super) kept_until: u64,
}
