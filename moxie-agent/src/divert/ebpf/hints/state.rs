//! What is known, and what the kernel half is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use aya::Ebpf as Object;
use aya::maps::{Array, HashMap, MapData};
use moxie_common::hints::{HINTED_PLACES, Hint, HintKey, QUESTION_AT, QuestionKey, hash_name};
use moxie_common::{Address, names};

use super::answer::Reading;
use super::heard::Heard;
use super::table::{LASTING, Names, PASSING, Table, Word};
use super::{load, monotonic_ns};
use crate::divert::DivertError;

type Counts = std::collections::HashMap<u32, u64>;

/// What the thread works on, and those who come and go.
pub(super) struct State {
    pub(super) table: Table,
    pub(super) names: Names,
    /// Those that have hints, with the ids of their cgroups.
    pub(super) places: BTreeMap<u32, u64>,
    last_place: u32,
    hints: HashMap<MapData, HintKey, Hint>,
    questions: HashMap<MapData, QuestionKey, u64>,
    pub(super) asked: Array<MapData, u64>,
    handled: Array<MapData, u64>,
    /// Answers looked at, by place; as in the map.
    counts: Counts,
    pub(super) waits: Waits,
}

impl State {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        Ok(Self {
            table: Table::default(),
            names: Names::default(),
            places: BTreeMap::new(),
            last_place: 0,
            hints: load::take_map(object, names::HINTS)?,
            questions: load::take_map(object, names::QUESTIONS)?,
            asked: load::take_map(object, names::ASKED)?,
            handled: load::take_map(object, names::HANDLED)?,
            counts: Counts::new(),
            waits: Waits::default(),
        })
    }

    /// Round and round, so that a number rests for long.
    pub(super) fn take_place(&mut self, cgroup: u64) -> Option<u32> {
        let most = u32::try_from(HINTED_PLACES).ok()?;
        let next = |after: u32| if after + 1 < most { after + 1 } else { 1 };
        let number = std::iter::successors(Some(next(self.last_place)), |number| Some(next(*number)))
            .take(HINTED_PLACES)
            .find(|number| !self.places.contains_key(number))?;
        self.last_place = number;
        self.places.insert(number, cgroup);
        Some(number)
    }

    pub(super) fn learn(&mut self, heard: &Heard<'_>, generation: u64, judge: &dyn Fn(&str) -> bool) {
        let now = monotonic_ns();
        let Self { table, names, .. } = self;
        let mut is_nameable = |name: &str| names.is_nameable(name, judge);
        let (words, is_clear) = match heard.read() {
            Reading::NoAnswer => return,
            Reading::Partly(name) if !is_nameable(&name) => return,
            // Where a rule's name is cannot be told, so nothing is known of where others are.
            Reading::Partly(_) => (table.distrust(heard.place, LASTING, now), false),
            Reading::Garbled => (table.distrust(heard.place, PASSING, now), false),
            Reading::Whole(told) => {
                let all: Vec<Arc<str>> = told.names.iter().map(|name| Arc::from(name.as_str())).collect();
                let is_clear = !all.iter().any(|name| is_nameable(name));
                let learned = told.addresses.iter().flat_map(|(address, lasts)| {
                    let key = HintKey { place: heard.place, tag: heard.tag, address: Address::from(*address) };
                    table.learn(key, &all, *lasts, now, &mut is_nameable)
                });
                (learned.collect(), is_clear)
            }
        };
        self.say(&words, generation);
        if is_clear && let Some(name) = heard.message.get(QUESTION_AT..).and_then(hash_name) {
            let question = QuestionKey { name, place: heard.place.into() };
            // A question that is not noted is waited for.
            let _ = self.questions.insert(question, generation, 0);
        }
    }

    pub(super) fn say(&mut self, words: &[Word], generation: u64) {
        for word in words {
            let said = match word {
                Word::Known(key, until_ns) => {
                    self.hints.insert(key, Hint { key: *key, until_ns: *until_ns, generation }, 0)
                }
                Word::Unknown(key) => self.hints.remove(key).or(Ok(())),
            };
            if let Err(error) = said {
                // It stays unknown.
                tracing::debug!(%error, "a DNS hint was not taken");
            }
        }
    }

    /// An answer was lost: a rule's name may be anywhere.
    pub(super) fn doubt(&mut self, place: u32) {
        let words = self.table.distrust(place, LASTING, monotonic_ns());
        self.say(&words, 0);
    }

    /// Answers that have been looked at.
    pub(super) fn handled_of(&self, place: u32) -> u64 {
        self.counts.get(&place).copied().unwrap_or(0)
    }

    /// Answers that are not looked at yet. Below 0: more were looked at than counted, as for a moment each may be.
    pub(super) fn waited_for(&self, place: u32) -> i64 {
        let handled = self.handled_of(place);
        self.asked.get(&place, 0).map_or(0, |asked| asked.wrapping_sub(handled).cast_signed())
    }

    pub(super) fn handle(&mut self, place: u32, count: u64) {
        self.counts.insert(place, count);
        if let Err(error) = self.handled.set(place, count, 0) {
            tracing::debug!(%error, "nothing is known of this cgroup's addresses");
        }
    }
}

/// Answers that were waited for at the last look, by place.
#[derive(Debug, Default)]
pub(super) struct Waits(std::collections::HashMap<u32, i64>);

impl Waits {
    /// How many of them will never come, as two looks at some distance tell: what is under way goes by, what is lost stays. Below 0:
    /// so many were looked at that nobody waited for.
    pub(super) fn look(&mut self, place: u32, waited_for: i64) -> i64 {
        let before = self.0.insert(place, waited_for).unwrap_or(0);
        if waited_for.signum() != before.signum() {
            return 0;
        }
        let lost = if waited_for.abs() < before.abs() { waited_for } else { before };
        self.0.insert(place, waited_for - lost);
        lost
    }

    pub(super) fn forget(&mut self, place: u32) {
        self.0.remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_waited_for_at_two_looks_are_lost_whatever_else_comes() {
        let mut waits = Waits::default();
        assert_eq!([waits.look(1, 0), waits.look(1, 3), waits.look(1, 0)], [0; 3], "all came");
        assert_eq!([waits.look(1, 5), waits.look(1, 2)], [0, 2], "two of five did not");
        assert_eq!(waits.look(1, 0), 0);
        assert_eq!([waits.look(1, 2), waits.look(1, 7), waits.look(1, 4)], [0, 2, 4], "some, and others since");
        assert_eq!([waits.look(2, -1), waits.look(2, 1), waits.look(2, -1), waits.look(2, -1)], [0, 0, 0, -1]);
        waits.look(3, 1);
        waits.forget(3);
        assert_eq!(waits.look(3, 1), 0, "another cgroup has the number");
    }
}
