//! What was seen goes from one agent to the next, each of which has its own numbers for cgroups and namespaces.
//!
//! Invariant: an answer is either in what is handed over, or was seen by the agent that takes over itself. So what is handed over is
//! asked for once that one hears the answers too, and what had come by then is looked at first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;

use aya::maps::{MapData, RingBuf};
use moxie_common::Address;
use moxie_common::hints::HintKey;

use super::table::{LASTING, Left, Seen, Spot, nanoseconds};
use super::{Hints, Shared, lock, monotonic_ns};
use crate::divert::DivertError;
use crate::divert::sightings::{SeenAt, SeenIn, SeenName, Sightings};
use crate::namespace::NamespaceId;

/// Whoever wants to know what was seen, from the thread that knows.
pub(super) type Ask = mpsc::Sender<Vec<(u64, Left)>>;

impl Hints {
    /// What was seen so far. `namespaces`: by the tags of their listeners. Blocks for milliseconds.
    pub(in crate::divert::ebpf) fn sightings(&self, namespaces: &HashMap<u32, NamespaceId>) -> Sightings {
        let (ask, answer) = mpsc::channel();
        // Fails where the thread is gone, and then nothing can be told for sure.
        let asked = self.asks.send(ask).map_err(|_| mpsc::RecvError);
        self.shared.wake();
        let seen = asked.and_then(|()| answer.recv()).unwrap_or_else(|_| self.shared.in_doubt());
        Sightings { cgroups: seen.into_iter().map(|(cgroup, left)| told(cgroup, left, namespaces)).collect() }
    }

    /// What another agent has seen counts here too, from the next connect on. `tags`: of the listeners in each namespace.
    pub(in crate::divert::ebpf) fn receive(
        &self,
        sightings: Sightings,
        tags: &HashMap<NamespaceId, u32>,
    ) -> Result<(), DivertError> {
        let now = monotonic_ns();
        let mut state = lock(&self.shared.state);
        for seen in sightings.cgroups {
            let cgroup = seen.cgroup;
            let place = state.places.iter().find(|(_, id)| **id == cgroup).map(|(place, _)| *place);
            state.table.receive(place, cgroup, heard(seen, tags, now), now);
        }
        drop(state);
        // What this agent has found by itself it found without knowing that.
        self.forget_judgements()
    }
}

impl Shared {
    /// Everything that was seen, once all that has come is looked at.
    pub(super) fn hand(&self, ring: &mut RingBuf<MapData>) -> Vec<(u64, Left)> {
        self.hear_all(ring);
        let places = lock(&self.state).places.clone();
        for place in places.into_keys() {
            if self.waited_for(place, ring) != 0 {
                lock(&self.state).doubt(place);
            }
        }
        let state = lock(&self.state);
        state.table.hand(&state.places)
    }

    /// Everything that was seen while somebody looked.
    fn in_doubt(&self) -> Vec<(u64, Left)> {
        let mut state = lock(&self.state);
        for place in state.places.clone().into_keys() {
            state.doubt(place);
        }
        state.table.hand(&state.places)
    }
}

fn told(cgroup: u64, left: Left, namespaces: &HashMap<u32, NamespaceId>) -> SeenIn {
    let addresses = left.spots.into_iter().filter_map(|(key, spot)| {
        // Nobody is in a namespace without listeners.
        let namespace = *namespaces.get(&key.tag)?;
        let names = spot.names.iter().map(|seen| SeenName {
            name: seen.name.to_string(),
            fresh_until: seen.fresh_until,
            kept_until: seen.kept_until,
        });
        let (address, crowded_until) = (key.address.into(), spot.crowded_until);
        Some(SeenAt { namespace, address, crowded_until, names: names.collect() })
    });
    SeenIn { cgroup, distrusted_until: left.distrusted_until, addresses: addresses.collect() }
}

/// The place is not told: it is given later.
fn heard(seen: SeenIn, tags: &HashMap<NamespaceId, u32>, now: u64) -> Left {
    let mut left = Left { spots: Vec::new(), distrusted_until: seen.distrusted_until };
    for at in seen.addresses {
        let names = at.names.into_iter().map(|seen| Seen {
            name: Arc::from(seen.name),
            fresh_until: seen.fresh_until,
            kept_until: seen.kept_until,
        });
        let spot = Spot { names: names.collect(), crowded_until: at.crowded_until, is_known: false };
        match tags.get(&at.namespace) {
            Some(tag) => left.spots.push((HintKey { place: 0, tag: *tag, address: Address::from(at.address) }, spot)),
            // It cannot be kept, and there may be somebody who remembers it.
            None => left.distrusted_until = left.distrusted_until.max(now + nanoseconds(LASTING)),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = r#"{"device":4,"inode":4026531840}"#;

    fn seen(text: &str) -> SeenIn {
        serde_json::from_str(&text.replace("NAMESPACE", NAMESPACE)).unwrap()
    }

    #[test]
    fn what_was_seen_comes_out_under_the_other_agents_tags_with_its_times() {
        let namespace: NamespaceId = serde_json::from_str(NAMESPACE).unwrap();
        let text = r#"{"cgroup":7,"distrusted_until":3,"addresses":[{"namespace":NAMESPACE,"address":"2001:db8::1","crowded_until":9,
            "names":[{"name":"ruled.example","fresh_until":5,"kept_until":6}]}]}"#;
        let left = heard(seen(text), &HashMap::from([(namespace, 21)]), 0);
        assert_eq!((left.spots[0].0.tag, left.distrusted_until), (21, 3));
        let again = told(7, left, &HashMap::from([(21, namespace)]));
        let expected: serde_json::Value = serde_json::from_str(&text.replace("NAMESPACE", NAMESPACE)).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), expected);
    }

    #[test]
    fn a_namespace_that_is_not_known_here_leaves_its_cgroup_in_doubt() {
        let text = r#"{"cgroup":7,"distrusted_until":0,"addresses":[{"namespace":NAMESPACE,"address":"192.0.2.1","crowded_until":0,
            "names":[]}]}"#;
        let left = heard(seen(text), &HashMap::new(), 5);
        assert_eq!((left.spots.len(), left.distrusted_until), (0, 5 + nanoseconds(LASTING)));
        assert!(told(7, left, &HashMap::new()).addresses.is_empty());
    }
}
