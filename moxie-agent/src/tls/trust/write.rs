//! Files that children of any user read, replaced whole.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{Freshness, TrustError};

/// Makes `dir` and what is above it; one that was there keeps its mode.
pub(super) fn directory(dir: &Path) -> Result<(), TrustError> {
    let unwritable = |source| TrustError::Unwritable { path: dir.into(), source };
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(unwritable)?;
    // The umask of a service may have closed it.
    fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(unwritable)
}

/// Writes `dir/name`, 0644, unless it holds the content already.
pub(super) fn file_if_changed(dir: &Path, name: &str, content: &[u8]) -> Result<Freshness, TrustError> {
    if holds(dir, name, content) {
        return Ok(Freshness::Unchanged);
    }
    file(dir, name, content)?;
    Ok(Freshness::Changed)
}

/// Whether `dir/name` is a file that anyone can read, with this content.
pub(super) fn holds(dir: &Path, name: &str, content: &[u8]) -> bool {
    let path = dir.join(name);
    let readable = fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o444 == 0o444);
    readable && fs::read(&path).is_ok_and(|present| present == content)
}

/// Writes `dir/name`, 0644.
pub(super) fn file(dir: &Path, name: &str, content: &[u8]) -> Result<(), TrustError> {
    let path = dir.join(name);
    let draft = path.with_file_name(format!(".draft.{:016x}", rand::random::<u64>()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(content)?;
        fs::rename(&draft, &path)
    };
    write().map_err(|source| {
        // May not exist; what matters is the error above.
        let _ = fs::remove_file(&draft);
        TrustError::Unwritable { path, source }
    })
}
