//! Records of one kind in the order in which they ended, bounded by bytes: the oldest leave first.

use std::collections::{HashMap, VecDeque};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Connection, Exchange};
use crate::scope::Caller;

/// What a place in the ring costs beside the record: its entry, its index entry and the allocator's share.
const PLACE: usize = 128;
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
        size_of::<Self>() + PLACE + 2 * self.id.len() + texts + caller_size(&self.caller)
    }
}

impl Kept for Connection {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        let texts = text_size(self.original_dst.as_ref()) + text_size(self.server_name.as_ref());
        size_of::<Self>() + PLACE + 2 * self.id.len() + texts + caller_size(&self.caller)
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
    places: HashMap<String, i64>,
}

impl<T: Kept> Ring<T> {
    pub(super) fn new(bound: usize) -> Self {
        let state = State { bytes: 0, first: 0, records: VecDeque::new(), places: HashMap::new() };
        Self { bound, state: Mutex::new(state) }
    }

    /// The bytes it keeps at most.
    pub(super) fn bound(&self) -> u64 {
        u64::try_from(self.bound).unwrap_or(u64::MAX)
    }

    /// Adds the newest record, and lets the oldest go beyond the bound. An id that is here already stays what it is.
    pub(super) fn push(&self, record: Arc<T>) {
        let mut state = self.lock();
        let place = state.end();
        if state.add(&record, place) {
            state.records.push_back(record);
            while state.bytes > self.bound && state.drop_oldest() {}
        }
    }

    /// Adds a record that is older than every other, if there is room for it.
    pub(super) fn push_oldest(&self, record: Arc<T>) {
        let mut state = self.lock();
        let place = state.first - 1;
        if state.bytes + record.size() <= self.bound && state.add(&record, place) {
            state.first = place;
            state.records.push_front(record);
        }
    }

    /// The record with this id.
    pub(super) fn find(&self, id: &str) -> Option<Arc<T>> {
        let state = self.lock();
        state.at(*state.places.get(id)?)
    }

    /// The place after the newest record; for a cursor, the place of the record it names.
    /// `None`: the record is gone, and so is all that is older than it.
    pub(super) fn start(&self, cursor: Option<&str>) -> Option<i64> {
        let state = self.lock();
        match cursor {
            None => Some(state.end()),
            Some(id) => state.places.get(id).copied(),
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
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.records.get(index).cloned()
    }

    /// Enters a record into the index and the sum; false if its id is there already.
    fn add(&mut self, record: &Arc<T>, place: i64) -> bool {
        if self.places.contains_key(record.id()) {
            return false;
        }
        self.places.insert(record.id().to_owned(), place);
        self.bytes += record.size();
        true
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.records.pop_front() else { return false };
        self.places.remove(oldest.id());
        self.bytes -= oldest.size();
        self.first += 1;
        true
    }
}
