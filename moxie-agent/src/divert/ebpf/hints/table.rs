//! Which names were seen at which addresses, and so which addresses are nobody's but names' that no rule could name.
//!
//! Invariant: an address is known only while each name that was ever seen there, and that a client may remember still, is one that no
//! rule could name, and so is the address itself. What would have to be forgotten for want of room makes its cgroup's addresses unknown for a while instead.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use moxie_common::Address;
use moxie_common::hints::{HintKey, KNOWN_ADDRESSES};

/// Longest that an answer counts, whatever it says itself.
const LONGEST: Duration = Duration::from_mins(5);
/// How much longer than its answer says a name may be at an address for a client that remembers it.
const REMEMBERED: Duration = Duration::from_hours(1);
/// How long nothing is known of a cgroup's addresses after something that said little, and most likely nothing of a rule's name.
pub(super) const PASSING: Duration = Duration::from_mins(5);
/// How long after a rule's name may have been seen at an address that is not remembered: as long as clients remember it.
pub(super) const LASTING: Duration = LONGEST.saturating_add(REMEMBERED);
/// Most names at one address; with more of them nothing is known of it.
const MOST_NAMES: usize = 32;

/// The table. Times are nanoseconds of one clock.
#[derive(Debug, Default)]
pub(super) struct Table {
    spots: HashMap<HintKey, Spot>,
    distrusted: HashMap<u32, u64>,
    /// Of cgroups that have no hints at present, by their ids.
    left: HashMap<u64, Left>,
    /// Addresses that were known and are forgotten, until that is said.
    gone: Vec<Word>,
}

/// An address.
#[derive(Clone, Debug, Default)]
pub(super) struct Spot {
    pub(super) names: Vec<Seen>,
    /// Too many names were seen there to be remembered, the last of them until then.
    pub(super) crowded_until: u64,
    /// As it was last said to be.
    pub(super) is_known: bool,
}

/// A name.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: Arc<str>,
    /// How long its answer counts.
    pub(super) fresh_until: u64,
    /// How long a client may remember it.
    pub(super) kept_until: u64,
}

/// What was seen in a cgroup while it had hints; clients in it remember the names all the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    /// Of the keys the place does not count: it may have another when it has hints again.
    pub(super) spots: Vec<(HintKey, Spot)>,
    pub(super) distrusted_until: u64,
}

/// What is to be said of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is known until then.
    Known(HintKey, u64),
    /// It is not, or not any more.
    Unknown(HintKey),
}

impl Table {
    /// Names were seen at an address, for so long. `is_nameable`: whether a rule could name this one.
    pub(super) fn learn(
        &mut self,
        key: HintKey,
        names: &[Arc<str>],
        lasts: Duration,
        now: u64,
        is_nameable: &mut dyn FnMut(&str) -> bool,
    ) -> Vec<Word> {
        if !self.has_room(&key, now) {
            // A name that is no rule's is not remembered; then nothing is known of its address.
            let is_named = names.iter().any(|name| is_nameable(name));
            let mut words = if is_named { self.distrust(key.place, LASTING, now) } else { Vec::new() };
            words.append(&mut self.gone);
            return words;
        }
        let fresh_until = now + nanoseconds(lasts.min(LONGEST));
        let kept_until = now + nanoseconds(lasts.min(LONGEST) + REMEMBERED);
        let spot = self.spots.entry(key).or_default();
        for name in names {
            spot.see(Seen { name: Arc::clone(name), fresh_until, kept_until }, now);
        }
        let mut words = std::mem::take(&mut self.gone);
        words.push(self.judge(key, now, is_nameable));
        words
    }

    /// Nothing is known of a cgroup's addresses for a while.
    pub(super) fn distrust(&mut self, place: u32, lasts: Duration, now: u64) -> Vec<Word> {
        let until = self.distrusted.entry(place).or_default();
        *until = (*until).max(now + nanoseconds(lasts));
        let known = self.spots.iter_mut().filter(|(key, spot)| key.place == place && spot.is_known);
        known
            .map(|(key, spot)| {
                spot.is_known = false;
                Word::Unknown(*key)
            })
            .collect()
    }

    /// The rules are others: what is to be said of every address.
    pub(super) fn judge_all(&mut self, now: u64, is_nameable: &mut dyn FnMut(&str) -> bool) -> Vec<Word> {
        self.forget_old(now);
        let mut words = std::mem::take(&mut self.gone);
        let keys: Vec<HintKey> = self.spots.keys().copied().collect();
        words.extend(keys.into_iter().map(|key| self.judge(key, now, is_nameable)));
        words
    }

    /// A cgroup has no hints any more. What was seen there is kept for when it has some again.
    pub(super) fn leave(&mut self, place: u32, cgroup: u64, now: u64) -> Vec<Word> {
        let mut left = Left { spots: Vec::new(), distrusted_until: self.distrusted.remove(&place).unwrap_or(0) };
        let mut words = Vec::new();
        for (key, mut spot) in self.spots.extract_if(|key, _| key.place == place) {
            if spot.is_known {
                words.push(Word::Unknown(key));
            }
            spot.rest();
            left.spots.push((key, spot));
        }
        self.keep(cgroup, left, now);
        words
    }

    /// A cgroup has hints; what was seen there when it had some before counts.
    pub(super) fn join(&mut self, place: u32, cgroup: u64, now: u64) {
        if let Some(left) = self.left.remove(&cgroup) {
            self.take_in(place, left, now);
        }
    }

    /// What was seen in each cgroup, by its id, those that have no hints at present among them. `places`: ids by their numbers.
    pub(super) fn hand(&self, places: &BTreeMap<u32, u64>) -> Vec<(u64, Left)> {
        let mut handed = self.left.clone();
        for (place, until) in &self.distrusted {
            if let Some(cgroup) = places.get(place) {
                let left = handed.entry(*cgroup).or_default();
                left.distrusted_until = left.distrusted_until.max(*until);
            }
        }
        for (key, spot) in &self.spots {
            if let Some(cgroup) = places.get(&key.place) {
                handed.entry(*cgroup).or_default().spots.push((*key, spot.clone()));
            }
        }
        handed.into_iter().collect()
    }

    /// What another agent has seen in a cgroup counts here too, once everything is judged anew. Without a place it is kept for when
    /// the cgroup has hints.
    pub(super) fn receive(&mut self, place: Option<u32>, cgroup: u64, mut left: Left, now: u64) {
        if let Some(place) = place {
            return self.take_in(place, left, now);
        }
        for (_, spot) in &mut left.spots {
            spot.rest();
        }
        if let Some(own) = self.left.remove(&cgroup) {
            left.spots.extend(own.spots);
            left.distrusted_until = left.distrusted_until.max(own.distrusted_until);
        }
        self.keep(cgroup, left, now);
    }

    fn take_in(&mut self, place: u32, left: Left, now: u64) {
        let is_too_much = self.spots.len() + left.spots.len() > KNOWN_ADDRESSES;
        let until = if is_too_much { now + nanoseconds(LASTING) } else { left.distrusted_until };
        if until > now {
            let distrusted = self.distrusted.entry(place).or_default();
            *distrusted = (*distrusted).max(until);
        }
        for (key, spot) in left.spots.into_iter().filter(|_| !is_too_much) {
            self.spots.entry(HintKey { place, ..key }).or_default().add(spot);
        }
    }

    fn keep(&mut self, cgroup: u64, mut left: Left, now: u64) {
        left.spots.retain(|(_, spot)| !spot.is_old(now));
        self.left.retain(|_, left| !left.is_old(now));
        if self.left.values().map(|left| left.spots.len()).sum::<usize>() + left.spots.len() > KNOWN_ADDRESSES {
            left = Left { spots: Vec::new(), distrusted_until: now + nanoseconds(LASTING) };
        }
        if !left.is_old(now) {
            self.left.insert(cgroup, left);
        }
    }

    /// How many addresses of a cgroup are known.
    pub(super) fn known(&self, place: u32, now: u64) -> usize {
        let is_known = |spot: &Spot| spot.is_known && spot.fresh_until() > now;
        self.spots.iter().filter(|(key, spot)| key.place == place && is_known(spot)).count()
    }

    /// Whether an address of a cgroup is known in any namespace, or was when it was judged last.
    pub(super) fn has_known(&self, place: u32, address: Address) -> bool {
        self.spots.iter().any(|(key, spot)| key.place == place && key.address == address && spot.is_known)
    }

    fn judge(&mut self, key: HintKey, now: u64, is_nameable: &mut dyn FnMut(&str) -> bool) -> Word {
        let is_distrusted = self.distrusted.get(&key.place).is_some_and(|until| *until > now);
        let Some(spot) = self.spots.get_mut(&key) else { return Word::Unknown(key) };
        let fresh_until = spot.fresh_until();
        let is_clear = !is_distrusted && fresh_until > now && spot.crowded_until <= now;
        let mut remembered = spot.names.iter().filter(|seen| seen.kept_until > now);
        // A client may also ask for what the address itself is called in a URL.
        let is_clear = is_clear && !is_nameable(&literal(key.address));
        spot.is_known = is_clear && !remembered.any(|seen| is_nameable(&seen.name));
        if spot.is_known { Word::Known(key, fresh_until) } else { Word::Unknown(key) }
    }

    fn has_room(&mut self, key: &HintKey, now: u64) -> bool {
        if self.spots.len() < KNOWN_ADDRESSES || self.spots.contains_key(key) {
            return true;
        }
        self.forget_old(now);
        self.spots.len() < KNOWN_ADDRESSES
    }

    fn forget_old(&mut self, now: u64) {
        self.distrusted.retain(|_, until| *until > now);
        let old = self.spots.extract_if(|_, spot| spot.is_old(now));
        self.gone.extend(old.filter(|(_, spot)| spot.is_known).map(|(key, _)| Word::Unknown(key)));
    }
}

impl Spot {
    fn see(&mut self, seen: Seen, now: u64) {
        self.names.retain(|old| old.kept_until > now);
        if let Some(old) = self.names.iter_mut().find(|old| old.name == seen.name) {
            // The newest answer says how long it counts; what was remembered stays so.
            old.fresh_until = seen.fresh_until;
            old.kept_until = old.kept_until.max(seen.kept_until);
        } else if self.names.len() < MOST_NAMES {
            self.names.push(seen);
        } else {
            self.crowded_until = self.crowded_until.max(seen.kept_until);
        }
    }

    /// What was seen there by another. Of an answer that both have seen, what it says here counts.
    fn add(&mut self, other: Self) {
        self.crowded_until = self.crowded_until.max(other.crowded_until);
        for seen in other.names {
            if let Some(own) = self.names.iter_mut().find(|own| own.name == seen.name) {
                own.kept_until = own.kept_until.max(seen.kept_until);
            } else if self.names.len() < MOST_NAMES {
                self.names.push(seen);
            } else {
                self.crowded_until = self.crowded_until.max(seen.kept_until);
            }
        }
    }

    /// Nobody listens to what is said of it: another answer has to come before it can be known.
    fn rest(&mut self) {
        self.is_known = false;
        for seen in &mut self.names {
            seen.fresh_until = 0;
        }
    }

    /// Nobody remembers who was there.
    fn is_old(&self, now: u64) -> bool {
        self.crowded_until <= now && self.names.iter().all(|seen| seen.kept_until <= now)
    }

    fn fresh_until(&self) -> u64 {
        self.names.iter().map(|seen| seen.fresh_until).max().unwrap_or(0)
    }
}

impl Left {
    fn is_old(&self, now: u64) -> bool {
        self.distrusted_until <= now && self.spots.iter().all(|(_, spot)| spot.is_old(now))
    }
}

/// Names by their text, each once in memory.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Arc<str>, bool>);

impl Names {
    /// Most judgements that are kept.
    const MOST: usize = 65_536;

    /// Whether a rule could name `name`, as `judge` says; it is asked once until [`Self::clear`].
    pub(super) fn is_nameable(&mut self, name: &str, judge: impl FnOnce(&str) -> bool) -> bool {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        match self.0.entry(name.into()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => *vacant.insert(judge(name)),
        }
    }

    /// The rules are others.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// An address as the host of a URL.
fn literal(address: Address) -> String {
    match IpAddr::from(address) {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
