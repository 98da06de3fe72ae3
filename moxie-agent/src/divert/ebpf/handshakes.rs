//! Handshakes under way: their map holds so many and no more, and the ones that came to nothing are taken out of it.
//!
//! While it is full the kernel half lets connections go direct. A connection whose handshake never ends (a full accept queue drops
//! its SYNs, the application loses patience) leaves its entry behind, which nobody but its age tells from one that will end.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use aya::Ebpf as Object;
use aya::maps::{Array, HashMap, MapData};
use moxie_common::{HandshakeKey, Origin, UnderWay, names};
use tokio::time::Instant;

use super::control::{Controls, monotonic_ms};
use super::{EbpfOptions, load, lock};
use crate::divert::DivertError;

/// From one look at the map to the next.
const PACE: Duration = Duration::from_secs(1);

/// The map, and what was taken out of it.
pub(super) struct Handshakes {
    inner: Mutex<Inner>,
    patience: Duration,
}

struct Inner {
    map: HashMap<MapData, HandshakeKey, Origin>,
    under_way: Array<MapData, UnderWay>,
    forgotten: u64,
    next: Instant,
}

impl Handshakes {
    pub(super) fn new(object: &mut Object, options: &EbpfOptions) -> Result<Self, DivertError> {
        let map = load::take_map(object, names::HANDSHAKES)?;
        let under_way = load::take_map(object, names::UNDER_WAY)?;
        let inner = Inner { map, under_way, forgotten: 0, next: Instant::now() };
        Ok(Self { inner: Mutex::new(inner), patience: options.handshake_patience })
    }

    /// Forgets those that began too long ago, and tells the kernel half. To be called as often as one likes.
    pub(super) fn sweep(&self, controls: &Controls) -> Result<(), DivertError> {
        let mut inner = lock(&self.inner);
        let now = Instant::now();
        if now < inner.next {
            return Ok(());
        }
        inner.next = now + PACE;
        if inner.is_empty() {
            return Ok(());
        }
        let forgotten = inner.forgotten;
        inner.forget(self.patience);
        if inner.forgotten != forgotten {
            tracing::debug!(count = inner.forgotten - forgotten, "handshakes that came to nothing");
            controls.set_forgotten(inner.forgotten)?;
        }
        Ok(())
    }
}

impl Inner {
    /// A look at every bucket of the map costs more than this.
    fn is_empty(&self) -> bool {
        self.under_way.get(&0, 0).is_ok_and(|count| count.left(self.forgotten) == 0)
    }

    fn forget(&mut self, patience: Duration) {
        let now = monotonic_ms();
        let is_old = |origin: Origin| Duration::from_millis(now.wrapping_sub(origin.began_ms).into()) > patience;
        // Where entries come and go meanwhile, the walk may begin anew; what it misses is there a second later.
        let all = self.map.keys().flatten().take(self.map_size());
        let old: Vec<HandshakeKey> = all.filter(|key| self.map.get(key, 0).is_ok_and(is_old)).collect();
        for key in old {
            // One that has ended since is gone already, and another may have begun under the same name.
            if !self.map.get(&key, 0).is_ok_and(is_old) {
                continue;
            }
            self.forgotten += u64::from(self.map.remove(&key).is_ok());
        }
    }

    fn map_size(&self) -> usize {
        self.under_way.get(&0, 0).map_or(0, |count| usize::try_from(count.left(self.forgotten)).unwrap_or(usize::MAX))
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshakes").field("patience", &self.patience).finish_non_exhaustive()
    }
}
