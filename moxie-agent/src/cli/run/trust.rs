//! The files that make CMD trust the authority, in a directory that lives as long as the run.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
    _directory: Directory,
}

impl Prepared {
    pub(super) fn new(authority_pem: &str, context: &Context) -> Result<Self, Failure> {
        let temporary = context.env.text("TMPDIR").unwrap_or_else(|| "/tmp".to_owned());
        let directory = Directory::make(Path::new(&temporary))?;
        let trust = trust::prepare(authority_pem, &directory.0, |name| context.env.text(name))
            .map_err(|error| Failure::because("cannot prepare trust (`--trust none` goes without)", &error))?;
        for warning in &trust.warnings {
            note(warning);
        }
        Ok(Self { trust, _directory: directory })
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
}

/// A directory of this run's own that CMD can read whoever it runs as; removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn make(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(format!("moxie-run-{}", crate::journal::record_id()));
        // Fails if it exists: nobody else may have put files there.
        let made = std::fs::DirBuilder::new().mode(0o755).create(&path);
        made.map_err(|error| Failure::because(format_args!("cannot make {}", path.display()), &error))?;
        let directory = Self(path);
        // Whatever the umask left of it.
        std::fs::set_permissions(&directory.0, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| Failure::because(format_args!("cannot open up {}", directory.0.display()), &error))?;
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            note(&format!("{} is left behind: {error}", self.0.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_for_everyone_to_read_and_goes_with_the_run() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::make(parent.path()).unwrap();
        let path = directory.0.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        std::fs::write(path.join("ca.pem"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
