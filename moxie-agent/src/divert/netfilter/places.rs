//! Every network namespace that the agent is in, what is in scope in each, and whether the agent lives.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moxie_common::Mark;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::NetfilterOptions;
use super::place::Place;
use super::reserve::Reserve;
use super::rules::COUNTERS;
use super::table::CgroupKey;
use crate::divert::{DivertError, Listening};
use crate::namespace::{Namespace, NamespaceId};
use crate::sock_diag::SockDiag;

/// The counter that is summed up from the scopes.
const QUIC_REFUSED: &str = "quic_refused";

/// A cgroup as it is to be in a namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) key: CgroupKey,
    pub(super) refuses_quic: bool,
}

/// See the file.
#[derive(Debug)]
pub(super) struct Places {
    options: NetfilterOptions,
    mark: Mark,
    own: NamespaceId,
    accept: UnboundedSender<Listening>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    open: HashMap<NamespaceId, Place>,
    /// Left by every scope, but not yet by every connection.
    left: Vec<Place>,
    listeners: Option<UnboundedReceiver<Listening>>,
    reserve: Reserve,
    paths: HashMap<PathBuf, usize>,
    is_enabled: bool,
    is_closed: bool,
    beaten: Option<Instant>,
    /// Tables made so far: each has a name of its own.
    made: u32,
    /// What places that are gone had counted.
    counted: [u64; COUNTERS.len()],
    quic_refused: u64,
}

impl Places {
    pub(super) fn open(options: NetfilterOptions, mark: Mark) -> Result<Self, DivertError> {
        let reserve = Reserve::keep();
        let own = Namespace::current().map_err(|source| DivertError::Namespace { inode: 0, source })?;
        let (accept, listeners) = unbounded_channel();
        let inner = Inner {
            open: HashMap::new(),
            left: Vec::new(),
            listeners: Some(listeners),
            reserve,
            is_closed: false,
            paths: HashMap::new(),
            is_enabled: true,
            beaten: None,
            made: 0,
            counted: [0; COUNTERS.len()],
            quic_refused: 0,
        };
        let places = Self { options, mark, own: own.id(), accept, inner: Mutex::new(inner) };
        places.lock().enter(own, &places)?;
        Ok(places)
    }

    pub(super) fn options(&self) -> &NetfilterOptions {
        &self.options
    }

    /// The agent's own namespace, which it is in whatever is in scope.
    pub(super) fn own(&self) -> NamespaceId {
        self.own
    }

    pub(super) fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        self.lock().listeners.take()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let inner = self.lock();
        let mut addresses: Vec<SocketAddr> = inner.open.values().flat_map(Place::addresses).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// The sockets of a namespace that the agent is in.
    pub(super) fn sockets(&self, namespace: &Namespace) -> Option<Arc<SockDiag>> {
        let inner = self.lock();
        let left = || inner.left.iter().find(|place| place.namespace.id() == namespace.id());
        inner.open.get(&namespace.id()).or_else(left).map(|place| Arc::clone(&place.sockets))
    }

    /// The cgroups in scope.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.lock().paths.keys().cloned().collect()
    }

    pub(super) fn note_path(&self, path: &Path) {
        *self.lock().paths.entry(path.to_owned()).or_default() += 1;
    }

    pub(super) fn forget_path(&self, path: &Path) {
        let mut inner = self.lock();
        if let Some(count) = inner.paths.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                inner.paths.remove(path);
            }
        }
    }

    /// Whether the agent is in a namespace.
    pub(super) fn is_in(&self, namespace: NamespaceId) -> bool {
        self.lock().open.contains_key(&namespace)
    }

    /// Puts a cgroup on path in a namespace that the agent is in.
    pub(super) fn join(&self, namespace: NamespaceId, member: Member) -> Result<(), DivertError> {
        let mut inner = self.lock();
        let Some(place) = inner.open.get_mut(&namespace) else { return Ok(()) };
        place.table.add(member.key, member.refuses_quic)
    }

    /// Puts a cgroup on path in a namespace; the agent goes there if it is not there yet.
    pub(super) fn join_in(&self, namespace: Arc<Namespace>, member: Member) -> Result<(), DivertError> {
        let id = namespace.id();
        let mut inner = self.lock();
        if !inner.open.contains_key(&id) && !inner.is_closed {
            inner.enter(namespace, self)?;
        }
        let Some(place) = inner.open.get_mut(&id) else { return Ok(()) };
        let added = place.table.add(member.key, member.refuses_quic);
        if added.is_err() {
            inner.leave_if_empty(id, self.own);
        }
        added
    }

    /// Takes a cgroup off path in a namespace; the agent leaves it with the last one, and with the last connection.
    pub(super) fn part(&self, namespace: NamespaceId, member: Member) {
        let mut inner = self.lock();
        let Some(place) = inner.open.get_mut(&namespace) else { return };
        let refused = if member.refuses_quic { place.table.refusals(member.key) } else { 0 };
        if let Err(error) = place.table.remove(member.key, member.refuses_quic) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a scope is still in nftables' rules");
        }
        inner.quic_refused += refused;
        inner.leave_if_empty(namespace, self.own);
    }

    /// Datagrams of a cgroup that were refused in a namespace.
    pub(super) fn refusals(&self, namespace: NamespaceId, key: CgroupKey) -> u64 {
        self.lock().open.get(&namespace).map_or(0, |place| place.table.refusals(key))
    }

    /// What keeps connections of these namespaces from being diverted.
    pub(super) fn obstacles(&self, namespaces: &[NamespaceId]) -> Vec<String> {
        let inner = self.lock();
        namespaces.iter().filter_map(|namespace| inner.open.get(namespace)?.obstacle()).collect()
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.lock().is_enabled
    }

    pub(super) fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        let mut inner = self.lock();
        inner.is_enabled = enabled;
        let is_beating = inner.is_beating(&self.options);
        for place in inner.open.values_mut() {
            if enabled && is_beating {
                place.beat(self.options.max_beat_age)?;
            } else {
                place.table.silence()?;
            }
        }
        Ok(())
    }

    pub(super) fn beat(&self) {
        let mut inner = self.lock();
        inner.beaten = Some(Instant::now());
        inner.forget_left();
        if !inner.is_enabled {
            return;
        }
        for place in inner.open.values_mut() {
            if let Err(error) = place.beat(self.options.max_beat_age) {
                // The kernel forgets the last one by itself and lets connections go direct.
                tracing::warn!(error = &error as &dyn std::error::Error, "heartbeat not written");
            }
        }
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        let inner = self.lock();
        let mut counts = inner.counted;
        for place in inner.open.values().chain(&inner.left) {
            add(&mut counts, place);
        }
        let here = inner.open.values().map(|place| place.table.all_refusals()).sum::<u64>();
        let refused = (QUIC_REFUSED, inner.quic_refused + here);
        COUNTERS.into_iter().zip(counts).chain([refused]).collect()
    }

    /// Ends every rule, whoever still holds a scope: the listeners are about to go.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let Inner { open, left, reserve, .. } = &mut *inner;
        for place in open.drain().map(|(_, place)| place).chain(left.drain(..)) {
            place.end(reserve);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, namespace: Arc<Namespace>, places: &Places) -> Result<(), DivertError> {
        self.made += 1;
        let mut name = format!("moxie-{}-{:08x}", std::process::id(), places.mark.0);
        if self.made > 1 {
            // Writing to a text does not fail.
            let _ = write!(name, "-{}", self.made);
        }
        let id = namespace.id();
        let mut place = Place::open(namespace, &name, &places.options, &places.accept, &mut self.reserve)?;
        if self.is_enabled && self.is_beating(&places.options) {
            place.beat(places.options.max_beat_age)?;
        }
        self.open.insert(id, place);
        Ok(())
    }

    fn leave_if_empty(&mut self, namespace: NamespaceId, own: NamespaceId) {
        if namespace == own || !self.open.get(&namespace).is_some_and(|place| place.table.is_empty()) {
            return;
        }
        if let Some(place) = self.open.remove(&namespace) {
            place.close();
            self.left.push(place);
        }
    }

    /// Lets go of namespaces whose last connection has ended.
    fn forget_left(&mut self) {
        for place in self.left.extract_if(.., |place| !place.is_used()) {
            add(&mut self.counted, &place);
            place.end(&mut self.reserve);
        }
    }

    fn is_beating(&self, options: &NetfilterOptions) -> bool {
        self.beaten.is_some_and(|beaten| beaten.elapsed() < options.max_beat_age)
    }
}

fn add(counts: &mut [u64; COUNTERS.len()], place: &Place) {
    for (sum, count) in counts.iter_mut().zip(place.table.counts()) {
        *sum += count;
    }
}
