//! The files that make CMD trust the authority, in a directory that lives as long as they are needed.

use std::path::Path;

use super::directory::Directory;
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::launch::Bind;
use crate::cli::output::note;
use crate::cli::privilege::Effective;
use crate::tls::trust::{self, Trust};

/// A trust set on disk.
pub(super) struct Prepared {
    trust: Trust,
    /// Removed with this.
    directory: Directory,
}

impl Prepared {
    pub(super) fn new(authority_pem: &str, context: &Context) -> Result<Self, Failure> {
        let temporary = context.env.text("TMPDIR").unwrap_or_else(|| "/tmp".to_owned());
        let directory = Directory::make(Path::new(&temporary))?;
        let trust = trust::prepare(authority_pem, directory.path(), |name| context.env.text(name))
            .map_err(|error| Failure::because("cannot prepare trust (`--trust none` goes without)", &error))?;
        for warning in &trust.warnings {
            note(warning);
        }
        Ok(Self { trust, directory })
    }

    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.trust.variables
    }

    /// The files to bind; none for a user who may not mount, whose programs trust the authority by their variables.
    pub(super) fn binds(&self) -> Vec<Bind> {
        if !Effective::of_this_process().can_mount() {
            return Vec::new();
        }
        let binds = self.trust.binds.iter();
        binds.map(|(source, over)| Bind { source: source.clone(), over: over.clone() }).collect()
    }

    /// CMD has ended: removes the files, unless what it has left in `cgroup`, or elsewhere, still needs them.
    pub(super) fn end(self, cgroup: Option<&Path>) {
        self.directory.end(cgroup);
    }
}
