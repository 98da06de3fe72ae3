//! Records of one kind in the order in which they ended, bounded by bytes: the oldest leave first.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Connection, Exchange};
use crate::scope::Caller;

/// What a place in the ring costs beside the record: its entry, its index entry and the allocator's share.
const PLACE: usize = 64;
/// How many records are handed out under one lock.
const CHUNK: usize = 256;

/// A record that a ring can keep.
pub(super) trait Kept {
    /// Its unique id.
    fn id(&self) -> &str;
    /// Bytes it occupies in memory, about.
    fn size(&self) -> usize;
}

impl Kept for Exchange {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        let rule = self.rule_id.as_ref().map_or(0, |rule| rule.0.len());
        let texts = self.connection_id.len() + self.method.len() + self.url.len() + rule;
        size_of::<Self>() + PLACE + self.id.len() + texts + caller_size(&self.caller)
    }
}

impl Kept for Connection {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        let texts = text_size(self.original_dst.as_ref()) + text_size(self.server_name.as_ref());
        size_of::<Self>() + PLACE + self.id.len() + texts + caller_size(&self.caller)
    }
}

fn caller_size(caller: &Caller) -> usize {
    let scope = caller.scope.as_ref().map(|scope| &scope.0);
    let container = [caller.container.as_ref(), caller.container_id.as_ref(), caller.image.as_ref()];
    let process = [scope, caller.unit.as_ref(), caller.comm.as_ref()];
    container.into_iter().chain(process).map(text_size).sum()
}

fn text_size(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

/// See the module. Locks are held for a push or for one chunk, never while a record is looked at.
#[derive(Debug)]
pub(super) struct Ring<T> {
    bound: usize,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    bytes: usize,
    /// Place of the front record. Places have no gaps, so a record's index is its place less this one.
    first: i64,
    records: VecDeque<Arc<T>>,
    /// The places by id, which only the records themselves hold.
    places: HashTable<i64>,
    hashes: DefaultHashBuilder,
}

impl<T: Kept> Ring<T> {
    pub(super) fn new(bound: usize) -> Self {
        let (records, places) = (VecDeque::new(), HashTable::new());
        let state = State { bytes: 0, first: 0, records, places, hashes: DefaultHashBuilder::default() };
        Self { bound, state: Mutex::new(state) }
    }

    /// The bytes it keeps at most.
    pub(super) fn bound(&self) -> u64 {
        u64::try_from(self.bound).unwrap_or(u64::MAX)
    }

    /// Adds the newest record, and lets the oldest go beyond the bound. An id that is here already stays what it is.
    pub(super) fn push(&self, record: Arc<T>) {
        let mut state = self.lock();
        if state.place_of(record.id()).is_none() {
            state.bytes += record.size();
            state.records.push_back(record);
            let place = state.end() - 1;
            state.enter(place);
            while state.bytes > self.bound && state.drop_oldest() {}
        }
    }

    /// Adds a record that is older than every other, if there is room for it.
    pub(super) fn push_oldest(&self, record: Arc<T>) {
        let mut state = self.lock();
        if state.bytes + record.size() <= self.bound && state.place_of(record.id()).is_none() {
            state.bytes += record.size();
            state.records.push_front(record);
            state.first -= 1;
            let place = state.first;
            state.enter(place);
        }
    }

    /// The record with this id.
    pub(super) fn find(&self, id: &str) -> Option<Arc<T>> {
        let state = self.lock();
        state.at(state.place_of(id)?)
    }

    /// The place after the newest record; for a cursor, the place of the record it names.
    /// `None`: the record is gone, and so is all that is older than it.
    pub(super) fn start(&self, cursor: Option<&str>) -> Option<i64> {
        let state = self.lock();
        match cursor {
            None => Some(state.end()),
            Some(id) => state.place_of(id),
        }
    }

    /// Some of the records before `place`, newest first; none at the end. `place` moves to the last of them.
    pub(super) fn chunk_before(&self, place: &mut i64) -> Vec<Arc<T>> {
        let state = self.lock();
        let chunk: Vec<_> = (state.first..*place).rev().take(CHUNK).map_while(|at| state.at(at)).collect();
        *place -= i64::try_from(chunk.len()).unwrap_or(0);
        chunk
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Kept> State<T> {
    fn end(&self) -> i64 {
        self.first.saturating_add_unsigned(self.records.len() as u64)
    }

    fn at(&self, place: i64) -> Option<Arc<T>> {
        get(&self.records, self.first, place).cloned()
    }

    fn place_of(&self, id: &str) -> Option<i64> {
        let is_it = |place: &i64| get(&self.records, self.first, *place).is_some_and(|record| record.id() == id);
        self.places.find(self.hashes.hash_one(id), is_it).copied()
    }

    /// Enters the record at `place` into the index.
    fn enter(&mut self, place: i64) {
        let Self { first, records, places, hashes, .. } = self;
        let hash = |place: &i64| get(records, *first, *place).map_or(0, |record| hashes.hash_one(record.id()));
        places.insert_unique(hash(&place), place, hash);
    }

    fn drop_oldest(&mut self) -> bool {
        let (place, Some(oldest)) = (self.first, self.records.front()) else { return false };
        if let Ok(entry) = self.places.find_entry(self.hashes.hash_one(oldest.id()), |entry| *entry == place) {
            entry.remove();
        }
        self.bytes -= oldest.size();
        self.records.pop_front();
        self.first += 1;
        true
    }
}

fn get<T>(records: &VecDeque<Arc<T>>, first: i64, place: i64) -> Option<&Arc<T>> {
    records.get(usize::try_from(place.checked_sub(first)?).ok()?)
}
