//! Who is opted in, and how a caller is told from its cgroup.

pub mod caller;
pub mod cgroup;
pub mod guests;
pub mod process;
pub mod registry;

pub use caller::Caller;
pub use guests::GUESTS;
pub use registry::{Mode, Scope, ScopeError, ScopeId, ScopeSpec, Scopes};
