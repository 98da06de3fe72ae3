//! The limit of open descriptors: raised for the agent, and as it was for what the agent starts.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors this process may have open now (the soft limit); 1024 where it cannot be told.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// How many descriptors this process has open now; 0 where it cannot be told.
#[must_use]
pub fn in_use() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64)
}

/// Raises the limit as far as the process may.
pub fn raise() {
    set(u64::MAX);
}

/// Sets the limit, below or at the hard one; where that is refused it stays as it is.
pub fn set(limit: u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, limit.min(hard), hard)
    {
        tracing::warn!(%error, limit, "the limit of open descriptors stays as it is");
    }
}
