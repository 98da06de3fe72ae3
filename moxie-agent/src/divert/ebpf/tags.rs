//! Tags of listener sets, and what the kernel half may divert to the set of each.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;

use aya::Ebpf as Object;
use aya::maps::{Array, MapData};
use moxie_common::{Mark, Tag, names, reach};

use super::routes::Reach;
use super::{load, lock};
use crate::divert::DivertError;

/// The tags in use.
pub(super) struct Tags {
    inner: Mutex<Inner>,
}

struct Inner {
    map: Array<MapData, u32>,
    used: HashSet<Tag>,
}

impl Tags {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        let map = load::take_map(object, names::LISTENERS)?;
        Ok(Self { inner: Mutex::new(Inner { map, used: HashSet::new() }) })
    }

    /// One that no other set of this agent has; nothing is diverted to it yet.
    pub(super) fn take(&self) -> Tag {
        let mut inner = lock(&self.inner);
        loop {
            // At random: tells this agent's sets from another agent's in the same namespace. Sets are far fewer than tags, for each
            // costs a thread.
            if let Some(tag) = Tag::new(rand::random())
                && inner.used.insert(tag)
            {
                return tag;
            }
        }
    }

    /// Says what may be diverted to the set of `tag`, from the next connect on.
    pub(super) fn open(&self, tag: Tag, reach: Reach) -> Result<(), DivertError> {
        lock(&self.inner).write(tag, bits(reach))
    }

    /// Nothing may be diverted to the set any more; the tag may be taken again.
    pub(super) fn give_back(&self, tag: Tag) {
        let mut inner = lock(&self.inner);
        if let Err(error) = inner.write(tag, 0) {
            // Its listeners are closed next; nothing is diverted to what does not listen.
            tracing::warn!(error = &error as &dyn std::error::Error, mark = Mark::of(tag).0, "listener set not closed");
        }
        inner.used.remove(&tag);
    }
}

impl Inner {
    fn write(&mut self, tag: Tag, bits: u32) -> Result<(), DivertError> {
        self.map.set(tag.index(), bits, 0).map_err(|source| DivertError::Map {
            operation: "write",
            map: names::LISTENERS,
            source: source.into(),
        })
    }
}

fn bits(reach: Reach) -> u32 {
    let v4 = if reach.v4 { reach::V4 } else { 0 };
    let v6 = if reach.v6 { reach::V6 } else { 0 };
    reach::LIVE | v4 | v6
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tags").field("used", &lock(&self.inner).used).finish_non_exhaustive()
    }
}
