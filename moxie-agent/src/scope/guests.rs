//! The scope of an explicit proxy: nobody is opted in by the kernel, who uses it has opted in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cgroup::Hierarchy;
use super::{ScopeId, Scopes};
use crate::divert::Origin;

/// The name of that scope in records.
pub const GUESTS: &str = "proxy";

/// Those who use the proxy.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) id: ScopeId,
    pub(super) active: Arc<AtomicU64>,
}

impl Scopes {
    /// From now on, callers that come by an explicit proxy and are in no other scope are in [`GUESTS`].
    pub fn welcome_guests(&self) {
        let id = ScopeId(GUESTS.to_owned());
        // Said twice it is as said once.
        let _ = self.guests.set(Guests { id, active: Arc::default() });
    }

    /// The proxy's scope, for a caller that came by the proxy.
    pub(super) fn guests_of(&self, origin: &Origin) -> Option<ScopeId> {
        origin.asked.as_ref().and(self.guests.get()).map(|guests| guests.id.clone())
    }

    /// The count of the proxy's open connections, if `id` is its scope.
    pub(super) fn active_guests(&self, id: &ScopeId) -> Option<Arc<AtomicU64>> {
        self.guests.get().filter(|guests| guests.id == *id).map(|guests| Arc::clone(&guests.active))
    }

    /// Connections of the proxy's scope that are open now.
    #[must_use]
    pub fn open_guests(&self) -> u64 {
        self.guests.get().map_or(0, |guests| guests.active.load(Ordering::Relaxed))
    }
}

/// The cgroup of a caller that came by the proxy: it may be in no scope, and still has a unit or a container.
pub(super) fn path_of_guest(origin: &Origin) -> Option<Arc<PathBuf>> {
    let pid = origin.asked.as_ref().and(origin.pid)?;
    Some(Arc::new(Hierarchy::find().ok()?.of_process(pid).ok()?))
}
