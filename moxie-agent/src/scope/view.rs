//! A scope as the API shows it: what was asked for, and what it matches now.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::Container;
use super::spec::{Mode, ScopeId, Target};
use crate::divert::Share;

/// A scope as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Scope {
    /// Its name.
    pub id: ScopeId,
    /// What is opted in: one of `cgroup`, `unit`, `container`, `label` and `pid`.
    #[serde(flatten)]
    pub target: Target,
    /// How much of it.
    pub mode: Mode,
    /// Regexes of the hosts whose TLS is ended in mode `inspect`; empty in every other.
    #[serde(default)]
    pub inspect: Vec<String>,
    /// Whether UDP to port 443 is refused; null: as the configuration says.
    pub refuse_quic: Option<bool>,
    /// The first cgroup directory on path for it; null while it matches nothing.
    #[schema(value_type = Option<String>)]
    pub path: Option<PathBuf>,
    /// Everything that it matches now; more may come.
    pub matches: Vec<Match>,
    /// Why it does not match what it should, or whose its calls are instead, and what to do; null where nothing is known to be wrong.
    pub problem: Option<String>,
    /// Whether it is the configuration's (`scopes.label`), which is shown while it matches something and cannot be removed.
    pub configured: bool,
    /// Connections of this scope that are open in the agent now.
    pub active_connections: u64,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl Scope {
    /// Whether it matches something, and nothing of that is diverted.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        !self.matches.is_empty() && self.matches.iter().all(|one| one.diverted == Share::None)
    }
}

/// A cgroup that is on path for a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Match {
    /// Its directory; everything below it comes along.
    #[schema(value_type = String)]
    pub cgroup: PathBuf,
    /// The systemd unit it belongs to.
    pub unit: Option<String>,
    /// The container it belongs to.
    pub container: Option<ContainerMatch>,
    /// How much of it comes to the agent: the container's own label `moxie.mode` goes before the scope's mode.
    pub mode: Mode,
    /// What of its connections is diverted while diversion is switched on: all, those that an enabled rule could name, or none because no
    /// rule could act on any.
    #[serde(default)]
    pub diverted: Share,
    /// Addresses whose connections are left direct now: by the DNS answers that came, they are only of names that no rule could name.
    #[serde(default)]
    pub known_addresses: usize,
    /// Where `diverted` is `named`, why no address is known; null where some may be.
    #[serde(default)]
    pub hints_obstacle: Option<String>,
    /// Names of the only rules that it meets (the container's label `moxie.rules`); null: all.
    pub rules: Option<Vec<String>>,
    /// Whether UDP to port 443 is refused.
    pub refuse_quic: bool,
    /// UDP datagrams and connects to port 443 that were refused so far.
    pub quic_refused: u64,
    /// What keeps its connections from being diverted, each with what to do about it.
    pub obstacles: Vec<String>,
}

/// Which container it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerMatch {
    /// Its id, whole.
    pub id: String,
    /// Its name; null where no runtime tells one.
    pub name: Option<String>,
    /// The image it was made from; null where no runtime tells one.
    pub image: Option<String>,
}

impl ContainerMatch {
    pub(super) fn of(container: &Container) -> Self {
        Self { id: container.id.clone(), name: container.name.clone(), image: container.image.clone() }
    }
}
