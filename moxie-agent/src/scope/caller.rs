//! The opted-in unit, container or process that made a call.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ScopeId;
use crate::rules::HostList;

/// Who made a call; `null` where it could not be known (a process may be gone before it is looked at).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caller {
    /// The scope that brought the call to the agent.
    pub scope: Option<ScopeId>,
    /// The systemd unit, read off the cgroup path.
    pub unit: Option<String>,
    /// The container's name, as its runtime tells it; its id where that tells none.
    pub container: Option<String>,
    /// The container's id, whole, read off the cgroup path.
    #[serde(default)]
    pub container_id: Option<String>,
    /// The image that the container was made from, as its runtime tells it.
    #[serde(default)]
    pub image: Option<String>,
    /// Process id (thread group), in the agent's pid namespace.
    pub pid: Option<u32>,
    /// The process's short name, `/proc/PID/comm`.
    pub comm: Option<String>,
    /// Names of the only rules that it meets, where its container's label says so.
    #[serde(skip)]
    pub rules: Option<Arc<[String]>>,
    /// Hosts whose TLS is ended for it though no rule names them (mode `inspect`).
    #[serde(skip)]
    pub inspect: Option<Arc<HostList>>,
}

impl Caller {
    /// Whether TLS to this host (and port, unless it is the scheme's own) is ended for it though no rule names it.
    #[must_use]
    pub fn inspects(&self, authority: &str) -> bool {
        self.inspect.as_ref().is_some_and(|hosts| hosts.matches(authority))
    }

    /// Whether a rule called `name` is for it.
    #[must_use]
    pub fn meets(&self, name: &str) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.iter().any(|rule| rule == name))
    }
}
