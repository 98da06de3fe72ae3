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
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn key(last: u8) -> HintKey {
        HintKey { place: 1, tag: 7, address: Address::from(std::net::IpAddr::from([198, 51, 100, last])) }
    }

    /// A rule could name what begins with `r`.
    fn ruled(name: &str) -> bool {
        name.starts_with('r')
    }

    #[derive(Default)]
    struct Bench(Table);

    impl Bench {
        fn learn(&mut self, last: u8, names: &[&str], seconds: u64, at: u64) -> Option<u64> {
            let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
            let words = self.0.learn(key(last), &names, Duration::from_secs(seconds), at * SECOND, &mut ruled);
            words.into_iter().find_map(|word| match word {
                Word::Known(_, until) => Some(until / SECOND),
                Word::Unknown(_) => None,
            })
        }
    }

    #[test]
    fn an_address_is_known_for_as_long_as_its_answer_says_and_no_longer_than_five_minutes() {
        let mut bench = Bench::default();
        assert_eq!(bench.learn(1, &["free"], 20, 100), Some(120));
        assert_eq!(bench.learn(1, &["free"], 86_400, 110), Some(410));
        assert_eq!(bench.learn(1, &["free"], 5, 111), Some(116), "the newest answer counts");
        assert_eq!(bench.learn(2, &["free"], 0, 100), None, "not to be kept at all");
        assert_eq!((bench.0.known(1, 112 * SECOND), bench.0.known(1, 116 * SECOND)), (1, 0));
        assert_eq!(bench.0.known(2, 112 * SECOND), 0, "another cgroup's");
        assert!(bench.0.has_known(1, key(1).address) && !bench.0.has_known(1, key(2).address));
    }

    #[test]
    fn a_named_host_at_the_same_address_wins_whichever_was_seen_first() {
        let mut bench = Bench::default();
        assert_eq!(bench.learn(1, &["free"], 60, 0), Some(60));
        assert_eq!(bench.learn(1, &["ruled"], 10, 1), None);
        assert_eq!(bench.learn(1, &["free"], 60, 2), None);
        assert_eq!(bench.learn(1, &["free"], 60, 3000), None, "clients may remember it for an hour");
        assert_eq!(bench.learn(1, &["free"], 60, 3612), Some(3672));
        assert_eq!(bench.learn(2, &["free", "ruled"], 60, 0), None, "one name of the chain");
    }

    #[test]
    fn an_address_that_a_rule_names_itself_is_not_known() {
        let mut table = Table::default();
        let mut is_nameable = |name: &str| name == "198.51.100.1" || name == "[2001:db8::1]";
        let mut learn = |address: &str| {
            let address = Address::from(address.parse::<IpAddr>().unwrap());
            let key = HintKey { address, ..key(0) };
            table.learn(key, &["free".into()], Duration::from_mins(1), 0, &mut is_nameable);
            table.has_known(1, address)
        };
        assert!(!learn("198.51.100.1") && !learn("2001:db8::1"));
        assert!(learn("198.51.100.2") && learn("2001:db8::2"));
    }

    #[test]
    fn other_rules_judge_anew_what_was_seen() {
        let mut bench = Bench::default();
        bench.learn(1, &["free"], 60, 0);
        bench.learn(2, &["ruled"], 60, 0);
        let mut words = bench.0.judge_all(SECOND, &mut |name| name == "free");
        words.sort_by_key(|word| matches!(word, Word::Known(..)));
        assert_eq!(words, [Word::Unknown(key(1)), Word::Known(key(2), 60 * SECOND)]);
        assert!(bench.0.judge_all(100 * SECOND, &mut |_| false).iter().all(|word| matches!(word, Word::Unknown(_))));
        assert!(bench.0.judge_all(4000 * SECOND, &mut |_| false).is_empty(), "nobody remembers them");
        bench.learn(1, &["free"], 60, 5000);
        let forgotten = bench.0.judge_all(9000 * SECOND, &mut |_| false);
        assert_eq!(forgotten, [Word::Unknown(key(1))], "what was known is taken back as it is forgotten");
    }

    #[test]
    fn what_was_not_understood_makes_a_cgroups_addresses_unknown_for_a_while() {
        let mut bench = Bench::default();
        bench.learn(1, &["free"], 60, 0);
        assert_eq!(bench.0.distrust(1, PASSING, SECOND), [Word::Unknown(key(1))]);
        assert_eq!(bench.0.distrust(2, PASSING, SECOND), []);
        assert_eq!(bench.learn(2, &["free"], 60, 2), None);
        assert_eq!(bench.learn(2, &["free"], 60, 302), Some(362));
        bench.0.distrust(1, LASTING, 302 * SECOND);
        bench.0.distrust(1, PASSING, 303 * SECOND);
        assert_eq!(bench.learn(2, &["free"], 60, 4201), None, "the longer time counts");
        assert_eq!(bench.learn(2, &["free"], 60, 4202), Some(4262));
    }

    #[test]
    fn a_crowd_of_names_is_not_known() {
        let mut bench = Bench::default();
        let names: Vec<String> = (0..40).map(|number| format!("free{number}")).collect();
        for name in &names[..32] {
            assert!(bench.learn(1, &[name], 60, 0).is_some());
        }
        assert_eq!(bench.learn(1, &[&names[32]], 60, 0), None);
        assert_eq!(bench.learn(1, &[&names[0]], 60, 3000), None);
    }

    #[test]
    fn a_full_table_knows_less_and_never_more() {
        let mut bench = Bench::default();
        for number in 0..KNOWN_ADDRESSES {
            let address = Address([9, 9, 9, u32::try_from(number).unwrap()]);
            bench.0.learn(HintKey { address, ..key(0) }, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
        }
        assert_eq!(bench.learn(1, &["free"], 60, 0), None);
        assert_eq!(bench.0.known(1, SECOND), KNOWN_ADDRESSES);
        bench.learn(1, &["ruled"], 60, 0);
        assert_eq!(bench.0.known(1, SECOND), 0, "where it is cannot be remembered");
        assert_eq!(bench.learn(1, &["free"], 60, 5000), Some(5060), "the others are forgotten by then");
    }

    #[test]
    fn a_cgroup_that_leaves_takes_its_addresses_along() {
        let mut bench = Bench::default();
        bench.learn(1, &["free"], 60, 0);
        bench.learn(2, &["ruled"], 60, 0);
        assert_eq!(bench.0.leave(1, 77, SECOND), [Word::Unknown(key(1))]);
        assert!(bench.0.leave(1, 78, SECOND).is_empty());
    }

    #[test]
    fn a_cgroup_that_comes_back_remembers_where_a_rules_name_was() {
        let mut bench = Bench::default();
        bench.learn(1, &["free"], 60, 0);
        bench.learn(2, &["ruled"], 60, 0);
        bench.learn(3, &["later"], 60, 0);
        bench.0.leave(1, 77, SECOND);
        bench.0.join(1, 78, 2 * SECOND);
        assert_eq!(bench.learn(2, &["free"], 60, 2), Some(62), "another cgroup has the number");
        bench.0.leave(1, 78, 3 * SECOND);
        bench.0.join(1, 77, 4 * SECOND);
        assert_eq!(bench.0.known(1, 4 * SECOND), 0, "not before another answer");
        assert_eq!(bench.learn(1, &["free"], 60, 5), Some(65));
        assert_eq!(bench.learn(2, &["free"], 60, 5), None);
        assert_eq!(bench.learn(3, &["free"], 60, 5), Some(65));
        let words = bench.0.judge_all(6 * SECOND, &mut |name| name == "later");
        assert!(words.contains(&Word::Unknown(key(3))), "what is a rule's name by now");
        bench.0.leave(1, 77, 3000 * SECOND);
        bench.0.join(1, 77, 3001 * SECOND);
        assert_eq!(bench.learn(2, &["free"], 60, 3002), None);
        assert_eq!(bench.learn(2, &["free"], 60, 3661), Some(3721), "an hour after its answer");
    }

    /// What an agent hands over of cgroup 77, which is its place 1.
    fn handed(from: &Bench) -> Left {
        let mut all = from.0.hand(&BTreeMap::from([(1, 77)]));
        assert_eq!(all.len(), 1);
        let (cgroup, left) = all.remove(0);
        assert_eq!(cgroup, 77);
        left
    }

    /// Whether it is known there, judged anew.
    fn judged(bench: &mut Bench, place: u32, last: u8, at: u64) -> Option<u64> {
        let words = bench.0.judge_all(at * SECOND, &mut ruled);
        words.into_iter().find_map(|word| match word {
            Word::Known(found, until) if found == HintKey { place, ..key(last) } => Some(until / SECOND),
            _ => None,
        })
    }

    #[test]
    fn what_another_agent_has_seen_counts_as_if_it_had_been_seen_here() {
        let (mut old, mut new) = (Bench::default(), Bench::default());
        old.learn(1, &["free"], 60, 0);
        old.learn(2, &["ruled"], 60, 0);
        old.learn(3, &["ruled"], 60, 0);
        // Both have seen these.
        old.learn(4, &["free"], 60, 1);
        new.learn(4, &["free"], 20, 2);
        new.learn(3, &["free"], 60, 2);
        new.0.receive(Some(1), 77, handed(&old), 3 * SECOND);
        let mut known = |last| judged(&mut new, 1, last, 4);
        assert_eq!([known(1), known(2), known(3), known(4)], [Some(60), None, None, Some(22)]);
        assert_eq!(new.learn(2, &["free"], 60, 5), None);
        assert_eq!(new.learn(2, &["free"], 60, 3660), Some(3720), "an hour after its answer");
    }

    #[test]
    fn what_another_agent_has_seen_waits_for_a_cgroup_without_hints_and_for_another_answer() {
        let (mut old, mut new) = (Bench::default(), Bench::default());
        old.learn(1, &["free"], 60, 0);
        old.learn(2, &["ruled"], 60, 0);
        old.0.leave(1, 77, 0);
        let left = old.0.hand(&BTreeMap::new()).remove(0).1;
        new.learn(2, &["free"], 60, 0);
        new.learn(3, &["ruled"], 60, 0);
        new.0.leave(1, 77, 0);
        new.0.receive(None, 77, left, SECOND);
        new.0.join(1, 77, 2 * SECOND);
        assert_eq!([1, 2, 3].map(|last| judged(&mut new, 1, last, 3)), [None; 3]);
        assert_eq!([1, 2, 3].map(|last| new.learn(last, &["free"], 60, 4)), [Some(64), None, None]);
    }

    #[test]
    fn what_another_agent_distrusts_is_distrusted_and_so_is_more_than_there_is_room_for() {
        let (mut old, mut new) = (Bench::default(), Bench::default());
        old.0.distrust(1, LASTING, 0);
        new.0.distrust(5, PASSING, 0);
        new.0.receive(Some(5), 77, handed(&old), 0);
        assert_eq!(new.0.distrusted[&5], nanoseconds(LASTING));

        let (mut old, mut new) = (Bench::default(), Bench::default());
        for number in 0..=KNOWN_ADDRESSES / 2 {
            let address = Address([9, 9, 9, u32::try_from(number).unwrap()]);
            let (ours, theirs) = (HintKey { address, ..key(0) }, HintKey { address, place: 2, ..key(0) });
            old.0.learn(ours, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
            new.0.learn(theirs, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
        }
        new.0.receive(Some(1), 77, handed(&old), SECOND);
        assert_eq!(new.0.distrusted[&1], SECOND + nanoseconds(LASTING));
        assert_eq!((judged(&mut new, 1, 1, 2), new.0.known(2, 2 * SECOND)), (None, KNOWN_ADDRESSES / 2 + 1));
    }

    #[test]
    fn what_a_cgroup_had_to_distrust_it_distrusts_when_it_comes_back() {
        let mut bench = Bench::default();
        bench.0.distrust(1, LASTING, 0);
        bench.0.leave(1, 77, SECOND);
        bench.0.join(1, 77, 2 * SECOND);
        assert_eq!(bench.learn(1, &["free"], 60, 3899), None);
        assert_eq!(bench.learn(1, &["free"], 60, 3900), Some(3960));
    }

    #[test]
    fn more_than_can_be_kept_of_cgroups_that_left_is_distrusted() {
        let mut bench = Bench::default();
        for cgroup in 1..=2 {
            for number in 0..=u32::try_from(KNOWN_ADDRESSES / 2).unwrap() {
                let key = HintKey { address: Address([9, 9, 9, number]), ..key(0) };
                bench.0.learn(key, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
            }
            bench.0.leave(1, cgroup, 0);
        }
        bench.0.join(1, 2, SECOND);
        assert_eq!(bench.learn(1, &["free"], 60, 3899), None);
        assert_eq!(bench.learn(1, &["free"], 60, 3900), Some(3960));
    }
}
