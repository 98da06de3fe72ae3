//! Who is opted in, and how a caller is told from its cgroup.

pub mod caller;
pub mod cgroup;
pub mod container;
mod demand;
pub mod guests;
mod place;
pub mod process;
pub mod registry;
pub mod runtime;
pub mod sockets;
pub mod spec;
mod systemd;
pub mod view;
pub mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use caller::Caller;
pub use demand::Demand;
pub use guests::GUESTS;
pub use registry::{Defaults, ScopeError, Scopes};
pub use spec::{Mode, ScopeId, ScopeSpec, Target};
pub use view::Scope;

/// Nothing that holds one of these locks panics halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
