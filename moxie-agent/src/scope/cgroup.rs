//! To be written.

use std::path::Path;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Replaced by the real list.
    #[error("cgroup")]
    Unwritten,
}

/// A cgroup for one command of `moxie run`.
#[derive(Debug)]
pub struct RunCgroup {}

impl RunCgroup {
    /// Makes it.
    ///
    /// # Errors
    /// Cannot.
    pub fn create() -> Result<Self, CgroupError> {
        todo!()
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        todo!()
    }
}
