//! The opted-in unit, container or process that made a call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ScopeId;

/// Who made a call; `null` where it could not be known (a process may be gone before it is looked at).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caller {
    /// The scope that brought the call to the agent.
    pub scope: Option<ScopeId>,
    /// The systemd unit, read off the cgroup path.
    pub unit: Option<String>,
    /// The container's id, read off the cgroup path.
    pub container: Option<String>,
    /// Process id (thread group), in the agent's pid namespace.
    pub pid: Option<u32>,
    /// The process's short name, `/proc/PID/comm`.
    pub comm: Option<String>,
}
