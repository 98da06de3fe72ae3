//! The scopes in force: each holds its cgroup and its place on the kernel's path until it is removed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Caller;
use crate::divert::{Divert, Origin};

/// Opaque name of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ScopeId(pub String);

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What of a scope's traffic has to come to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only what an enabled rule can name.
    #[default]
    Rules,
    /// Everything; TLS that no rule names is not touched.
    Observe,
}

/// What is opted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A cgroup v2 directory, absolute, with everything below it.
    Cgroup(String),
    /// A process and its descendants, moved into a cgroup of their own.
    Pid(u32),
}

/// What a user asks for: `{"cgroup": …}` or `{"pid": …}`, and a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpec {
    /// What.
    pub target: Target,
    /// How much of it.
    pub mode: Mode,
}

/// A scope as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Scope {
    /// Its name.
    pub id: ScopeId,
    /// What is opted in, as asked: one of `cgroup` and `pid`.
    #[serde(flatten)]
    pub target: Target,
    /// How much of it.
    pub mode: Mode,
    /// The cgroup directory on path.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Connections of this scope that are open in the agent now.
    pub active_connections: u64,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Why a scope cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// Replaced by the real list.
    #[error("scope")]
    Unwritten,
}

/// Every scope in force.
#[derive(Debug)]
pub struct Scopes {}

impl Scopes {
    /// An empty registry that attaches through `divert`.
    #[must_use]
    pub fn new(divert: Arc<dyn Divert>) -> Self {
        let _ = divert;
        todo!()
    }

    /// Opts in. An equal scope again gives the existing one (`false`: nothing was added). Blocks for file and bpf calls (milliseconds).
    ///
    /// # Errors
    /// What cannot be opted in, why, and what to do.
    pub fn add(&self, spec: ScopeSpec, now: Timestamp) -> Result<(Scope, bool), ScopeError> {
        let _ = (spec, now);
        todo!()
    }

    /// Opts out: off path first, then what `add` made is undone. `None`: there is no such scope.
    pub fn remove(&self, id: &ScopeId) -> Option<Scope> {
        let _ = id;
        todo!()
    }

    /// Every scope, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Scope> {
        todo!()
    }

    /// Who made the connection that `origin` tells of.
    #[must_use]
    pub fn caller(&self, origin: &Origin) -> Caller {
        let _ = origin;
        todo!()
    }

    /// Counts a connection of `scope` as open until the guard is dropped.
    #[must_use]
    pub fn connection_opened(&self, scope: Option<&ScopeId>) -> OpenConnection {
        let _ = scope;
        todo!()
    }
}

/// One open connection of a scope.
#[derive(Debug)]
pub struct OpenConnection {}
