//! The table of one network namespace. It is its socket's: whichever way the agent ends, the kernel takes it away.
//!
//! There are two of them. The first has the rules; its socket has a higher descriptor than any listener, and the kernel closes the
//! highest first of a process that is killed: so the rules go before the listeners do, and no connection is refused in between. The
//! second has no rules; it has the kernel go on translating addresses, and its socket has a lower descriptor than any connection: so
//! those that were under way are ended, and not left hanging.

use std::collections::HashMap;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use tokio::time::Instant;

use super::batch::{self, Batch, Refused};
use super::reserve::Reserve;
use super::rules::{self, COUNTERS, Wanted};
use crate::descriptors;
use crate::divert::DivertError;
use crate::namespace::Namespace;
use crate::netlink::{Answer, Netlink, attribute, attributes};

/// A descriptor above those of connections, while there are fewer than this; a higher one would cost the kernel memory.
const HIGH: u64 = 65_535;
/// Descriptors left above it.
const ABOVE: u64 = 16;
/// Of a heartbeat's age limit, how much may pass before it is written anew.
const SHARE: u32 = 4;

/// A cgroup as a rule names it: the kernel's number of it, and how deep in the hierarchy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CgroupKey {
    pub(super) level: u32,
    pub(super) id: u64,
}

/// How many want it.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    diverted: usize,
    refused: usize,
}

/// A socket and the table that is its own.
#[derive(Debug)]
struct Owned {
    netlink: Netlink,
    name: String,
}

/// The rules of one network namespace.
#[derive(Debug)]
pub(super) struct Table {
    // Dropped in this order: nothing more is diverted, then nothing more is translated.
    rules: Owned,
    translation: Owned,
    scopes: HashMap<CgroupKey, Count>,
    /// Depths that there are rules for.
    levels: Vec<u32>,
    refusing_levels: Vec<u32>,
    written: Option<Instant>,
}

impl Table {
    /// In `namespace`; `name` is not used by any other there. Diverts nothing before the first beat.
    pub(super) fn make(
        namespace: &Namespace,
        name: &str,
        wanted: &Wanted<'_>,
        reserve: &mut Reserve,
    ) -> Result<Self, DivertError> {
        let translation = Owned { netlink: reserve.lower(open(namespace)?), name: format!("{name}-open") };
        rules::translation(&translation.name).commit(&translation.netlink).map_err(refused)?;
        let rules = Owned { netlink: raise(open(namespace)?)?, name: name.to_owned() };
        rules::foundation(name, wanted).commit(&rules.netlink).map_err(refused)?;
        let (scopes, levels, refusing_levels) = (HashMap::new(), Vec::new(), Vec::new());
        Ok(Self { rules, translation, scopes, levels, refusing_levels, written: None })
    }

    /// Nothing is diverted from now on, nor translated.
    pub(super) fn end(self, reserve: &mut Reserve) {
        drop(self.rules);
        reserve.give_back(self.translation.netlink);
    }

    /// Whether no cgroup is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    /// Puts a cgroup on path, at once and as a whole; `refuses` also has its QUIC refused.
    pub(super) fn add(&mut self, cgroup: CgroupKey, refuses: bool) -> Result<(), DivertError> {
        let before = self.scopes.get(&cgroup).copied().unwrap_or_default();
        let is_first = before.diverted == 0;
        let is_first_refused = refuses && before.refused == 0;
        let level = cgroup.level;
        if is_first || is_first_refused {
            let mut batch = Batch::new(&self.rules.name);
            let key = vec![cgroup.id.to_ne_bytes().to_vec()];
            if is_first {
                if !self.levels.contains(&level) {
                    batch = rules::level(batch, level);
                }
                batch = batch.add_elements(&rules::scopes_at(level), &key, None);
            }
            if is_first_refused {
                if self.refusing_levels.is_empty() {
                    batch = rules::refusal(batch);
                }
                if !self.refusing_levels.contains(&level) {
                    batch = rules::refusal_level(batch, level);
                }
                batch = batch.add_elements(&rules::refused_at(level), &key, None);
            }
            batch.commit(&self.rules.netlink).map_err(refused)?;
            note(&mut self.levels, level);
            if is_first_refused {
                note(&mut self.refusing_levels, level);
            }
        }
        let count = self.scopes.entry(cgroup).or_default();
        count.diverted += 1;
        count.refused += usize::from(refuses);
        Ok(())
    }

    /// Takes back what [`Self::add`] has done.
    pub(super) fn remove(&mut self, cgroup: CgroupKey, refuses: bool) -> Result<(), DivertError> {
        let Some(count) = self.scopes.get_mut(&cgroup) else { return Ok(()) };
        count.diverted = count.diverted.saturating_sub(1);
        count.refused = count.refused.saturating_sub(usize::from(refuses));
        let (is_last, is_last_refused) = (count.diverted == 0, refuses && count.refused == 0);
        if is_last {
            self.scopes.remove(&cgroup);
        }
        if !is_last && !is_last_refused {
            return Ok(());
        }
        let mut batch = Batch::new(&self.rules.name);
        let key = cgroup.id.to_ne_bytes().to_vec();
        if is_last {
            batch = batch.remove_element(&rules::scopes_at(cgroup.level), key.clone());
        }
        if is_last_refused {
            batch = batch.remove_element(&rules::refused_at(cgroup.level), key);
        }
        batch.commit(&self.rules.netlink).map_err(refused)
    }

    /// Tells the kernel that the agent lives; it forgets that after `max_age`. Written again only after a part of that time.
    pub(super) fn beat(&mut self, max_age: Duration) -> Result<(), DivertError> {
        let now = Instant::now();
        if self.written.is_some_and(|written| now.duration_since(written) < max_age / SHARE) {
            return Ok(());
        }
        let milliseconds = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        rules::beat(&self.rules.name, milliseconds).commit(&self.rules.netlink).map_err(refused)?;
        self.written = Some(now);
        Ok(())
    }

    /// Nothing more is diverted until the next beat.
    pub(super) fn silence(&mut self) -> Result<(), DivertError> {
        self.written = None;
        rules::silence(&self.rules.name).commit(&self.rules.netlink).map_err(refused)
    }

    /// What was counted under each of [`COUNTERS`]; 0 where the kernel does not tell.
    pub(super) fn counts(&self) -> [u64; COUNTERS.len()] {
        let mut counts = [0; COUNTERS.len()];
        let asked = self.rules.netlink.exchange(batch::counters(&self.rules.name).bytes(), |_, answer| {
            let Answer::Content(content) = answer else { return };
            let Some((name, packets)) = read_counter(content) else { return };
            if let Some(index) = COUNTERS.iter().position(|counter| counter.as_bytes() == name) {
                counts[index] = packets;
            }
        });
        log_unread(asked);
        counts
    }

    /// Datagrams of every cgroup in it that were refused.
    pub(super) fn all_refusals(&self) -> u64 {
        let refusing = self.scopes.iter().filter(|(_, count)| count.refused > 0);
        refusing.map(|(cgroup, _)| self.refusals(*cgroup)).sum()
    }

    /// Datagrams of a cgroup, or below it, that were refused.
    pub(super) fn refusals(&self, cgroup: CgroupKey) -> u64 {
        if !self.refusing_levels.contains(&cgroup.level) {
            return 0;
        }
        let mut refusals = 0;
        let request = batch::elements(&self.rules.name, &rules::refused_at(cgroup.level));
        let asked = self.rules.netlink.exchange(request.bytes(), |_, answer| {
            if let Answer::Content(content) = answer {
                refusals += read_element(content, &cgroup.id.to_ne_bytes()).unwrap_or_default();
            }
        });
        log_unread(asked);
        refusals
    }
}

fn open(namespace: &Namespace) -> Result<Netlink, DivertError> {
    let open = || {
        let netlink = Netlink::open(libc::NETLINK_NETFILTER)?;
        netlink.enlarge()?;
        Ok(netlink)
    };
    let opened = namespace.run(open).and_then(|opened| opened);
    opened.map_err(|source| refused(Refused { operation: "open a netlink socket", source }))
}

/// Gives a socket a high number.
fn raise(netlink: Netlink) -> Result<Netlink, DivertError> {
    use std::os::fd::FromRawFd as _;
    let high = RawFd::try_from(HIGH.min(descriptors::limit().saturating_sub(ABOVE))).unwrap_or_default();
    let copy = fcntl(&netlink, FcntlArg::F_DUPFD_CLOEXEC(high))
        .map_err(|error| DivertError::Netfilter { operation: "keep a socket open", source: error.into() })?;
    // SAFETY: made by the call above, and nobody else's.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    Ok(copy.into())
}

fn note(levels: &mut Vec<u32>, level: u32) {
    if !levels.contains(&level) {
        levels.push(level);
    }
}

/// After the four bytes of `struct nfgenmsg`: `NFTA_OBJ_NAME`, and in `NFTA_OBJ_DATA` the packets.
fn read_counter(content: &[u8]) -> Option<(&[u8], u64)> {
    let object = content.get(4..)?;
    let name = attribute(object, 2)?.strip_suffix(&[0])?;
    Some((name, read_packets(attribute(object, 4)?)?))
}

/// `NFTA_COUNTER_PACKETS`.
fn read_packets(counter: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*attribute(counter, 2)?.first_chunk()?))
}

/// The packets counted for the element with this key, among those in one answer.
fn read_element(content: &[u8], key: &[u8]) -> Option<u64> {
    let elements = attribute(content.get(4..)?, 3)?;
    attributes(elements).find_map(|(_, element)| {
        let found = attribute(attribute(element, 1)?, 1)?;
        let counter = attribute(attribute(element, 7)?, 2)?;
        (found == key).then(|| read_packets(counter))?
    })
}

fn log_unread(asked: std::io::Result<()>) {
    if let Err(error) = asked {
        tracing::debug!(%error, "counters of nftables not read");
    }
}

/// What the kernel refused: a privilege, something that it was built without, or this one thing.
fn refused(Refused { operation, source }: Refused) -> DivertError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            DivertError::NotPermitted { operation: format!("{operation} of nftables"), source: source.into() }
        }
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
            DivertError::NetfilterLacks { operation, source }
        }
        _ => DivertError::Netfilter { operation, source },
    }
}
