//! The address lists in the kernel half's trie.
//!
//! Every entry has the generation of its lists in its key, and the control element says which generation counts: the lists change as
//! one, for every connect.

use std::fmt;
use std::net::IpAddr;

use aya::Ebpf as Object;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use moxie_common::{Address, AddressKey, listed, names};

use super::load;
use crate::divert::{AddressLists, DivertError, Network};

/// The trie, and what is in it.
pub(super) struct AddressMap {
    map: LpmTrie<MapData, AddressKey, u32>,
    entries: Vec<Key<AddressKey>>,
    generation: u32,
}

impl AddressMap {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        let map = load::take_map(object, names::ADDRESSES)?;
        Ok(Self { map, entries: Vec::new(), generation: 0 })
    }

    /// Writes the lists, has `switch` make their generation the one that counts, and removes the ones before it.
    pub(super) fn set(
        &mut self,
        lists: &AddressLists,
        switch: impl FnOnce(u32) -> Result<(), DivertError>,
    ) -> Result<(), DivertError> {
        let generation = self.generation.wrapping_add(1) & AddressKey::GENERATIONS;
        let allowed = lists.allow.iter().map(|network| (*network, listed::ALLOWED));
        let denied = lists.deny.iter().map(|network| (*network, listed::DENIED));
        let written: Vec<_> = allowed.chain(denied).map(|(network, word)| (key(network, generation), word)).collect();
        let result = written.iter().try_for_each(|(key, word)| self.map.insert(key, word, 0).map_err(refused));
        let result = result.and_then(|()| switch(generation));
        let keys = written.into_iter().map(|(key, _)| key).collect();
        let stale = if result.is_ok() { std::mem::replace(&mut self.entries, keys) } else { keys };
        if result.is_ok() {
            self.generation = generation;
        }
        for key in stale {
            // Of a generation that does not count; one that was never written is not there.
            let _ = self.map.remove(&key);
        }
        result
    }
}

fn key(network: Network, generation: u32) -> Key<AddressKey> {
    let of_its_form = match network.address() {
        IpAddr::V4(_) => 96,
        IpAddr::V6(_) => 0,
    };
    let data = AddressKey::new(generation, Address::from(network.address()), network.address().is_ipv4());
    Key::new(AddressKey::LIST_BITS + of_its_form + u32::from(network.prefix()), data)
}

fn refused(source: MapError) -> DivertError {
    DivertError::Map { operation: "write", map: names::ADDRESSES, source: source.into() }
}

impl fmt::Debug for AddressMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressMap").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}
