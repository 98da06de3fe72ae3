//! What of each cgroup's connections the kernel half diverts: a word beside the programs on the cgroup, one for each kind of hook.

#![expect(deprecated, reason = "the kernel's successor of this kind of map came with Linux 6.2")]

use std::fmt;
use std::sync::Mutex;

use aya::Ebpf as Object;
use aya::maps::{CgroupStorage, CgroupStorageKey, MapData, MapError};
use moxie_common::{names, share};

use super::{load, lock};
use crate::divert::{DivertError, Share};

/// Hooks whose programs look at it: `BPF_CGROUP_INET_INGRESS`, `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT`, `BPF_CGROUP_UDP4_SENDMSG`,
/// `BPF_CGROUP_UDP6_SENDMSG`.
const HOOKS: [u32; 5] = [0, 10, 11, 14, 15];

/// The words.
pub(super) struct Shares {
    map: Mutex<CgroupStorage<MapData, moxie_common::Share>>,
}

impl Shares {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        Ok(Self { map: Mutex::new(load::take_map(object, names::SHARES)?) })
    }

    /// Of a cgroup that has programs: the kernel makes the words as they are attached. One that has been there before still has what
    /// was said of it then.
    /// `place`: the number that it has hints by, 0 if it has none.
    pub(super) fn set(&self, cgroup_id: u64, share: Share, place: u32) -> Result<(), DivertError> {
        let of = match share {
            Share::All => share::ALL,
            Share::Named => share::NAMED,
            Share::None => share::NOTHING,
        };
        let word = moxie_common::Share { of, place };
        let mut map = lock(&self.map);
        HOOKS.iter().try_for_each(|hook| match map.insert(CgroupStorageKey::new(cgroup_id, *hook), word, 0) {
            Err(source) if !is_missing(&source) => {
                Err(DivertError::Map { operation: "write", map: names::SHARES, source: source.into() })
            }
            // A hook without a program has no word.
            _ => Ok(()),
        })
    }
}

fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").finish_non_exhaustive()
    }
}
